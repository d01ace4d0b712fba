//! `plugstorm carry-out`, for jobs of nested machines: all runs that one machine is given in one process, so that a kernel is
//! digested, an initramfs built, a snapshot verified and the host's speed measured once for all of them.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use super::guests::Pantry;
use super::order::{Order, Said};
use super::{Audience, Failure, Ready, Way, digest_of, here};
use crate::cli::show;
use crate::host::room::Jobs;
use crate::host::{self, Chosen, HostChoice};
use crate::progress::Board;
use crate::results::RunFolder;
use crate::scenario;
use crate::snapshots::Shelf;

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
    here(&runs, &probe, &Way { jobs, cold, quiet, board: &board, around: None, audience: &Teller, shelf })
}

fn orders(file: &Path) -> Result<Vec<Order>, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::user(&format!("{}: {error}", file.display()));
    let text = fs::read(file).map_err(|error| failed(&error))?;
    serde_json::from_slice(&text).map_err(|error| failed(&error))
}

fn prepare(orders: &[Order]) -> Result<Vec<Ready>, Failure> {
    let mut pantry = Pantry::default();
    let ready = orders.iter().map(|order| -> Result<Ready, Failure> {
        let file = PathBuf::from(&order.file);
        let digest = digest_of(&file)?;
        if digest != order.digest {
            return Err(Failure::user(&format!("the scenario {} was changed while it was to be run", file.display())));
        }
        let mut scenario = scenario::load(&file)?;
        let instead = order.instead();
        instead.apply(&mut scenario)?;
        let guest = pantry.guest(&file, &scenario, Some(&order.kernel.to_string_lossy()))?;
        if order.guest_digest.is_some() && order.guest_digest != Some(guest.digest()?) {
            return Err(Failure::user(&format!(
                "kernel, module or agent for {} were replaced while it was to be run",
                file.display()
            )));
        }
        let out = PathBuf::from(&order.out);
        RunFolder::check(&out).map_err(|error| Failure::user(&error))?;
        let guest_digest = order.guest_digest.clone();
        Ok(Ready { file, digest, guest_digest, scenario, instead, seed: order.seed, guest, out })
    });
    ready.collect()
}
