//! The kernel's own measures of RCU, `refscale` and `rcuscale` (kernel/rcu/refscale.c, rcuscale.c), in the same guest: their words for
//! what our module measures too.
//!
//! Each is a module that measures while it is loaded and prints what came out: refscale when it is done, rcuscale when it is
//! removed. One at a time: a second one gives `-EBUSY` (kernel/torture.c).

use super::model::{Measure, Sample};
use super::request::{Answer, plain};
use super::session::{Session, SessionError};

/// Both need it.
const TORTURE: &str = "torture.ko";
/// For a test to end, times the slowdown, in nanoseconds: 100 grace periods at HZ=100 take some 4 s.
const TEST_NS: u64 = 60_000_000_000;
/// For the next line of a list that has begun.
const LINE_NS: u64 = 5_000_000_000;
/// Measurements of a writer that are taken. rcuscale makes 10000 at most (`MAX_MEAS`).
const MOST_SAMPLES: usize = 4000;

/// The measure of the kernel's that is of the same thing as one of ours; nothing where there is none.
#[must_use]
pub fn counterpart(ours: &Measure) -> Option<Measure> {
    let setting = |key: &str| ours.settings.get(key).cloned();
    let (kind, settings) = match ours.kind.as_str() {
        "primitive" => {
            let pairs = [("scale_type", "primitive"), ("nreaders", "threads"), ("loops", "loops"), ("nruns", "rounds")];
            ("refscale", pairs.map(|(theirs, key)| (theirs, setting(key))).to_vec())
        }
        "grace-period" => {
            let expedited = setting("expedited").map(|word| u8::from(word == "yes").to_string());
            let pairs = [
                ("scale_type", Some("srcud".to_owned())),
                ("nreaders", setting("readers")),
                ("nwriters", Some("1".to_owned())),
                ("writer_holdoff", setting("gap_us")),
                ("gp_exp", expedited),
            ];
            ("rcuscale", pairs.to_vec())
        }
        _ => return None,
    };
    let settings: Option<_> = settings.into_iter().map(|(key, value)| Some((key.to_owned(), value?))).collect();
    Some(Measure { kind: kind.to_owned(), design: None, settings: settings? })
}

/// Whether the kernel itself measures it.
#[must_use]
pub fn is_of_the_kernel(measure: &Measure) -> bool {
    ["refscale", "rcuscale"].contains(&measure.kind.as_str())
}

/// Has the kernel measure it.
///
/// # Errors
/// [`SessionError`]. That it has no such module is none, but an answer with an error.
pub fn measure(session: &mut Session<'_>, measure: &Measure) -> Result<Answer, SessionError> {
    // Loaded already, by the one before.
    let _ = session.load(TORTURE, "")?;
    session.from_here();
    let name = measure.kind.as_str();
    // No wait before, no word of progress, and the guest goes on afterwards.
    let settings = measure.settings.iter().map(|(key, value)| format!("{key}={value} "));
    let parameters = format!("{}holdoff=0 verbose=0 shutdown=0", settings.collect::<String>());
    if let Some(error) = session.load(&format!("{name}.ko"), &parameters)? {
        let error = format!("{error}: is it a kernel with CONFIG_RCU_SCALE_TEST=m and CONFIG_RCU_REF_SCALE_TEST=m?");
        return Ok(Answer { error: Some(error), ..Answer::default() });
    }
    let heard = if name == "refscale" { refscale(session, measure) } else { rcuscale(session) };
    // Whatever came of it, the next one needs its place.
    let answer = match heard? {
        Ok(samples) => Answer { samples, ..Answer::default() },
        Err(error) => Answer { error: Some(error), ..Answer::default() },
    };
    if name == "refscale"
        && let Some(error) = session.unload(name)?
    {
        return Ok(Answer { error: Some(error), ..Answer::default() });
    }
    Ok(answer)
}

type Samples = Result<Vec<Sample>, String>;

/// A mean for each run, in nanoseconds with three decimals.
fn refscale(session: &mut Session<'_>, measure: &Measure) -> Result<Samples, SessionError> {
    let runs = measure.settings.get("nruns").and_then(|runs| runs.parse().ok()).unwrap_or(0).min(MOST_SAMPLES);
    if let Err(complaint) = session.line(TEST_NS, "did not end refscale", |line| ended(line, "END OF TEST"))? {
        return Ok(Err(complaint));
    }
    let mut samples = Vec::new();
    while samples.len() < runs {
        samples.push(session.line(LINE_NS, "did not list refscale's runs", run)?);
    }
    Ok(Ok(samples))
}

