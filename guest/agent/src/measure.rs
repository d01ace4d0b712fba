//! Measures of our module for measuring (guest/module/bench.h): one request is one write, which returns when it is over.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use plugstorm_wire::{FromGuest, MAX_REQUEST_BYTES, MAX_RESULTS_BYTES};

use crate::clock::tsc;
use crate::sysfs;

const RUN: &str = "/sys/kernel/debug/plugstorm_bench/run";
const RESULTS: &str = "/sys/kernel/debug/plugstorm_bench/results";

/// Answers [`plugstorm_wire::ToGuest::Measure`].
pub(crate) fn measure(id: u64, request: &str) -> FromGuest {
    let began_tsc = tsc();
    let error = ask(Path::new(RUN), request).err();
    let ended_tsc = tsc();
    // Of a request that failed it says why.
    let (results, error) = match (results(Path::new(RESULTS)), error) {
        (Ok(results), error) => (results, error),
        (Err(unread), error) => (String::new(), error.or(Some(unread))),
    };
    FromGuest::Measured { id, began_tsc, ended_tsc, results, error }
}

fn ask(run: &Path, request: &str) -> Result<(), String> {
    if request.len() > MAX_REQUEST_BYTES {
        return Err(format!("a request of {} bytes is too long: {MAX_REQUEST_BYTES} at most", request.len()));
    }
    sysfs::write(run, request).map_err(|error| error.to_string())
}

/// What the module says, as far as it may be sent: what it prints is plain text, and the line that carries it is bounded.
fn results(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_RESULTS_BYTES as u64).read_to_end(&mut bytes));
    read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(bytes.into_iter().map(char::from).filter(|c| c.is_ascii_graphic() || matches!(c, ' ' | '\n')).collect())
}

#[cfg(test)]
mod tests {
    use plugstorm_wire::{MAX_LINE_BYTES, encode};

    use super::*;

    #[test]
    fn what_is_sent_fits_into_a_line_whatever_the_module_prints() {
        let folder = std::env::temp_dir().join(format!("plugstorm-agent-measure-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("results");
        std::fs::write(&file, "0 1 2 3\nnote a\t\u{1b}b\n").unwrap();
        assert_eq!(results(&file).unwrap(), "0 1 2 3\nnote ab\n");
        for much in ["\u{1}", "\n", "\"", "1 2 3 4\n", "\u{e9}"] {
            std::fs::write(&file, much.repeat(MAX_RESULTS_BYTES)).unwrap();
            let results = results(&file).unwrap();
            let error = Some("x".repeat(4096));
            let measured = FromGuest::Measured { id: u64::MAX, began_tsc: 1, ended_tsc: 2, results, error };
            // A quotation mark takes two bytes in JSON, as a line feed does.
            assert!(encode(&measured).unwrap().len() <= MAX_LINE_BYTES, "{much:?}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_request_that_cannot_be_made_is_a_sentence() {
        let nowhere = Path::new("/nonexistent/run");
        assert!(ask(nowhere, "measure=clock").unwrap_err().contains("/nonexistent/run"));
        assert!(ask(nowhere, &"x".repeat(MAX_REQUEST_BYTES + 1)).unwrap_err().contains("too long"));
        let FromGuest::Measured { results, error: Some(error), .. } = measure(1, "measure=clock") else {
            panic!("it was measured")
        };
        assert!(results.is_empty() && error.contains("plugstorm_bench"), "{error}");
    }
}
