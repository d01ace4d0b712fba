// SPDX-License-Identifier: GPL-2.0
/*
 * How long a revoke takes while a reader sleeps inside. A design that wakes it has
 * a short revoke; one that does not waits until it has slept enough.
 */
#include <linux/err.h>
#include <linux/hrtimer.h>
#include <linux/jiffies.h>
#include <linux/ktime.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/wait.h>

#include "bench.h"

/* How long the reader may take to get in, or out when it was woken. */
#define PLUGSTORM_SLEEPER_WAIT	(20 * HZ)

/**
 * struct sleeper - one round
 * @handle:	the reader's
 * @wait:	where it sleeps
 * @woken:	by the design
 * @began:	there is a handle
 * @inside:	it is, or could not get in
 * @outside:	it has left
 * @failed:	it could not get in
 */
struct sleeper {
	void *handle;
	wait_queue_head_t wait;
	bool woken;
	struct completion began;
	struct completion inside;
	struct completion outside;
	bool failed;
};

static void sleeper_wake(struct plugstorm_guard *guard)
{
	struct sleeper *sleeper = guard->driver;

	WRITE_ONCE(sleeper->woken, true);
	wake_up_all(&sleeper->wait);
}

/* The reader of one round. */
static void sleeper_sleep(struct plugstorm_crew *crew, struct sleeper *sleeper)
{
	const struct plugstorm_design *design = crew->bench->request.design;
	u64 ns = plugstorm_bench_asked(crew->bench, SLEEP_US) * (u64)NSEC_PER_USEC;
	/* Of its own: the revoker takes the other back when it gives up. */
	void *handle = sleeper->handle;
	struct plugstorm_token token;

	sleeper->failed = IS_ERR(design->enter(handle, &token));
	complete(&sleeper->inside);
	if (!sleeper->failed) {
		wait_event_hrtimeout(sleeper->wait, READ_ONCE(sleeper->woken),
				     ns_to_ktime(ns));
		design->leave(handle, &token);
	}
	complete(&sleeper->outside);
}

static u64 sleeper_timed(struct plugstorm_guard *guard)
{
	const struct plugstorm_design *design = guard->design;
	u64 start = ktime_get_mono_fast_ns();

	design->revoke(guard);
	return ktime_get_mono_fast_ns() - start;
}

/* Whether it happened in time. If not, the measure has failed, and the reader is left there. */
static bool sleeper_done(struct plugstorm_crew *crew, struct completion *done)
{
	if (wait_for_completion_timeout(done, PLUGSTORM_SLEEPER_WAIT))
		return true;

	plugstorm_crew_fail(crew, -ETIMEDOUT, "the reader does not come by");
	crew->bench->hung = true;
	return false;
}

/* The revoker's part of a round: whether there may be another. */
static bool sleeper_round(struct plugstorm_crew *crew, unsigned int round, u64 *woken)
{
	const struct plugstorm_design *design = crew->bench->request.design;
	struct sleeper *sleeper = crew->job;
	struct plugstorm_guard *guard;
	unsigned long resource = 0;
	u64 ns = 0;

	guard = design->init(&resource);
	if (IS_ERR(guard)) {
		plugstorm_crew_fail(crew, PTR_ERR(guard), "an init failed");
		return false;
	}
	guard->driver = sleeper;
	guard->wake = sleeper_wake;
	sleeper->handle = design->open(guard);
	if (IS_ERR(sleeper->handle)) {
		plugstorm_crew_fail(crew, PTR_ERR(sleeper->handle), "an open failed");
		design->revoke(guard);
		design->destroy(guard);
		return false;
	}

	sleeper->woken = false;
	reinit_completion(&sleeper->inside);
	reinit_completion(&sleeper->outside);
	complete(&sleeper->began);
	if (!sleeper_done(crew, &sleeper->inside))
		return false;
	ns = sleeper_timed(guard);
	*woken += sleeper->woken;
	if (!sleeper_done(crew, &sleeper->outside))
		return false;

	design->close(sleeper->handle);
	design->destroy(guard);
	if (sleeper->failed) {
		plugstorm_crew_fail(crew, -EIO, "an enter failed");
		return false;
	}
	plugstorm_bench_sample(crew->bench, round, 0, ns, 1);
	return true;
}

static void sleeper_revoker(struct plugstorm_crew *crew)
{
	struct sleeper *sleeper = crew->job;
	unsigned int round;
	u64 woken = 0;

	sched_set_fifo_low(current);
	for (round = 0; round < plugstorm_bench_asked(crew->bench, ROUNDS); round++)
		if (!plugstorm_crew_goes_on(crew) || !sleeper_round(crew, round, &woken))
			break;
	/* There is no handle any more: the reader's end. */
	sleeper->handle = NULL;
	complete(&sleeper->began);
	plugstorm_bench_note(crew->bench, "woken", woken);
}

static void sleeper_work(struct plugstorm_hand *hand)
{
	struct sleeper *sleeper = hand->crew->job;

	if (!hand->index) {
		sleeper_revoker(hand->crew);
		return;
	}
	for (;;) {
		/* The revoker always tells us before it ends, and as long as it lives. */
		wait_for_completion(&sleeper->began);
		if (!sleeper->handle)
			return;
		sleeper_sleep(hand->crew, sleeper);
	}
}

int plugstorm_bench_sleeper(struct plugstorm_bench *bench)
{
	const struct plugstorm_design *design = bench->request.design;
	struct plugstorm_crew *crew;
	struct sleeper *sleeper;
	int err;

	if (!design->sleeps)
		return plugstorm_bench_fail(bench, -EOPNOTSUPP,
					    "nobody may sleep in a section of %s", design->name);

	sleeper = kzalloc(sizeof(*sleeper), GFP_KERNEL);
	if (!sleeper)
		return plugstorm_bench_fail(bench, -ENOMEM, "no memory");
	init_waitqueue_head(&sleeper->wait);
	init_completion(&sleeper->began);
	init_completion(&sleeper->inside);
	init_completion(&sleeper->outside);

	err = -ENOMEM;
	crew = plugstorm_crew_alloc(bench, 2, 0, sleeper, sleeper_work);
	if (crew) {
		err = plugstorm_crew_run(crew);
		plugstorm_crew_free(crew);
	}
	if (!bench->hung)
		kfree(sleeper);
	return err;
}
