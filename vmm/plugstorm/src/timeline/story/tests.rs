use proptest::prelude::*;

use super::*;
use crate::results::Event;
use crate::timeline::journal::Reader;

/// Events as the file has them, in the order of time, on one line a mark.
fn told(lines: &str) -> String {
    let mut story = Story::new(vec!["gpio".into(), "other".into()], 2, vec![("hz", "250".into())]);
    let mut reader = Reader::new(lines.as_bytes());
    let mut events: Vec<_> = std::iter::from_fn(|| reader.next().unwrap()).collect();
    assert_eq!(reader.skipped(), 0);
    events.sort_by_key(|timed| timed.at_ns);
    let mut marks: Vec<Mark> = Vec::new();
    for timed in &events {
        marks.extend(story.tell(timed));
    }
    marks.extend(story.finish());
    marks.iter().map(line).collect()
}

fn line(mark: &Mark) -> String {
    let Mark { at_ns, track, shape, arguments, flow } = mark;
    let row = track.name(&["gpio".to_owned(), "other".to_owned()]);
    let (sign, name) = match shape {
        Shape::Begin(name) => ("[", name.as_str()),
        Shape::End => ("]", ""),
        Shape::Instant(name) => (".", name.as_str()),
    };
    let arguments: Vec<_> = arguments
        .iter()
        .filter(|(key, _)| *key != "clock")
        .map(|(key, value)| match value {
            Value::Text(text) => format!("{key}={text}"),
            Value::Number(number) => format!("{key}={number}"),
        })
        .collect();
    let flow = flow.map(|flow| format!(" ->{flow}")).unwrap_or_default();
    format!("{at_ns:>6} {row:<28} {sign}{name}{flow} {}", arguments.join(" ")).trim_end().to_owned() + "\n"
}

/// The begins and ends of every row fit each other.
fn nests(marks: &[Mark]) -> bool {
    let mut depth: BTreeMap<&Track, i64> = BTreeMap::new();
    marks.iter().all(|mark| {
        let depth = depth.entry(&mark.track).or_default();
        *depth += match mark.shape {
            Shape::Begin(_) => 1,
            Shape::End => -1,
            Shape::Instant(_) => 0,
        };
        *depth >= 0
    })
}

const CYCLE: &str = r#"{"t_ns":1,"source":"host","event":"run_began","scenario":"steady","seed":7,"cycles":1,"kernel":"debian-6.12"}
{"t_ns":2,"source":"host","event":"fork_began","fork":1,"snapshot":"auto-1","ns":5}
{"t_ns":9,"source":"guest","guest_t_ns":8,"event":"begun","calibration_ns":1,"slowdown":1.5,"random":3}
{"t_ns":10,"source":"host","event":"cycle_began","cycle":0}
{"t_ns":11,"source":"host","event":"add_asked","cycle":0,"device":"gpio","by":"plug"}
{"t_ns":12,"source":"host","event":"slot","slot":0,"what":"interrupt"}
{"t_ns":13,"source":"host","event":"slot","slot":0,"what":"events cleared: presence, link"}
{"t_ns":30,"source":"guest","guest_t_ns":14,"event":"trace","trace":{"task":"irq/25-pciehp","pid":61,"cpu":1,"clock_ticks":1,"name":"slot_begin","function":{"name":"pciehp_handle_presence_or_link_change"},"returned_to":null,"fields":[["caller","pciehp_ist+0x1/0x2"]]}}
{"t_ns":21,"source":"guest","guest_t_ns":20,"event":"uevent","action":"add","devpath":"/devices/pci0000:00/0000:00:01.0/0000:01:00.0","subsystem":"pci","devname":null}
{"t_ns":30,"source":"guest","guest_t_ns":22,"event":"trace","trace":{"task":"irq/25-pciehp","pid":61,"cpu":0,"clock_ticks":1,"name":"slot_end","function":{"name":"pciehp_handle_presence_or_link_change"},"returned_to":{"name":"pciehp_ist"},"fields":[]}}
{"t_ns":31,"source":"host","event":"add_finished","cycle":0,"device":"gpio","node":"gpiochip0"}
{"t_ns":32,"source":"host","event":"hammer_asked","cycle":0,"hammer":"pair","seed":4}
{"t_ns":34,"source":"guest","guest_t_ns":33,"event":"hammer_started","cycle":0,"hammer":"pair","node":"/dev/gpiochip0","descriptors":1,"threads":2}
{"t_ns":35,"source":"host","event":"pause","cycle":0,"ns":5}
{"t_ns":40,"source":"host","event":"removal_asked","cycle":0,"device":"gpio","how":"surprise"}
{"t_ns":41,"source":"host","event":"slot","slot":0,"what":"interrupt"}
{"t_ns":90,"source":"guest","guest_t_ns":50,"event":"trace","trace":{"task":"irq/25-pciehp","pid":61,"cpu":1,"clock_ticks":1,"name":"slot_begin","function":{"name":"pciehp_handle_presence_or_link_change"},"returned_to":null,"fields":[]}}
{"t_ns":90,"source":"guest","guest_t_ns":51,"event":"trace","trace":{"task":"irq/25-pciehp","pid":61,"cpu":1,"clock_ticks":1,"name":"gpiochip_begin","function":{"name":"gpiochip_remove"},"returned_to":null,"fields":[]}}
{"t_ns":90,"source":"guest","guest_t_ns":52,"event":"trace","trace":{"task":"irq/25-pciehp","pid":61,"cpu":1,"clock_ticks":1,"name":"srcu_begin","function":{"name":"synchronize_srcu"},"returned_to":null,"fields":[["domain","0xffff8880"],["caller","gpiochip_remove+0x66/0x160"]]}}
{"t_ns":90,"source":"guest","guest_t_ns":53,"event":"trace","trace":{"task":"irq/25-pciehp","pid":61,"cpu":1,"clock_ticks":1,"name":"srcu_mode","function":{"name":"__synchronize_srcu"},"returned_to":null,"fields":[["domain","0xffff8880"],["do_norm","0"]]}}
"#;

