//! Every way in which a scenario can be wrong, as its author sees it.

use miette::{GraphicalReportHandler, GraphicalTheme};

use super::*;

const GOOD: &str = r#"
cycles = 3
[[device]]
name = "gpio"
driver = "gpio-virtio"
lines = 4
[[hammer]]
name = "pollers"
device = "gpio"
threads = 2
operations = ["poll", "read-event-nonblocking"]
lines = [0, 1]
pause = ["0us", "200us"]
[[step]]
do = "add"
device = "gpio"
[[step]]
do = "start"
hammer = "pollers"
[[step]]
do = "pause"
for = ["1ms", "20ms"]
[[step]]
do = "remove"
device = "gpio"
how = "surprise"
[[step]]
do = "stop"
hammer = "pollers"
"#;

pub(super) fn shown(text: &str) -> String {
    let error = parse(text, "storm.toml", "storm").unwrap_err();
    let mut out = String::new();
    GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor())
        .with_width(120)
        .render_report(&mut out, &error)
        .unwrap();
    out
}

/// The good scenario with one thing changed.
fn changed(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replacen(from, to, 1)
}

fn messages(text: &str) -> Vec<String> {
    match parse(text, "storm.toml", "storm").unwrap_err() {
        ScenarioError::Wrong(wrong) => wrong.mistakes.into_iter().map(|mistake| mistake.message).collect(),
        other => vec![other.to_string()],
    }
}

#[test]
fn a_good_scenario_has_defaults() {
    let scenario = parse(GOOD, "storm.toml", "my storm").unwrap();
    assert_eq!(scenario.name, "my-storm");
    assert_eq!((scenario.seed, scenario.cycles, scenario.until), (1, 3, Until::FirstFinding));
    assert_eq!(scenario.guest.cpu, Cpu::Plain);
    assert_eq!(scenario.guest.cpus, 2);
    assert_eq!(scenario.guest.memory_bytes, 512 << 20);
    assert_eq!(scenario.time_outs, TimeOuts::default());
    assert_eq!(scenario.hammers[0].edge, Edge::Both);
    assert_eq!(scenario.hammers[0].sharing, Sharing::Shared);
    assert_eq!(scenario.steps.len(), 5);
    assert!(scenario.warnings.is_empty());
}

#[test]
fn the_processor_can_be_chosen() {
    for cpu in [Cpu::Plain, Cpu::Host] {
        let text = changed("cycles = 3", &format!("cycles = 3\n[guest]\ncpu = \"{cpu}\""));
        assert_eq!(parse(&text, "f", "s").unwrap().guest.cpu, cpu);
    }
    let refused = shown(&changed("cycles = 3", "cycles = 3\n[guest]\ncpu = \"hosts\""));
    assert!(refused.contains("help: did you mean `host`? Possible are: `plain`, `host`"), "{refused}");
}

#[test]
fn unknown_key() {
    insta::assert_snapshot!(shown(&changed("threads = 2", "treads = 2")));
}

#[test]
fn wrong_unit() {
    insta::assert_snapshot!(shown(&changed("\"20ms\"", "\"20msec\"")));
}

#[test]
fn several_mistakes_at_once() {
    let text = changed("threads = 2", "threads = 0").replace("lines = [0, 1]", "lines = [0, 7]").replacen(
        "device = \"gpio\"\nhow",
        "device = \"gipo\"\nhow",
        1,
    );
    insta::assert_snapshot!(shown(&text));
}

#[test]
fn start_before_add() {
    let text = changed("[[step]]\ndo = \"add\"\ndevice = \"gpio\"\n", "");
    insta::assert_snapshot!(shown(&text));
}

#[test]
fn broken_toml() {
    insta::assert_snapshot!(shown("cycles = \n[guest"));
}

