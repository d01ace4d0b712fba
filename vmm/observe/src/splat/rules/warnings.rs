//! WARN(), and whatever else begins with BUG, WARNING or INFO. The last rows are the widest.

use super::super::report::SplatKind as Kind;
use super::{From, Note, Rule, rule};

// All layouts: "WARNING: CPU: 0 PID: 1 at net/core/dev.c:12 f+0x1/0x2()", "WARNING: at net/core/dev.c:12 f+0x1/0x2()" and
// the newer "WARNING: [condition] net/core/dev.c:12 at f+0x1/0x2, CPU#0: comm/1", with the condition where the kernel keeps it.
macro_rules! at {
    ($file:literal) => {
        concat!(
            r"WARNING: (?:CPU: [0-9]+ (?:UID: [0-9]+ )?PID: [0-9]+ )?(?:\[.*\] )?(?:at )?(?:[^\s:]*/)?",
            $file,
            r":[0-9]+(?: at)?(?: (?P<frame>[^\s,(]+))?"
        )
    };
}

#[rustfmt::skip]
pub(super) const RULES: &[Rule] = &[
    rule(at!(r"(?:lib|include/linux)/refcount\.[ch]"), ["WARNING: refcount bug in {frame}", ""],
        Kind::RefcountWarning, From::Stack, Note::Plain, "WARNING: CPU: 1 PID: 3697 at lib/refcount.c:28 refcount_warn_saturate+0x1/0x2"),
    rule(at!(r"lib/debugobjects\.c"), ["WARNING: ODEBUG bug in {frame}", ""],
        Kind::Warning, From::Object, Note::Plain, "WARNING: CPU: 0 PID: 1 at lib/debugobjects.c:291 debug_print_object+0x1/0x2"),
    rule(at!(r"mm/usercopy\.c"), ["WARNING: bad usercopy in {frame}", ""],
        Kind::Warning, From::Stack, Note::Plain, "WARNING: CPU: 0 PID: 1 at mm/usercopy.c:78 usercopy_warn+0xeb/0x110"),
    rule(at!(r"lib/kobject\.c"), ["WARNING: kobject bug in {frame}", ""],
        Kind::Warning, From::Stack, Note::Plain, "WARNING: CPU: 0 PID: 1 at lib/kobject.c:1 kobject_add_internal+0x1/0x2"),
    rule(r"WARNING: .*fs/proc/generic\.c:[0-9]+(?: at)? proc_register\b", ["WARNING: proc registration bug in {frame}", ""],
        Kind::Warning, From::Stack, Note::Plain, "WARNING: CPU: 0 PID: 1 at fs/proc/generic.c:1 proc_register+0x1/0x2"),
    rule(at!(r"kernel/locking/lockdep\.c"), ["WARNING: locking bug in {frame}", ""],
        Kind::Lockdep, From::Stack, Note::Plain, "WARNING: CPU: 0 PID: 1 at kernel/locking/lockdep.c:1 __lock_acquire+0x1/0x2"),
    rule(r"WARNING: .*mm/vmalloc\.c:[0-9]+(?: at)? __vmalloc_node_range", ["WARNING: zero-size vmalloc in {frame}", ""],
        Kind::Warning, From::Stack, Note::Plain, "WARNING: CPU: 0 PID: 1 at mm/vmalloc.c:3132 __vmalloc_node_range+0x1/0x2"),
    rule(r"WARNING: .*mm/(?:slab_common|slab|slub|util)\.c:[0-9]+(?: at)? (?:__)?(?:kmalloc_slab|kvmalloc_node\w*|kmalloc\w*)\b", ["WARNING: kmalloc bug in {frame}", ""],
        Kind::Warning, From::Stack, Note::Plain, "WARNING: CPU: 0 PID: 1 at mm/slab_common.c:1 kmalloc_slab+0x1/0x2"),
    rule(at!(r"drivers/usb/core/urb\.c"), ["WARNING in {frame}/usb_submit_urb", ""],
        Kind::Warning, From::Stack, Note::Plain, "WARNING: CPU: 0 PID: 12 at drivers/usb/core/urb.c:477 usb_submit_urb+0x119a/0x13c0"),
    rule(r"WARNING: .*kernel/rcu/srcu(?:tree|tiny)\.c:[0-9]+(?: at)? cleanup_srcu_struct\b", ["WARNING in cleanup_srcu_struct", "SRCU domain leaked in {frame}"],
        Kind::Warning, From::Stack, Note::Plain, "WARNING: CPU: 0 PID: 1 at kernel/rcu/srcutree.c:690 cleanup_srcu_struct+0x1/0x2"),
    rule(r"cleanup_srcu_struct: Active srcu_struct", ["cleanup_srcu_struct: Active srcu_struct", ""],
        Kind::Warning, From::None, Note::Continued, "cleanup_srcu_struct: Active srcu_struct 00000000abcd read state: 1 gp state: 100/104"),
    rule(at!(r"[A-Za-z0-9_./-]+\.[chS]"), ["WARNING in {frame}", ""],
        Kind::Warning, From::Stack, Note::Plain, "WARNING: net/core/dev.c:12 at unregister_netdevice_many+0x1/0x2, CPU#0: a/1"),
    rule(r"WARNING: CPU: [0-9]+ (?:UID: [0-9]+ )?PID: [0-9]+", ["WARNING in {frame}", ""],
        Kind::Warning, From::Stack, Note::Plain, "WARNING: CPU: 1 PID: 4 a"),

    rule(r"BUG: Bad page state in process", ["BUG: Bad page state in {frame}", ""],
        Kind::Unknown, From::Page, Note::Plain, "BUG: Bad page state in process syz-executor209  pfn:7deea"),
    rule(r"BUG: Bad page map", ["BUG: Bad page map", ""],
        Kind::Unknown, From::None, Note::Plain, "BUG: Bad page map in process a  pte:ffff8801 pmd:1a700f067"),
    rule(r"BUG: assuming (?P<what>atomic|non migratable|non-migratable) context", ["BUG: assuming {what} context in {frame}", ""],
        Kind::AtomicSleep, From::Trace, Note::Plain, "BUG: assuming atomic context at kernel/seccomp.c:271"),
    rule(r"BUG: (?P<what>please report to dccp@vger\.kernel\.org.*)", ["BUG: {what}", ""],
        Kind::Bug, From::None, Note::Plain, "BUG: please report to dccp@vger.kernel.org => prev = 0, last = 0 at net/dccp/a.c:1/f()"),
    rule(r"BUG: Bad page cache", ["BUG: Bad page cache in {frame}", ""],
        Kind::Unknown, From::Trace, Note::Plain, "BUG: Bad page cache in process a  pfn:1"),
    rule(r"BUG: Bad rss-counter state", ["BUG: Bad rss-counter state", ""],
        Kind::Unknown, From::None, Note::NoStack, "BUG: Bad rss-counter state mm:ffff88 idx:1 val:1"),
    rule(r"BUG: non-zero (?P<what>nr_ptes|nr_pmds) on freeing mm", ["BUG: non-zero {what} on freeing mm", ""],
        Kind::Unknown, From::None, Note::NoStack, "BUG: non-zero nr_ptes on freeing mm: 1"),
    rule(r"BUG: non-zero (?P<what>[a-z_]+) on freeing mm", ["BUG: non-zero {what} on freeing mm: NUM", ""],
        Kind::Unknown, From::None, Note::NoStack, "BUG: non-zero pgtables_bytes on freeing mm: 4096"),
    rule(r"BUG: Dentry .* still in use \([^)]*\) +\[unmount of (?P<what>[^\]]+)\]", ["BUG: Dentry still in use [unmount of {what}]", ""],
        Kind::Unknown, From::None, Note::NoStack, "BUG: Dentry ffff88{i=1,n=a} still in use (1) [unmount of sysfs sysfs]"),
    rule(r"^BUG \S+ \([^)]*\): (?P<what>.*?)[\s.]*$", ["BUG: {what}", ""],
        Kind::DenialOfService, From::None, Note::Plain, "BUG kmalloc-8 (Tainted: G    B         ): Object already free"),
    rule(r"WARNING: kernel stack (?P<what>regs|frame pointer)\b.* has bad value", ["WARNING: kernel stack {what} has bad value", ""],
        Kind::Unknown, From::None, Note::NoStack, "WARNING: kernel stack frame pointer at ffff8800 in a:1 has bad value ffff88"),
    rule(r"WARNING: kernel stack (?P<what>regs|frame pointer)\b.* has bad '?(?P<field>\w+)'? value", ["WARNING: kernel stack {what} has bad '{field}' value", ""],
        Kind::Unknown, From::None, Note::NoStack, "WARNING: kernel stack regs at ffff8800 in a:1 has bad 'bp' value ffff88"),
    rule(r"(?:^|[^A-Za-z0-9_])BUG: (?P<what>unable to handle kernel)\s*$", ["BUG: {what}", ""],
        Kind::Unknown, From::None, Note::Plain, "BUG: unable to handle kernel"),
    rule(r"^(?:\[ )?BUG: (?P<what>.*?)[\s.]*$", ["BUG: {what}", ""],
        Kind::Unknown, From::None, Note::Plain, "BUG: something new"),
    rule(r"^(?:\[ )?WARNING: (?P<what>.*?)[\s.]*$", ["WARNING: {what}", ""],
        Kind::Warning, From::None, Note::Tentative, "WARNING: something new"),
    rule(r"^(?:\[ )?INFO: (?P<what>(?:Allocated|Freed|Slab|Object|Internal) .*?)[\s.]*$", ["INFO: {what}", ""],
        Kind::Unknown, From::None, Note::Plain, "INFO: Allocated in fasync_helper+0x29/0x90 age=1 cpu=1 pid=6024"),
    rule(r"^INFO:\s*$", ["INFO: {frame}", ""],
        Kind::Unknown, From::None, Note::Plain, "INFO:"),
    rule(r"^(?:\[ )?INFO: (?P<what>.*?)[\s.]*$", ["INFO: {what}", ""],
        Kind::Unknown, From::None, Note::Tentative, "INFO: something new"),
];
