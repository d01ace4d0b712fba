//! `plugstorm bisect`: the commit that brought a finding.

mod prober;
mod watch;

use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Args;

use super::run::interrupt;
use super::storm::Instead;
use super::{Failure, absolute, show};
use crate::bisect::{
    BisectFolder, Bisection, FolderError, GitHistory, Halt, Header, Ingredient, MOST_RUNS, Outcome, TreeError, VERSION,
    drive, ends, last_words,
};
use crate::git::GitError;
use crate::host::HostChoice;
use crate::host::room::Jobs;
use crate::kernels;
use crate::progress::Board;
use crate::scenario::{self, Scenario};
use crate::snapshots::digest;
use crate::verdict::{EXIT_CLEAN, EXIT_FOUND, EXIT_INTERRUPTED};
use prober::Storms;
use watch::Shown;

/// Where a bisection goes, unless the user says: always the same place, so that the same command line goes on with it.
const OUT: &str = "plugstorm-out/bisect";
/// Runs at the bad commit, unless the user says: if all of them meet it, four runs without it make a commit good.
const RUNS: u32 = 10;
/// Before a digest, as the name of the kernels that are built. There is one at a time.
const KERNEL: &str = "bisect-";

const EXAMPLES: &str = "\
Examples:
  plugstorm bisect --good v6.11 --bad v6.12 --tree ~/linux fixtures/scenarios/sleeping-reader.toml
  plugstorm bisect --good v6.11 --bad HEAD --tree . --config debug --config my.config \\
        --title 'KASAN: slab-use-after-free * in linereq_free' --runs 20 mine.toml

First the bad commit is run --runs times: how often the finding comes there decides how many runs
without it make another commit good with --confidence. Then the good commit has to pass as many,
and git says which commits are tried between them. A bad one is known by its first hit; one that
does not compile or boot, or whose runs prove nothing, is skipped. Other findings count for
nothing, and are told.

The tree is only read: neither its files nor its index nor its refs are touched. In the folder of
--out are bisect.json, bisect.txt, bisect.log (for `git bisect replay`) and the runs' folders.
Whatever ends a bisection: the same command line goes on where it was.

Exit codes: 0 the first bad commit is known, 1 only skipped commits are left to choose from, 2 the
user's error (also: the bad commit never shows it, or the good one does), 3 the machine's, 130 a
signal ended it.

With `git bisect run` instead, in a script of yours (125 skips a commit that does not compile or
boot; 128 ends the bisection where it is the machine's fault, or yours):
  plugstorm kernel build step --source . --config timing --git-bisect || exit
  plugstorm storm sleeping-reader.toml --kernel step --runs 4 --git-bisect";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct BisectArgs {
    /// A scenario file.
    #[arg(value_name = "SCENARIO")]
    scenario: PathBuf,
    /// A commit without the finding: an ancestor of the bad one.
    #[arg(long, value_name = "REV", allow_hyphen_values = true)]
    good: String,
    /// A commit with it.
    #[arg(long, value_name = "REV", allow_hyphen_values = true)]
    bad: String,
    /// The git tree of the kernel.
    #[arg(long, value_name = "DIR")]
    tree: PathBuf,
    /// A configuration fragment, as for `kernel build`. May be given several times.
    #[arg(long, value_name = "NAME|FILE", default_value = "debug")]
    config: Vec<String>,
    /// A patch on top of each commit, as for `kernel build`; a commit that it does not fit is skipped. May be given several times.
    #[arg(long, value_name = "FILE")]
    patch: Vec<PathBuf>,
    /// Without plugstorm's own patches, as for `kernel build`.
    #[arg(long)]
    no_fixups: bool,
    /// What the finding is called, in which `*` stands for anything. Default: whatever the bad commit shows first.
    #[arg(long, value_name = "PATTERN")]
    title: Option<String>,
    /// Runs at the bad commit. The more, the better is known how often the finding comes, and the fewer are needed elsewhere.
    #[arg(long, value_name = "N", default_value_t = RUNS, value_parser = clap::value_parser!(u32).range(1..=i64::from(MOST_RUNS)))]
    runs: u32,
    /// Cycles of each run, instead of the scenario's.
    #[arg(long, value_name = "N")]
    cycles: Option<u32>,
    /// How sure a good commit is to be, 0.5 to 0.9999.
    #[arg(long, value_name = "P", default_value = "0.99", value_parser = parse_confidence)]
    confidence: f64,
    /// The first seed at each commit, instead of the scenario's.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The bisection's folder. One with the same bisection is resumed.
    #[arg(long, value_name = "DIR", default_value = OUT)]
    out: PathBuf,
    /// Boot every guest, instead of starting it from a snapshot.
    #[arg(long)]
    cold: bool,
    /// Guests at a time, 1 to 64, or `auto`, as for `storm`.
    #[arg(long, value_name = "N", default_value = "auto")]
    jobs: Jobs,
    /// Where to run.
    #[arg(long, value_enum, default_value_t)]
    host: HostChoice,
}

fn parse_confidence(text: &str) -> Result<f64, String> {
    let confidence: f64 = text.parse().map_err(|_| "give a number such as 0.99".to_owned())?;
    if (0.5..=0.9999).contains(&confidence) { Ok(confidence) } else { Err("give 0.5 to 0.9999".into()) }
}

/// The scenario, as each commit is run with it.
struct Prepared {
    file: PathBuf,
    text: String,
    digest: String,
    /// With the command line's cycles.
    scenario: Scenario,
    seed: u64,
}

