//! By what a kernel watches itself. Such a kernel finds more, and is none to measure on.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Options that cost what they watch more than any design differs from another. `guest/kernel/timing.config` keeps more than
/// these off: Debian's own kernels check their lists, say, and can be measured.
const WATCHERS: [&str; 9] = [
    "KASAN",
    "KCSAN",
    "DEBUG_KMEMLEAK",
    "PROVE_LOCKING",
    "LOCK_STAT",
    "DEBUG_ATOMIC_SLEEP",
    "PROVE_RCU",
    "DEBUG_OBJECTS",
    "SLUB_DEBUG_ON",
];

/// Those of a kernel in the cache, by its configuration's file; none if that cannot be read.
pub(super) fn of(folder: &Path) -> Vec<String> {
    fs::read_to_string(folder.join("config")).map_or_else(|_| Vec::new(), |config| among(&config))
}

fn among(config: &str) -> Vec<String> {
    let lines: BTreeSet<&str> = config.lines().collect();
    let options = WATCHERS.iter().map(|option| format!("CONFIG_{option}"));
    options.filter(|option| lines.contains(format!("{option}=y").as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_on_watches() {
        let config = "CONFIG_HAVE_ARCH_KASAN=y\nCONFIG_KASAN=y\n# CONFIG_KCSAN is not set\nCONFIG_PROVE_RCU=y\n";
        assert_eq!(among(config), ["CONFIG_KASAN", "CONFIG_PROVE_RCU"]);
        assert_eq!(among("CONFIG_KASAN_GENERIC=y\nCONFIG_DEBUG_LIST=y\n"), [] as [String; 0]);
        assert!(of(Path::new("/nonexistent")).is_empty());
    }

    #[test]
    fn debug_watches_and_timing_does_not() {
        let fragment = |name: &str| {
            let (_, text) = super::super::compile::FRAGMENTS.iter().find(|(shipped, _)| *shipped == name).unwrap();
            among(text)
        };
        assert!(fragment("debug").contains(&"CONFIG_KASAN".to_owned()));
        assert_eq!(fragment("timing"), [] as [String; 0]);
        // What can watch is kept off there, so that nothing turns it on unseen.
        let (_, timing) = super::super::compile::FRAGMENTS.iter().find(|(shipped, _)| *shipped == "timing").unwrap();
        for option in WATCHERS {
            assert!(timing.contains(&format!("# CONFIG_{option} is not set\n")), "{option}");
        }
    }
}
