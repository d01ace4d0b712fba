//! Functions that are not to blame, in tables.
//!
//! A table is a list of globs parted by spaces; leading underscores do not count. What is in them follows the titles that
//! are publicly known: a function that has given its name to public titles is in none of those tables that would hide it.

/// Never to blame, whatever the report.
#[rustfmt::skip]
pub(super) const NEVER: &[&str] = &[
    // What prints the report.
    "dump_stack* show_stack* dump_backtrace* show_trace* show_regs* save_stack* stack_trace* arch_stack_walk*",
    "stack_depot* depot_* set_track* save_trace* print_* panic vpanic nmi_panic panic_saved_regs check_panic_on_warn",
    "kasan* kcsan* kmsan* kfence* ubsan* asan* tsan* msan* hwasan* sanitizer* kcov* write_comp_data check_kcov_mode check_memory_region* memory_is_*",
    "warn warn_slowpath* warn_printk warn_bogus_irq_restore fixup_bug handle_bug bug_handler brk_handler call_break_hook",
    "bug_brk_handler ubsan_brk_handler do_el1_brk64 early_brk64 do_debug_exception arm64_notify_die handle_overflow",
    "val_to_string report_bug report_cfi* end_report object_err slab_err slab_bug slab_fix complete_report_info",
    "die* oops_* bust_spinlocks crash_kexec assfail assertfail *_assertfail ref_tracker_* seqprop_assert*",
    "skb_panic* skb_over_panic* skb_under_panic* skb_put* skb_push* skb_pull",
    "vprintk* printk* wake_up_klogd* dev_*printk* dev_emerg dev_alert dev_crit dev_err dev_warn dev_notice dev_info",
    "dev_dbg dynamic_*dbg netdev_*printk netdev_*err netdev_*warn netdev_*info vkdb_printf",
    "lockdep* lock_acquire* lock_release* lock_is_held* lock_set_class register_lock_class check_*deadlock*",
    "check_*noncircular* check_*usage* check_*prev_add* check_*prevs_add* check_*unlock* validate_chain check_wait_context",
    "mark_lock* mark_held_locks mark_usage debug_check_no_locks* assign_lock_key debug_locks_off debug_show_*",
    "valid_state reacquire_held_locks find_lock_* match_held_lock trace_hardirqs_* trace_softirqs_* trace_preempt_*",
    "hardirqs_o*",
    // How the CPU got into the kernel.
    "entry* do_syscall* do_fast_syscall* do_int80* do_SYSENTER* syscall_* ret_fast_syscall ret_from_* el0* el1*",
    "invoke_syscall* system_call* tracesys* sysenter* ia32_*sys* x64_sys_call int_ret_from_sys_call",
    "asm_* exc_* sysvec_* idtentry* do_error_trap do_trap* do_invalid_op invalid_op error_entry error_exit error_code",
    "do_general_protection general_protection do_page_fault page_fault page_fault_oops do_kern_addr_fault",
    "do_user_addr_fault bad_area* no_context exception_* trace_do_page_fault async_page_fault do_async_page_fault",
    "do_translation_fault do_mem_abort do_alignment_fault do_DataAbort do_tag_check_fault do_tag_recovery",
    "do_PrefetchAbort pabt_svc do_sect_fault do_bad_area dabt_usr irq_svc irq_usr und_svc do_undefinstr",
    "do_undef_instr do_kernel_fault fixup_exception handle_page_fault do_divide_error divide_error do_int3 int3",
    "do_double_fault double_fault do_stack_segment stack_segment fault_in_kernel_space early_fixup_exception",
    "do_early_exception early_idt_handler* mmu_fault common_interrupt apic_timer_interrupt smp_apic_timer_interrupt",
    "irq_exit* retint_* nmi end_repeat_nmi do_nmi default_do_nmi nmi_handle",
    // What merely moves or checks bytes.
    "memcpy* memset* memmove* memcmp* memchr* memscan strlen strnlen* strcmp strncmp strcpy strncpy strlcpy",
    "strscpy strcat strlcat strncat strchr strrchr strstr strnstr strsep strcasecmp strncasecmp strsncpy",
    "sized_strscpy fortify_panic fortify_report bcmp sprintf snprintf vsnprintf vsprintf scnprintf vscnprintf",
    "pointer string string_nocheck number format_decode va_format ip_*_string ip6_*_string mac_address_string",
    "symbol_string special_hex_number resource_string dentry_name device_node_string hex_* crc* jhash* xxh* siphash*",
    "*copy_to_user* *copy_from_user* *copy_in_user* copy_user* copyin copyout* *copy_to_iter* *copy_from_iter*",
    "copy_page copy_page_re* copy_page_to_iter* copy_page_from_iter* clear_page clear_page_erms clear_page_orig clear_page_rep clear_user* arch_copy_* raw_copy_* rep_movs_* rep_stos* iterate_and_advance*",
    "get_user get_user_1 get_user_2 get_user_4 get_user_8 get_user_nocheck* get_user_asm* put_user put_user_*",
    "csum_partial* instrument_* instrumented_* read_once* write_once* READ_ONCE* read_word_at_a_time iov_iter_kaddr*",
    "logic_in* logic_out* inb inw inl outb outw outl raw_readb raw_readw raw_readl raw_readq raw_writeb raw_writew",
    "raw_writel raw_writeq readb readw readl readq writeb writew writel writeq unlock_page folio_unlock phys_addr*",
    "virt_to_* arch_atomic* raw_atomic* atomic64_* atomic_long_* atomic_read* atomic_set* atomic_inc* atomic_dec* atomic_add*",
    "atomic_sub* atomic_fetch* atomic_cmpxchg* atomic_xchg* atomic_try_* atomic_and* atomic_or* arch_test_* arch_set_bit",
    "arch___set_bit arch_clear_bit* test_bit set_bit clear_bit test_and_*",
    "constant_test_bit const_test_bit variable_test_bit generic_test_bit user_access_* might_fault might_sleep*",
    "might_resched cond_resched check_copy_size check_object_size usercopy_* check_heap_object check_stack_object",
    "check_page_span lockref_*",
    // Memory.
    "kmalloc* kzalloc* kcalloc* kvmalloc* kvzalloc* kvcalloc* vmalloc* vzalloc* krealloc* kvrealloc* kmem_cache_*",
    "do_kmalloc* do_kmem* slab_* slub_* new_slab* allocate_slab alloc_slab_page setup_object* cache_alloc* cache_free*",
    "cache_grow* kfree sock_kfree* kvfree kzfree kfree_sensitive kfree_debugcheck vfree vfree_atomic get_free_pages* get_free_page",
    "free_page* put_page* free_hot_cold_page* free_unref_page* folio_alloc* alloc_page alloc_page_* alloc_pages*",
    "poison_* init_object check_object check_bytes_and_report alloc_debug_processing free_debug_processing do_slab_free",
    "qlist_* quarantine_* memblock_* pcpu_alloc* alloc_percpu* warn_alloc* kmemleak_* kmemdup* kstrdup* kstrndup",
    "kvmemdup* memdup_user* vmemdup_user page_frag_* mempool_alloc* devm_k* kasprintf kvasprintf* flex_array_alloc",
    "free_large_kmalloc alloc_skb* netdev_alloc_skb* napi_alloc_skb* build_skb* kfree_skb*",
    // Locks, lists and counters.
    "raw_spin_* raw_read_* raw_write_* spin_* read_lock* read_unlock* write_lock* write_unlock* *_read_lock*",
    "*_write_lock* *_write_unlock* do_raw_* queued_* native_queued_* pv_queued_* pv_wait* pv_kick* virt_spin_lock",
    "arch_spin* bit_spin_* debug_spin* mutex_* ww_mutex_* rt_mutex* rtlock* down_read* down_write* down_trylock*",
    "down_interruptible* down_killable* down_timeout* down up up_read* up_write* rwsem_* rwbase_* call_rwsem_* osq_*",
    "percpu_down_* percpu_up_* percpu_rwsem_* semaphore_* seqcount_* rwlock_bug *_trylock* ldsem_* tty_ldisc_lock*",
    "srcu_lock_* rcu_read_lock* rcu_read_unlock* rcu_lock_* rcu_lockdep* wake_up",
    "kobject_add* kobject_del* kobject_get* kobject_put* kobject_init* kobject_create* kobject_cleanup kobject_release",
    "kset_* device_add* device_del* device_register* device_unregister* device_create* device_destroy* put_device",
    "get_device* rb_erase* rb_insert* rb_first* rb_last* rb_next* rb_prev* rb_replace* rhashtable_* rhltable_* rht_* timerqueue_linked_* dput fast_dput iput",
    "insert_work* queue_work* queue_delayed_work* mod_delayed_work* del_timer* try_to_del_timer* timer_delete*",
    "mod_timer* add_timer* lock_timer_base refcount_* kref_* list_add* list_del* list_move* list_splice* hlist_*",
    "debug_object* debug_check_* debug_print_object debug_timer_* debug_work_* debug_rcu_* debug_hrtimer*",
    "lookup_object_or_alloc work_is_static_object timer_is_static_object timer_fixup_*",
    "should_fail* fail_dump fault_create_debugfs_attr fault_in_*",
    // Where threads begin, and what is woven into functions.
    "kthread kthread_worker_fn process_one_work process_scheduled_works worker_thread smpboot_thread_fn",
    "cpu_stopper_thread kernel_thread_* start_secondary* secondary_startup* cpu_startup_entry do_idle cpu_idle*",
    "x86_64_start_* common_startup_64 perf_trace_* trace_event_raw_* bpf_trace_run* traceiter_* cfi_*",
    "x86_indirect_thunk* x86_return_thunk fentry__ mcount ftrace_* return_to_handler",
];

