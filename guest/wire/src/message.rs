//! What host and agent tell each other.

use serde::{Deserialize, Serialize};

use crate::own::{ExitCount, NodeTarget, ProgramEnd};

/// What the host tells the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "to_guest", rename_all = "snake_case")]
#[non_exhaustive]
pub enum ToGuest {
    /// Sent once, as the answer to [`FromGuest::Hello`]. Answered by [`FromGuest::Configured`]. Has nothing of a single run:
    /// what a guest is from here on may be written down, and every guest that goes on from it shares it.
    Configure {
        /// Trace events to set up.
        probes: Vec<ProbeSpec>,
    },
    /// What makes a guest one run's own. Sent once in a guest's life, after [`FromGuest::Configured`] and before anything
    /// else; to a guest that goes on from a snapshot it is the first message of its host's. The agent does what is asked in
    /// the order entropy, clock, watchdogs, points, hammers. Answered by [`FromGuest::Begun`].
    Begin {
        /// Everything that will be told to start later, by name.
        hammers: Vec<HammerSpec>,
        /// What `CLOCK_REALTIME` is to show, in nanoseconds since 1970: without it, a guest's wall clock would go on from the
        /// time of its snapshot.
        realtime_ns: u64,
        /// [`ENTROPY_BYTES`] random bytes of the host's, in hexadecimal digits, for the kernel's random numbers: without them,
        /// every guest that goes on from one snapshot would draw the same ones. First of all, since what comes after may draw.
        entropy: String,
        /// Limits of the kernel's watchdogs.
        watchdogs: Watchdogs,
        /// Delay points of our module to arm.
        #[serde(default)]
        points: Vec<PointSpec>,
    },
    /// Open the hammer's descriptors and start its threads. The agent waits for the device node if it is not there yet.
    /// Answered by [`FromGuest::HammerStarted`], or by [`FromGuest::Done`] with an error.
    StartHammer {
        /// Names this request in the answer.
        id: u64,
        /// [`HammerSpec::name`].
        hammer: String,
        /// Seed of every pause and choice of this run of the hammer.
        seed: u64,
    },
    /// Tell the hammer's threads to end and close their descriptors. Answered by [`FromGuest::HammerReport`] with
    /// `ended` set; or, when threads do not come back within `grace_ms`, with `ended` unset and the threads that hang.
    StopHammer {
        /// Names this request in the answer.
        id: u64,
        /// [`HammerSpec::name`].
        hammer: String,
        /// How long threads may take, in milliseconds.
        grace_ms: u64,
    },
    /// Write the device's name to its driver's `unbind` file. Answered by [`FromGuest::Done`] when the write returns.
    Unbind {
        /// Names this request in the answer.
        id: u64,
        /// The root port the device is under.
        port: PciAddress,
    },
    /// Write 1 to the PCI device's `remove` file. Answered by [`FromGuest::Done`] when the write returns.
    Remove {
        /// Names this request in the answer.
        id: u64,
        /// The root port the device is under.
        port: PciAddress,
    },
    /// Bind the PCI device to its driver again, after an [`ToGuest::Unbind`]. Answered by [`FromGuest::Done`].
    Bind {
        /// Names this request in the answer.
        id: u64,
        /// The root port the device is under.
        port: PciAddress,
    },
    /// Rescan the PCI bus below a root port, after a [`ToGuest::Remove`]. Answered by [`FromGuest::Done`].
    Rescan {
        /// Names this request in the answer.
        id: u64,
        /// The root port to look under.
        port: PciAddress,
    },
    /// Run a program to its end. Answered by [`FromGuest::ProgramEnded`], or by [`FromGuest::Done`] with an error if it cannot be
    /// started.
    RunProgram {
        /// Names this request in the answer.
        id: u64,
        /// The program's path in the guest, and its arguments.
        program: Vec<String>,
    },
    /// List the tasks that sit in the kernel with their stacks. Answered by [`FromGuest::Tasks`].
    DumpTasks {
        /// Names this request in the answer.
        id: u64,
    },
    /// Have the kernel list on its console who holds which locks. Answered by [`FromGuest::Done`] once it has been told to, when the
    /// list may still be on its way; with an error by a kernel that keeps no account of locks (no CONFIG_LOCKDEP) or cannot be told
    /// (no CONFIG_MAGIC_SYSRQ).
    ShowLocks {
        /// Names this request in the answer.
        id: u64,
    },
    /// Say how often the points that were armed have been reached. Answered by [`FromGuest::Points`], or by
    /// [`FromGuest::Done`] with an error.
    ReadPoints {
        /// Names this request in the answer.
        id: u64,
    },
    /// Look for memory that nobody points to any more, which takes some seconds. To a guest whose [`FromGuest::Hello::leaks`] is
    /// set. Answered by [`FromGuest::Leaks`], or by [`FromGuest::Done`] with an error.
    FindLeaks {
        /// Names this request in the answer.
        id: u64,
    },
    /// Have our module for measuring measure something. Answered by [`FromGuest::Measured`], however it went.
    Measure {
        /// Names this request in the answer.
        id: u64,
        /// As the module takes it (`guest/module/bench.h`): words `key=value`, at most [`MAX_REQUEST_BYTES`].
        request: String,
    },
    /// Load a module that the host put into [`crate::LATER_MODULES`]. Answered by [`FromGuest::Done`] when its init has returned.
    LoadModule {
        /// Names this request in the answer.
        id: u64,
        /// Its file there.
        file: String,
        /// Its parameters, `key=value` with blanks between.
        parameters: String,
    },
    /// Remove a module. Answered by [`FromGuest::Done`] when its exit has returned.
    UnloadModule {
        /// Names this request in the answer.
        id: u64,
        /// Its name, as `/proc/modules` lists it.
        name: String,
    },
    /// Answered by [`FromGuest::Done`] once all trace events recorded before it have been sent.
    FlushTrace {
        /// Names this request in the answer.
        id: u64,
    },
    /// Answered by [`FromGuest::Done`] at once: is the agent alive?
    Ping {
        /// Names this request in the answer.
        id: u64,
    },
    /// Power the guest off. Not answered.
    PowerOff,
}

