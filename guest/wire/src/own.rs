//! What a scenario's author brings along: device nodes of a driver of their own, and programs.

use serde::{Deserialize, Serialize};

use crate::PciAddress;

/// The agent's path in the guest. As a program of the scenario's it is there for [`AGENT_WRITES`].
pub const AGENT_PATH: &str = "/init";
/// The agent's first argument, as a program that writes a text (the third) to a file (the second) of the kernel's.
pub const AGENT_WRITES: &str = "write";

/// Output of a program that is passed on, in bytes: its beginning.
pub const PROGRAM_OUTPUT_BYTES: usize = 16 * 1024;

/// A device node, of any driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeTarget {
    /// Its path; in the last component `*` stands for any characters and `?` for one ([`node_matches`]).
    pub pattern: String,
    /// The root port that the node's device must be below; nothing if it may be anywhere.
    pub port: Option<PciAddress>,
    /// What [`crate::Operation::Ioctl`] does.
    pub ioctl: Option<IoctlSpec>,
    /// How much is read, written and mapped in one call, in bytes.
    pub bytes: u32,
}

/// One `ioctl()`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoctlSpec {
    /// Its number.
    pub number: u32,
    /// Its argument.
    pub argument: IoctlArgument,
}

/// The argument of an `ioctl()`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IoctlArgument {
    /// This number.
    Value(u64),
    /// The address of a buffer, which has this content before each call.
    Buffer {
        /// Its first bytes; the rest is zeroes.
        bytes: Vec<u8>,
        /// Its size in bytes.
        size: u32,
    },
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProgramEnd {
    /// With this exit code.
    Exited(i32),
    /// By this signal, such as `SIGSEGV`.
    Killed(String),
}

/// How often the runs of a program ended in one way, apart from exit code 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitCount {
    /// `exit 1`, or a signal's name.
    pub status: String,
    /// How often.
    pub count: u64,
}

/// What the tasks of a program that runs as a step are listed under ([`crate::TaskStack::hammer`]). No hammer is called so:
/// their names have no spaces.
#[must_use]
pub fn program_label(program: &[String]) -> String {
    format!("program {}", program.first().map_or("", String::as_str))
}

/// Whether a path fits a pattern: the folders are the same, and in the last component `*` stands for any characters, also
/// none, and `?` for one.
#[must_use]
pub fn node_matches(pattern: &str, path: &str) -> bool {
    match (pattern.rsplit_once('/'), path.rsplit_once('/')) {
        (Some((folder, pattern)), Some((there, name))) => folder == there && name_matches(pattern, name),
        (None, None) => name_matches(pattern, path),
        _ => false,
    }
}

/// In time proportional to the product of both lengths: a pattern comes from a scenario, a name from a guest.
fn name_matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut in_name) = (0, 0);
    // After the last star: where the pattern goes on, and what of the name it has taken.
    let mut star: Option<(usize, usize)> = None;
    while let Some(&c) = name.get(in_name) {
        match (pattern.get(at), star) {
            (Some('*'), _) => {
                at += 1;
                star = Some((at, in_name));
            }
            (Some(&wanted), _) if wanted == '?' || wanted == c => {
                at += 1;
                in_name += 1;
            }
            (_, Some((after, taken))) => {
                star = Some((after, taken + 1));
                (at, in_name) = (after, taken + 1);
            }
            _ => return false,
        }
    }
    pattern.get(at..).is_none_or(|rest| rest.iter().all(|&c| c == '*'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FromGuest, Line, LineReader, ToGuest, encode};

    #[test]
    fn patterns_are_of_the_last_component() {
        for (pattern, path, fits) in [
            ("/dev/mydev0", "/dev/mydev0", true),
            ("/dev/mydev0", "/dev/mydev01", false),
            ("/dev/mydev*", "/dev/mydev", true),
            ("/dev/mydev*", "/dev/mydev12", true),
            ("/dev/mydev*", "/dev/sub/mydev1", false),
            ("/dev/snd/pcm*p", "/dev/snd/pcmC0D0p", true),
            ("/dev/snd/pcm*p", "/dev/snd/pcmC0D0c", false),
            ("/dev/a?c", "/dev/abc", true),
            ("/dev/a?c", "/dev/ac", false),
            ("/dev/*a*b", "/dev/xaxaxb", true),
            ("/dev/*a*b", "/dev/xaxax", false),
            ("/dev/*", "/dev/", true),
            ("/dev/**", "/dev/x", true),
            ("mydev*", "mydev3", true),
            ("mydev*", "/dev/mydev3", false),
        ] {
            assert_eq!(node_matches(pattern, path), fits, "{pattern} {path}");
        }
        let much = "a".repeat(100_000);
        assert!(!node_matches("*a*a*a*b", &much));
    }

    #[test]
    fn messages_about_programs_survive_the_way() {
        let run = ToGuest::RunProgram { id: u64::MAX, program: vec!["/bin/x".into(), "a \"b\"\n".into()] };
        let mut seen = Vec::new();
        LineReader::new().push::<ToGuest>(&encode(&run).unwrap(), |line| seen.push(line));
        assert!(matches!(&seen[..], [Line::Message(read)] if *read == run));
        for end in [ProgramEnd::Exited(-1), ProgramEnd::Killed("SIGSEGV".into())] {
            let output = "\u{0}\u{fffd}\n".repeat(100);
            let ended =
                FromGuest::ProgramEnded { id: 7, began_tsc: 1, ended_tsc: 2, end, output, output_bytes: u64::MAX };
            let mut seen = Vec::new();
            LineReader::new().push::<FromGuest>(&encode(&ended).unwrap(), |line| seen.push(line));
            assert!(matches!(&seen[..], [Line::Message(read)] if *read == ended));
        }
    }

    #[test]
    fn the_greatest_output_fits_into_a_line() {
        // A control character takes six bytes in JSON.
        let output = "\u{1}".repeat(PROGRAM_OUTPUT_BYTES);
        let end = ProgramEnd::Exited(0);
        let ended = FromGuest::ProgramEnded { id: 1, began_tsc: 1, ended_tsc: 2, end, output, output_bytes: 1 };
        assert!(encode(&ended).unwrap().len() < crate::MAX_LINE_BYTES);
    }

    #[test]
    fn targets_survive_the_way() {
        for argument in [IoctlArgument::Value(u64::MAX), IoctlArgument::Buffer { bytes: vec![0, 255], size: 64 }] {
            let ioctl = Some(IoctlSpec { number: 0x8000_5001, argument });
            let port = Some(PciAddress("0000:00:01.0".into()));
            let target = NodeTarget { pattern: "/dev/mydev*".into(), port, ioctl, bytes: 512 };
            let read: NodeTarget = serde_json::from_slice(&encode(&target).unwrap()).unwrap();
            assert_eq!(read, target);
        }
    }
}