pub(super) fn main(args: &BisectArgs) -> Result<u8, Failure> {
    // All that the user can mend comes first.
    let prepared = prepare(args)?;
    let ends = ends(&args.tree, &args.good, &args.bad)?;
    let fresh = Bisection::new(header(args, &prepared, &ends.tree)?, ends.good.clone(), ends.bad.clone());
    let interrupt = interrupt(true)?;
    let (folder, mut bisection) = BisectFolder::open(&absolute(&args.out)?, fresh)?;
    let board = Board::default();
    if bisection.outcome.is_none() {
        let shown = Shown::new(&board, &bisection);
        let kernel = format!("{KERNEL}{}", short(&digest(folder.path().as_os_str().as_encoded_bytes())));
        let mut storms = Storms::new(args, &prepared, &ends, &folder, kernel.clone(), &board, &interrupt)?;
        let mut history = GitHistory::begin(&folder.state(), &ends)?;
        let driven = drive(&mut bisection, &mut history, &mut storms, &folder, &shown);
        drop(history);
        storms.end();
        if let Err(halt) = driven {
            return Err(halted(halt, interrupt.load(Ordering::Relaxed)));
        }
        // Of no more use: its source is in the tree, and its objects are in ccache.
        if let Err(error) = kernels::remove(&kernel, &mut show::progress) {
            show::err(&format!("note: the kernel {kernel} stays in the cache: {error}\n"));
        }
    }
    show::out(&format!("{}all of it is in {}\n", last_words(&bisection), folder.path().display()));
    Ok(match bisection.outcome {
        Some(Outcome::First(_)) => EXIT_CLEAN,
        _ => EXIT_FOUND,
    })
}

fn prepare(args: &BisectArgs) -> Result<Prepared, Failure> {
    let text = scenario::read(&args.scenario)?;
    let mut scenario = scenario::parse_file(&args.scenario, &text)?;
    Instead { design: None, cycles: args.cycles, until: None }.apply(&mut scenario)?;
    for warning in &scenario.warnings {
        show::err(&format!("warning: {}: {warning}\n", args.scenario.display()));
    }
    let seed = args.seed.unwrap_or(scenario.seed);
    Ok(Prepared { file: absolute(&args.scenario)?, digest: digest(text.as_bytes()), text, scenario, seed })
}

fn header(args: &BisectArgs, prepared: &Prepared, tree: &std::path::Path) -> Result<Header, Failure> {
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let own = std::iter::once("plugstorm".to_owned());
    let mut ingredients = Vec::new();
    for config in &args.config {
        let digest = std::fs::read(config).ok().map(|bytes| digest(&bytes));
        ingredients.push(Ingredient { name: config.clone(), digest });
    }
    for patch in &args.patch {
        let unreadable = |error| Failure::user(&format!("the patch {} cannot be read: {error}", patch.display()));
        let bytes = std::fs::read(patch).map_err(unreadable)?;
        ingredients.push(Ingredient { name: patch.display().to_string(), digest: Some(digest(&bytes)) });
    }
    if !args.no_fixups {
        let ours = kernels::own_patches().map(|(name, text)| (name, Some(digest(text.as_bytes()))));
        ingredients.extend(ours.map(|(name, digest)| Ingredient { name, digest }));
    }
    Ok(Header {
        version: VERSION,
        plugstorm: env!("CARGO_PKG_VERSION").to_owned(),
        command: own.chain(std::env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned())).collect(),
        started_unix_s: started.as_secs(),
        tree: tree.to_path_buf(),
        scenario: prepared.scenario.name.clone(),
        scenario_digest: prepared.digest.clone(),
        cycles: prepared.scenario.cycles,
        seed: prepared.seed,
        ingredients,
        title: args.title.clone(),
        runs: args.runs,
        confidence: args.confidence,
    })
}

fn short(digest: &str) -> &str {
    digest.get(..8).unwrap_or(digest)
}

fn halted(halt: Halt<Failure>, is_interrupted: bool) -> Failure {
    let failure = match halt {
        Halt::Prober(failure) => failure,
        Halt::Unfit(unfit) => return Failure::user(&unfit),
        Halt::Git(error) => error.into(),
        Halt::Keep(error) => error.into(),
    };
    if is_interrupted {
        let sentence = "a signal ended the bisection; the same command line goes on where it was";
        return Failure::Sentence(sentence.into(), EXIT_INTERRUPTED);
    }
    match failure {
        Failure::Sentence(sentence, code) => {
            let sentence = format!(
                "{sentence}\nplugstorm: the bisection is not complete; the same command line goes on where it was"
            );
            Failure::Sentence(sentence, code)
        }
        failure => failure,
    }
}

impl From<TreeError> for Failure {
    fn from(error: TreeError) -> Self {
        match error {
            // What git refuses there the user can mend: a repository of somebody else's wants to be called safe.
            TreeError::Git(error @ GitError::Refused { .. }) => Self::user(&error),
            TreeError::Git(error) => error.into(),
            _ => Self::user(&error),
        }
    }
}

impl From<GitError> for Failure {
    fn from(error: GitError) -> Self {
        Self::machine(&error)
    }
}

impl From<FolderError> for Failure {
    fn from(error: FolderError) -> Self {
        match error {
            FolderError::Unwritable { .. } => Self::machine(&error),
            _ => Self::user(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confidence_is_a_number_between_chance_and_certainty() {
        assert_eq!(parse_confidence("0.99"), Ok(0.99));
        for text in ["1", "0.4", "99", "NaN", "sure", "-0.9"] {
            assert!(parse_confidence(text).is_err(), "{text}");
        }
    }
}