#[test]
fn each_mistake_is_named() {
    for (from, to, expected) in [
        ("cycles = 3", "cycles = 0", "`cycles` is 0"),
        ("cycles = 3", "cycles = 3\nuntil = \"never\"", "`never` is none of the words"),
        ("cycles = 3", "cycles = 3\nname = \"../up\"", "cannot be a name"),
        ("cycles = 3", "cycles = -3", "invalid value"),
        ("cycles = 3", "cycles = \"3\"", "invalid type"),
        ("cycles = 3", "cycles = 3\n[guest]\ncpus = 17", "`cpus` is 17"),
        ("cycles = 3", "cycles = 3\n[guest]\ncpus = 0", "`cpus` is 0"),
        ("cycles = 3", "cycles = 3\n[guest]\nmemory = \"512\"", "has no unit"),
        ("cycles = 3", "cycles = 3\n[guest]\nmemory = \"1MiB\"", "no amount of memory"),
        ("cycles = 3", "cycles = 3\n[guest]\nkernel = \"\"", "`kernel` is empty"),
        ("cycles = 3", "cycles = 3\n[guest]\nappend = \"a\\nb\"", "command line"),
        ("cycles = 3", "cycles = 3\n[guest]\ngone-reads = \"ones\"", "`ones` is none"),
        ("cycles = 3", "cycles = 3\n[guest]\ncpu = \"hosts\"", "`hosts` is none"),
        ("cycles = 3", "cycles = 3\n[time-outs]\nremoval = \"0s\"", "`removal` is out of bounds"),
        ("cycles = 3", "cycles = 3\n[time-outs]\nunplug = \"1s\"", "the key `unplug` is not known"),
        ("lines = 4", "lines = 65", "`lines` is 65"),
        ("lines = 4", "signal = { line = 9, period = \"2ms\" }", "has no line 9"),
        ("lines = 4", "signal = { line = 0, period = \"2us\" }", "`period` is out of bounds"),
        ("lines = 4", "design = \"stack-token\"", "has no `design`"),
        ("\"gpio-virtio\"", "\"plugstorm\"", "needs a `design`"),
        ("\"gpio-virtio\"", "\"plugstorm\"\ndesign = \"by-magic\"", "`by-magic` is no design"),
        ("\"gpio-virtio\"", "\"gpio-mockup\"", "is no driver"),
        ("threads = 2", "threads = 65", "`threads` is 65"),
        ("\"poll\"", "\"ioctl-touch\"", "`ioctl-touch` cannot be done to a gpiochip"),
        ("\"poll\"", "\"pole\"", "`pole` is none of the words"),
        ("\"poll\"", "\"set-values\"", "outputs"),
        ("[\"poll\", \"read-event-nonblocking\"]", "[]", "does nothing"),
        ("lines = [0, 1]", "lines = []", "one line at least"),
        ("lines = [0, 1]", "lines = [1, 1]", "named twice"),
        ("lines = [0, 1]", "edge = \"none\"", "asks for none"),
        ("threads = 2", "threads = 3\ndescriptor = \"own\"", "2 lines are too few"),
        (
            "operations = [\"poll\", \"read-event-nonblocking\"]\nlines = [0, 1]",
            "operations = [\"read-event\", \"read-event-nonblocking\"]",
            "1 lines are too few",
        ),
        ("device = \"gpio\"\nthreads", "device = \"nope\"\nthreads", "there is no device `nope`"),
        ("for = [\"1ms\", \"20ms\"]", "for = [\"20ms\", \"1ms\"]", "first bound"),
        ("for = [\"1ms\", \"20ms\"]", "for = 5", "invalid type"),
        ("for = [\"1ms\", \"20ms\"]", "device = \"gpio\"", "`device` has no meaning"),
        ("how = \"surprise\"", "how = \"suprise\"", "`suprise` is none of the words"),
        ("how = \"surprise\"", "", "needs the key `how`"),
        ("how = \"surprise\"", "how = \"unbind\"", "left plugged in"),
        ("[[step]]\ndo = \"stop\"\nhammer = \"pollers\"\n", "", "left at work"),
        ("[[step]]\ndo = \"stop\"", "[[step]]\ndo = \"start\"", "is at work already"),
        ("do = \"start\"", "do = \"stop\"", "is not at work here"),
        (
            "do = \"pause\"\nfor = [\"1ms\", \"20ms\"]",
            "do = \"add\"\ndevice = \"gpio\"",
            "is plugged in and bound here",
        ),
        ("do = \"pause\"\nfor = [\"1ms\", \"20ms\"]", "do = \"bind\"\ndevice = \"gpio\"", "`bind` can never run"),
        ("do = \"pause\"\nfor = [\"1ms\", \"20ms\"]", "do = \"rescan\"\ndevice = \"gpio\"", "`rescan` can never run"),
    ] {
        let found = messages(&changed(from, to));
        assert!(found.iter().any(|message| message.contains(expected)), "{to}: {found:?}");
    }
}

