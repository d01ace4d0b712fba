//! Which frame of a stack is the one that matters.
//!
//! The innermost frames are rarely to blame: they report, allocate, lock, copy or wait on behalf of others. Three tables
//! say what is passed over; a fourth says who calls whom through a pointer, for stalls, where the innermost frame is
//! merely where the clock happened to strike.

/// Never to blame, whatever the report.
#[rustfmt::skip]
const NEVER: &[&str] = &[
    // What prints the report.
    "depot_save_stack* depot_* bug_brk_handler ubsan_brk_handler do_el1_brk64 early_brk64 assfail *_assertfail",
    "dump_stack* show_stack* dump_backtrace* show_trace* show_regs* save_stack* stack_trace* arch_stack_walk*",
    "unwind* stack_depot* set_track* save_trace*",
    "print_* kasan* kcsan* kmsan* kfence* ubsan* asan* tsan* msan* hwasan* sanitizer* check_memory_region*",
    "memory_is_*",
    "warn warn_slowpath* warn_printk fixup_bug handle_bug panic vpanic nmi_panic check_panic_on_warn oops_*",
    "report_* end_report object_err slab_err slab_bug slab_fix complete_report_info die* bust_spinlocks",
    "crash_kexec arm64_notify_die bug_handler brk_handler do_debug_exception call_break_hook ubsan_epilogue",
    "handle_overflow val_to_string panic_saved_regs assertfail ref_tracker_* warn_bogus_irq_restore",
    "seqprop_assert* skb_panic* skb_over_panic* skb_under_panic* skb_put* skb_push* skb_pull*",
    "vprintk* printk* console_* con_write* bit_putcs vt_console_print serial8250_* uart_console_write univ8250_*",
    "wake_up_klogd* dev_*printk* dev_emerg dev_alert dev_crit dev_err dev_warn dev_notice dev_info dev_dbg",
    "netdev_*printk netdev_*err netdev_*warn netdev_*info vkdb_printf",
    "lockdep* lock_acquire* lock_release* lock_is_held* lock_set_class register_lock_class check_*deadlock*",
    "check_*noncircular* check_*usage* check_*prev_add* check_*prevs_add* check_*unlock* validate_chain",
    "mark_lock* mark_held_locks mark_usage debug_check_no_locks* assign_lock_key debug_locks_off debug_show_*",
    "valid_state reacquire_held_locks find_lock_* trace_hardirqs_* trace_softirqs_* trace_preempt_* hardirqs_o*",
    "match_held_lock check_wait_context",
    // How the CPU got into the kernel.
    "entry* do_syscall* do_fast_syscall* do_int80* do_SYSENTER* syscall_* ret_fast_syscall ret_from_* el0* el1*",
    "invoke_syscall* system_call* tracesys* sysenter* ia32_*sys* x64_sys_call int_ret_from_sys_call",
    "asm_* exc_* sysvec_* idtentry* do_error_trap do_trap* do_invalid_op invalid_op error_entry",
    "do_general_protection general_protection do_page_fault page_fault do_kern_addr_fault do_user_addr_fault",
    "bad_area* no_context exception_* page_fault_* trace_do_page_fault async_page_fault do_async_page_fault",
    "do_translation_fault do_mem_abort do_alignment_fault do_DataAbort do_tag_check_fault do_tag_recovery",
    "do_PrefetchAbort pabt_svc do_sect_fault do_bad_area dabt_usr irq_svc irq_usr und_svc do_undefinstr",
    "do_undef_instr do_kernel_fault fixup_exception handle_page_fault do_divide_error divide_error do_int3 int3",
    "do_double_fault double_fault do_stack_segment stack_segment error_exit error_code fault_in_kernel_space",
    "mmu_fault common_interrupt ret_from_intr apic_timer_interrupt smp_apic_timer_interrupt irq_exit* retint_*",
    "nmi end_repeat_nmi do_nmi default_do_nmi nmi_handle",
    // What merely moves or checks bytes.
    "memcpy* memset* memmove* memcmp* memchr* memscan strlen strnlen strcmp strncmp strcpy strncpy strlcpy",
    "strscpy strcat strlcat strncat strchr strrchr strstr strnstr strsep strcasecmp strncasecmp strsncpy",
    "sized_strscpy fortify_panic fortify_report bcmp sprintf snprintf vsnprintf vsprintf scnprintf vscnprintf",
    "pointer string string_nocheck number format_decode va_format ip_*_string ip6_*_string mac_address_string",
    "symbol_string special_hex_number resource_string dentry_name device_node_string hex_* crc* jhash* xxh*",
    "siphash* pi_memcpy* pi_memset* pi_memmove* pi_memcmp* pi_memchr* pi_memscan pi_strlen pi_strnlen pi_strcmp",
    "pi_strncmp pi_strcpy pi_strncpy pi_strlcpy pi_strscpy pi_strcat pi_strlcat pi_strncat pi_strchr pi_strrchr",
    "pi_strstr pi_strnstr pi_strsep pi_strcasecmp pi_strncasecmp pi_strsncpy pi_sized_strscpy pi_fortify_panic",
    "pi_fortify_report pi_bcmp pi_sprintf pi_snprintf pi_vsnprintf pi_vsprintf pi_scnprintf pi_vscnprintf",
    "pi_pointer pi_string pi_string_nocheck pi_number pi_format_decode pi_va_format pi_ip_*_string",
    "pi_ip6_*_string pi_mac_address_string pi_symbol_string pi_special_hex_number pi_resource_string",
    "pi_dentry_name pi_device_node_string pi_hex_* pi_crc* pi_jhash* pi_xxh* pi_siphash*",
    "*copy_to_user* *copy_from_user* *copy_in_user*",
    "copy_user* copyin copyout* *copy_to_iter* *copy_from_iter* iterate_and_advance* logic_inb logic_inw",
    "logic_inl logic_outb logic_outw logic_outl logic_insb logic_insw logic_insl logic_outsb logic_outsw",
    "logic_outsl inb outb unlock_page folio_unlock phys_addr* virt_to_* arch_copy_* raw_copy_* clear_user*",
    "get_user* put_user* copy_page* clear_page* rep_movs_* rep_stos* csum_partial* instrument_* raw_readb",
    "raw_readw raw_readl raw_readq raw_writeb raw_writew raw_writel raw_writeq readb readw readl readq writeb",
    "writew writel writeq read_once* write_once* READ_ONCE* kasan_check* arch_atomic* arch_test* arch_set*",
    "arch_clear* atomic* raw_atomic* test_bit set_bit clear_bit test_and_* constant_test_bit const_test_bit",
    "variable_test_bit generic_test_bit instrumented_* iov_iter_kaddr* user_access_* might_fault might_sleep*",
    "might_resched cond_resched check_copy_size check_object_size usercopy_* check_heap_object check_page_span",
    // Memory.
    "kmalloc* kzalloc* kcalloc* kvmalloc* kvzalloc* kvcalloc* vmalloc* vzalloc* krealloc* kvrealloc* kmem_cache_*",
    "do_kmalloc* do_kmem* slab_* slub_* new_slab* allocate_slab alloc_slab_page setup_object* cache_* kfree",
    "kvfree kzfree kfree_sensitive kfree_debugcheck vfree vfree_atomic get_free_pages* get_free_page",
    "get_page_from_freelist prep_new_page free_page* put_page* free_hot_cold_page* free_unref_page* folio_alloc*",
    "filemap_alloc_folio* filemap_get_folio* pagecache_get_page grab_cache_page* find_or_create_page",
    "find_get_page* alloc_page* poison_* init_object check_object check_bytes_and_report alloc_debug_processing",
    "free_debug_processing do_slab_free qlist_* quarantine_* memblock_* pcpu_alloc* alloc_percpu* warn_alloc*",
    "kmemleak_* kmemdup* kstrdup* kstrndup kvmemdup* memdup_user* vmemdup_user page_frag_* mempool_alloc* idr_*",
    "ida_* xas_* xa_* radix_tree_* read_word_at_a_time devm_k* kasprintf kvasprintf* flex_array_alloc",
    "free_large_kmalloc post_alloc_hook pskb_expand_head alloc_skb* netdev_alloc_skb* napi_alloc_skb* build_skb*",
    "kfree_skb* call_rcu* kvfree_call_rcu*",
    // Locks and lists.
    "raw_spin_* raw_read_* raw_write_* spin_* read_lock* read_unlock* write_lock* write_unlock* do_raw_* queued_*",
    "native_queued_* pv_queued_* pv_wait* pv_kick* virt_spin_lock arch_spin* mutex_* ww_mutex_* down_read*",
    "down_write* down_trylock* down_interruptible* down_killable* down_timeout* down up up_read* up_write*",
    "rwsem_* rwbase_* rt_mutex* rtlock* call_rwsem_* percpu_down_* percpu_up_* percpu_rwsem_* semaphore_* osq_*",
    "seqcount_* rwlock_bug debug_spin* bit_spin_* rcu_read_lock* rcu_read_unlock* rcu_lock_* rcu_lockdep*",
    "lockref_*",
    "*_trylock* ldsem_* tty_ldisc_lock* reiserfs_write_lock* reiserfs_write_unlock*",
    "kobject_* kset_* device_add* device_del* device_register* device_unregister* device_create* device_destroy*",
    "device_release* device_initialize* put_device get_device* rb_* rhashtable_* rhltable_* rht_*",
    "timerqueue_linked_* bitmap_* dput fast_dput iput wake_up* try_to_wake_up ttwu_* complete complete_all",
    "swake_up* insert_work* queue_work* queue_delayed_work* mod_delayed_work* del_timer* try_to_del_timer*",
    "timer_delete* mod_timer* add_timer* lock_timer_base refcount_* kref_* list_add* list_del* list_move*",
    "list_splice* hlist_* debug_object* debug_check_* debug_print_object debug_timer_* debug_work_* debug_rcu_*",
    "debug_hrtimer* lookup_object_or_alloc work_is_static_object timer_is_static_object timer_fixup_*",
    "should_fail* fail_dump fault_*",
    // Work lists and threads.
    "kthread kthread_worker_fn process_one_work process_scheduled_works worker_thread smpboot_thread_fn",
    "cpu_stopper_thread ret_from_fork* kernel_thread_* start_secondary* secondary_startup* cpu_startup_entry",
    "do_idle cpu_idle* x86_64_start_* common_startup_64",
    "perf_trace_* trace_event_raw_* bpf_trace_run* traceiter_* cfi_* x86_indirect_thunk* x86_return_thunk",
    "fentry__ mcount ftrace_* return_to_handler",
];

