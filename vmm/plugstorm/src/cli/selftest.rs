//! `plugstorm selftest`: our module's self-tests, run by a guest's kernel.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::run::{interrupt, only_job, tell_why};
use super::{Failure, absolute, parse_design, show};
use crate::host::nested::{Batch, Job, forward};
use crate::host::room::{Size, nested_mib};
use crate::host::{self, Chosen, HostChoice, HostProbe};
use crate::initramfs;
use crate::kernels::{self, GuestKernel, KernelError};
use crate::results::{foreign_file, write_whole};
use crate::scenario::{self, Design, Scenario};
use crate::selftest::listen::{Files, ListenError};
use crate::selftest::{Limits, Report, Verdict, judge, listen, render};
use crate::storm::MOST_SLOWDOWN;
use crate::storm::machine::{GuestParts, MachineGuest, command_line, loadable};
use crate::verdict::{EXIT_CLEAN, EXIT_FOUND, EXIT_INTERRUPTED, EXIT_MACHINE};

/// The files in the output folder.
const REPORT: &str = "selftest.json";
/// It is called this and something before it is whole.
const TEMPORARY: &str = ".selftest.json.";
const KTAP: &str = "ktap.txt";
const CONSOLE: &str = "console.log";

/// A guest that nothing is plugged into: its steps are not run.
const GUEST: &str = r#"
name = "selftest"
cycles = 1

[guest]
cpus = 2
memory = "512MiB"

[[device]]
name = "none"
driver = "plugstorm"
design = "stack-token"
lines = 1

[[step]]
do = "add"
device = "none"

[[step]]
do = "remove"
device = "none"
how = "surprise"
"#;

/// Every report of KASAN's is wanted, not only the first.
const APPEND: &str = "kasan_multi_shot";

#[derive(Debug, Args)]
pub(super) struct SelftestArgs {
    /// A kernel with KUnit: a name in the cache, or a file. Default: the first in the cache that has it.
    #[arg(long, value_name = "NAME|FILE")]
    kernel: Option<String>,
    /// Only these designs.
    #[arg(long, value_name = "NAME", value_parser = parse_design, action = clap::ArgAction::Append)]
    design: Vec<Design>,
    /// Where the results go: ktap.txt, selftest.json, console.log. Default: a new folder in ./plugstorm-out.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    host: HostChoice,
}

pub(super) fn main(args: &SelftestArgs) -> Result<u8, Failure> {
    // All that the user can mend comes first.
    let (name, kernel) = kernel(args)?;
    let agent = initramfs::agent().map_err(|error| Failure::machine(&error))?;
    let initrd = initramfs::build(&agent, &kernel.self_tests, &[]).map_err(|error| Failure::machine(&error))?;
    let scenario = scenario(&args.design)?;
    let guest = &scenario.guest;
    loadable(&kernel.image, Some(&initrd), &command_line(&guest.append), guest.cpus, guest.memory_bytes)?;
    let out = out_folder(args, &name)?;
    match host::choose(args.host).map_err(|error| Failure::machine(&error))? {
        Chosen::Kvm(probe) => here(args, &name, &kernel, initrd, &scenario, &out, &probe),
        Chosen::Nested { why } => {
            tell_why(why);
            nested(args, &name, &kernel, &scenario, out)
        }
    }
}

/// The kernel, which has KUnit, and what to call it.
fn kernel(args: &SelftestArgs) -> Result<(String, GuestKernel), Failure> {
    let name = match &args.kernel {
        Some(name) => name.clone(),
        None => kernels::with_kunit().map_err(|error| Failure::machine(&error))?.ok_or_else(|| {
            Failure::machine(&format!("no kernel in the cache has KUnit, which the self-tests run on; {BUILD_ONE}"))
        })?,
    };
    let kernel = kernels::resolve(&name, &mut show::progress).map_err(|error| match error {
        KernelError::Cache(_) => Failure::machine(&error),
        _ => Failure::user(&error),
    })?;
    if kernel.self_tests.is_empty() {
        let reason =
            kernel.notes.first().cloned().unwrap_or_else(|| "its configuration has no CONFIG_KUNIT".to_owned());
        return Err(Failure::machine(&format!("kernel {name} cannot run the self-tests: {reason}; {BUILD_ONE}")));
    }
    Ok((name, kernel))
}

