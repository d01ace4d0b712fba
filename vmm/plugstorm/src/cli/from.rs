//! Going on from a snapshot: on the terminal (`plugstorm run --from`), and for what else runs copies of one.

use std::sync::Arc;

use plugstorm_machine::pci::GoneReads;
use plugstorm_machine::{ConsoleSink, Machine, PortConfig, RestoreConfig, host_cpu};

use super::run::{Nobody, Screen, here, on_terminal, tell_why};
use super::{Failure, absolute, show};
use crate::cache;
use crate::host::nested::{Batch, Job};
use crate::host::room::{Size, nested_mib};
use crate::host::{self, Chosen, HostChoice};
use crate::snapshots::{Manifest, SnapshotError, Store, digest, saved};
use crate::storm::fork::Saved;
use crate::storm::machine::machine_error;

pub(super) fn run(name: &str, choice: HostChoice) -> Result<u8, Failure> {
    // All that is wrong with it comes first: nothing is booted for a snapshot that cannot be used.
    let manifest = verified(name)?;
    match host::choose(choice).map_err(|error| Failure::machine(&error))? {
        Chosen::Kvm(_) => {
            let saved = open(name)?;
            here(|watch| {
                let machine = restore(&saved, || Box::new(Screen::new(watch)))?;
                if !machine.clock_continues() {
                    show::err(
                        "warning: this KVM keeps time-stamp counters of its own, so the guest sees time jump, and its kernel may \
                         report a stall\n",
                    );
                }
                show::err(&format!("running from snapshot {name}; Ctrl-A x ends it\r\n"));
                Ok(machine)
            })
        }
        Chosen::Nested { why } => {
            tell_why(why);
            let argv = ["run", "--host", "kvm", "--from", name].map(Into::into).to_vec();
            let job = Job { argv, directory: absolute(&cache::root())?, environment: Vec::new() };
            on_terminal(&Batch::new().stdin(true).memory_mib(room_mib(&manifest, 1)).job(job))
        }
    }
}

/// What a snapshot says of itself, which is true in every byte. In a nested machine it is looked at when it is opened.
pub(super) fn verified(name: &str) -> Result<Option<Manifest>, SnapshotError> {
    if host::nested::is_inside() {
        return Ok(None);
    }
    Store::here().verify(name).map(|snapshot| Some(snapshot.manifest))
}

/// A nested machine's memory for copies of a snapshot of which one is at work and the others idle, in MiB.
pub(super) fn room_mib(manifest: &Option<Manifest>, copies: u64) -> u64 {
    let Some(manifest) = manifest else { return nested_mib(&[], 0) };
    let size = Size::of(manifest.made_of.cpus, manifest.made_of.memory_bytes);
    // It lies in RAM there.
    let kept_mib = manifest.memory_kept_bytes().div_ceil(1 << 20);
    nested_mib(&[size], 1).saturating_add(kept_mib).saturating_add(copies.saturating_sub(1).saturating_mul(IDLE_MIB))
}

/// What an idle copy takes, at most; measured: 1 to 2 MiB.
const IDLE_MIB: u64 = 64;

/// Opens a snapshot that this host can go on with.
pub(super) fn open(name: &str) -> Result<Saved, Failure> {
    let snapshot = Store::here().open(name)?;
    let manifest = snapshot.manifest.clone();
    let saved = saved(snapshot)?;
    let shape = saved.state.shape;
    let host = host_cpu(shape.cpu_template, shape.cpus).map_err(|error| Failure::machine(&error))?;
    manifest.fits_host(&digest(&host.cpuid), host.tsc_khz).map_err(SnapshotError::from)?;
    Ok(saved)
}

/// A machine that goes on from a snapshot. `console` makes what the guest's consoles write to; what its agent says goes nowhere.
pub(super) fn restore(saved: &Saved, console: impl Fn() -> Box<dyn ConsoleSink>) -> Result<Machine, Failure> {
    let names = saved.state.port_names();
    let config = RestoreConfig {
        serial: console(),
        console: names.is_some().then(&console),
        ports: names.into_iter().flatten().map(|name| PortConfig { name, sink: Box::new(Nowhere) }).collect(),
        gone_reads: GoneReads::AllOnes,
        slot_observer: Arc::new(Nobody),
    };
    Machine::restore(&saved.state, &saved.image, config).map_err(|error| machine_error(&error).into())
}

/// Where nobody reads.
#[derive(Debug)]
pub(super) struct Nowhere;

impl ConsoleSink for Nowhere {
    fn write(&mut self, _bytes: &[u8]) {}
}
