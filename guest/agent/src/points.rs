//! Delay points of our module: armed as the scenario asks.

use std::path::Path;

use plugstorm_wire::{PointHits, PointSpec};

use crate::sysfs;

/// Reading it lists the points, a line each: name, kind, delay in µs, every, hits. Writing `name delay every` arms one.
const FILE: &str = "/sys/kernel/debug/plugstorm/points";
/// The kind that is no delay.
const KNOB: &str = "knob";

/// Points in one answer.
const MAX_POINTS: usize = 64;
/// What the hits of an answer may take on the wire, in bytes: a name is shorter than a line of the file, which is shorter than 96.
pub(crate) const MAX_BYTES: usize = MAX_POINTS * 128;

/// Arms them, all or none.
///
/// # Errors
/// One sentence: which points there are, if one is not; or the kernel's reason.
pub(crate) fn arm(points: &[PointSpec]) -> Result<(), String> {
    arm_in(Path::new(FILE), points)
}

/// How often these have been reached since they were armed. Takes no lock, so it does not hang with a removal.
///
/// # Errors
/// One sentence: the kernel's reason, or what it does not tell.
pub(crate) fn hits(armed: &[String]) -> Result<Vec<PointHits>, String> {
    if armed.is_empty() {
        return Ok(Vec::new());
    }
    hits_in(&sysfs::read(FILE).map_err(|error| error.to_string())?, armed)
}

fn hits_in(list: &str, armed: &[String]) -> Result<Vec<PointHits>, String> {
    let of = |name: &String| {
        let hits = list.lines().filter_map(counted).find(|(listed, _)| listed == name).map(|(_, hits)| hits);
        let hits = hits.ok_or_else(|| format!("{FILE} does not tell how often the point `{name}` was reached"))?;
        Ok(PointHits { name: name.clone(), hits })
    };
    armed.iter().take(MAX_POINTS).map(of).collect()
}

/// Name and hits of a line; nothing if it is none.
fn counted(line: &str) -> Option<(&str, u32)> {
    let mut words = line.split(' ');
    let (name, _kind) = (words.next()?, words.next()?);
    let mut number = || words.next()?.parse::<u32>().ok();
    let (_delay_us, _every, hits) = (number()?, number()?, number()?);
    words.next().is_none().then_some((name, hits))
}

fn arm_in(file: &Path, points: &[PointSpec]) -> Result<(), String> {
    if points.is_empty() {
        return Ok(());
    }
    if !file.exists() {
        return Err(format!(
            "there is no {}: our module was not loaded, or was built with PLUGSTORM_POINTS=0",
            file.display()
        ));
    }
    let list = sysfs::read(file).map_err(|error| error.to_string())?;
    let lines = points.iter().map(|point| line(&list, point)).collect::<Result<Vec<_>, _>>()?;
    lines.iter().try_for_each(|line| sysfs::write(file, line).map_err(|error| error.to_string()))
}

/// What to write for a point.
fn line(list: &str, point: &PointSpec) -> Result<String, String> {
    let PointSpec { name, delay_us, every } = point;
    let known = || list.lines().filter_map(|line| line.split_once(' '));
    let Some((_, rest)) = known().find(|(known, _)| known == name) else {
        // The kernel's order is that of linking.
        let mut names: Vec<_> = known().map(|(known, _)| known).collect();
        names.sort_unstable();
        return Err(format!("our module has no point `{name}`; it has {}", names.join(", ")));
    };
    match (rest.split(' ').next() == Some(KNOB), delay_us) {
        // Any number but 0 arms it.
        (true, None) => Ok(format!("{name} 1 {every}")),
        (true, Some(_)) => Err(format!("the point `{name}` is a knob and no delay: leave `delay` out")),
        (false, None) => Err(format!("the point `{name}` is a delay: say how long with `delay`")),
        (false, Some(us)) => Ok(format!("{name} {us} {every}")),
    }
}

