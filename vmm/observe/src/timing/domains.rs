//! Grace periods by the SRCU domain that was waited for.
//!
//! A domain is named by its address, the raw first argument of `synchronize_srcu`: it recurs as long as the domain lives, and
//! may be that of another one afterwards. What it protects is told by who waits, and by where it lies: in the kernel's image or a
//! module it is one for all devices, in allocated memory mostly one of a device's own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::spans::GracePeriodMode;
use crate::symbol::Symbol;

/// Domains of all callers told apart.
const MAX_DOMAINS: usize = 1024;
/// Domains of one caller that are told one by one.
const TOLD: usize = 8;

/// What one function waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallerDomains {
    /// The function that called `synchronize_srcu`; nothing if the kernel did not tell.
    pub caller: Option<Symbol>,
    /// Domains, by their addresses.
    pub distinct: u64,
    /// Those that were waited for longest in all, up to eight.
    pub longest: Vec<DomainWaits>,
}

/// Waits for the readers of one domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainWaits {
    /// Its address: `0xffff888003a3c0e8`.
    pub domain: String,
    /// Where that is.
    pub place: DomainPlace,
    /// Expedited grace periods.
    pub expedited: u64,
    /// Ordinary ones.
    pub ordinary: u64,
    /// Those of which the kernel did not tell the mode.
    pub unknown: u64,
    /// All of them together, in nanoseconds.
    pub total_ns: u64,
    /// The longest, in nanoseconds.
    pub longest_ns: u64,
}

/// Where a domain lies, by the kernel's map of its memory (Documentation/arch/x86/x86_64/mm.rst).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DomainPlace {
    /// In the kernel's image: a static domain.
    Kernel,
    /// In a module's: the same.
    Module,
    /// In one of these: which depends on whether the kernel has KASLR.
    KernelOrModule,
    /// In allocated memory.
    Allocated,
}

/// From where on an address may be a module's, and where it is one's with KASLR, which gives the image twice the room
/// (`MODULES_VADDR` of arch/x86/include/asm/pgtable_64_types.h).
const MODULES: u64 = 0xffff_ffff_a000_0000;
const MODULES_WITH_KASLR: u64 = 0xffff_ffff_c000_0000;

impl DomainPlace {
    /// `has_kaslr`: it is known that modules begin where they do with it.
    fn of(address: u64, has_kaslr: bool) -> Self {
        match address {
            MODULES..MODULES_WITH_KASLR if !has_kaslr => Self::KernelOrModule,
            0xffff_ffff_8000_0000..MODULES_WITH_KASLR => Self::Kernel,
            MODULES_WITH_KASLR..=0xffff_ffff_feff_ffff => Self::Module,
            _ => Self::Allocated,
        }
    }

    /// The place as words.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Kernel => "the kernel's, static",
            Self::Module => "a module's, static",
            Self::KernelOrModule => "the kernel's or a module's, static",
            Self::Allocated => "allocated",
        }
    }
}

#[derive(Debug, Default)]
struct Waits {
    expedited: u64,
    ordinary: u64,
    unknown: u64,
    total_ns: u64,
    longest_ns: u64,
}

/// Adds up waits by caller and domain.
#[derive(Debug, Default)]
pub(super) struct Domains {
    waits: BTreeMap<(Option<Symbol>, u64), Waits>,
}

impl Domains {
    /// Takes a wait. False if there are too many domains to tell this one apart.
    pub(super) fn add(
        &mut self,
        caller: Option<&Symbol>,
        domain: Option<&str>,
        mode: GracePeriodMode,
        ns: u64,
    ) -> bool {
        let address = domain.and_then(|domain| domain.strip_prefix("0x"));
        let Some(address) = address.and_then(|digits| u64::from_str_radix(digits, 16).ok()) else { return true };
        let key = (caller.cloned(), address);
        if !self.waits.contains_key(&key) && self.waits.len() >= MAX_DOMAINS {
            return false;
        }
        let waits = self.waits.entry(key).or_default();
        let count = match mode {
            GracePeriodMode::Expedited => &mut waits.expedited,
            GracePeriodMode::Ordinary => &mut waits.ordinary,
            GracePeriodMode::Unknown => &mut waits.unknown,
        };
        *count = count.saturating_add(1);
        waits.total_ns = waits.total_ns.saturating_add(ns);
        waits.longest_ns = waits.longest_ns.max(ns);
        true
    }

