//! The command line.

mod bench;
mod bisect;
mod build;
mod fit;
mod from;
mod kernel;
mod matrix;
mod measure;
mod report;
mod run;
mod save;
mod selftest;
mod show;
mod snapshot;
mod splat;
mod storm;
mod terminal;
mod timeline;

use std::path::{Component, Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::host::HostChoice;
use crate::host::nested::{NestedError, normal};
use crate::host::room::Jobs;
use crate::scenario::{Cpu, Design, Until, parse_size};
use crate::verdict::{EXIT_ABORT, EXIT_CLEAN, EXIT_INTERRUPTED, EXIT_MACHINE, EXIT_USER};

const EXAMPLES: &str = "\
Examples:
  plugstorm doctor                                   what this host can do, and what mends each lack
  plugstorm kernel fetch debian-6.12                 a stock kernel, with the modules that belong to it
  plugstorm kernel build debug                       one that watches itself: KASAN, lockdep, debug objects
  plugstorm storm fixtures/scenarios/steady.toml     100 surprise removals under eight threads
  plugstorm storm steady.toml --runs 10 --seed 1     ten runs with ten seeds, in one nested boot where KVM is missing
  plugstorm storm steady.toml --runs 8 --jobs 4      eight runs, four guests at a time
  plugstorm storm shared-handle.toml --design stack-token
  plugstorm matrix --short                           every design against every scenario of the laboratory, quickly
  plugstorm bench --kernel patched --against timing --gate 1.10
  plugstorm bisect --good v6.11 --bad v6.12 --tree ~/linux fixtures/scenarios/sleeping-reader.toml
  plugstorm run --kernel /boot/vmlinuz --append 'quiet'
  plugstorm snapshot save booted                     boots a guest and saves it; `run --from booted` goes on from there
  plugstorm snapshot list                            booted guests that storms go on from, and what they take on disk
  plugstorm selftest --kernel mine                   the designs' self-tests, in a kernel with KUnit
  plugstorm report plugstorm-out/steady-1            a page for a browser: report.html in that folder
  plugstorm report plugstorm-out --format junit,markdown --known known.toml
  plugstorm splat console.log --json
  plugstorm splat console.log --kernel debug         each report with files and lines, and what is inlined
  plugstorm timeline plugstorm-out/steady-1          a run on one clock, for Perfetto's UI and as text

Exit codes: 0 nothing found (or all of it known: --known), 1 something found, 2 the user's error, 3 the machine's (or a run that proves nothing),
130 a signal ended the run. Of several runs the gravest counts: 1, then 130, then 2, then 3.";

/// Tests what kernels do when hardware vanishes: hot-unplug storms against a real kernel.
#[derive(Debug, Parser)]
#[command(name = "plugstorm", version, after_help = EXAMPLES, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what this host can do, and the command that mends each lack.
    Doctor {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Guest kernels in the cache.
    #[command(subcommand)]
    Kernel(KernelCommand),
    /// Boot any kernel, or go on from a snapshot, on the terminal; ends when it powers off. Ctrl-A x ends it, Ctrl-A Ctrl-A sends Ctrl-A.
    Run(RunArgs),
    /// Guests that were saved in the cache, to go on from there.
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Run the self-tests of our module's designs in a kernel with KUnit. Exit code 0 if all is as expected, 1 if something
    /// is not, 3 if that cannot be told.
    Selftest(selftest::SelftestArgs),
    /// Run scenarios and say what broke.
    Storm(StormArgs),
    /// Run scenarios with every design, several times each, and say who survives what.
    Matrix(matrix::MatrixArgs),
    /// Measure what each design costs, and whether a kernel or a change of a design is slower than another.
    Bench(bench::BenchArgs),
    /// Find the commit that brought a finding: builds, boots and repeats each step as often as it takes.
    Bisect(bisect::BisectArgs),
    /// Carry out the runs of a nested machine.
    #[command(hide = true)]
    CarryOut(storm::carry_out::CarryOutArgs),
    /// Report on runs that are over: a page for a browser, or what a pipeline reads. Exit code as `storm`'s of these runs.
    Report(report::ReportArgs),
    /// Find splats in saved console logs. Exit code 0 if there are none, 1 if there are.
    Splat(SplatArgs),
    /// Put what host and guest did in a run on one clock: as a trace for Perfetto's UI, and as text like the kernel's traces.
    Timeline(TimelineArgs),
}

#[derive(Debug, Subcommand)]
enum KernelCommand {
    /// List them.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Fetch one from Debian's packages, with its headers, and build the modules that guests need.
    Fetch {
        /// `debian-VERSION`, such as debian-6.12 or debian-6.1.
        name: String,
        /// A folder with the packages, instead of apt.
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
    },
    /// Build one from source, with configuration fragments and patches, for `storm --kernel NAME`.
    Build(build::BuildArgs),
}

const SNAPSHOT_EXAMPLES: &str = "\
Examples:
  plugstorm snapshot save booted --cpus 4            a guest as storms have it, when its agent is ready
  plugstorm snapshot save shell --initrd box.cpio --when 'login:'
  plugstorm run --from shell                         goes on with a copy of it on the terminal, as often as you like
  plugstorm snapshot measure booted --idle 10        what ten of its copies take beyond one
  plugstorm snapshot list --json
  plugstorm snapshot show booted                     verifies every byte of it
  plugstorm snapshot drop --stale                    those that another build has left, and damaged ones

Those called auto-… are made by storms, and made anew when they are needed; beyond 8 GiB those go that were not used for longest.
Others were saved by a user, and stay until they are dropped.";

#[derive(Debug, Subcommand)]
#[command(after_help = SNAPSHOT_EXAMPLES)]
enum SnapshotCommand {
    /// Boot a guest and save it: with our agent when that is ready, or with any initramfs when its console has a text.
    Save(save::SaveArgs),
    /// Let copies of one run idle, and say what memory and time they take and what they leave behind.
    Measure(measure::MeasureArgs),
    /// List them. Their memory is not looked at: `show` does that.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Verify one in full, and say what it is. Exit code 2 if it is damaged.
    Show {
        /// Its name.
        name: String,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove them.
    Drop {
        /// Their names.
        #[arg(value_name = "NAME", required_unless_present_any = ["all", "stale"])]
        names: Vec<String>,
        /// All of them, users' too.
        #[arg(long, conflicts_with_all = ["names", "stale"])]
        all: bool,
        /// Those that this plugstorm cannot use: damaged, or saved by another build.
        #[arg(long, conflicts_with = "names")]
        stale: bool,
    },
}

#[derive(Debug, Args)]
struct RunArgs {
    /// A bzImage, a vmlinux, or the name of a kernel in the cache.
    #[arg(long, value_name = "FILE", required_unless_present = "from")]
    kernel: Option<String>,
    /// Go on from a snapshot instead of booting. The snapshot stays as it is.
    #[arg(long, value_name = "NAME",
          conflicts_with_all = ["kernel", "initrd", "append", "cpus", "cpu", "memory"])]
    from: Option<String>,
    /// An initramfs.
    #[arg(long, value_name = "FILE")]
    initrd: Option<PathBuf>,
    /// Added to the kernel's command line.
    #[arg(long, value_name = "ARGS", default_value = "", allow_hyphen_values = true)]
    append: String,
    /// vCPUs, 1 to 16.
    #[arg(long, value_name = "N", default_value_t = 1)]
    cpus: u8,
    /// Which processor the guest sees.
    #[arg(long, value_enum, default_value_t)]
    cpu: Cpu,
    /// Memory, such as 512MiB or 2GiB.
    #[arg(long, value_name = "SIZE", default_value = "512MiB", value_parser = parse_size)]
    memory: u64,
    /// Give the guest instruction counters, behind the ports of vmm/machine/src/instructions.
    #[arg(long, hide = true, conflicts_with = "from")]
    instruction_counter: bool,
    /// Where to run it.
    #[arg(long, value_enum, default_value_t)]
    host: HostChoice,
}

