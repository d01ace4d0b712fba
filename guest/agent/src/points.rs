//! Delay points of our module: armed as the scenario asks.

use std::path::Path;

use plugstorm_wire::PointSpec;

use crate::sysfs;

/// Reading it lists the points, a line each: name, kind, delay in µs, every, hits. Writing `name delay every` arms one.
const FILE: &str = "/sys/kernel/debug/plugstorm/points";
/// The kind that is no delay.
const KNOB: &str = "knob";

/// Arms them, all or none.
///
/// # Errors
/// One sentence: which points there are, if one is not; or the kernel's reason.
pub(crate) fn arm(points: &[PointSpec]) -> Result<(), String> {
    arm_in(Path::new(FILE), points)
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
