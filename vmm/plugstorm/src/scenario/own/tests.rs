//! What the user brings along, as it is written, and every way in which it can be wrong.

use plugstorm_wire::{IoctlArgument, IoctlSpec, Operation, Sharing};

use super::super::tests::shown;
use super::super::{Driver, ScenarioError, Step, parse};
use super::*;

const GOOD: &str = r#"
[guest]
modules = ["driver.ko", { file = "../other-driver.ko", options = "lines=4 quiet" }]
[[guest.file]]
from = "probe"
to = "/bin/probe"
[[guest.file]]
from = "data"
to = "/etc/data"
mode = 0o600
[[device]]
name = "mine"
driver = "other"
vendor = 0x1234
subsystem = 7
node = "/dev/mydev*"
[[hammer]]
name = "callers"
device = "mine"
threads = 2
descriptor = "fork"
operations = ["open", "ioctl", "mmap-read"]
ioctl = { number = 0x80045001, bytes = "00 01ff", size = 64 }
bytes = 512
[[hammer]]
name = "zero"
node = "/dev/zero"
threads = 1
operations = ["read-nonblocking"]
[[hammer]]
name = "probes"
program = ["/bin/probe", "-v"]
threads = 3
[[step]]
do = "run"
program = ["/bin/probe"]
expect = 3
time-out = "2s"
[[step]]
do = "start"
hammer = "probes"
[[step]]
do = "start"
hammer = "zero"
[[step]]
do = "add"
device = "mine"
[[step]]
do = "start"
hammer = "callers"
[[step]]
do = "remove"
device = "mine"
how = "surprise"
[[step]]
do = "stop"
hammer = "callers"
[[step]]
do = "stop"
hammer = "zero"
[[step]]
do = "stop"
hammer = "probes"
"#;

/// The good scenario with one thing changed.
fn changed(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    GOOD.replacen(from, to, 1)
}

fn messages(text: &str) -> Vec<String> {
    match parse(text, "own.toml", "own").unwrap_err() {
        ScenarioError::Wrong(wrong) => wrong.mistakes.into_iter().map(|mistake| mistake.message).collect(),
        other @ ScenarioError::Unreadable { .. } => vec![other.to_string()],
    }
}

#[test]
fn all_of_it_is_read() {
    let scenario = parse(GOOD, "own.toml", "own").unwrap();
    assert_eq!(scenario.warnings, [""; 0]);
    let modules: Vec<_> =
        scenario.guest.modules.iter().map(|module| (module.file.as_str(), module.options.as_str())).collect();
    assert_eq!(modules, [("driver.ko", ""), ("../other-driver.ko", "lines=4 quiet")]);
    let files: Vec<_> = scenario.guest.files.iter().map(|file| (file.to.as_str(), file.mode)).collect();
    assert_eq!(files, [("/bin/probe", 0o755), ("/etc/data", 0o600)]);
    assert_eq!(scenario.devices[0].driver, Driver::Other { vendor: 0x1234, subsystem: 7 });
    assert_eq!(scenario.devices[0].node.as_deref(), Some("/dev/mydev*"));
    let [callers, zero, probes] = &scenario.hammers[..] else { panic!("{:?}", scenario.hammers) };
    let argument = IoctlArgument::Buffer { bytes: vec![0, 1, 0xff], size: 64 };
    let ioctl = Some(IoctlSpec { number: 0x8004_5001, argument });
    // The node is the device's.
    assert_eq!(callers.work, Work::Node(Node { pattern: "/dev/mydev*".into(), ioctl, bytes: 512 }));
    assert_eq!((callers.device, callers.sharing), (Some(0), Sharing::Fork));
    assert_eq!(zero.work, Work::Node(Node { pattern: "/dev/zero".into(), ioctl: None, bytes: 4096 }));
    assert_eq!((zero.device, zero.operations.as_slice()), (None, &[Operation::ReadNonblocking][..]));
    assert!(matches!(&probes.work, Work::Program { program, .. } if program.len() == 2));
    assert_eq!((probes.device, probes.operations.as_slice()), (None, &[Operation::Run][..]));
    assert_eq!(scenario.steps.first(), Some(&Step::Run { program: 0 }));
    let program = &scenario.programs[0];
    assert_eq!((program.expect, program.time_out), (3, Duration::from_secs(2)));
    assert_eq!(&GOOD[program.span.clone()], "[\"/bin/probe\"]");
}

#[test]
fn an_argument_is_a_number_or_a_buffer() {
    for (written, wanted) in [
        ("number = 1", IoctlArgument::Value(0)),
        ("number = 1, argument = 77", IoctlArgument::Value(77)),
        ("number = 1, bytes = \"0102\"", IoctlArgument::Buffer { bytes: vec![1, 2], size: 2 }),
        ("number = 1, size = 8", IoctlArgument::Buffer { bytes: vec![], size: 8 }),
    ] {
        let text = changed("number = 0x80045001, bytes = \"00 01ff\", size = 64", written);
        let scenario = parse(&text, "f", "s").unwrap();
        let Work::Node(Node { ioctl: Some(ioctl), .. }) = &scenario.hammers[0].work else { panic!("{written}") };
        assert_eq!(ioctl.argument, wanted, "{written}");
    }
}