/// Not to blame where a task waits: the waiting itself.
#[rustfmt::skip]
const WAITING: &[&str] = &[
    "touch_wq_lockdep_map",
    "schedule* io_schedule* context_switch switch_to* preempt_schedule* cond_resched* might_resched",
    "rcu_note_context_switch finish_task_switch freezable_* wait_for_common* do_wait_for_common",
    "wait_for_completion* do_wait_intr* out_of_line_wait_* wait_on_bit* bit_wait* wait_on_page* folio_wait*",
    "wait_on_buffer sleep_on_* lock_page* folio_lock* prepare_to_wait* wait_woken msleep* usleep* ssleep mutex_*",
    "down_* rwsem_* flush_work* start_flush_work cancel_work* cancel_delayed_work* try_to_grab_pending",
    "finish_wait destroy_workqueue drain_workqueue flush_delayed_work wait_rcu_gp wait_rcu_exp_gp exp_funnel_lock",
    "rcu_exp_* inode_lock* wait_transaction_locked filemap_update_page do_read_cache_folio jbd2_log_wait_commit*",
    "wait_on_state* blk_wait_* congestion_wait* refrigerator try_to_freeze* do_nanosleep hrtimer_nanosleep",
    "dump_cpu_task sched_show_task kthread_stop* submit_bio_wait",
];

