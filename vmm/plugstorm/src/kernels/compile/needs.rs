//! What a build needs of this machine: programs, headers, room.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use nix::sys::signal::Signal;
use nix::sys::statvfs::statvfs;

use super::BuildError;
use super::check::Config;
use super::fragment::{Value, Wishes};
use crate::programs;

/// Programs of every build, with their packages.
const PROGRAMS: [(&str, &str); 8] = [
    ("gcc", "gcc"),
    ("ld", "binutils"),
    ("make", "make"),
    ("flex", "flex"),
    ("bison", "bison"),
    ("bc", "bc"),
    ("perl", "perl"),
    ("patch", "patch"),
];
/// Those of Debian's source package.
const UNPACKING: [(&str, &str); 3] = [("dpkg-deb", "dpkg"), ("tar", "tar"), ("xz", "xz-utils")];
/// What an image is packed with, by option.
const PACKERS: [(&str, &str, &str); 4] = [
    ("KERNEL_LZ4", "lz4", "lz4"),
    ("KERNEL_XZ", "xz", "xz-utils"),
    ("KERNEL_ZSTD", "zstd", "zstd"),
    ("KERNEL_LZO", "lzop", "lzop"),
];
/// Headers, by the options that take them.
const HEADERS: [(&str, &str, &str); 3] = [
    ("OBJTOOL", "gelf.h", "libelf-dev"),
    ("SYSTEM_TRUSTED_KEYRING", "openssl/opensslv.h", "libssl-dev"),
    ("MODULE_SIG_FORMAT", "openssl/opensslv.h", "libssl-dev"),
];
/// What objects take beside the source; more with debug information.
const OBJECTS_BYTES: u64 = 1200 << 20;
const OBJECTS_DEBUG_BYTES: u64 = 3000 << 20;

/// Less than this is a full disk: what failed to be written may be gone again when we look.
const FULL_BYTES: u64 = 16 << 20;

/// Fails for what every build lacks here, before anything is begun.
pub(super) fn programs(is_package: bool, wishes: &Wishes) -> Result<(), BuildError> {
    let is_on = |name: &str| wishes.get(name).is_some_and(|wish| wish.value == Value::Set("y".into()));
    let packers = PACKERS.iter().filter(|(option, ..)| is_on(option)).map(|&(_, program, package)| (program, package));
    let unpacking = UNPACKING.into_iter().filter(|_| is_package);
    told(PROGRAMS.into_iter().chain(unpacking).chain(packers).filter(|(program, _)| programs::find(program).is_none()))
}

/// Fails for what this configuration takes and is not here.
pub(super) fn headers(config: &Config) -> Result<(), BuildError> {
    let mut missing = Vec::new();
    for (_, header, package) in HEADERS.into_iter().filter(|(option, ..)| config.contains_key(*option)) {
        if !has_header(header)? {
            missing.push((header, package));
        }
    }
    told(missing.into_iter())
}

fn told(missing: impl Iterator<Item = (&'static str, &'static str)>) -> Result<(), BuildError> {
    let (mut what, mut packages): (Vec<_>, Vec<_>) = missing.unzip();
    if what.is_empty() {
        return Ok(());
    }
    what.dedup();
    packages.dedup();
    Err(BuildError::Missing { what, packages })
}

fn has_header(header: &str) -> Result<bool, BuildError> {
    let mut gcc = Command::new("gcc");
    gcc.args(["-E", "-x", "c", "-include", header, "/dev/null"]);
    let output = gcc.output().map_err(BuildError::io("cannot run", Path::new("gcc")))?;
    succeeded("gcc", output.status)
}

/// Whether a program has succeeded. One that was killed says nothing, least of all that something is missing: these run in
/// our process group, where Ctrl-C ends them as well.
fn succeeded(program: &str, status: ExitStatus) -> Result<bool, BuildError> {
    let Some(signal) = status.signal() else { return Ok(status.success()) };
    match Signal::try_from(signal) {
        Ok(Signal::SIGINT | Signal::SIGTERM | Signal::SIGHUP) => Err(BuildError::Interrupted),
        _ => Err(BuildError::Killed { program: program.into(), status: status.to_string() }),
    }
}

