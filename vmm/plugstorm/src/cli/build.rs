//! `plugstorm kernel build`.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Failure, show};
use crate::kernels::{BuildError, BuildOptions, BuildOutcome, BuildStep, KernelSource, build_kernel};
use crate::signals;
use crate::verdict::{EXIT_CLEAN, EXIT_INTERRUPTED, EXIT_SKIP};

/// Between two plain lines of where a build is; the first comes sooner.
const PLAIN_EVERY: Duration = Duration::from_secs(10);
const PLAIN_FIRST: Duration = Duration::from_secs(2);

const EXAMPLES: &str = "\
Examples:
  plugstorm kernel build debug                   Debian's 6.12 with KASAN, lockdep, KUnit and more
  plugstorm kernel build timing                  one that watches nothing, for `plugstorm bench`
  plugstorm kernel build races --config kcsan
  plugstorm kernel build quick --config timing --config hz-1000 --config preempt-full
  plugstorm kernel build mine --patch series.mbox          your series on top of Debian's 6.12
  plugstorm kernel build next --source ~/linux --config debug --config my.config
  plugstorm kernel build x --config my.config --check

Fragments: debug, kcsan, leak (kmemleak), timing, hz-100, hz-1000, preempt-none, preempt-full.
They are on top of base, which has what a guest needs. What no fragment mentions is off, and of
two that disagree the later one counts. An option that does not come out as it was asked for is
an error.";

/// Fragments that say what a kernel is for: one of that name is built by it. The first is what any other is for.
const PURPOSES: [&str; 4] = ["debug", "kcsan", "leak", "timing"];

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct BuildArgs {
    /// What to call it. A kernel of that name that was built of something else is replaced.
    name: String,
    /// debian:6.12, debian:6.1 (Debian's source package, with Debian's patches in it), or the folder of a kernel's source, which
    /// is copied.
    #[arg(long, value_name = "debian:VERSION|DIR", default_value = "debian:6.12")]
    source: String,
    /// A configuration fragment, by its name or as a file. May be given several times. Default: what NAME says, if it is debug, kcsan,
    /// leak or timing, and else debug.
    #[arg(long, value_name = "NAME|FILE")]
    config: Vec<String>,
    /// A patch, or a series in one mbox (`git format-patch --stdout`), applied with -p1. May be given several times.
    #[arg(long, value_name = "FILE")]
    patch: Vec<PathBuf>,
    /// Objects compiled at a time. Default: as many as there are CPUs.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    jobs: Option<u16>,
    /// Without base.config: the fragments given are all there is.
    #[arg(long)]
    no_base: bool,
    /// Without plugstorm's own patches (guest/kernel/patches), which a kernel with lockdep gets where they fit, so that lockdep is
    /// not off after the first hot-plug.
    #[arg(long)]
    no_fixups: bool,
    /// A folder with Debian's source package, instead of apt.
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
    /// Exit codes for `git bisect run`: 125 where it lies in the source that there is no kernel (it does not compile, a patch or the
    /// configuration does not fit it), 128 or more for the user's or the machine's fault. An example is in `plugstorm bisect --help`.
    #[arg(long)]
    git_bisect: bool,
    /// Only try the patches and the configuration, and build nothing.
    #[arg(long)]
    check: bool,
}

impl BuildArgs {
    fn configs(&self) -> Vec<String> {
        match self.config.as_slice() {
            [] if PURPOSES.contains(&self.name.as_str()) => vec![self.name.clone()],
            [] => vec![PURPOSES[0].to_owned()],
            given => given.to_vec(),
        }
    }
}

pub(super) fn main(args: &BuildArgs) -> Result<u8, Failure> {
    let interrupt = signals::interrupt(true).map_err(|error| Failure::machine(&error))?;
    let options = BuildOptions {
        source: KernelSource::parse(&args.source).map_err(|error| failure(&error))?,
        configs: args.configs(),
        no_base: args.no_base,
        patches: args.patch.clone(),
        no_fixups: args.no_fixups,
        jobs: args.jobs.map_or_else(|| thread::available_parallelism().map_or(1, usize::from), usize::from),
        packages: args.from.clone(),
        check: args.check,
    };
    let mut shown = Shown::new(std::io::stderr().is_terminal());
    let outcome = build_kernel(&args.name, &options, &interrupt, &mut |step| shown.step(step));
    shown.end();
    let failed = |error: BuildError| match failure(&error) {
        Failure::Sentence(sentence, _) if args.git_bisect && error.is_sources() => {
            Failure::Sentence(sentence, EXIT_SKIP)
        }
        failure => failure,
    };
    match outcome.map_err(failed)? {
        BuildOutcome::Checked => show::out(&format!("{} can be built\n", args.name)),
        BuildOutcome::Kernel(kernel) => {
            for note in &kernel.notes {
                show::err(&format!("note: {note}\n"));
            }
            show::out(&format!("{} is in the cache: {}\n", kernel.name, kernel.image.display()));
        }
    }
    Ok(EXIT_CLEAN)
}

pub(super) fn failure(error: &BuildError) -> Failure {
    match error {
        BuildError::Interrupted | BuildError::InterruptedAfter { .. } => {
            Failure::Sentence(error.to_string(), EXIT_INTERRUPTED)
        }
        error if error.is_users() => Failure::user(error),
        error => Failure::machine(error),
    }
}

/// Shows where a build is: a moving line on a terminal, plain lines every few seconds elsewhere.
pub(super) struct Shown {
    bar: Option<ProgressBar>,
    due: Instant,
}

impl Shown {
    pub(super) fn new(terminal: bool) -> Self {
        let bar = terminal.then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self { bar, due: Instant::now() + PLAIN_FIRST }
    }

    pub(super) fn step(&mut self, step: BuildStep<'_>) {
        match (step, &self.bar) {
            (BuildStep::Line(line), Some(bar)) => bar.suspend(|| show::progress(line)),
            (BuildStep::Line(line), None) => {
                show::progress(line);
                self.due = Instant::now() + PLAIN_FIRST;
            }
            (BuildStep::Now(line), Some(bar)) => {
                bar.set_message(line.to_owned());
                bar.tick();
            }
            (BuildStep::Now(line), None) if Instant::now() >= self.due => {
                show::progress(line);
                self.due = Instant::now() + PLAIN_EVERY;
            }
            _ => {}
        }
    }

    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: BuildArgs,
    }

    #[test]
    fn a_kernel_is_built_for_what_its_name_says() {
        let configs = |words: &str| Line::parse_from(["build"].into_iter().chain(words.split(' '))).args.configs();
        assert_eq!(configs("timing"), ["timing"]);
        assert_eq!(configs("debug"), ["debug"]);
        assert_eq!(configs("mine"), ["debug"]);
        assert_eq!(configs("timing --config debug"), ["debug"]);
        assert_eq!(configs("quick --config timing --config hz-1000"), ["timing", "hz-1000"]);
    }
}