#[derive(Debug, Args)]
struct StormArgs {
    /// Scenario files.
    #[arg(value_name = "SCENARIO", required = true)]
    scenarios: Vec<PathBuf>,
    /// The guest's kernel, instead of the scenario's: a name in the cache or a file.
    #[arg(long, value_name = "NAME|FILE")]
    kernel: Option<String>,
    /// The seed, instead of the scenario's.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Where the results go. With several runs, each gets a folder in it. Default: a new folder in ./plugstorm-out.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    host: HostChoice,
    /// Runs of each scenario, with seeds that follow each other.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Guests at a time, 1 to 64. `auto`: as many as this machine has CPUs and memory for. Nested machines have one emulated
    /// CPU each, so there `auto` is as many of them as this machine has CPUs and memory for, with a guest each.
    #[arg(long, value_name = "N", default_value = "auto")]
    jobs: Jobs,
    /// The design of all devices that our module drives, instead of the scenario's.
    #[arg(long, value_name = "NAME", value_parser = parse_design)]
    design: Option<Design>,
    /// Cycles, instead of the scenario's.
    #[arg(long, value_name = "N")]
    cycles: Option<u32>,
    /// When a run ends, instead of the scenario's.
    #[arg(long, value_enum, value_name = "WHEN")]
    until: Option<Until>,
    /// Boot every guest, instead of starting it from a snapshot.
    #[arg(long)]
    cold: bool,
    /// Say only what goes wrong: the results are in the output folder.
    #[arg(long)]
    quiet: bool,
    /// Findings that are accepted for now (README.md, "Reports"): a run that finds nothing else ends with exit code 0.
    #[arg(long, value_name = "FILE")]
    known: Option<PathBuf>,
    /// Exit codes for `git bisect run`: 0 good, 1 bad, 125 skip (the kernel did not boot, or its runs prove nothing), 128 or more
    /// abort (the user's or the machine's fault, a signal). An example is in `plugstorm bisect --help`.
    #[arg(long)]
    git_bisect: bool,
}

