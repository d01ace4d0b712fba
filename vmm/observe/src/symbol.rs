//! A place in kernel code, as `%pS` prints it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest symbol name kept: `KSYM_NAME_LEN` of the kernel.
const MAX_NAME_BYTES: usize = 512;

/// A kernel function and the module it is in. Offsets are left out: they differ from build to build.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Symbol {
    /// The function, without offset and without what the compiler appended (`.isra.0`, `.constprop.2`, `.cold`).
    pub name: String,
    /// The module, unless the function is in the kernel itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
}

impl Symbol {
    /// Reads `gpiochip_remove+0x66/0x160`, `plugstorm_revoke+0x12/0x40 [plugstorm]` or a bare name.
    /// Gives nothing for an address without a name and for anything that is no C identifier.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let (place, module) = match text.split_once(char::is_whitespace) {
            Some((place, rest)) => {
                (place, rest.trim().strip_prefix('[').and_then(|rest| rest.split([']', ' ']).next()))
            }
            None => (text, None),
        };
        let name = place.split('+').next().unwrap_or_default();
        let name = strip_compiler_suffix(name);
        let module = module.filter(|module| is_identifier(module)).map(str::to_owned);
        is_identifier(name).then(|| Self { name: name.to_owned(), module })
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.module {
            Some(module) => write!(f, "{} [{module}]", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// `shrink_node.isra.0` is `shrink_node` to whoever reads the source.
pub(crate) fn strip_compiler_suffix(name: &str) -> &str {
    match name.find('.') {
        Some(dot) if dot > 0 => name.get(..dot).unwrap_or(name),
        _ => name,
    }
}

pub(crate) fn is_identifier(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_suffixes_and_modules_are_taken_apart() {
        let read = |text| Symbol::parse(text).map(|symbol| symbol.to_string());
        assert_eq!(read("gpiochip_remove+0x66/0x160").as_deref(), Some("gpiochip_remove"));
        assert_eq!(read("plugstorm_revoke+0x1/0x2 [plugstorm]").as_deref(), Some("plugstorm_revoke [plugstorm]"));
        assert_eq!(read("shrink_node.isra.0+0x1/0x2").as_deref(), Some("shrink_node"));
        assert_eq!(read("0xffffffff81000000"), None);
        assert_eq!(read(""), None);
        assert_eq!(read("a b").as_deref(), Some("a"));
    }
}
