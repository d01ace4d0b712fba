//! The source tree's own make: configuring and compiling, with what it says read for where it is.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::{CLEANING, COMPILING, CONFIGURING};
use super::{BuildError, Watch};
use crate::programs;

/// Variables of the user's, or of a make above us, that would change what is built.
const NOT_OURS: [&str; 22] = [
    "MAKEFLAGS",
    "MFLAGS",
    "MAKELEVEL",
    "MAKEOVERRIDES",
    "O",
    "V",
    "W",
    "C",
    "M",
    "ARCH",
    "SRCARCH",
    "CROSS_COMPILE",
    "LLVM",
    "LOCALVERSION",
    "KBUILD_OUTPUT",
    "KBUILD_EXTMOD",
    "KBUILD_VERBOSE",
    "KCONFIG_CONFIG",
    "KCONFIG_ALLCONFIG",
    "KCFLAGS",
    "KAFLAGS",
    "KCPPFLAGS",
];
/// How much of compiled objects ccache keeps, unless the user says otherwise.
const CCACHE_SIZE: &str = "5G";

/// A private copy of a source tree, to build in; gone when dropped.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) folder: PathBuf,
    pub(super) jobs: usize,
    ccache: Option<PathBuf>,
}

impl Tree {
    /// The tree in `folder`. Where there is a ccache it is used, with its objects below the cache `root` unless the user
    /// has them elsewhere.
    pub(super) fn new(folder: &Path, root: &Path, jobs: usize) -> Self {
        let ccache = programs::find("ccache").map(|_| root.join("ccache"));
        Self { folder: folder.into(), jobs, ccache }
    }

    pub(super) fn has_ccache(&self) -> bool {
        self.ccache.is_some()
    }

    fn make(&self) -> Command {
        let mut make = Command::new("make");
        make.current_dir(&self.folder).arg(format!("-j{}", self.jobs)).arg("ARCH=x86_64").env("LC_ALL", "C");
        for variable in NOT_OURS {
            make.env_remove(variable);
        }
        // The same inputs make the same image, and one that has our name on it.
        make.env("KBUILD_BUILD_USER", "plugstorm").env("KBUILD_BUILD_HOST", "plugstorm");
        make.env("KBUILD_BUILD_TIMESTAMP", "Thu Jan  1 00:00:00 UTC 1970").env("KBUILD_BUILD_VERSION", "1");
        if let Some(folder) = &self.ccache {
            make.args(["CC=ccache gcc", "HOSTCC=ccache gcc"]);
            if std::env::var_os("CCACHE_DIR").is_none() {
                make.env("CCACHE_DIR", folder).env("CCACHE_MAXSIZE", CCACHE_SIZE);
            }
        }
        make
    }

    /// Removes whatever builds have left.
    pub(super) fn clean(&self, watch: &mut Watch<'_>) -> Result<(), BuildError> {
        let mut make = self.make();
        make.arg("mrproper");
        watch.run(CLEANING, &make, |_| None)
    }

    /// Configures it by the fragment in the file `wishes`; what that does not mention is off.
    pub(super) fn configure(&self, wishes: &Path, watch: &mut Watch<'_>) -> Result<(), BuildError> {
        let mut make = self.make();
        make.arg("allnoconfig").env("KCONFIG_ALLCONFIG", wishes);
        watch.run(CONFIGURING, &make, |_| None)?;
        // What the first run turned on may ask for more.
        let mut make = self.make();
        make.arg("olddefconfig");
        watch.run(CONFIGURING, &make, |_| None)
    }

    /// Compiles image and modules. `expected` is about how many objects there are; gives how many there were.
    pub(super) fn compile(&self, expected: u32, watch: &mut Watch<'_>) -> Result<u32, BuildError> {
        let mut make = self.make();
        make.args(["bzImage", "modules"]);
        let mut place = Place { expected, folder: format!("{}/", self.folder.display()), ..Place::default() };
        watch.run(COMPILING, &make, |line| place.read(line).then(|| place.text()))?;
        Ok(place.objects)
    }
}

impl Drop for Tree {
    /// A private copy, of gigabytes, of no use to anybody: what was compiled is in ccache.
    fn drop(&mut self) {
        // Whoever builds next sweeps what is left of it.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// How far a compilation is.
#[derive(Debug, Default)]
struct Place {
    expected: u32,
    objects: u32,
    phase: Phase,
    target: String,
    /// The tree, with a slash: some targets are absolute.
    folder: String,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Compiling,
    Linking,
    Packing,
}

impl Place {
    /// Reads a line of make's: `  CC [M]  drivers/gpio/gpio-virtio.o`. Whether it says where make is.
    fn read(&mut self, line: &str) -> bool {
        let Some(rest) = line.strip_prefix("  ") else { return false };
        let mut words = rest.split_whitespace().filter(|word| *word != "[M]");
        let (Some(command), Some(target)) = (words.next(), words.next()) else { return false };
        if !command.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()) {
            return false;
        }
        let is_object = matches!(command, "CC" | "AS");
        self.objects += u32::from(is_object);
        self.phase = match command {
            _ if target.starts_with("arch/x86/boot/") => Phase::Packing,
            "LD" | "LINK" | "KSYMS" | "NM" | "MODPOST" | "SORTTAB" | "OBJCOPY" if target.contains("vmlinux") => {
                Phase::Linking
            }
            // Modules are compiled while the kernel is linked or packed.
            _ if is_object && self.phase == Phase::Compiling => Phase::Compiling,
            _ => self.phase,
        };
        target.strip_prefix(&self.folder).unwrap_or(target).clone_into(&mut self.target);
        true
    }

    fn text(&self) -> String {
        let phase = match self.phase {
            Phase::Compiling => "compiling",
            Phase::Linking => "linking",
            Phase::Packing => "packing the image",
        };
        let of = if self.objects <= self.expected {
            format!("of about {}", self.expected)
        } else {
            format!("where {} were expected", self.expected)
        };
        format!("{phase}: {} objects {of}, {}", self.objects, self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_words_say_where_it_is() {
        let mut place = Place { expected: 3, folder: "/tree/".into(), ..Place::default() };
        let mut after = |line: &str| {
            let told = place.read(line);
            (told, place.text())
        };
        assert_eq!(after("  CC      init/main.o").1, "compiling: 1 objects of about 3, init/main.o");
        assert_eq!(after("  AR      /tree/init/built-in.a").1, "compiling: 1 objects of about 3, init/built-in.a");
        assert!(!after("make[1]: Entering directory 'x'").0 && !after("  sorry for  this").0 && !after("").0);
        assert_eq!(
            after("  CC [M]  drivers/gpio/gpio-virtio.o").1,
            "compiling: 2 objects of about 3, drivers/gpio/gpio-virtio.o"
        );
        assert_eq!(after("  LD      vmlinux.o").1, "linking: 2 objects of about 3, vmlinux.o");
        after("  AS      arch/x86/boot/header.o");
        assert_eq!(
            after("  CC      arch/x86/boot/main.o").1,
            "packing the image: 4 objects where 3 were expected, arch/x86/boot/main.o"
        );
    }
}
