//! What a guest is made of: two guests of the same ingredients are the same until the storm begins.

use std::fs::File;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::manifest::{FORMAT, build};
use super::{Manifest, Misfit, SnapshotError, digest, name};

/// How far the host's TSC may be from the saved one's, in parts per million: as far as KVM takes two rates for the same
/// (`tsc_tolerance_ppm` of arch/x86/kvm/x86.c).
const TSC_TOLERANCE_PPM: u64 = 250;

/// What goes into a guest before its snapshot.
#[derive(Debug, Clone, Copy)]
pub struct Ingredients<'a> {
    /// The bzImage or vmlinux.
    pub kernel: &'a Path,
    /// What it is called.
    pub kernel_name: &'a str,
    /// The initramfs.
    pub initrd: Option<&'a [u8]>,
    /// The whole command line.
    pub command_line: &'a str,
    /// vCPUs.
    pub cpus: u8,
    /// Memory.
    pub memory_bytes: u64,
    /// Root ports.
    pub root_ports: u8,
    /// The CPU template's name.
    pub cpu: &'a str,
    /// A digest of the CPUID that the guest sees here.
    pub cpuid_digest: &'a str,
    /// What the agent was told before the save, as it was sent; empty for a guest without one.
    pub told: &'a [u8],
}

/// [`Ingredients`] as a snapshot keeps them, with digests in the place of what is large.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MadeOf {
    /// The kernel.
    pub kernel: KernelFile,
    /// Of the initramfs.
    pub initrd_digest: Option<String>,
    /// The whole command line.
    pub command_line: String,
    /// vCPUs.
    pub cpus: u8,
    /// Memory.
    pub memory_bytes: u64,
    /// Root ports.
    pub root_ports: u8,
    /// The CPU template's name.
    pub cpu: String,
    /// Of the CPUID that the guest saw.
    pub cpuid_digest: String,
    /// Of what the agent was told.
    pub told_digest: String,
}

/// A kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KernelFile {
    /// What it is called.
    pub name: String,
    /// Of the file.
    pub digest: String,
}

impl Ingredients<'_> {
    /// Digests them: reads the kernel through.
    ///
    /// # Errors
    /// [`SnapshotError::Io`] if the kernel cannot be read.
    pub fn made_of(&self) -> Result<MadeOf, SnapshotError> {
        let failed = |source| SnapshotError::io("cannot read the kernel", self.kernel, source);
        let digest = File::open(self.kernel).and_then(digest::of_reader).map_err(failed)?;
        Ok(MadeOf {
            kernel: KernelFile { name: self.kernel_name.to_owned(), digest },
            initrd_digest: self.initrd.map(digest::of),
            command_line: self.command_line.to_owned(),
            cpus: self.cpus,
            memory_bytes: self.memory_bytes,
            root_ports: self.root_ports,
            cpu: self.cpu.to_owned(),
            cpuid_digest: self.cpuid_digest.to_owned(),
            told_digest: digest::of(self.told),
        })
    }
}

impl MadeOf {
    /// The name of the automatic snapshot of these ingredients, by this build: `auto-` and 32 hexadecimal digits.
    #[must_use]
    pub fn key(&self) -> String {
        self.key_by(FORMAT, build())
    }

    fn key_by(&self, format: u32, build: &str) -> String {
        // A field that is added must be named here.
        let Self {
            kernel,
            initrd_digest,
            command_line,
            cpus,
            memory_bytes,
            root_ports,
            cpu,
            cpuid_digest,
            told_digest,
        } = self;
        let mut parts = digest::Parts::default();
        parts.part(&format.to_le_bytes());
        for text in [build, &kernel.name, &kernel.digest, command_line, cpu, cpuid_digest, told_digest] {
            parts.part(text.as_bytes());
        }
        // No digest is empty.
        parts.part(initrd_digest.as_deref().unwrap_or_default().as_bytes());
        parts.part(&[*cpus, *root_ports]);
        parts.part(&memory_bytes.to_le_bytes());
        name::automatic(&parts.digest())
    }
}

impl Manifest {
    /// Is it of a guest of these ingredients, and can this host go on with it?
    ///
    /// # Errors
    /// The first difference, as a sentence.
    pub fn fits(&self, wanted: &MadeOf, host_khz: u32) -> Result<(), Misfit> {
        let name = || self.name.clone();
        let saved = &self.made_of;
        if saved.kernel.digest != wanted.kernel.digest {
            let kernel = |kernel: &KernelFile| format!("{}, {}", kernel.name, kernel.digest);
            return Err(Misfit::Kernel { name: name(), saved: kernel(&saved.kernel), wanted: kernel(&wanted.kernel) });
        }
        if saved.initrd_digest != wanted.initrd_digest {
            return Err(Misfit::Initramfs { name: name() });
        }
        if saved.told_digest != wanted.told_digest {
            return Err(Misfit::Told { name: name() });
        }
        let bytes = |bytes: u64| format!("{bytes} bytes");
        for (what, saved, wanted) in [
            ("command line", saved.command_line.clone(), wanted.command_line.clone()),
            ("number of vCPUs", saved.cpus.to_string(), wanted.cpus.to_string()),
            ("size of memory", bytes(saved.memory_bytes), bytes(wanted.memory_bytes)),
            ("number of root ports", saved.root_ports.to_string(), wanted.root_ports.to_string()),
            ("CPU template", saved.cpu.clone(), wanted.cpu.clone()),
        ] {
            if saved != wanted {
                return Err(Misfit::Machine { name: name(), what, saved, wanted });
            }
        }
        self.fits_host(&wanted.cpuid_digest, host_khz)
    }

