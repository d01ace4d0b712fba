//! Whether a configuration is what was asked for, and if not, why.

use std::collections::BTreeMap;
use std::fmt;

use super::expression::{Expression, Tri};
use super::fragment::{self, Value, Wish, Wishes};
use super::kconfig::{Declaration, Kconfig};

/// How many selectors or names are listed.
const LISTED: usize = 4;
/// How like a name must be to be meant (Jaro-Winkler).
const LIKENESS: f64 = 0.88;

/// An option that did not come out as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmet {
    name: String,
    wanted: String,
    by: String,
    got: Option<String>,
    reason: Option<String>,
}

impl fmt::Display for Unmet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, wanted, by, .. } = self;
        write!(formatter, "CONFIG_{name}={wanted}, asked for by {by}, ")?;
        match &self.got {
            Some(got) => write!(formatter, "came out as {got}")?,
            None => formatter.write_str("is not known to this source")?,
        }
        match &self.reason {
            Some(reason) => write!(formatter, ": {reason}"),
            None => Ok(()),
        }
    }
}

/// A `.config`, by names without `CONFIG_`.
pub(super) type Config = BTreeMap<String, String>;

/// Reads a `.config`. What is not set is not in it.
pub(super) fn read(text: &str) -> Config {
    let options = text.lines().filter_map(fragment::option);
    options
        .filter_map(|(name, value)| match value {
            Value::Set(value) => Some((name, value)),
            Value::Off => None,
        })
        .collect()
}

/// What came of the wishes: those that were not met, and a sentence on each `is not set` that names no option.
pub(super) fn compare(wishes: &Wishes, config: &Config, kconfig: &Kconfig) -> (Vec<Unmet>, Vec<String>) {
    let (mut unmet, mut notes) = (Vec::new(), Vec::new());
    for (name, wish) in wishes {
        let got = config.get(name);
        let met = match &wish.value {
            Value::Set(value) => got == Some(value),
            Value::Off => got.is_none(),
        };
        let known = kconfig.declarations.contains_key(name);
        if met && wish.value == Value::Off && !known {
            notes.push(format!(
                "{} turns CONFIG_{name} off, which this source does not know{}",
                wish.by,
                meant(name, kconfig)
            ));
        }
        if met {
            continue;
        }
        let reason = if known {
            reason(name, wish, wishes, config, kconfig)
        } else {
            Some(meant(name, kconfig)).filter(|text| !text.is_empty()).map(|text| text.trim_start_matches("; ").into())
        };
        let got = (known || got.is_some()).then(|| got.map_or("n", String::as_str).to_owned());
        unmet.push(Unmet { name: name.clone(), wanted: wish.value.to_string(), by: wish.by.clone(), got, reason });
    }
    (unmet, notes)
}

/// What an unknown name may have been meant to be.
fn meant(name: &str, kconfig: &Kconfig) -> String {
    let likeness = |other: &str| strsim::jaro_winkler(name, other);
    let best = kconfig.declarations.keys().max_by(|one, other| likeness(one).total_cmp(&likeness(other)));
    let best = best.filter(|best| likeness(best) >= LIKENESS);
    best.map(|best| format!("; did you mean CONFIG_{best}?")).unwrap_or_default()
}