    /// By caller.
    pub(super) fn report(&self) -> Vec<CallerDomains> {
        let mut callers: Vec<CallerDomains> = Vec::new();
        // Modules fill their room from its beginning: one so far above it means that it begins there.
        let has_kaslr = self.waits.keys().any(|(_, address)| DomainPlace::of(*address, false) == DomainPlace::Module);
        for ((caller, address), waits) in &self.waits {
            let told = DomainWaits {
                domain: format!("{address:#018x}"),
                place: DomainPlace::of(*address, has_kaslr),
                expedited: waits.expedited,
                ordinary: waits.ordinary,
                unknown: waits.unknown,
                total_ns: waits.total_ns,
                longest_ns: waits.longest_ns,
            };
            match callers.last_mut().filter(|last| last.caller == *caller) {
                Some(last) => {
                    last.distinct += 1;
                    last.longest.push(told);
                }
                None => callers.push(CallerDomains { caller: caller.clone(), distinct: 1, longest: vec![told] }),
            }
        }
        for caller in &mut callers {
            caller.longest.sort_by_key(|waits| std::cmp::Reverse(waits.total_ns));
            caller.longest.truncate(TOLD);
        }
        callers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_told_by_who_waits_the_longest_first() {
        let mut domains = Domains::default();
        let (one, other) = (Symbol::parse("one").unwrap(), Symbol::parse("other").unwrap());
        for (caller, domain, mode, ns) in [
            (&one, "0xffff888003a3c0e8", GracePeriodMode::Expedited, 10),
            (&one, "0xffff888003a3c0e8", GracePeriodMode::Ordinary, 30),
            (&one, "0xffff888003a3d0e8", GracePeriodMode::Unknown, 50),
            (&other, "0xffff888003a3c0e8", GracePeriodMode::Expedited, 5),
        ] {
            assert!(domains.add(Some(caller), Some(domain), mode, ns));
        }
        assert!(domains.add(None, None, GracePeriodMode::Unknown, 1), "a kernel that tells no domain");
        assert!(domains.add(None, Some("(fault)"), GracePeriodMode::Unknown, 1));
        let report = domains.report();
        assert_eq!(report.iter().map(|caller| caller.distinct).collect::<Vec<_>>(), [2, 1]);
        let longest = &report[0].longest;
        assert_eq!((longest[0].domain.as_str(), longest[0].total_ns), ("0xffff888003a3d0e8", 50));
        assert_eq!((longest[1].expedited, longest[1].ordinary, longest[1].longest_ns), (1, 1, 30));
    }

    #[test]
    fn a_static_domain_is_known_by_its_address() {
        // gpiolib's `gpio_devices_srcu`, a module's, and a device's own, of a 6.12 with KASLR.
        use DomainPlace::{Allocated, Kernel, KernelOrModule, Module};
        let randomized = [0xffff_ffff_b5db_5460, 0xffff_ffff_c09c_2080, 0xffff_893e_41b9_ec30];
        assert_eq!(randomized.map(|address| DomainPlace::of(address, true)), [Kernel, Module, Allocated]);
        // The same gpiolib's and a module's of a kernel without RANDOMIZE_BASE.
        let fixed = [0xffff_ffff_82db_5460, 0xffff_ffff_a001_c080];
        assert_eq!(fixed.map(|address| DomainPlace::of(address, false)), [Kernel, KernelOrModule]);
    }

    #[test]
    fn a_modules_domain_tells_where_modules_begin() {
        let mut domains = Domains::default();
        let mut places = |domain| {
            assert!(domains.add(None, Some(domain), GracePeriodMode::Unknown, 1));
            domains.report()[0].longest.iter().map(|waits| waits.place).collect::<Vec<_>>()
        };
        assert_eq!(places("0xffffffffb5db5460"), [DomainPlace::KernelOrModule]);
        assert_eq!(places("0xffffffffc09c2080"), [DomainPlace::Kernel, DomainPlace::Module]);
    }

    #[test]
    fn a_guest_that_invents_domains_is_bounded() {
        let mut domains = Domains::default();
        let added = (0..5000)
            .filter(|address| domains.add(None, Some(&format!("{address:#x}")), GracePeriodMode::Expedited, *address));
        assert_eq!(added.count(), MAX_DOMAINS);
        assert_eq!((domains.report()[0].distinct, domains.report()[0].longest.len()), (MAX_DOMAINS as u64, TOLD));
    }
}
