//! What functions in a stack mean. Names are those of Linux 6.1 to 6.12.

use super::stacks::WaitKind;

/// A function that executes a removal, or calls the ones that do.
const REMOVALS: &[&str] = &[
    "pciehp_ist",
    "pciehp_handle_presence_or_link_change",
    "pciehp_disable_slot",
    "pciehp_unconfigure_device",
    "pci_stop_and_remove_bus_device",
    "pci_stop_and_remove_bus_device_locked",
    "pci_stop_bus_device",
    "pci_device_remove",
    "pci_unregister_driver",
    "unbind_store",
    "remove_store",
    "device_shutdown",
    "device_del",
    "device_unregister",
    "device_driver_detach",
    "device_release_driver",
    "device_release_driver_internal",
    "driver_detach",
    "virtio_pci_remove",
    "virtio_dev_remove",
    "unregister_virtio_device",
    "virtio_gpio_remove",
    "gpiochip_remove",
    "gpiolib_cdev_unregister",
    "plugstorm_remove",
    "plugstorm_revoke",
];

pub(super) fn is_removal(function: &str) -> bool {
    REMOVALS.contains(&function)
}

/// A function that waits.
pub(super) struct WaitFrame {
    /// How it appears in a stack.
    function: &'static str,
    /// What to call it.
    pub(super) shown: &'static str,
    pub(super) kind: WaitKind,
    /// "It waits …".
    pub(super) meaning: &'static str,
}

const fn wait(function: &'static str, shown: &'static str, kind: WaitKind, meaning: &'static str) -> WaitFrame {
    WaitFrame { function, shown, kind, meaning }
}

const READERS: &str = "until every thread that entered a section protected by this SRCU domain has left it";
const RCU: &str = "until every CPU has left its RCU read-side sections";
const WORK: &str = "until a work item has run to its end";
const TIMER: &str = "until a timer's function has returned";
const INTERRUPT: &str = "until an interrupt handler has returned";
const RESET: &str = "until the device says that it has reset itself, asking again and again";
const LOCK: &str = "for a lock that another task holds";

/// Functions of a wait, the innermost first where they nest.
#[rustfmt::skip]
const WAITS: &[WaitFrame] = &[
    wait("__synchronize_srcu", "synchronize_srcu", WaitKind::Srcu, READERS),
    wait("synchronize_srcu", "synchronize_srcu", WaitKind::Srcu, READERS),
    wait("synchronize_srcu_expedited", "synchronize_srcu", WaitKind::Srcu, READERS),
    wait("srcu_barrier", "srcu_barrier", WaitKind::Srcu, "until all callbacks of an SRCU domain have run"),
    wait("cleanup_srcu_struct", "cleanup_srcu_struct", WaitKind::Srcu, "until an SRCU domain can be thrown away"),
    wait("__wait_rcu_gp", "synchronize_rcu", WaitKind::Rcu, RCU),
    wait("synchronize_rcu", "synchronize_rcu", WaitKind::Rcu, RCU),
    wait("synchronize_rcu_normal", "synchronize_rcu", WaitKind::Rcu, RCU),
    wait("synchronize_rcu_expedited", "synchronize_rcu", WaitKind::Rcu, RCU),
    wait("rcu_barrier", "rcu_barrier", WaitKind::Rcu, "until all RCU callbacks have run"),
    wait("vp_reset", "vp_reset", WaitKind::DeviceReset, RESET),
    wait("vp_modern_set_status", "vp_reset", WaitKind::DeviceReset, RESET),
    wait("virtio_reset_device", "virtio_reset_device", WaitKind::DeviceReset, RESET),
    wait("_virtio_gpio_req", "virtio_gpio_req", WaitKind::DeviceAnswer, "until the device has answered a request, without a time-out"),
    wait("virtio_gpio_req", "virtio_gpio_req", WaitKind::DeviceAnswer, "until the device has answered a request, without a time-out"),
    wait("__flush_work", "flush_work", WaitKind::Completion, WORK),
    wait("flush_work", "flush_work", WaitKind::Completion, WORK),
    wait("__cancel_work_sync", "cancel_work_sync", WaitKind::Completion, WORK),
    wait("__cancel_work_timer", "cancel_work_sync", WaitKind::Completion, WORK),
    wait("cancel_work_sync", "cancel_work_sync", WaitKind::Completion, WORK),
    wait("__flush_workqueue", "flush_workqueue", WaitKind::Completion, WORK),
    wait("drain_workqueue", "drain_workqueue", WaitKind::Completion, WORK),
    wait("destroy_workqueue", "destroy_workqueue", WaitKind::Completion, WORK),
    wait("del_timer_sync", "del_timer_sync", WaitKind::Completion, TIMER),
    wait("__timer_delete_sync", "del_timer_sync", WaitKind::Completion, TIMER),
    wait("timer_delete_sync", "del_timer_sync", WaitKind::Completion, TIMER),
    wait("synchronize_irq", "synchronize_irq", WaitKind::Completion, INTERRUPT),
    wait("__synchronize_irq", "synchronize_irq", WaitKind::Completion, INTERRUPT),
    wait("free_irq", "free_irq", WaitKind::Completion, INTERRUPT),
    wait("kthread_stop", "kthread_stop", WaitKind::Completion, "until a kernel thread has ended"),
    wait("wait_for_completion", "wait_for_completion", WaitKind::Completion, "until another task says it is done"),
    wait("__wait_for_common", "wait_for_completion", WaitKind::Completion, "until another task says it is done"),
    wait("msleep", "msleep", WaitKind::Completion, "by sleeping and looking again"),
    wait("pci_lock_rescan_remove", "pci_lock_rescan_remove", WaitKind::Lock, "for the lock that lets one PCI device be added or removed at a time"),
    wait("device_lock", "device_lock", WaitKind::Lock, LOCK),
    wait("__device_driver_lock", "device_lock", WaitKind::Lock, LOCK),
    wait("mutex_lock", "mutex_lock", WaitKind::Lock, LOCK),
    wait("__mutex_lock", "mutex_lock", WaitKind::Lock, LOCK),
    wait("down_write", "down_write", WaitKind::Lock, LOCK),
    wait("rwsem_down_write_slowpath", "down_write", WaitKind::Lock, LOCK),
    wait("percpu_down_write", "percpu_down_write", WaitKind::Lock, LOCK),
    wait("down_read", "down_read", WaitKind::Lock, LOCK),
    wait("rwsem_down_read_slowpath", "down_read", WaitKind::Lock, LOCK),
    wait("kernfs_drain", "kernfs_drain", WaitKind::Completion, "until nobody reads or writes one of the device's files in sysfs"),
    wait("device_pm_wait_for_dev", "device_pm_wait_for_dev", WaitKind::Completion, "for another device's power change"),
];