/// Not to blame where a task waits: the waiting itself.
#[rustfmt::skip]
pub(super) const WAITING: &[&str] = &[
    "schedule* io_schedule* context_switch switch_to* preempt_schedule* cond_resched* might_resched",
    "rcu_note_context_switch finish_task_switch freezable_* wait_for_common* do_wait_for_common *wait_for_completion*",
    "do_wait_intr* out_of_line_wait_* wait_on_bit* bit_wait* wait_on_page* folio_wait* wait_on_buffer sleep_on_*",
    "lock_page* folio_lock* prepare_to_wait* finish_wait wait_woken msleep* usleep* ssleep mutex_* down_* rwsem_*",
    "touch_wq_lockdep_map flush_work* start_flush_work cancel_work* cancel_delayed_work* try_to_grab_pending",
    "destroy_workqueue drain_workqueue flush_delayed_work wait_rcu_gp wait_rcu_exp_gp exp_funnel_lock rcu_exp_*",
    "inode_lock* wait_transaction_locked filemap_update_page do_read_cache_folio jbd2_log_wait_commit* wait_on_state*",
    "blk_wait_* congestion_wait* refrigerator try_to_freeze* do_nanosleep hrtimer_nanosleep dump_cpu_task",
    "sched_show_task kthread_stop* submit_bio_wait usb_start_wait_urb usb_control_msg* usb_internal_control_msg",
];

