// SPDX-License-Identifier: GPL-2.0
/*
 * in-flight: the operations that are under way are counted. The revoke refuses
 * new ones, has the sleepers woken, and waits for the count to come to zero;
 * the release of a descriptor is not counted. The counter is a percpu_ref, as in
 * the proposal of 2021 for character devices.
 *
 * It asks something of the driver: to know its sleepers, and to wake them for
 * good. A driver that cannot (no guard->wake) leaves the revoke waiting (J).
 */
#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/container_of.h>
#include <linux/err.h>
#include <linux/percpu-refcount.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "design.h"
#include "points.h"

struct in_flight {
	struct plugstorm_guard guard;
	struct percpu_ref users;	/* and the device's own, until the revoke */
	struct completion refused;	/* every CPU refuses new users */
	struct completion idle;		/* no user is left */
	bool revoked;
	void *res;
};

static void in_flight_confirm(struct percpu_ref *users)
{
	complete_all(&container_of(users, struct in_flight, users)->refused);
}

/* The last user has left; maybe in an interrupt. */
static void in_flight_release(struct percpu_ref *users)
{
	complete_all(&container_of(users, struct in_flight, users)->idle);
}

static struct plugstorm_guard *in_flight_init(void *resource)
{
	struct in_flight *fl = kzalloc(sizeof(*fl), GFP_KERNEL);
	int err;

	if (!fl)
		return ERR_PTR(-ENOMEM);

	err = percpu_ref_init(&fl->users, in_flight_release, 0, GFP_KERNEL);
	if (err) {
		kfree(fl);
		return ERR_PTR(err);
	}
	init_completion(&fl->refused);
	init_completion(&fl->idle);
	fl->res = resource;
	fl->guard.design = &plugstorm_in_flight;
	return &fl->guard;
}

static void *in_flight_open(struct plugstorm_guard *guard)
{
	return container_of(guard, struct in_flight, guard);
}

static void *in_flight_enter(void *handle, struct plugstorm_token *token)
{
	struct in_flight *fl = handle;

	if (!percpu_ref_tryget_live(&fl->users))
		return ERR_PTR(-ENODEV);

	PLUGSTORM_POINT_SLEEP("in-flight.counted");
	return fl->res;
}

static void in_flight_leave(void *handle, struct plugstorm_token *token)
{
	struct in_flight *fl = handle;

	PLUGSTORM_POINT_SLEEP("in-flight.before-count-down");
	percpu_ref_put(&fl->users);
}

/* New users are refused, on each CPU from some moment on: @refused is when it is on all. */
static void in_flight_refuse(struct in_flight *fl)
{
	if (!xchg(&fl->revoked, true))
		percpu_ref_kill_and_confirm(&fl->users, in_flight_confirm);
}

static void in_flight_wake(struct plugstorm_guard *guard)
{
	if (guard->wake)
		guard->wake(guard);
}

/*
 * The sleepers are woken when every CPU refuses: one that came in after the
 * waking would sleep on. This costs nothing: before that, the count is spread
 * over the CPUs and cannot be seen to be zero. A second call waits as the first
 * one does.
 */
static void in_flight_revoke(struct plugstorm_guard *guard)
{
	struct in_flight *fl = container_of(guard, struct in_flight, guard);

	in_flight_refuse(fl);
	wait_for_completion(&fl->refused);

	PLUGSTORM_POINT_SLEEP("in-flight.before-wake");
	in_flight_wake(guard);

	wait_for_completion(&fl->idle);
	plugstorm_no_tail_call();
}

/*
 * Step by step with all of them. The confirmation of each is a callback of RCU's
 * (Linux 6.12, lib/percpu-refcount.c: call_rcu_hurry()): those asked for together
 * come with one grace period. All sleepers are woken before any of them is waited
 * for, and to wait for one device's users is to wait for the others' too.
 */
static void in_flight_revoke_many(struct plugstorm_guard **guards, unsigned int count)
{
	unsigned int i;

	for (i = 0; i < count; i++)
		in_flight_refuse(container_of(guards[i], struct in_flight, guard));
	for (i = 0; i < count; i++)
		wait_for_completion(&container_of(guards[i], struct in_flight, guard)->refused);
	for (i = 0; i < count; i++)
		in_flight_wake(guards[i]);
	for (i = 0; i < count; i++)
		wait_for_completion(&container_of(guards[i], struct in_flight, guard)->idle);
}

static void in_flight_close(void *handle)
{
}

static void in_flight_destroy(struct plugstorm_guard *guard)
{
	struct in_flight *fl = container_of(guard, struct in_flight, guard);

	percpu_ref_exit(&fl->users);
	kfree(fl);
}

static void in_flight_show(struct plugstorm_guard *guard, struct seq_file *m)
{
	struct in_flight *fl = container_of(guard, struct in_flight, guard);

	if (completion_done(&fl->refused))
		seq_printf(m, "in-flight %lu refusing\n",
			   (unsigned long)atomic_long_read(&fl->users.data->count));
	else
		seq_puts(m, "in-flight counted by CPU\n");
}

const struct plugstorm_design plugstorm_in_flight = {
	.number = 8,
	.name = "in-flight",
	.atomic = true,
	.sleeps = true,
	.init = in_flight_init,
	.open = in_flight_open,
	.enter = in_flight_enter,
	.leave = in_flight_leave,
	.revoke = in_flight_revoke,
	.revoke_many = in_flight_revoke_many,
	.close = in_flight_close,
	.destroy = in_flight_destroy,
	.show = in_flight_show,
};