/// As many as an answer has, with names as long as they can be.
#[cfg(test)]
pub(crate) fn most() -> Vec<PointHits> {
    vec![PointHits { name: "n".repeat(95), hits: u32::MAX }; MAX_POINTS]
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "driver.twice knob 0 0 0\na.one sleep 0 0 0\na.two spin 0 0 0";

    fn point(name: &str, delay_us: Option<u32>) -> PointSpec {
        PointSpec { name: name.into(), delay_us, every: 3 }
    }

    #[test]
    fn a_line_has_what_the_kernel_wants() {
        assert_eq!(line(LIST, &point("a.two", Some(200))).as_deref(), Ok("a.two 200 3"));
        assert_eq!(line(LIST, &point("driver.twice", None)).as_deref(), Ok("driver.twice 1 3"));
    }

    #[test]
    fn what_cannot_be_armed_has_a_sentence() {
        let told = |name, delay| line(LIST, &point(name, delay)).unwrap_err();
        assert_eq!(told("a.on", Some(1)), "our module has no point `a.on`; it has a.one, a.two, driver.twice");
        assert_eq!(told("a.one", None), "the point `a.one` is a delay: say how long with `delay`");
        assert!(told("driver.twice", Some(1)).contains("leave `delay` out"));
    }

    #[test]
    fn hits_are_those_of_what_was_armed() {
        let list = "driver.twice knob 1 1 2\na.one sleep 200 3 4294967295\na.two spin 0 0 7\n";
        let hits = |names: &[&str]| hits_in(list, &names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        let told = |name: &str, hits| PointHits { name: name.into(), hits };
        assert_eq!(hits(&["a.one", "driver.twice"]), Ok(vec![told("a.one", u32::MAX), told("driver.twice", 2)]));
        assert!(hits(&["a.one", "a.three"]).unwrap_err().contains("does not tell how often the point `a.three`"));
        // Where nothing was armed there need be no file.
        assert_eq!(super::hits(&[]), Ok(Vec::new()));
    }

    #[test]
    fn the_hits_of_an_answer_fit() {
        let line =
            |points| plugstorm_wire::encode(&plugstorm_wire::FromGuest::Points { id: 0, tsc: 0, points }).unwrap();
        assert!(line(most()).len() - line(Vec::new()).len() <= MAX_BYTES);
    }

    #[test]
    fn what_is_no_line_of_the_list_is_not_counted() {
        assert_eq!(counted("a.one sleep 200 3 8714"), Some(("a.one", 8714)));
        for line in ["", "a.one", "a.one sleep 200 3", "a.one sleep 200 3 -1", "a.one sleep 200 3 4294967296"] {
            assert_eq!(counted(line), None, "{line}");
        }
        for line in ["a.one sleep 200 3 5 6", "a.one sleep 200 3 5 ", "a.one  sleep 200 3 5", "a.one sleep x 3 5"] {
            assert_eq!(counted(line), None, "{line}");
        }
    }

    /// The kernel's list, cut anywhere, gives no wrong name and no wrong number but a shorter one in its last line.
    #[test]
    fn a_list_that_is_cut_gives_no_other_point() {
        let list = "a.one sleep 200 3 87\na.two spin 0 0 7\n";
        for end in 0..=list.len() {
            for (name, hits) in list[..end].lines().filter_map(counted) {
                assert!(matches!((name, hits), ("a.one", 8 | 87) | ("a.two", 7)), "{end}: {name} {hits}");
            }
        }
    }

    #[test]
    fn a_module_without_points_is_told_of_only_if_there_is_something_to_arm() {
        let nowhere = std::env::temp_dir().join(format!("plugstorm-agent-no-points-{}", std::process::id()));
        assert_eq!(arm_in(&nowhere, &[]), Ok(()));
        assert!(arm_in(&nowhere, &[point("a.one", Some(1))]).unwrap_err().contains("PLUGSTORM_POINTS=0"));
    }

    #[test]
    fn nothing_is_armed_if_one_cannot_be() {
        let file = std::env::temp_dir().join(format!("plugstorm-agent-points-{}", std::process::id()));
        std::fs::write(&file, LIST).unwrap();
        assert!(arm_in(&file, &[point("a.one", Some(5)), point("b.one", Some(5))]).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), LIST);
        assert_eq!(arm_in(&file, &[point("a.one", Some(5))]), Ok(()));
        // A plain file keeps the end of what was there.
        assert!(std::fs::read_to_string(&file).unwrap().starts_with("a.one 5 3"));
        std::fs::remove_file(&file).unwrap();
    }
}
