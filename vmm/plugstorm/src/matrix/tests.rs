//! Matrices for the tests of this module's parts, and the tests of results and keys.

use super::*;
use crate::results::{Cycles, Finding, FindingKind, HostFacts, HostKind, RunResult, Verdict, running};
use crate::scenario::{Design, parse};

const SCENARIO: &str = "[[device]]\nname = \"gpio\"\ndriver = \"plugstorm\"\ndesign = \"unprotected\"\n[[step]]\ndo = \"add\"\n\
                        device = \"gpio\"\n[[step]]\ndo = \"remove\"\ndevice = \"gpio\"\nhow = \"surprise\"\n";
const NAMES: [&str; 2] = ["one", "two"];

pub(super) fn row(name: &str) -> Row {
    Row {
        name: name.into(),
        about: "what it is for".into(),
        file: format!("out/scenarios/{name}.toml").into(),
        digest: "0123".into(),
        cycles: 50,
        kernel: "debian-6.12".into(),
        guest: "4567".into(),
    }
}

pub(super) fn header() -> Header {
    Header {
        version: VERSION,
        plugstorm: env!("CARGO_PKG_VERSION").into(),
        command: ["plugstorm", "matrix", "--runs", "3"].map(String::from).to_vec(),
        started_unix_s: 1_767_225_600,
        runs: 3,
        scenarios: NAMES.map(row).to_vec(),
        designs: vec![Design::Unprotected, Design::StackToken],
    }
}

/// All of whose runs are still to be carried out.
pub(super) fn matrix_to_do(runs: u32) -> Matrix {
    let header = Header { runs, ..header() };
    let cells = header.scenarios.iter().enumerate();
    let cells = cells
        .flat_map(|(index, row)| header.designs.iter().map(move |design| Cell::new(index, row, *design, None, runs)))
        .collect();
    Matrix { header, state: State::Running, grounds: Vec::new(), waits: Vec::new(), cells }
}

pub(super) fn cell(scenario: &str, design: Design, runs: Vec<Option<Came>>) -> Cell {
    Cell { row: 0, scenario: scenario.into(), design, cycles: 50, not_applicable: None, runs }
}

fn caught(cycle: u32, hung: bool, title: &str) -> Option<Came> {
    let kind = if hung { FindingKind::RemovalStuck } else { FindingKind::Splat };
    Some(Came::Found { cycle, hung, titles: vec![Title { title: title.into(), alt_titles: Vec::new(), kind }] })
}

pub(super) fn found(cycle: u32, title: &str) -> Option<Came> {
    caught(cycle, false, title)
}

pub(super) fn hung(cycle: u32, title: &str) -> Option<Came> {
    caught(cycle, true, title)
}

fn ground() -> Ground {
    Ground {
        kernel: "debian-6.12".into(),
        release: Some("6.12.117+deb12-amd64".into()),
        hz: Some(250),
        preemption: Some("voluntary".into()),
        cpus: 2,
        memory_bytes: 512 << 20,
        host: "nested (QEMU's software emulation)".into(),
    }
}

/// One with everything that there is to show.
pub(super) fn matrix() -> Matrix {
    let mut matrix = matrix_to_do(3);
    matrix.header.designs.push(Design::SharedHandle);
    for (index, row) in matrix.header.scenarios.iter().enumerate() {
        matrix.cells.push(Cell::new(index, row, Design::SharedHandle, None, 3));
    }
    let uaf = "KASAN: slab-use-after-free Read in plugstorm_resource_look";
    let hang = "removal never ends: shared_handle_revoke waits in synchronize_srcu for a reader that does not exist";
    let nothing = Came::Inconclusive { reason: "hammer `pair` never ran, so it proves nothing".into() };
    for cell in &mut matrix.cells {
        cell.runs = match (cell.scenario.as_str(), cell.design) {
            ("one", Design::Unprotected) => {
                vec![found(1, uaf), found(2, "BUG: spinlock bad magic in x"), found(1, uaf)]
            }
            ("one", Design::SharedHandle) => vec![hung(12, hang), Some(Came::Passed), hung(3, hang)],
            ("two", Design::SharedHandle) => vec![Some(Came::Passed), found(49, uaf), Some(Came::Passed)],
            ("two", Design::StackToken) => vec![Some(Came::Passed), Some(nothing.clone()), None],
            _ => vec![Some(Came::Passed); 3],
        };
        if (cell.scenario.as_str(), cell.design) == ("two", Design::Unprotected) {
            cell.not_applicable = Some("`doze` needs a section that may sleep, and this design has none".into());
            cell.runs = Vec::new();
        }
    }
    matrix.state = State::Stopped;
    matrix.stood_on(ground());
    matrix
}

