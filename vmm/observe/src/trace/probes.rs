//! The table of kernel events plugstorm asks for.
//!
//! They are kprobe events (Documentation/trace/kprobetrace.rst), so a stock kernel has them. Each one is optional: a
//! kernel without the function lacks that part of the timings and nothing else.
//!
//! Order matters. Where one function has an event at its entry and one at its return, **the return comes first**: the
//! kernel runs the probe that was registered last before the others (`add_new_kprobe()` in kernel/kprobes.c), and a
//! return probe overwrites the return address on the stack. Registered the other way round, `$stack0` at the entry
//! would name the return trampoline instead of the caller.

use serde::{Deserialize, Serialize};

/// A kernel event to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// The event's name in the trace.
    pub name: &'static str,
    /// The kernel function it sits in.
    pub symbol: &'static str,
    /// Where in the function.
    pub at: ProbeAt,
    /// Fetch arguments in kprobe-event syntax.
    pub arguments: &'static [&'static str],
    /// What the event says.
    pub role: Role,
    /// What it means, for people.
    pub meaning: &'static str,
}

/// Where a probe sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeAt {
    /// At the function's entry.
    Entry,
    /// At its return.
    Return,
}

/// What an event says about a [`Span`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Role {
    /// The span begins.
    Begin(Span),
    /// The span ends.
    End(Span),
    /// The grace period that the task waits for is expedited, or is not (argument `do_norm`).
    GracePeriodMode,
}

/// A stretch of time in the guest's kernel that is measured. Spans nest: the later in this list, the further inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Span {
    /// The hot-plug thread works on a slot event, from reading it to the end of adding and removing
    /// (`pciehp_handle_presence_or_link_change`).
    SlotEvent,
    /// Devices below a port are looked for and added (`pciehp_configure_device`).
    AddBelowPort,
    /// Devices below a port are removed (`pciehp_unconfigure_device`).
    RemoveBelowPort,
    /// One PCI device is stopped and taken off the bus (`pci_stop_and_remove_bus_device`).
    RemovePciDevice,
    /// The PCI driver of a virtio device lets go of it (`virtio_pci_remove`).
    RemoveVirtioPci,
    /// The virtio driver lets go of its device (`virtio_dev_remove`).
    RemoveVirtioDevice,
    /// The kernel's gpio-virtio driver lets go (`virtio_gpio_remove`).
    RemoveVirtioGpio,
    /// Our driver lets go (`plugstorm_remove`).
    RemovePlugstorm,
    /// Our driver revokes what it handed out (`plugstorm_revoke`).
    Revoke,
    /// gpiolib forgets a chip (`gpiochip_remove`).
    RemoveGpiochip,
    /// A wait for all SRCU readers (`synchronize_srcu`, `synchronize_srcu_expedited`).
    GracePeriod,
}

impl Span {
    /// The span as words: `removal below the port`.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::SlotEvent => "slot event",
            Self::AddBelowPort => "adding below the port",
            Self::RemoveBelowPort => "removal below the port",
            Self::RemovePciDevice => "removal of the PCI device",
            Self::RemoveVirtioPci => "removal by the virtio PCI driver",
            Self::RemoveVirtioDevice => "removal by the virtio driver",
            Self::RemoveVirtioGpio => "removal by gpio-virtio",
            Self::RemovePlugstorm => "removal by the plugstorm driver",
            Self::Revoke => "revoke",
            Self::RemoveGpiochip => "removal of the gpio chip",
            Self::GracePeriod => "SRCU grace period",
        }
    }
}

const CALLER: &[&str] = &["caller=$stack0:symbol"];
const DOMAIN_AND_CALLER: &[&str] = &["domain=%di:x64", "caller=$stack0:symbol"];

