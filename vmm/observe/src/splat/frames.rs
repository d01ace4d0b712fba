//! Stacks, as the several architectures print them, read back.

use std::sync::LazyLock;

use regex::Regex;

use crate::symbol::strip_compiler_suffix;

/// Something in a report that says where the kernel was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// `Call Trace:` and its like.
    TraceBegins,
    /// The instruction pointer: `RIP: 0010:f+0x1/0x2`. Nothing for one without a name.
    Pointer(Option<String>),
    /// A frame of a trace.
    Frame(String),
    /// A frame the unwinder is not sure of, or an address without a name.
    Unsure,
    /// The trace has reached user space.
    UserSpace,
}

/// `f+0x1/0x2`, with whatever the compiler appended, and perhaps a module or the source line after it.
const PLACE: &str = r"([A-Za-z_][A-Za-z0-9_.$]*)\+0x[0-9a-f]+(?:/0x[0-9a-f]+)?";

macro_rules! pattern {
    ($name:ident, $text:expr) => {
        static $name: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(&$text.replace("PLACE", PLACE)).ok());
    };
}

pattern!(TRACE, r"^\s*(?:Call Trace|Call trace|backtrace|Backtrace)(?: \([^)]*\))?:");
// RIP: 0010:f+0x1/0x2 | RIP: 0010:[<ffffffff8144d081>]  [<ffffffff8144d081>] f+0x21/0x80 | IP: f+0x1/0x2
pattern!(POINTER, r"^\s*(?:RIP|EIP|IP): (?:(?:[0-9a-f]{4}:)?(?:\[<[0-9a-f]+>\]\s*)*)PLACE");
pattern!(POINTER_NAMELESS, r"^\s*(?:RIP|EIP|IP): (?:00(?:10|08|60):)?(?:\[<|0x|\s*\(null\)|Bad|[0-9a-f]{8})");
pattern!(POINTER_USER, r"^\s*(?:RIP|EIP): (?:0033|0023|0073|002b):");
// PC is at f+0x1/0x2 | EIP is at f+0x1/0x2 | pc : f+0x1/0x2 | NIP [c000] f+0x1/0x2 | epc : f+0x1/0x2 (riscv) |
// epc   : 80123456 f+0x1/0x2 (MIPS) | Krnl PSW : … (f+0x1/0x2)
pattern!(
    POINTER_OTHER,
    r"^\s*(?:PC is at |E?IP is at |pc : |NIP \[[0-9a-f]+\] |e(?:pc|ra) *: (?:[0-9a-f]+ )?|Krnl PSW : \S+ \S+ \()(?:\[<[0-9a-f]+>\]\s*)?PLACE"
);
// " f+0x1/0x2", " [<ffff>] f+0x1/0x2", " [c00] [c00] f+0x1/0x2", with a question mark or "(unreliable)" where unsure
pattern!(FRAME, r"^\s*(?:\[<?[0-9a-f]{8,16}>?\]\s+)*(\? )?\(?PLACE\)?(?:\s|$)");
// arm: "[<8010e300>] (show_stack) from [<80b12478>] (dump_stack+0xa0/0xc0)"; newer: " show_stack from dump_stack+0xa0/0xc0"
pattern!(
    FRAME_FROM,
    r"^\s*(?:\[<[0-9a-f]+>\] )?\(?(?:[A-Za-z_][A-Za-z0-9_.]*)(?:\+0x[0-9a-f]+/0x[0-9a-f]+)?\)? from (?:\[<[0-9a-f]+>\] )?\(?(?:PLACE)?"
);
// symbolised: " __dump_stack lib/dump_stack.c:77 [inline]"
pattern!(FRAME_INLINE, r"^\s*([A-Za-z_][A-Za-z0-9_.]*) [a-zA-Z0-9_./-]+\.[chS]:[0-9]+ \[inline\]");
pattern!(FRAME_NAMELESS, r"^\s*(?:\[<?[0-9a-f]{8,16}>?\]\s+)?\(?0x[0-9a-f]+(?:\)|/0x|\s|$)");

fn first<'t>(pattern: &LazyLock<Option<Regex>>, text: &'t str) -> Option<regex::Captures<'t>> {
    pattern.as_ref().and_then(|pattern| pattern.captures(text))
}

fn group(captures: &regex::Captures<'_>, index: usize) -> Option<String> {
    captures.get(index).map(|name| strip_compiler_suffix(name.as_str()).to_owned())
}