/// What tells one compiler's work from another's.
pub(super) fn compiler() -> Result<String, BuildError> {
    let first_line = |program: &str| {
        let failed = || BuildError::io("cannot run", Path::new(program));
        let output = Command::new(program).arg("--version").env("LC_ALL", "C").output().map_err(failed())?;
        if !succeeded(program, output.status)? {
            return Err(failed()(std::io::Error::other(format!("--version ended with {}", output.status))));
        }
        Ok::<_, BuildError>(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
    };
    Ok(format!("{}; {}", first_line("gcc")?, first_line("ld")?))
}

/// Fails if a build would not fit into the cache.
pub(super) fn space(root: &Path, source_bytes: u64, wishes: &Wishes) -> Result<(), BuildError> {
    fs::create_dir_all(root).map_err(BuildError::io("cannot make", root))?;
    let free = free_bytes(root).map_err(BuildError::io("cannot ask for the room in", root))?;
    let free_mib = free >> 20;
    let needed_mib = needed(source_bytes, wishes) >> 20;
    if free_mib >= needed_mib {
        return Ok(());
    }
    Err(BuildError::TooLittleSpace { folder: root.into(), needed_mib, free_mib })
}

/// Whether hardly anything can be written there any more. ccache and make fail on a full disk without saying so.
pub(super) fn is_full(root: &Path) -> bool {
    free_bytes(root).is_ok_and(|free| free < FULL_BYTES)
}

fn free_bytes(folder: &Path) -> std::io::Result<u64> {
    let status = statvfs(folder)?;
    Ok(status.blocks_available().saturating_mul(status.fragment_size()))
}

fn needed(source_bytes: u64, wishes: &Wishes) -> u64 {
    let asks = |wish: &str| wishes.get(wish).is_some_and(|wish| wish.value != Value::Off);
    let debug = asks("DEBUG_INFO_DWARF5") || asks("DEBUG_INFO_DWARF4") || asks("DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT");
    source_bytes + if debug { OBJECTS_DEBUG_BYTES } else { OBJECTS_BYTES }
}

#[cfg(test)]
mod tests {
    use super::super::fragment::{Fragment, merge};
    use super::*;

    #[test]
    fn what_is_missing_is_told_at_once_with_its_packages() {
        let missing = [("flex", "flex"), ("gelf.h", "libelf-dev")];
        insta::assert_snapshot!(
            told(missing.into_iter()).unwrap_err(),
            @"building a kernel needs flex, gelf.h: run `apt-get install flex libelf-dev`"
        );
        assert!(told(std::iter::empty()).is_ok());
    }

    #[test]
    fn headers_are_looked_for_only_where_they_are_needed() {
        assert!(has_header("stdio.h").unwrap() && !has_header("no/such/header.h").unwrap());
        assert!(headers(&Config::new()).is_ok());
    }

    #[test]
    fn a_program_that_was_killed_lacks_nothing() {
        let ended = |code: i32| ExitStatus::from_raw(code << 8);
        assert!(succeeded("gcc", ended(0)).unwrap() && !succeeded("gcc", ended(1)).unwrap());
        // As wait(2) tells it. No process is killed for this: it would inherit which signals are ignored.
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            let error = succeeded("gcc", ExitStatus::from_raw(signal as i32)).unwrap_err();
            assert!(matches!(error, BuildError::Interrupted), "{error}");
        }
        let error = succeeded("gcc", ExitStatus::from_raw(Signal::SIGKILL as i32)).unwrap_err().to_string();
        assert!(error.contains("gcc was killed") && error.contains("SIGKILL"), "{error}");
    }

    #[test]
    fn room_is_asked_for_before_anything_is_begun() {
        let root = tempfile::tempdir().unwrap();
        let wishes = merge(&[Fragment::load("debug").unwrap()]);
        assert!(needed(1 << 20, &wishes) > needed(1 << 20, &Wishes::new()));
        let error = space(root.path(), 1 << 60, &Wishes::new()).unwrap_err().to_string();
        assert!(error.contains("MiB free") && error.contains("PLUGSTORM_CACHE"), "{error}");
        assert!(space(root.path(), 0, &Wishes::new()).is_ok());
    }

    #[test]
    fn the_compiler_has_a_version() {
        assert!(compiler().unwrap().contains("gcc"));
    }
}
