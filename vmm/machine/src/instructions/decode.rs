//! As much of an instruction as the counter wants to know: its prefixes and its opcode, in 64-bit mode (Intel SDM 2A, 2.1 and
//! 2.2; AMD APM 3, 1.2).

/// The longest instruction there is; a longer one is a general protection fault.
pub(crate) const MOST_BYTES: usize = 15;

const LOCK: u8 = 0xf0;
/// XCHG of a register with a register or memory, of bytes and of words. The short forms, 0x91 to 0x97, exchange registers.
const XCHG: [u8; 2] = [0x86, 0x87];
const HLT: u8 = 0xf4;

/// What counts of an instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    /// It has the lock prefix, or locks without: XCHG does if one of its operands is memory (Intel SDM 2D, XCHG).
    pub(crate) locks: bool,
    /// A string instruction with a repeat prefix: a single step is one round of it.
    pub(crate) repeats: bool,
    /// HLT.
    pub(crate) halts: bool,
}

/// Reads the instruction that `bytes` begin with. Nothing if they end, or [`MOST_BYTES`] do, before that is told.
pub(crate) fn decode(bytes: &[u8]) -> Option<Instruction> {
    let mut bytes = bytes.iter().take(MOST_BYTES).copied();
    let (mut lock, mut repeat) = (false, false);
    let opcode = loop {
        match bytes.next()? {
            LOCK => lock = true,
            0xf2 | 0xf3 => repeat = true,
            // Segments, sizes of operand and address; and REX, which counts only as the last one, and never here.
            0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0x40..=0x4f => {}
            opcode => break opcode,
        }
    };
    let with_memory = |modrm: u8| modrm >> 6 != 0b11;
    // What begins with 0x0f, VEX or EVEX has its opcode behind that, and none of those is one of these.
    let exchanges = XCHG.contains(&opcode) && with_memory(bytes.next()?);
    // INS, OUTS; MOVS, CMPS; STOS, LODS, SCAS. Before others these prefixes say something else, or nothing.
    let string = matches!(opcode, 0x6c..=0x6f | 0xa4..=0xa7 | 0xaa..=0xaf);
    Some(Instruction { locks: lock || exchanges, repeats: repeat && string, halts: opcode == HLT })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: Instruction = Instruction { locks: false, repeats: false, halts: false };
    const LOCKS: Instruction = Instruction { locks: true, ..PLAIN };
    const REPEATS: Instruction = Instruction { repeats: true, ..PLAIN };

    /// As the GNU assembler writes them.
    const ENCODINGS: &[(&str, &[u8], Instruction)] = &[
        ("lock addl $0x0,-0x4(%rsp)", &[0xf0, 0x83, 0x44, 0x24, 0xfc, 0x00], LOCKS),
        ("lock xadd %eax,(%rdi)", &[0xf0, 0x0f, 0xc1, 0x07], LOCKS),
        ("lock cmpxchg %ecx,(%rdx)", &[0xf0, 0x0f, 0xb1, 0x0a], LOCKS),
        ("lock cmpxchg %cx,(%rdx)", &[0x66, 0xf0, 0x0f, 0xb1, 0x0a], LOCKS),
        ("the same, prefixes the other way", &[0xf0, 0x66, 0x0f, 0xb1, 0x0a], LOCKS),
        ("lock cmpxchg16b %gs:(%rsi)", &[0x65, 0xf0, 0x48, 0x0f, 0xc7, 0x0e], LOCKS),
        ("lock incq (%r15)", &[0xf0, 0x49, 0xff, 0x07], LOCKS),
        ("lock bts $0x5,(%rdi)", &[0xf0, 0x48, 0x0f, 0xba, 0x2f, 0x05], LOCKS),
        ("xrelease lock decl (%rbx)", &[0xf3, 0xf0, 0xff, 0x0b], LOCKS),
        ("xchg %al,(%rdi)", &[0x86, 0x07], LOCKS),
        ("xchg %eax,(%rdi)", &[0x87, 0x07], LOCKS),
        ("xchg %rax,0x8(%r12)", &[0x49, 0x87, 0x44, 0x24, 0x08], LOCKS),
        ("xchg %r9,0x12345678(%rbp)", &[0x4c, 0x87, 0x8d, 0x78, 0x56, 0x34, 0x12], LOCKS),
        ("xchg %ax,%gs:(%rdi)", &[0x65, 0x66, 0x87, 0x07], LOCKS),
        ("xchg %ecx,(%edi)", &[0x67, 0x87, 0x0f], LOCKS),
        ("xacquire xchg %eax,(%rdi)", &[0xf2, 0x87, 0x07], LOCKS),
        ("xchg %ebx,%ecx", &[0x87, 0xd9], PLAIN),
        ("xchg %r8b,%al", &[0x41, 0x86, 0xc0], PLAIN),
        ("xchg %rax,%rbx", &[0x48, 0x93], PLAIN),
        ("nop", &[0x90], PLAIN),
        ("pause", &[0xf3, 0x90], PLAIN),
        ("endbr64", &[0xf3, 0x0f, 0x1e, 0xfa], PLAIN),
        ("repz ret", &[0xf3, 0xc3], PLAIN),
        ("ds incq (%rdi), a lock that was patched out", &[0x3e, 0x48, 0xff, 0x07], PLAIN),
        ("incl %gs:0x1234(%rip)", &[0x65, 0xff, 0x05, 0x34, 0x12, 0x00, 0x00], PLAIN),
        ("cmpxchg %rcx,%gs:(%rdx)", &[0x65, 0x48, 0x0f, 0xb1, 0x0a], PLAIN),
        ("xadd %eax,(%rdi)", &[0x0f, 0xc1, 0x07], PLAIN),
        ("ja, whose second byte is that of xchg", &[0x0f, 0x87, 0x00, 0x01, 0x00, 0x00], PLAIN),
        ("mov $0xf0,%al", &[0xb0, 0xf0], PLAIN),
        ("mov $0x87f4f0f0,%eax", &[0xb8, 0xf0, 0xf0, 0xf4, 0x87], PLAIN),
        ("vmovups (%rdi),%xmm0", &[0xc5, 0xf8, 0x10, 0x07], PLAIN),
        ("vpermt2d (%rdi),%zmm1,%zmm0", &[0x62, 0xf2, 0x75, 0x48, 0x7e, 0x07], PLAIN),
        ("rep stos %rax,(%rdi)", &[0xf3, 0x48, 0xab], REPEATS),
        ("rep movsb (%rsi),(%rdi)", &[0xf3, 0xa4], REPEATS),
        ("repnz scas (%rdi),%al", &[0xf2, 0xae], REPEATS),
        ("rep movsw (%esi),(%edi)", &[0x67, 0xf3, 0x66, 0xa5], REPEATS),
        ("rep outsl (%rsi),(%dx)", &[0xf3, 0x6f], REPEATS),
        ("rep insb (%dx),(%rdi)", &[0xf3, 0x6c], REPEATS),
        ("stos %rax,(%rdi)", &[0x48, 0xab], PLAIN),
        ("test $0x1,%al, between two string instructions", &[0xf3, 0xa8, 0x01], PLAIN),
        ("hlt", &[0xf4], Instruction { halts: true, ..PLAIN }),
        ("pushf", &[0x9c], PLAIN),
        ("out %eax,(%dx)", &[0xef], PLAIN),
    ];

    #[test]
    fn real_encodings_are_told_apart() {
        for (name, bytes, expected) in ENCODINGS {
            assert_eq!(decode(bytes), Some(*expected), "{name}");
            // What follows it in memory changes nothing.
            let longer = [bytes, [0xf0, 0x87, 0x00, 0xf4].as_slice()].concat();
            assert_eq!(decode(&longer), Some(*expected), "{name}");
        }
    }

    #[test]
    fn what_ends_early_or_never_is_none() {
        for bytes in [[].as_slice(), &[0xf0], &[0x66, 0x48], &[0x87], &[0xf0, 0x86], &[0x66; 64], &[0xf0; 16]] {
            assert_eq!(decode(bytes), None, "{bytes:x?}");
        }
        let mut prefixes = vec![0x66; MOST_BYTES - 1];
        prefixes.push(0x90);
        assert_eq!(decode(&prefixes), Some(PLAIN));
        prefixes.insert(0, 0x66);
        assert_eq!(decode(&prefixes), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived_and_a_lock_prefix_locks(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let decoded = decode(&bytes);
            prop_assert_eq!(decoded, decode(bytes.get(..MOST_BYTES).unwrap_or(&bytes)));
            if let Some(locked) = decode(&[&[LOCK], bytes.as_slice()].concat()) {
                // One byte further, the sixteenth of a longer one is not looked at.
                prop_assert!(locked.locks);
                prop_assert_eq!(decoded.map(|plain| (plain.repeats, plain.halts)), Some((locked.repeats, locked.halts)));
            }
        }
    }
}
