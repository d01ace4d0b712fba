//! Lines of `trace_pipe`, with `trace_clock` set to `x86-tsc`.

use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::symbol::Symbol;

/// A longer line is no event of ours.
const MAX_LINE_BYTES: usize = 4096;
/// No event of ours has more fields.
const MAX_FIELDS: usize = 16;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceEvent {
    /// The task's name. May contain anything, spaces, dashes and brackets included.
    pub task: String,
    /// The task's id: of the thread, not of its group.
    pub pid: u32,
    /// The CPU it ran on.
    pub cpu: u32,
    /// The guest's time-stamp counter.
    pub clock_ticks: u64,
    /// The event's name.
    pub name: String,
    /// The function that returned or was entered, from the part in parentheses.
    pub function: Option<Symbol>,
    /// Where a return probe's function returned to.
    pub returned_to: Option<Symbol>,
    /// The event's arguments, in order.
    pub fields: Vec<(String, String)>,
}

impl TraceEvent {
    /// The value of an argument.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Who called the function: the argument `caller` at an entry, the place returned to at a return. Nothing where a
    /// return probe's trampoline hides it.
    #[must_use]
    pub fn caller(&self) -> Option<Symbol> {
        let caller = self.field("caller").and_then(Symbol::parse).or_else(|| self.returned_to.clone())?;
        let hidden = ["arch_rethook_trampoline", "kretprobe_trampoline", "__kretprobe_trampoline"];
        (!hidden.contains(&caller.name.as_str())).then_some(caller)
    }
}

/// The kernel's note that it overwrote events before they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostEvents {
    /// The CPU whose buffer ran over.
    pub cpu: u32,
    /// How many; nothing if the kernel does not know.
    pub events: Option<u64>,
}

/// Task, pid, thread group if recorded, CPU, flags if shown, ticks, name, rest (`trace_print_context()` in
/// kernel/trace/trace_output.c).
static EVENT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"^ *(.+?)-([0-9]{1,10}) +(?:\( *[-0-9]+\) +)?\[([0-9]{1,5})\] +(?:([^ :]{4,6}) +)?([0-9]{1,20}): ([A-Za-z_][A-Za-z0-9_]*):(?: (.*))?$",
    )
    .ok()
});

static LOST: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"^ *CPU:([0-9]{1,5}) \[LOST(?: ([0-9]{1,20}))? EVENTS\]").ok());

/// Reads one line. Gives nothing for comments, notes, events with another clock and garbage.
#[must_use]
pub fn parse_line(line: &str) -> Option<TraceEvent> {
    let line = line.trim_end();
    if line.len() > MAX_LINE_BYTES {
        return None;
    }
    let parts = EVENT.as_ref()?.captures(line)?;
    let part = |index| parts.get(index).map_or("", |found| found.as_str());
    let (function, returned_to, fields) = parse_rest(part(7));
    Some(TraceEvent {
        task: part(1).to_owned(),
        pid: part(2).parse().ok()?,
        cpu: part(3).parse().ok()?,
        clock_ticks: part(5).parse().ok()?,
        name: part(6).to_owned(),
        function,
        returned_to,
        fields,
    })
}

/// Reads `CPU:0 [LOST 12 EVENTS]`.
#[must_use]
pub fn parse_lost(line: &str) -> Option<LostEvents> {
    let parts = LOST.as_ref()?.captures(line)?;
    let cpu = parts.get(1)?.as_str().parse().ok()?;
    Some(LostEvents { cpu, events: parts.get(2).and_then(|events| events.as_str().parse().ok()) })
}

