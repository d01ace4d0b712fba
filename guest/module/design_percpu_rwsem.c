// SPDX-License-Identifier: GPL-2.0
/*
 * percpu-rwsem: as rwsem, with the semaphore whose readers share no cache line.
 *
 * Its price is the write side, which waits for a grace period of RCU before it
 * even looks at the readers: a revoke may take hundreds of milliseconds.
 * Otherwise as rwsem; and a reader that waits cannot be killed.
 *
 * No revoke of many at once, for rwsem's reasons. The grace periods alone could be
 * had together (rcu_sync_enter() of all), but percpu_down_write() has no half of
 * it for others to call.
 */
#include <linux/container_of.h>
#include <linux/err.h>
#include <linux/percpu-rwsem.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "design.h"
#include "points.h"

struct percpu_guard {
	struct plugstorm_guard guard;
	struct percpu_rw_semaphore sem;
	bool revoked;		/* under @sem */
	void *res;
};

static struct plugstorm_guard *percpu_rwsem_init(void *resource)
{
	struct percpu_guard *pg = kzalloc(sizeof(*pg), GFP_KERNEL);
	int err;

	if (!pg)
		return ERR_PTR(-ENOMEM);

	err = percpu_init_rwsem(&pg->sem);
	if (err) {
		kfree(pg);
		return ERR_PTR(err);
	}
	pg->res = resource;
	pg->guard.design = &plugstorm_percpu_rwsem;
	return &pg->guard;
}

static void *percpu_rwsem_open(struct plugstorm_guard *guard)
{
	return container_of(guard, struct percpu_guard, guard);
}

static void *percpu_rwsem_enter(void *handle, struct plugstorm_token *token)
{
	struct percpu_guard *pg = handle;

	percpu_down_read(&pg->sem);
	PLUGSTORM_POINT_SLEEP("percpu-rwsem.locked");
	if (!pg->revoked)
		return pg->res;

	percpu_up_read(&pg->sem);
	return ERR_PTR(-ENODEV);
}

static void percpu_rwsem_leave(void *handle, struct plugstorm_token *token)
{
	struct percpu_guard *pg = handle;

	PLUGSTORM_POINT_SLEEP("percpu-rwsem.before-unlock");
	percpu_up_read(&pg->sem);
}

static void percpu_rwsem_revoke(struct plugstorm_guard *guard)
{
	struct percpu_guard *pg = container_of(guard, struct percpu_guard, guard);

	percpu_down_write(&pg->sem);
	PLUGSTORM_POINT_SLEEP("percpu-rwsem.locked-to-revoke");
	WRITE_ONCE(pg->revoked, true);
	percpu_up_write(&pg->sem);
}

static void percpu_rwsem_close(void *handle)
{
}

static void percpu_rwsem_destroy(struct plugstorm_guard *guard)
{
	struct percpu_guard *pg = container_of(guard, struct percpu_guard, guard);

	percpu_free_rwsem(&pg->sem);
	kfree(pg);
}

static void percpu_rwsem_show(struct plugstorm_guard *guard, struct seq_file *m)
{
	struct percpu_guard *pg = container_of(guard, struct percpu_guard, guard);

	seq_printf(m, "percpu-rwsem read %d write %d revoked %d\n",
		   percpu_is_read_locked(&pg->sem), !!percpu_is_write_locked(&pg->sem),
		   READ_ONCE(pg->revoked));
}

const struct plugstorm_design plugstorm_percpu_rwsem = {
	.number = 7,
	.name = "percpu-rwsem",
	.atomic = false,
	.sleeps = true,
	.init = percpu_rwsem_init,
	.open = percpu_rwsem_open,
	.enter = percpu_rwsem_enter,
	.leave = percpu_rwsem_leave,
	.revoke = percpu_rwsem_revoke,
	.close = percpu_rwsem_close,
	.destroy = percpu_rwsem_destroy,
	.show = percpu_rwsem_show,
};