fn reason(name: &str, wish: &Wish, wishes: &Wishes, config: &Config, kconfig: &Kconfig) -> Option<String> {
    let look = Look { wishes, config };
    let declarations = kconfig.declarations.get(name)?;
    let on: Vec<_> = kconfig.rivals(name).into_iter().filter(|rival| look.value(rival) != Tri::N).collect();
    match &wish.value {
        Value::Off => {
            let holds = |condition: Option<&Expression>| condition.is_none_or(|it| look.of(it) != Tri::N);
            let selectors = kconfig.selectors(name);
            let mut active: Vec<&str> = selectors
                .iter()
                .filter(|(selector, condition)| look.value(selector) != Tri::N && holds(*condition))
                .map(|(selector, _)| *selector)
                .collect();
            active.dedup();
            if !active.is_empty() {
                let who: Vec<String> = active.iter().take(LISTED).map(|name| look.named(name)).collect();
                return Some(format!("selected by {}", who.join(", ")));
            }
            if declarations.iter().any(|declaration| declaration.choice.is_some()) {
                return Some("it is one of a choice, of which one has to be on: ask for another one of it".into());
            }
            let prompt = declarations.iter().any(|declaration| look.offers(declaration));
            (!prompt).then(|| "nobody can set it: its default follows from other options".into())
        }
        Value::Set(wanted) => {
            let wanted = if wanted == "m" { Tri::M } else { Tri::Y };
            let missing = declarations.iter().find_map(|declaration| look.missing(declaration, wanted));
            if let Some(missing) = missing {
                return Some(missing);
            }
            if !declarations.iter().any(|declaration| look.offers(declaration)) {
                let mut selectors: Vec<&str> = kconfig.selectors(name).into_iter().map(|(name, _)| name).collect();
                selectors.dedup();
                let who = selectors.get(..LISTED.min(selectors.len())).unwrap_or_default().join(", ");
                let who = if who.is_empty() { who } else { format!(" ({who} would)") };
                return Some(format!("nobody can set it: only other options turn it on{who}"));
            }
            let first = on.first()?;
            Some(format!("of a choice only one can be on, and {} is", look.named(first)))
        }
    }
}

/// A configuration as Kconfig's expressions see it.
struct Look<'a> {
    wishes: &'a Wishes,
    config: &'a Config,
}

