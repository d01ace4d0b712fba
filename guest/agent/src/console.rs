//! What a human reads on the guest's console, for the case that the port to the host is what failed.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::OFlag;

/// Writes one line to the console, after the agent's name. A console that cannot be written to is ignored: there is
/// nowhere left to say so.
pub(crate) fn say(text: &str) {
    // In one write, so that lines of the kernel do not get in between.
    let line = format!("plugstorm-agent: {text}\n");
    // Before devtmpfs is mounted, /dev/console is the node of the kernel's built-in initramfs.
    let console = OpenOptions::new().write(true).custom_flags(OFlag::O_NOCTTY.bits()).open("/dev/console");
    let _ = match console {
        Ok(mut console) => console.write_all(line.as_bytes()),
        Err(_) => std::io::stderr().write_all(line.as_bytes()),
    };
}
