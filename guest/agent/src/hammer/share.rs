//! How threads come to an open file that others have open too.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};

/// `dup()`.
pub(super) fn duplicated(file: &File) -> io::Result<File> {
    file.try_clone()
}

/// Sent through a socket and received from it (unix(7), `SCM_RIGHTS`).
#[allow(unsafe_code, reason = "a descriptor is received as a number")]
pub(super) fn passed(file: &File) -> io::Result<File> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (sender, receiver) = socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?;
    let descriptors = [file.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&descriptors)];
    sendmsg::<()>(sender.as_raw_fd(), &[IoSlice::new(b"f")], &rights, MsgFlags::empty(), None)?;
    let (mut byte, mut space) = ([0], nix::cmsg_space!([std::os::fd::RawFd; 1]));
    let mut bytes = [IoSliceMut::new(&mut byte)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(receiver.as_raw_fd(), &mut bytes, Some(&mut space), flags)?;
    let received = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
        _ => None,
    });
    let number = received.ok_or_else(|| io::Error::other("a socket did not pass the descriptor on"))?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(number) }))
}

/// Gives the calling thread a table of descriptors of its own, with all that the process has in it: as a `fork()` does.
pub(super) fn own_table() -> Result<(), Errno> {
    unshare(CloneFlags::CLONE_FILES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek, SeekFrom, Write};

    #[test]
    fn both_ways_give_the_same_open_file() {
        let mut file = tempfile();
        file.write_all(b"abc").unwrap();
        for share in [duplicated, passed] {
            let mut other = share(&file).unwrap();
            assert_ne!(other.as_raw_fd(), file.as_raw_fd());
            // The position belongs to the open file.
            file.seek(SeekFrom::Start(1)).unwrap();
            let mut rest = String::new();
            other.read_to_string(&mut rest).unwrap();
            assert_eq!(rest, "bc");
        }
    }

    #[test]
    fn what_a_thread_closes_in_a_table_of_its_own_stays_open_in_the_others() {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        let number = reader.as_raw_fd();
        std::thread::spawn(move || {
            own_table().unwrap();
            nix::unistd::close(number).unwrap();
        })
        .join()
        .unwrap();
        assert_eq!(nix::unistd::write(&writer, b"x"), Ok(1));
        assert_eq!(nix::unistd::read(&reader, &mut [0; 4]), Ok(1));
    }

    fn tempfile() -> File {
        use nix::sys::memfd::{MFdFlags, memfd_create};
        memfd_create(c"shared", MFdFlags::MFD_CLOEXEC).unwrap().into()
    }
}
