//! A bisection in words: a line for each commit, and what it comes to.

use std::fmt::Write as _;

use super::came::{Came, Ran, Target};
use super::history::Remaining;
use super::model::{Bisection, Commit, Outcome, Step, Verdict};
use super::rate::percent;

/// Reasons are cut here in a line, in characters; all of them are in `bisect.json`.
const MOST_REASON: usize = 160;

/// What came of a commit, in one line: `2b9979de41aa bad: 1 of 1 runs met it (cycle 1), built in 40 s, run in 65 s`.
#[must_use]
pub fn step_line(step: &Step, target: Option<&Target>) -> String {
    let counts = step.counts(target);
    let verdict = match &step.verdict {
        None => "under way",
        Some(Verdict::Bad) => "bad",
        Some(Verdict::Good) => "good",
        Some(Verdict::Skipped { .. }) => "skipped",
    };
    let mut parts = Vec::new();
    if let Some(Verdict::Skipped { reason }) = &step.verdict {
        parts.push(first_line(reason));
    } else {
        let cycle = counts.hit_cycles.iter().min().map(|cycle| format!(" (cycle {cycle})")).unwrap_or_default();
        parts.push(format!("in {} of {} runs{cycle}", counts.hits(), counts.verdicts()));
        if counts.nothing > 0 {
            parts.push(format!("{} more prove nothing", counts.nothing));
        }
    }
    if step.release.is_some() || step.build_seconds > 0 {
        parts.push(format!("built in {}", duration(step.build_seconds)));
    }
    if !step.runs.is_empty() {
        parts.push(format!("run in {}", duration(step.storm_seconds)));
    }
    format!("{} {verdict}: {}", step.commit.short(), parts.join(", "))
}

/// All of it: `bisect.txt`.
#[must_use]
pub fn log_text(bisection: &Bisection) -> String {
    let header = &bisection.header;
    let target = bisection.target.as_ref();
    let mut text = String::new();
    let mut line = |words: &str| {
        text.push_str(words);
        text.push('\n');
    };
    line(&format!("bisection of {}, scenario {} of {} cycles", header.tree.display(), header.scenario, header.cycles));
    line(&header.command.join(" "));
    if let Some(target) = target {
        line(&format!("finding: {}", target.name()));
    }
    line("");
    line(&format!("the bad commit   {}", with_subject(&bisection.bad, target)));
    if let Some(plan) = &bisection.plan {
        line(&format!("                 {}", plan.words()));
    }
    line(&format!("the good commit  {}", with_subject(&bisection.good, target)));
    for (number, step) in (1..).zip(&bisection.steps) {
        line(&format!("{:<17}{}", format!("step {number}"), with_subject(step, target)));
    }
    let other = others(bisection);
    if !other.is_empty() {
        line("");
        line("found beside it, which counted for nothing:");
        for words in other {
            line(&format!("  {words}"));
        }
    }
    if bisection.outcome.is_some() {
        line("");
        text.push_str(&last_words(bisection));
    }
    text
}

fn with_subject(step: &Step, target: Option<&Target>) -> String {
    format!("{}\n{:17}{}", step_line(step, target), "", step.commit.subject)
}

/// What it comes to. Empty as long as that is not known.
#[must_use]
pub fn last_words(bisection: &Bisection) -> String {
    let mut text = String::new();
    let about = |commit: &Commit| format!("  {}\n  {}, {}\n", commit.subject, commit.author, commit.date);
    match &bisection.outcome {
        None => return text,
        Some(Outcome::First(first)) => {
            let _ = write!(text, "{} is the first bad commit\n{}", first.id, about(first));
        }
        Some(Outcome::Candidates(commits)) => {
            text.push_str("only skipped commits are left to try; the first bad commit is one of\n");
            for commit in commits {
                let _ = writeln!(text, "  {} {}", commit.id, commit.subject);
            }
        }
    }
    let steps = std::iter::once(&bisection.good).chain(&bisection.steps);
    let good = steps.clone().filter(|step| step.verdict == Some(Verdict::Good)).count();
    let seconds = steps
        .chain([&bisection.bad])
        .fold(0u64, |sum, step| sum.saturating_add(step.build_seconds).saturating_add(step.storm_seconds));
    let _ = writeln!(text, "{} steps, {} in all", bisection.steps.len(), duration(seconds));
    let _ = writeln!(
        text,
        "wrong with a probability of {} % at most, if the finding is no rarer elsewhere than at the bad commit: each bad commit has \
         shown it, and each of {good} good ones has passed as often as makes it good with {} %",
        risk(bisection.risk()),
        percent(bisection.plan.as_ref().map_or(0.0, |plan| plan.confidence)),
    );
    text
}

