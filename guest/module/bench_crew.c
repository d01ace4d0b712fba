// SPDX-License-Identifier: GPL-2.0
/*
 * The threads of a measure: each bound to its CPU, begun together, waited for as
 * long as there is progress. Who asked for the measure does nothing but wait, so
 * that it can be killed whatever the threads hang in.
 */
#include <linux/cpumask.h>
#include <linux/err.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/overflow.h>
#include <linux/processor.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

#include "bench.h"

/* How long there may be no progress: a round takes less, also where a guest is emulated. */
#define PLUGSTORM_CREW_PATIENCE	(60 * HZ)
/* How long the threads may take to end when they are told to. */
#define PLUGSTORM_CREW_END	(20 * HZ)

/* The @index-th CPU that is online; beyond the last one it begins again. */
unsigned int plugstorm_bench_cpu(unsigned int index)
{
	unsigned int cpu, nth = index % num_online_cpus();

	for_each_online_cpu(cpu)
		if (!nth--)
			return cpu;
	return cpumask_first(cpu_online_mask);
}

/*
 * NULL, and the measure has failed, if there is no memory. Thread i is bound to the
 * CPU after the first @first_cpu + i.
 */
struct plugstorm_crew *plugstorm_crew_alloc(struct plugstorm_bench *bench, unsigned int count,
					    unsigned int first_cpu, void *job,
					    void (*work)(struct plugstorm_hand *hand))
{
	struct plugstorm_crew *crew = kzalloc(struct_size(crew, hands, count), GFP_KERNEL);
	unsigned int i;

	if (!crew) {
		plugstorm_bench_fail(bench, -ENOMEM, "no memory for %u threads", count);
		return NULL;
	}
	crew->count = count;
	crew->bench = bench;
	crew->job = job;
	atomic_set(&crew->left, count);
	for (i = 0; i < count; i++) {
		struct plugstorm_hand *hand = &crew->hands[i];

		hand->crew = crew;
		hand->index = i;
		hand->cpu = plugstorm_bench_cpu(first_cpu + i);
		hand->work = work;
		init_completion(&hand->done);
	}
	return crew;
}

/* Not if one of its threads hangs. */
void plugstorm_crew_free(struct plugstorm_crew *crew)
{
	if (!crew->bench->hung)
		kfree(crew);
}

static int plugstorm_hand_main(void *data)
{
	struct plugstorm_hand *hand = data;

	hand->work(hand);
	kthread_complete_and_exit(&hand->done, 0);
}

static int plugstorm_crew_hire(struct plugstorm_crew *crew)
{
	unsigned int i;

	for (i = 0; i < crew->count; i++) {
		struct plugstorm_hand *hand = &crew->hands[i];
		struct task_struct *task;

		task = kthread_create(plugstorm_hand_main, hand, "plugstorm_bench/%u", i);
		if (IS_ERR(task))
			goto err_stop;
		kthread_bind(task, hand->cpu);
		hand->task = get_task_struct(task);
	}
	return 0;

err_stop:
	/* None of them has run yet, and none will. */
	while (i--) {
		kthread_stop(crew->hands[i].task);
		put_task_struct(crew->hands[i].task);
	}
	return plugstorm_bench_fail(crew->bench, -ENOMEM, "no threads");
}

static void plugstorm_crew_stop(struct plugstorm_crew *crew)
{
	WRITE_ONCE(crew->stop, true);
}

/* By anybody: the measure has failed, and all are to end. */
void plugstorm_crew_fail(struct plugstorm_crew *crew, int error, const char *what)
{
	const struct plugstorm_design *design = crew->bench->request.design;

	plugstorm_bench_fail(crew->bench, error, "%s%s%s", design ? design->name : "",
			     design ? ": " : "", what);
	plugstorm_crew_stop(crew);
}

/* Waits for a thread's end. False if it hangs. */
static bool plugstorm_crew_join(struct plugstorm_crew *crew, struct plugstorm_hand *hand)
{
	unsigned long until = jiffies + PLUGSTORM_CREW_PATIENCE;
	unsigned long seen = READ_ONCE(crew->progress);
	bool stopped = false;
	long left;

	for (;;) {
		if (stopped)
			left = wait_for_completion_timeout(&hand->done, HZ);
		else
			left = wait_for_completion_killable_timeout(&hand->done, HZ);
		if (left > 0)
			return true;

		if (!stopped && !left && READ_ONCE(crew->progress) != seen) {
			seen = READ_ONCE(crew->progress);
			until = jiffies + PLUGSTORM_CREW_PATIENCE;
		}
		if (!left && time_before(jiffies, until))
			continue;
		if (stopped)
			return false;

		if (left)
			plugstorm_crew_fail(crew, -EINTR, "the measure was killed");
		else
			plugstorm_crew_fail(crew, -ETIMEDOUT, "a minute without progress");
		stopped = true;
		until = jiffies + PLUGSTORM_CREW_END;
	}
}

/*
 * Has the crew work, and waits for its end. 0, or why the measure has failed; the
 * samples are those of a measure that has not.
 */
int plugstorm_crew_run(struct plugstorm_crew *crew)
{
	struct plugstorm_bench *bench = crew->bench;
	int err = plugstorm_crew_hire(crew);
	unsigned int i;

	if (err)
		return err;

	for (i = 0; i < crew->count; i++)
		wake_up_process(crew->hands[i].task);
	for (i = 0; i < crew->count; i++) {
		if (plugstorm_crew_join(crew, &crew->hands[i])) {
			put_task_struct(crew->hands[i].task);
			continue;
		}
		plugstorm_crew_stop(crew);
		bench->hung = true;
	}
	return READ_ONCE(bench->error);
}

/* A measure of one thread, on the first CPU. */
int plugstorm_crew_one(struct plugstorm_bench *bench, void *job,
		       void (*work)(struct plugstorm_hand *hand))
{
	struct plugstorm_crew *crew = plugstorm_crew_alloc(bench, 1, 0, job, work);
	int err;

	if (!crew)
		return -ENOMEM;

	err = plugstorm_crew_run(crew);
	plugstorm_crew_free(crew);
	return err;
}

/* By a thread, between two rounds: there is progress. Whether to go on. */
bool plugstorm_crew_goes_on(struct plugstorm_crew *crew)
{
	/* Whatever it becomes, by however many at once, it is another number. */
	WRITE_ONCE(crew->progress, READ_ONCE(crew->progress) + 1);
	return !READ_ONCE(crew->stop);
}

/*
 * Waits, busy, until all threads have come here. False if they are to end
 * instead. A thread that has met the others runs on its CPU at that moment: none
 * has to be woken.
 */
bool plugstorm_crew_meet(struct plugstorm_crew *crew)
{
	unsigned int meeting = READ_ONCE(crew->meetings);

	if (atomic_inc_return(&crew->arrived) == crew->count) {
		atomic_set(&crew->arrived, 0);
		/* What each did before it came is seen by all that go on: with the load below. */
		smp_store_release(&crew->meetings, meeting + 1);
	}
	/* See above. */
	while (smp_load_acquire(&crew->meetings) == meeting) {
		if (READ_ONCE(crew->stop))
			return false;
		cpu_relax();
		cond_resched();
	}
	return plugstorm_crew_goes_on(crew);
}

/* By each thread once, when it is done with the job. True for the last one. */
bool plugstorm_crew_last(struct plugstorm_crew *crew)
{
	return atomic_dec_and_test(&crew->left);
}
