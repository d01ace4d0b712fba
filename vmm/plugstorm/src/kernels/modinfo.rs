//! What a module says of itself (`.modinfo`), and the order that follows from it.

use std::collections::{BTreeMap, BTreeSet};

use object::{Object, ObjectSection};

/// The fields of `.modinfo` that matter here (include/linux/module.h, `MODULE_INFO`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ModInfo {
    /// `depends=`: modules whose symbols it uses, with underscores.
    pub(crate) depends: Vec<String>,
    /// `vermagic=`: the release it was built for, and what else of its kernel's configuration must fit.
    pub(crate) vermagic: Option<String>,
    /// The first word of `vermagic=`: the release it was built for.
    pub(crate) release: Option<String>,
}

impl ModInfo {
    /// Reads a module's ELF file; nothing if it is none or has no such section.
    pub(crate) fn read(module: &[u8]) -> Option<Self> {
        let file = object::File::parse(module).ok()?;
        let section = file.section_by_name(".modinfo")?;
        Some(Self::of_section(section.data().ok()?))
    }

    /// Reads the content of the section.
    pub(crate) fn of_section(section: &[u8]) -> Self {
        let mut info = Self::default();
        for field in section.split(|&byte| byte == 0) {
            let field = String::from_utf8_lossy(field);
            match field.split_once('=') {
                Some(("depends", list)) => {
                    info.depends.extend(list.split(',').filter(|name| !name.is_empty()).map(canonical));
                }
                Some(("vermagic", magic)) => {
                    info.vermagic = Some(magic.trim().to_owned());
                    info.release = magic.split_whitespace().next().map(str::to_owned);
                }
                _ => {}
            }
        }
        info
    }
}

/// A module's name as the kernel lists it: file names have hyphens where names have underscores.
pub(crate) fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// The modules to load for `wanted`, each once and after all those it needs. A name that `depends` does not know is
/// built into the kernel or not there at all, and is left out. A circle, which the kernel could not load either, is
/// broken anywhere.
pub(super) fn load_order(wanted: &[&str], depends: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut order = Vec::new();
    let mut entered = BTreeSet::new();
    for name in wanted {
        visit(&canonical(name), depends, &mut entered, &mut order);
    }
    order
}

fn visit(name: &str, depends: &BTreeMap<String, Vec<String>>, entered: &mut BTreeSet<String>, order: &mut Vec<String>) {
    let Some(needed) = depends.get(name) else { return };
    if !entered.insert(name.to_owned()) {
        return;
    }
    for other in needed {
        visit(&canonical(other), depends, entered, order);
    }
    order.push(name.to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        edges.iter().map(|(name, needs)| ((*name).into(), needs.iter().map(|need| (*need).into()).collect())).collect()
    }

    #[test]
    fn what_is_needed_comes_first_and_once() {
        let depends = graph(&[
            ("kvm_amd", &["kvm", "ccp"]),
            ("kvm", &["irqbypass"]),
            ("ccp", &["rng_core"]),
            ("irqbypass", &[]),
            ("9p", &["9pnet", "netfs"]),
            ("9pnet", &[]),
            ("9pnet_virtio", &["9pnet", "virtio_ring"]),
        ]);
        assert_eq!(
            load_order(&["kvm-amd", "9p", "9pnet_virtio"], &depends),
            ["irqbypass", "kvm", "ccp", "kvm_amd", "9pnet", "9p", "9pnet_virtio"]
        );
    }

    #[test]
    fn what_is_built_in_is_left_out_and_a_circle_ends() {
        let depends = graph(&[("a", &["b"]), ("b", &["a", "c"])]);
        assert_eq!(load_order(&["a", "virtio_pci"], &depends), ["b", "a"]);
    }

    #[test]
    fn our_module_is_loaded_before_the_kernels_own_driver_on_6_1_too() {
        let depends = graph(&[
            ("plugstorm", &["virtio_ring", "virtio"]),
            ("gpio_virtio", &["virtio", "virtio_ring"]),
            ("virtio", &[]),
            ("virtio_ring", &["virtio"]),
            ("virtio_pci", &["virtio_pci_modern_dev", "virtio", "virtio_ring"]),
            ("virtio_pci_modern_dev", &[]),
        ]);
        assert_eq!(
            load_order(&["plugstorm", "gpio-virtio", "virtio_pci"], &depends),
            ["virtio", "virtio_ring", "plugstorm", "gpio_virtio", "virtio_pci_modern_dev", "virtio_pci"]
        );
    }

    #[test]
    fn modinfo_is_a_list_of_strings() {
        let info =
            ModInfo::of_section(b"license=GPL\0depends=kvm,ccp\0\0vermagic=6.12.1-amd64 SMP preempt mod_unload \0junk");
        assert_eq!(info.depends, ["kvm", "ccp"]);
        assert_eq!(info.release.as_deref(), Some("6.12.1-amd64"));
        assert_eq!(info.vermagic.as_deref(), Some("6.12.1-amd64 SMP preempt mod_unload"));
        assert_eq!(ModInfo::of_section(b"depends=\0").depends, Vec::<String>::new());
        assert_eq!(ModInfo::read(b"\x7fELF and then nothing"), None);
    }
}