    /// Can a host with this CPUID (for the template of [`MadeOf::cpu`]) and this TSC rate go on with it?
    ///
    /// # Errors
    /// The first difference, as a sentence.
    pub fn fits_host(&self, cpuid_digest: &str, host_khz: u32) -> Result<(), Misfit> {
        if self.made_of.cpuid_digest != cpuid_digest {
            return Err(Misfit::Cpuid { name: self.name.clone() });
        }
        let apart = u64::from(self.tsc_khz.abs_diff(host_khz));
        if apart * 1_000_000 > u64::from(self.tsc_khz) * TSC_TOLERANCE_PPM {
            return Err(Misfit::Tsc { name: self.name.clone(), saved_khz: self.tsc_khz, host_khz });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Ground, made_of};
    use super::*;

    #[test]
    fn what_is_large_is_digested() {
        let folder = tempfile::tempdir().unwrap();
        let kernel = folder.path().join("vmlinux");
        std::fs::write(&kernel, "kernel").unwrap();
        let ingredients = Ingredients {
            kernel: &kernel,
            kernel_name: "debian-6.12",
            initrd: Some(b"initrd"),
            command_line: "quiet",
            cpus: 2,
            memory_bytes: 1 << 30,
            root_ports: 8,
            cpu: "plain",
            cpuid_digest: "c",
            told: b"probes",
        };
        let first = ingredients.made_of().unwrap();
        assert_eq!(first.kernel, KernelFile { name: "debian-6.12".into(), digest: digest::of(b"kernel") });
        assert_eq!(first.initrd_digest, Some(digest::of(b"initrd")));
        assert_eq!((first.cpus, first.memory_bytes, first.root_ports), (2, 1 << 30, 8));
        assert_ne!(Ingredients { told: b"", ..ingredients }.made_of().unwrap().key(), first.key());
        std::fs::write(&kernel, "Kernel").unwrap();
        assert_ne!(ingredients.made_of().unwrap().key(), first.key());
        let error = Ingredients { kernel: Path::new("/no/such/kernel"), ..ingredients }.made_of().unwrap_err();
        assert!(error.to_string().contains("/no/such/kernel"), "{error}");
    }

    /// One change of each field, with the word that a sentence on it has.
    fn changes() -> Vec<(MadeOf, &'static str)> {
        let base = made_of();
        let kernel = |name: &str, digest: &str| KernelFile { name: name.into(), digest: digest.into() };
        let other = || "other".to_owned();
        vec![
            (MadeOf { kernel: kernel("other", &base.kernel.digest), ..made_of() }, ""),
            (MadeOf { kernel: kernel(&base.kernel.name, "other"), ..made_of() }, "another kernel"),
            (MadeOf { initrd_digest: Some(other()), ..made_of() }, "initramfs"),
            (MadeOf { initrd_digest: None, ..made_of() }, "initramfs"),
            (
                MadeOf { command_line: other(), ..made_of() },
                "another command line (console=ttyS0) than is wanted (other)",
            ),
            (MadeOf { cpus: base.cpus + 1, ..made_of() }, "vCPUs"),
            (MadeOf { memory_bytes: base.memory_bytes + 1, ..made_of() }, "memory"),
            (MadeOf { root_ports: base.root_ports + 1, ..made_of() }, "root ports"),
            (MadeOf { cpu: other(), ..made_of() }, "CPU template"),
            (MadeOf { cpuid_digest: other(), ..made_of() }, "CPUID"),
            (MadeOf { told_digest: other(), ..made_of() }, "agent was told"),
        ]
    }

    #[test]
    fn each_field_changes_the_key() {
        let base = made_of();
        let mut keys = vec![base.key_by(1, "one"), base.key_by(2, "one"), base.key_by(1, "two")];
        keys.extend(changes().iter().map(|(changed, _)| changed.key_by(1, "one")));
        for key in &keys {
            name::check(key).unwrap();
        }
        let all = keys.len();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), all);
        assert_eq!(base.key(), made_of().key());
    }

    #[test]
    fn each_difference_has_its_sentence() {
        let ground = Ground::new();
        let manifest = ground.snapshot("one").manifest;
        let khz = manifest.tsc_khz;
        manifest.fits(&made_of(), khz).unwrap();
        for (changed, word) in changes() {
            match manifest.fits(&changed, khz) {
                // A kernel's name is no part of it.
                Ok(()) => assert_eq!(word, ""),
                Err(misfit) => {
                    let sentence = misfit.to_string();
                    assert!(!word.is_empty() && sentence.contains(word), "{sentence}");
                    assert!(sentence.contains("snapshot one") && sentence.contains("snapshot drop one"), "{sentence}");
                }
            }
        }
    }

    #[test]
    fn the_hosts_clock_may_be_a_little_off() {
        let ground = Ground::new();
        let manifest = Manifest { tsc_khz: 2_000_000, ..ground.snapshot("one").manifest };
        let fits = |khz| manifest.fits_host(&made_of().cpuid_digest, khz);
        for khz in [2_000_000, 2_000_500, 1_999_500] {
            fits(khz).unwrap();
        }
        for khz in [2_000_501, 1_999_499, 0, u32::MAX] {
            let sentence = fits(khz).unwrap_err().to_string();
            assert!(sentence.contains("2000000 kHz") && sentence.contains(&khz.to_string()), "{sentence}");
        }
        assert_eq!(manifest.fits_host("other", 2_000_000), Err(Misfit::Cpuid { name: "one".into() }));
    }
}
