// SPDX-License-Identifier: GPL-2.0
/*
 * A device without hardware: a design, a resource, a consumer's handle, and a
 * revoke that is waited for only so long.
 */
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/sched/task.h>
#include <linux/slab.h>

#include "kunit_fixture.h"

/* Takes a fixture's handle and guard. @test->priv is the fixture until the exit. */
int plugstorm_fixture_init(struct kunit *test, const struct plugstorm_design *design)
{
	/* Not KUnit's memory, which goes with the test: a thread that hangs keeps it. */
	struct plugstorm_fixture *fx = kzalloc(sizeof(*fx), GFP_KERNEL);
	int i;

	if (!fx)
		return -ENOMEM;

	fx->test = test;
	fx->design = design;
	fx->subject.state = PLUGSTORM_SUBJECT_ALIVE;
	for (i = 0; i < PLUGSTORM_KUNIT_THREADS; i++)
		fx->threads[i].fx = fx;
	init_completion(&fx->revoked);
	fx->guard = design->init(&fx->subject);
	if (IS_ERR(fx->guard)) {
		int err = PTR_ERR(fx->guard);

		kfree(fx);
		return err;
	}

	test->priv = fx;
	fx->handle = design->open(fx->guard);
	if (IS_ERR(fx->handle)) {
		kunit_err(test, "the first open fails (%ld)\n", PTR_ERR(fx->handle));
		fx->handle = NULL;
		return -ENODEV;
	}
	return 0;
}

/*
 * Makes more objects of the same resource; from then on a revoke is one of all.
 * They go with the fixture.
 */
int plugstorm_kunit_many(struct plugstorm_fixture *fx)
{
	int i;

	for (i = 1; i < PLUGSTORM_KUNIT_MANY; i++) {
		struct plugstorm_guard *guard = fx->design->init(&fx->subject);
		void *handle;

		if (IS_ERR(guard))
			return PTR_ERR(guard);
		fx->many[i] = guard;
		handle = fx->design->open(guard);
		if (IS_ERR(handle))
			return PTR_ERR(handle);
		fx->handles[i] = handle;
	}
	fx->many[0] = fx->guard;
	return 0;
}

/* After the revoke. */
static void plugstorm_fixture_destroy(struct plugstorm_fixture *fx)
{
	int i;

	for (i = 1; i < PLUGSTORM_KUNIT_MANY; i++) {
		if (fx->handles[i])
			fx->design->close(fx->handles[i]);
		if (fx->many[i])
			fx->design->destroy(fx->many[i]);
	}
	if (fx->handle)
		fx->design->close(fx->handle);
	fx->design->destroy(fx->guard);
	kfree(fx);
}

/* So far: an expectation was not met, or KASAN has reported something. */
bool plugstorm_kunit_failed(struct kunit *test)
{
	return READ_ONCE(test->status) == KUNIT_FAILURE;
}

/* Who hangs must not tell of a test that is no more. */
static void plugstorm_fixture_forget(struct plugstorm_fixture *fx)
{
	int i;

	for (i = 0; i < PLUGSTORM_KUNIT_THREADS; i++)
		if (fx->threads[i].task)
			WRITE_ONCE(fx->threads[i].task->kunit_test, NULL);
	if (fx->revoker)
		WRITE_ONCE(fx->revoker->kunit_test, NULL);
}

/*
 * Ends a test, however far it came. What a design that failed would do to its
 * own memory is not known: it is left as it is, a few hundred bytes. If a
 * thread is still inside, its text must stay too.
 */
void plugstorm_fixture_exit(struct kunit *test)
{
	struct plugstorm_fixture *fx = test->priv;
	int i;

	if (!fx)
		return;

	test->priv = NULL;
	for (i = 0; i < PLUGSTORM_KUNIT_THREADS; i++)
		if (!plugstorm_thread_join(&fx->threads[i]))
			fx->hung = true;
	if (!fx->once && !fx->hung && plugstorm_revoke_begin(fx))
		fx->hung = true;
	if (!plugstorm_revoke_ended(fx, fx->slow ? HZ : PLUGSTORM_KUNIT_TIMEOUT))
		fx->hung = true;
	if (fx->hung) {
		kunit_warn(test, "a thread hangs in %s and is left behind\n", fx->design->name);
		plugstorm_fixture_forget(fx);
		__module_get(THIS_MODULE);
		return;
	}
	if (plugstorm_kunit_failed(test))
		return;

	plugstorm_fixture_destroy(fx);
}

/* One look at the resource, from inside a section. */
void plugstorm_kunit_look(struct plugstorm_fixture *fx, void *res, unsigned long *late)
{
	struct plugstorm_subject *subject = res;

	/* Another pointer would be none of ours to follow. */
	if (subject != &fx->subject || READ_ONCE(subject->state) != PLUGSTORM_SUBJECT_ALIVE)
		(*late)++;
}

/* A section of the caller's: 0, what enter said, or -ESTALE for a resource that has gone. */
int plugstorm_kunit_visit(struct plugstorm_fixture *fx, void *handle)
{
	struct plugstorm_token token;
	unsigned long late = 0;
	void *res;

	/* No expectation in here: in some designs nobody may sleep inside. */
	res = fx->design->enter(handle, &token);
	if (IS_ERR(res))
		return PTR_ERR(res);
	plugstorm_kunit_look(fx, res, &late);
	fx->design->leave(handle, &token);
	return late ? -ESTALE : 0;
}

static int plugstorm_kunit_revoke(void *data)
{
	struct plugstorm_fixture *fx = data;

	/* KASAN fails the test of whoever it catches. */
	WRITE_ONCE(current->kunit_test, fx->test);
	if (fx->many[0])
		fx->design->revoke_many(fx->many, PLUGSTORM_KUNIT_MANY);
	else
		fx->design->revoke(fx->guard);
	/* Here a driver frees the resource. */
	WRITE_ONCE(fx->subject.state, PLUGSTORM_SUBJECT_GONE);
	WRITE_ONCE(current->kunit_test, NULL);
	kthread_complete_and_exit(&fx->revoked, 0);
}

/* Lets a thread revoke the resource, for the first time or again. */
int plugstorm_revoke_begin(struct plugstorm_fixture *fx)
{
	struct task_struct *task;

	reinit_completion(&fx->revoked);
	task = kthread_create(plugstorm_kunit_revoke, fx, "plugstorm_revoke");
	if (IS_ERR(task))
		return PTR_ERR(task);

	fx->once = true;
	/* For as long as we know it by its name. */
	fx->revoker = get_task_struct(task);
	wake_up_process(task);
	return 0;
}

/* Whether no revoke runs, after so many jiffies at most. */
bool plugstorm_revoke_ended(struct plugstorm_fixture *fx, unsigned long timeout)
{
	if (!fx->revoker)
		return true;
	if (!wait_for_completion_timeout(&fx->revoked, timeout)) {
		fx->slow = true;
		return false;
	}

	put_task_struct(fx->revoker);
	fx->revoker = NULL;
	return true;
}
