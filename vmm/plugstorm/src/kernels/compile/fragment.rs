//! Configuration fragments: those that plugstorm has by name, those of the user, and what they ask for together.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use super::BuildError;

include!(concat!(env!("OUT_DIR"), "/kernel_files.rs"));

/// The fragment that all others are on top of.
pub(super) const BASE: &str = "base";

/// What is asked of one option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// `=` and this: `y`, `m`, a number, a string with its quotes.
    Set(String),
    /// `is not set`, or `=n`, which is the same.
    Off,
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(value) => formatter.write_str(value),
            Self::Off => formatter.write_str("n"),
        }
    }
}

/// What a fragment asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fragment {
    /// What to call it.
    pub(super) name: String,
    /// Its options, without `CONFIG_`, in the order of its lines. The last line of an option counts.
    options: Vec<(String, Value)>,
}

/// An option as all fragments together ask for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) value: Value,
    /// The fragment that had the last word.
    pub(super) by: String,
}

/// Options by their names, without `CONFIG_`.
pub(super) type Wishes = BTreeMap<String, Wish>;

impl Fragment {
    /// One of ours by its name (`debug`, `debug.config`), or a file.
    pub(super) fn load(name_or_file: &str) -> Result<Self, BuildError> {
        let name = name_or_file.strip_suffix(".config").unwrap_or(name_or_file);
        if let Some((name, text)) = FRAGMENTS.iter().find(|(shipped, _)| *shipped == name) {
            return Self::parse(&format!("{name}.config"), text);
        }
        let text = fs::read(Path::new(name_or_file)).map_err(|source| BuildError::Fragment {
            given: name_or_file.into(),
            shipped: FRAGMENTS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "),
            source,
        })?;
        Self::parse(name_or_file, &String::from_utf8_lossy(&text))
    }

    /// Reads a fragment, or a whole `.config`.
    pub(super) fn parse(name: &str, text: &str) -> Result<Self, BuildError> {
        let mut options = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            match option(line) {
                Some(option) => options.push(option),
                None if line.is_empty() || line.starts_with('#') => {}
                None => {
                    return Err(BuildError::FragmentLine { fragment: name.into(), line: index + 1, text: line.into() });
                }
            }
        }
        Ok(Self { name: name.into(), options })
    }
}

/// `CONFIG_X=value` or `# CONFIG_X is not set`.
pub(super) fn option(line: &str) -> Option<(String, Value)> {
    let fit = |name: &&str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if let Some(off) = line.strip_prefix("# CONFIG_") {
        let name = off.strip_suffix(" is not set").filter(fit)?;
        return Some((name.into(), Value::Off));
    }
    let (name, value) = line.strip_prefix("CONFIG_")?.split_once('=')?;
    let name = Some(name).filter(fit)?;
    let value = match value.trim() {
        "" => return None,
        "n" => Value::Off,
        value => Value::Set(value.into()),
    };
    Some((name.into(), value))
}

/// What they ask for together. Of two that disagree the later one counts: that is how a fragment changes what is below it.
pub(super) fn merge(fragments: &[Fragment]) -> Wishes {
    let mut wishes = Wishes::new();
    for fragment in fragments {
        for (name, value) in &fragment.options {
            wishes.insert(name.clone(), Wish { value: value.clone(), by: fragment.name.clone() });
        }
    }
    wishes
}

/// The file that `KCONFIG_ALLCONFIG` names.
pub(super) fn text(wishes: &Wishes) -> String {
    wishes
        .iter()
        .map(|(name, wish)| match &wish.value {
            Value::Set(value) => format!("CONFIG_{name}={value}\n"),
            Value::Off => format!("# CONFIG_{name} is not set\n"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(name: &str, text: &str) -> Fragment {
        Fragment::parse(name, text).unwrap()
    }

    #[test]
    fn the_later_fragment_has_the_last_word() {
        let base = fragment("base", "CONFIG_HZ_250=y\nCONFIG_NR_CPUS=16\n# a comment\n");
        let other = fragment("mine", "# CONFIG_HZ_250 is not set\nCONFIG_HZ_100=y\nCONFIG_LOCALVERSION=\"-x=y\"\n");
        let wishes = merge(&[base, other]);
        assert_eq!(
            text(&wishes),
            "CONFIG_HZ_100=y\n# CONFIG_HZ_250 is not set\nCONFIG_LOCALVERSION=\"-x=y\"\nCONFIG_NR_CPUS=16\n"
        );
        assert_eq!(wishes["HZ_250"].by, "mine");
        assert_eq!(wishes["NR_CPUS"].by, "base");
    }

    #[test]
    fn no_is_the_same_however_it_is_written() {
        assert_eq!(option("CONFIG_A=n"), Some(("A".into(), Value::Off)));
        assert_eq!(option("# CONFIG_A is not set"), Some(("A".into(), Value::Off)));
        assert_eq!(option("# CONFIG_A is set by hand"), None);
    }

    #[test]
    fn a_line_that_sets_nothing_is_named() {
        for line in ["CONFIG_KASAN y", "KASAN=y", "CONFIG_=y", "CONFIG_A=", "CONFIG_A B=y"] {
            let error = Fragment::parse("mine.config", &format!("CONFIG_B=y\n{line}\n")).unwrap_err().to_string();
            assert!(error.starts_with("mine.config, line 2: "), "{error}");
        }
    }

    #[test]
    fn ours_are_known_by_name_and_others_are_files() {
        assert_eq!(Fragment::load("debug").unwrap(), Fragment::load("debug.config").unwrap());
        let error = Fragment::load("no-such-fragment").unwrap_err().to_string();
        for name in ["base", "debug", "kcsan", "timing", "leak", "hz-100", "preempt-full"] {
            assert!(error.contains(name), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine");
        fs::write(&path, "CONFIG_A=m\n").unwrap();
        let given = path.to_str().unwrap();
        assert_eq!(Fragment::load(given).unwrap().options, [("A".to_owned(), Value::Set("m".into()))]);
    }

    #[test]
    fn ours_can_be_read_and_none_says_a_thing_twice() {
        assert!(FRAGMENTS.len() >= 9, "{}", FRAGMENTS.len());
        for (name, text) in FRAGMENTS {
            let fragment = Fragment::parse(name, text).unwrap();
            let mut names: Vec<_> = fragment.options.iter().map(|(name, _)| name).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), fragment.options.len(), "{name}");
        }
    }

    #[test]
    fn a_fragment_that_chooses_a_tick_or_preemption_says_no_to_the_one_below() {
        for chosen in ["hz-100", "hz-1000", "preempt-none", "preempt-full"] {
            let wishes = merge(&[Fragment::load(BASE).unwrap(), Fragment::load(chosen).unwrap()]);
            let on = |name: &str| wishes.get(name).is_some_and(|wish| wish.value == Value::Set("y".into()));
            assert_eq!(["HZ_100", "HZ_250", "HZ_300", "HZ_1000"].into_iter().filter(|name| on(name)).count(), 1);
            let models = ["PREEMPT_NONE", "PREEMPT_VOLUNTARY", "PREEMPT", "PREEMPT_RT"];
            assert_eq!(models.into_iter().filter(|name| on(name)).count(), 1, "{chosen}");
        }
    }
}
