use std::fs;

use proptest::prelude::*;

use super::*;

const EVENTS_OF_A_RUN: &str = r#"{"t_ns":397112,"source":"host","event":"run_began","scenario":"steady","seed":7,"cycles":1,"kernel":"debian-6.12"}
{"t_ns":500000,"source":"host","event":"slot","slot":0,"what":"events cleared: presence, link"}
{"t_ns":10637799247,"source":"guest","guest_t_ns":10621729929,"event":"trace","trace":{"task":"irq/25-pciehp","pid":63,"cpu":1,"clock_ticks":23642724793,"name":"srcu_begin","function":{"name":"synchronize_srcu"},"returned_to":null,"fields":[["domain","0xffff89a95f745f00"],["caller","shared_handle_init+0x74/0xe0 [plugstorm]"]]}}
{"t_ns":10637799300,"source":"guest","guest_t_ns":10621929929,"event":"trace","trace":{"task":"irq/25-pciehp","pid":63,"cpu":1,"clock_ticks":23642724999,"name":"srcu_end","function":{"name":"synchronize_srcu"},"returned_to":{"name":"shared_handle_init","module":"plugstorm"},"fields":[]}}
{"t_ns":10630000000,"source":"guest","event":"note","text":"first line\nsecond line"}
{"t_ns":10650000000,"source":"guest","event":"splat","title":"WARNING in f"}
{"t_ns":10700000000,"source":"host","event":"run_ended","verdict":"found","reason":"WARNING in f"}
"#;

fn run(events: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(EVENTS), events).unwrap();
    dir
}

fn written(dir: &Path) -> Result<Written, TimelineError> {
    write(dir, &dir.join(PERFETTO), &dir.join(FTRACE))
}

#[test]
fn the_text_is_sorted_and_has_the_kernels_columns() {
    let dir = run(EVENTS_OF_A_RUN.as_bytes());
    let told = written(dir.path()).unwrap();
    assert_eq!((told.events, told.skipped, told.left_out, told.late), (7, 0, 0, 0));
    let text = fs::read_to_string(dir.path().join(FTRACE)).unwrap();
    assert_eq!(text.len() as u64, told.ftrace_bytes);
    assert_eq!(fs::metadata(dir.path().join(PERFETTO)).unwrap().len(), told.perfetto_bytes);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "nothing temporary is left");
    insta::assert_snapshot!(text);
}

#[test]
fn what_reads_the_kernels_traces_reads_ours() {
    use plugstorm_observe::trace::parse_line;
    let dir = run(EVENTS_OF_A_RUN.as_bytes());
    written(dir.path()).unwrap();
    let text = fs::read_to_string(dir.path().join(FTRACE)).unwrap();
    // Our own reader wants whole ticks for a time.
    let ticks = |line: &str| line.replacen("10.621729929", "10621729929", 1);
    let event = text.lines().map(ticks).find_map(|line| parse_line(&line)).unwrap();
    assert_eq!((event.task.as_str(), event.pid, event.cpu), ("irq/25-pciehp", 63, 1));
    assert_eq!(event.caller().unwrap().to_string(), "shared_handle_init [plugstorm]");
}

#[test]
fn a_folder_that_is_no_runs_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let error = written(dir.path()).unwrap_err();
    assert!(matches!(error, TimelineError::NoRun { .. }), "{error}");
    fs::write(dir.path().join(EVENTS), "").unwrap();
    assert_eq!(written(dir.path()).unwrap().events, 0);
    let error = write(dir.path(), &dir.path().join("none/x"), &dir.path().join(FTRACE)).unwrap_err();
    assert!(matches!(error, TimelineError::Unwritable { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_cut_of_a_file_is_survived(cut in 0_usize..EVENTS_OF_A_RUN.len(), byte: u8, at in 0_usize..EVENTS_OF_A_RUN.len()) {
        let mut events = EVENTS_OF_A_RUN.as_bytes()[..cut].to_vec();
        if let Some(place) = events.get_mut(at) {
            *place = byte;
        }
        let dir = run(&events);
        prop_assert!(written(dir.path()).unwrap().events <= 7);
    }
}