const CLEAN_END: &str = r#"{"t_ns":90,"source":"guest","guest_t_ns":60,"event":"trace","trace":{"task":"irq/25-pciehp","pid":61,"cpu":1,"clock_ticks":1,"name":"srcu_end","function":{"name":"synchronize_srcu"},"returned_to":{"name":"gpiochip_remove"},"fields":[]}}
{"t_ns":90,"source":"guest","guest_t_ns":61,"event":"trace","trace":{"task":"irq/25-pciehp","pid":61,"cpu":1,"clock_ticks":1,"name":"slot_end","function":{"name":"pciehp_handle_presence_or_link_change"},"returned_to":null,"fields":[]}}
{"t_ns":90,"source":"guest","guest_t_ns":62,"event":"uevent","action":"remove","devpath":"/devices/pci0000:00/0000:00:01.0/0000:01:00.0","subsystem":"pci","devname":null}
{"t_ns":91,"source":"host","event":"removal_seen","cycle":0,"device":"gpio","how":"surprise","by":"slot events cleared","at_ns":43}
{"t_ns":92,"source":"host","event":"removal_finished","cycle":0,"device":"gpio","how":"surprise","after_ns":21,"at_ns":62}
{"t_ns":95,"source":"guest","guest_t_ns":94,"event":"hammer_reported","cycle":0,"hammer":"pair","ended":true,"calls":9,"hanging":0,"operations":[{"operation":"get-values","calls":9,"succeeded":7,"errors":[{"errno":19,"name":"ENODEV","count":2}],"longest_ns":100}]}
{"t_ns":96,"source":"host","event":"cycle_completed","cycle":0}
{"t_ns":97,"source":"host","event":"run_ended","verdict":"clean","reason":null}
"#;

const HANGING_END: &str = r#"{"t_ns":9000,"source":"host","event":"removal_stuck","cycle":0,"device":"gpio","how":"surprise","after_ns":5000,"on":"gpiochip_remove waits"}
{"t_ns":9001,"source":"host","event":"found","cycle":0,"kind":"removal-stuck","title":"removal never ends"}
"#;

const NEXT_GUEST: &str = r#"{"t_ns":9500,"source":"host","event":"fork_began","fork":2,"snapshot":"auto-1","ns":5}
{"t_ns":9510,"source":"host","event":"cycle_began","cycle":1}
{"t_ns":9530,"source":"host","event":"migrated","cycle":1,"ns":15}
{"t_ns":9540,"source":"guest","event":"guest_ended","cause":"reset itself"}
"#;

#[test]
fn a_cycle_is_told_on_its_rows() {
    insta::assert_snapshot!(told(&format!("{CYCLE}{CLEAN_END}")));
}

#[test]
fn what_never_ends_stays_open_until_its_guest_is_gone() {
    let open = told(&format!("{CYCLE}{HANGING_END}"));
    assert!(open.ends_with("domain=0xffff8880 heard_ns=90\n"), "{open}");
    assert!(open.contains("[expedited, and never ended"), "{open}");
    let whole = told(&format!("{CYCLE}{HANGING_END}{NEXT_GUEST}"));
    insta::assert_snapshot!(
        whole.lines().skip_while(|line| !line.contains("that does not end")).collect::<Vec<_>>().join("\n")
    );
}

