//! What no processor does: a report that says so is about the machine under the kernel, not about the kernel.

/// A processor takes an interrupt that can be masked only with RFLAGS.IF set (SDM volume 3A, 7.8.1; APM volume 2, 8.1.1).
const INTERRUPT_FLAG: u64 = 1 << 9;
/// Lines between the entry of an interrupt in a stack and the flags of what it interrupted: `RIP:`, `Code:` and `RSP:` with
/// `EFLAGS:` (arch/x86/kernel/dumpstack.c, `show_regs_if_on_stack`).
const LINES: usize = 4;

/// Whether a stack in this report has an interrupt that came while interrupts were off. Software emulation does that now and
/// then (seen with nested SVM under QEMU 7.2: the timer's, inside its own handler), and lockdep and dead locks follow from it.
#[must_use]
pub fn interrupted_while_off(report: &str) -> bool {
    let mut left = 0;
    for line in report.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        // A `?` stands before what the unwinder only believes to have been there.
        let is_doubted = words.contains(&"?");
        if !is_doubted && words.last().is_some_and(|word| is_interrupts_entry(word)) {
            left = LINES;
            continue;
        }
        if left == 0 {
            continue;
        }
        left -= 1;
        let flags = words.iter().position(|word| *word == "EFLAGS:").and_then(|at| words.get(at + 1));
        if let Some(flags) = flags.and_then(|flags| u64::from_str_radix(flags, 16).ok()) {
            if flags & INTERRUPT_FLAG == 0 {
                return true;
            }
            left = 0;
        }
    }
    false
}

/// The entries of device interrupts, and of the local APIC's (arch/x86/include/asm/idtentry.h). Exceptions and non-maskable
/// interrupts have others: they come when they come.
fn is_interrupts_entry(place: &str) -> bool {
    let name = place.split('+').next().unwrap_or_default();
    place.contains('+') && (name.starts_with("asm_sysvec_") || name == "asm_common_interrupt")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack(entry: &str, flags: &str) -> String {
        format!(
            "[   39.061000][    C0]  __sysvec_apic_timer_interrupt+0xc1/0x330\n[   39.061049][    C0]  {entry}\n\
             [   39.061203][    C0] RIP: 0010:timekeeping_update+0x48b/0x660\n[   39.061285][    C0] Code: 48 89 05 58\n\
             [   39.061533][    C0] RSP: 0018:ffffc90000007d28 EFLAGS: {flags}\n[   39.061611][    C0] RAX: 0000000000000000\n"
        )
    }

    #[test]
    fn an_interrupt_comes_only_while_interrupts_are_on() {
        let timer = "asm_sysvec_apic_timer_interrupt+0x16/0x20";
        assert!(interrupted_while_off(&stack(timer, "00000006")));
        assert!(interrupted_while_off(&stack("asm_common_interrupt+0x22/0x40", "00010082")));
        assert!(!interrupted_while_off(&stack(timer, "00000286")));
        // The second of two.
        assert!(interrupted_while_off(&(stack(timer, "00000246") + &stack(timer, "00000046"))));
    }

    #[test]
    fn others_come_when_they_come() {
        for entry in ["asm_exc_page_fault+0x22/0x30", "end_repeat_nmi+0xf/0x18", "asm_exc_int3+0x35/0x40"] {
            assert!(!interrupted_while_off(&stack(entry, "00000006")), "{entry}");
        }
        assert!(!interrupted_while_off(&stack("? asm_sysvec_apic_timer_interrupt+0x16/0x20", "00000006")));
    }

    #[test]
    fn flags_of_something_else_do_not_count() {
        let far = "asm_sysvec_apic_timer_interrupt+0x16/0x20\n a\n b\n c\n d\n RSP: 0018:0 EFLAGS: 00000006\n";
        assert!(!interrupted_while_off(far));
        assert!(!interrupted_while_off("asm_sysvec_apic_timer_interrupt\n EFLAGS: 00000006\n"));
        assert!(!interrupted_while_off("asm_sysvec_x+0x1/0x2\n EFLAGS:\n EFLAGS: zz\n"));
        assert!(!interrupted_while_off(""));
    }
}
