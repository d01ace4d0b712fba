//! What the detector makes of the shapes in which kernels report, one file a family (`tests/reports/*.txt`).
//!
//! The logs are written by hand after the kernel's source, each as short as its kind allows. A case begins with what is
//! expected of its first report, in the header lines of syzkaller's test data (`TITLE:`, `ALT:`, `TYPE:`, `CORRUPTED:`,
//! `PANICKED:`, `SUPPRESSED:`), then an empty line, then the log; lines of `%` part cases, and `#` begins a comment. A case
//! without `TITLE:` must yield no report.

#[cfg(test)]
mod cases {
    use std::collections::BTreeSet;

    use plugstorm_observe::splat::{Detector, Splat, detect};

    /// The headers and the log.
    fn parts(case: &str) -> (Vec<(&str, &str)>, &str) {
        let (headers, log) = case.split_once("\n\n").unwrap();
        let headers = headers.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        (headers.map(|line| line.split_once(": ").unwrap()).collect(), log)
    }

    /// What is expected of a case, and what was found, in the words of the headers.
    fn compare(case: &str) -> (BTreeSet<String>, BTreeSet<String>) {
        let (headers, log) = parts(case);
        let line = |name: &str, value: &str| match name {
            "TYPE" => format!("TYPE: {}", value.to_lowercase().replace('_', "-")),
            name => format!("{name}: {value}"),
        };
        let expected = headers.iter().map(|(name, value)| line(name, value)).collect();
        let Some(splat) = detect(log.as_bytes()).into_iter().next() else { return (expected, BTreeSet::new()) };
        let mut found = BTreeSet::from([line("TITLE", &splat.title)]);
        found.extend(splat.alt_titles.iter().map(|title| line("ALT", title)));
        let kind = serde_json::to_value(splat.kind).unwrap();
        found.extend(kind.as_str().filter(|kind| *kind != "unknown").map(|kind| line("TYPE", kind)));
        let flags = [
            ("CORRUPTED", splat.corrupted.is_some()),
            ("SUPPRESSED", splat.suppressed.is_some()),
            ("PANICKED", splat.panicked),
        ];
        found.extend(flags.iter().filter(|(_, set)| *set).map(|(name, _)| line(name, "Y")));
        (expected, found)
    }

    fn cases() -> Vec<(String, String)> {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reports");
        let mut cases = Vec::new();
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            cases.extend(text.split("\n%\n").enumerate().map(|(at, case)| (format!("{name} {at}"), case.to_owned())));
        }
        cases.sort();
        cases
    }

    #[test]
    fn every_shape_is_read() {
        let mut wrong = Vec::new();
        for (name, case) in cases() {
            let (expected, found) = compare(&case);
            if expected != found {
                wrong.push(format!("{name}: expected {expected:#?}, found {found:#?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// What a report is does not depend on what comes after it, and it does not wait for long.
    #[test]
    fn every_report_is_out_soon_after_its_last_line() {
        for (name, case) in cases() {
            let (_, log) = parts(&case);
            let expected = detect(log.as_bytes());
            // A kernel that has panicked says nothing more.
            if expected.is_empty() || expected.iter().any(|splat| splat.panicked) {
                continue;
            }
            let mut detector = Detector::for_log();
            let mut found: Vec<Splat> = Vec::new();
            detector.push(log.as_bytes(), |splat| found.push(splat));
            if !log.ends_with('\n') {
                detector.push(b"\n", |splat| found.push(splat));
            }
            for line in 0..1100 {
                detector.push(format!("[  999.000000][    T1] quiet{line}: enough\n").as_bytes(), |splat| {
                    found.push(splat);
                });
            }
            assert!(!detector.is_inside(), "{name} is still open");
            assert_eq!(found, expected, "{name}");
        }
    }
}