/// SRCU waits are not to blame either: they would make all waits for readers look alike. Who called them is.
const SRCU: &[&str] = &["synchronize_srcu* srcu_barrier cleanup_srcu_struct"];

/// Not to blame in a warning or a "sleeping in atomic": the checks themselves.
#[rustfmt::skip]
const CHECKS: &[&str] = &[
    "touch_wq_lockdep_map local_lock_* init_work destroy_work_on_stack",
    "schedule* preempt_schedule* io_schedule* might_sleep* might_resched cond_resched* check_preemption_disabled",
    "debug_smp_processor_id this_cpu_preempt_check rcu_sleep_check wait_for_common* do_wait_for_common",
    "wait_for_completion* flush_work* cancel_work* start_flush_work queue_work* queue_delayed_work*",
    "kernel_text_address rcu_dynticks_* rcu_user_* rcu_irq_* context_tracking_* user_exit* user_enter*",
    "preempt_count_* local_bh_* raw_local_irq_* usb_submit_urb usb_start_wait_urb usb_control_msg* usb_bulk_msg",
    "usb_internal_control_msg usb_hcd_submit_urb device_*register* proc_register proc_create* proc_mkdir*",
    "init_timer_key debug_mutex_* init_swait* bad_page* free_page_is_bad* free_pages_prepare free_pcp_prepare",
    "free_pcppages_bulk page_bad_reason dump_page",
];

