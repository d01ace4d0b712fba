//! Beginnings and ends of spans, paired by task.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::apart::Apart;
use super::domains::Domains;
use super::summary::{GracePeriods, Samples, SpanSummary, TimingReport};
use crate::symbol::Symbol;
use crate::trace::{LostEvents, Role, Span, TraceEvent, probe};

/// Tasks with open spans kept at a time.
const MAX_TASKS: usize = 1024;
/// Spans open at a time in one task. The removal path nests eight deep; a task cannot be in two removals at once.
const MAX_DEPTH: usize = 32;
/// Callers of `synchronize_srcu` told apart.
const MAX_CALLERS: usize = 64;

/// Whether the kernel hurried with a grace period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum GracePeriodMode {
    /// Asked to hurry, or the domain had been idle for longer than `srcutree.exp_holdoff` (25 µs).
    Expedited,
    /// Its delays are counted in jiffies.
    Ordinary,
    /// The kernel has no event that tells.
    Unknown,
}

/// A span that has begun and not ended: evidence for a hang.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSpan {
    /// Which.
    pub span: Span,
    /// The function being executed: `synchronize_srcu`.
    pub function: String,
    /// Who called it.
    pub caller: Option<Symbol>,
    /// The task's id.
    pub pid: u32,
    /// The task's name.
    pub task: String,
    /// Since when, guest time-stamp counter.
    pub since_ticks: u64,
    /// The SRCU domain waited for, as the kernel printed its address.
    pub domain: Option<String>,
    /// Whether the grace period is a hurried one. Only for grace periods.
    pub mode: Option<GracePeriodMode>,
}

#[derive(Debug, Default)]
struct Task {
    open: Vec<OpenSpan>,
}

/// Pairs trace events and adds up how long the spans took.
///
/// Holds a bounded number of tasks, spans and callers whatever the guest sends; what is beyond is counted.
#[derive(Debug)]
pub struct Timings {
    tsc_khz: u64,
    tasks: BTreeMap<u32, Task>,
    grace_periods: BTreeMap<(Option<Symbol>, GracePeriodMode), Samples>,
    spans: BTreeMap<Span, Samples>,
    domains: Domains,
    apart: Apart,
    ends_alone: u64,
    lost_events: u64,
    left_out: u64,
    domains_left_out: u64,
}

impl Timings {
    /// Nothing measured yet. `tsc_khz` is the rate of the guest's time-stamp counter (`KVM_GET_TSC_KHZ`).
    #[must_use]
    pub fn new(tsc_khz: impl Into<u64>) -> Self {
        Self {
            tsc_khz: tsc_khz.into().max(1),
            tasks: BTreeMap::new(),
            grace_periods: BTreeMap::new(),
            spans: BTreeMap::new(),
            domains: Domains::default(),
            apart: Apart::default(),
            ends_alone: 0,
            lost_events: 0,
            left_out: 0,
            domains_left_out: 0,
        }
    }

    /// Ticks of the guest's time-stamp counter as nanoseconds.
    #[must_use]
    pub fn ticks_to_ns(&self, ticks: u64) -> u64 {
        ns_of(ticks, self.tsc_khz)
    }

    /// Takes the next event. Events of one task must come in order; those that are not ours are ignored.
    pub fn push(&mut self, event: &TraceEvent) {
        let Some(probe) = probe(&event.name) else { return };
        match probe.role {
            Role::Begin(span) => self.begin(span, probe.symbol, event),
            Role::End(span) => self.end(span, probe.symbol, event),
            Role::GracePeriodMode => self.mode(event),
        }
    }

    /// Takes note of lost events.
    pub fn lost(&mut self, lost: LostEvents) {
        self.lost_many(lost.events.unwrap_or(1));
    }

    /// Takes note of lines that the agent had to drop.
    pub fn lost_many(&mut self, events: u64) {
        self.lost_events = self.lost_events.saturating_add(events);
    }

    /// All events lost so far.
    #[must_use]
    pub fn lost_events(&self) -> u64 {
        self.lost_events
    }

    /// Forgets what is open, as after a reboot of the guest; the sums stay.
    pub fn forget_open(&mut self) {
        self.tasks.clear();
        self.apart.forget();
    }

    /// What has begun and not ended, the longest waiting first.
    #[must_use]
    pub fn open(&self) -> Vec<OpenSpan> {
        let mut open: Vec<_> = self.tasks.values().flat_map(|task| task.open.iter().cloned()).collect();
        open.sort_by_key(|span| (span.since_ticks, span.span));
        open
    }

