//! `plugstorm carry-out`, for jobs of nested machines: all runs that one machine is given in one process, so that a kernel is
//! digested, an initramfs built, a snapshot verified and the host's speed measured once for all of them.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::guests::{GuestFiles, Pantry};
use super::here::here;
use super::order::{Order, Said};
use super::{Audience, Failure, Ready, Way};
use crate::cli::show;
use crate::host::room::Jobs;
use crate::host::{self, Chosen, HostChoice};
use crate::known::KnownFindings;
use crate::progress::Board;
use crate::scenario::{self, Scenario};
use crate::snapshots::{Shelf, digest};

#[derive(Debug, Args)]
pub(in crate::cli) struct CarryOutArgs {
    /// A file with the runs, as JSON.
    orders: PathBuf,
    /// Guests at a time.
    #[arg(long, value_name = "N")]
    jobs: Jobs,
    #[arg(long)]
    cold: bool,
    #[arg(long)]
    quiet: bool,
    /// Known findings, and the day as of which they are: this machine's clock may be on another.
    #[arg(long, value_name = "FILE", requires = "today")]
    known: Option<PathBuf>,
    #[arg(long, value_name = "DATE")]
    today: Option<toml::value::Datetime>,
}

/// Tells whoever has started the nested machine.
struct Teller;

impl Audience for Teller {
    fn began(&self, run: usize) {
        show::out(&Said::Began { run }.line());
    }

    fn shown(&self, run: usize, text: &str) {
        show::out(&Said::Shown { run, text: text.to_owned() }.line());
    }

    fn ended(&self, run: usize, code: u8) {
        show::out(&Said::Ended { run, code }.line());
    }
}

pub(in crate::cli) fn main(args: &CarryOutArgs) -> Result<u8, Failure> {
    let runs = prepare(&orders(&args.orders)?)?;
    let Chosen::Kvm(probe) = host::choose(HostChoice::Kvm).map_err(|error| Failure::machine(&error))? else {
        return Err(Failure::machine(&"this machine has no KVM that is fit for guests"));
    };
    let board = Board::default();
    let (jobs, cold, quiet, shelf) = (args.jobs, args.cold, args.quiet, Shelf::default());
    let known = known(args)?;
    let known = known.as_ref();
    here(&runs, &probe, &Way { jobs, cold, quiet, board: &board, around: None, audience: &Teller, shelf, known })
}

fn known(args: &CarryOutArgs) -> Result<Option<KnownFindings>, Failure> {
    let (Some(file), Some(date)) = (&args.known, args.today.and_then(|today| today.date)) else { return Ok(None) };
    let name = file.display().to_string();
    let text = fs::read_to_string(file).map_err(|error| Failure::user(&format!("{name}: {error}")))?;
    Ok(Some(KnownFindings::parse(&text, &name, date)?))
}

fn orders(file: &Path) -> Result<Vec<Order>, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::user(&format!("{}: {error}", file.display()));
    let text = fs::read(file).map_err(|error| failed(&error))?;
    serde_json::from_slice(&text).map_err(|error| failed(&error))
}

fn prepare(orders: &[Order]) -> Result<Vec<Ready>, Failure> {
    let mut sources = Sources::default();
    let ready = orders.iter().map(|order| -> Result<Ready, Failure> {
        let source = sources.of(order)?;
        let file = PathBuf::from(&order.file);
        if order.guest_digest.is_some() && order.guest_digest != Some(source.guest.digest()?) {
            return Err(Failure::user(&format!(
                "kernel, module or agent for {} were replaced while it was to be run",
                file.display()
            )));
        }
        let (mut scenario, guest, instead) = (source.scenario.clone(), source.guest.clone(), order.instead());
        instead.apply(&mut scenario)?;
        let (digest, guest_digest) = (order.digest.clone(), order.guest_digest.clone());
        let (named, text, out) = (order.named.clone(), Arc::clone(&source.text), (&order.out).into());
        Ok(Ready { file, named, text, digest, guest_digest, scenario, instead, seed: order.seed, guest, out })
    });
    ready.collect()
}

/// What orders have in common: most of a lot are of a few scenarios, and each file is read through a slow share.
#[derive(Default)]
struct Sources {
    pantry: Pantry,
    known: Vec<Source>,
}

/// A scenario with a kernel.
struct Source {
    file: OsString,
    kernel: OsString,
    digest: String,
    text: Arc<str>,
    /// As its file says.
    scenario: Scenario,
    guest: GuestFiles,
}

impl Sources {
    fn of(&mut self, order: &Order) -> Result<&Source, Failure> {
        let is_same =
            |known: &Source| known.file == order.file && known.kernel == order.kernel && known.digest == order.digest;
        let known = self.known.iter().position(is_same);
        let index = match known {
            Some(index) => index,
            None => {
                let source = self.read(order)?;
                self.known.push(source);
                self.known.len() - 1
            }
        };
        self.known.get(index).ok_or_else(|| Failure::machine(&"a scenario was lost"))
    }

    fn read(&mut self, order: &Order) -> Result<Source, Failure> {
        let (file, path, kernel) = (order.file.clone(), Path::new(&order.file), order.kernel.clone());
        let text: Arc<str> = scenario::read(path)?.into();
        let digest = digest(text.as_bytes());
        if digest != order.digest {
            return Err(Failure::user(&format!("the scenario {} was changed while it was to be run", path.display())));
        }
        let scenario = scenario::parse_file(path, &text)?;
        let guest = self.pantry.guest(path, &scenario, Some(&kernel.to_string_lossy()))?;
        Ok(Source { file, kernel, digest, text, scenario, guest })
    }
}