/// What to do about it.
const BUILD_ONE: &str = "build one with CONFIG_KUNIT=y (`plugstorm kernel build --help`) and name it with --kernel";

fn scenario(designs: &[Design]) -> Result<Scenario, Failure> {
    let mut scenario = scenario::parse(GUEST, "selftest", "selftest")?;
    scenario.devices.clear();
    scenario.guest.append = APPEND.into();
    if let [design] = designs {
        // Taken by a KUnit that is built in; of more than one, or from a module, the others' results are left out.
        let suite = design.name().replace('-', "_");
        scenario.guest.append = format!("{APPEND} kunit.filter_glob=plugstorm_{suite}");
    }
    Ok(scenario)
}

/// Where the results go: there, and writable.
fn out_folder(args: &SelftestArgs, kernel: &str) -> Result<PathBuf, Failure> {
    let out = match &args.out {
        Some(out) => absolute(out)?,
        None => {
            let name: String =
                kernel.rsplit('/').next().unwrap_or(kernel).chars().filter(|c| !c.is_control()).collect();
            let parent = absolute(Path::new("plugstorm-out"))?;
            let numbered = (2u32..).map(|number| parent.join(format!("selftest-{name}-{number}")));
            let mut candidates = std::iter::once(parent.join(format!("selftest-{name}"))).chain(numbered);
            candidates.find(|path| !path.exists()).ok_or_else(|| Failure::user(&"plugstorm-out has no room"))?
        }
    };
    let unwritable = |error: io::Error| {
        let path = out.display();
        Failure::user(&format!("the output folder {path} cannot be written ({error}); name another one with --out"))
    };
    std::fs::create_dir_all(&out).map_err(unwritable)?;
    let is_ours = |name: &str| [REPORT, KTAP, CONSOLE].contains(&name) || name.starts_with(TEMPORARY);
    if let Some(file) = foreign_file(&out, is_ours).map_err(unwritable)? {
        return Err(Failure::user(&format!(
            "the output folder {} holds files that are not the self-tests' ({file}); name another one with --out",
            out.display()
        )));
    }
    // An earlier report must not stand beside this one's console.
    match std::fs::remove_file(out.join(REPORT)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unwritable(error)),
        _ => {}
    }
    tempfile::tempfile_in(&out).map_err(unwritable)?;
    Ok(out)
}

/// On this machine's KVM.
fn here(
    args: &SelftestArgs,
    name: &str,
    kernel: &GuestKernel,
    initrd: Vec<u8>,
    scenario: &Scenario,
    out: &Path,
    probe: &HostProbe,
) -> Result<u8, Failure> {
    let unwritable = |error: io::Error| {
        Failure::machine(&format!(
            "the results in {} cannot be written: {error}; what was written is kept",
            out.display()
        ))
    };
    let open = |file: &str| File::create(out.join(file)).map(BufWriter::new).map_err(unwritable);
    let (mut console, mut ktap) = (open(CONSOLE)?, open(KTAP)?);
    let interrupt = interrupt(true)?;
    let parts = GuestParts { kernel: kernel.image.clone(), initrd: Arc::new(initrd) };
    let mut guest = MachineGuest::new(scenario, parts, None);
    show::err(&format!("running the self-tests on {name}\n"));
    let mut files = Files { console: &mut console, ktap: &mut ktap };
    let heard = listen(&mut guest, &limits(probe.slowdown), &interrupt, &mut files).map_err(|error| match error {
        ListenError::Guest(error) => error.into(),
        ListenError::Output(error) => unwritable(error),
    })?;
    drop(guest);
    let report = judge(heard, name, &wanted(&args.design));
    // What was seen is shown even if the disk is full.
    show::out(&format!("{}\nresults in {}\n", render::render(&report), out.display()));
    write_report(&report, out).map_err(unwritable)?;
    Ok(exit_code(report.verdict))
}

fn wanted(designs: &[Design]) -> Vec<&'static str> {
    let all = if designs.is_empty() { &Design::ALL[..] } else { designs };
    all.iter().map(|design| design.name()).collect()
}

fn write_report(report: &Report, out: &Path) -> io::Result<()> {
    let mut bytes = serde_json::to_vec_pretty(report)?;
    bytes.push(b'\n');
    write_whole(out, TEMPORARY, &out.join(REPORT), &bytes)
}

