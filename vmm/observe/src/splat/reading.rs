//! What a report says once it is over: its title, its frame, whether it can be trusted.

use super::MAX_TEXT_BYTES;
use super::block::Block;
use super::frames::Item;
use super::guilty::{For, entered, first, passed_over};
use super::report::{Splat, SplatKind};
use super::rules::{From, Note};
use super::title::{canonical, stable};
use crate::symbol::strip_compiler_suffix;

/// A stack's first frame is this near to its heading.
const MAX_LINES_TO_FRAME: usize = 60;

impl Block {
    /// What it says; nothing if it was tentative and no stack came.
    pub(super) fn finish(self) -> Option<Splat> {
        let rule = self.opened_by.rule;
        if self.is_mere_note() {
            return None;
        }
        let access = self.access();
        let frame = self.frame();
        let (shown, original) = match &frame {
            Some(frame) => canonical(frame),
            None => ("corrupted".to_owned(), None),
        };
        let fill = |pattern: &str, frame: &str| self.fill(pattern, frame, access);
        let needs_frame = rule.title.contains("{frame}");
        let title = fill(rule.title, &shown);
        let mut alt_titles = Vec::new();
        for name in std::iter::once(&shown).chain(&original) {
            let patterns = std::iter::once(rule.title).chain(rule.alt.split('|')).filter(|pattern| !pattern.is_empty());
            let known = patterns.filter(|pattern| {
                let frame_known = needs_frame || frame.is_some() || !pattern.contains("{frame}");
                frame_known && (!pattern.contains("{origin}") || self.origin().is_some())
            });
            alt_titles.extend(known.map(|pattern| fill(pattern, name)));
        }
        alt_titles.retain(|alt| *alt != title);
        if rule.title.contains("{access}") && access.is_none() {
            // What was done to the memory is not told: too little to call it the same as another.
            alt_titles.clear();
        }
        alt_titles.dedup();
        let corrupted = self.corrupted(needs_frame && frame.is_none());
        let task = self.task();
        Some(Splat {
            kind: kind_of(rule.kind, access, self.opened_by.group("how")),
            title,
            alt_titles,
            corrupted,
            panicked: self.panicked,
            frame: (needs_frame || rule.alt.contains("{frame}")).then_some(frame).flatten(),
            start_line: self.start_line,
            end_line: self.end_line,
            pid: task.as_ref().map(|(_, pid)| *pid),
            executor: self.running().and_then(|(comm, _)| executor(&comm)),
            task: task.map(|(comm, _)| comm),
            text: cut(self.text()),
            suppressed: self
                .driver_killed
                .then(|| "the program that drives the test was killed for want of memory".to_owned()),
        })
    }

    fn fill(&self, pattern: &str, frame: &str, access: Option<Access>) -> String {
        let mut title = String::new();
        let mut rest = pattern;
        while let Some((before, after)) = rest.split_once('{') {
            title.push_str(before);
            let Some((name, tail)) = after.split_once('}') else { break };
            match name {
                "frame" => title.push_str(frame),
                "origin" => title.push_str(&self.origin().unwrap_or_default()),
                "access" => title.push_str(access.map_or("", Access::word)),
                "other" => title.push_str(strip_compiler_suffix(self.opened_by.group(name).unwrap_or_default())),
                name => title.push_str(self.opened_by.group(name).unwrap_or_default()),
            }
            rest = tail;
        }
        title.push_str(rest);
        stable(&title)
    }

    /// `Read of size 4`, `Write at addr`, near the top.
    fn access(&self) -> Option<Access> {
        self.lines.iter().take(40).skip(1).find_map(|line| {
            let line = line.trim_start();
            if line.starts_with("Read ") || line.starts_with("read ") {
                Some(Access::Read)
            } else if line.starts_with("Write ") || line.starts_with("write ") {
                Some(Access::Write)
            } else {
                None
            }
        })
    }

