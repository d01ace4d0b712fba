//! Which cells cannot be: a scenario that asks of a design what it cannot have.

use crate::scenario::{Design, Driver, Scenario, operation_name};

/// What an operation cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A section that can be entered where nothing may sleep.
    Atomic,
    /// A section that may sleep.
    Asleep,
}

impl Need {
    fn is_met(self, by: Design) -> bool {
        match self {
            Self::Atomic => by.atomic(),
            Self::Asleep => by.sleeps(),
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Atomic => "can be entered where nothing may sleep (a timer, an interrupt)",
            Self::Asleep => "may sleep",
        }
    }
}

/// Operations on our device, by their names in scenarios, that our driver answers with EOPNOTSUPP where the design lacks this.
/// Events come by way of the interrupt handler. None needs a section that sleeps: where it may not, the driver leaves it for
/// that and enters it again.
const NEEDS: &[(&str, Need)] =
    &[("timer", Need::Atomic), ("read-event", Need::Atomic), ("read-event-nonblocking", Need::Atomic)];

/// Can the scenario be run with this design under its devices?
///
/// # Errors
/// Why not, as a clause about the design.
pub fn applicable(scenario: &Scenario, design: Design) -> Result<(), String> {
    let ours = scenario.hammers.iter().filter(|hammer| {
        let device = hammer.device.and_then(|device| scenario.devices.get(device));
        device.is_some_and(|device| matches!(device.driver, Driver::Plugstorm(_)))
    });
    let operations: Vec<String> =
        ours.flat_map(|hammer| &hammer.operations).map(|operation| operation_name(*operation)).collect();
    lacking(&operations, design, NEEDS).map_or(Ok(()), Err)
}

fn lacking(operations: &[String], design: Design, needs: &[(&str, Need)]) -> Option<String> {
    let unmet = |operation: &String| {
        needs.iter().find(|(name, need)| name == operation && !need.is_met(design)).map(|(_, need)| need)
    };
    let (operation, need) = operations.iter().find_map(|operation| Some((operation, unmet(operation)?)))?;
    Some(format!("`{operation}` needs a section that {}, and this design has none", need.words()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::parse;

    #[test]
    fn what_a_design_lacks_is_told_with_the_operation_that_wants_it() {
        let needs = [("timer", Need::Atomic), ("doze", Need::Asleep)];
        let told = |operations: &[&str], design| {
            let operations: Vec<_> = operations.iter().map(|&name| name.to_owned()).collect();
            lacking(&operations, design, &needs)
        };
        assert_eq!(told(&["read", "timer"], Design::StackToken), None);
        assert_eq!(told(&["read", "doze"], Design::Rwsem), None);
        assert_eq!(
            told(&["read", "timer"], Design::Rwsem).unwrap(),
            "`timer` needs a section that can be entered where nothing may sleep (a timer, an interrupt), and this design \
             has none"
        );
        assert_eq!(
            told(&["doze"], Design::DevresBound).unwrap(),
            "`doze` needs a section that may sleep, and this design has none"
        );
    }

    #[test]
    fn what_all_designs_have_is_applicable_to_all() {
        let text = "[[device]]\nname = \"gpio\"\ndriver = \"plugstorm\"\ndesign = \"stack-token\"\n[[hammer]]\nname = \"h\"\n\
                    device = \"gpio\"\nthreads = 1\noperations = [\"read\", \"poll-wait\", \"ioctl-hold\"]\n\
                    [[step]]\ndo = \"add\"\ndevice = \"gpio\"\n[[step]]\ndo = \"start\"\nhammer = \"h\"\n[[step]]\n\
                    do = \"remove\"\ndevice = \"gpio\"\nhow = \"surprise\"\n[[step]]\ndo = \"stop\"\nhammer = \"h\"\n";
        let scenario = parse(text, "file", "stem").unwrap();
        for design in Design::ALL {
            assert_eq!(applicable(&scenario, design), Ok(()), "{design:?}");
        }
    }
}
