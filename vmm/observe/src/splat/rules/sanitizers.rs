//! KASAN, KFENCE, KMSAN, KCSAN, UBSAN, kmemleak.

use super::super::report::SplatKind as Kind;
use super::{From, Note, Rule, rule};

const BAD: &str = "bad-access in {frame}";

#[rustfmt::skip]
pub(super) const RULES: &[Rule] = &[
    rule(r"BUG: KAS[Aa][Nn]: (?:double-free or )?invalid-free in (?P<frame>\S+)", ["KASAN: invalid-free in {frame}", "invalid-free in {frame}"],
        Kind::KasanInvalidFree, From::Line, Note::Plain, "BUG: KASAN: double-free or invalid-free in xt_free_table_info+0x10d/0x180"),
    rule(r"BUG: KAS[Aa][Nn]: double-free in (?P<frame>\S+)", ["KASAN: double-free in {frame}", "invalid-free in {frame}"],
        Kind::KasanInvalidFree, From::Line, Note::Plain, "BUG: KASAN: double-free in kfree+0x10d/0x180"),
    rule(r"BUG: KAS[Aa][Nn]: (?P<what>(?:[a-z]+-)*use-after-free)(?: on address \S+)? in (?P<frame>\S+)", ["KASAN: {what} {access} in {frame}", BAD],
        Kind::KasanUseAfterFreeRead, From::Line, Note::Plain, "BUG: KASAN: slab-use-after-free in consume_skb+0x39f/0x530"),
    rule(r"BUG: KAS[Aa][Nn]: (?P<what>null-ptr-deref)(?: on address \S+)? in (?P<frame>\S+)", ["KASAN: {what} {access} in {frame}", BAD],
        Kind::KasanNullPointerDereferenceRead, From::Line, Note::Plain, "BUG: KASAN: null-ptr-deref in refcount_sub_and_test+0x30/0x180"),
    rule(r"BUG: KAS[Aa][Nn]: (?P<what>[a-z][a-z -]*?)(?: on address \S+)? in (?P<frame>\S+)", ["KASAN: {what} {access} in {frame}", BAD],
        Kind::KasanRead, From::Line, Note::Plain, "BUG: KASAN: slab-out-of-bounds in ip6_fragment+0x11a2/0x3810"),
    rule(r"BUG: KAS[Aa][Nn]: (?P<what>[a-z -]+?) on address", ["KASAN: {what} {access} in {frame}", BAD],
        Kind::KasanRead, From::Trace, Note::Plain, "BUG: KASAN: use after free on address ffff8801"),
    rule(r"BUG: KAS[Aa][Nn]: (?P<what>[a-z -]+)", ["KASAN: {what}", ""],
        Kind::KasanUnknown, From::None, Note::Plain, "BUG: KASAN: something new"),

    rule(r"BUG: KFENCE: (?P<what>use-after-free) (?P<how>read|write) in (?P<frame>\S+)", ["KFENCE: {what} {how} in {frame}", BAD],
        Kind::KfenceUseAfterFreeRead, From::Line, Note::Plain, "BUG: KFENCE: use-after-free read in memcmp+0x57/0x150"),
    rule(r"BUG: KFENCE: (?P<what>memory corruption) in (?P<frame>\S+)", ["KFENCE: memory corruption in {frame}", ""],
        Kind::KfenceMemoryCorruption, From::Line, Note::Plain, "BUG: KFENCE: memory corruption in krealloc+0x60/0xd0"),
    rule(r"BUG: KFENCE: (?P<what>invalid free) in (?P<frame>\S+)", ["KFENCE: invalid free in {frame}", "invalid-free in {frame}"],
        Kind::KfenceInvalidFree, From::Line, Note::Plain, "BUG: KFENCE: invalid free in kvfree_call_rcu+0x1/0x2"),
    rule(r"BUG: KFENCE: (?P<what>[a-z -]+?) (?P<how>read|write) in (?P<frame>\S+)", ["KFENCE: {what} {how} in {frame}", BAD],
        Kind::KfenceRead, From::Line, Note::Plain, "BUG: KFENCE: out-of-bounds read in kmemleak_scan+0x1/0x2"),
    rule(r"BUG: KFENCE: (?P<what>[a-z -]+?) in (?P<frame>\S+)", ["KFENCE: {what} in {frame}", ""],
        Kind::KfenceUnknown, From::Line, Note::Plain, "BUG: KFENCE: something new in f+0x1/0x2"),

    rule(r"BUG: KMSAN: (?P<what>kernel-usb-infoleak[a-z-]*) in (?P<frame>\S+)", ["KMSAN: {what} in {frame}", "KMSAN origin in {origin}"],
        Kind::KmsanInfoLeak, From::Line, Note::Plain, "BUG: KMSAN: kernel-usb-infoleak in usb_submit_urb+0x6c1/0x2aa0"),
    rule(r"BUG: KMSAN: (?P<what>[a-z-]*infoleak[a-z-]*) in (?P<frame>\S+)", ["KMSAN: {what} in {frame}", BAD],
        Kind::KmsanInfoLeak, From::Line, Note::Plain, "BUG: KMSAN: kernel-infoleak in copyout+0xbc/0x100"),
    rule(r"BUG: KMSAN: (?P<what>use-after-free) in (?P<frame>\S+)", ["KMSAN: {what} in {frame}", BAD],
        Kind::KmsanUseAfterFreeRead, From::Line, Note::Plain, "BUG: KMSAN: use-after-free in sctp_inq_pop+0x159a/0x1a90"),
    rule(r"BUG: KMSAN: (?P<what>uninit-value) in (?P<frame>\S+)", ["KMSAN: {what} in {frame}", BAD],
        Kind::KmsanUninitValue, From::Line, Note::Plain, "BUG: KMSAN: uninit-value in virtqueue_add+0x20e2/0x60f0"),
    rule(r"BUG: KMSAN: (?P<what>[a-z -]+?) in (?P<frame>\S+)", ["KMSAN: {what} in {frame}", ""],
        Kind::KmsanUnknown, From::Line, Note::Plain, "BUG: KMSAN: something new in f+0x1/0x2"),

    rule(r"BUG: KCSAN: (?P<what>data-race) in (?P<frame>[^+\s]+)\S* / (?P<other>[^+\s]+)", ["KCSAN: data-race in {frame} / {other}", ""],
        Kind::KcsanDatarace, From::Named, Note::Plain, "BUG: KCSAN: data-race in find_next_bit / rcu_report_exp_cpu_mult"),
    rule(r"BUG: KCSAN: (?P<what>data-race) in (?P<frame>\S+)", ["KCSAN: data-race in {frame}", ""],
        Kind::KcsanDatarace, From::Named, Note::Plain, "BUG: KCSAN: data-race in find_next_bit+0x57/0xe0"),
    rule(r"BUG: KCSAN: assert: race in (?P<frame>[^+\s]+)\S* / (?P<other>[^+\s]+)", ["KCSAN: assert: race in {frame} / {other}", ""],
        Kind::KcsanAssert, From::Named, Note::Plain, "BUG: KCSAN: assert: race in a / b"),
    rule(r"BUG: KCSAN: assert: race in (?P<frame>\S+)", ["KCSAN: assert: race in {frame}", ""],
        Kind::KcsanAssert, From::Named, Note::Plain, "BUG: KCSAN: assert: race in dequeue_entities+0x6df/0x760"),
    rule(r"BUG: KCSAN: (?P<what>[a-z -]+)", ["KCSAN: {what}", ""],
        Kind::KcsanUnknown, From::None, Note::Plain, "BUG: KCSAN: something new"),

    rule(r"UBSAN: Undefined behaviour in", ["UBSAN: undefined-behaviour in {frame}", ""],
        Kind::Ubsan, From::Trace, Note::Plain, "UBSAN: Undefined behaviour in fs/f2fs/super.c:2563:16"),
    rule(r"UBSAN: (?P<what>array-index-out-of-bounds) in", ["UBSAN: {what} in {frame}", "bad-access in {frame}"],
        Kind::MemorySafetyUbsan, From::Trace, Note::Plain, "UBSAN: array-index-out-of-bounds in fs/a.c:1:2"),
    rule(r"UBSAN: (?P<what>[a-z][a-z -]*?) in", ["UBSAN: {what} in {frame}", ""],
        Kind::Ubsan, From::Trace, Note::Plain, "UBSAN: shift-out-of-bounds in fs/a.c:1:2"),

    rule(r"BUG: memory leak", ["memory leak in {frame}", ""],
        Kind::Leak, From::Trace, Note::Plain, "BUG: memory leak"),
    rule(r"^unreferenced object 0x", ["memory leak in {frame}", ""],
        Kind::Leak, From::Trace, Note::Continued, "unreferenced object 0xffff88005a065340 (size 576):"),
];
