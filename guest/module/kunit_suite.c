// SPDX-License-Identifier: GPL-2.0
/*
 * plugstorm_kunit.ko: self-tests of the designs, for kernels with KUnit. A
 * suite for each design, and the same cases for all of them.
 *
 * A case says what it saw. That some designs must fail some cases is known to
 * the host, which has a table of it; nothing is skipped or excused here.
 */
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/module.h>
#include <linux/string.h>

#include "kunit_fixture.h"
#include "scope.h"

/* How long threads are let run before the revoke, and tried afterwards. */
#define LOAD_MS		100
/* How long a second thread may take to get in beside the first. */
#define BESIDE		(HZ / 2)
/* How long a thread goes in and out while the revoke waits: time for its flip of the index. */
#define OVERTAKE_MS	1000
/* How long a revoke may take that has a sleeper to wake. */
#define WAKE		(5 * HZ)

/* The design of the suite that runs: KUnit runs one at a time. */
static const struct plugstorm_design *plugstorm_suite_design;
/* The test whose reader sleeps, for the design to wake. */
static struct plugstorm_fixture *plugstorm_sleeping;

#define assert_joined(test, thread) \
	KUNIT_ASSERT_TRUE_MSG(test, plugstorm_thread_join(thread), "a thread hangs")

static void assert_revoked(struct kunit *test)
{
	struct plugstorm_fixture *fx = test->priv;

	KUNIT_ASSERT_EQ(test, plugstorm_revoke_begin(fx), 0);
	KUNIT_ASSERT_TRUE_MSG(test, plugstorm_revoke_ended(fx, PLUGSTORM_KUNIT_TIMEOUT),
			      "the revoke does not end");
}

/* A section gives the very resource, again and again, by each handle. */
static void access(struct kunit *test)
{
	struct plugstorm_fixture *fx = test->priv;
	void *other;

	KUNIT_EXPECT_EQ(test, plugstorm_kunit_visit(fx, fx->handle), 0);
	KUNIT_EXPECT_EQ(test, plugstorm_kunit_visit(fx, fx->handle), 0);
	other = fx->design->open(fx->guard);
	KUNIT_ASSERT_FALSE(test, IS_ERR(other));
	KUNIT_EXPECT_EQ(test, plugstorm_kunit_visit(fx, other), 0);
	fx->design->close(other);
	KUNIT_EXPECT_EQ(test, plugstorm_kunit_visit(fx, fx->handle), 0);
}

/* A section within another one of the same thread and handle. */
static void nested(struct kunit *test)
{
	struct plugstorm_fixture *fx = test->priv;
	struct plugstorm_token outer, inner;
	unsigned long late = 0;
	void *res, *again;

	if (!fx->design->atomic)
		kunit_skip(test, "a lock that sleeps is taken once by a thread");

	res = fx->design->enter(fx->handle, &outer);
	KUNIT_ASSERT_FALSE(test, IS_ERR(res));
	again = fx->design->enter(fx->handle, &inner);
	if (!IS_ERR(again)) {
		plugstorm_kunit_look(fx, again, &late);
		fx->design->leave(fx->handle, &inner);
	}
	plugstorm_kunit_look(fx, res, &late);
	fx->design->leave(fx->handle, &outer);
	KUNIT_EXPECT_FALSE(test, IS_ERR(again));
	KUNIT_EXPECT_EQ(test, late, 0);
	assert_revoked(test);
}

static int early(struct plugstorm_fixture *fx, bool leave_early)
{
	struct plugstorm_scope scope __cleanup(plugstorm_scope_leave) =
		PLUGSTORM_SCOPE(fx->design, fx->handle);
	unsigned long late = 0;
	void *res = plugstorm_scope_enter(&scope);

	if (IS_ERR(res))
		return PTR_ERR(res);
	if (leave_early)
		return 1;
	plugstorm_kunit_look(fx, res, &late);
	return late ? -ESTALE : 0;
}

/* A scope leaves on every way out: then, and only then, the revoke ends. */
static void early_return(struct kunit *test)
{
	struct plugstorm_fixture *fx = test->priv;

	KUNIT_EXPECT_EQ(test, early(fx, true), 1);
	KUNIT_EXPECT_EQ(test, early(fx, false), 0);
	assert_revoked(test);
	KUNIT_EXPECT_EQ(test, early(fx, true), -ENODEV);
}