#[test]
fn two_hammers_cannot_hold_one_line() {
    let second =
        "[[hammer]]\nname = \"b\"\ndevice = \"gpio\"\nthreads = 1\noperations = [\"get-values\"]\nlines = [1]\n";
    let text = changed("[[step]]\ndo = \"add\"", &format!("{second}[[step]]\ndo = \"add\""));
    let started = text.replacen("do = \"pause\"\nfor = [\"1ms\", \"20ms\"]", "do = \"start\"\nhammer = \"b\"", 1);
    assert!(messages(&started)[0].contains("is held by hammer `pollers`"));
    let warned = parse(&text, "f", "s").unwrap();
    assert_eq!(warned.warnings, ["hammer `b` is never started"]);
}

/// Two devices of our module; a hammer on one borrows a line of the other.
const BORROWER: &str = r#"
[[device]]
name = "lender"
driver = "plugstorm"
design = "stack-token"
lines = 2
[[device]]
name = "gpio"
driver = "plugstorm"
design = "stack-token"
[[hammer]]
name = "h"
device = "gpio"
threads = 1
operations = ["borrow-get", "read-event"]
from = "lender"
lines = [1]
[[step]]
do = "add"
device = "lender"
[[step]]
do = "add"
device = "gpio"
[[step]]
do = "start"
hammer = "h"
[[step]]
do = "remove"
device = "lender"
how = "surprise"
[[step]]
do = "remove"
device = "gpio"
how = "surprise"
[[step]]
do = "stop"
hammer = "h"
"#;

#[test]
fn a_line_is_borrowed_from_a_device_of_ours_that_is_there() {
    let scenario = parse(BORROWER, "f", "s").unwrap();
    assert_eq!((scenario.hammers[0].from, scenario.hammers[0].edge), (Some(0), Edge::Both));
    for (from, to, expected) in [
        ("from = \"lender\"\n", "", "needs a device to borrow a line from"),
        ("from = \"lender\"", "from = \"lander\"", "there is no device `lander`"),
        ("\"borrow-get\", ", "", "`from` has no meaning without"),
        ("lines = [1]", "lines = [2]", "device `lender` has no line 2"),
        (
            "driver = \"plugstorm\"\ndesign = \"stack-token\"\nlines",
            "driver = \"gpio-virtio\"\nlines",
            "lends no lines",
        ),
        (
            "device = \"gpio\"\n[[step]]\ndo = \"start\"",
            "device = \"gpio\"\n[[step]]\ndo = \"remove\"\ndevice = \"lender\"\nhow = \"surprise\"\n[[step]]\ndo = \"start\"",
            "borrows a line from device `lender`, which is not plugged in",
        ),
        ("from = \"lender\"", "from = \"lender\"\nedge = \"none\"", "asks for none"),
        (", \"read-event\"]", "]\nedge = \"both\"", "`edge` has no meaning on a device of our module"),
    ] {
        assert!(BORROWER.contains(from), "{from}");
        let found = messages(&BORROWER.replacen(from, to, 1));
        assert!(found.iter().any(|message| message.contains(expected)), "{to}: {found:?}");
    }
}

#[test]
fn every_way_out_and_back() {
    let steps = [
        "do = \"add\"\ndevice = \"gpio\"",
        "do = \"remove\"\ndevice = \"gpio\"\nhow = \"unbind\"",
        "do = \"bind\"\ndevice = \"gpio\"",
        "do = \"remove\"\ndevice = \"gpio\"\nhow = \"remove\"",
        "do = \"rescan\"\ndevice = \"gpio\"",
        "do = \"remove\"\ndevice = \"gpio\"\nhow = \"remove\"",
        "do = \"remove\"\ndevice = \"gpio\"\nhow = \"surprise\"",
    ];
    let head = GOOD.split("[[hammer]]").next().unwrap();
    let text = format!("{head}{}", steps.map(|step| format!("[[step]]\n{step}\n")).concat());
    let scenario = parse(&text, "f", "s").unwrap();
    assert_eq!(scenario.steps.last(), Some(&Step::Remove { device: 0, how: How::Surprise, forgotten: true }));
}

#[test]
fn the_fixtures_are_sound() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/scenarios");
    let mut count = 0;
    for folder in [folder.clone(), folder.join("bad-guests"), folder.join("lab"), folder.join("own")] {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            // What is expected of the laboratory's is none.
            let is_scenario = path.extension().is_some_and(|extension| extension == "toml");
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if is_scenario && !name.starts_with("expected") {
                let scenario = load(&path).unwrap_or_else(|error| panic!("{}: {error:?}", path.display()));
                assert_eq!(scenario.warnings, [""; 0], "{}", path.display());
                count += 1;
            }
        }
    }
    assert!(count >= 24, "{count}");
}
