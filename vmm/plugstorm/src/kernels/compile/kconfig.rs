//! Reads a source tree's Kconfig files as far as needed to say why an option did not come out as it was asked for
//! (Documentation/kbuild/kconfig-language.rst). The configuring itself is the tree's own conf's.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::expression::Expression;

/// No tree comes near: an end for files that source each other in a circle.
const FILES_MAX: usize = 20_000;
/// How deep files source each other, at most.
const DEPTH_MAX: usize = 32;

/// Where an option is declared. There may be several.
#[derive(Debug, Clone, Default)]
pub(super) struct Declaration {
    /// `depends on`, and the conditions of the menus, choices and `if` around it. All must hold.
    pub(super) depends: Vec<Expression>,
    /// A user can set it.
    pub(super) prompt: bool,
    /// `bool "…" if …`: when a user can set it.
    pub(super) prompt_if: Option<Expression>,
    /// The choice it is in, by number.
    pub(super) choice: Option<usize>,
    /// `select NAME if …`.
    pub(super) selects: Vec<(String, Option<Expression>)>,
}

/// All that a tree declares, by name.
#[derive(Debug, Default)]
pub(super) struct Kconfig {
    pub(super) declarations: BTreeMap<String, Vec<Declaration>>,
    files: usize,
    choices: usize,
}

/// What encloses the lines that are read.
#[derive(Debug, Clone)]
struct Scope {
    kind: Kind,
    depends: Vec<Expression>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    If,
    Menu,
    Choice(usize),
}

/// What an attribute's line belongs to.
#[derive(Debug, Clone)]
enum Entry {
    None,
    Option(String),
    /// The innermost scope.
    Scope,
}

impl Kconfig {
    /// Reads the tree below `top`, beginning with its `Kconfig`. Files that cannot be read declare nothing.
    pub(super) fn read(top: &Path) -> Self {
        let mut kconfig = Self::default();
        kconfig.file(top, Path::new("Kconfig"), &mut Vec::new(), 0);
        kconfig
    }

    fn file(&mut self, top: &Path, path: &Path, scopes: &mut Vec<Scope>, depth: usize) {
        self.files += 1;
        if self.files > FILES_MAX || depth > DEPTH_MAX {
            return;
        }
        let Ok(text) = fs::read(top.join(path)) else { return };
        let outside = scopes.len();
        let mut entry = Entry::None;
        for line in logical_lines(&String::from_utf8_lossy(&text)) {
            let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((&line, ""));
            let rest = rest.trim();
            match word {
                "source" | "osource" => self.file(top, Path::new(&sourced(rest)), scopes, depth + 1),
                "rsource" | "orsource" => {
                    let beside = path.parent().unwrap_or(Path::new("")).join(sourced(rest));
                    self.file(top, &beside, scopes, depth + 1);
                }
                "config" | "menuconfig" => {
                    self.declare(rest, scopes);
                    entry = Entry::Option(rest.into());
                }
                "if" => scopes.push(Scope { kind: Kind::If, depends: Expression::parse(rest).into_iter().collect() }),
                "menu" => {
                    scopes.push(Scope { kind: Kind::Menu, depends: Vec::new() });
                    entry = Entry::Scope;
                }
                "choice" => {
                    self.choices += 1;
                    scopes.push(Scope { kind: Kind::Choice(self.choices), depends: Vec::new() });
                    entry = Entry::Scope;
                }
                "endif" | "endmenu" | "endchoice" if scopes.len() > outside => {
                    scopes.pop();
                    entry = Entry::None;
                }
                "comment" | "mainmenu" => entry = Entry::None,
                _ => self.attribute(&entry, word, rest, scopes),
            }
        }
        scopes.truncate(outside);
    }

    fn declare(&mut self, name: &str, scopes: &[Scope]) {
        let depends = scopes.iter().flat_map(|scope| scope.depends.iter().cloned()).collect();
        let choice = scopes.iter().rev().find_map(|scope| match scope.kind {
            Kind::Choice(number) => Some(number),
            _ => None,
        });
        let declaration = Declaration { depends, choice, ..Declaration::default() };
        self.declarations.entry(name.into()).or_default().push(declaration);
    }

    fn attribute(&mut self, entry: &Entry, word: &str, rest: &str, scopes: &mut [Scope]) {
        if let (Entry::Scope, "depends", Some(scope)) = (entry, word, scopes.last_mut()) {
            scope.depends.extend(rest.strip_prefix("on").and_then(Expression::parse));
        }
        let Entry::Option(name) = entry else { return };
        let Some(declaration) = self.declarations.get_mut(name).and_then(|all| all.last_mut()) else { return };
        match word {
            "depends" => declaration.depends.extend(rest.strip_prefix("on").and_then(Expression::parse)),
            "bool" | "tristate" | "string" | "int" | "hex" | "prompt" if rest.starts_with(['"', '\'']) => {
                declaration.prompt = true;
                let condition = rest.rsplit_once(['"', '\'']).map_or("", |(_, after)| after.trim());
                declaration.prompt_if = condition.strip_prefix("if").and_then(Expression::parse);
            }
            "select" => {
                let (target, condition) = rest.split_once(" if ").unwrap_or((rest, ""));
                declaration.selects.push((target.trim().into(), Expression::parse(condition)));
            }
            _ => {}
        }
    }

