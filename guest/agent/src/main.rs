//! plugstorm-agent: PID 1 of the guest.
//!
//! It mounts what it needs, loads the modules that the host put beside it, and then does what the host tells it over a
//! port of the virtio console (plugstorm-wire). The processes of hammers are itself again; other programs run only if the
//! scenario names them.

mod agent;
mod clock;
mod cmdline;
mod console;
mod entropy;
mod hammer;
mod hotplug;
mod leaks;
mod locks;
mod measure;
mod misbehave;
mod modules;
mod mounts;
mod outbox;
mod points;
mod port;
mod priority;
mod programs;
mod spawn;
mod states;
mod sysfs;
mod tasks;
mod trace;
mod uevent;
mod watchdogs;

use std::process::ExitCode;

use plugstorm_wire::AGENT_WRITES;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(hammer::ARGUMENT) {
        hammer::run_process();
        return ExitCode::SUCCESS;
    }
    if std::env::args().nth(1).as_deref() == Some(AGENT_WRITES) {
        return write(std::env::args().skip(2));
    }
    // On a machine of its own it would mount over what is there, and power it off when told.
    if std::process::id() != 1 {
        eprintln!("plugstorm-agent is PID 1 of a guest: put it into an initramfs as /init");
        return ExitCode::from(2);
    }
    agent::run()
}

/// As a program that a scenario may run: writes a text to a file of the kernel's, such as /sys/…, in one piece. A process of its own,
/// since what the kernel does then may be the end of it.
fn write(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    match (arguments.next(), arguments.next(), arguments.next()) {
        (Some(path), Some(text), None) => match sysfs::write(path, &text) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("usage: /init {AGENT_WRITES} FILE TEXT");
            ExitCode::from(2)
        }
    }
}