/// One with more columns than fit side by side, and a long name.
pub(super) fn wide() -> Matrix {
    let mut matrix = matrix_to_do(100);
    let name = "uses-of-a-descriptor-after-the-removal";
    matrix.header.scenarios[1].name = name.into();
    matrix.header.designs = vec![Design::Unprotected, Design::SharedHandle, Design::StackToken];
    matrix.cells.clear();
    for (index, row) in matrix.header.scenarios.iter().enumerate() {
        for design in &matrix.header.designs {
            let mut cell = Cell::new(index, row, *design, None, 100);
            cell.cycles = 100;
            cell.runs =
                (0..100).map(|run| if run % 3 == 0 { found(run + 1, "BUG: x") } else { Some(Came::Passed) }).collect();
            matrix.cells.push(cell);
        }
    }
    matrix.state = State::Complete;
    matrix
}

/// As a run of [`matrix_to_do`] would leave it.
pub(super) fn result_of(row: usize, design: Design, seed: u64, verdict: Verdict) -> RunResult {
    let mut scenario = parse(SCENARIO, "file", NAMES[row]).unwrap();
    scenario.override_design(design).unwrap();
    scenario.override_cycles(50).unwrap();
    let host = HostFacts { kind: HostKind::Nested, loop_rounds_per_second: None, exits_per_second: None };
    let mut result = running(&scenario, seed, "debian-6.12", host, 1.0);
    result.verdict = verdict;
    result.guest.release = Some("6.12".into());
    result.cycles = Cycles { completed: 7, ..result.cycles };
    match verdict {
        Verdict::Found => {
            let title = format!("BUG: KASAN: slab-use-after-free in {}", scenario.name);
            result.findings = vec![finding(FindingKind::Splat, &title, 6)];
        }
        Verdict::Inconclusive => result.reason = Some("6 of 50 cycles completed".into()),
        _ => {}
    }
    result
}

fn finding(kind: FindingKind, title: &str, cycle: u32) -> Finding {
    Finding {
        title: title.into(),
        alt_titles: Vec::new(),
        kind,
        count: 1,
        cycle,
        seed: 1,
        device: None,
        how: None,
        explanation: String::new(),
        hang: None,
        processors: None,
        splat: None,
        console: Vec::new(),
        known: false,
        known_reason: None,
        known_url: None,
    }
}

#[test]
fn a_hang_says_more_than_what_the_kernel_says_of_it() {
    let mut result = result_of(0, Design::Unprotected, 1, Verdict::Found);
    result.findings = vec![
        finding(FindingKind::Splat, "INFO: task hung in x", 4),
        finding(FindingKind::RemovalStuck, "removal never ends: x", 4),
    ];
    let Some(Came::Found { cycle, hung, titles }) = came(&result) else { panic!("{result:?}") };
    assert_eq!((cycle, hung), (5, true), "counted from 1");
    let titles: Vec<_> = titles.iter().map(|title| title.title.as_str()).collect();
    assert_eq!(titles, ["removal never ends: x", "INFO: task hung in x"]);
    result.findings.truncate(1);
    assert!(matches!(came(&result), Some(Came::Found { hung: false, .. })));
    for verdict in [Verdict::Running, Verdict::Interrupted] {
        assert_eq!(came(&result_of(0, Design::Unprotected, 1, verdict)), None);
    }
}

#[test]
fn a_result_is_of_one_run_only() {
    let design = Design::StackToken;
    let key = Key {
        scenario: "one",
        design,
        seed: 7,
        kernel: "debian-6.12",
        cycles: 50,
        plugstorm: env!("CARGO_PKG_VERSION"),
    };
    let fits = |change: &dyn Fn(&mut RunResult)| {
        let mut result = result_of(0, design, 7, Verdict::Clean);
        change(&mut result);
        key.fits(&result)
    };
    assert!(fits(&|_| {}));
    assert!(fits(&|result| result.verdict = Verdict::Found));
    assert!(fits(&|result| result.verdict = Verdict::Inconclusive));
    let others: [&dyn Fn(&mut RunResult); 9] = [
        &|result| result.verdict = Verdict::Running,
        &|result| result.verdict = Verdict::Interrupted,
        &|result| result.seed = 8,
        &|result| result.scenario = "two".into(),
        &|result| result.plugstorm = "9".into(),
        &|result| result.guest.kernel = "debian-6.1".into(),
        &|result| result.cycles.asked = 49,
        &|result| result.devices[0].design = Some(Design::Unprotected),
        &|result| result.devices[0].design = None,
    ];
    for (number, other) in others.iter().enumerate() {
        assert!(!fits(other), "{number}");
    }
}

#[test]
fn seeds_follow_from_the_cell_and_the_run() {
    let matrix = matrix_to_do(2);
    let mut seeds: Vec<u64> = matrix.cells.iter().flat_map(|cell| [cell.seed(1), cell.seed(2)]).collect();
    // Other runs, scenarios and designs beside it change nothing.
    assert_eq!(seeds[0], cell("one", Design::Unprotected, Vec::new()).seed(1));
    seeds.sort_unstable();
    seeds.dedup();
    assert_eq!(seeds.len(), 8);
    assert!(seeds.iter().all(|seed| *seed <= u64::from(u32::MAX)));
}