/* After the revoke nobody gets in, by an old handle or by a new one. */
static void revocation(struct kunit *test)
{
	struct plugstorm_fixture *fx = test->priv;
	void *late;

	KUNIT_EXPECT_EQ(test, plugstorm_kunit_visit(fx, fx->handle), 0);
	assert_revoked(test);
	KUNIT_ASSERT_EQ(test, plugstorm_kunit_visit(fx, fx->handle), -ENODEV);
	KUNIT_ASSERT_EQ(test, plugstorm_kunit_visit(fx, fx->handle), -ENODEV);
	late = fx->design->open(fx->guard);
	if (IS_ERR(late)) {
		KUNIT_EXPECT_EQ(test, PTR_ERR(late), -ENODEV);
		return;
	}
	KUNIT_EXPECT_EQ(test, plugstorm_kunit_visit(fx, late), -ENODEV);
	fx->design->close(late);
}

/* A consumer that comes when nobody was left who kept anything alive. */
static void late_open(struct kunit *test)
{
	struct plugstorm_fixture *fx = test->priv;
	void *late;

	fx->design->close(fx->handle);
	fx->handle = NULL;
	assert_revoked(test);
	late = fx->design->open(fx->guard);
	if (IS_ERR(late)) {
		KUNIT_EXPECT_EQ(test, PTR_ERR(late), -ENODEV);
		return;
	}
	/* Freed memory was touched: what would come next is anybody's guess. */
	if (plugstorm_kunit_failed(test))
		return;
	KUNIT_ASSERT_EQ(test, plugstorm_kunit_visit(fx, late), -ENODEV);
	fx->design->close(late);
}

/* Both inside at once, if the design lets them; out in either order. */
static void two_threads(struct kunit *test)
{
	struct plugstorm_fixture *fx = test->priv;
	struct plugstorm_thread *thread = fx->threads;
	int out;

	for (out = 0; out < 2; out++) {
		KUNIT_ASSERT_EQ(test, plugstorm_visitor_start(&thread[0], fx->handle), 0);
		KUNIT_ASSERT_TRUE(test, wait_for_completion_timeout(&thread[0].first,
								    PLUGSTORM_KUNIT_TIMEOUT));
		KUNIT_ASSERT_EQ(test, plugstorm_visitor_start(&thread[1], fx->handle), 0);
		if (!wait_for_completion_timeout(&thread[1].first, BESIDE))
			kunit_info(test, "one at a time\n");
		else if (out)
			assert_joined(test, &thread[1]);
		assert_joined(test, &thread[0]);
		assert_joined(test, &thread[1]);
		KUNIT_EXPECT_EQ(test, READ_ONCE(thread[0].sections), 1);
		KUNIT_EXPECT_EQ(test, READ_ONCE(thread[1].sections), 1);
		KUNIT_EXPECT_EQ(test, thread[0].late + thread[1].late, 0);
	}
	assert_revoked(test);
	KUNIT_EXPECT_EQ(test, plugstorm_kunit_visit(fx, fx->handle), -ENODEV);
}

/*
 * One thread is inside when the revoke begins; another one comes, by the same
 * handle, while the revoke waits; then the first leaves.
 */
static void two_threads_and_revoke(struct kunit *test)
{
	struct plugstorm_fixture *fx = test->priv;
	struct plugstorm_thread *inside = &fx->threads[0], *passing = &fx->threads[1];

	KUNIT_ASSERT_EQ(test, plugstorm_visitor_start(inside, fx->handle), 0);
	KUNIT_ASSERT_TRUE(test, wait_for_completion_timeout(&inside->first,
							    PLUGSTORM_KUNIT_TIMEOUT));
	KUNIT_ASSERT_EQ(test, plugstorm_revoke_begin(fx), 0);
	KUNIT_ASSERT_EQ(test, plugstorm_runner_start(passing, fx->handle), 0);
	msleep(OVERTAKE_MS);
	assert_joined(test, inside);
	KUNIT_EXPECT_EQ(test, inside->late, 0);
	KUNIT_EXPECT_TRUE_MSG(test, plugstorm_revoke_ended(fx, PLUGSTORM_KUNIT_TIMEOUT),
			      "the revoke does not end");
	assert_joined(test, passing);
	KUNIT_EXPECT_EQ(test, passing->late, 0);
	KUNIT_EXPECT_EQ(test, passing->error, 0);
}