    fn frame(&self) -> Option<String> {
        let rule = self.opened_by.rule;
        let sort = match rule.kind {
            SplatKind::Hang => For::Wait,
            SplatKind::Leak => For::Leak,
            _ if rule.from == From::Object => For::Object,
            _ if rule.from == From::Page => For::Page,
            SplatKind::Warning
            | SplatKind::RefcountWarning
            | SplatKind::AtomicSleep
            | SplatKind::Lockdep
            | SplatKind::Bug
            | SplatKind::KmsanInfoLeak
            | SplatKind::Unknown => For::Check,
            // A panic in the middle of a call: the checks that led to it are not to blame.
            SplatKind::DenialOfService if rule.from == From::Trace => For::Check,
            _ => For::Anything,
        };
        if self.foreign && !matches!(rule.from, From::Line | From::Named) {
            return None;
        }
        if self.faulted && !matches!(rule.from, From::Line | From::Named) {
            // The registers come first. Whose the stack is cannot be told.
            return (rule.from == From::Stack).then(|| self.pointer(sort)).flatten();
        }
        match rule.from {
            From::None => None,
            From::Line => {
                let line = self.opened_by.group("frame").and_then(super::name_of_place);
                let good = line.clone().filter(|frame| !passed_over(frame, sort));
                // Better the one named than none.
                good.or_else(|| self.in_trace(sort, self.trace_starts_unmarked())).or(line)
            }
            From::Named => self.opened_by.group("frame").and_then(super::name_of_place),
            From::Stack | From::Object => self.pointer(sort).or_else(|| self.in_trace(sort, false)),
            From::Trace => self.in_trace(sort, false),
            From::Page => self.in_trace(sort, true),
            From::AnyTrace => self.in_trace(sort, true).or_else(|| self.lock_place(sort)),
            From::LockPlace => self.lock_place(sort).or_else(|| self.in_trace(sort, true)),
            From::Stall => entered(&self.interrupted()?)
                .map(str::to_owned)
                .or_else(|| first(self.interrupted()?, For::Anything).map(str::to_owned)),
            From::Entry => entered(&self.named(0)).map(str::to_owned),
            From::LastFunction => self
                .lines
                .iter()
                .find_map(|line| line.trim_start().strip_prefix("last function: "))
                .and_then(super::name_of_place)
                .or_else(|| self.in_trace(sort, false)),
        }
    }

    /// KMSAN: who made the bytes that nobody wrote to.
    fn origin(&self) -> Option<String> {
        let created = self.lines.iter().position(|line| line.starts_with("Uninit was created at:"))?;
        let from = self.items.iter().position(|(at, _)| *at > created)?;
        first(self.named(from), For::Anything).map(str::to_owned)
    }

    /// KMSAN and KFENCE print the stack of the access first and without a heading.
    fn trace_starts_unmarked(&self) -> bool {
        use SplatKind as Kind;
        matches!(
            self.opened_by.rule.kind,
            Kind::KmsanUninitValue
                | Kind::KmsanInfoLeak
                | Kind::KmsanUseAfterFreeRead
                | Kind::KmsanUnknown
                | Kind::KfenceUseAfterFreeRead
                | Kind::KfenceRead
                | Kind::KfenceInvalidFree
                | Kind::KfenceMemoryCorruption
                | Kind::KfenceUnknown
        )
    }

    /// The instruction pointer, if it is the first thing named and matters.
    fn pointer(&self, sort: For) -> Option<String> {
        let named = self.items.iter().find_map(|(_, item)| match item {
            Item::Pointer(named) => Some(named.clone()),
            _ => None,
        });
        named.flatten().filter(|named| !passed_over(named, sort))
    }

    /// Functions named by frames and instruction pointers, from an item on.
    fn named(&self, from: usize) -> Vec<&str> {
        let items = self.items.get(from..).unwrap_or_default();
        items
            .iter()
            .filter_map(|(_, item)| match item {
                Item::Frame(name) | Item::Pointer(Some(name)) => Some(name.as_str()),
                _ => None,
            })
            .collect()
    }

    /// The first frame that matters: of what follows the first `Call Trace:`, or of all there is.
    fn in_trace(&self, sort: For, all: bool) -> Option<String> {
        let begins = self.items.iter().position(|(_, item)| *item == Item::TraceBegins);
        let from = if all { 0 } else { begins.unwrap_or(0) };
        first(self.named(from), sort).map(str::to_owned)
    }

    /// The stack of the code that a stall interrupted, innermost first. Nothing where the interrupt cannot be seen:
    /// what is printed then is the stack of whoever noticed.
    fn interrupted(&self) -> Option<Vec<&str>> {
        let pointer = self.items.iter().position(|(_, item)| matches!(item, Item::Pointer(Some(_))));
        let trace = self.items.iter().position(|(_, item)| *item == Item::TraceBegins);
        let interrupt = self.items.iter().position(|(_, item)| match item {
            Item::Frame(name) => is_interrupt(name),
            _ => false,
        });
        let from = match (pointer, trace, interrupt) {
            (Some(pointer), Some(trace), _) if pointer < trace => pointer,
            (_, _, Some(interrupt)) => interrupt,
            (Some(pointer), _, None) => pointer,
            (None, _, None) => return None,
        };
        Some(self.named(from))
    }