/// What the agent tells the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "from_guest", rename_all = "snake_case")]
#[non_exhaustive]
pub enum FromGuest {
    /// The first message: the agent runs.
    Hello {
        /// [`crate::VERSION`] of the agent.
        version: u32,
        /// `uname -r`.
        kernel_release: String,
        /// Online CPUs.
        cpus: u32,
        /// Guest time-stamp counter now.
        tsc: u64,
        /// Nanoseconds since the kernel's start (`CLOCK_BOOTTIME`).
        since_boot_ns: u64,
        /// How long [`CALIBRATION_ROUNDS`] rounds of a dependent-add loop took in the guest, in nanoseconds of its
        /// clock: a measure of this guest's slowdown.
        calibration_ns: u64,
        /// Length of a timer tick, in nanoseconds: 10⁹ by the kernel's HZ; 0 if it does not tell. An ordinary grace period
        /// counts these.
        tick_ns: u64,
        /// The preemption model, where the kernel lets it be chosen (`voluntary`).
        preemption: Option<String>,
        /// Modules loaded, in order.
        modules: Vec<ModuleOutcome>,
        /// The kernel can look for memory that nobody points to (CONFIG_DEBUG_KMEMLEAK), and does so when it is told to only.
        #[serde(default)]
        leaks: bool,
    },
    /// Answer to [`ToGuest::Configure`].
    Configured {
        /// Probes that this kernel does not have, with the kernel's reason.
        probes_failed: Vec<ProbeFailure>,
    },
    /// Answer to [`ToGuest::Begin`].
    Begun {
        /// Guest time-stamp counter now: the clock of this machine, not that of the one before a snapshot.
        tsc: u64,
        /// How long [`CALIBRATION_ROUNDS`] rounds would take, in nanoseconds of the guest's clock, by fewer of them: this
        /// guest's slowdown on this host, without delay.
        calibration_ns: u64,
        /// A number of the kernel's, drawn after the entropy went in: two guests that tell the same one share their random
        /// numbers. 0, with a problem, if the kernel gave none.
        random: u64,
        /// What could not be done, a sentence each. The guest goes on without it.
        problems: Vec<String>,
        /// Why the points could not be armed, in one sentence: without them it is not the run that was asked for.
        #[serde(default)]
        points_error: Option<String>,
    },
    /// A kernel uevent, as its netlink socket gave it.
    Uevent {
        /// When the agent read it.
        tsc: u64,
        /// `ACTION`: add, remove, bind, unbind, change.
        action: String,
        /// `DEVPATH`, from which the root port follows.
        devpath: String,
        /// `SUBSYSTEM`.
        subsystem: String,
        /// `DRIVER`, where given.
        driver: Option<String>,
        /// `DEVNAME`, where given: the node below /dev.
        devname: Option<String>,
    },
    /// A hammer's descriptors are open and each of its threads is in its first call.
    HammerStarted {
        /// From [`ToGuest::StartHammer`].
        id: u64,
        /// When the last thread had begun.
        tsc: u64,
        /// [`HammerSpec::name`].
        hammer: String,
        /// The node that was opened.
        node: String,
        /// Descriptors opened.
        descriptors: u32,
        /// Threads started.
        threads: u32,
    },
    /// What a hammer did since it was started.
    HammerReport {
        /// From [`ToGuest::StopHammer`].
        id: u64,
        /// When it was written.
        tsc: u64,
        /// [`HammerSpec::name`].
        hammer: String,
        /// All threads ended and all descriptors were closed.
        ended: bool,
        /// Nanoseconds from the first call to the last.
        active_ns: u64,
        /// Calls by operation.
        operations: Vec<OperationCount>,
        /// Threads that have not come back from a call, with that call.
        hanging: Vec<HangingThread>,
    },
    /// Answer to [`ToGuest::RunProgram`].
    ProgramEnded {
        /// From the command.
        id: u64,
        /// When it was started.
        began_tsc: u64,
        /// When it was known to have ended.
        ended_tsc: u64,
        /// How.
        end: ProgramEnd,
        /// The beginning of what it wrote to its standard output and standard error, at most
        /// [`crate::PROGRAM_OUTPUT_BYTES`]; what is not UTF-8 is replaced.
        output: String,
        /// How much it wrote in all, in bytes.
        output_bytes: u64,
    },
    /// The command with this id has ended.
    Done {
        /// From the command.
        id: u64,
        /// When it began.
        began_tsc: u64,
        /// When it ended.
        ended_tsc: u64,
        /// What went wrong, in one sentence with the path concerned and the error; nothing if it succeeded.
        error: Option<String>,
    },
    /// Lines of the kernel's trace (`trace_pipe`), unparsed.
    Trace {
        /// The lines.
        lines: Vec<String>,
        /// Lines that had to be dropped since the last message.
        lost: u64,
    },
    /// Answer to [`ToGuest::DumpTasks`].
    Tasks {
        /// From the command.
        id: u64,
        /// When the list was complete.
        tsc: u64,
        /// Tasks with a kernel stack beyond idle waiting, hammers' threads always among them.
        tasks: Vec<TaskStack>,
        /// Tasks left out because the list was too long.
        left_out: u32,
        /// What our module tells of its devices in debugfs.
        #[serde(default)]
        states: Vec<DeviceState>,
        /// How often the points that were armed have been reached; none if there are none, or they cannot be read.
        #[serde(default)]
        points: Vec<PointHits>,
    },
    /// Answer to [`ToGuest::ReadPoints`].
    Points {
        /// From the command.
        id: u64,
        /// When they were read.
        tsc: u64,
        /// A point each, of those that were armed.
        points: Vec<PointHits>,
    },
    /// Answer to [`ToGuest::FindLeaks`].
    Leaks {
        /// From the command.
        id: u64,
        /// When the first scan began.
        began_tsc: u64,
        /// When the last one had ended and was read.
        ended_tsc: u64,
        /// The kernel's reports, one for each object that was lost since the guest's start, at most [`MAX_LEAKS_BYTES`] in all.
        reports: Vec<String>,
        /// Reports that were too many.
        left_out: u64,
    },
    /// Answer to [`ToGuest::Measure`].
    Measured {
        /// From the command.
        id: u64,
        /// When the request was written.
        began_tsc: u64,
        /// When the module had answered.
        ended_tsc: u64,
        /// What the module says of it, at most [`MAX_RESULTS_BYTES`]: what is more is cut off, which leaves the last line torn.
        results: String,
        /// Why it could not be measured, in one sentence; `results` may say more.
        error: Option<String>,
    },
    /// Something the agent wants the user to know.
    Note {
        /// When.
        tsc: u64,
        /// One sentence.
        text: String,
    },
}

