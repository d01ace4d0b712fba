//! Any kernel and initramfs on the serial port, saved when its console has a text.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use plugstorm_machine::{ConsoleSink, Machine, StopCause, host_cpu};

use super::super::run::{Boot, LOOK, SLOTS, Screen, interrupt};
use super::{Failure, SaveArgs, show};
use crate::host::HostProbe;
use crate::kernels::GuestKernel;
use crate::snapshots::{Ingredients, MadeOf, Store, digest, finish};
use crate::storm::fork::Saved;
use crate::storm::machine::machine_error;
use crate::verdict::{EXIT_CLEAN, EXIT_INTERRUPTED, EXIT_MACHINE, EXIT_USER};

/// How long the text may take on hardware KVM.
const USUAL: Duration = Duration::from_secs(120);

pub(super) fn save(
    args: &SaveArgs,
    store: &Store,
    kernel: &GuestKernel,
    boot: Boot,
    text: &str,
    probe: &HostProbe,
) -> Result<u8, Failure> {
    let limit = args.within.map_or_else(
        || USUAL.mul_f64(probe.slowdown.clamp(1.0, crate::storm::MOST_SLOWDOWN)),
        |seconds| Duration::from_secs(seconds.into()),
    );
    let made_of = made_of(args, kernel, &boot)?;
    // What speaks against it is known before the guest boots.
    let draft = store.draft(&args.name)?;
    let file = draft.memory_file().try_clone().map_err(|error| Failure::machine(&error))?;
    let interrupt = interrupt(false)?;
    let (told, is_there) = sync_channel(1);
    let screen = Watched { screen: Screen::new(&Arc::default()), until: Until::new(text), told };
    let mut machine = Machine::new(boot.config(screen)).map_err(|error| machine_error(&error))?;
    let begun = Instant::now();
    machine.start().map_err(|error| machine_error(&error))?;
    await_text(&machine, &is_there, &interrupt, (text, limit)).map_err(|(reason, code)| {
        // The guest may have been in the middle of a line.
        show::err("\n");
        Failure::Sentence(format!("snapshot {} was not saved: {reason}", args.name), code)
    })?;
    let boot_ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
    machine.pause().map_err(|error| machine_error(&error))?;
    let (state, image) = machine.save(Arc::new(file)).map_err(|error| machine_error(&error))?;
    machine.stop();
    let (introduction, working_set) = (Vec::new(), OnceLock::new());
    let saved = Saved { name: args.name.clone(), state, image, introduction, working_set };
    finish(draft, &saved, made_of, boot_ns)?;
    Ok(EXIT_CLEAN)
}

fn made_of(args: &SaveArgs, kernel: &GuestKernel, boot: &Boot) -> Result<MadeOf, Failure> {
    let host = host_cpu(args.cpu.into(), args.cpus).map_err(|error| Failure::machine(&error))?;
    let made_of = Ingredients {
        kernel: &kernel.image,
        kernel_name: &args.kernel,
        initrd: boot.initrd.as_deref(),
        command_line: &boot.command_line,
        cpus: boot.cpus,
        memory_bytes: boot.memory_bytes,
        root_ports: SLOTS,
        cpu: args.cpu.name(),
        cpuid_digest: &digest(&host.cpuid),
        told: b"",
    };
    Ok(made_of.made_of()?)
}

/// Waits until the console has the text. What else ended the wait, and the exit code.
fn await_text(
    machine: &Machine,
    is_there: &Receiver<()>,
    interrupt: &AtomicBool,
    (text, limit): (&str, Duration),
) -> Result<(), (String, u8)> {
    let begun = Instant::now();
    loop {
        match is_there.recv_timeout(LOOK) {
            Ok(()) => return Ok(()),
            // The sender is the machine's.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        if let Some(cause) = machine.stop_cause() {
            // What it wrote last may be the text; it has gone all the same.
            let code =
                if let StopCause::InternalError(_) | StopCause::Stopped = cause { EXIT_MACHINE } else { EXIT_USER };
            return Err((format!("{cause} before its console had {text:?}; mend the initramfs or --when"), code));
        }
        if interrupt.load(Ordering::Relaxed) {
            return Err(("a signal ended it".into(), EXIT_INTERRUPTED));
        }
        if begun.elapsed() >= limit {
            let reason = format!(
                "its console did not have {text:?} within {} s; give more time with --within, or another text with --when",
                limit.as_secs()
            );
            return Err((reason, EXIT_USER));
        }
    }
}

/// What the guest writes goes to the terminal, and is looked through.
struct Watched {
    screen: Screen,
    until: Until,
    told: SyncSender<()>,
}

impl ConsoleSink for Watched {
    fn write(&mut self, bytes: &[u8]) {
        self.screen.write(bytes);
        if self.until.comes_in(bytes) {
            // Once is enough.
            let _ = self.told.try_send(());
        }
    }
}

/// Looks for a text in what comes piece by piece.
#[derive(Debug)]
struct Until {
    text: Vec<u8>,
    /// What may be its beginning.
    before: Vec<u8>,
}

impl Until {
    fn new(text: &str) -> Self {
        Self { text: text.as_bytes().to_vec(), before: Vec::new() }
    }

    /// Does the text end in these bytes?
    fn comes_in(&mut self, bytes: &[u8]) -> bool {
        self.before.extend_from_slice(bytes);
        let found = self.before.windows(self.text.len().max(1)).any(|window| window == self.text);
        let rest = self.before.len().saturating_sub(self.text.len().saturating_sub(1));
        self.before.drain(..rest);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_however_it_is_cut() {
        let console = b"reared\r\nready for you\r\n# ready";
        for size in 1..=console.len() {
            let mut until = Until::new("ready for");
            let found: Vec<bool> = console.chunks(size).map(|piece| until.comes_in(piece)).collect();
            assert_eq!(found.iter().filter(|found| **found).count(), 1, "{size}");
            assert!(until.before.len() < until.text.len());
        }
        assert!(!Until::new("steady").comes_in(console));
    }
}