pub(super) fn wait_frame(function: &str) -> Option<&'static WaitFrame> {
    WAITS.iter().find(|frame| frame.function == function)
}

/// Functions of the scheduler that a stack of another source may show.
pub(super) fn is_plumbing(function: &str) -> bool {
    matches!(function, "__switch_to" | "__schedule" | "schedule" | "schedule_timeout" | "schedule_preempt_disabled")
        || function.starts_with("__cond_resched")
        || function.ends_with("__do_wait_intr")
        || matches!(function, "do_wait_intr" | "do_wait_intr_irq" | "wait_woken")
}

/// Functions that take a device's lock themselves: the scheduler's part of it is not in the stack.
pub(super) fn takes_device_lock(function: &str) -> bool {
    matches!(function, "device_release_driver_internal" | "device_driver_detach" | "device_del" | "device_shutdown")
}

/// A function of a subsystem that is taken down.
pub(super) struct SubsystemFrame {
    /// A function, or the beginning of its name if it ends in an underscore.
    function: &'static str,
    /// "It is …".
    pub(super) doing: &'static str,
    /// It may stay inside for as long as it likes.
    pub(super) sleeps: bool,
}

const fn inside(function: &'static str, doing: &'static str, sleeps: bool) -> SubsystemFrame {
    SubsystemFrame { function, doing, sleeps }
}

/// The most telling first.
#[rustfmt::skip]
const SUBSYSTEM: &[SubsystemFrame] = &[
    inside("linereq_read", "asleep in a blocking read() until the line has an event, inside gpiolib's protected section", true),
    inside("lineinfo_watch_read", "asleep in a blocking read() until someone changes a line's use, inside gpiolib's protected section", true),
    inside("lineevent_read", "asleep in a blocking read() until the line has an event, inside gpiolib's protected section", true),
    inside("_virtio_gpio_req", "waiting, without a time-out, for the device to answer a request", true),
    inside("virtio_gpio_req", "waiting, without a time-out, for the device to answer a request", true),
    inside("plugstorm_event_wait", "asleep in a blocking read() until a line has an event, inside our driver's protected section", true),
    inside("plugstorm_request_wait", "waiting for the device to answer a request of our driver", true),
    inside("plugstorm_request", "waiting for the device to answer a request of our driver", true),
    inside("plugstorm_fault", "in a page fault on a mapping of our device", false),
    inside("plugstorm_work_run", "in a work item of our driver", false),
    inside("plugstorm_release", "closing our device", false),
    inside("plugstorm_stay", "busy inside our driver's protected section", false),
    inside("plugstorm_read", "in a read() of our device", false),
    inside("plugstorm_write", "in a write() of our device", false),
    inside("plugstorm_ioctl", "in an ioctl() of our device", false),
    inside("plugstorm_poll", "in a poll() of our device", false),
    inside("plugstorm_", "in our driver", false),
    inside("virtio_gpio_", "in the kernel's gpio-virtio driver", false),
    inside("linereq_", "in a call on a requested GPIO line", false),
    inside("lineinfo_", "in a call on a GPIO chip", false),
    inside("linehandle_", "in a call on a requested GPIO line (first version of the interface)", false),
    inside("lineevent_", "in a call on a GPIO event (first version of the interface)", false),
    inside("gpio_chrdev_", "opening or closing a GPIO chip", false),
    inside("gpio_ioctl", "in an ioctl() of a GPIO chip", false),
    inside("gpiod_", "in gpiolib", false),
    inside("gpiochip_", "in gpiolib", false),
];

/// Position in the table, for ordering, and the entry.
pub(super) fn subsystem_frame(function: &str) -> Option<(usize, &'static SubsystemFrame)> {
    SUBSYSTEM.iter().enumerate().find(|(_, frame)| {
        frame.function == function || frame.function.ends_with('_') && function.starts_with(frame.function)
    })
}