/// SRCU waits are not to blame either: they would make all waits for readers look alike. Who called them is.
pub(super) const SRCU: &[&str] = &["synchronize_srcu* srcu_barrier cleanup_srcu_struct"];

/// Not to blame in a warning or a "sleeping in atomic": the checks themselves.
#[rustfmt::skip]
pub(super) const CHECKS: &[&str] = &[
    "schedule* preempt_schedule* io_schedule* check_preemption_disabled debug_smp_processor_id this_cpu_preempt_check",
    "rcu_sleep_check wait_for_common* do_wait_for_common wait_for_completion* flush_work* start_flush_work",
    "cancel_work* queue_work* queue_delayed_work* init_work destroy_work_on_stack touch_wq_lockdep_map local_lock_*",
    "kernel_text_address rcu_dynticks_* rcu_user_* rcu_irq_* context_tracking_* user_exit* user_enter*",
    "preempt_count_* local_bh_* raw_local_irq_* usb_submit_urb usb_start_wait_urb usb_control_msg* usb_bulk_msg",
    "usb_internal_control_msg usb_hcd_submit_urb proc_register proc_create* proc_mkdir* debug_mutex_* init_swait*",
];

/// Pages: who allocated or freed the bad one is to blame, not the allocator.
#[rustfmt::skip]
pub(super) const PAGES: &[&str] = &[
    "bad_page* free_page_is_bad* free_pages_* free_pcp* free_pcppages_bulk page_bad_reason dump_page get_page_from_freelist",
    "prep_new_page post_alloc_hook free_one_page rmqueue* check_new_page* check_free_page* alloc_frozen_pages*",
    "filemap_alloc_folio* filemap_get_folio* pagecache_get_page grab_cache_page* find_or_create_page find_get_page*",
    "free_frozen_pages* folios_put* release_pages free_unref_folios",
];