    /// How often a span has ended.
    #[must_use]
    pub fn ended(&self, span: Span) -> u64 {
        self.spans.get(&span).map_or(0, Samples::count)
    }

    /// What it adds up to so far.
    #[must_use]
    pub fn report(&self) -> TimingReport {
        let grace_periods = self.grace_periods.iter().filter_map(|((caller, mode), samples)| {
            Some(GracePeriods { caller: caller.clone(), mode: *mode, summary: samples.summary()? })
        });
        let spans = self
            .spans
            .iter()
            .filter_map(|(span, samples)| Some(SpanSummary { span: *span, summary: samples.summary()? }));
        TimingReport {
            grace_periods: grace_periods.collect(),
            spans: spans.collect(),
            domains: self.domains.report(),
            apart: self.apart.report(),
            ends_alone: self.ends_alone,
            lost_events: self.lost_events,
            left_out: self.left_out,
            domains_left_out: self.domains_left_out,
        }
    }

    fn begin(&mut self, span: Span, function: &str, event: &TraceEvent) {
        if !self.tasks.contains_key(&event.pid) && self.tasks.len() >= MAX_TASKS {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        let open = &mut self.tasks.entry(event.pid).or_default().open;
        // Entered again before it returned: functions here do not call themselves, so the return was lost.
        open.retain(|earlier| earlier.function != function);
        if open.len() >= MAX_DEPTH {
            self.left_out = self.left_out.saturating_add(1);
            return;
        }
        // A function that calls another of the same span has begun it.
        let is_inside = open.iter().any(|earlier| earlier.span == span);
        let mode = (span == Span::GracePeriod).then_some(match function {
            "synchronize_srcu_expedited" => GracePeriodMode::Expedited,
            _ => GracePeriodMode::Unknown,
        });
        open.push(OpenSpan {
            span,
            function: function.to_owned(),
            caller: event.caller(),
            pid: event.pid,
            task: event.task.clone(),
            since_ticks: event.clock_ticks,
            domain: event.field("domain").map(str::to_owned),
            mode,
        });
        if !is_inside {
            self.apart.begin(event.pid, span, event.clock_ticks);
        }
    }

    /// The kernel decided how to wait: this belongs to every wait that the task is in.
    fn mode(&mut self, event: &TraceEvent) {
        let mode = match event.field("do_norm") {
            Some("0") => GracePeriodMode::Expedited,
            Some(_) => GracePeriodMode::Ordinary,
            None => return,
        };
        let open = self.tasks.get_mut(&event.pid).map(|task| task.open.as_mut_slice()).unwrap_or_default();
        open.iter_mut().filter(|span| span.span == Span::GracePeriod).for_each(|span| span.mode = Some(mode));
    }

    fn end(&mut self, span: Span, function: &str, event: &TraceEvent) {
        let Some(task) = self.tasks.get_mut(&event.pid) else {
            self.ends_alone = self.ends_alone.saturating_add(1);
            return;
        };
        let Some(at) = task.open.iter().rposition(|open| open.function == function) else {
            self.ends_alone = self.ends_alone.saturating_add(1);
            return;
        };
        // What is still open further inside has returned too; its event was lost.
        task.open.truncate(at + 1);
        let Some(begun) = task.open.pop() else { return };
        // synchronize_srcu() calls synchronize_srcu_expedited() for an idle domain: one wait, not two.
        let mut inside_another = false;
        for outer in task.open.iter_mut().filter(|outer| outer.span == span) {
            inside_another = true;
            if begun.mode.is_some_and(|mode| mode != GracePeriodMode::Unknown) {
                outer.mode = begun.mode;
            }
        }
        if task.open.is_empty() {
            self.tasks.remove(&event.pid);
        }
        if inside_another {
            return;
        }
        let ns = self.ticks_to_ns(event.clock_ticks.saturating_sub(begun.since_ticks));
        self.spans.entry(span).or_insert_with(Samples::new).add(ns);
        let tsc_khz = self.tsc_khz;
        let stretch = (begun.since_ticks, event.clock_ticks);
        self.apart.end(event.pid, span, stretch, |ticks| ns_of(ticks, tsc_khz));
        if span == Span::GracePeriod {
            // The entry may have seen a trampoline for its caller; the return never does.
            let caller = event.caller().or(begun.caller);
            let mode = begun.mode.unwrap_or(GracePeriodMode::Unknown);
            if !self.domains.add(caller.as_ref(), begun.domain.as_deref(), mode, ns) {
                self.domains_left_out = self.domains_left_out.saturating_add(1);
            }
            let key = (caller, mode);
            if self.grace_periods.contains_key(&key) || self.grace_periods.len() < MAX_CALLERS {
                self.grace_periods.entry(key).or_insert_with(Samples::new).add(ns);
            } else {
                self.left_out = self.left_out.saturating_add(1);
            }
        }
    }
}

fn ns_of(ticks: u64, tsc_khz: u64) -> u64 {
    let ns = u128::from(ticks) * 1_000_000 / u128::from(tsc_khz);
    u64::try_from(ns).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{parse_line, probes};
    use proptest::prelude::*;

    fn timings(tsc_khz: u32, lines: &[&str]) -> Timings {
        let mut timings = Timings::new(tsc_khz);
        for line in lines {
            timings.push(&parse_line(line).unwrap_or_else(|| panic!("{line}")));
        }
        timings
    }

    const REMOVAL: &[&str] = &[
        "irq/27-pciehp-85 [001] ..... 1000000: unplug_begin: (pciehp_unconfigure_device+0x0/0x1) caller=pciehp_disable_slot+0x1/0x2",
        "irq/27-pciehp-85 [001] ..... 1100000: gpiochip_begin: (gpiochip_remove+0x0/0x1) caller=virtio_gpio_remove+0x1/0x2 [gpio_virtio]",
        "irq/27-pciehp-85 [001] ..... 1200000: srcu_begin: (synchronize_srcu+0x0/0x1) domain=0x10 caller=gpiochip_remove+0x66/0x160",
        "irq/27-pciehp-85 [001] ..... 1200100: srcu_mode: (__synchronize_srcu+0x0/0x1) domain=0x10 do_norm=0",
        "irq/27-pciehp-85 [000] ..... 1300000: srcu_end: (gpiochip_remove+0x66/0x160 <- synchronize_srcu)",
        "irq/27-pciehp-85 [000] ..... 1400000: srcu_begin: (synchronize_srcu+0x0/0x1) domain=0x20 caller=gpiochip_remove+0x80/0x160",
        "irq/27-pciehp-85 [000] ..... 1400100: srcu_mode: (__synchronize_srcu+0x0/0x1) domain=0x20 do_norm=1",
        "irq/27-pciehp-85 [000] ..... 21400000: srcu_end: (gpiochip_remove+0x80/0x160 <- synchronize_srcu)",
        "irq/27-pciehp-85 [000] ..... 21500000: gpiochip_end: (virtio_gpio_remove+0x1/0x2 [gpio_virtio] <- gpiochip_remove)",
        "irq/27-pciehp-85 [000] ..... 21600000: unplug_end: (pciehp_disable_slot+0x1/0x2 <- pciehp_unconfigure_device)",
    ];

    #[test]
    fn a_removal_is_taken_apart() {
        let timings = timings(1_000_000, REMOVAL);
        assert!(timings.open().is_empty());
        insta::assert_snapshot!(serde_json::to_string_pretty(&timings.report()).unwrap());
    }

    #[test]
    fn a_wait_that_does_not_end_stays_open() {
        let timings = timings(2_000_000, &REMOVAL[..7]);
        let open = timings.open();
        assert_eq!(
            open.iter().map(|span| span.span).collect::<Vec<_>>(),
            [Span::RemoveBelowPort, Span::RemoveGpiochip, Span::GracePeriod]
        );
        assert_eq!(open[2].caller.as_ref().unwrap().name, "gpiochip_remove");
        assert_eq!(open[2].mode, Some(GracePeriodMode::Ordinary));
        assert_eq!(timings.ticks_to_ns(4_000_000_000), 2_000_000_000);
    }

    #[test]
    fn the_hurried_call_inside_an_ordinary_one_is_one_wait() {
        let timings = timings(
            1_000_000,
            &[
                "a-1 [000] ..... 100: srcu_begin: (synchronize_srcu+0x0/0x1) caller=f+0x1/0x2",
                "a-1 [000] ..... 110: srcu_exp_begin: (synchronize_srcu_expedited+0x0/0x1) caller=synchronize_srcu+0x1/0x2",
                "a-1 [000] ..... 190: srcu_exp_end: (synchronize_srcu+0x1/0x2 <- synchronize_srcu_expedited)",
                "a-1 [000] ..... 200: srcu_end: (f+0x1/0x2 <- synchronize_srcu)",
            ],
        );
        let report = timings.report();
        assert_eq!(report.grace_periods.len(), 1);
        assert_eq!(report.grace_periods[0].mode, GracePeriodMode::Expedited);
        assert_eq!(report.grace_periods[0].summary.max_ns, 100);
        assert_eq!(report.grace_periods[0].caller.as_ref().unwrap().name, "f");
    }

    #[test]
    fn a_removal_by_sysfs_begins_with_the_first_of_its_functions() {
        let timings = timings(
            1_000_000,
            &[
                "a-1 [000] ..... 100: pci_remove_sysfs_begin: (pci_stop_and_remove_bus_device_locked+0x0/0x1) caller=remove_store+0x1/0x2",
                "a-1 [000] ..... 600: pci_remove_begin: (pci_stop_and_remove_bus_device+0x0/0x1) caller=pci_stop_and_remove_bus_device_locked+0x1/0x2",
                "a-1 [000] ..... 700: virtio_begin: (virtio_dev_remove+0x0/0x1) caller=device_remove+0x1/0x2",
                "a-1 [000] ..... 800: virtio_end: (device_remove+0x1/0x2 <- virtio_dev_remove)",
                "a-1 [000] ..... 900: pci_remove_end: (pci_stop_and_remove_bus_device_locked+0x1/0x2 <- pci_stop_and_remove_bus_device)",
                "a-1 [000] ..... 950: pci_remove_sysfs_end: (remove_store+0x1/0x2 <- pci_stop_and_remove_bus_device_locked)",
            ],
        );
        let apart = timings.report().apart;
        let parts: Vec<_> = apart.parts.iter().map(|part| part.summary.max_ns).collect();
        assert_eq!((apart.removals, parts), (1, vec![600, 100, 150]));
    }

    #[test]
    fn waits_whose_domain_is_not_told_are_counted_all_the_same() {
        let mut timings = timings(1_000_000, &[]);
        for wait in 0..1030 {
            for line in [
                format!("a-1 [000] ..... 1: srcu_begin: (synchronize_srcu+0x0/0x1) domain={wait:#x} caller=f+0x1/0x2"),
                "a-1 [000] ..... 2: srcu_end: (f+0x1/0x2 <- synchronize_srcu)".to_owned(),
            ] {
                timings.push(&parse_line(&line).unwrap());
            }
        }
        let report = timings.report();
        assert_eq!((report.left_out, report.domains_left_out, report.grace_periods[0].summary.n), (0, 6, 1030));
    }

    #[test]
    fn lost_events_do_not_mislead() {
        let mut timings = timings(
            1_000_000,
            &[
                "a-1 [000] ..... 100: srcu_begin: (synchronize_srcu+0x0/0x1) caller=f+0x1/0x2",
                "a-1 [000] ..... 900: srcu_begin: (synchronize_srcu+0x0/0x1) caller=f+0x1/0x2",
                "a-1 [000] ..... 950: srcu_end: (f+0x1/0x2 <- synchronize_srcu)",
                "b-2 [000] ..... 960: srcu_end: (f+0x1/0x2 <- synchronize_srcu)",
            ],
        );
        timings.lost(LostEvents { cpu: 0, events: Some(3) });
        let report = timings.report();
        assert_eq!(report.grace_periods[0].summary.n, 1);
        assert_eq!(report.grace_periods[0].summary.max_ns, 50);
        assert_eq!((report.ends_alone, report.lost_events), (1, 3));
    }

    proptest! {
        #[test]
        fn any_order_of_events_is_survived(events in proptest::collection::vec((any::<u8>(), any::<u16>(), any::<u64>(), "[a-z]{1,2}"), 0..600)) {
            let mut timings = Timings::new(0_u32);
            for (which, pid, ticks, caller) in events {
                let name = probes()[usize::from(which) % probes().len()].name;
                let line = format!("t-{pid} [000] ..... {ticks}: {name}: (f+0x0/0x1) caller={caller}+0x1/0x2");
                timings.push(&parse_line(&line).unwrap());
            }
            prop_assert!(timings.tasks.len() <= MAX_TASKS);
            prop_assert!(timings.grace_periods.len() <= MAX_CALLERS);
            let _ = (timings.report(), timings.open());
        }
    }
}