    /// The options of the same choice, `name` itself left out.
    pub(super) fn rivals(&self, name: &str) -> Vec<&str> {
        let choices: Vec<usize> =
            self.declarations.get(name).into_iter().flatten().filter_map(|of| of.choice).collect();
        let inside =
            |all: &[Declaration]| all.iter().any(|one| one.choice.is_some_and(|number| choices.contains(&number)));
        let others = self.declarations.iter().filter(|(other, all)| *other != name && inside(all));
        others.map(|(other, _)| other.as_str()).collect()
    }

    /// The options that select `name`, each with its condition.
    pub(super) fn selectors(&self, name: &str) -> Vec<(&str, Option<&Expression>)> {
        let mut found = Vec::new();
        for (selector, all) in &self.declarations {
            for (target, condition) in all.iter().flat_map(|declaration| &declaration.selects) {
                if target == name {
                    found.push((selector.as_str(), condition.as_ref()));
                }
            }
        }
        found
    }
}

/// The path of a `source` line. Of make's variables it has only the architecture's.
fn sourced(rest: &str) -> String {
    rest.trim_matches(['"', '\'']).replace("$(SRCARCH)", "x86").replace("$SRCARCH", "x86")
}

/// Lines without comments, help texts and indentation; what a backslash continues is one line.
fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut begun = String::new();
    // The indentation of a help text's first line, once that has come.
    let mut help: Option<Option<usize>> = None;
    for raw in text.lines() {
        let indentation = indentation(raw);
        if let Some(first) = help {
            match first {
                _ if raw.trim().is_empty() => continue,
                None if indentation > 0 => {
                    help = Some(Some(indentation));
                    continue;
                }
                Some(first) if indentation >= first => continue,
                _ => help = None,
            }
        }
        let line = without_comment(raw).trim();
        if let Some(start) = line.strip_suffix('\\') {
            begun.push_str(start);
            begun.push(' ');
            continue;
        }
        let whole = std::mem::take(&mut begun) + line;
        match whole.as_str() {
            "" => {}
            "help" | "---help---" => help = Some(None),
            _ => lines.push(whole),
        }
    }
    lines
}

fn indentation(line: &str) -> usize {
    let blank = line.chars().take_while(|character| character.is_whitespace());
    // Tabs go to the next multiple of eight, as conf counts them.
    blank.fold(0, |column, character| if character == '\t' { (column / 8 + 1) * 8 } else { column + 1 })
}

/// Up to a `#` that is in no quotes.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    for (at, character) in line.char_indices() {
        match (quote, character) {
            (None, '#') => return line.get(..at).unwrap_or_default(),
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), _) if open == character => quote = None,
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Kconfig {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Kconfig::read(folder.path())
    }

    #[test]
    fn conditions_come_from_all_around() {
        let kconfig = tree(&[
            (
                "Kconfig",
                "mainmenu \"x\"\nif A\nmenu \"m\"\n\tdepends on B\nsource \"lib/$(SRCARCH)/Kconfig\"\nendmenu\nendif\nconfig Z\n\tbool\n",
            ),
            (
                "lib/x86/Kconfig",
                "config C\n\tbool \"c\" if D # odd\n\tdepends on E && \\\n\t\tF\n\thelp\n\t  config NOT\n\n\t  an option\nconfig G\n\ttristate\n\tselect C if D\n",
            ),
        ]);
        let shown: Vec<String> = kconfig.declarations["C"][0].depends.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["A", "B", "E && F"]);
        assert!(kconfig.declarations["C"][0].prompt && !kconfig.declarations["G"][0].prompt);
        assert_eq!(kconfig.declarations["C"][0].prompt_if.as_ref().unwrap().to_string(), "D");
        assert!(!kconfig.declarations.contains_key("NOT"));
        assert_eq!(kconfig.declarations["Z"][0].depends.len(), 0);
        assert_eq!(kconfig.selectors("C")[0].0, "G");
    }

    #[test]
    fn a_choice_has_rivals() {
        let text = "choice\n\tprompt \"HZ\"\n\tdepends on X\nconfig HZ_100\n\tbool \"100\"\nconfig HZ_250\n\tbool \"250\"\nendchoice\nconfig HZ\n\tint\n";
        let kconfig = tree(&[("Kconfig", text)]);
        assert_eq!(kconfig.rivals("HZ_100"), ["HZ_250"]);
        assert_eq!(kconfig.declarations["HZ_250"][0].depends[0].to_string(), "X");
        assert!(kconfig.rivals("HZ").is_empty());
    }

    #[test]
    fn a_circle_of_files_ends() {
        assert!(tree(&[("Kconfig", "source \"Kconfig\"\nconfig A\n\tbool\n")]).declarations.contains_key("A"));
    }
}
