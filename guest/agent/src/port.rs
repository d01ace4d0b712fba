//! The port of the virtio console that leads to the host.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use plugstorm_wire::{FromGuest, Line, LineReader, PORT_NAME, ToGuest};

use crate::console;
use crate::outbox::Outbox;
use crate::sysfs;
use crate::uevent::{Received, UeventSocket};

const CLASS: &str = "/sys/class/virtio-ports";

/// After this long without the port, the console says what is missing. Long, for guests under software emulation.
const FIND_TIMEOUT: Duration = Duration::from_secs(30);

/// The port, open, with what waits to be written to it.
#[derive(Debug)]
pub(crate) struct Port {
    file: File,
    reader: LineReader,
    outbox: Outbox,
}

/// How [`Port::flush`] ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
    /// Nothing waits any more.
    All,
    /// The port takes no more for now; epoll tells when it does.
    Full,
    /// The port failed, and nothing will tell when it no longer does.
    Failed,
}

impl Port {
    /// Finds the port by its name and opens it. Waits for as long as it takes, without polling: each uevent is a reason
    /// to look again, since a port gets its name by a message of the host (virtio 1.2, 5.3.6.2) after it has appeared.
    pub(crate) fn wait_and_open(uevents: &UeventSocket) -> Self {
        let deadline = Instant::now() + FIND_TIMEOUT;
        let mut told = false;
        loop {
            let missing = match find(Path::new(CLASS)) {
                Ok(Some(node)) => match open(&node) {
                    Ok(file) => return Self { file, reader: LineReader::new(), outbox: Outbox::default() },
                    Err(error) => format!("cannot open {}: {error}", node.display()),
                },
                Ok(None) => format!(
                    "no port named {PORT_NAME} under {CLASS}: is the host's virtio console there, and its driver \
                     (CONFIG_VIRTIO_CONSOLE) in this kernel?"
                ),
                Err(error) => {
                    format!("{error}: this kernel has no virtio console driver (CONFIG_VIRTIO_CONSOLE), or no device")
                }
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() && !told {
                told = true;
                console::say(&missing);
            }
            wait_for_uevent(uevents, if told { None } else { Some(left) });
        }
    }

    /// Queues a message. One that had to be dropped is told of on the console.
    pub(crate) fn send(&mut self, message: &FromGuest) {
        if let Err(error) = self.outbox.push(message) {
            console::say(&error);
        }
    }

    /// Queues lines of the trace.
    pub(crate) fn send_trace(&mut self, lines: Vec<String>, lost: u64) {
        self.outbox.push_trace(lines, lost);
    }

    /// See [`Outbox::settle_trace`].
    pub(crate) fn settle_trace(&mut self) {
        self.outbox.settle_trace();
    }

    /// Writes what waits for as long as the port takes it; never blocks.
    pub(crate) fn flush(&mut self) -> Flush {
        while !self.outbox.is_empty() {
            match self.file.write(self.outbox.next_bytes()) {
                Ok(0) => return Flush::Full,
                Ok(count) => self.outbox.written(count),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Flush::Full,
                // Such as no memory for a buffer, which passes.
                Err(_) => return Flush::Failed,
            }
        }
        Flush::All
    }

    /// Reads all that the host has sent and hands each line to `sink`.
    ///
    /// # Errors
    /// What the port gave, but for "nothing now". A host that is not connected is no error: it gives no bytes.
    pub(crate) fn read(&mut self, mut sink: impl FnMut(Line<ToGuest>)) -> io::Result<()> {
        let mut buffer = [0; 16 << 10];
        loop {
            match self.file.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => self.reader.push(buffer.get(..count).unwrap_or_default(), &mut sink),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// The bare file, for a guest that means to write what is no message; with blocking writes.
    pub(crate) fn into_blocking_file(self) -> nix::Result<File> {
        nix::fcntl::fcntl(&self.file, nix::fcntl::FcntlArg::F_SETFL(OFlag::empty()))?;
        Ok(self.file)
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The device node of the port with our name. A port without a name gives no `name` file, and is passed over.
fn find(class: &Path) -> Result<Option<PathBuf>, sysfs::KernelFileError> {
    let ports = sysfs::list(class)?;
    let ours = ports.into_iter().find(|port| sysfs::read(class.join(port).join("name")).is_ok_and(|n| n == PORT_NAME));
    Ok(ours.map(|port| Path::new("/dev").join(port)))
}

fn open(node: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(node)
}

/// Waits until a uevent has come, or `timeout` is over; takes all uevents that are there.
fn wait_for_uevent(uevents: &UeventSocket, timeout: Option<Duration>) {
    let timeout = match timeout {
        None => PollTimeout::NONE,
        Some(left) => PollTimeout::try_from(left.saturating_add(Duration::from_millis(1))).unwrap_or(PollTimeout::MAX),
    };
    let mut descriptors = [PollFd::new(uevents.as_fd(), PollFlags::POLLIN)];
    if let Err(errno) = poll(&mut descriptors, timeout)
        && errno != Errno::EINTR
    {
        console::say(&format!("cannot wait for uevents: {errno}"));
        std::thread::sleep(Duration::from_secs(1));
    }
    while let Received::Uevent(_) | Received::Lost = uevents.next() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_found_by_its_name() {
        let class = std::env::temp_dir().join(format!("plugstorm-agent-ports-{}", std::process::id()));
        for (port, name) in [("vport0p0", None), ("vport0p1", Some("other\n")), ("vport0p2", Some("plugstorm.agent\n"))]
        {
            std::fs::create_dir_all(class.join(port)).unwrap();
            if let Some(name) = name {
                std::fs::write(class.join(port).join("name"), name).unwrap();
            }
        }
        assert_eq!(find(&class).unwrap(), Some(PathBuf::from("/dev/vport0p2")));
        std::fs::remove_dir_all(class.join("vport0p2")).unwrap();
        assert_eq!(find(&class).unwrap(), None);
        std::fs::remove_dir_all(&class).unwrap();
        assert!(find(&class).unwrap_err().to_string().contains("cannot read"));
    }
}