fn exit_code(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::AsExpected => EXIT_CLEAN,
        Verdict::Unexpected => EXIT_FOUND,
        Verdict::Inconclusive => EXIT_MACHINE,
        Verdict::Interrupted => EXIT_INTERRUPTED,
    }
}

/// A boot takes longer on a slow host; the tests mostly wait for jiffies, which are as long everywhere.
fn limits(slowdown: f64) -> Limits {
    const SECOND_NS: f64 = 1e9;
    let slowdown = slowdown.clamp(1.0, MOST_SLOWDOWN);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "some thousand seconds at most")]
    let seconds = |fixed: f64, scaled: f64| ((fixed + scaled * slowdown) * SECOND_NS) as u64;
    Limits {
        boot_ns: seconds(0.0, 30.0),
        // KUnit gives a case 300 s.
        silence_ns: seconds(330.0, 5.0),
        rest_ns: seconds(0.5, 0.1),
        total_ns: seconds(7200.0, 0.0),
    }
}

/// The same in a nested machine.
fn nested(
    args: &SelftestArgs,
    name: &str,
    kernel: &GuestKernel,
    scenario: &Scenario,
    out: PathBuf,
) -> Result<u8, Failure> {
    let guest = &scenario.guest;
    let size = Size::of(guest.cpus, guest.memory_bytes);
    let mut batch = Batch::new().memory_mib(nested_mib(&[size], 1));
    let mut argv: Vec<OsString> = ["selftest", "--host", "kvm", "--kernel"].map(OsString::from).to_vec();
    // A kernel in the cache keeps its name; the cache is shared.
    if let Some(file) = kernel.file() {
        let image = absolute(file)?;
        argv.push(image.clone().into_os_string());
        batch = batch.input(image);
    } else {
        argv.push(name.into());
    }
    for design in &args.design {
        argv.extend(["--design".into(), design.name().into()]);
    }
    argv.extend(["--out".into(), out.clone().into_os_string()]);
    let job = Job { argv, directory: out.clone(), environment: Vec::new() };
    only_job(batch.output(out).job(job).run(&mut forward)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_is_a_scenario_and_one_design_is_a_filter() {
        let all = scenario(&[]).ok().unwrap();
        assert_eq!((all.guest.append.as_str(), all.devices.len()), ("kasan_multi_shot", 0));
        let one = scenario(&[Design::SharedHandle]).ok().unwrap();
        assert_eq!(one.guest.append, "kasan_multi_shot kunit.filter_glob=plugstorm_shared_handle");
        let two = scenario(&[Design::SharedHandle, Design::StackToken]).ok().unwrap();
        assert_eq!(two.guest.append, "kasan_multi_shot");
    }

    #[test]
    fn a_folder_of_something_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str| std::fs::write(dir.path().join(name), "x").unwrap();
        let out = Some(dir.path().to_path_buf());
        let args = SelftestArgs { kernel: None, design: Vec::new(), out, host: HostChoice::Auto };
        [REPORT, KTAP, CONSOLE].into_iter().for_each(write);
        assert!(out_folder(&args, "debug").is_ok());
        assert!(!dir.path().join(REPORT).exists(), "an earlier report went");
        [REPORT, "events.jsonl"].into_iter().for_each(write);
        let Err(Failure::Sentence(told, code)) = out_folder(&args, "debug") else { panic!("it was taken") };
        assert!(told.contains("are not the self-tests' (events.jsonl)") && told.contains("--out"), "{told}");
        assert_eq!(code, crate::verdict::EXIT_USER);
        assert!(dir.path().join(REPORT).exists(), "nothing was removed");
    }

    #[test]
    fn all_designs_are_wanted_unless_some_are_named() {
        assert_eq!(wanted(&[]).len(), Design::ALL.len());
        assert_eq!(wanted(&[Design::SharedHandle]), ["shared-handle"]);
    }

    #[test]
    fn waits_have_an_end_on_any_host() {
        let (fast, slow) = (limits(0.0), limits(f64::MAX));
        assert_eq!(fast.boot_ns, 30_000_000_000);
        assert!(slow.boot_ns <= 3_000_000_000_000 && slow.boot_ns <= slow.total_ns);
        // Longer than KUnit gives a case.
        assert!(fast.silence_ns > 300_000_000_000);
    }
}