/// Each wait of the writer's.
fn rcuscale(session: &mut Session<'_>) -> Result<Samples, SessionError> {
    if let Err(complaint) = session.line(TEST_NS, "did not end rcuscale", |line| ended(line, "Test complete"))? {
        return Ok(Err(complaint));
    }
    session.from_here();
    if let Some(error) = session.unload("rcuscale")? {
        return Ok(Err(error));
    }
    let listed = session.line(LINE_NS, "did not list rcuscale's writer", writer)?;
    let mut samples = Vec::new();
    while samples.len() < listed.min(MOST_SAMPLES) {
        samples.push(session.line(LINE_NS, "did not list rcuscale's measurements", duration)?);
    }
    Ok(Ok(samples))
}

/// The end of a test, or what was wrong with it (`SCALEOUT_ERRSTRING`).
fn ended(line: &str, end: &str) -> Option<Result<(), String>> {
    if line.contains(end) {
        return Some(Ok(()));
    }
    line.split_once("-scale:!!! ").map(|(_, complaint)| Err(plain(complaint)))
}

/// What is after the kernel's time stamp.
fn said(line: &str) -> &str {
    match line.split_once("] ") {
        Some((stamp, said)) if stamp.starts_with('[') => said,
        _ => line,
    }
}

/// `RUN<tab>NS.DDD`.
fn run(line: &str) -> Option<Sample> {
    let (run, time) = said(line).split_once('\t')?;
    let (whole, thousandths) = time.trim().split_once('.')?;
    let round = run.trim().parse::<u32>().ok()?.checked_sub(1)?;
    let thousandths = thousandths.parse::<u64>().ok().filter(|of| *of < 1000)?;
    let value = whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(thousandths)?;
    Some(Sample { round, thread: 0, value, count: 1000 })
}

/// `… writer 0 gps: 101`.
fn writer(line: &str) -> Option<usize> {
    let (before, count) = line.rsplit_once(" gps: ")?;
    before.contains(" writer ").then(|| count.trim().parse().ok())?
}

/// `… 0 writer-duration: ROUND NS`.
fn duration(line: &str) -> Option<Sample> {
    let (_, numbers) = line.split_once(" writer-duration: ")?;
    let mut numbers = numbers.split_whitespace();
    let (round, value) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    Some(Sample { round, thread: 0, value, count: 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(kind: &str, settings: &[(&str, &str)]) -> Measure {
        let settings = settings.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        Measure { kind: kind.into(), design: None, settings }
    }

    #[test]
    fn each_of_ours_has_its_counterpart() {
        let settings = [("primitive", "srcu"), ("threads", "2"), ("rounds", "20"), ("loops", "10000")];
        let theirs = counterpart(&ours("primitive", &settings)).unwrap();
        assert_eq!(theirs.name(), "refscale/nreaders=2/nruns=20/scale_type=srcu");
        let settings = [("readers", "2"), ("gap_us", "0"), ("expedited", "yes"), ("rounds", "20")];
        let theirs = counterpart(&ours("grace-period", &settings)).unwrap();
        assert_eq!(theirs.name(), "rcuscale/gp_exp=1/nreaders=2/nwriters=1/scale_type=srcud/writer_holdoff=0");
        assert!(is_of_the_kernel(&theirs));
        assert_eq!(counterpart(&ours("grace-period", &settings[..2])), None);
        assert_eq!(counterpart(&ours("access", &[])), None);
    }

    #[test]
    fn lines_are_read_with_and_without_their_time() {
        let sample = |round, value, count| Some(Sample { round, thread: 0, value, count });
        assert_eq!(run("1\t4.500"), sample(0, 4500, 1000));
        assert_eq!(run("[   12.345678] 20\t105.007"), sample(19, 105_007, 1000));
        for other in ["Runs\tTime(ns)", "0\t4.500", "1\t4", "1\t4.5000", "", "1 4.500", "1\t99999999999999999999.000"] {
            assert_eq!(run(other), None, "{other:?}");
        }
        assert_eq!(writer("[   2.0] srcud-scale: writer 0 gps: 101"), Some(101));
        assert_eq!(writer("srcud-scale: start: 1 end: 2 duration: 3 gps: 101 batches: 9"), None);
        assert_eq!(duration("[ 2.0] srcud-scale:    0 writer-duration:    17 11998052"), sample(17, 11_998_052, 1));
        assert_eq!(duration("srcud-scale:    0 writer-duration:    17"), None);
        assert_eq!(ended("srcu-ref-scale: END OF TEST. Calculating", "END OF TEST"), Some(Ok(())));
        let complaint = ended("srcu-scale:!!! All grace periods expedited\u{1b}", "Test complete");
        assert_eq!(complaint, Some(Err("All grace periods expedited".into())));
        assert_eq!(ended("something else", "Test complete"), None);
    }
}
