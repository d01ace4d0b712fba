//! The designs of our module, as scenarios name them.

use serde::{Deserialize, Serialize};

/// A way of taking a resource away, as our module has it (`guest/module/README.md`). A variant differs from its design in
/// how it is used, and so in which defect shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Design {
    /// A plain pointer: the control.
    Unprotected,
    /// Merged in January 2026 and reverted: the SRCU index is kept in the shared handle.
    SharedHandle,
    /// Its first repair: handle and index on the stack, the provider's pointer passed by value.
    ByValue,
    /// The same, used by a consumer that has saved the provider's pointer.
    ByValueCopy,
    /// Versions 8 to 11: a reference for every use.
    GetPut,
    /// The same, embedded in a parent that is freed when it has been revoked.
    GetPutEmbedded,
    /// One counted object, the SRCU index on the stack.
    StackToken,
    /// A reader-writer semaphore for each device.
    Rwsem,
    /// The same, with per-CPU readers.
    PercpuRwsem,
    /// Users are counted; sleepers are woken.
    InFlight,
    /// One mutex for all devices.
    GlobalLock,
    /// As gpiolib since 6.9: SRCU protects a pointer in an object that stays.
    OpsPointer,
    /// As DRM: one SRCU domain for all devices, and a flag.
    EnterExit,
    /// As Rust's Devres: RCU and a flag.
    DevresBound,
}

/// What our module says of a design.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Facts {
    name: &'static str,
    subsystem_id: u16,
    atomic: bool,
    sleeps: bool,
}

const fn facts(name: &'static str, subsystem_id: u16, atomic: bool, sleeps: bool) -> Facts {
    Facts { name, subsystem_id, atomic, sleeps }
}

impl Design {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Unprotected,
        Self::SharedHandle,
        Self::ByValue,
        Self::ByValueCopy,
        Self::GetPut,
        Self::GetPutEmbedded,
        Self::StackToken,
        Self::Rwsem,
        Self::PercpuRwsem,
        Self::InFlight,
        Self::GlobalLock,
        Self::OpsPointer,
        Self::EnterExit,
        Self::DevresBound,
    ];

    /// The table: name, PCI subsystem device id, `atomic`, `sleeps`. A test holds it against the module's sources.
    const fn facts(self) -> Facts {
        match self {
            Self::Unprotected => facts("unprotected", 1, true, true),
            Self::SharedHandle => facts("shared-handle", 2, true, true),
            Self::ByValue => facts("by-value", 3, true, true),
            Self::ByValueCopy => facts("by-value-copy", 0x103, true, true),
            Self::GetPut => facts("get-put", 4, true, true),
            Self::GetPutEmbedded => facts("get-put-embedded", 0x104, true, true),
            Self::StackToken => facts("stack-token", 5, true, true),
            Self::Rwsem => facts("rwsem", 6, false, true),
            Self::PercpuRwsem => facts("percpu-rwsem", 7, false, true),
            Self::InFlight => facts("in-flight", 8, true, true),
            Self::GlobalLock => facts("global-lock", 9, false, true),
            Self::OpsPointer => facts("ops-pointer", 10, true, true),
            Self::EnterExit => facts("enter-exit", 11, true, true),
            Self::DevresBound => facts("devres-bound", 12, true, false),
        }
    }

    /// Its name in scenarios and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.facts().name
    }

    /// The design that this one is a variant of, or itself: the one in whose file our module has it.
    #[must_use]
    pub fn family(self) -> Self {
        let number = self.subsystem_id() & 0xff;
        Self::ALL.into_iter().find(|design| design.subsystem_id() == number).unwrap_or(self)
    }

    /// The PCI subsystem device id that selects it in our module.
    #[must_use]
    pub const fn subsystem_id(self) -> u16 {
        self.facts().subsystem_id
    }

    /// The resource can be used where sleeping is not allowed: in an interrupt, in a timer.
    #[must_use]
    pub const fn atomic(self) -> bool {
        self.facts().atomic
    }

    /// Whoever uses the resource may sleep meanwhile.
    #[must_use]
    pub const fn sleeps(self) -> bool {
        self.facts().sleeps
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn module() -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../guest/module")
    }

    /// What a `struct plugstorm_design` of the module says, and the identifier that it has.
    fn of_the_module() -> Vec<(String, String, u16, bool, bool)> {
        let mut found = Vec::new();
        for entry in fs::read_dir(module()).unwrap() {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_str().unwrap();
            if !file.starts_with("design_") || !file.ends_with(".c") {
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            for block in text.split("const struct plugstorm_design plugstorm_").skip(1) {
                let (identifier, rest) = block.split_once(" = {").unwrap();
                let body = rest.split_once("};").unwrap().0;
                let field = |key: &str| {
                    let line = body.lines().find_map(|line| line.trim().strip_prefix(key)?.strip_prefix(" = "));
                    line.unwrap_or_else(|| panic!("{file}: {key}")).trim_end_matches(',').to_owned()
                };
                let number = field(".number");
                let number = match number.strip_prefix("0x") {
                    Some(digits) => u16::from_str_radix(digits, 16),
                    None => number.parse(),
                };
                let flag = |key| field(key).parse::<bool>().unwrap();
                let name = field(".name").trim_matches('"').to_owned();
                found.push((identifier.to_owned(), name, number.unwrap(), flag(".atomic"), flag(".sleeps")));
            }
        }
        found
    }

    #[test]
    fn the_module_has_these_designs_and_no_others() {
        let mut module = of_the_module();
        module.sort();
        let facts = |design: Design| {
            let Facts { name, subsystem_id, atomic, sleeps } = design.facts();
            (name.replace('-', "_"), name.to_owned(), subsystem_id, atomic, sleeps)
        };
        let mut ours = Design::ALL.map(facts).to_vec();
        ours.sort();
        assert_eq!(ours, module);
    }

    #[test]
    fn the_modules_table_has_every_design() {
        let table = fs::read_to_string(module().join("design_table.h")).unwrap();
        let mut listed: Vec<_> =
            table.lines().filter_map(|line| line.strip_prefix("DESIGN(")?.strip_suffix("),")).collect();
        listed.sort_unstable();
        let mut ours = Design::ALL.map(|design| design.name().replace('-', "_"));
        ours.sort();
        assert_eq!(listed, ours);
    }

    #[test]
    fn a_variant_is_of_its_designs_family() {
        assert_eq!(Design::GetPutEmbedded.family(), Design::GetPut);
        assert_eq!(Design::ALL.into_iter().filter(|design| design.family() == *design).count(), 12);
    }

    #[test]
    fn names_are_those_of_results() {
        for design in Design::ALL {
            assert_eq!(serde_json::to_value(design).unwrap(), design.name());
        }
        let mut numbers = Design::ALL.map(Design::subsystem_id).to_vec();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), Design::ALL.len());
    }
}
