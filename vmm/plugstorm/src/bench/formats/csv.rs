//! The raw samples, a line each (RFC 4180): what the others were made of, for whoever trusts no statistics but his own. Apache Otava
//! reads such files (`type: csv`, with `time` as the time column); one value a line, of one operation.

use std::fmt::Write as _;

use super::super::pool::Pool;
use crate::calendar::rfc3339;
use crate::report::visible;

const HEAD: &str = "time,boot,side,kernel,release,kind,design,settings,round,thread,value,count,each,unit";

pub(super) fn render(pool: &Pool) -> String {
    let mut text = format!("{HEAD}\r\n");
    let time = rfc3339(pool.header.started_unix_s);
    for of in &pool.measurements {
        let facts = pool.header.sides.get(&of.side);
        let kernel = field(facts.map_or("", |facts| &facts.kernel));
        let release = field(facts.map_or("", |facts| &facts.release));
        let settings: Vec<String> = of.measure.settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let (kind, design) = (field(&of.measure.kind), field(of.measure.design.as_deref().unwrap_or_default()));
        let settings = field(&settings.join(" "));
        let (boot, side) = (of.boot, of.side.letter());
        let unit = match of.measure.kind.as_str() {
            "memory" => "bytes",
            "instructions" => "instructions",
            _ => "ns",
        };
        for sample in &of.samples {
            let (round, thread, value, count) = (sample.round, sample.thread, sample.value, sample.count);
            let each = sample.each();
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "{time},{boot},{side},{kernel},{release},{kind},{design},{settings},{round},{thread},{value},{count},{each},{unit}\r\n"
            );
        }
    }
    text
}

/// Quoted where it has to be. A field that a spreadsheet would take for a formula is no name of ours, and is shown as text.
fn field(text: &str) -> String {
    let text = visible(text);
    let text = if text.starts_with(['=', '+', '-', '@']) { format!("'{text}") } else { text.into_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

#[cfg(test)]
mod tests {
    use super::super::super::simulated;
    use super::*;

    #[test]
    fn a_line_for_each_sample() {
        let pool = simulated::small();
        let text = render(&pool);
        let samples: usize = pool.measurements.iter().map(|of| of.samples.len()).sum();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), samples + 1);
        let columns = HEAD.split(',').count();
        assert!(lines.iter().all(|line| line.split(',').count() == columns));
        insta::assert_snapshot!([lines[0], lines[1], lines[lines.len() - 1]].join("\n"));
    }

    #[test]
    fn fields_are_quoted() {
        assert_eq!(field("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!([field("=1+1"), field("timing")], ["'=1+1", "timing"]);
    }
}
