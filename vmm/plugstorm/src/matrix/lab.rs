//! The laboratory's scenarios, in the binary: whoever has no copy of the repository has them too.

include!(concat!(env!("OUT_DIR"), "/lab_scenarios.rs"));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Design, parse};

    #[test]
    fn each_runs_with_every_design_and_says_which_interleaving_it_is_for() {
        assert!(!SCENARIOS.is_empty());
        for (name, text) in SCENARIOS {
            let mut scenario = parse(text, name, name).unwrap();
            assert_eq!(scenario.name, *name, "its file's name");
            assert!(!scenario.about.is_empty() && scenario.warnings.is_empty(), "{name}: {:?}", scenario.warnings);
            assert!(text.lines().any(|line| line.starts_with('#')), "{name} has a comment on the interleaving");
            for design in Design::ALL {
                scenario.override_design(design).unwrap();
            }
        }
    }
}