/* Whether every thread has had its refusal, or been inside. In bounded time. */
static bool all_threads(struct plugstorm_fixture *fx, bool refused)
{
	unsigned long until = jiffies + PLUGSTORM_KUNIT_TIMEOUT;
	int i;

	for (i = 0; i < PLUGSTORM_KUNIT_THREADS; i++) {
		struct plugstorm_thread *thread = &fx->threads[i];

		while (!READ_ONCE(thread->error) && !READ_ONCE(thread->late) &&
		       !(refused ? READ_ONCE(thread->refused) : READ_ONCE(thread->sections))) {
			if (time_after(jiffies, until))
				return false;
			msleep(20);
		}
	}
	return true;
}

/* Threads go in and out while the resource is taken away from them. */
static void load(struct kunit *test, void *const *handles)
{
	struct plugstorm_fixture *fx = test->priv;
	int i;

	for (i = 0; i < PLUGSTORM_KUNIT_THREADS; i++)
		KUNIT_ASSERT_EQ(test, plugstorm_runner_start(&fx->threads[i], handles[i]), 0);
	KUNIT_EXPECT_TRUE_MSG(test, all_threads(fx, false), "a thread never got in");
	msleep(LOAD_MS);
	assert_revoked(test);
	msleep(LOAD_MS);
	KUNIT_EXPECT_TRUE_MSG(test, all_threads(fx, true), "a thread was never refused");
	for (i = 0; i < PLUGSTORM_KUNIT_THREADS; i++) {
		struct plugstorm_thread *thread = &fx->threads[i];

		assert_joined(test, thread);
		KUNIT_EXPECT_EQ_MSG(test, thread->late, 0, "used after the revoke had returned");
		KUNIT_EXPECT_EQ(test, thread->error, 0);
	}
}

/* Each thread by a handle of its own. */
static void load_own_handles(struct kunit *test)
{
	struct plugstorm_fixture *fx = test->priv;
	void *handles[PLUGSTORM_KUNIT_THREADS] = { fx->handle };
	int i;

	for (i = 1; i < PLUGSTORM_KUNIT_THREADS; i++) {
		handles[i] = fx->design->open(fx->guard);
		KUNIT_ASSERT_FALSE(test, IS_ERR(handles[i]));
	}
	load(test, handles);
	if (plugstorm_kunit_failed(test))
		return;
	for (i = 1; i < PLUGSTORM_KUNIT_THREADS; i++)
		fx->design->close(handles[i]);
}

/* All by one handle. */
static void load_shared_handle(struct kunit *test)
{
	struct plugstorm_fixture *fx = test->priv;
	void *handles[PLUGSTORM_KUNIT_THREADS];
	int i;

	for (i = 0; i < PLUGSTORM_KUNIT_THREADS; i++)
		handles[i] = fx->handle;
	load(test, handles);
}

static void wake_sleeper(struct plugstorm_guard *guard)
{
	complete(&plugstorm_sleeping->threads[0].leave);
}

/* A reader sleeps inside, and only the design's revoke could wake it. */
static void sleeping_reader(struct kunit *test)
{
	struct plugstorm_fixture *fx = test->priv;
	struct plugstorm_thread *sleeper = &fx->threads[0];

	if (!fx->design->sleeps)
		kunit_skip(test, "nobody may sleep in a section of this design");

	plugstorm_sleeping = fx;
	fx->guard->wake = wake_sleeper;
	KUNIT_ASSERT_EQ(test, plugstorm_visitor_start(sleeper, fx->handle), 0);
	KUNIT_ASSERT_TRUE(test, wait_for_completion_timeout(&sleeper->first,
							    PLUGSTORM_KUNIT_TIMEOUT));
	KUNIT_ASSERT_EQ(test, plugstorm_revoke_begin(fx), 0);
	KUNIT_EXPECT_TRUE_MSG(test, plugstorm_revoke_ended(fx, WAKE),
			      "the revoke waits for a sleeper that it does not wake");
	/* The rest of us wakes it. */
	assert_joined(test, sleeper);
	KUNIT_EXPECT_EQ(test, sleeper->late, 0);
	KUNIT_EXPECT_TRUE_MSG(test, plugstorm_revoke_ended(fx, PLUGSTORM_KUNIT_TIMEOUT),
			      "the revoke does not end");
}

/*
 * Several at once, and somebody inside the middle one when it begins: whoever is
 * inside is waited for, and afterwards nobody gets into any.
 */
