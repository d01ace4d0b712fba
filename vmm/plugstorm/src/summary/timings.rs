//! What the guest's own trace adds up to: removals taken apart, and grace periods by who waited, in which mode, for what.

use std::fmt::{self, Write as _};

use plugstorm_observe::timing::{CallerDomains, GracePeriodMode, GracePeriods, render_histogram};

use super::{count, duration, write_percentiles};
use crate::results::{GuestFacts, RunResult};

pub(super) fn write(text: &mut String, result: &RunResult) -> fmt::Result {
    let timings = &result.timings;
    if !timings.spans.is_empty() {
        writeln!(text, "\nparts, from the guest's own trace; one may be inside another")?;
    }
    for span in &timings.spans {
        write_percentiles(text, span.span.describe(), Some(&span.summary))?;
    }
    let apart = &timings.apart;
    if apart.removals > 0 {
        writeln!(
            text,
            "\na removal, part by part: {}, {} waited for in their drivers",
            count(apart.removals, "removal"),
            count(apart.grace_periods, "grace period")
        )?;
    }
    for part in &apart.parts {
        write_percentiles(text, part.part.describe(), Some(&part.summary))?;
    }
    write_grace_periods(text, result)?;
    if timings.lost_events > 0 {
        writeln!(text, "\n{} trace events were lost: the parts above lack them", timings.lost_events)?;
    }
    Ok(())
}

fn write_grace_periods(text: &mut String, result: &RunResult) -> fmt::Result {
    let timings = &result.timings;
    if timings.grace_periods.is_empty() {
        return Ok(());
    }
    writeln!(text, "\nSRCU grace periods, {}", timer(&result.guest))?;
    writeln!(
        text,
        "  expedited: the domain had been idle for longer than srcutree.exp_holdoff, or the caller asked for haste"
    )?;
    writeln!(
        text,
        "  ordinary: the domain had been in use just before, and the kernel's delays are counted in jiffies"
    )?;
    for grace in &timings.grace_periods {
        let mode = match grace.mode {
            GracePeriodMode::Expedited => "expedited",
            GracePeriodMode::Ordinary => "ordinary",
            _ => "mode unknown",
        };
        writeln!(text, "\ngrace periods of {}, {mode}", caller(grace))?;
        for line in render_histogram(&grace.summary).lines() {
            writeln!(text, "  {line}")?;
        }
    }
    // Where everybody waited for one domain of their own there is nothing to tell apart.
    for domains in timings.domains.iter().filter(|domains| domains.distinct > 1) {
        write_domains(text, domains)?;
    }
    Ok(())
}

fn write_domains(text: &mut String, domains: &CallerDomains) -> fmt::Result {
    let caller = domains.caller.as_ref().map_or_else(|| "an unknown caller".to_owned(), ToString::to_string);
    writeln!(text, "\n{caller} waited for {}, the longest in all:", count(domains.distinct, "domain"))?;
    for waits in domains.longest.iter().take(3) {
        let modes = [(waits.expedited, "expedited"), (waits.ordinary, "ordinary"), (waits.unknown, "mode unknown")];
        let modes: Vec<_> = modes.iter().filter(|(n, _)| *n > 0).map(|(n, mode)| format!("{n} {mode}")).collect();
        writeln!(
            text,
            "  {}  {:<21} {:<28} {:<9} in all, longest {}",
            waits.domain,
            waits.place.describe(),
            modes.join(", "),
            duration(waits.total_ns),
            duration(waits.longest_ns)
        )?;
    }
    Ok(())
}

fn caller(grace: &GracePeriods) -> String {
    grace.caller.as_ref().map_or_else(|| "an unknown caller".to_owned(), ToString::to_string)
}

/// What grace periods depend on.
fn timer(guest: &GuestFacts) -> String {
    let hz = match guest.hz {
        Some(hz) if hz > 0 => format!("HZ {hz} (a jiffy is {})", duration(1_000_000_000 / u64::from(hz))),
        _ => "HZ not told".to_owned(),
    };
    match &guest.preemption {
        Some(model) => format!("{hz}, preemption {model}"),
        None => format!("{hz}, preemption as the kernel was built"),
    }
}

#[cfg(test)]
mod tests {
    use plugstorm_observe::timing::{DomainPlace, DomainWaits, PartSummary, RemovalPart, RemovalsApart, Summary};

    use super::*;
    use crate::summary::tests::base;

    #[test]
    fn a_removal_is_shown_part_by_part_and_domains_by_who_waited() {
        let mut result = base();
        result.guest.hz = Some(250);
        result.guest.preemption = Some("voluntary".into());
        let summary = |us: u64| Summary::of((0..100).map(|index| us * 1_000 + index)).unwrap();
        let parts = [(RemovalPart::UntilDriver, 900), (RemovalPart::Wait, 18_000), (RemovalPart::UntilGone, 4_000)];
        let parts = parts.map(|(part, us)| PartSummary { part, summary: summary(us) }).to_vec();
        result.timings.apart = RemovalsApart { removals: 100, grace_periods: 200, parts };
        let waits = |domain: &str, ordinary, total_ns| DomainWaits {
            domain: domain.into(),
            expedited: 1,
            ordinary,
            unknown: 0,
            total_ns,
            longest_ns: 9_000_000,
            place: DomainPlace::Allocated,
        };
        let longest = vec![waits("0xffff888003a3c0e8", 90, 810_000_000), waits("0xffff888003a3d0e8", 0, 9_000_000)];
        result.timings.domains = vec![CallerDomains { caller: None, distinct: 2, longest }];
        let mut text = String::new();
        write(&mut text, &result).unwrap();
        insta::assert_snapshot!(text);
    }
}
