//! Random numbers of this guest's own: the host's entropy goes into the kernel's pool, and the generator begins anew from it.
#![allow(unsafe_code, reason = "ioctl() takes whatever a driver says it takes")]

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::libc::c_int;
use plugstorm_wire::ENTROPY_BYTES;
use rustix::rand::{GetRandomFlags, getrandom};

/// Not /dev/random, which is the same driver: opening either of them never waits.
const NODE: &str = "/dev/urandom";

/// `struct rand_pool_info` with its bytes (include/uapi/linux/random.h).
#[repr(C)]
struct PoolInfo {
    entropy_bits: c_int,
    buffer_bytes: c_int,
    buffer: [u8; ENTROPY_BYTES],
}

/// The driver's calls, from the header. The size in the first one's number is that of the two numbers before the bytes.
mod number {
    #![allow(unreachable_pub, reason = "nix's macros make public functions")]
    use super::{PoolInfo, c_int};

    const RNDADDENTROPY: nix::sys::ioctl::ioctl_num_type =
        nix::request_code_write!(b'R', 0x03, std::mem::size_of::<[c_int; 2]>());

    nix::ioctl_write_ptr_bad!(add_entropy, RNDADDENTROPY, PoolInfo);
    nix::ioctl_none!(reseed, b'R', 0x07);
}

/// Mixes bytes, given as hexadecimal digits, into the kernel's pool and has its generator begin anew from there.
///
/// # Errors
/// One sentence.
pub(crate) fn add(digits: &str) -> Result<(), String> {
    let pool = PoolInfo {
        entropy_bits: c_int::try_from(ENTROPY_BYTES * 8).unwrap_or(c_int::MAX),
        buffer_bytes: c_int::try_from(ENTROPY_BYTES).unwrap_or(c_int::MAX),
        buffer: bytes(digits)
            .ok_or_else(|| format!("the host's entropy is not {ENTROPY_BYTES} bytes in hexadecimal digits"))?,
    };
    let file = File::options().write(true).open(NODE).map_err(|error| format!("cannot open {NODE}: {error}"))?;
    // SAFETY: reads two numbers and, after them, as many bytes as the second one says; they are all in `pool`.
    unsafe { number::add_entropy(file.as_raw_fd(), &raw const pool) }
        .map_err(|errno| format!("cannot mix the host's entropy into the pool of {NODE}: {errno}"))?;
    // What is in the pool reaches the generator with its next reseed only, a minute away. This one gives it a new key and a
    // new generation, by which every CPU's generator and its numbers drawn in advance become void (drivers/char/random.c,
    // crng_reseed, crng_make_state; 5.18 and later).
    // SAFETY: takes no argument.
    unsafe { number::reseed(file.as_raw_fd()) }
        .map(drop)
        .map_err(|errno| format!("cannot have the generator of {NODE} begin anew: {errno}"))
}

/// A number of the kernel's.
///
/// # Errors
/// One sentence; also where the kernel has not gathered enough entropy yet. Does not wait for it.
pub(crate) fn number() -> Result<u64, String> {
    let mut number = [0; 8];
    match getrandom(&mut number, GetRandomFlags::NONBLOCK) {
        Ok(count) if count == number.len() => Ok(u64::from_ne_bytes(number)),
        Ok(count) => Err(format!("the kernel gave {count} random bytes where 8 were asked for")),
        Err(errno) => Err(format!("the kernel gives no random number: {errno}")),
    }
}

fn bytes(digits: &str) -> Option<[u8; ENTROPY_BYTES]> {
    let mut bytes = [0; ENTROPY_BYTES];
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    let digit = |ascii: u8| char::from(ascii).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read() {
        let mut digits = "00".repeat(ENTROPY_BYTES - 2);
        digits.push_str("1fA0");
        let bytes = bytes(&digits).unwrap();
        assert_eq!((bytes[0], &bytes[ENTROPY_BYTES - 2..]), (0, &[0x1f, 0xa0][..]));
    }

    #[test]
    fn what_is_no_entropy_is_refused() {
        let right = "ab".repeat(ENTROPY_BYTES);
        let too_long = format!("{right}0");
        let strange = right.replacen('a', "é", 1);
        let signed = right.replacen('a', "+", 1);
        for digits in ["", &right[2..], &too_long, &strange, &signed] {
            assert_eq!(bytes(digits), None, "{digits}");
            assert!(add(digits).unwrap_err().contains("64 bytes"));
        }
    }

    #[test]
    fn numbers_differ() {
        assert_ne!(number().unwrap(), number().unwrap());
    }

    #[test]
    fn the_driver_reads_the_numbers_and_then_the_bytes() {
        assert_eq!(std::mem::offset_of!(PoolInfo, buffer), 8);
        assert_eq!(std::mem::size_of::<PoolInfo>(), 8 + ENTROPY_BYTES);
    }
}