#[test]
fn each_mistake_is_named() {
    for (from, to, expected) in [
        ("\"driver.ko\"", "\"driver.ko.xz\"", "`driver.ko.xz` is no name of a module's file"),
        ("\"driver.ko\"", "\".ko\"", "is no name of a module's file"),
        ("\"driver.ko\"", "\"x/other_driver.ko\"", "is named twice"),
        ("lines=4 quiet", "lines=4\\n", "options cannot be given"),
        ("options =", "option =", "the key `option` is not known"),
        ("\"driver.ko\"", "5", "invalid type"),
        ("to = \"/bin/probe\"", "to = \"bin/probe\"", "is no absolute path"),
        ("to = \"/bin/probe\"", "to = \"/bin/../init\"", "has a component that is none"),
        ("to = \"/bin/probe\"", "to = \"/bin//probe\"", "has a component that is none"),
        ("to = \"/bin/probe\"", "to = \"/TRAILER!!!\"", "a meaning of its own"),
        ("to = \"/etc/data\"", "to = \"/dev/data\"", "`/dev` is the guest's own"),
        ("to = \"/etc/data\"", "to = \"/init\"", "`/init` is the guest's own"),
        ("to = \"/etc/data\"", "to = \"/bin/probe/data\"", "is in the way of `/bin/probe`"),
        ("to = \"/etc/data\"", "to = \"/bin\"", "is in the way of"),
        ("mode = 0o600", "mode = 0o10000", "`mode` is 4096"),
        ("from = \"data\"", "from = \"\"", "`from` is empty"),
        ("vendor = 0x1234", "vendor = 0x10000", "`vendor` is 65536"),
        ("vendor = 0x1234", "design = \"unprotected\"", "has no `design`"),
        ("driver = \"other\"", "driver = \"gpio-virtio\"", "`vendor` has no meaning here"),
        ("node = \"/dev/mydev*\"", "node = \"mydev*\"", "is no absolute path"),
        ("node = \"/dev/mydev*\"", "node = \"/sys/mydev\"", "is no path below /dev"),
        ("node = \"/dev/mydev*\"", "node = \"/dev/*/x\"", "before its last component"),
        ("node = \"/dev/mydev*\"\n", "", "its device names none either"),
        ("\"mmap-read\"", "\"get-values\"", "`get-values` cannot be done to any node"),
        ("descriptor = \"fork\"", "descriptor = \"forked\"", "`forked` is none of the words"),
        ("descriptor = \"fork\"", "lines = [0]", "`lines` has no meaning"),
        ("descriptor = \"fork\"", "edge = \"both\"", "`edge` has no meaning"),
        ("ioctl = { number = 0x80045001, bytes = \"00 01ff\", size = 64 }", "", "`ioctl` needs a number"),
        ("size = 64", "size = 2", "more bytes than `size`"),
        ("size = 64", "size = 65537", "`size` is 65537"),
        ("size = 64", "argument = 1", "has one argument"),
        ("00 01ff", "00 1ff", "no bytes in hexadecimal"),
        ("number = 0x80045001", "number = 0x100000000", "`number` is 4294967296"),
        ("bytes = 512", "bytes = 0", "`bytes` is 0"),
        ("bytes = 512", "bytes = 65537", "`bytes` is 65537"),
        ("node = \"/dev/zero\"", "", "has nothing to work on"),
        ("operations = [\"read-nonblocking\"]", "", "needs the key `operations`"),
        ("program = [\"/bin/probe\", \"-v\"]", "program = []", "and a program needs one"),
        ("program = [\"/bin/probe\", \"-v\"]", "program = [\"probe\"]", "`probe` is no absolute path"),
        (
            "program = [\"/bin/probe\", \"-v\"]",
            "program = [\"/x\", \"a\\u0000b\"]",
            "cannot be a program's command line",
        ),
        (
            "program = [\"/bin/probe\", \"-v\"]",
            "program = [\"/x\"]\ndescriptor = \"own\"",
            "`descriptor` has no meaning",
        ),
        ("program = [\"/bin/probe\"]\n", "", "a step `run` needs the key `program`"),
        ("expect = 3", "expect = 256", "`expect` is 256"),
        ("time-out = \"2s\"", "time-out = \"0s\"", "time-out of a program is out of bounds"),
        ("time-out = \"2s\"", "device = \"mine\"", "`device` has no meaning in a step `run`"),
        ("do = \"add\"", "expect = 0\ndo = \"add\"", "`expect` has no meaning in a step `add`"),
    ] {
        let found = messages(&changed(from, to));
        assert!(found.iter().any(|message| message.contains(expected)), "{to}: {found:?}");
    }
}

#[test]
fn too_many_and_too_long() {
    let modules: Vec<_> = (0..=MOST_MODULES).map(|n| format!("\"m{n}.ko\"")).collect();
    let text = changed("\"driver.ko\"", &modules.join(", "));
    assert!(messages(&text).iter().any(|message| message.contains("more than 32 modules")));
    let files: String = (0..=MOST_FILES).map(|n| format!("[[guest.file]]\nfrom = \"f\"\nto = \"/f{n}\"\n")).collect();
    let text = changed("[[device]]", &format!("{files}[[device]]"));
    assert!(messages(&text).iter().any(|message| message.contains("more than 1024 files")));
    let text = changed("\"-v\"", &format!("\"{}\"", "v".repeat(5000)));
    assert!(messages(&text).iter().any(|message| message.contains("command line")));
}

#[test]
fn what_is_wrong_is_shown_at_its_place() {
    let text = changed("to = \"/bin/probe\"", "to = \"/dev/probe\"")
        .replacen("\"driver.ko\"", "\"driver.ko.xz\"", 1)
        .replacen("00 01ff", "00 1ff", 1);
    insta::assert_snapshot!(shown(&text));
}
