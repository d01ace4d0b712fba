//! Readers counted in and out of an SRCU domain, from what our module tells of a device (guest/module/srcu_counts.c).

use plugstorm_observe::hang::DomainBalance;
use plugstorm_wire::DeviceState;

/// Devices that are looked at: a guest says how many there are.
const MOST_DEVICES: usize = 16;

/// The domains of these devices. A device whose design has none, or whose text is something else, gives none.
pub(super) fn balances(states: &[DeviceState]) -> Vec<DomainBalance> {
    states.iter().take(MOST_DEVICES).filter_map(balance).collect()
}

/// `srcu0 locks 12 unlocks 8 inside 4`, and the same for `srcu1`.
fn balance(state: &DeviceState) -> Option<DomainBalance> {
    let counts = |index: &str| {
        let line = state.text.lines().find_map(|line| line.strip_prefix(index))?;
        let mut words = line.split_whitespace();
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("locks"), Some(locks), Some("unlocks"), Some(unlocks)) => {
                Some((locks.parse().ok()?, unlocks.parse().ok()?))
            }
            _ => None,
        }
    };
    let ((entered0, left0), (entered1, left1)) = (counts("srcu0 ")?, counts("srcu1 ")?);
    let design = state.text.lines().find_map(|line| line.strip_prefix("design ")).unwrap_or("unknown");
    let word = |text: &str| text.chars().filter(|c| c.is_ascii_graphic()).take(32).collect::<String>();
    Some(DomainBalance {
        name: format!("{}, design {}", word(&state.device), word(design)),
        entered: [entered0, entered1],
        left: [left0, left1],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(text: &str) -> DeviceState {
        DeviceState { device: "plugstorm0".into(), text: text.into() }
    }

    #[test]
    fn the_modules_words_are_read() {
        let text = "design shared-handle\nphase revoking\nopens 1\nsrcu0 locks 3 unlocks 7 inside -4\nsrcu1 locks 9 unlocks 5 inside 4\n";
        let read = balances(&[state(text)]);
        assert_eq!(read.len(), 1);
        assert_eq!((read[0].entered, read[0].left, read[0].inside()), ([3, 9], [7, 5], [-4, 4]));
        assert_eq!(read[0].name, "plugstorm0, design shared-handle");
    }

    #[test]
    fn other_words_give_nothing() {
        for text in [
            "",
            "design unprotected\nphase live\n",
            "srcu0 locks x unlocks 1\nsrcu1 locks 1 unlocks 1\n",
            "srcu0 locks 1\n",
        ] {
            assert!(balances(&[state(text)]).is_empty(), "{text}");
        }
    }
}