#[derive(Debug, Args)]
struct SplatArgs {
    /// Console logs; `-` for the standard input.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// One JSON object a report, or `{"file":…,"title":null}` for a file without.
    #[arg(long)]
    json: bool,
    /// Show each report with files and lines, by the debug information of the kernel that printed it: its vmlinux.
    #[arg(long, value_name = "FILE", conflicts_with = "kernel")]
    vmlinux: Option<PathBuf>,
    /// The same by that of a module, a .ko. May be given several times.
    #[arg(long, value_name = "FILE")]
    module: Vec<PathBuf>,
    /// The same by what the cache has of the kernel of this name, and of its modules.
    #[arg(long, value_name = "NAME")]
    kernel: Option<String>,
}

#[derive(Debug, Args)]
struct TimelineArgs {
    /// A run's folder, as `storm` wrote it.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The trace for Perfetto's UI. Default: timeline.perfetto-trace in the folder.
    #[arg(long, value_name = "FILE")]
    perfetto: Option<PathBuf>,
    /// The text. Default: timeline.ftrace.txt in the folder.
    #[arg(long, value_name = "FILE")]
    ftrace: Option<PathBuf>,
}

fn parse_design(text: &str) -> Result<Design, String> {
    let names = Design::ALL.map(Design::name);
    Design::ALL
        .into_iter()
        .find(|design| design.name() == text)
        .ok_or_else(|| format!("there is no such design; there are {}", names.join(", ")))
}

/// Reads the command line.
///
/// # Errors
/// The exit code, if there is nothing to do: it was said why.
pub fn parse() -> Result<Cli, u8> {
    Cli::try_parse().map_err(|error| {
        let _ = error.print();
        match error.use_stderr() {
            // To `git bisect run` a 2 would say that the commit is bad.
            true if fit::is_asked_for() => EXIT_ABORT,
            true => EXIT_USER,
            false => EXIT_CLEAN,
        }
    })
}

/// Does what the command line says. The exit code.
#[must_use]
pub fn main(cli: Cli) -> u8 {
    if !fit::is_asked_for() {
        return carry_out(cli);
    }
    // A panic is not a commit's fault either.
    std::panic::catch_unwind(|| fit::code(carry_out(cli))).unwrap_or(EXIT_ABORT)
}

fn carry_out(cli: Cli) -> u8 {
    let done = match cli.command {
        Command::Doctor { json } => doctor(json),
        Command::Kernel(command) => kernel::main(command),
        Command::Run(args) => run::main(&args),
        Command::Snapshot(command) => snapshot::main(command),
        Command::Selftest(args) => selftest::main(&args),
        Command::Storm(args) => storm::main(&args),
        Command::CarryOut(args) => storm::carry_out::main(&args),
        Command::Matrix(args) => matrix::main(&args),
        Command::Bench(args) => bench::main(&args),
        Command::Bisect(args) => bisect::main(&args),
        Command::Report(args) => report::main(&args),
        Command::Splat(args) => splat::main(&args),
        Command::Timeline(args) => timeline::main(&args),
    };
    done.unwrap_or_else(|failure| failure.show())
}