/// What else was found, and at which commits.
fn others(bisection: &Bisection) -> Vec<String> {
    let mut found: Vec<(String, Vec<&str>)> = Vec::new();
    for step in [&bisection.bad, &bisection.good].into_iter().chain(&bisection.steps) {
        for met in step.runs.iter().flat_map(|ran| &ran.findings) {
            if bisection.target.as_ref().is_some_and(|target| target.is(met)) {
                continue;
            }
            let short = step.commit.short();
            match found.iter_mut().find(|(title, _)| *title == met.title) {
                Some((_, commits)) if commits.contains(&short) => {}
                Some((_, commits)) => commits.push(short),
                None => found.push((met.title.clone(), vec![short])),
            }
        }
    }
    found.into_iter().map(|(title, commits)| format!("{title} ({})", commits.join(", "))).collect()
}

fn first_line(reason: &str) -> String {
    let line = reason.lines().next().unwrap_or_default().trim_end_matches(':');
    let more = reason.lines().nth(1).map(|second| format!(": {}", second.trim())).unwrap_or_default();
    let mut whole: String = format!("{line}{more}").chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if let Some((at, _)) = whole.char_indices().nth(MOST_REASON) {
        whole.truncate(at);
        whole.push('…');
    }
    whole
}

/// In percent, rounded up: two digits that count.
fn risk(part: f64) -> String {
    let percent = part * 100.0;
    if percent >= 1.0 {
        format!("{:.1}", (percent * 10.0).ceil() / 10.0)
    } else {
        format!("{:.2}", (percent * 100.0).ceil() / 100.0)
    }
}

/// `95 s`, `12 min`, `3 h 5 min`.
fn duration(seconds: u64) -> String {
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds.div_ceil(60)),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

/// What came of a run, in one line.
#[must_use]
pub fn run_line(ran: &Ran, came: &Came) -> String {
    let (run, took) = (ran.run, duration(ran.seconds));
    let others: Vec<&str> = ran.findings.iter().map(|met| met.title.as_str()).collect();
    match came {
        Came::Hit { cycle } => format!("run {run}: it was there, in cycle {cycle} ({took})"),
        Came::Without if others.is_empty() => format!("run {run}: without it ({took})"),
        Came::Without => format!("run {run}: without it, but with {} ({took})", others.join("; ")),
        Came::Nothing { reason } => format!("run {run} proves nothing: {} ({took})", first_line(reason)),
    }
}

/// How much there is still to do when a commit is begun, in words.
#[must_use]
pub fn what_is_left(bisection: &Bisection, remaining: Remaining) -> String {
    let Remaining { commits, steps } = remaining;
    let done = bisection.steps.iter().filter(|step| step.verdict.is_some()).count();
    let seconds = |step: &Step| step.build_seconds.saturating_add(step.storm_seconds);
    let decided: Vec<u64> = bisection.steps.iter().filter(|step| step.verdict.is_some()).map(seconds).collect();
    // Until one has been tried, the good commit is the measure: few take longer.
    let each = match u64::try_from(decided.len()).unwrap_or(0) {
        0 => seconds(&bisection.good),
        count => decided.iter().fold(0u64, |sum, seconds| sum.saturating_add(*seconds)) / count,
    };
    let more = u64::from(steps).saturating_add(1);
    let time = if each == 0 { String::new() } else { format!(", {} in all", duration(each.saturating_mul(more))) };
    format!("step {}, {commits} commits may be the first bad one, about {steps} more steps after this{time}", done + 1)
}