impl Look<'_> {
    fn of(&self, expression: &Expression) -> Tri {
        expression.value(&|name| self.config.get(name).cloned())
    }

    fn value(&self, name: &str) -> Tri {
        self.of(&Expression::Symbol(name.into()))
    }

    /// A user can set it as things are.
    fn offers(&self, declaration: &Declaration) -> bool {
        declaration.prompt && declaration.prompt_if.as_ref().is_none_or(|condition| self.of(condition) != Tri::N)
    }

    /// The dependencies that do not hold.
    fn missing(&self, declaration: &Declaration, wanted: Tri) -> Option<String> {
        let terms = declaration.depends.iter().flat_map(Expression::terms);
        let mut told: Vec<String> = Vec::new();
        for term in terms.filter(|term| self.of(term) < wanted) {
            let mut names: Vec<&str> =
                term.names().into_iter().filter(|name| !matches!(*name, "y" | "m" | "n")).collect();
            names.dedup();
            let values: Vec<String> = names
                .iter()
                .take(LISTED)
                .map(|name| {
                    let value = self.config.get(*name).map_or("n", String::as_str);
                    let by = self.wishes.get(*name).map(|wish| format!(" (by {})", wish.by)).unwrap_or_default();
                    format!("{name} is {value}{by}")
                })
                .collect();
            let text = format!("{term}, and {}", values.join(", "));
            if !told.contains(&text) {
                told.push(text);
            }
        }
        (!told.is_empty()).then(|| format!("it depends on {}", told.join("; and on ")))
    }

    /// An option with who asked for it.
    fn named(&self, name: &str) -> String {
        let by = self.wishes.get(name).filter(|wish| wish.value != Value::Off);
        by.map_or_else(|| name.to_owned(), |wish| format!("{name} (by {})", wish.by))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fragment::{Fragment, merge};
    use super::*;

    const TREE: &str = "\
config SYSFS\n\tbool \"s\"\nconfig SLUB_TINY\n\tbool \"t\"\n\tdepends on EXPERT\nconfig EXPERT\n\tbool \"e\"\n\
menuconfig KASAN\n\tbool \"k\"\n\tdepends on HAVE_ARCH_KASAN\n\tdepends on SYSFS && !SLUB_TINY\n\tselect STACKDEPOT\n\
config HAVE_ARCH_KASAN\n\tbool\nconfig STACKDEPOT\n\tbool \"d\"\nconfig KCSAN\n\tbool \"r\"\n\tdepends on !KASAN\n\
choice\nconfig HZ_100\n\tbool \"1\"\nconfig HZ_250\n\tbool \"2\"\nendchoice\n";

    fn compared(asked: &str, got: &str) -> (Vec<String>, Vec<String>) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("Kconfig"), TREE).unwrap();
        let kconfig = Kconfig::read(folder.path());
        let wishes = merge(&[Fragment::parse("mine.config", asked).unwrap()]);
        let (unmet, notes) = compare(&wishes, &read(got), &kconfig);
        (unmet.iter().map(ToString::to_string).collect(), notes)
    }

    #[test]
    fn what_came_out_is_silent() {
        let config = "CONFIG_KASAN=y\n# CONFIG_KCSAN is not set\nCONFIG_X=\"a b\"\n";
        assert_eq!(compared(config, config), (Vec::new(), Vec::new()));
    }

    #[test]
    fn kasan_dropped_by_slub_tiny() {
        let asked = "CONFIG_EXPERT=y\nCONFIG_SYSFS=y\nCONFIG_KASAN=y\nCONFIG_SLUB_TINY=y\n";
        let got = "CONFIG_HAVE_ARCH_KASAN=y\nCONFIG_EXPERT=y\nCONFIG_SYSFS=y\nCONFIG_SLUB_TINY=y\n# CONFIG_KASAN is not set\n";
        insta::assert_snapshot!(
            compared(asked, got).0.join("\n"),
            @"CONFIG_KASAN=y, asked for by mine.config, came out as n: it depends on !SLUB_TINY, and SLUB_TINY is y (by mine.config)"
        );
    }

    #[test]
    fn unknown_options_are_told_with_what_may_be_meant() {
        insta::assert_snapshot!(
            compared("CONFIG_KASN=y\nCONFIG_PROVE_WORLD_PEACE=y\n", "").0.join("\n"),
            @r"
        CONFIG_KASN=y, asked for by mine.config, is not known to this source: did you mean CONFIG_KASAN?
        CONFIG_PROVE_WORLD_PEACE=y, asked for by mine.config, is not known to this source
        "
        );
        let (unmet, notes) = compared("# CONFIG_STACKDEPO is not set\n", "");
        assert_eq!(unmet, Vec::<String>::new());
        assert_eq!(
            notes,
            [
                "mine.config turns CONFIG_STACKDEPO off, which this source does not know; did you mean CONFIG_STACKDEPOT?"
            ]
        );
    }

    #[test]
    fn what_is_on_though_it_was_turned_off() {
        let got = "CONFIG_KASAN=y\nCONFIG_STACKDEPOT=y\nCONFIG_HZ_250=y\n";
        insta::assert_snapshot!(
            compared("CONFIG_KASAN=y\n# CONFIG_STACKDEPOT is not set\n# CONFIG_HZ_250 is not set\n", got).0.join("\n"),
            @r"
        CONFIG_HZ_250=n, asked for by mine.config, came out as y: it is one of a choice, of which one has to be on: ask for another one of it
        CONFIG_STACKDEPOT=n, asked for by mine.config, came out as y: selected by KASAN (by mine.config)
        "
        );
    }

    #[test]
    fn choices_and_options_that_nobody_can_set() {
        let asked = "CONFIG_HZ_100=y\nCONFIG_HZ_250=y\nCONFIG_HAVE_ARCH_KASAN=y\n";
        insta::assert_snapshot!(
            compared(asked, "CONFIG_HZ_250=y\n").0.join("\n"),
            @r"
        CONFIG_HAVE_ARCH_KASAN=y, asked for by mine.config, came out as n: nobody can set it: only other options turn it on
        CONFIG_HZ_100=y, asked for by mine.config, came out as n: of a choice only one can be on, and HZ_250 (by mine.config) is
        "
        );
    }
}
