//! Titles that are the same from run to run.

use std::sync::LazyLock;

use regex::Regex;

/// A longer title is cut.
const MAX_TITLE_CHARS: usize = 160;

static ADDRESS: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"\b(?:0x[0-9a-fA-F]+|[0-9a-f]*[a-f][0-9a-f]*[0-9][0-9a-f]{6,}|[0-9][0-9a-f]{7,15})\b").ok()
});
static STAMP: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\[ *[0-9]+\.[0-9]{3,}\].*$").ok());
static OFFSET: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"\+0x[0-9a-fA-F]+(?:/0x[0-9a-fA-F]+)?").ok());
static NUMBER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(^|[ =#(:,\[/])-?[0-9]+\b").ok());

/// Takes out what differs from run to run: offsets, addresses, numbers.
pub(super) fn stable(title: &str) -> String {
    let replace = |pattern: &LazyLock<Option<Regex>>, text: String, with: &str| match pattern.as_ref() {
        Some(pattern) => pattern.replace_all(&text, with).into_owned(),
        None => text,
    };
    let text: String = title.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
    // Another message inside this one: what follows is not its own.
    let text = replace(&STAMP, text, "");
    let text = replace(&OFFSET, text, "");
    let text = replace(&ADDRESS, text, "ADDR");
    let text = replace(&NUMBER, text, "${1}NUM");
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.chars().take(MAX_TITLE_CHARS).collect()
}

/// Whether another message begins inside a text.
pub(super) fn has_stamp(text: &str) -> bool {
    STAMP.as_ref().is_some_and(|stamp| stamp.is_match(text))
}

/// A function's name as it stands in a title, and as it stood in the stack where that differs: one function has several
/// names over the kernel's versions and configurations.
pub(super) fn canonical(function: &str) -> (String, Option<String>) {
    let shorter = shorten(function);
    if shorter == function { (function.to_owned(), None) } else { (shorter, Some(function.to_owned())) }
}

fn shorten(function: &str) -> String {
    // Wrappers of system calls: SyS_pause, __x64_sys_recvmmsg, __arm64_compat_sys_ioctl.
    if let Some(rest) = function.strip_prefix("SyS_").or_else(|| function.strip_prefix("SYSC_")) {
        return rest.to_owned();
    }
    for prefix in ["__x64_", "__ia32_", "__arm64_", "__se_", "__do_", "__s390x_", "__riscv_"] {
        if let Some(rest) =
            function.strip_prefix(prefix).filter(|rest| rest.starts_with("sys_") || rest.starts_with("compat_sys_"))
        {
            return rest.to_owned();
        }
    }
    for (long, short) in FAMILIES {
        if function == *long {
            return (*short).to_owned();
        }
    }
    function.to_owned()
}

/// Functions that stand for the same thing, and the name they share.
const FAMILIES: &[(&str, &str)] = &[
    ("synchronize_rcu_expedited", "synchronize_rcu"),
    ("synchronize_rcu_normal", "synchronize_rcu"),
    ("smp_call_function_single", "smp_call_function"),
    ("smp_call_function_many", "smp_call_function"),
    ("smp_call_function_many_cond", "smp_call_function"),
    ("smp_call_function_single_async", "smp_call_function"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_addresses_are_taken_out() {
        assert_eq!(
            stable("INFO: Allocated in fasync_helper+0x29/0x90 age=1 cpu=1 pid=6024"),
            "INFO: Allocated in fasync_helper age=NUM cpu=NUM pid=NUM"
        );
        assert_eq!(stable("KASAN: x Read in ip6_fragment"), "KASAN: x Read in ip6_fragment");
        assert_eq!(stable("BUG: x at ffff8801a700ff00"), "BUG: x at ADDR");
        assert_eq!(
            stable("unable to mount root fs on unknown-block(0,0)"),
            "unable to mount root fs on unknown-block(NUM,NUM)"
        );
    }

    #[test]
    fn system_calls_lose_their_wrapper() {
        assert_eq!(canonical("SyS_pause").0, "pause");
        assert_eq!(canonical("__x64_sys_recvmmsg"), ("sys_recvmmsg".to_owned(), Some("__x64_sys_recvmmsg".to_owned())));
        assert_eq!(canonical("gpiochip_remove"), ("gpiochip_remove".to_owned(), None));
    }
}