/// The two events of a span. The return first: see the module's text.
const fn pair(
    span: Span,
    symbol: &'static str,
    names: [&'static str; 2],
    arguments: &'static [&'static str],
    meanings: [&'static str; 2],
) -> [Probe; 2] {
    let [begin, end] = names;
    let [begins, ends] = meanings;
    [
        Probe { name: end, symbol, at: ProbeAt::Return, arguments: &[], role: Role::End(span), meaning: ends },
        Probe { name: begin, symbol, at: ProbeAt::Entry, arguments, role: Role::Begin(span), meaning: begins },
    ]
}

#[rustfmt::skip]
const PAIRS: &[[Probe; 2]] = &[
    pair(Span::GracePeriod, "synchronize_srcu", ["srcu_begin", "srcu_end"], DOMAIN_AND_CALLER,
        ["someone begins to wait for the readers of an SRCU domain", "the readers have left"]),
    pair(Span::GracePeriod, "synchronize_srcu_expedited", ["srcu_exp_begin", "srcu_exp_end"], DOMAIN_AND_CALLER,
        ["someone begins to wait, in haste, for the readers of an SRCU domain", "the readers have left"]),
    pair(Span::SlotEvent, "pciehp_handle_presence_or_link_change", ["slot_begin", "slot_end"], CALLER,
        ["the hot-plug thread takes up a slot event", "it is done with the slot event"]),
    pair(Span::AddBelowPort, "pciehp_configure_device", ["add_begin", "add_end"], CALLER,
        ["the hot-plug thread looks for devices below its port", "they are added"]),
    pair(Span::RemoveBelowPort, "pciehp_unconfigure_device", ["unplug_begin", "unplug_end"], CALLER,
        ["the hot-plug thread removes all devices below its port", "they are gone"]),
    pair(Span::RemovePciDevice, "pci_stop_and_remove_bus_device", ["pci_remove_begin", "pci_remove_end"], CALLER,
        ["a PCI device is being taken off its bus", "it is off the bus"]),
    pair(Span::RemovePciDevice, "pci_stop_and_remove_bus_device_locked", ["pci_remove_sysfs_begin", "pci_remove_sysfs_end"],
        CALLER, ["a PCI device is being taken off its bus, asked by sysfs", "it is off the bus"]),
    pair(Span::RemoveVirtioPci, "virtio_pci_remove", ["virtio_pci_begin", "virtio_pci_end"], CALLER,
        ["the virtio PCI driver lets go of a device", "it has let go"]),
    pair(Span::RemoveVirtioDevice, "virtio_dev_remove", ["virtio_begin", "virtio_end"], CALLER,
        ["the virtio bus unbinds a driver", "the driver is unbound"]),
    pair(Span::RemoveVirtioGpio, "virtio_gpio_remove", ["virtio_gpio_begin", "virtio_gpio_end"], CALLER,
        ["the kernel's gpio-virtio driver lets go", "it has let go"]),
    pair(Span::RemovePlugstorm, "plugstorm_remove", ["module_remove_begin", "module_remove_end"], CALLER,
        ["our driver lets go", "it has let go"]),
    pair(Span::Revoke, "plugstorm_revoke", ["revoke_begin", "revoke_end"], CALLER,
        ["our driver begins to revoke", "it has revoked: no consumer is inside"]),
    pair(Span::RemoveGpiochip, "gpiochip_remove", ["gpiochip_begin", "gpiochip_end"], CALLER,
        ["gpiolib begins to forget a chip", "the chip is forgotten"]),
];

/// `synchronize_srcu()` decides inside whether it may hurry (`srcu_might_be_idle`); what it decided shows here.
const MODE: Probe = Probe {
    name: "srcu_mode",
    symbol: "__synchronize_srcu",
    at: ProbeAt::Entry,
    arguments: &["domain=%di:x64", "do_norm=%si:u8"],
    role: Role::GracePeriodMode,
    meaning: "whether the grace period being waited for is expedited",
};

const COUNT: usize = PAIRS.len() * 2 + 1;

const TABLE: [Probe; COUNT] = {
    let mut table = [MODE; COUNT];
    let mut pair = 0;
    while pair < PAIRS.len() {
        table[pair * 2] = PAIRS[pair][0];
        table[pair * 2 + 1] = PAIRS[pair][1];
        pair += 1;
    }
    table
};

/// All events, in the order in which they must be registered.
#[must_use]
pub fn probes() -> &'static [Probe] {
    const { &TABLE }
}

/// The event with this name.
#[must_use]
pub fn probe(name: &str) -> Option<&'static Probe> {
    probes().iter().find(|probe| probe.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_distinct_and_fit_the_kernel() {
        let names: HashSet<_> = probes().iter().map(|probe| probe.name).collect();
        assert_eq!(names.len(), probes().len());
        for probe in probes() {
            assert!(probe.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{}", probe.name);
            assert!(probe.name.len() < 64, "MAX_EVENT_NAME_LEN of kernel/trace/trace_probe.h");
        }
    }

    #[test]
    fn a_return_is_registered_before_its_entry() {
        for (index, probe) in probes().iter().enumerate() {
            if probe.at == ProbeAt::Return {
                let entry =
                    probes().iter().position(|other| other.symbol == probe.symbol && other.at == ProbeAt::Entry);
                assert!(entry.is_some_and(|entry| entry > index), "{}", probe.symbol);
            }
        }
    }
}
