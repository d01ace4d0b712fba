//! `plugstorm timeline`: a run on one clock.

use super::{Failure, TimelineArgs, show};
use crate::timeline::{self, FTRACE, PERFETTO, Written};
use crate::verdict::EXIT_CLEAN;

pub(super) fn main(args: &TimelineArgs) -> Result<u8, Failure> {
    let perfetto = args.perfetto.clone().unwrap_or_else(|| args.dir.join(PERFETTO));
    let ftrace = args.ftrace.clone().unwrap_or_else(|| args.dir.join(FTRACE));
    let written = timeline::write(&args.dir, &perfetto, &ftrace).map_err(|error| match error.is_of_disk() {
        true => Failure::machine(&error),
        false => Failure::user(&error),
    })?;
    let Written { without_result, events, skipped, left_out, late, perfetto_bytes, ftrace_bytes } = written;
    show::out(&format!(
        "{}: {} KiB; open it in https://ui.perfetto.dev, which keeps it in the browser\n{}: {} KiB\n{events} events\n",
        perfetto.display(),
        perfetto_bytes.div_ceil(1024),
        ftrace.display(),
        ftrace_bytes.div_ceil(1024),
    ));
    if let Some(reason) = without_result {
        show::err(&format!(
            "note: there are no rows of removals, since the run's result.json cannot be read: {reason}\n"
        ));
    }
    for (count, what) in [
        (skipped, "lines of events.jsonl are no events that this plugstorm knows, and are left out"),
        (
            left_out,
            "slices and instants are not in the trace for Perfetto: there were too many rows, or too much at once",
        ),
        (late, "events were told so late that they are placed later than they happened"),
    ] {
        if count > 0 {
            show::err(&format!("note: {count} {what}\n"));
        }
    }
    Ok(EXIT_CLEAN)
}
