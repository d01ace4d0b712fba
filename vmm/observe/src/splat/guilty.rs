//! Which frame of a stack is the one that matters.
//!
//! The innermost frames are rarely to blame: they report, allocate, lock, copy or wait on behalf of others. Tables say what
//! is passed over; another says who calls whom through a pointer, for stalls, where the innermost frame is merely where the
//! clock happened to strike.

use super::passed_over::{CHECKS, NEVER, OBJECTS, PAGES, SRCU, TERMINAL, TREES, WAITING, dispatches, names};

/// What sort of report the frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// A bad access or any other: the first frame not in the first table.
    Anything,
    /// A task that waits.
    Wait,
    /// A check that failed.
    Check,
    /// Memory nobody refers to.
    Leak,
    /// An object whose life is watched.
    Object,
    /// A page in a bad state.
    Page,
}

/// A BPF program, named after the hash of its code: `bpf_prog_a467eebe3b6cb835`.
fn is_jitted(function: &str) -> bool {
    let hash = function.strip_prefix("bpf_prog_").and_then(|rest| rest.get(..16));
    hash.is_some_and(|hash| hash.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Whether a function is passed over.
pub(super) fn passed_over(function: &str, sort: For) -> bool {
    names(NEVER, function)
        || is_jitted(function)
        || match sort {
            For::Anything => false,
            For::Wait => names(WAITING, function) || names(SRCU, function),
            For::Check => names(CHECKS, function) || names(SRCU, function),
            For::Leak => names(TREES, function),
            For::Object => names(CHECKS, function) || names(OBJECTS, function),
            For::Page => names(CHECKS, function) || names(PAGES, function),
        }
}

/// The first frame that matters.
pub(super) fn first<'f>(frames: impl IntoIterator<Item = &'f str>, sort: For) -> Option<&'f str> {
    frames.into_iter().find(|frame| !passed_over(frame, sort))
}

/// Where code that does not return was entered: what the innermost dispatcher called.
pub(super) fn entered<'f>(frames: &[&'f str]) -> Option<&'f str> {
    let mut called = None;
    for &frame in frames {
        if dispatches(frame) {
            if called.is_some() {
                return called;
            }
        } else if names(TERMINAL, frame) {
            return Some(frame);
        } else if !passed_over(frame, For::Anything) {
            called = Some(frame);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_for_readers_is_named_after_its_caller() {
        let stack = [
            "__schedule",
            "schedule",
            "schedule_timeout",
            "__wait_for_common",
            "wait_for_completion",
            "__synchronize_srcu",
            "synchronize_srcu",
            "gpiochip_remove",
            "virtio_gpio_remove",
        ];
        assert_eq!(first(stack, For::Wait), Some("gpiochip_remove"));
    }

    #[test]
    fn a_stall_is_named_after_what_was_entered() {
        let stack = [
            "count_memcg_event_mm",
            "snd_pcm_oss_write3",
            "snd_pcm_oss_write",
            "__vfs_write",
            "vfs_write",
            "ksys_write",
        ];
        assert_eq!(entered(&stack), Some("snd_pcm_oss_write"));
        assert_eq!(entered(&["a", "b", "call_timer_fn", "__run_timers"]), Some("b"));
        assert_eq!(entered(&["dump_stack", "a", "b"]), None);
        assert_eq!(entered(&["a", "__x64_sys_recvmmsg", "do_syscall_64"]), Some("__x64_sys_recvmmsg"));
    }
}
