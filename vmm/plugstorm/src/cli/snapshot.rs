//! `plugstorm snapshot`: what is in the store, and getting rid of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::{Failure, SnapshotCommand, measure, save, show};
use crate::snapshots::{Listed, Snapshot, SnapshotError, State, Store};
use crate::verdict::EXIT_CLEAN;

pub(super) fn main(command: SnapshotCommand) -> Result<u8, Failure> {
    let store = Store::here();
    match command {
        SnapshotCommand::Save(args) => save::main(&args),
        SnapshotCommand::Measure(args) => measure::main(&args),
        SnapshotCommand::List { json } => list(&store, json),
        SnapshotCommand::Show { name, json } => show_one(&store, &name, json),
        SnapshotCommand::Drop { names, all, stale } => {
            let names = if all || stale { chosen(&store, all)? } else { names };
            remove(&store, names)
        }
    }
}

/// As the user sees it: what is wrong with a snapshot that he named, he can mend.
impl From<SnapshotError> for Failure {
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Cache(_) | SnapshotError::Io { .. } | SnapshotError::Contradiction { .. } => {
                Self::machine(&error)
            }
            _ => Self::user(&error),
        }
    }
}

fn list(store: &Store, json: bool) -> Result<u8, Failure> {
    let snapshots = store.list()?;
    if json {
        show::out(&pretty(&snapshots)?);
        return Ok(EXIT_CLEAN);
    }
    if snapshots.is_empty() {
        show::out("no snapshots in the cache\n");
    }
    for snapshot in &snapshots {
        show::out(&line(snapshot));
    }
    Ok(EXIT_CLEAN)
}

/// A line, and a second one on what is wrong.
fn line(snapshot: &Listed) -> String {
    let guest = snapshot.summary.as_ref().map_or_else(String::new, |summary| {
        format!("{}, {} CPUs, {} MiB", summary.kernel, summary.cpus, summary.memory_bytes >> 20)
    });
    let (state, why) = match &snapshot.state {
        State::Usable => ("usable", None),
        State::Stale(why) => ("stale", Some(why)),
        State::Damaged(why) => ("damaged", Some(why)),
    };
    let mut text = format!(
        "{:<37} {:<5} {guest:<32} {:>5} MiB on disk  used {:<12} {state}\n",
        snapshot.name,
        snapshot.kind,
        mib(snapshot.bytes_on_disk),
        ago(snapshot.last_used_unix_s),
    );
    if let Some(why) = why {
        text.push_str(&format!("  {why}\n"));
    }
    text
}

/// What `show --json` prints: a line of the list, and what only a full look tells.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    listed: &'a Listed,
    /// State and memory are what was saved.
    verified: bool,
    kernel_digest: &'a str,
    initrd_digest: Option<&'a str>,
    cpuid_digest: &'a str,
    state_bytes: u64,
    /// Parts of the memory with a digest each.
    memory_pieces: usize,
    /// What the agent said of itself.
    agent: &'a Option<Vec<plugstorm_wire::FromGuest>>,
}

fn show_one(store: &Store, name: &str, json: bool) -> Result<u8, Failure> {
    let snapshot = store.verify(name)?;
    let Some(listed) = store.listed(name) else {
        return Err(Failure::machine(&format!("snapshot {name} was removed by another process just now")));
    };
    if !json {
        show::out(&description(&snapshot, &listed));
        return Ok(EXIT_CLEAN);
    }
    let manifest = &snapshot.manifest;
    show::out(&pretty(&Shown {
        listed: &listed,
        verified: true,
        kernel_digest: &manifest.made_of.kernel.digest,
        initrd_digest: manifest.made_of.initrd_digest.as_deref(),
        cpuid_digest: &manifest.made_of.cpuid_digest,
        state_bytes: manifest.state.bytes,
        memory_pieces: manifest.memory.extents.len(),
        agent: &manifest.agent,
    })?);
    Ok(EXIT_CLEAN)
}

fn description(snapshot: &Snapshot, listed: &Listed) -> String {
    let manifest = &snapshot.manifest;
    let made_of = &manifest.made_of;
    let agent = if manifest.agent.is_some() { "waits for a storm" } else { "none" };
    let rows = [
        ("snapshot", format!("{}, made by a {}", manifest.name, listed.kind)),
        ("kernel", made_of.kernel.name.clone()),
        ("arguments", made_of.command_line.clone()),
        (
            "machine",
            format!(
                "{} CPUs ({}), {} MiB, {} root ports, TSC at {} kHz",
                made_of.cpus,
                made_of.cpu,
                made_of.memory_bytes >> 20,
                made_of.root_ports,
                manifest.tsc_khz
            ),
        ),
        ("agent", agent.to_owned()),
        (
            "saved",
            format!(
                "{} by {}, after a boot of {:.1} s",
                ago(manifest.created_unix_s),
                manifest.build,
                Duration::from_nanos(manifest.boot_ns).as_secs_f64()
            ),
        ),
        ("last used", ago(listed.last_used_unix_s)),
        ("on disk", format!("{} MiB", mib(listed.bytes_on_disk))),
        (
            "verified",
            format!(
                "all of it: {} bytes of state, {} MiB of memory in {} pieces, and zeroes around them",
                manifest.state.bytes,
                mib(manifest.memory_kept_bytes()),
                manifest.memory.extents.len()
            ),
        ),
    ];
    rows.iter().map(|(what, value)| format!("{what:<10} {value}\n")).collect()
}

/// All, or those that are of no use.
fn chosen(store: &Store, all: bool) -> Result<Vec<String>, Failure> {
    let snapshots = store.list()?.into_iter();
    Ok(snapshots.filter(|one| all || one.state != State::Usable).map(|one| one.name).collect())
}

fn remove(store: &Store, mut names: Vec<String>) -> Result<u8, Failure> {
    names.sort();
    names.dedup();
    // Of a list with a spelling mistake, nothing is removed.
    for name in &names {
        store.holds(name)?;
    }
    if names.is_empty() {
        show::out("nothing to remove\n");
    }
    for name in &names {
        let bytes = store.listed(name).map_or(0, |listed| listed.bytes_on_disk);
        store.remove(name, &mut show::progress)?;
        show::out(&format!("removed {name}, {} MiB\n", mib(bytes)));
    }
    Ok(EXIT_CLEAN)
}

pub(super) fn pretty(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|error| Failure::machine(&error))
}

/// Rounded up: what is there takes something.
pub(super) fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// A time in seconds since 1970, as a person puts it.
fn ago(unix_s: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    ago_s(now.saturating_sub(unix_s))
}

fn ago_s(seconds: u64) -> String {
    match seconds {
        0..=59 => "just now".to_owned(),
        60..=7199 => format!("{} min ago", seconds / 60),
        7200..=172_799 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_put_in_words() {
        let words = [0, 59, 60, 7199, 7200, 172_799, 172_800, 8_640_000].map(ago_s);
        let expected =
            ["just now", "just now", "1 min ago", "119 min ago", "2 h ago", "47 h ago", "2 days ago", "100 days ago"];
        assert_eq!(words, expected);
        assert_eq!([0, 1, 1 << 20].map(mib), [0, 1, 1]);
    }
}
