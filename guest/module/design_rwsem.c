// SPDX-License-Identifier: GPL-2.0
/*
 * rwsem: a reader-writer semaphore for each device, and a flag.
 *
 * What is wrong with it is not a race. From the moment that the revoke waits,
 * new readers queue behind it, though they would only be told to go away: a
 * reader that sleeps inside (J) holds up everybody. A section inside another
 * one of the same device can lock up for the same reason. And it cannot be
 * entered where sleeping is not allowed.
 *
 * No revoke of many at once: to wait for the readers of all devices together one
 * would have to hold, or queue for, the write sides of all. There is no waiting
 * for several semaphores, and to take a second one while a first is held stops
 * the readers of the first for as long as the second's take, and deadlocks with a
 * thread that is inside both.
 */
#include <linux/container_of.h>
#include <linux/err.h>
#include <linux/rwsem.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "design.h"
#include "points.h"

struct rwsem_guard {
	struct plugstorm_guard guard;
	struct rw_semaphore sem;
	bool revoked;		/* under @sem */
	void *res;
};

static struct plugstorm_guard *rwsem_init(void *resource)
{
	struct rwsem_guard *rg = kzalloc(sizeof(*rg), GFP_KERNEL);

	if (!rg)
		return ERR_PTR(-ENOMEM);

	init_rwsem(&rg->sem);
	rg->res = resource;
	rg->guard.design = &plugstorm_rwsem;
	return &rg->guard;
}

static void *rwsem_open(struct plugstorm_guard *guard)
{
	return container_of(guard, struct rwsem_guard, guard);
}

static void *rwsem_enter(void *handle, struct plugstorm_token *token)
{
	struct rwsem_guard *rg = handle;
	int err = down_read_killable(&rg->sem);

	if (err)
		return ERR_PTR(err);

	PLUGSTORM_POINT_SLEEP("rwsem.locked");
	if (!rg->revoked)
		return rg->res;

	up_read(&rg->sem);
	return ERR_PTR(-ENODEV);
}

static void rwsem_leave(void *handle, struct plugstorm_token *token)
{
	struct rwsem_guard *rg = handle;

	PLUGSTORM_POINT_SLEEP("rwsem.before-unlock");
	up_read(&rg->sem);
}

static void rwsem_revoke(struct plugstorm_guard *guard)
{
	struct rwsem_guard *rg = container_of(guard, struct rwsem_guard, guard);

	down_write(&rg->sem);
	PLUGSTORM_POINT_SLEEP("rwsem.locked-to-revoke");
	WRITE_ONCE(rg->revoked, true);
	up_write(&rg->sem);
}

static void rwsem_close(void *handle)
{
}

static void rwsem_destroy(struct plugstorm_guard *guard)
{
	kfree(container_of(guard, struct rwsem_guard, guard));
}

static void rwsem_show(struct plugstorm_guard *guard, struct seq_file *m)
{
	struct rwsem_guard *rg = container_of(guard, struct rwsem_guard, guard);

	seq_printf(m, "rwsem locked %d contended %d revoked %d\n", !!rwsem_is_locked(&rg->sem),
		   !!rwsem_is_contended(&rg->sem), READ_ONCE(rg->revoked));
}

const struct plugstorm_design plugstorm_rwsem = {
	.number = 6,
	.name = "rwsem",
	.atomic = false,
	.sleeps = true,
	.init = rwsem_init,
	.open = rwsem_open,
	.enter = rwsem_enter,
	.leave = rwsem_leave,
	.revoke = rwsem_revoke,
	.close = rwsem_close,
	.destroy = rwsem_destroy,
	.show = rwsem_show,
};
