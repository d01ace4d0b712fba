//! From the start of a guest that boots to the moment when it could be kept.

use plugstorm_observe::trace::{self, probes};
use plugstorm_wire::{
    FromGuest, HammerSpec, HammerTarget, NodeTarget, PciAddress, ProbeAt, ProbeFailure, ProbeSpec, ToGuest, VERSION,
};

use super::CALIBRATION_REFERENCE_NS;
use super::engine::{Storm, Trouble, clamp_slowdown, last_words, ratio, seconds};
use super::guest::nanoseconds;
use super::hearing::{cut, readable_text};
use super::record::Record;
use crate::results::EventKind;
use crate::scenario::{Driver, Hammer, Work};

/// A word of the guest's is cut here, in bytes.
const MOST_WORD_BYTES: usize = 32;
/// A sentence of the guest's is cut here, in bytes.
const MOST_SENTENCE_BYTES: usize = 500;

impl Storm<'_> {
    /// Hears a guest that boots until its trace is set up. What its agent said of itself: the forks of this guest will not
    /// say it again.
    pub(super) fn introduction(&mut self, began_ns: u64) -> Result<Vec<FromGuest>, Trouble> {
        let time_out_ns = self.scaled(self.set.scenario.time_outs.boot);
        let Some((t_ns, hello)) = self.wait(time_out_ns, |now| now.hello.take())? else {
            return Err(self.never_said_hello(time_out_ns)?);
        };
        Record::sample(&mut self.record.boots_ns, t_ns.saturating_sub(began_ns));
        self.hello(&hello, began_ns, t_ns)?;
        self.set.guest.send(&configuration())?;
        let time_out_ns = self.scaled(self.set.scenario.time_outs.start);
        let Some(FromGuest::Configured { probes_failed }) = self.wait(time_out_ns, |now| now.configured.take())? else {
            return Err(self.unanswered("took no configuration", time_out_ns)?);
        };
        let names: Vec<String> = probes_failed.iter().map(|probe| probe.name.clone()).collect();
        self.configured(probes_failed.clone());
        // What the kernel printed while it booted is complete.
        self.finish_console()?;
        self.guest_says(EventKind::Configured { probes_failed: names }, None)?;
        Ok(vec![hello, FromGuest::Configured { probes_failed }])
    }

    /// Takes what a guest, or the one it was forked from, could not trace.
    pub(super) fn configured(&mut self, probes_failed: Vec<ProbeFailure>) {
        self.now.slot_ends_told = !probes_failed.iter().any(|probe| probe.name == "slot_end");
        self.record.probes_failed = probes_failed;
    }

    fn hello(&mut self, hello: &FromGuest, began_ns: u64, heard_ns: u64) -> Result<(), Trouble> {
        let FromGuest::Hello { kernel_release, cpus, tsc, calibration_ns, .. } = hello else { return Ok(()) };
        let (cpus, calibration_ns) = (*cpus, *calibration_ns);
        self.now.one_clock = self.is_one_clock(*tsc, began_ns, heard_ns);
        self.calibrated(calibration_ns);
        let (release, slowdown) = (kernel_release.clone(), self.slowdown);
        self.guest_says(EventKind::AgentHello { release, cpus, calibration_ns, slowdown }, None)?;
        self.hello_facts(hello)
    }

    /// Takes what holds for a guest and for all its forks.
    pub(super) fn hello_facts(&mut self, hello: &FromGuest) -> Result<(), Trouble> {
        let FromGuest::Hello { version, kernel_release, tick_ns, preemption, modules, leaks, .. } = hello else {
            return Ok(());
        };
        if *version != VERSION {
            return Err(Trouble::Failed(format!(
                "the agent in the guest speaks version {version} of the messages and this plugstorm version {VERSION}: \
                 build both from one source"
            )));
        }
        self.record.release = Some(kernel_release.clone());
        self.record.hz =
            1_000_000_000u64.checked_div(*tick_ns).and_then(|hz| u32::try_from(hz).ok()).filter(|hz| *hz > 0);
        self.now.finds_leaks = *leaks;
        let preemption = preemption.clone().map(|word| cut(word, MOST_WORD_BYTES));
        self.record.preemption = preemption.filter(|word| is_word(word));
        for module in modules {
            if let Some(error) = &module.error {
                let [file, error] = [&module.file, error].map(|text| readable_text(text));
                self.record.warn(format!("the guest could not load {file}: {error}"));
                self.guest_says(EventKind::ModuleFailed { file, error }, None)?;
            }
        }
        self.record.modules.clone_from(modules);
        match modules.iter().find_map(|module| Some((&module.file, module.error.as_ref()?))) {
            // What is to be stormed is not there.
            Some((file, error)) if self.is_own_module(file) => {
                let tail = last_words(&self.now.console.tail());
                let error = cut(readable_text(error), MOST_SENTENCE_BYTES);
                Err(Trouble::User(format!("a module that the scenario names was not loaded: {error}{tail}")))
            }
            _ => Ok(()),
        }
    }

    /// Whether a file in the guest, `NN-name.ko`, is a module that the scenario names.
    fn is_own_module(&self, file: &str) -> bool {
        let name = file.split_once('-').map_or(file, |(_, name)| name);
        self.set.scenario.guest.modules.iter().any(|own| own.file.rsplit('/').next() == Some(name))
    }

    /// Whether the guest's clock is the storm's: what it said with this count of its own was said between the two times.
    /// Without one clock for both, the time at which the host heard of something has to do.
    pub(super) fn is_one_clock(&self, tsc: u64, asked_ns: u64, heard_ns: u64) -> bool {
        self.set.guest.tsc_to_ns(tsc).is_some_and(|said_ns| (asked_ns..=heard_ns).contains(&said_ns))
    }

    /// Takes the guest's measurement of itself: what time-outs are multiplied by from here on is the slower one's, this
    /// guest's or the host's. Not that of a guest before it, which may have been measured in a bad moment.
    pub(super) fn calibrated(&mut self, calibration_ns: u64) {
        let guest_slowdown = ratio(calibration_ns, CALIBRATION_REFERENCE_NS);
        self.record.guest_slowdown = self.record.guest_slowdown.max(guest_slowdown);
        self.slowdown = clamp_slowdown(self.set.host_slowdown.max(guest_slowdown));
    }

    /// What to say of a guest whose agent did not answer. A report on its console says more.
    pub(super) fn unanswered(&mut self, what: &str, time_out_ns: u64) -> Result<Trouble, Trouble> {
        // It may have been complete before this guest fell silent.
        if self.finish_console()? || self.tainted {
            return Ok(Trouble::Found);
        }
        let tail = last_words(&self.now.console.tail());
        Ok(Trouble::Failed(format!("the agent {what} within {}{tail}", seconds(time_out_ns))))
    }

    /// What to say of a guest whose agent never spoke. A report on its console says more.
    fn never_said_hello(&mut self, time_out_ns: u64) -> Result<Trouble, Trouble> {
        if self.finish_console()? || self.tainted {
            return Ok(Trouble::Found);
        }
        let bytes = self.record.console_bytes;
        let tail = last_words(&self.now.console.tail());
        let advice = if bytes == 0 {
            "; its console stayed empty: is this a kernel for x86-64 with a console on virtio (VIRTIO_CONSOLE) or serial port?"
        } else {
            ""
        };
        Ok(Trouble::Failed(format!(
            "the guest never started its agent within {} (time-out `boot` times the slowdown {:.1}){advice}{tail}",
            seconds(time_out_ns),
            self.slowdown
        )))
    }

    pub(super) fn hammer_specs(&self) -> Vec<HammerSpec> {
        self.set.scenario.hammers.iter().map(|hammer| self.hammer_spec(hammer)).collect()
    }

    fn hammer_spec(&self, hammer: &Hammer) -> HammerSpec {
        let port = hammer.device.map(|device| self.set.guest.port(device));
        let driver = hammer.device.and_then(|device| self.set.scenario.devices.get(device)).map(|device| device.driver);
        let (target, node, program) = match &hammer.work {
            Work::Device if matches!(driver, Some(Driver::Plugstorm(_))) => (HammerTarget::Plugstorm, None, Vec::new()),
            Work::Device => (HammerTarget::Gpiochip, None, Vec::new()),
            Work::Node(node) => {
                let (pattern, ioctl) = (node.pattern.clone(), node.ioctl.clone());
                let node = NodeTarget { pattern, port: port.clone(), ioctl, bytes: node.bytes };
                (HammerTarget::Node, Some(node), Vec::new())
            }
            Work::Program { program, .. } => (HammerTarget::Program, None, program.clone()),
        };
        HammerSpec {
            name: hammer.name.clone(),
            port: port.unwrap_or(PciAddress(String::new())),
            target,
            node,
            program,
            threads: hammer.threads,
            sharing: hammer.sharing,
            operations: hammer.operations.clone(),
            lines: hammer.lines.clone(),
            edge: hammer.edge,
            from: hammer.from.map(|device| self.set.guest.port(device)),
            pause_min_ns: nanoseconds(hammer.pause.least),
            pause_max_ns: nanoseconds(hammer.pause.greatest),
        }
    }
}

/// A word of the guest's that may be shown as it is.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

/// What an agent is told before its guest is kept: the same for every guest.
#[must_use]
pub fn configuration() -> ToGuest {
    ToGuest::Configure { probes: probe_specs() }
}

fn probe_specs() -> Vec<ProbeSpec> {
    let spec = |probe: &trace::Probe| ProbeSpec {
        name: probe.name.to_owned(),
        symbol: probe.symbol.to_owned(),
        at: match probe.at {
            trace::ProbeAt::Entry => ProbeAt::Entry,
            trace::ProbeAt::Return => ProbeAt::Return,
        },
        arguments: probe.arguments.iter().map(|&argument| argument.to_owned()).collect(),
    };
    probes().iter().map(spec).collect()
}
