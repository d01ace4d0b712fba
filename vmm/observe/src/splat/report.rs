//! What the detector gives.

use serde::{Deserialize, Serialize};

/// The sort of a report. Serialises in lower-case kebab: `kasan-use-after-free-read`. These are the words of syzkaller's
/// `TYPE:` in lower case, with `-` for `_`; `Unknown` stands for a report without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SplatKind {
    /// KASAN: a freed object was read.
    KasanUseAfterFreeRead,
    /// KASAN: a freed object was written to.
    KasanUseAfterFreeWrite,
    /// KASAN: NULL was read through.
    KasanNullPointerDereferenceRead,
    /// KASAN: NULL was written through.
    KasanNullPointerDereferenceWrite,
    /// KASAN: another bad read.
    KasanRead,
    /// KASAN: another bad write.
    KasanWrite,
    /// KASAN: something was freed that must not be, or twice.
    KasanInvalidFree,
    /// KASAN: any other report.
    KasanUnknown,
    /// KFENCE: a freed object was read.
    KfenceUseAfterFreeRead,
    /// KFENCE: a freed object was written to.
    KfenceUseAfterFreeWrite,
    /// KFENCE: another bad read.
    KfenceRead,
    /// KFENCE: another bad write.
    KfenceWrite,
    /// KFENCE: something was freed that must not be, or twice.
    KfenceInvalidFree,
    /// KFENCE: the bytes around an object were overwritten.
    KfenceMemoryCorruption,
    /// KFENCE: any other report.
    KfenceUnknown,
    /// KMSAN: an uninitialised value was used.
    KmsanUninitValue,
    /// KMSAN: a freed object was read.
    KmsanUseAfterFreeRead,
    /// KMSAN: uninitialised bytes went to user space or a device.
    KmsanInfoLeak,
    /// KMSAN: any other report.
    KmsanUnknown,
    /// KCSAN: two accesses raced.
    KcsanDatarace,
    /// KCSAN: an access raced with an assertion of exclusiveness.
    KcsanAssert,
    /// KCSAN: any other report.
    KcsanUnknown,
    /// Lockdep: locks taken or released in a way that can hang.
    Lockdep,
    /// A task or CPU that gets nowhere: hung task, RCU stall, soft or hard lockup.
    Hang,
    /// `WARN()`.
    Warning,
    /// A reference count that overflowed, underflowed or was used after it fell to zero.
    RefcountWarning,
    /// `BUG()`.
    Bug,
    /// Memory used wrongly, seen by the CPU: a bad paging request.
    MemorySafetyBug,
    /// NULL was dereferenced, seen by the CPU.
    NullPointerDereference,
    /// Sleeping or scheduling where that is forbidden.
    AtomicSleep,
    /// UBSAN: behaviour the C standard leaves undefined.
    Ubsan,
    /// UBSAN: an index out of bounds, which is memory used wrongly.
    MemorySafetyUbsan,
    /// kmemleak: memory nobody refers to.
    Leak,
    /// Anything else the machine does not survive: general protection fault, panic, double fault.
    #[serde(rename = "dos")]
    DenialOfService,
    /// The kernel started again without being asked.
    Reboot,
    /// The program inside the guest that drives it failed.
    SyzFailure,
    /// Something else the kernel complained of.
    Unknown,
}

/// One report of a kernel about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Splat {
    /// Kind and the first frame that matters: `KASAN: slab-use-after-free Read in linereq_ioctl`. The same from run to
    /// run.
    pub title: String,
    /// Other titles of the same. Two reports are the same if any of their titles meet.
    pub alt_titles: Vec<String>,
    /// The sort of it.
    pub kind: SplatKind,
    /// Why title and text are not to be trusted; nothing if they are.
    pub corrupted: Option<String>,
    /// Why it says nothing about the kernel, though the kernel printed it; nothing if it does.
    #[serde(default)]
    pub suppressed: Option<String>,
    /// The machine panicked over it.
    pub panicked: bool,
    /// The function the title names.
    pub frame: Option<String>,
    /// The first line, counted from 0 at the beginning of the stream.
    pub start_line: u64,
    /// The last line.
    pub end_line: u64,
    /// The lines themselves, without prefixes, at most [`super::MAX_TEXT_BYTES`].
    pub text: String,
    /// The task that ran, where the report says so: `Comm: …`.
    pub task: Option<String>,
    /// Its process id.
    pub pid: Option<u32>,
    /// syzkaller's note of who executed: `proc=4, id=2288`.
    pub executor: Option<String>,
}

impl Splat {
    /// Whether two reports tell of the same: their titles or alternative titles meet.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let titles =
            |splat: &Self| -> Vec<String> { std::iter::once(&splat.title).chain(&splat.alt_titles).cloned().collect() };
        let theirs = titles(other);
        titles(self).iter().any(|title| theirs.contains(title))
    }
}