#[test]
fn lost_returns_and_lost_entries_do_not_mislead() {
    let trace = |at: u64, name: &str| {
        format!(
            "{{\"t_ns\":{at},\"source\":\"guest\",\"guest_t_ns\":{at},\"event\":\"trace\",\"trace\":{{\"task\":\"t\",\"pid\":1,\"cpu\":0,\
             \"clock_ticks\":1,\"name\":\"{name}\",\"function\":null,\"returned_to\":null,\"fields\":[]}}}}\n"
        )
    };
    let names =
        ["revoke_end", "revoke_begin", "srcu_begin", "revoke_begin", "srcu_begin", "srcu_begin", "srcu_end", "mine"];
    let lines: String = names.iter().zip(1..).map(|(name, at)| trace(at, name)).collect();
    let marks: Vec<_> = told(&lines).lines().filter(|line| !line.contains("vCPU")).map(str::to_owned).collect();
    insta::assert_snapshot!(marks.join("\n"));
}

#[test]
fn a_task_whose_name_is_told_late_ends_where_it_began() {
    let mut tasks = Tasks::default();
    let task = |name: &str| Track::Task { name: name.into(), lane: 0 };
    let mut row = |pid, name: &str, is_busy| tasks.row(pid, name.to_owned(), |_| is_busy);
    assert_eq!(row(7, "<...>", false), task("<...>"));
    assert_eq!(row(7, "pciehp", true), task("<...>"));
    assert_eq!(row(7, "<...>", true), task("<...>"));
    assert_eq!(row(7, "pciehp", false), task("pciehp"));
    assert_eq!(row(7, "<...>", false), task("pciehp"));
    assert_eq!(
        row(7, "another", true),
        Track::Task { name: "another".into(), lane: 0 },
        "the number is another task's now"
    );
    assert_eq!(row(8, "<...>", false), task("<...>"), "those without a name share a row");
}

#[test]
fn threads_of_one_name_share_a_row_one_after_the_other() {
    let mut tasks = Tasks::default();
    let task = |lane| Track::Task { name: "pair/0".into(), lane };
    for pid in 0..3000 {
        assert_eq!(tasks.row(pid, "pair/0".into(), |_| false), task(0));
    }
    assert_eq!(tasks.by_pid.len(), 1);
    let is_busy = |track: &Track| *track == task(0);
    assert_eq!(tasks.row(2999, "pair/0".into(), is_busy), task(0), "its own");
    assert_eq!(tasks.row(4000, "pair/0".into(), is_busy), task(1));
    assert_eq!(tasks.row(4001, "pair/0".into(), is_busy), task(1));
}

proptest! {
    #[test]
    fn any_order_of_events_nests(order in proptest::collection::vec((0_usize..40, 0_u64..5, 0_u32..3), 0..300)) {
        let whole = format!("{CYCLE}{CLEAN_END}{HANGING_END}{NEXT_GUEST}");
        let lines: Vec<Event> = whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let mut story = Story::new(vec!["gpio".into()], 2, Vec::new());
        let (mut marks, mut at_ns) = (Vec::new(), 0);
        for (which, step, pid) in order {
            at_ns += step;
            let mut event = lines[which % lines.len()].clone();
            if let EventKind::Trace { trace } = &mut event.kind {
                trace.pid = pid;
            }
            let timed = Timed { at_ns, clock: Clock::Guest, size: 1, event };
            marks.extend(story.tell(&timed));
        }
        marks.extend(story.finish());
        prop_assert!(nests(&marks));
    }
}

proptest! {
    // Each takes a thousand rows.
    #![proptest_config(ProptestConfig::with_cases(4))]
    #[test]
    fn what_is_open_is_bounded(pids in proptest::collection::vec(any::<u32>(), MOST_ROWS..MOST_ROWS + 500)) {
        let line = CYCLE.lines().find(|line| line.contains("srcu_begin")).unwrap();
        let event: Event = serde_json::from_str(line).unwrap();
        let mut story = Story::new(Vec::new(), 1, Vec::new());
        for pid in pids {
            let mut event = event.clone();
            if let EventKind::Trace { trace } = &mut event.kind {
                trace.pid = pid;
                trace.fields = vec![("caller".into(), format!("f{pid}+0x1/0x2"))];
            }
            let _ = story.tell(&Timed { at_ns: 1, clock: Clock::Guest, size: 1, event });
        }
        prop_assert!(story.open.len() <= MOST_ROWS);
    }
}
