//! A file of known findings as it is written.

use regex::RegexBuilder;
use serde::Deserialize;
use toml::Spanned;
use toml::value::{Date, Datetime};

use super::error::KnownError;
use super::{Entry, Pattern};
use crate::scenario::{Mistake, of_toml};
use crate::wildcard;

/// Where to look the form up.
const HELP: &str = "README.md, \"Reports\", has an example";
/// What a pattern may take compiled, in bytes: a thousand times what a title needs.
const REGEX_BYTES: usize = 1 << 20;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileTable {
    #[serde(default)]
    known: Vec<Spanned<KnownTable>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownTable {
    title: Option<Spanned<String>>,
    regex: Option<Spanned<String>>,
    scenario: Option<String>,
    kernel: Option<String>,
    reason: Spanned<String>,
    url: Option<String>,
    expires: Spanned<Datetime>,
}

pub(super) fn entries(text: &str, file: &str) -> Result<Vec<Entry>, KnownError> {
    let table: FileTable =
        toml::from_str(text).map_err(|error| KnownError::wrong(file, text, vec![of_toml(&error, text, HELP)]))?;
    let (mut entries, mut mistakes) = (Vec::new(), Vec::new());
    for known in table.known {
        match entry(known) {
            Ok(entry) => entries.push(entry),
            Err(mistake) => mistakes.push(mistake),
        }
    }
    if mistakes.is_empty() { Ok(entries) } else { Err(KnownError::wrong(file, text, mistakes)) }
}

fn entry(known: Spanned<KnownTable>) -> Result<Entry, Mistake> {
    let span = known.span();
    let KnownTable { title, regex, scenario, kernel, reason, url, expires } = known.into_inner();
    let title = match (title, regex) {
        (Some(title), None) => text_pattern(&title)?,
        (None, Some(regex)) => regex_pattern(&regex)?,
        (None, None) => {
            let help = "add `title = \"…\"`, in which `*` stands for anything, or `regex = \"…\"`";
            return Err(Mistake::new(span, "it does not say which titles are known", help));
        }
        (Some(_), Some(regex)) => {
            let help = "leave one of them out, or make two entries";
            return Err(Mistake::new(regex.span(), "there is a `title` already", help));
        }
    };
    if reason.get_ref().trim().is_empty() {
        let help = "say why it is accepted: whoever reads the report was not there";
        return Err(Mistake::new(reason.span(), "the reason is empty", help));
    }
    let expires = day(&expires)?;
    Ok(Entry { title, scenario, kernel, reason: reason.into_inner(), url, expires })
}

/// Titles that have nothing in common: what fits all of them accepts everything.
const STRANGERS: [&str; 4] =
    ["KASAN: slab-use-after-free Read in f", "removal never ends: g waits in h", "42 Oops", "lost connection"];

fn text_pattern(title: &Spanned<String>) -> Result<Pattern, Mistake> {
    let text = title.get_ref();
    // `*` alone would make any run pass.
    if text.trim().is_empty() || STRANGERS.iter().all(|title| wildcard::fits(text, title)) {
        let help = "give a title, or its beginning and `*`";
        return Err(Mistake::new(title.span(), "this would accept everything", help));
    }
    Ok(Pattern::Text(text.clone()))
}

fn regex_pattern(regex: &Spanned<String>) -> Result<Pattern, Mistake> {
    let compiled = RegexBuilder::new(regex.get_ref()).size_limit(REGEX_BYTES).build().map_err(|error| {
        let help =
            "the syntax is that of the Rust crate regex; in a TOML string between '…' backslashes stand for themselves";
        // Its own drawing of the place would stand beside ours.
        let reason = error.to_string();
        let reason = reason.lines().last().unwrap_or_default().trim().trim_start_matches("error: ");
        Mistake::new(regex.span(), format!("this is no regular expression: {reason}"), help)
    })?;
    if compiled.is_match("") || STRANGERS.iter().all(|title| compiled.is_match(title)) {
        let help = "give what is in the title, such as '^KASAN: .* in linereq_'";
        return Err(Mistake::new(regex.span(), "this would accept everything", help));
    }
    Ok(Pattern::Regex(compiled))
}

/// A day, without a time.
fn day(expires: &Spanned<Datetime>) -> Result<Date, Mistake> {
    match expires.get_ref() {
        Datetime { date: Some(date), time: None, offset: None } => Ok(*date),
        _ => Err(Mistake::new(
            expires.span(),
            "an entry expires at the end of a day",
            "give a date alone, such as 2027-03-31",
        )),
    }
}