/// Bytes of [`ToGuest::Measure::request`] (`PLUGSTORM_BENCH_REQUEST_BYTES` of `guest/module/bench.h`).
pub const MAX_REQUEST_BYTES: usize = 255;

/// Bytes of [`FromGuest::Measured::results`]: the module's page of results. Printable ASCII and line feeds, of which JSON makes twice as
/// much at most: with the rest it is less than a line.
pub const MAX_RESULTS_BYTES: usize = 120 * 1024;

/// Bytes of all [`FromGuest::Leaks::reports`]: with what JSON adds, less than a line.
pub const MAX_LEAKS_BYTES: usize = 64 * 1024;

/// Rounds of the loop that [`FromGuest::Hello::calibration_ns`] timed.
pub const CALIBRATION_ROUNDS: u64 = 10_000_000;

/// Bytes of [`ToGuest::Begin::entropy`]: twice what the kernel's generator is keyed with.
pub const ENTROPY_BYTES: usize = 64;

/// After how long a kernel complains, in whole seconds. They depend on how slow the host of this run is; a snapshot's kernel
/// may have been started on another one. A limit that a kernel does not have is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watchdogs {
    /// Of a grace period of RCU (`rcupdate.rcu_cpu_stall_timeout`). The kernel takes 3 to 300.
    pub rcu_stall_s: u32,
    /// Half of that of a CPU on which nothing else is scheduled (`kernel.watchdog_thresh`). The kernel takes 0, for never, to
    /// 60.
    pub soft_lockup_thresh_s: u32,
    /// Of a task in uninterruptible sleep (`kernel.hung_task_timeout_secs`). 0 for never.
    pub hung_task_s: u32,
}

