//! The initramfs of a guest: the agent as `/init`, and the modules it loads (newc,
//! Documentation/driver-api/early-userspace/ buffer-format.rst). Not compressed: it is made and used on the same
//! machine.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::{collections::BTreeSet, env};

use cpio::newc::{Builder, ModeFileType, trailer};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, elf};

/// The agent's file name, beside the plugstorm executable.
pub const AGENT: &str = "plugstorm-agent";

/// Why there is no initramfs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitramfsError {
    /// A file that goes into it cannot be read.
    #[error("cannot read {} for the guest's initramfs: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The agent is not there.
    #[error(
        "the guest's agent is not at {}: build it with `cargo build --release -p plugstorm-agent`, or set PLUGSTORM_AGENT",
        path.display()
    )]
    NoAgent {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A program that would have to run without any library does not.
    #[error(
        "{} is not a static x86-64 program, and nothing else runs as PID 1 there: {fault}; build it in this repository, \
         whose .cargo/config.toml makes it one",
        path.display()
    )]
    NotStatic {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The archive cannot hold it.
    #[error("{} does not go into an initramfs: {source}", path.display())]
    Archive {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A file to put in beside agent and modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtraFile {
    /// Where, without the leading slash. Its folders are made.
    pub path: String,
    /// The permission bits, such as 0o755.
    pub mode: u32,
    /// What is in it.
    pub content: Vec<u8>,
}

/// The agent to put in: `$PLUGSTORM_AGENT`, or the file beside this executable.
///
/// # Errors
/// [`InitramfsError::NoAgent`].
pub fn agent() -> Result<PathBuf, InitramfsError> {
    let path = match env::var_os("PLUGSTORM_AGENT") {
        Some(path) => PathBuf::from(path),
        None => {
            let own = env::current_exe().unwrap_or_default();
            let beside = own.with_file_name(AGENT);
            // A test's executable lies one folder deeper.
            let above = own.parent().and_then(Path::parent).map(|folder| folder.join(AGENT));
            above.filter(|path| path.is_file() && !beside.is_file()).unwrap_or(beside)
        }
    };
    if path.is_file() { Ok(path) } else { Err(InitramfsError::NoAgent { path }) }
}

/// Packs a guest's initramfs: `/init` is `agent`, the modules are `/plugstorm/modules/NN-name.ko` in the order given. A module
/// whose place ([`module_name`]) has a file of `extra` is that file, and not read.
///
/// # Errors
/// [`InitramfsError`]: a file cannot be read, or the agent would not run.
pub fn build(agent: &Path, modules: &[PathBuf], extra: &[ExtraFile]) -> Result<Vec<u8>, InitramfsError> {
    let init = read(agent)?;
    check_static(agent, &init)?;
    let mut archive = Archive::new();
    for folder in ["dev", "proc", "sys", "plugstorm", "plugstorm/modules"] {
        archive.folder(folder)?;
    }
    // The kernel opens it for PID 1 before anything is mounted (init/main.c, console_on_rootfs).
    archive.device("dev/console", 0o600, 5, 1)?;
    // Where the console's driver is a module, as on 6.1, that open fails, and a Rust program without standard output wants
    // this one or ends (library/std/src/sys/pal/unix/mod.rs, sanitize_standard_fds).
    archive.device("dev/null", 0o666, 1, 3)?;
    archive.file("init", 0o755, &init)?;
    for (index, module) in modules.iter().enumerate() {
        let name = module_name(index, module);
        if extra.iter().all(|file| file.path != name) {
            archive.file(&name, 0o644, &read(module)?)?;
        }
    }
    for file in extra {
        archive.file(&file.path, file.mode, &file.content)?;
    }
    archive.finish()
}

/// Where the module that is loaded as this one, counted from 0, lies in the archive.
#[must_use]
pub fn module_name(index: usize, module: &Path) -> String {
    let name = module.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    format!("plugstorm/modules/{index:02}-{name}")
}

fn read(path: &Path) -> Result<Vec<u8>, InitramfsError> {
    fs::read(path).map_err(|source| InitramfsError::Read { path: path.into(), source })
}

/// Refuses a program that needs an interpreter: its guest would say `Failed to execute /init (error -2)`, which helps
/// no one.
pub(crate) fn check_static(path: &Path, program: &[u8]) -> Result<(), InitramfsError> {
    let not_static = |fault| InitramfsError::NotStatic { path: path.into(), fault };
    let header = elf::FileHeader64::<Endianness>::parse(program).map_err(|_| not_static("it is no 64-bit ELF file"))?;
    let endian = header.endian().map_err(|_| not_static("it is no 64-bit ELF file"))?;
    if header.e_machine(endian) != elf::EM_X86_64 {
        return Err(not_static("it is for another processor"));
    }
    let segments = header.program_headers(endian, program).map_err(|_| not_static("it is cut short"))?;
    if segments.iter().any(|segment| segment.p_type(endian) == elf::PT_INTERP) {
        return Err(not_static("it asks for a dynamic linker"));
    }
    Ok(())
}

/// A newc archive in the making.
#[derive(Debug)]
struct Archive {
    bytes: Vec<u8>,
    next_inode: u32,
    folders: BTreeSet<String>,
}

impl Archive {
    fn new() -> Self {
        Self { bytes: Vec::new(), next_inode: 1, folders: BTreeSet::new() }
    }

    fn entry(&mut self, name: &str, mode: u32, kind: ModeFileType) -> Builder {
        let inode = self.next_inode;
        self.next_inode += 1;
        Builder::new(name).ino(inode).mode(mode).set_mode_file_type(kind)
    }

    /// A folder, unless it is there already. The kernel makes none by itself.
    fn folder(&mut self, name: &str) -> Result<(), InitramfsError> {
        if self.folders.insert(name.to_owned()) {
            let entry = self.entry(name, 0o755, ModeFileType::Directory).nlink(2);
            self.append(name, entry, &[])?;
        }
        Ok(())
    }

    fn device(&mut self, name: &str, mode: u32, major: u32, minor: u32) -> Result<(), InitramfsError> {
        let entry = self.entry(name, mode, ModeFileType::Char).rdev_major(major).rdev_minor(minor);
        self.append(name, entry, &[])
    }

    fn file(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<(), InitramfsError> {
        for (at, _) in name.match_indices('/') {
            self.folder(name.get(..at).unwrap_or_default())?;
        }
        let entry = self.entry(name, mode, ModeFileType::Regular);
        self.append(name, entry, content)
    }

    fn append(&mut self, name: &str, entry: Builder, content: &[u8]) -> Result<(), InitramfsError> {
        let failed = |source| InitramfsError::Archive { path: name.into(), source };
        let length = u32::try_from(content.len()).map_err(|_| failed(io::ErrorKind::FileTooLarge.into()))?;
        let mut writer = entry.write(&mut self.bytes, length);
        writer.write_all(content).map_err(failed)?;
        writer.finish().map(drop).map_err(failed)
    }

    fn finish(mut self) -> Result<Vec<u8>, InitramfsError> {
        trailer(&mut self.bytes)
            .map(drop)
            .map_err(|source| InitramfsError::Archive { path: "its end".into(), source })?;
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpio::NewcReader;

    /// The names in an archive with their modes and contents.
    fn entries(archive: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut found = Vec::new();
        let mut rest = archive;
        loop {
            let mut reader = NewcReader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                return found;
            }
            let (name, mode) = (reader.entry().name().to_owned(), reader.entry().mode());
            let mut content = Vec::new();
            io::copy(&mut reader, &mut content).unwrap();
            found.push((name, mode, content));
            rest = reader.finish().unwrap();
        }
    }

    /// The smallest thing that passes for a static program.
    fn program(interpreter: bool) -> Vec<u8> {
        let mut file = vec![0; 64 + 56];
        file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        file[16] = 2; // e_type: executable
        file[18] = 62; // e_machine: x86-64
        file[20] = 1; // e_version
        file[32] = 64; // e_phoff
        file[52] = 64; // e_ehsize
        file[54] = 56; // e_phentsize
        file[56] = 1; // e_phnum
        file[64] = if interpreter { 3 } else { 1 }; // p_type
        file
    }

    #[test]
    fn agent_modules_and_extras_are_where_the_agent_looks() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("agent"), program(false)).unwrap();
        fs::write(path("b.ko"), "B").unwrap();
        fs::write(path("a.ko"), "A").unwrap();
        let extra = ExtraFile { path: "etc/deep/file".into(), mode: 0o600, content: b"E".to_vec() };
        let archive = build(&path("agent"), &[path("b.ko"), path("a.ko")], &[extra]).unwrap();
        let entries = entries(&archive);
        let content = |name: &str| entries.iter().find(|entry| entry.0 == name).unwrap().2.clone();
        assert_eq!(content("plugstorm/modules/00-b.ko"), b"B");
        assert_eq!(content("plugstorm/modules/01-a.ko"), b"A");
        assert_eq!(content("etc/deep/file"), b"E");
        assert_eq!(content("init"), program(false));
        let mode = |name: &str| entries.iter().find(|entry| entry.0 == name).unwrap().1;
        assert_eq!(mode("init"), 0o100_755);
        assert_eq!(mode("proc"), 0o040_755);
        assert_eq!(mode("etc/deep"), 0o040_755);
        assert_eq!(mode("dev/console"), 0o020_600);
        assert_eq!(mode("dev/null"), 0o020_666);
        assert_eq!(archive.len() % 4, 0);
    }

    #[test]
    fn a_program_that_needs_a_linker_is_refused_before_a_guest_boots() {
        let path = Path::new("agent");
        assert!(check_static(path, &program(false)).is_ok());
        let error = check_static(path, &program(true)).unwrap_err().to_string();
        assert!(error.contains("dynamic linker"), "{error}");
        assert!(check_static(path, b"#!/bin/sh\n").is_err());
        assert!(check_static(path, &program(false)[..80]).is_err());
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = build(Path::new("/no/such/agent"), &[], &[]).unwrap_err().to_string();
        assert!(error.contains("/no/such/agent"), "{error}");
    }
}
