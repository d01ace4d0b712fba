// SPDX-License-Identifier: GPL-2.0
/*
 * Threads of the self-tests. A visitor is inside once, until it is told to
 * leave; a runner goes in and out until it is told to end.
 */
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/jiffies.h>
#include <linux/kthread.h>
#include <linux/processor.h>
#include <linux/sched.h>
#include <linux/sched/task.h>

#include "kunit_fixture.h"

/* Where a section may not sleep, a visitor is inside for so long at most: it keeps a CPU. */
#define VISIT_BUSY	msecs_to_jiffies(20)
/* Looks at the resource in a section of a runner's. */
#define RUN_LOOKS	50
/* A runner sleeps inside in every so many sections, and outside after every so many. */
#define RUN_SLEEPS	8
#define RUN_RESTS	32

/* What enter said, which is no resource. */
static void plugstorm_thread_refused(struct plugstorm_thread *thread, int err)
{
	if (err == -ENODEV)
		WRITE_ONCE(thread->refused, thread->refused + 1);
	else
		WRITE_ONCE(thread->error, err);
}

static void plugstorm_visitor_stays(struct plugstorm_thread *thread)
{
	unsigned long until = jiffies + VISIT_BUSY;

	if (thread->fx->design->sleeps) {
		wait_for_completion_timeout(&thread->leave, PLUGSTORM_KUNIT_TIMEOUT);
		return;
	}
	while (!completion_done(&thread->leave) && time_before(jiffies, until))
		cpu_relax();
}

static int plugstorm_visitor(void *data)
{
	struct plugstorm_thread *thread = data;
	struct plugstorm_fixture *fx = thread->fx;
	struct plugstorm_token token;
	void *res;

	WRITE_ONCE(current->kunit_test, fx->test);
	res = fx->design->enter(thread->handle, &token);
	if (IS_ERR(res)) {
		plugstorm_thread_refused(thread, PTR_ERR(res));
		complete(&thread->first);
	} else {
		WRITE_ONCE(thread->sections, 1);
		complete(&thread->first);
		plugstorm_visitor_stays(thread);
		plugstorm_kunit_look(fx, res, &thread->late);
		fx->design->leave(thread->handle, &token);
	}
	WRITE_ONCE(current->kunit_test, NULL);
	kthread_complete_and_exit(&thread->done, 0);
}

static void plugstorm_run_once(struct plugstorm_thread *thread)
{
	struct plugstorm_fixture *fx = thread->fx;
	struct plugstorm_token token;
	void *res;
	int look;

	res = fx->design->enter(thread->handle, &token);
	if (IS_ERR(res)) {
		plugstorm_thread_refused(thread, PTR_ERR(res));
		return;
	}
	for (look = 0; look < RUN_LOOKS; look++) {
		plugstorm_kunit_look(fx, res, &thread->late);
		cpu_relax();
	}
	if (fx->design->sleeps && thread->sections % RUN_SLEEPS == 0)
		usleep_range(20, 100);
	plugstorm_kunit_look(fx, res, &thread->late);
	fx->design->leave(thread->handle, &token);
	WRITE_ONCE(thread->sections, thread->sections + 1);
}

static int plugstorm_runner(void *data)
{
	struct plugstorm_thread *thread = data;
	unsigned long rounds;

	WRITE_ONCE(current->kunit_test, thread->fx->test);
	for (rounds = 0; !READ_ONCE(thread->stop); rounds++) {
		plugstorm_run_once(thread);
		if (!rounds)
			complete(&thread->first);
		/* On one CPU the others, and the grace period, need their turn. */
		if (thread->refused || rounds % RUN_RESTS == 0)
			usleep_range(50, 200);
		else
			cond_resched();
	}
	WRITE_ONCE(current->kunit_test, NULL);
	kthread_complete_and_exit(&thread->done, 0);
}

static int plugstorm_thread_start(struct plugstorm_thread *thread, void *handle,
				  int (*work)(void *data))
{
	struct task_struct *task;

	thread->handle = handle;
	thread->stop = false;
	thread->sections = 0;
	thread->refused = 0;
	thread->late = 0;
	thread->error = 0;
	init_completion(&thread->first);
	init_completion(&thread->leave);
	init_completion(&thread->done);
	task = kthread_create(work, thread, "plugstorm_kunit");
	if (IS_ERR(task))
		return PTR_ERR(task);

	thread->task = get_task_struct(task);
	wake_up_process(task);
	return 0;
}

/* Starts a visitor. 0, or why there is no thread. */
int plugstorm_visitor_start(struct plugstorm_thread *thread, void *handle)
{
	return plugstorm_thread_start(thread, handle, plugstorm_visitor);
}

/* Starts a runner. 0, or why there is no thread. */
int plugstorm_runner_start(struct plugstorm_thread *thread, void *handle)
{
	return plugstorm_thread_start(thread, handle, plugstorm_runner);
}

/* Ends a thread, if there is one. False if it hangs. */
bool plugstorm_thread_join(struct plugstorm_thread *thread)
{
	if (!thread->task)
		return true;

	WRITE_ONCE(thread->stop, true);
	complete(&thread->leave);
	if (!wait_for_completion_timeout(&thread->done, PLUGSTORM_KUNIT_TIMEOUT))
		return false;

	put_task_struct(thread->task);
	thread->task = NULL;
	return true;
}