/// A delay point of our module to arm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointSpec {
    /// As `/sys/kernel/debug/plugstorm/points` lists it.
    pub name: String,
    /// The delay, in microseconds; none for a point that is no delay.
    pub delay_us: Option<u32>,
    /// Who comes there is delayed each so manieth time.
    pub every: u32,
}

/// How often a point was reached in this guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PointHits {
    /// [`PointSpec::name`].
    pub name: String,
    /// Since it was armed, which is once in a guest's life. Our module counts in 32 bits: after the highest number comes 0.
    pub hits: u32,
}

/// The address of a PCI function as sysfs writes it, `0000:00:03.0`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PciAddress(pub String);

/// A kernel event to record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeSpec {
    /// The event's name in the trace.
    pub name: String,
    /// The kernel function.
    pub symbol: String,
    /// Where in the function.
    pub at: ProbeAt,
    /// Fetch arguments in kprobe-event syntax (Documentation/trace/kprobetrace.rst), such as `caller=$stack0:symbol`.
    pub arguments: Vec<String>,
}

/// Where a probe sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProbeAt {
    /// At the function's entry.
    Entry,
    /// At its return.
    Return,
}

/// A probe that could not be set up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeFailure {
    /// [`ProbeSpec::name`].
    pub name: String,
    /// The kernel's reason.
    pub error: String,
}

/// How loading a module ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleOutcome {
    /// The file in the initramfs.
    pub file: String,
    /// What went wrong; nothing if it was loaded.
    pub error: Option<String>,
}

/// Threads that work on shared descriptors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HammerSpec {
    /// Its name in the scenario.
    pub name: String,
    /// The root port whose device it works on; empty if it is independent of any.
    pub port: PciAddress,
    /// What it opens.
    pub target: HammerTarget,
    /// The node, if the target is [`HammerTarget::Node`].
    #[serde(default)]
    pub node: Option<NodeTarget>,
    /// The program's path and its arguments, if the target is [`HammerTarget::Program`].
    #[serde(default)]
    pub program: Vec<String>,
    /// Threads.
    pub threads: u32,
    /// All threads share one descriptor, or each has its own.
    pub sharing: Sharing,
    /// What threads do, in turn; each thread starts at another one.
    pub operations: Vec<Operation>,
    /// Lines it requests (GPIO character device) or works on (our device).
    pub lines: Vec<u32>,
    /// Edges it asks to be told of.
    pub edge: Edge,
    /// The root port of the device whose line [`Operation::BorrowGet`] borrows. Only our device.
    pub from: Option<PciAddress>,
    /// Least pause between two calls of a thread, in nanoseconds.
    pub pause_min_ns: u64,
    /// Greatest pause, in nanoseconds. The seed decides between the two.
    pub pause_max_ns: u64,
}

/// What a hammer opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HammerTarget {
    /// `/dev/gpiochipN` and a version-2 line request on it.
    Gpiochip,
    /// `/dev/plugstormN`, the character device of our module.
    Plugstorm,
    /// Any device node ([`HammerSpec::node`]).
    Node,
    /// No descriptor: each thread runs a program again and again ([`HammerSpec::program`]).
    Program,
}

/// Who uses a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// One descriptor for all threads.
    Shared,
    /// One descriptor for each thread.
    Own,
    /// A duplicate (`dup()`) for each thread of one open file.
    Dup,
    /// A duplicate for each thread of one open file, which has been passed over a socket (`SCM_RIGHTS`).
    Passed,
    /// One descriptor, and a copy of the table of descriptors for each thread (`unshare(CLONE_FILES)`): what a `fork()` does to
    /// descriptors. Each thread's end closes its own.
    Fork,
}

/// Edges of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Edge {
    /// None: no event request.
    None,
    /// Low to high.
    Rising,
    /// High to low.
    Falling,
    /// Both.
    Both,
}