/// Memory nobody refers to: the trees that took it for their nodes are not to blame.
pub(super) const TREES: &[&str] = &["idr_* ida_* radix_tree_* xas_* xa_* debug_objects_mem_init"];

/// Object debugging: everything that is built on it, between it and who used the object wrongly.
pub(super) const OBJECTS: &[&str] =
    &["debug_* *call_rcu* rcu_* *hrtimer_* *timer_* *work_* percpu_* vmalloc* free_obj_work"];

/// Functions that call others through a pointer: in a stall, the one they called is where it was entered. System calls
/// are named as `sys_read`, whatever wraps them.
#[rustfmt::skip]
pub(super) const DISPATCHERS: &[&str] = &[
    // Files and file systems.
    "vfs_ioctl vfs_read vfs_write vfs_readv vfs_writev vfs_fsync* vfs_open vfs_iter_* vfs_fallocate vfs_poll",
    "do_vfs_ioctl ksys_* sys_ioctl sys_read sys_write sys_readv sys_writev sys_pread64 sys_pwrite64 sys_preadv",
    "sys_preadv2 sys_pwritev sys_pwritev2 sys_close sys_open sys_openat sys_creat sys_execve* sys_poll sys_ppoll",
    "sys_select sys_splice sys_mount sys_umount sys_fsync sys_finit_module sys_init_module sys_unlink* sys_rename*",
    "sys_mkdir* sys_symlink* compat_ioctl *_compat_ioctl new_sync_read new_sync_write call_read_iter call_write_iter",
    "do_iter_* do_loop_readv_writev do_readv* do_writev* file_ioctl fput task_work_run exit_task_work",
    "exit_to_usermode_loop exit_to_user_mode_loop prepare_exit_to_usermode get_signal* do_signal close_files",
    "put_files_struct filp_close do_splice* splice_* direct_splice_* do_sendfile vfs_get_tree do_new_mount path_mount",
    "do_mount do_sys_open* do_filp_open path_openat do_dentry_open do_fault do_page_mkwrite",
    // Into the kernel.
    "do_syscall* do_fast_syscall* do_int80* entry_SYSCALL* entry_INT80* entry_SYSENTER* el0_svc* invoke_syscall",
    "x64_sys_call ret_fast_syscall system_call* tracesys*",
    // Sockets and netlink.
    "sock_sendmsg* sys_sendmsg sys_sendmmsg sys_sendto sys_recvfrom sys_connect* sys_bind* sys_accept* sys_socket",
    "sys_socketpair sys_socketcall sys_setsockopt sys_getsockopt sys_shutdown sock_do_ioctl kernel_sendmsg",
    "sock_write_iter sock_close sock_release sock_recvmsg* netlink_dump netlink_dump_start rtnetlink_rcv* rtnl_dump_*",
    "rtnl_dumpit nfnetlink_rcv* genl_*dumpit sock_diag_rcv* netif_receive_skb* netif_rx* deliver_skb",
    "deliver_ptype_list_skb",
    // Timers, soft interrupts, work.
    "call_timer_fn expire_timers run_timers run_timer_softirq do_softirq* handle_softirqs invoke_softirq",
    "run_ksoftirqd tasklet_action* net_rx_action napi_poll* process_backlog rcu_core* rcu_do_batch",
    "process_one_work worker_thread kthread napi_threaded_* do_one_initcall usb_hcd_giveback_urb irq_thread*",
    "handle_irq_event*",
];

/// Functions in which a stall is at home: they wait for all other CPUs.
pub(super) const TERMINAL: &[&str] = &["smp_call_function*"];