/// What a line says about a stack.
pub(super) fn item(text: &str) -> Option<Item> {
    if !text.contains(['+', ':', '[', '(']) && !text.contains(" from ") {
        return None;
    }
    // Most lines are frames, and have none of these.
    if (text.contains(':') || text.contains(" is at ") || text.starts_with("NIP"))
        && let Some(heading) = pointer_or_heading(text)
    {
        return Some(heading);
    }
    if let Some(captures) = first(&FRAME, text) {
        let unsure = captures.get(1).is_some() || text.contains("(unreliable)");
        return if unsure { Some(Item::Unsure) } else { group(&captures, 2).map(Item::Frame) };
    }
    if let Some(captures) = first(&FRAME_INLINE, text) {
        return group(&captures, 1).map(Item::Frame);
    }
    if let Some(captures) = first(&FRAME_FROM, text) {
        // Each line names a function and its caller. The callers alone are the whole stack but for its first function,
        // which prints the stack.
        return Some(group(&captures, 1).map_or(Item::Unsure, Item::Frame));
    }
    first(&FRAME_NAMELESS, text).map(|_| Item::Unsure)
}

/// What a line says that is no frame.
fn pointer_or_heading(text: &str) -> Option<Item> {
    if first(&POINTER_USER, text).is_some() {
        return Some(Item::UserSpace);
    }
    for pattern in [&POINTER, &POINTER_OTHER] {
        if let Some(captures) = first(pattern, text) {
            return Some(Item::Pointer(group(&captures, 1)));
        }
    }
    if first(&POINTER_NAMELESS, text).is_some() {
        return Some(Item::Pointer(None));
    }
    first(&TRACE, text).map(|_| Item::TraceBegins)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_all_layouts_are_read() {
        let frame = |name: &str| Some(Item::Frame(name.to_owned()));
        assert_eq!(item(" dump_stack+0x1b9/0x294"), frame("dump_stack"));
        assert_eq!(item(" dump_stack+0x1b9/0x294 lib/dump_stack.c:113"), frame("dump_stack"));
        assert_eq!(item(" __dump_stack lib/dump_stack.c:77 [inline]"), frame("__dump_stack"));
        assert_eq!(item(" [<ffffffff81d90469>] dump_stack+0xc1/0x128"), frame("dump_stack"));
        assert_eq!(item(" f.isra.19+0x1c1/0x2d0 [module]"), frame("f"));
        assert_eq!(item("[<8010e300>] (show_stack) from [<80b12478>] (dump_stack+0xa0/0xc0)"), frame("dump_stack"));
        assert_eq!(item(" [<ffffffff81d90469>] ? dump_stack+0xc1/0x128"), Some(Item::Unsure));
        assert_eq!(item("[c000000001] [c000000002] f+0x1/0x2 (unreliable)"), Some(Item::Unsure));
    }

    #[test]
    fn pointers_of_all_layouts_are_read() {
        let pointer = |name: &str| Some(Item::Pointer(Some(name.to_owned())));
        assert_eq!(item("RIP: 0010:f+0x1/0x2"), pointer("f"));
        assert_eq!(item("RIP: 0010:[<ffffffff8144d081>]  [<ffffffff8144d081>] f+0x21/0x80"), pointer("f"));
        assert_eq!(item("PC is at f.constprop.9+0x184/0x2b0"), pointer("f"));
        assert_eq!(item("pc : f+0x184/0x2b0"), pointer("f"));
        assert_eq!(item("EIP is at f+0x184/0x2b0"), pointer("f"));
        assert_eq!(item("epc : f+0x184/0x2b0"), pointer("f"));
        assert_eq!(item("epc   : 80123456 f+0x184/0x2b0"), pointer("f"));
        assert_eq!(item("IP: [<ffffea0000f0e440>] 0xffffea0000f0e440"), Some(Item::Pointer(None)));
        assert_eq!(item("RIP: 0033:0x459a59"), Some(Item::UserSpace));
    }

    #[test]
    fn other_lines_are_none() {
        for text in [
            "",
            "RAX: 0000000000000000 RBX: 0000000000000001",
            "Code: e8 97 05",
            "Modules linked in:",
            " 0000000000000001 ffff8801d614bd58",
        ] {
            assert_eq!(item(text), None, "{text}");
        }
    }
}