fn doctor(json: bool) -> Result<u8, Failure> {
    let report = crate::doctor::examine();
    let text = if json {
        serde_json::to_string_pretty(&report).map_err(|error| Failure::machine(&error))? + "\n"
    } else {
        report.text()
    };
    show::out(&text);
    Ok(if report.can_run() { EXIT_CLEAN } else { EXIT_MACHINE })
}

/// Why nothing came of it.
#[derive(Debug)]
enum Failure {
    /// One sentence, and the exit code.
    Sentence(String, u8),
    /// Places in a scenario, or in another file of the user's.
    Places(Box<dyn miette::Diagnostic + Send + Sync>),
}

impl Failure {
    fn user(error: &dyn std::fmt::Display) -> Self {
        Self::Sentence(error.to_string(), EXIT_USER)
    }

    fn machine(error: &dyn std::fmt::Display) -> Self {
        Self::Sentence(error.to_string(), EXIT_MACHINE)
    }

    /// What is wrong, without the places.
    fn sentence(&self) -> String {
        match self {
            Self::Sentence(sentence, _) => sentence.clone(),
            Self::Places(error) => error.to_string(),
        }
    }

    fn show(self) -> u8 {
        match self {
            Self::Sentence(sentence, code) => {
                show::err(&format!("plugstorm: {sentence}\n"));
                code
            }
            Self::Places(error) => {
                show::diagnostic(error.as_ref());
                EXIT_USER
            }
        }
    }
}

/// A path that means the same in a nested machine: absolute, and without `..`, since what lies on the way to a shared folder
/// is not shared.
fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let failed = |error: std::io::Error| Failure::user(&format!("{}: {error}", path.display()));
    let absolute = std::path::absolute(path).map_err(failed)?;
    if !absolute.components().any(|component| component == Component::ParentDir) {
        return Ok(absolute);
    }
    // As the system goes, through symbolic links, as far as there is something; by its words where there is nothing yet.
    if let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) {
        return Ok(parent.canonicalize().unwrap_or_else(|_| normal(parent)).join(name));
    }
    Ok(absolute.canonicalize().unwrap_or_else(|_| normal(&absolute)))
}

impl From<NestedError> for Failure {
    fn from(error: NestedError) -> Self {
        match error {
            NestedError::Stopped => Self::Sentence(error.to_string(), EXIT_INTERRUPTED),
            _ => Self::machine(&error),
        }
    }
}

impl From<crate::scenario::ScenarioError> for Failure {
    fn from(error: crate::scenario::ScenarioError) -> Self {
        Self::Places(Box::new(error))
    }
}

impl From<crate::known::KnownError> for Failure {
    fn from(error: crate::known::KnownError) -> Self {
        Self::Places(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn paths_mean_the_same_without_what_lies_on_the_way() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(top.join("a/b")).unwrap();
        std::os::unix::fs::symlink(top.join("a/b"), top.join("link")).unwrap();
        let resolved = |path: &str| absolute(&top.join(path)).ok().unwrap();
        assert_eq!(resolved("a/b/../../x.toml"), top.join("x.toml"));
        assert_eq!(resolved("link/../x.toml"), top.join("a/x.toml"));
        assert_eq!(resolved("a/.."), top);
        assert_eq!(resolved("none/../x"), top.join("x"));
        assert_eq!(resolved("link/x.toml"), top.join("link/x.toml"));
    }

    #[test]
    fn sizes_and_designs_are_read() {
        let cli =
            Cli::try_parse_from(["plugstorm", "run", "--kernel", "k", "--memory", "1G", "--append", "-x"]).unwrap();
        let Command::Run(run) = cli.command else { panic!("{cli:?}") };
        assert_eq!((run.memory, run.append.as_str()), (1 << 30, "-x"));
        assert!(Cli::try_parse_from(["plugstorm", "storm", "s.toml", "--design", "magic"]).is_err());
        assert!(Cli::try_parse_from(["plugstorm", "storm"]).is_err());
        assert!(Cli::try_parse_from(["plugstorm", "storm", "s.toml", "--runs", "0"]).is_err());
        for (jobs, expected) in
            [(&["--jobs", "4"][..], Jobs::Number(4)), (&["--jobs", "auto"], Jobs::Auto), (&[], Jobs::Auto)]
        {
            let cli = Cli::try_parse_from([&["plugstorm", "storm", "s.toml"], jobs].concat()).unwrap();
            let Command::Storm(storm) = cli.command else { panic!("{cli:?}") };
            assert_eq!(storm.jobs, expected);
        }
    }
}
