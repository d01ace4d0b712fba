// SPDX-License-Identifier: GPL-2.0
/*
 * devres-bound: what Rust's Devres does where the caller cannot prove that the
 * device is bound. The section is one of RCU, and a flag says whether the
 * resource is there; the revoke takes the flag back and waits for RCU.
 *
 * None of the defects, by construction: nobody sleeps inside, so the wait has an
 * end. The baseline for cost.
 *
 * Not here: free access with a proof that the device is bound, and
 * revoke_nosync() for where there can be no reader. In a driver that is stormed
 * there always can be one.
 */
#include <linux/atomic.h>
#include <linux/container_of.h>
#include <linux/err.h>
#include <linux/rcupdate.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "design.h"
#include "points.h"

struct devres_bound {
	struct plugstorm_guard guard;
	bool available;
	void *res;		/* dangles when no longer available */
};

static struct plugstorm_guard *devres_bound_init(void *resource)
{
	struct devres_bound *db = kzalloc(sizeof(*db), GFP_KERNEL);

	if (!db)
		return ERR_PTR(-ENOMEM);

	db->res = resource;
	db->available = true;
	db->guard.design = &plugstorm_devres_bound;
	return &db->guard;
}

static void *devres_bound_open(struct plugstorm_guard *guard)
{
	return container_of(guard, struct devres_bound, guard);
}

static void *devres_bound_enter(void *handle, struct plugstorm_token *token)
{
	struct devres_bound *db = handle;

	rcu_read_lock();
	PLUGSTORM_POINT_SPIN("devres-bound.locked");
	if (READ_ONCE(db->available))
		return db->res;

	rcu_read_unlock();
	return ERR_PTR(-ENODEV);
}

static void devres_bound_leave(void *handle, struct plugstorm_token *token)
{
	PLUGSTORM_POINT_SPIN("devres-bound.before-unlock");
	rcu_read_unlock();
}

/* As in Rust, only the call that takes the flag waits. */
static void devres_bound_revoke(struct plugstorm_guard *guard)
{
	struct devres_bound *db = container_of(guard, struct devres_bound, guard);

	if (!xchg(&db->available, false))
		return;

	PLUGSTORM_POINT_SLEEP("devres-bound.flagged");
	synchronize_rcu();
	plugstorm_no_tail_call();
}

/*
 * One wait for all: RCU is everybody's, so a grace period that begins when the
 * last flag was taken waits for whoever may have seen any of them.
 */
static void devres_bound_revoke_many(struct plugstorm_guard **guards, unsigned int count)
{
	bool taken = false;
	unsigned int i;

	for (i = 0; i < count; i++)
		if (xchg(&container_of(guards[i], struct devres_bound, guard)->available, false))
			taken = true;
	if (!taken)
		return;

	synchronize_rcu();
	plugstorm_no_tail_call();
}

static void devres_bound_close(void *handle)
{
}

static void devres_bound_destroy(struct plugstorm_guard *guard)
{
	kfree(container_of(guard, struct devres_bound, guard));
}

static void devres_bound_show(struct plugstorm_guard *guard, struct seq_file *m)
{
	struct devres_bound *db = container_of(guard, struct devres_bound, guard);

	seq_printf(m, "available %d\n", READ_ONCE(db->available));
}

const struct plugstorm_design plugstorm_devres_bound = {
	.number = 12,
	.name = "devres-bound",
	.atomic = true,
	.sleeps = false,
	.init = devres_bound_init,
	.open = devres_bound_open,
	.enter = devres_bound_enter,
	.leave = devres_bound_leave,
	.revoke = devres_bound_revoke,
	.revoke_many = devres_bound_revoke_many,
	.close = devres_bound_close,
	.destroy = devres_bound_destroy,
	.show = devres_bound_show,
};
