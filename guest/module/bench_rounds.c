// SPDX-License-Identifier: GPL-2.0
/*
 * Rounds of threads that do the same thing at the same time. As in the kernel's
 * own refscale (kernel/rcu/refscale.c) each has warmed up when the others are
 * timed, and goes on until the last one's time is taken: a thread never has an
 * easier time because others are late or have finished.
 */
#include <linux/bottom_half.h>
#include <linux/err.h>
#include <linux/interrupt.h>
#include <linux/irqflags.h>
#include <linux/minmax.h>
#include <linux/preempt.h>
#include <linux/sched.h>
#include <linux/smp.h>
#include <linux/timekeeping.h>

#include "bench.h"

/* How much is done to warm up, and between two looks at who is still timed. */
#define PLUGSTORM_ROUND_WARM	10000U
#define PLUGSTORM_ROUND_COOL	1000U

/**
 * struct plugstorm_timed - one timed pass
 * @pass:	does something so many times; 0, or why it could not
 * @of:		its own
 * @loops:	how many times
 * @err:	what it gave
 * @ns:		how long it took
 * @tasklet:	runs it in a soft interrupt
 */
struct plugstorm_timed {
	int (*pass)(void *of, unsigned int loops);
	void *of;
	unsigned int loops;
	int err;
	u64 ns;
	struct tasklet_struct tasklet;
};

/* The window: two readings of the clock and what is between them, the same for all measures. */
static noinline void plugstorm_timed_pass(struct plugstorm_timed *timed)
{
	u64 start = ktime_get_mono_fast_ns();

	timed->err = timed->pass(timed->of, timed->loops);
	timed->ns = ktime_get_mono_fast_ns() - start;
}

static void plugstorm_timed_tasklet(struct tasklet_struct *tasklet)
{
	struct plugstorm_timed *timed = from_tasklet(timed, tasklet, tasklet);

	plugstorm_timed_pass(timed);
}

/* Interrupts come in all contexts but the last, and show in the rounds that they hit. */
static void plugstorm_timed_run(struct plugstorm_timed *timed, enum plugstorm_bench_context context)
{
	unsigned long flags;

	switch (context) {
	case PLUGSTORM_BENCH_PROCESS:
		plugstorm_timed_pass(timed);
		break;
	case PLUGSTORM_BENCH_PREEMPT_OFF:
		preempt_disable();
		plugstorm_timed_pass(timed);
		preempt_enable();
		break;
	case PLUGSTORM_BENCH_SOFTIRQ:
		/* It runs in the enable; or in ksoftirqd, if that is at work, and is waited for. */
		local_bh_disable();
		tasklet_schedule(&timed->tasklet);
		local_bh_enable();
		tasklet_kill(&timed->tasklet);
		break;
	case PLUGSTORM_BENCH_IRQS_OFF:
		local_irq_save(flags);
		plugstorm_timed_pass(timed);
		local_irq_restore(flags);
		break;
	}
}

/* Until the timed passes of all threads are over, or all are to end. */
static void plugstorm_cool_down(struct plugstorm_crew *crew, struct plugstorm_timed *timed,
				unsigned int round)
{
	int over = crew->count * (round + 1);

	atomic_inc(&crew->cooled);
	while (atomic_read(&crew->cooled) < over && !READ_ONCE(crew->stop)) {
		timed->pass(timed->of, min(timed->loops, PLUGSTORM_ROUND_COOL));
		cond_resched();
	}
}

/*
 * All rounds of one thread of a crew, in which each thread calls this. @pass is
 * called once for a window, by a pointer. Samples are taken here; a failure fails
 * the measure.
 */
void plugstorm_bench_rounds(struct plugstorm_hand *hand, enum plugstorm_bench_context context,
			    int (*pass)(void *of, unsigned int loops), void *of)
{
	struct plugstorm_crew *crew = hand->crew;
	struct plugstorm_bench *bench = crew->bench;
	struct plugstorm_timed timed = {
		.pass = pass,
		.of = of,
		.loops = plugstorm_bench_asked(bench, LOOPS),
	};
	unsigned int round;

	tasklet_setup(&timed.tasklet, plugstorm_timed_tasklet);
	for (round = 0; round < plugstorm_bench_asked(bench, ROUNDS); round++) {
		if (pass(of, min(timed.loops, PLUGSTORM_ROUND_WARM))) {
			plugstorm_crew_fail(crew, -EIO, "an enter failed");
			return;
		}
		if (!plugstorm_crew_meet(crew))
			return;

		timed.err = -EIO;
		plugstorm_timed_run(&timed, context);
		plugstorm_cool_down(crew, &timed, round);
		if (timed.err) {
			plugstorm_crew_fail(crew, -EIO, "an enter failed");
			return;
		}
		if (raw_smp_processor_id() != hand->cpu) {
			plugstorm_crew_fail(crew, -EIO, "a CPU went offline");
			return;
		}
		plugstorm_bench_sample(bench, round, hand->index, timed.ns, timed.loops);
	}
}