/// Functions that call others through a pointer: in a stall, the one they called is where it was entered.
#[rustfmt::skip]
const DISPATCHERS: &[&str] = &[
    // System calls whose file decides.
    "vfs_ioctl vfs_read vfs_write vfs_readv vfs_writev vfs_fsync* vfs_open vfs_iter_* vfs_fallocate vfs_poll",
    "do_vfs_ioctl ksys_* sys_ioctl sys_read sys_write sys_readv sys_writev sys_pread64 sys_pwrite64 sys_preadv",
    "sys_preadv2 sys_pwritev sys_pwritev2 sys_close sys_open sys_openat sys_creat sys_execve* sys_sendto",
    "sys_sendmsg sys_sendmmsg sys_recvfrom sys_connect sys_bind sys_accept sys_accept4 sys_setsockopt",
    "sys_getsockopt sys_socket sys_socketpair sys_shutdown sys_poll sys_ppoll sys_select sys_splice sys_mount",
    "sys_umount sys_exit sys_exit_group sys_mmap sys_munmap sys_fsync sys_finit_module sys_init_module",
    "sys_sendfile64 sys_socketcall sys_clone* sys_fork sys_vfork sys_wait4 sys_unlink* sys_rename* sys_mkdir*",
    "sys_symlink* compat_sys_ioctl compat_sys_read compat_sys_write compat_sys_readv compat_sys_writev",
    "compat_sys_pread64 compat_sys_pwrite64 compat_sys_preadv compat_sys_preadv2 compat_sys_pwritev",
    "compat_sys_pwritev2 compat_sys_close compat_sys_open compat_sys_openat compat_sys_creat compat_sys_execve*",
    "compat_sys_sendto compat_sys_sendmsg compat_sys_sendmmsg compat_sys_recvfrom compat_sys_connect",
    "compat_sys_bind compat_sys_accept compat_sys_accept4 compat_sys_setsockopt compat_sys_getsockopt",
    "compat_sys_socket compat_sys_socketpair compat_sys_shutdown compat_sys_poll compat_sys_ppoll",
    "compat_sys_select compat_sys_splice compat_sys_mount compat_sys_umount compat_sys_exit compat_sys_exit_group",
    "compat_sys_mmap compat_sys_munmap compat_sys_fsync compat_sys_finit_module compat_sys_init_module",
    "compat_sys_sendfile64 compat_sys_socketcall compat_sys_clone* compat_sys_fork compat_sys_vfork",
    "compat_sys_wait4 compat_sys_unlink* compat_sys_rename* compat_sys_mkdir* compat_sys_symlink* se_sys_ioctl",
    "se_sys_read se_sys_write se_sys_readv se_sys_writev se_sys_pread64 se_sys_pwrite64 se_sys_preadv",
    "se_sys_preadv2 se_sys_pwritev se_sys_pwritev2 se_sys_close se_sys_open se_sys_openat se_sys_creat",
    "se_sys_execve* se_sys_sendto se_sys_sendmsg se_sys_sendmmsg se_sys_recvfrom se_sys_connect se_sys_bind",
    "se_sys_accept se_sys_accept4 se_sys_setsockopt se_sys_getsockopt se_sys_socket se_sys_socketpair",
    "se_sys_shutdown se_sys_poll se_sys_ppoll se_sys_select se_sys_splice se_sys_mount se_sys_umount se_sys_exit",
    "se_sys_exit_group se_sys_mmap se_sys_munmap se_sys_fsync se_sys_finit_module se_sys_init_module",
    "se_sys_sendfile64 se_sys_socketcall se_sys_clone* se_sys_fork se_sys_vfork se_sys_wait4 se_sys_unlink*",
    "se_sys_rename* se_sys_mkdir* se_sys_symlink* se_compat_sys_ioctl se_compat_sys_read se_compat_sys_write",
    "se_compat_sys_readv se_compat_sys_writev se_compat_sys_pread64 se_compat_sys_pwrite64 se_compat_sys_preadv",
    "se_compat_sys_preadv2 se_compat_sys_pwritev se_compat_sys_pwritev2 se_compat_sys_close se_compat_sys_open",
    "se_compat_sys_openat se_compat_sys_creat se_compat_sys_execve* se_compat_sys_sendto se_compat_sys_sendmsg",
    "se_compat_sys_sendmmsg se_compat_sys_recvfrom se_compat_sys_connect se_compat_sys_bind se_compat_sys_accept",
    "se_compat_sys_accept4 se_compat_sys_setsockopt se_compat_sys_getsockopt se_compat_sys_socket",
    "se_compat_sys_socketpair se_compat_sys_shutdown se_compat_sys_poll se_compat_sys_ppoll se_compat_sys_select",
    "se_compat_sys_splice se_compat_sys_mount se_compat_sys_umount se_compat_sys_exit se_compat_sys_exit_group",
    "se_compat_sys_mmap se_compat_sys_munmap se_compat_sys_fsync se_compat_sys_finit_module",
    "se_compat_sys_init_module se_compat_sys_sendfile64 se_compat_sys_socketcall se_compat_sys_clone*",
    "se_compat_sys_fork se_compat_sys_vfork se_compat_sys_wait4 se_compat_sys_unlink* se_compat_sys_rename*",
    "se_compat_sys_mkdir* se_compat_sys_symlink* do_sys_ioctl do_sys_read do_sys_write do_sys_readv do_sys_writev",
    "do_sys_pread64 do_sys_pwrite64 do_sys_preadv do_sys_preadv2 do_sys_pwritev do_sys_pwritev2 do_sys_close",
    "do_sys_creat do_sys_execve* do_sys_sendto do_sys_sendmsg do_sys_sendmmsg do_sys_recvfrom do_sys_connect",
    "do_sys_bind do_sys_accept do_sys_accept4 do_sys_setsockopt do_sys_getsockopt do_sys_socket do_sys_socketpair",
    "do_sys_shutdown do_sys_poll do_sys_ppoll do_sys_select do_sys_splice do_sys_mount do_sys_umount do_sys_exit",
    "do_sys_exit_group do_sys_mmap do_sys_munmap do_sys_fsync do_sys_finit_module do_sys_init_module",
    "do_sys_sendfile64 do_sys_socketcall do_sys_clone* do_sys_fork do_sys_vfork do_sys_wait4 do_sys_unlink*",
    "do_sys_rename* do_sys_mkdir* do_sys_symlink* do_compat_sys_ioctl do_compat_sys_read do_compat_sys_write",
    "do_compat_sys_readv do_compat_sys_writev do_compat_sys_pread64 do_compat_sys_pwrite64 do_compat_sys_preadv",
    "do_compat_sys_preadv2 do_compat_sys_pwritev do_compat_sys_pwritev2 do_compat_sys_close do_compat_sys_open",
    "do_compat_sys_openat do_compat_sys_creat do_compat_sys_execve* do_compat_sys_sendto do_compat_sys_sendmsg",
    "do_compat_sys_sendmmsg do_compat_sys_recvfrom do_compat_sys_connect do_compat_sys_bind do_compat_sys_accept",
    "do_compat_sys_accept4 do_compat_sys_setsockopt do_compat_sys_getsockopt do_compat_sys_socket",
    "do_compat_sys_socketpair do_compat_sys_shutdown do_compat_sys_poll do_compat_sys_ppoll do_compat_sys_select",
    "do_compat_sys_splice do_compat_sys_mount do_compat_sys_umount do_compat_sys_exit do_compat_sys_exit_group",
    "do_compat_sys_mmap do_compat_sys_munmap do_compat_sys_fsync do_compat_sys_finit_module",
    "do_compat_sys_init_module do_compat_sys_sendfile64 do_compat_sys_socketcall do_compat_sys_clone*",
    "do_compat_sys_fork do_compat_sys_vfork do_compat_sys_wait4 do_compat_sys_unlink* do_compat_sys_rename*",
    "do_compat_sys_mkdir* do_compat_sys_symlink* x64_sys_ioctl x64_sys_read x64_sys_write x64_sys_readv",
    "x64_sys_writev x64_sys_pread64 x64_sys_pwrite64 x64_sys_preadv x64_sys_preadv2 x64_sys_pwritev",
    "x64_sys_pwritev2 x64_sys_close x64_sys_open x64_sys_openat x64_sys_creat x64_sys_execve* x64_sys_sendto",
    "x64_sys_sendmsg x64_sys_sendmmsg x64_sys_recvfrom x64_sys_connect x64_sys_bind x64_sys_accept",
    "x64_sys_accept4 x64_sys_setsockopt x64_sys_getsockopt x64_sys_socket x64_sys_socketpair x64_sys_shutdown",
    "x64_sys_poll x64_sys_ppoll x64_sys_select x64_sys_splice x64_sys_mount x64_sys_umount x64_sys_exit",
    "x64_sys_exit_group x64_sys_mmap x64_sys_munmap x64_sys_fsync x64_sys_finit_module x64_sys_init_module",
    "x64_sys_sendfile64 x64_sys_socketcall x64_sys_clone* x64_sys_fork x64_sys_vfork x64_sys_wait4",
    "x64_sys_unlink* x64_sys_rename* x64_sys_mkdir* x64_sys_symlink* x64_compat_sys_ioctl x64_compat_sys_read",
    "x64_compat_sys_write x64_compat_sys_readv x64_compat_sys_writev x64_compat_sys_pread64",
    "x64_compat_sys_pwrite64 x64_compat_sys_preadv x64_compat_sys_preadv2 x64_compat_sys_pwritev",
    "x64_compat_sys_pwritev2 x64_compat_sys_close x64_compat_sys_open x64_compat_sys_openat x64_compat_sys_creat",
    "x64_compat_sys_execve* x64_compat_sys_sendto x64_compat_sys_sendmsg x64_compat_sys_sendmmsg",
    "x64_compat_sys_recvfrom x64_compat_sys_connect x64_compat_sys_bind x64_compat_sys_accept",
    "x64_compat_sys_accept4 x64_compat_sys_setsockopt x64_compat_sys_getsockopt x64_compat_sys_socket",
    "x64_compat_sys_socketpair x64_compat_sys_shutdown x64_compat_sys_poll x64_compat_sys_ppoll",
    "x64_compat_sys_select x64_compat_sys_splice x64_compat_sys_mount x64_compat_sys_umount x64_compat_sys_exit",
    "x64_compat_sys_exit_group x64_compat_sys_mmap x64_compat_sys_munmap x64_compat_sys_fsync",
    "x64_compat_sys_finit_module x64_compat_sys_init_module x64_compat_sys_sendfile64 x64_compat_sys_socketcall",
    "x64_compat_sys_clone* x64_compat_sys_fork x64_compat_sys_vfork x64_compat_sys_wait4 x64_compat_sys_unlink*",
    "x64_compat_sys_rename* x64_compat_sys_mkdir* x64_compat_sys_symlink* ia32_sys_ioctl ia32_sys_read",
    "ia32_sys_write ia32_sys_readv ia32_sys_writev ia32_sys_pread64 ia32_sys_pwrite64 ia32_sys_preadv",
    "ia32_sys_preadv2 ia32_sys_pwritev ia32_sys_pwritev2 ia32_sys_close ia32_sys_open ia32_sys_openat",
    "ia32_sys_creat ia32_sys_execve* ia32_sys_sendto ia32_sys_sendmsg ia32_sys_sendmmsg ia32_sys_recvfrom",
    "ia32_sys_connect ia32_sys_bind ia32_sys_accept ia32_sys_accept4 ia32_sys_setsockopt ia32_sys_getsockopt",
    "ia32_sys_socket ia32_sys_socketpair ia32_sys_shutdown ia32_sys_poll ia32_sys_ppoll ia32_sys_select",
    "ia32_sys_splice ia32_sys_mount ia32_sys_umount ia32_sys_exit ia32_sys_exit_group ia32_sys_mmap",
    "ia32_sys_munmap ia32_sys_fsync ia32_sys_finit_module ia32_sys_init_module ia32_sys_sendfile64",
    "ia32_sys_socketcall ia32_sys_clone* ia32_sys_fork ia32_sys_vfork ia32_sys_wait4 ia32_sys_unlink*",
    "ia32_sys_rename* ia32_sys_mkdir* ia32_sys_symlink* ia32_compat_sys_ioctl ia32_compat_sys_read",
    "ia32_compat_sys_write ia32_compat_sys_readv ia32_compat_sys_writev ia32_compat_sys_pread64",
    "ia32_compat_sys_pwrite64 ia32_compat_sys_preadv ia32_compat_sys_preadv2 ia32_compat_sys_pwritev",
    "ia32_compat_sys_pwritev2 ia32_compat_sys_close ia32_compat_sys_open ia32_compat_sys_openat",
    "ia32_compat_sys_creat ia32_compat_sys_execve* ia32_compat_sys_sendto ia32_compat_sys_sendmsg",
    "ia32_compat_sys_sendmmsg ia32_compat_sys_recvfrom ia32_compat_sys_connect ia32_compat_sys_bind",
    "ia32_compat_sys_accept ia32_compat_sys_accept4 ia32_compat_sys_setsockopt ia32_compat_sys_getsockopt",
    "ia32_compat_sys_socket ia32_compat_sys_socketpair ia32_compat_sys_shutdown ia32_compat_sys_poll",
    "ia32_compat_sys_ppoll ia32_compat_sys_select ia32_compat_sys_splice ia32_compat_sys_mount",
    "ia32_compat_sys_umount ia32_compat_sys_exit ia32_compat_sys_exit_group ia32_compat_sys_mmap",
    "ia32_compat_sys_munmap ia32_compat_sys_fsync ia32_compat_sys_finit_module ia32_compat_sys_init_module",
    "ia32_compat_sys_sendfile64 ia32_compat_sys_socketcall ia32_compat_sys_clone* ia32_compat_sys_fork",
    "ia32_compat_sys_vfork ia32_compat_sys_wait4 ia32_compat_sys_unlink* ia32_compat_sys_rename*",
    "ia32_compat_sys_mkdir* ia32_compat_sys_symlink* arm64_sys_ioctl arm64_sys_read arm64_sys_write",
    "arm64_sys_readv arm64_sys_writev arm64_sys_pread64 arm64_sys_pwrite64 arm64_sys_preadv arm64_sys_preadv2",
    "arm64_sys_pwritev arm64_sys_pwritev2 arm64_sys_close arm64_sys_open arm64_sys_openat arm64_sys_creat",
    "arm64_sys_execve* arm64_sys_sendto arm64_sys_sendmsg arm64_sys_sendmmsg arm64_sys_recvfrom arm64_sys_connect",
    "arm64_sys_bind arm64_sys_accept arm64_sys_accept4 arm64_sys_setsockopt arm64_sys_getsockopt arm64_sys_socket",
    "arm64_sys_socketpair arm64_sys_shutdown arm64_sys_poll arm64_sys_ppoll arm64_sys_select arm64_sys_splice",
    "arm64_sys_mount arm64_sys_umount arm64_sys_exit arm64_sys_exit_group arm64_sys_mmap arm64_sys_munmap",
    "arm64_sys_fsync arm64_sys_finit_module arm64_sys_init_module arm64_sys_sendfile64 arm64_sys_socketcall",
    "arm64_sys_clone* arm64_sys_fork arm64_sys_vfork arm64_sys_wait4 arm64_sys_unlink* arm64_sys_rename*",
    "arm64_sys_mkdir* arm64_sys_symlink* arm64_compat_sys_ioctl arm64_compat_sys_read arm64_compat_sys_write",
    "arm64_compat_sys_readv arm64_compat_sys_writev arm64_compat_sys_pread64 arm64_compat_sys_pwrite64",
    "arm64_compat_sys_preadv arm64_compat_sys_preadv2 arm64_compat_sys_pwritev arm64_compat_sys_pwritev2",
    "arm64_compat_sys_close arm64_compat_sys_open arm64_compat_sys_openat arm64_compat_sys_creat",
    "arm64_compat_sys_execve* arm64_compat_sys_sendto arm64_compat_sys_sendmsg arm64_compat_sys_sendmmsg",
    "arm64_compat_sys_recvfrom arm64_compat_sys_connect arm64_compat_sys_bind arm64_compat_sys_accept",
    "arm64_compat_sys_accept4 arm64_compat_sys_setsockopt arm64_compat_sys_getsockopt arm64_compat_sys_socket",
    "arm64_compat_sys_socketpair arm64_compat_sys_shutdown arm64_compat_sys_poll arm64_compat_sys_ppoll",
    "arm64_compat_sys_select arm64_compat_sys_splice arm64_compat_sys_mount arm64_compat_sys_umount",
    "arm64_compat_sys_exit arm64_compat_sys_exit_group arm64_compat_sys_mmap arm64_compat_sys_munmap",
    "arm64_compat_sys_fsync arm64_compat_sys_finit_module arm64_compat_sys_init_module",
    "arm64_compat_sys_sendfile64 arm64_compat_sys_socketcall arm64_compat_sys_clone* arm64_compat_sys_fork",
    "arm64_compat_sys_vfork arm64_compat_sys_wait4 arm64_compat_sys_unlink* arm64_compat_sys_rename*",
    "arm64_compat_sys_mkdir* arm64_compat_sys_symlink* compat_compat_sys_ioctl compat_compat_sys_read",
    "compat_compat_sys_write compat_compat_sys_readv compat_compat_sys_writev compat_compat_sys_pread64",
    "compat_compat_sys_pwrite64 compat_compat_sys_preadv compat_compat_sys_preadv2 compat_compat_sys_pwritev",
    "compat_compat_sys_pwritev2 compat_compat_sys_close compat_compat_sys_open compat_compat_sys_openat",
    "compat_compat_sys_creat compat_compat_sys_execve* compat_compat_sys_sendto compat_compat_sys_sendmsg",
    "compat_compat_sys_sendmmsg compat_compat_sys_recvfrom compat_compat_sys_connect compat_compat_sys_bind",
    "compat_compat_sys_accept compat_compat_sys_accept4 compat_compat_sys_setsockopt compat_compat_sys_getsockopt",
    "compat_compat_sys_socket compat_compat_sys_socketpair compat_compat_sys_shutdown compat_compat_sys_poll",
    "compat_compat_sys_ppoll compat_compat_sys_select compat_compat_sys_splice compat_compat_sys_mount",
    "compat_compat_sys_umount compat_compat_sys_exit compat_compat_sys_exit_group compat_compat_sys_mmap",
    "compat_compat_sys_munmap compat_compat_sys_fsync compat_compat_sys_finit_module",
    "compat_compat_sys_init_module compat_compat_sys_sendfile64 compat_compat_sys_socketcall",
    "compat_compat_sys_clone* compat_compat_sys_fork compat_compat_sys_vfork compat_compat_sys_wait4",
    "compat_compat_sys_unlink* compat_compat_sys_rename* compat_compat_sys_mkdir* compat_compat_sys_symlink*",
    "x32_sys_ioctl x32_sys_read x32_sys_write x32_sys_readv x32_sys_writev x32_sys_pread64 x32_sys_pwrite64",
    "x32_sys_preadv x32_sys_preadv2 x32_sys_pwritev x32_sys_pwritev2 x32_sys_close x32_sys_open x32_sys_openat",
    "x32_sys_creat x32_sys_execve* x32_sys_sendto x32_sys_sendmsg x32_sys_sendmmsg x32_sys_recvfrom",
    "x32_sys_connect x32_sys_bind x32_sys_accept x32_sys_accept4 x32_sys_setsockopt x32_sys_getsockopt",
    "x32_sys_socket x32_sys_socketpair x32_sys_shutdown x32_sys_poll x32_sys_ppoll x32_sys_select x32_sys_splice",
    "x32_sys_mount x32_sys_umount x32_sys_exit x32_sys_exit_group x32_sys_mmap x32_sys_munmap x32_sys_fsync",
    "x32_sys_finit_module x32_sys_init_module x32_sys_sendfile64 x32_sys_socketcall x32_sys_clone* x32_sys_fork",
    "x32_sys_vfork x32_sys_wait4 x32_sys_unlink* x32_sys_rename* x32_sys_mkdir* x32_sys_symlink*",
    "x32_compat_sys_ioctl x32_compat_sys_read x32_compat_sys_write x32_compat_sys_readv x32_compat_sys_writev",
    "x32_compat_sys_pread64 x32_compat_sys_pwrite64 x32_compat_sys_preadv x32_compat_sys_preadv2",
    "x32_compat_sys_pwritev x32_compat_sys_pwritev2 x32_compat_sys_close x32_compat_sys_open",
    "x32_compat_sys_openat x32_compat_sys_creat x32_compat_sys_execve* x32_compat_sys_sendto",
    "x32_compat_sys_sendmsg x32_compat_sys_sendmmsg x32_compat_sys_recvfrom x32_compat_sys_connect",
    "x32_compat_sys_bind x32_compat_sys_accept x32_compat_sys_accept4 x32_compat_sys_setsockopt",
    "x32_compat_sys_getsockopt x32_compat_sys_socket x32_compat_sys_socketpair x32_compat_sys_shutdown",
    "x32_compat_sys_poll x32_compat_sys_ppoll x32_compat_sys_select x32_compat_sys_splice x32_compat_sys_mount",
    "x32_compat_sys_umount x32_compat_sys_exit x32_compat_sys_exit_group x32_compat_sys_mmap",
    "x32_compat_sys_munmap x32_compat_sys_fsync x32_compat_sys_finit_module x32_compat_sys_init_module",
    "x32_compat_sys_sendfile64 x32_compat_sys_socketcall x32_compat_sys_clone* x32_compat_sys_fork",
    "x32_compat_sys_vfork x32_compat_sys_wait4 x32_compat_sys_unlink* x32_compat_sys_rename*",
    "x32_compat_sys_mkdir* x32_compat_sys_symlink* SyS_* SYSC_ioctl SYSC_read SYSC_write SYSC_close SYSC_sendto",
    "SYSC_sendmsg SYSC_connect SYSC_bind SYSC_setsockopt SYSC_getsockopt SYSC_socket SYSc_ioctl SYSc_read",
    "SYSc_write SYSc_close SYSc_sendto SYSc_sendmsg SYSc_connect SYSc_bind SYSc_setsockopt SYSc_getsockopt",
    "SYSc_socket SYSS_ioctl SYSS_read SYSS_write SYSS_close SYSS_sendto SYSS_sendmsg SYSS_connect SYSS_bind",
    "SYSS_setsockopt SYSS_getsockopt SYSS_socket compat_SyS_* compat_ioctl *_compat_ioctl new_sync_read",
    "new_sync_write call_read_iter call_write_iter do_iter_* do_loop_readv_writev do_readv* do_writev* file_ioctl",
    "fput task_work_run exit_task_work exit_to_usermode_loop prepare_exit_to_usermode exit_files do_exit",
    "do_group_exit get_signal* do_signal close_files put_files_struct filp_close do_splice* splice_*",
    "direct_splice_* do_sendfile vfs_get_tree do_new_mount path_mount do_mount do_sys_open* do_filp_open",
    "path_openat do_dentry_open",
    "do_syscall* do_fast_syscall* do_int80* entry_SYSCALL* entry_INT80* entry_SYSENTER* el0_svc* invoke_syscall",
    "x64_sys_call ret_fast_syscall system_call* tracesys*",
    // Sockets and netlink.
    "sock_sendmsg* sys_sendmsg sys_sendto sys_recvfrom sys_connect* sys_bind* sock_do_ioctl kernel_sendmsg",
    "sock_write_iter sock_close sock_release sock_recvmsg* netlink_dump netlink_dump_start rtnetlink_rcv*",
    "rtnl_dump_* rtnl_dumpit nfnetlink_rcv* genl_*dumpit sock_diag_rcv*",
    // Timers, soft interrupts, work.
    "call_timer_fn expire_timers run_timers run_timer_softirq do_softirq* handle_softirqs invoke_softirq",
    "run_ksoftirqd tasklet_action* net_rx_action napi_poll* process_backlog rcu_core* rcu_do_batch",
    "process_one_work worker_thread kthread napi_threaded_*",
    "netif_receive_skb* netif_rx* deliver_skb deliver_ptype_list_skb",
    "do_one_initcall usb_hcd_giveback_urb irq_thread* handle_irq_event*",
];

/// Functions in which a stall is at home: they wait for all other CPUs.
const TERMINAL: &[&str] = &["smp_call_function*"];

/// Whether a table names a function. Leading underscores do not count: the kernel adds them freely.
fn names(table: &[&str], function: &str) -> bool {
    let function = function.trim_start_matches('_');
    table.iter().flat_map(|line| line.split_ascii_whitespace()).any(|glob| fits(glob, function))
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

/// What sort of report the frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    /// A bad access or any other: the first frame not in the first table.
    Anything,
    /// A task that waits.
    Wait,
    /// A check that failed.
    Check,
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
        if names(DISPATCHERS, frame) {
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
    }

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