/// The part after the event's name: `(synchronize_srcu+0x0/0x180) domain=0x1 caller=f+0x1/0x2 [module]`, or
/// `(gpiochip_remove+0x66/0x160 <- synchronize_srcu)` at a return.
fn parse_rest(rest: &str) -> (Option<Symbol>, Option<Symbol>, Vec<(String, String)>) {
    let (place, arguments) = match rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
        Some((place, arguments)) => (place, arguments),
        None => ("", rest),
    };
    let (function, returned_to) = match place.split_once(" <- ") {
        Some((returned_to, function)) => (Symbol::parse(function), Symbol::parse(returned_to)),
        None => (Symbol::parse(place), None),
    };
    // A value may contain a space (`f+0x1/0x2 [module]`): a word without a name before '=' belongs to the one before.
    let mut fields: Vec<(String, String)> = Vec::new();
    for word in arguments.split_ascii_whitespace() {
        let named = word
            .split_once('=')
            .filter(|(key, _)| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
        if let Some((key, value)) = named {
            if fields.len() == MAX_FIELDS {
                break;
            }
            fields.push((key.to_owned(), value.to_owned()));
        } else if let Some((_, value)) = fields.last_mut() {
            value.push(' ');
            value.push_str(word);
        }
    }
    (function, returned_to, fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_entry_is_read() {
        let line = "   irq/27-pciehp-85      [001] .....  123456789012: srcu_begin: (synchronize_srcu+0x0/0x180) \
                    domain=0xffff888003a3c0e8 caller=gpiochip_remove+0x66/0x160";
        let event = parse_line(line).unwrap();
        assert_eq!((event.task.as_str(), event.pid, event.cpu), ("irq/27-pciehp", 85, 1));
        assert_eq!((event.clock_ticks, event.name.as_str()), (123_456_789_012, "srcu_begin"));
        assert_eq!(event.field("domain"), Some("0xffff888003a3c0e8"));
        assert_eq!(event.caller().unwrap().to_string(), "gpiochip_remove");
        assert_eq!(event.function.unwrap().name, "synchronize_srcu");
    }

    #[test]
    fn a_return_is_read() {
        let line = " irq/27-pciehp-85 [001] d..1. 42: srcu_end: (gpiochip_remove+0x66/0x160 <- synchronize_srcu)";
        let event = parse_line(line).unwrap();
        assert_eq!(event.function.as_ref().unwrap().name, "synchronize_srcu");
        assert_eq!(event.caller().unwrap().name, "gpiochip_remove");
    }

    #[test]
    fn a_module_in_a_value_stays_with_it() {
        let line = "x-1 [000] ..... 7: srcu_begin: (synchronize_srcu+0x0/0x180) caller=plugstorm_revoke+0x1/0x2 [plugstorm] domain=0x1";
        let event = parse_line(line).unwrap();
        assert_eq!(event.caller().unwrap().to_string(), "plugstorm_revoke [plugstorm]");
        assert_eq!(event.field("domain"), Some("0x1"));
    }

    #[test]
    fn task_names_may_contain_anything() {
        for task in ["a b", "a-1 [0] x", "[kworker/0:1]", "-", "ünder-7", "(sd-pam)", "kworker/u8:2-events"] {
            let line = format!("{task:>16}-12    (     12) [003] dN.1. 99: srcu_end: (f+0x1/0x2 <- g)");
            let event = parse_line(&line).unwrap();
            assert_eq!((event.task.as_str(), event.pid, event.cpu), (task, 12, 3));
        }
    }

    #[test]
    fn a_trampoline_is_no_caller() {
        let line = "x-1 [000] ..... 7: srcu_exp_begin: (f+0x0/0x1) caller=arch_rethook_trampoline+0x0/0x70";
        assert_eq!(parse_line(line).unwrap().caller(), None);
    }

    #[test]
    fn other_lines_are_refused() {
        for line in
            ["", "# tracer: nop", "x-1 [000] ..... 12.345678: name: text", "x-1 [000] .....", "CPU:0 [LOST 12 EVENTS]"]
        {
            assert_eq!(parse_line(line), None, "{line}");
        }
        assert_eq!(parse_lost("CPU:3 [LOST 12 EVENTS]"), Some(LostEvents { cpu: 3, events: Some(12) }));
        assert_eq!(parse_lost("CPU:0 [LOST EVENTS]"), Some(LostEvents { cpu: 0, events: None }));
        assert_eq!(parse_lost("nothing"), None);
    }

    proptest! {
        #[test]
        fn any_line_is_survived(line in ".{0,200}") {
            let _ = parse_line(&line);
            let _ = parse_lost(&line);
        }

        #[test]
        fn half_right_lines_are_survived(rest in r"[()<\-= a-z+0-9/\[\]]{0,80}") {
            let event = parse_line(&format!("a-1 [000] ..... 5: srcu_begin: {rest}"));
            prop_assert!(event.is_some_and(|event| event.fields.len() <= MAX_FIELDS));
        }
    }
}