static void revoke_many(struct kunit *test)
{
	struct plugstorm_fixture *fx = test->priv;
	struct plugstorm_thread *inside = &fx->threads[0];
	int i;

	if (!fx->design->revoke_many)
		kunit_skip(test, "this design can only be revoked one after another");

	KUNIT_ASSERT_EQ(test, plugstorm_kunit_many(fx), 0);
	for (i = 1; i < PLUGSTORM_KUNIT_MANY; i++)
		KUNIT_EXPECT_EQ(test, plugstorm_kunit_visit(fx, fx->handles[i]), 0);
	KUNIT_ASSERT_EQ(test, plugstorm_visitor_start(inside, fx->handles[1]), 0);
	KUNIT_ASSERT_TRUE(test, wait_for_completion_timeout(&inside->first,
							    PLUGSTORM_KUNIT_TIMEOUT));
	KUNIT_ASSERT_EQ(test, plugstorm_revoke_begin(fx), 0);
	/* It looks once more before it leaves. Where it may not sleep it leaves by itself. */
	if (fx->design->sleeps)
		KUNIT_EXPECT_FALSE_MSG(test, plugstorm_revoke_ended(fx, BESIDE),
				       "a reader was not waited for");
	assert_joined(test, inside);
	KUNIT_EXPECT_EQ(test, READ_ONCE(inside->sections), 1);
	KUNIT_EXPECT_EQ(test, inside->late, 0);
	KUNIT_ASSERT_TRUE_MSG(test, plugstorm_revoke_ended(fx, PLUGSTORM_KUNIT_TIMEOUT),
			      "the revoke does not end");
	KUNIT_EXPECT_EQ(test, plugstorm_kunit_visit(fx, fx->handle), -ENODEV);
	for (i = 1; i < PLUGSTORM_KUNIT_MANY; i++)
		KUNIT_EXPECT_EQ(test, plugstorm_kunit_visit(fx, fx->handles[i]), -ENODEV);
}

/* As two parts of a driver do that each think it is theirs to do. */
static void double_revoke(struct kunit *test)
{
	struct plugstorm_fixture *fx = test->priv;

	assert_revoked(test);
	assert_revoked(test);
	if (plugstorm_kunit_failed(test))
		return;
	KUNIT_EXPECT_EQ(test, plugstorm_kunit_visit(fx, fx->handle), -ENODEV);
}

/* The dangerous ones last: what they leave behind of a design that fails is nobody's to know. */
#define PLUGSTORM_CASES {			\
	KUNIT_CASE(access),			\
	KUNIT_CASE(nested),			\
	KUNIT_CASE(early_return),		\
	KUNIT_CASE(revocation),			\
	KUNIT_CASE(two_threads),		\
	KUNIT_CASE(load_own_handles),		\
	KUNIT_CASE(sleeping_reader),		\
	KUNIT_CASE(revoke_many),		\
	KUNIT_CASE(load_shared_handle),		\
	KUNIT_CASE(two_threads_and_revoke),	\
	KUNIT_CASE(late_open),			\
	KUNIT_CASE(double_revoke),		\
	{}					\
}

/* The design that plugstorm_shared_handle, say, is the suite of. KUnit may hand over a copy. */
static int plugstorm_suite_init(struct kunit_suite *suite)
{
	char name[sizeof(suite->name)];

	strscpy(name, suite->name + strlen("plugstorm_"), sizeof(name));
	strreplace(name, '_', '-');
	plugstorm_suite_design = plugstorm_design_by_name(name);
	return plugstorm_suite_design ? 0 : -ENOENT;
}

static int plugstorm_case_init(struct kunit *test)
{
	return plugstorm_fixture_init(test, plugstorm_suite_design);
}

#define DESIGN(design) PLUGSTORM_SUITE_##design
enum plugstorm_suite_number {
#include "design_table.h"
};

#undef DESIGN

/* KUnit writes into the cases: each suite has its own. */
#define DESIGN(design) {					\
	.name = "plugstorm_" #design,				\
	.suite_init = plugstorm_suite_init,			\
	.init = plugstorm_case_init,				\
	.exit = plugstorm_fixture_exit,				\
	.test_cases = (struct kunit_case[])PLUGSTORM_CASES,	\
}

static struct kunit_suite plugstorm_suites[] = {
#include "design_table.h"
};

#undef DESIGN

/* What kunit_test_suites() makes of a list that can be written down. */
#define DESIGN(design) (&plugstorm_suites[PLUGSTORM_SUITE_##design])
static struct kunit_suite *plugstorm_suite_list[] __used __section(".kunit_test_suites") = {
#include "design_table.h"
};

MODULE_DESCRIPTION("Self-tests of plugstorm's designs");
MODULE_LICENSE("GPL");
