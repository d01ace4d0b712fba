//! Runs the programs that fetching and building need, and says which package has one that is missing.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};

use super::KernelError;

/// A program with its arguments.
#[derive(Debug)]
pub(super) struct Tool {
    program: &'static str,
    package: &'static str,
    command: Command,
}

impl Tool {
    /// `program`, which Debian and Ubuntu have in `package`.
    pub(super) fn new(program: &'static str, package: &'static str) -> Self {
        let mut command = Command::new(program);
        // Messages are read by us: in one language.
        command.env("LC_ALL", "C").stdin(Stdio::null());
        Self { program, package, command }
    }

    pub(super) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    pub(super) fn args<I: IntoIterator<Item: AsRef<OsStr>>>(mut self, arguments: I) -> Self {
        self.command.args(arguments);
        self
    }

    pub(super) fn folder(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// The command, for who runs it otherwise.
    pub(super) fn command(self) -> Command {
        self.command
    }

    /// Runs it to its end and gives what it wrote to its standard output.
    pub(super) fn output(mut self) -> Result<String, KernelError> {
        let output = self.command.output().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => KernelError::ToolMissing { program: self.program, package: self.package },
            _ => KernelError::ToolFailed {
                program: self.program,
                status: "could not be started".into(),
                message: source.to_string(),
            },
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        // The compiler's errors go to stderr, make's own framing to both: the end of stderr is what says why.
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let text = if text.trim().is_empty() { String::from_utf8_lossy(&output.stdout).into_owned() } else { text };
        Err(KernelError::ToolFailed { program: self.program, status: output.status.to_string(), message: tail(&text) })
    }
}

/// The last lines of a program's complaint, enough to act on.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines.get(lines.len().saturating_sub(12)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_its_package() {
        let error = Tool::new("no-such-program-here", "its-package").output().unwrap_err();
        assert!(error.to_string().contains("apt-get install its-package"), "{error}");
    }

    #[test]
    fn a_failure_carries_the_end_of_what_it_said() {
        let error = Tool::new("sh", "dash").args(["-c", "seq 100 >&2; exit 3"]).output().unwrap_err().to_string();
        assert!(error.contains("100") && !error.contains("\n50\n"), "{error}");
    }
}
