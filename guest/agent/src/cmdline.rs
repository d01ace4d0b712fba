//! What the kernel command line tells the agent.

/// A way for a guest to go bad, for the tests of the host: `plugstorm.misbehave=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Misbehaviour {
    /// `silent`: never opens the port.
    Silent,
    /// `panic`: makes the kernel panic.
    Panic,
    /// `reset`: reboots at once.
    Reset,
    /// `spin`: keeps all CPUs busy above everything else that can be scheduled.
    Spin,
    /// `flood`: writes to the console without end.
    Flood,
    /// `lie`: writes garbage and oversized lines to the port.
    Lie,
    /// `exit`: PID 1 ends.
    Exit,
}

/// When it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    /// Once the port is open ([`Misbehaviour::Silent`]: before).
    AtOnce,
    /// `…-late`: at the first command to start a hammer.
    Late,
}

/// A planted fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// What.
    pub(crate) what: Misbehaviour,
    /// When.
    pub(crate) when: When,
}

/// The planted fault in a kernel command line, if there is one.
///
/// # Errors
/// A sentence that names a word that is none of those known.
pub(crate) fn misbehaviour(command_line: &str) -> Result<Option<Plan>, String> {
    let Some(word) = command_line.split_ascii_whitespace().find_map(|word| word.strip_prefix("plugstorm.misbehave="))
    else {
        return Ok(None);
    };
    let (name, when) = word.strip_suffix("-late").map_or((word, When::AtOnce), |name| (name, When::Late));
    let what = match name {
        "silent" => Misbehaviour::Silent,
        "panic" => Misbehaviour::Panic,
        "reset" => Misbehaviour::Reset,
        "spin" => Misbehaviour::Spin,
        "flood" => Misbehaviour::Flood,
        "lie" => Misbehaviour::Lie,
        "exit" => Misbehaviour::Exit,
        _ => {
            return Err(format!(
                "plugstorm.misbehave={word} on the kernel command line is unknown: \
                 use silent, panic, reset, spin, flood, lie or exit, with or without -late"
            ));
        }
    };
    Ok(Some(Plan { what, when }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read() {
        assert_eq!(misbehaviour("console=hvc0 quiet").unwrap(), None);
        assert_eq!(
            misbehaviour("quiet plugstorm.misbehave=lie panic=-1\n").unwrap(),
            Some(Plan { what: Misbehaviour::Lie, when: When::AtOnce })
        );
        assert_eq!(
            misbehaviour("plugstorm.misbehave=panic-late").unwrap(),
            Some(Plan { what: Misbehaviour::Panic, when: When::Late })
        );
    }

    #[test]
    fn an_unknown_word_is_named() {
        assert!(misbehaviour("plugstorm.misbehave=nap").unwrap_err().contains("misbehave=nap "));
    }
}
