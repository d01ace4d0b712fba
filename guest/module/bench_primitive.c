// SPDX-License-Identifier: GPL-2.0
/*
 * What the designs are made of, by itself, in the manner of the kernel's refscale
 * (kernel/rcu/refscale.c) so that its figures and ours can be compared: one loop
 * for each, nothing called by a pointer inside it, all threads on the same object,
 * interrupts off while it is timed. And what it costs to read the clock.
 */
#include <linux/atomic.h>
#include <linux/kconfig.h>
#include <linux/percpu.h>
#include <linux/rwsem.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>
#include <linux/timekeeping.h>

#include "bench.h"

DEFINE_STATIC_SRCU(primitive_domain);
/* As refscale has it: by a pointer, though there is one. */
static struct srcu_struct *primitive_srcu = &primitive_domain;
static DECLARE_RWSEM(primitive_rwsem);
static atomic_t primitive_refcnt = ATOMIC_INIT(0);
static DEFINE_RWLOCK(primitive_rwlock);
static DEFINE_PER_CPU(unsigned long, primitive_percpu);

static noinline int srcu_pass(void *of, unsigned int loops)
{
	while (loops--) {
		int idx = srcu_read_lock(primitive_srcu);

		srcu_read_unlock(primitive_srcu, idx);
	}
	return 0;
}

static noinline int rwsem_pass(void *of, unsigned int loops)
{
	while (loops--) {
		down_read(&primitive_rwsem);
		up_read(&primitive_rwsem);
	}
	return 0;
}

static noinline int refcnt_pass(void *of, unsigned int loops)
{
	while (loops--) {
		atomic_inc(&primitive_refcnt);
		atomic_dec(&primitive_refcnt);
	}
	return 0;
}

static noinline int rwlock_pass(void *of, unsigned int loops)
{
	while (loops--) {
		read_lock(&primitive_rwlock);
		read_unlock(&primitive_rwlock);
	}
	return 0;
}

static noinline int percpuinc_pass(void *of, unsigned int loops)
{
	while (loops--) {
		this_cpu_inc(primitive_percpu);
		this_cpu_dec(primitive_percpu);
	}
	return 0;
}

static int (*const primitive_passes[])(void *of, unsigned int loops) = {
	[PLUGSTORM_BENCH_SRCU] = srcu_pass,
	[PLUGSTORM_BENCH_RWSEM] = rwsem_pass,
	[PLUGSTORM_BENCH_REFCNT] = refcnt_pass,
	[PLUGSTORM_BENCH_RWLOCK] = rwlock_pass,
	[PLUGSTORM_BENCH_PERCPUINC] = percpuinc_pass,
};

static void primitive_work(struct plugstorm_hand *hand)
{
	unsigned int primitive = plugstorm_bench_asked(hand->crew->bench, PRIMITIVE);

	plugstorm_bench_rounds(hand, PLUGSTORM_BENCH_IRQS_OFF, primitive_passes[primitive], NULL);
}

int plugstorm_bench_primitive(struct plugstorm_bench *bench)
{
	struct plugstorm_crew *crew;
	int err;

	if (plugstorm_bench_asked(bench, PRIMITIVE) == PLUGSTORM_BENCH_RWSEM &&
	    IS_ENABLED(CONFIG_DEBUG_ATOMIC_SLEEP))
		return plugstorm_bench_fail(bench, -EOPNOTSUPP,
					    "this kernel reports a rwsem that is taken with interrupts off");

	crew = plugstorm_crew_alloc(bench, plugstorm_bench_asked(bench, THREADS), 0, NULL,
				    primitive_work);
	if (!crew)
		return -ENOMEM;

	err = plugstorm_crew_run(crew);
	plugstorm_crew_free(crew);
	return err;
}

/* Both are calls of a function elsewhere, so neither can be left out. */
static noinline int clock_pass(void *of, unsigned int loops)
{
	while (loops--) {
		ktime_get_mono_fast_ns();
		ktime_get_mono_fast_ns();
	}
	return 0;
}

static void clock_work(struct plugstorm_hand *hand)
{
	plugstorm_bench_rounds(hand, PLUGSTORM_BENCH_PROCESS, clock_pass, NULL);
}

int plugstorm_bench_clock(struct plugstorm_bench *bench)
{
	return plugstorm_crew_one(bench, NULL, clock_work);
}