/// One kind of call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Operation {
    /// `GPIO_V2_LINE_GET_VALUES_IOCTL`: a request to the device.
    GetValues,
    /// `GPIO_V2_LINE_SET_VALUES_IOCTL`: a request to the device. The lines are requested as outputs.
    SetValues,
    /// `read()` on a line request (or on our device after `PLUGSTORM_WATCH`) opened with `O_NONBLOCK`.
    ReadEventNonblocking,
    /// `read()` on a line request (or on our device after `PLUGSTORM_WATCH`), blocking.
    ReadEvent,
    /// `poll()` with no time-out on a line request (or on our device), returning at once.
    Poll,
    /// `poll()` that waits, in slices of 100 ms so that the thread can be told to end.
    PollWait,
    /// `GPIO_V2_GET_LINEINFO_IOCTL` on the chip.
    LineInfo,
    /// `GPIO_GET_CHIPINFO_IOCTL` on the chip.
    ChipInfo,
    /// `GPIO_V2_GET_LINEINFO_WATCH_IOCTL` and `GPIO_GET_LINEINFO_UNWATCH_IOCTL` on the chip.
    LineInfoWatch,
    /// `read()` of line-info changes on the chip, opened with `O_NONBLOCK`.
    ReadLineInfoNonblocking,
    /// `read()` of line-info changes on the chip, blocking.
    ReadLineInfo,
    /// `read()` of our device: the levels of all lines, one request to the device for each.
    Read,
    /// `write()` to our device: sets the levels.
    Write,
    /// An `ioctl()` of our device that enters and leaves the protected section, with no request to the device.
    IoctlTouch,
    /// An `ioctl()` of our device that gets one line's level, with one request to the device.
    IoctlGet,
    /// An `ioctl()` of our device that stays inside the section for about 100 µs without sleeping.
    IoctlHold,
    /// A read of a page that is mapped: of our device, every other time by way of a page fault, ending in `ENODEV` where a load
    /// would end in `SIGBUS`; of any other node, mapped for it and unmapped again.
    MmapRead,
    /// An `ioctl()` of our device that starts a work item; it enters the section every tick until the device has gone or
    /// the descriptor is closed.
    Work,
    /// The same with a timer. `EOPNOTSUPP` if the device's design cannot be used in a timer.
    Timer,
    /// An `ioctl()` of our device that gets the level of a line borrowed from another device of ours: with one request to
    /// that one.
    BorrowGet,
    /// Opens a node and closes it again.
    Open,
    /// `read()` of a node that was opened with `O_NONBLOCK`.
    ReadNonblocking,
    /// The `ioctl()` of [`NodeTarget::ioctl`].
    Ioctl,
    /// Runs the program of [`HammerSpec::program`] to its end.
    Run,
}

/// How often an operation was called and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationCount {
    /// Which.
    pub operation: Operation,
    /// Calls begun.
    pub calls: u64,
    /// Calls that succeeded.
    pub succeeded: u64,
    /// Calls that failed, by errno.
    pub errors: Vec<ErrnoCount>,
    /// Of [`Operation::Run`]: runs that did not end with exit code 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exits: Vec<ExitCount>,
    /// The longest call, in nanoseconds.
    pub longest_ns: u64,
    /// When the first call came back that found the device gone (`ENODEV`), by the guest's time-stamp counter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_tsc: Option<u64>,
}

/// How often an errno was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrnoCount {
    /// The number.
    pub errno: i32,
    /// Its name, such as `ENODEV`.
    pub name: String,
    /// How often.
    pub count: u64,
}

/// A thread of a hammer that has not come back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HangingThread {
    /// Its thread id in the guest.
    pub tid: u32,
    /// The call it is in; nothing while closing.
    pub operation: Option<Operation>,
    /// Since when, guest time-stamp counter.
    pub since_tsc: u64,
}

/// A device of our module, in its own words (`/sys/kernel/debug/plugstorm/N/state`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceState {
    /// `plugstormN`.
    pub device: String,
    /// The file's text, cut at 4 KiB.
    pub text: String,
}

/// A task and where it is in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStack {
    /// Thread group.
    pub pid: u32,
    /// Thread.
    pub tid: u32,
    /// Name.
    pub comm: String,
    /// `State:` of /proc/PID/status: R, S, D, …
    pub state: char,
    /// Voluntary and involuntary context switches so far: whether it moved between two dumps.
    pub switches: u64,
    /// /proc/PID/stack, innermost first, such as `synchronize_srcu+0xa5/0xc0`.
    pub stack: Vec<String>,
    /// The hammer it belongs to.
    pub hammer: Option<String>,
    /// The call of that hammer it is in.
    pub operation: Option<Operation>,
}