/// What stands before the name of a system call: compilers' and architectures' wrappers of it.
const CALL_WRAPPERS: &[&str] = &[
    "x64_sys_",
    "ia32_sys_",
    "x32_sys_",
    "arm64_sys_",
    "s390x_sys_",
    "riscv_sys_",
    "se_sys_",
    "do_sys_",
    "ia32_compat_sys_",
    "x32_compat_sys_",
    "arm64_compat_sys_",
    "se_compat_sys_",
    "do_compat_sys_",
    "compat_sys_",
    "compat_SyS_",
    "SyS_",
    "SYSC_",
];

/// Whether a table names a function. Leading underscores do not count: the kernel adds them freely; nor does `pi_`, for
/// position-independent copies.
pub(super) fn names(table: &[&str], function: &str) -> bool {
    let function = function.trim_start_matches('_');
    let function = function.strip_prefix("pi_").unwrap_or(function);
    table.iter().flat_map(|line| line.split_ascii_whitespace()).any(|glob| fits(glob, function))
}

/// Whether it is a function that calls others through a pointer.
pub(super) fn dispatches(function: &str) -> bool {
    let bare = function.trim_start_matches('_');
    let call = CALL_WRAPPERS.iter().find_map(|wrapper| bare.strip_prefix(wrapper));
    names(DISPATCHERS, function) || call.is_some_and(|call| names(DISPATCHERS, &format!("sys_{call}")))
}

/// `*` stands for any letters. Linear in the name for each star: no going back further than the last one.
fn fits(glob: &str, name: &str) -> bool {
    let Some((head, stars)) = glob.split_once('*') else { return glob == name };
    let Some(mut rest) = name.strip_prefix(head) else { return false };
    let Some((middle, tail)) = stars.rsplit_once('*').or(Some(("", stars))) else { return false };
    for part in middle.split('*').filter(|part| !part.is_empty()) {
        match rest.split_once(part) {
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_letters() {
        for (glob, name, fit) in [
            ("memcpy*", "memcpy_erms", true),
            ("memcpy*", "memcmp", false),
            ("dput", "dput", true),
            ("dput", "dput_to_list", false),
            ("*copy_to_user*", "bpf_prog_array_copy_to_user", true),
            ("check_*usage*", "check_irq_usage", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("*_trylock", "own_trylock", true),
            ("ab*ba", "aba", false),
        ] {
            assert_eq!(fits(glob, name), fit, "{glob} {name}");
        }
        assert!(names(NEVER, "__kasan_report") && !names(NEVER, "gpiochip_remove"));
        assert!(names(NEVER, "__pi_memcpy"));
    }

    #[test]
    fn system_calls_dispatch_whatever_wraps_them() {
        for call in [
            "ksys_write",
            "__x64_sys_ioctl",
            "__se_compat_sys_ioctl",
            "SyS_sendmsg",
            "compat_SyS_ioctl",
            "__do_sys_read",
        ] {
            assert!(dispatches(call), "{call}");
        }
        for call in ["__x64_sys_recvmmsg", "__x64_sys_exit_group", "SyS_pause", "gpiochip_remove"] {
            assert!(!dispatches(call), "{call}");
        }
    }

    /// Functions that public titles name: tables that hid them would give other titles.
    #[test]
    fn functions_of_public_titles_are_not_hidden() {
        for function in [
            "consume_skb",
            "pskb_expand_head",
            "bit_putcs",
            "unwind_next_frame",
            "console_unlock",
            "try_to_wake_up",
            "__wake_up_common_lock",
            "radix_tree_next_chunk",
            "rtnl_lock",
            "lock_sock_nested",
            "synchronize_rcu",
            "kobject_set_name_vargs",
            "__call_rcu",
            "bitmap_ip_add",
            "copy_page_range",
            "clear_page_dirty_for_io",
            "atomic_open",
            "get_page_from_freelist",
            "__get_user_pages",
            "rcu_note_context_switch",
            "hrtimer_active",
            "fs_reclaim_acquire",
            "percpu_ref_kill_and_confirm",
            "__alloc_frozen_pages_noprof",
            "device_release",
        ] {
            assert!(!names(NEVER, function), "{function}");
        }
    }
}
