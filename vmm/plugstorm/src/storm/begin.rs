//! What makes a guest this run's own: its hammers, and what depends on this host and this moment.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use plugstorm_wire::{ENTROPY_BYTES, FromGuest, PointSpec, ToGuest, Watchdogs};
use rustix::rand::{GetRandomFlags, getrandom};

use super::engine::{Storm, Trouble};
use super::guest::nanoseconds;
use super::hearing::cut;
use crate::results::EventKind;
use crate::scenario::Point;

/// Problems that are told of one guest.
const MOST_PROBLEMS: usize = 8;
/// A problem is cut here, in bytes.
const MOST_PROBLEM_BYTES: usize = 500;
/// A sentence that lists all points of our module is cut here, in bytes.
const MOST_LIST_BYTES: usize = 8000;

impl Storm<'_> {
    /// Has a guest that is configured begin; it is ready then.
    pub(super) fn begin(&mut self) -> Result<(), Trouble> {
        let asked_ns = self.set.guest.now_ns();
        self.set.guest.send(&ToGuest::Begin {
            hammers: self.hammer_specs(),
            realtime_ns: nanoseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            entropy: entropy().map_err(Trouble::Host)?,
            watchdogs: watchdogs(self.slowdown, &self.set.scenario.guest.append),
            points: self.set.scenario.points.iter().map(point).collect(),
        })?;
        self.now.awaits_begun = true;
        let time_out_ns = self.scaled(self.set.scenario.time_outs.start);
        let begun = self.wait(time_out_ns, |now| now.begun.take())?;
        let Some((t_ns, FromGuest::Begun { tsc, calibration_ns, random, problems, points_error })) = begun else {
            return Err(self.unanswered("did not begin", time_out_ns)?);
        };
        self.now.one_clock = self.is_one_clock(tsc, asked_ns, t_ns);
        self.calibrated(calibration_ns);
        if let Some(error) = points_error {
            let error = cut(error.chars().filter(|c| !c.is_control()).collect(), MOST_LIST_BYTES);
            return Err(Trouble::User(format!("the scenario's points cannot be armed: {error}")));
        }
        self.points_armed();
        for problem in problems.into_iter().take(MOST_PROBLEMS) {
            let problem = cut(problem.chars().filter(|c| !c.is_control()).collect(), MOST_PROBLEM_BYTES);
            self.record.warn(format!("a guest began with a problem: {problem}"));
        }
        let slowdown = self.slowdown;
        self.guest_says(EventKind::Begun { calibration_ns, slowdown, random }, Some(tsc))?;
        self.now.ready = true;
        Ok(())
    }
}

fn point(point: &Point) -> PointSpec {
    // At most a second, as the scenario was checked.
    let us = |delay: Duration| u32::try_from(delay.as_micros()).unwrap_or(u32::MAX);
    PointSpec { name: point.name.clone(), delay_us: point.delay.map(us), every: point.every }
}

/// Random bytes of this host's, as the wire has them.
pub(crate) fn entropy() -> Result<String, String> {
    let mut bytes = [0; ENTROPY_BYTES];
    match getrandom(&mut bytes, GetRandomFlags::empty()) {
        // So few come whole (getrandom(2)).
        Ok(count) if count == bytes.len() => Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        Ok(count) => Err(format!("this host gave {count} random bytes where {ENTROPY_BYTES} were asked for")),
        Err(errno) => Err(format!("this host gives no random bytes: {errno}")),
    }
}

/// The kernel's own time-outs, longer where the host is slower: what only tells of a starved vCPU would be a false alarm. In
/// this order whatever the slowdown, so that the most telling report comes first: RCU stall, soft lockup (twice its
/// threshold), hung task. The bounds of the first two are the kernel's: 3 to 300 (kernel/rcu/tree_stall.h), 0 to 60
/// (kernel/watchdog.c). What the scenario adds to the command line stands.
pub(crate) fn watchdogs(slowdown: f64, append: &str) -> Watchdogs {
    let limit = |names: &[&str], least, most| chosen(append, names).unwrap_or_else(|| scaled(slowdown, least, most));
    Watchdogs {
        rcu_stall_s: limit(&["rcupdate.rcu_cpu_stall_timeout"], 8.0, 100.0),
        soft_lockup_thresh_s: limit(&["watchdog_thresh", "sysctl.kernel.watchdog_thresh"], 10.0, 60.0),
        hung_task_s: limit(&["sysctl.kernel.hung_task_timeout_secs"], 30.0, 600.0),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few hundred seconds at most")]
fn scaled(slowdown: f64, least: f64, most: f64) -> u32 {
    (least * slowdown).clamp(least, most).round() as u32
}

/// What a kernel takes from such a command line: the last word counts, and a dash is as good as an underscore.
fn chosen(append: &str, names: &[&str]) -> Option<u32> {
    let mut words = append.split_ascii_whitespace().rev().filter_map(|word| word.split_once('='));
    words.find(|(name, _)| names.contains(&name.replace('-', "_").as_str()))?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::MOST_SLOWDOWN;
    use super::super::machine::COMMAND_LINE;
    use super::*;

    #[test]
    fn the_most_telling_report_comes_first_at_any_slowdown() {
        for tenths in 10..=1000 {
            let limits = watchdogs(f64::from(tenths) / 10.0, "quiet");
            let (stall, threshold, hung) = (limits.rcu_stall_s, limits.soft_lockup_thresh_s, limits.hung_task_s);
            assert!(stall < 2 * threshold && 2 * threshold < hung, "{tenths}: {stall} {threshold} {hung}");
            assert!((3..=300).contains(&stall) && threshold <= 60);
        }
    }

    #[test]
    fn a_guest_starts_with_the_limits_of_the_slowest_host() {
        let told = watchdogs(1.0, COMMAND_LINE);
        assert_eq!(told, watchdogs(MOST_SLOWDOWN, ""));
        assert_ne!(told, watchdogs(1.0, ""));
    }

    #[test]
    fn what_the_scenario_adds_stands() {
        let append = "nokaslr rcupdate.rcu-cpu-stall-timeout=21 watchdog_thresh=0 x=y sysctl.kernel.watchdog_thresh=20";
        let limits = watchdogs(1.0, append);
        assert_eq!((limits.rcu_stall_s, limits.soft_lockup_thresh_s, limits.hung_task_s), (21, 20, 30));
        assert_eq!(watchdogs(1.0, "watchdog_thresh=soon"), watchdogs(1.0, ""));
    }

    #[test]
    fn entropy_is_hexadecimal_and_new() {
        let (one, other) = (entropy().unwrap(), entropy().unwrap());
        assert_eq!(one.len(), 2 * ENTROPY_BYTES);
        assert!(one.bytes().all(|digit| digit.is_ascii_hexdigit()));
        assert_ne!(one, other);
    }
}
