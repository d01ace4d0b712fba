//! What several runs come to, for a terminal.

use std::fmt::Write as _;

use super::text::{one_line, rates};
use super::{Report, command};

pub(super) fn render(report: &Report) -> String {
    let mut text = format!("{}  {}: {}\n", report.overall().word(), runs(report), report.headline());
    for found in &report.findings {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "\n  {}", one_line(&found.title));
        for rate in rates(report, found) {
            let _ = writeln!(text, "    {}", one_line(&rate));
        }
        if let Some(why) = &found.known {
            let _ = writeln!(text, "    known, and accepted: {}", one_line(why));
        }
        if let Some((run, _)) = found.first(&report.runs) {
            let _ = writeln!(text, "    again: {}", one_line(&command(&run.result)));
        }
    }
    for note in &report.unread {
        let _ = writeln!(text, "\nnote: {}", one_line(note));
    }
    text.push('\n');
    text
}

fn runs(report: &Report) -> String {
    let of = match report.settings.as_slice() {
        [setting] => setting.name(),
        settings => format!("{} settings", settings.len()),
    };
    one_line(&format!("{} runs of {of}", report.runs.len()))
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn of_many_runs() {
        let [_, many] = sample::reports();
        let ten = (0..10).map(|seed| {
            let mut result = if seed < 3 { sample::found() } else { sample::clean_like_found() };
            result.seed = seed;
            result.findings.iter_mut().for_each(|finding| finding.cycle = u32::try_from(seed).unwrap() * 3);
            result
        });
        insta::assert_snapshot!(format!("{}{}", render(&many), render(&sample::report(ten))));
    }
}
