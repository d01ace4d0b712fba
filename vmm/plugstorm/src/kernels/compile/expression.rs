//! Kconfig's expressions: `(A || !B) && C = "x"`, in three values.

use std::fmt;

/// Names, operators and brackets of an expression that is read. The longest of the kernel's has some fifty.
const MOST_TOKENS: usize = 1000;

/// An expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expression {
    /// An option's name, or `y`, `m`, `n`.
    Symbol(String),
    /// `A = B`, `A != B`, `A < B` …
    Compare(String, String, String),
    Not(Box<Expression>),
    And(Box<Expression>, Box<Expression>),
    Or(Box<Expression>, Box<Expression>),
    /// A macro such as `$(cc-option,…)`, which only the tree's own conf can tell.
    Unknown(String),
}

/// Kconfig's three values, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tri {
    N,
    M,
    Y,
}

impl Expression {
    /// Reads an expression; nothing if it is empty or none.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let tokens = tokens(text);
        // It is read, and its value found, by functions that call themselves.
        if tokens.len() > MOST_TOKENS {
            return None;
        }
        let mut reader = Reader { tokens: &tokens };
        let expression = reader.or()?;
        reader.tokens.is_empty().then_some(expression)
    }

    /// Its value where `value` gives those of options. What cannot be told is taken to hold.
    pub(super) fn value(&self, value: &impl Fn(&str) -> Option<String>) -> Tri {
        match self {
            Self::Symbol(name) => tri(&of(name, value)),
            Self::Compare(left, operator, right) => {
                let (left, right) = (of(left, value), of(right, value));
                let holds = match (operator.as_str(), left.parse::<i64>(), right.parse::<i64>()) {
                    ("=", ..) => left == right,
                    ("!=", ..) => left != right,
                    ("<", Ok(left), Ok(right)) => left < right,
                    (">", Ok(left), Ok(right)) => left > right,
                    ("<=", Ok(left), Ok(right)) => left <= right,
                    (">=", Ok(left), Ok(right)) => left >= right,
                    _ => true,
                };
                if holds { Tri::Y } else { Tri::N }
            }
            Self::Not(inner) => match inner.value(value) {
                Tri::N => Tri::Y,
                Tri::M => Tri::M,
                Tri::Y => Tri::N,
            },
            Self::And(left, right) => left.value(value).min(right.value(value)),
            Self::Or(left, right) => left.value(value).max(right.value(value)),
            Self::Unknown(_) => Tri::Y,
        }
    }

    /// The parts that must all hold.
    pub(super) fn terms(&self) -> Vec<&Self> {
        match self {
            Self::And(left, right) => [left.terms(), right.terms()].concat(),
            other => vec![other],
        }
    }

    /// The options that it names.
    pub(super) fn names(&self) -> Vec<&str> {
        match self {
            Self::Symbol(name) => vec![name],
            Self::Compare(left, _, right) => vec![left, right],
            Self::Not(inner) => inner.names(),
            Self::And(left, right) | Self::Or(left, right) => [left.names(), right.names()].concat(),
            Self::Unknown(_) => Vec::new(),
        }
    }
}

/// The value of an option, or the constant itself.
fn of(name: &str, value: &impl Fn(&str) -> Option<String>) -> String {
    let is_option = name.starts_with(|first: char| first.is_ascii_uppercase() || first.is_ascii_digit())
        && name.bytes().any(|byte| byte.is_ascii_uppercase());
    match value(name) {
        Some(value) => value.trim_matches('"').to_owned(),
        None if is_option => "n".into(),
        None => name.into(),
    }
}

fn tri(value: &str) -> Tri {
    match value {
        "y" => Tri::Y,
        "m" => Tri::M,
        _ => Tri::N,
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symbol(name) | Self::Unknown(name) => formatter.write_str(name),
            Self::Compare(left, operator, right) => write!(formatter, "{left} {operator} {right}"),
            Self::Not(inner) => match inner.as_ref() {
                Self::Symbol(name) => write!(formatter, "!{name}"),
                inner => write!(formatter, "!({inner})"),
            },
            Self::And(left, right) => {
                let part = |part: &Self| match part {
                    Self::Or(..) => format!("({part})"),
                    part => part.to_string(),
                };
                write!(formatter, "{} && {}", part(left), part(right))
            }
            Self::Or(left, right) => write!(formatter, "{left} || {right}"),
        }
    }
}

fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' | '\'' => rest.get(1..).and_then(|inside| inside.find(first)).map_or(rest.len(), |end| end + 2),
            '$' => macro_length(rest),
            _ => match ["&&", "||", "!=", "<=", ">="].iter().find(|operator| rest.starts_with(**operator)) {
                Some(operator) => operator.len(),
                None if "()!=<>".contains(first) => 1,
                None => rest
                    .find(|character: char| character.is_whitespace() || "()!=<>&|".contains(character))
                    .map_or(rest.len(), |end| end.max(first.len_utf8())),
            },
        };
        let (token, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        tokens.push(token.to_owned());
        rest = after.trim_start();
    }
    tokens
}

/// `$(name,arguments)`, which may have others in it.
fn macro_length(text: &str) -> usize {
    let mut depth = 0_usize;
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' if depth <= 1 => return at + 1,
            ')' => depth -= 1,
            _ if depth == 0 && character.is_whitespace() => return at,
            _ => {}
        }
    }
    text.len()
}

struct Reader<'a> {
    tokens: &'a [String],
}

impl Reader<'_> {
    fn next(&mut self) -> Option<&str> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first)
    }

    fn takes(&mut self, token: &str) -> bool {
        let is_next = self.tokens.first().is_some_and(|next| next == token);
        if is_next {
            self.next();
        }
        is_next
    }

    fn or(&mut self) -> Option<Expression> {
        let mut left = self.and()?;
        while self.takes("||") {
            left = Expression::Or(Box::new(left), Box::new(self.and()?));
        }
        Some(left)
    }

    fn and(&mut self) -> Option<Expression> {
        let mut left = self.not()?;
        while self.takes("&&") {
            left = Expression::And(Box::new(left), Box::new(self.not()?));
        }
        Some(left)
    }

    fn not(&mut self) -> Option<Expression> {
        if self.takes("!") {
            return Some(Expression::Not(Box::new(self.not()?)));
        }
        if self.takes("(") {
            let inside = self.or()?;
            return self.takes(")").then_some(inside);
        }
        let left = self.next()?.to_owned();
        if left.starts_with(['&', '|', '=', '!', '<', '>', ')']) {
            return None;
        }
        if left.starts_with('$') {
            return Some(Expression::Unknown(left));
        }
        match self.tokens.first().map(String::as_str) {
            Some(operator @ ("=" | "!=" | "<" | ">" | "<=" | ">=")) => {
                let operator = operator.to_owned();
                self.next();
                let right = self.next()?.to_owned();
                let unquoted = |text: String| text.trim_matches(['"', '\'']).to_owned();
                Some(Expression::Compare(unquoted(left), operator, unquoted(right)))
            }
            _ => Some(Expression::Symbol(left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Tri {
        let options = |name: &str| match name {
            "A" | "SLUB_TINY" => Some("y".to_owned()),
            "B" => Some("m".to_owned()),
            "VERSION" => Some("120200".to_owned()),
            "TEXT" => Some("\"x\"".to_owned()),
            _ => None,
        };
        Expression::parse(text).unwrap().value(&options)
    }

    #[test]
    fn three_values() {
        for (text, expected) in [
            ("A", Tri::Y),
            ("B", Tri::M),
            ("NONE", Tri::N),
            ("A && B", Tri::M),
            ("NONE || B", Tri::M),
            ("!B", Tri::M),
            ("!A", Tri::N),
            ("A && !(NONE || B)", Tri::M),
            ("SYSFS && !SLUB_TINY", Tri::N),
            ("A=y", Tri::Y),
            ("B!=m", Tri::N),
            ("NONE = n", Tri::Y),
            ("TEXT = \"x\"", Tri::Y),
            ("VERSION >= 120000 && A", Tri::Y),
            ("VERSION < 120000", Tri::N),
            ("$(cc-option,-fsanitize=thread --param x=(1)) && A", Tri::Y),
            ("y", Tri::Y),
        ] {
            assert_eq!(value(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_none_is_none() {
        for text in ["", "&&", "A &&", "(A", "A B", "A =", ")"] {
            assert_eq!(Expression::parse(text), None, "{text}");
        }
        for piece in ["(", "!", "A || ", "A && "] {
            assert_eq!(Expression::parse(&format!("{}A", piece.repeat(1_000_000))), None, "{piece}");
        }
    }

    #[test]
    fn parts_and_names_are_shown() {
        let expression = Expression::parse("(A||B) && !C && !(D && E) && F=y").unwrap();
        let terms: Vec<String> = expression.terms().iter().map(ToString::to_string).collect();
        assert_eq!(terms, ["A || B", "!C", "!(D && E)", "F = y"]);
        assert_eq!(expression.names(), ["A", "B", "C", "D", "E", "F", "y"]);
        assert_eq!(Expression::parse("A && (B||C)").unwrap().to_string(), "A && (B || C)");
    }
}
