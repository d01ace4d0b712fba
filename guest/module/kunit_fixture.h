/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the self-tests share: a device without hardware, and threads that use it.
 *
 * No wait in a test is without an end. A design that is wrong may hang, use
 * what it has freed, or give out what was taken away; the suite goes on.
 */
#ifndef _PLUGSTORM_KUNIT_FIXTURE_H
#define _PLUGSTORM_KUNIT_FIXTURE_H

#include <kunit/test.h>
#include <linux/completion.h>
#include <linux/jiffies.h>
#include <linux/sched.h>
#include <linux/types.h>

#include "design.h"

/* A revoke, or a thread, that takes longer hangs. Grace periods take jiffies. */
#define PLUGSTORM_KUNIT_TIMEOUT	(20 * HZ)
#define PLUGSTORM_KUNIT_THREADS	4
/* Objects that are revoked together: the fixture's own is the first. */
#define PLUGSTORM_KUNIT_MANY	3

/**
 * struct plugstorm_subject - the resource of a self-test
 * @state:	%PLUGSTORM_SUBJECT_ALIVE until the revoke has returned
 *
 * Part of the fixture and never freed before it: whoever uses it after the
 * revoke is caught by its state, on any kernel, and does no harm.
 */
struct plugstorm_subject {
	unsigned long state;
};

#define PLUGSTORM_SUBJECT_ALIVE	0x616c697665UL
#define PLUGSTORM_SUBJECT_GONE	0x676f6e65UL

struct plugstorm_fixture;

/**
 * struct plugstorm_thread - a thread that uses the resource
 * @fx:		the fixture
 * @handle:	the handle that it uses, alone or not
 * @task:	itself; NULL before it was started and after it was joined
 * @first:	its first section has begun, or could not
 * @leave:	it may leave its section (visitors)
 * @done:	it is no more
 * @stop:	it is to end
 * @sections:	times it was inside
 * @refused:	times it was told -ENODEV
 * @late:	times it saw the resource after the revoke had returned
 * @error:	anything else that enter said
 *
 * The counts are the thread's own and are read while it runs.
 */
struct plugstorm_thread {
	struct plugstorm_fixture *fx;
	void *handle;
	struct task_struct *task;
	struct completion first;
	struct completion leave;
	struct completion done;
	bool stop;
	unsigned long sections;
	unsigned long refused;
	unsigned long late;
	int error;
};

/**
 * struct plugstorm_fixture - a device without hardware, for one test case
 * @test:	the test case
 * @design:	the design
 * @guard:	its part of the device
 * @handle:	a consumer's handle; NULL if it was closed
 * @many:	guards to be revoked together: @guard and others, of the same subject;
 *		NULL where there are none
 * @handles:	a consumer's handle of each; the first is NULL
 * @subject:	the resource
 * @threads:	those that were started
 * @revoker:	the thread that revokes; NULL if none runs
 * @revoked:	the revoke has returned
 * @once:	the revoke has been begun
 * @slow:	it has been waited for in vain
 * @hung:	a thread did not come back: all of this must stay where it is
 */
struct plugstorm_fixture {
	struct kunit *test;
	const struct plugstorm_design *design;
	struct plugstorm_guard *guard;
	void *handle;
	struct plugstorm_guard *many[PLUGSTORM_KUNIT_MANY];
	void *handles[PLUGSTORM_KUNIT_MANY];
	struct plugstorm_subject subject;
	struct plugstorm_thread threads[PLUGSTORM_KUNIT_THREADS];
	struct task_struct *revoker;
	struct completion revoked;
	bool once;
	bool slow;
	bool hung;
};

/* kunit_fixture.c */
int plugstorm_fixture_init(struct kunit *test, const struct plugstorm_design *design);
void plugstorm_fixture_exit(struct kunit *test);
bool plugstorm_kunit_failed(struct kunit *test);
void plugstorm_kunit_look(struct plugstorm_fixture *fx, void *res, unsigned long *late);
int plugstorm_kunit_visit(struct plugstorm_fixture *fx, void *handle);
int plugstorm_kunit_many(struct plugstorm_fixture *fx);
int plugstorm_revoke_begin(struct plugstorm_fixture *fx);
bool plugstorm_revoke_ended(struct plugstorm_fixture *fx, unsigned long timeout);

/* kunit_threads.c */
int plugstorm_visitor_start(struct plugstorm_thread *thread, void *handle);
int plugstorm_runner_start(struct plugstorm_thread *thread, void *handle);
bool plugstorm_thread_join(struct plugstorm_thread *thread);

#endif /* _PLUGSTORM_KUNIT_FIXTURE_H */