    /// `at: [<addr>] f+0x1/0x2`, the first that matters, before any stack. "is trying to release lock (x) at:" has the
    /// place on the next line.
    fn lock_place(&self, sort: For) -> Option<String> {
        let before_stack =
            self.items.iter().find(|(_, item)| *item == Item::TraceBegins).map_or(self.lines.len(), |(at, _)| *at);
        let mut lines = self.lines.iter().take(before_stack).peekable();
        while let Some(line) = lines.next() {
            if line.starts_with("other info that might help") {
                break;
            }
            let place = match line.split_once("at:") {
                Some((_, "")) => lines.peek().map_or("", |next| next.as_str()),
                Some((_, place)) => place,
                None => continue,
            };
            let place = place.rsplit("] ").next().unwrap_or(place);
            if let Some(frame) = super::name_of_place(place).filter(|frame| !passed_over(frame, sort)) {
                return Some(frame);
            }
        }
        None
    }

    /// The task that its first line names, or that of its first `Comm:`.
    fn task(&self) -> Option<(String, u32)> {
        match (self.opened_by.group("comm"), self.opened_by.group("pid")) {
            (Some(comm), Some(pid)) => Some((comm.to_owned(), pid.parse().ok()?)),
            _ => self.running(),
        }
    }

    /// `CPU: 1 PID: 3697 Comm: a.out Not tainted`.
    fn running(&self) -> Option<(String, u32)> {
        self.lines.iter().find_map(|line| {
            let (before, after) = line.split_once(" Comm: ")?;
            let pid = before.rsplit_once("PID: ")?.1.trim().parse().ok()?;
            let end =
                [" Not tainted", " Tainted: "].iter().filter_map(|mark| after.find(mark)).min().unwrap_or(after.len());
            Some((after.get(..end)?.trim().to_owned(), pid))
        })
    }

    /// `Call Trace:` and no frame the unwinder is sure of, before another stack begins or much else is printed.
    fn first_trace_is_empty(&self) -> bool {
        let mut items = self.items.iter().skip_while(|(_, item)| *item != Item::TraceBegins);
        let Some((begins, _)) = items.next() else { return false };
        let near = items
            .take_while(|(at, item)| *item != Item::TraceBegins && at.saturating_sub(*begins) <= MAX_LINES_TO_FRAME);
        !near.into_iter().any(|(_, item)| matches!(item, Item::Frame(_)))
    }

    fn corrupted(&self, no_frame: bool) -> Option<String> {
        if no_frame {
            return Some("no frame of its stack could be read".to_owned());
        }
        if self.opened_by.rule.note == Note::NoStack {
            return None;
        }
        if self.foreign || self.faulted {
            return Some("something else was printed inside it, before its stack".to_owned());
        }
        if self.opened_by.rule.note == Note::Panic && self.opened_by.rule.from == From::Line {
            return None; // The line itself names the function.
        }
        if self.frames == 0 {
            return Some("it has no call trace".to_owned());
        }
        if self.first_trace_is_empty() {
            return Some("its call trace is empty".to_owned());
        }
        if self.opened_by.title_is_broken() {
            return Some("another message was printed into its first line".to_owned());
        }
        if self.dropped {
            return Some("messages inside it were dropped".to_owned());
        }
        None
    }
}

/// How a timer's interrupt appears in a trace.
fn is_interrupt(function: &str) -> bool {
    function.contains("apic_timer_interrupt") && !function.starts_with("smp_") && !function.starts_with("__sysvec")
        || matches!(
            function,
            "el1_irq"
                | "el1h_64_irq"
                | "__irq_svc"
                | "el1_interrupt"
                | "handle_exception"
                | "ret_from_exception"
                | "ret_from_intr"
                | "timer_interrupt"
                | "ext_int_handler"
                | "do_vint"
        )
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

impl Access {
    fn word(self) -> &'static str {
        match self {
            Self::Read => "Read",
            Self::Write => "Write",
        }
    }
}

/// The kind of a row made narrower by what the report says further on.
fn kind_of(kind: SplatKind, access: Option<Access>, how: Option<&str>) -> SplatKind {
    use SplatKind as Kind;
    let write = access == Some(Access::Write) || how == Some("write");
    match kind {
        Kind::KasanUseAfterFreeRead if write => Kind::KasanUseAfterFreeWrite,
        Kind::KasanNullPointerDereferenceRead if write => Kind::KasanNullPointerDereferenceWrite,
        Kind::KasanRead if write => Kind::KasanWrite,
        Kind::KfenceUseAfterFreeRead if write => Kind::KfenceUseAfterFreeWrite,
        Kind::KfenceRead if write => Kind::KfenceWrite,
        kind => kind,
    }
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT_BYTES {
        let mut end = MAX_TEXT_BYTES;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

/// syzkaller names its threads after who executes and what: `syz.2.929`.
fn executor(comm: &str) -> Option<String> {
    let (proc, id) = comm.strip_prefix("syz.")?.split_once('.')?;
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (number(proc) && number(id)).then(|| format!("proc={proc}, id={id}"))
}
