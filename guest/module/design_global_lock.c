// SPDX-License-Identifier: GPL-2.0
/*
 * global-lock: one mutex, held across every operation on every device. After an
 * abandoned attempt for misc devices.
 *
 * It is right, and of little use: all users of all devices wait for each other.
 * One that sleeps inside (J) hangs them all, the removals of other devices among
 * them. A section inside another one, of whichever device, locks itself out.
 */
#include <linux/container_of.h>
#include <linux/err.h>
#include <linux/mutex.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "design.h"
#include "points.h"

static DEFINE_MUTEX(global_lock);

struct global_lock_guard {
	struct plugstorm_guard guard;
	void *res;		/* under the lock; NULL when revoked */
};

static struct plugstorm_guard *global_lock_init(void *resource)
{
	struct global_lock_guard *gl = kzalloc(sizeof(*gl), GFP_KERNEL);

	if (!gl)
		return ERR_PTR(-ENOMEM);

	gl->res = resource;
	gl->guard.design = &plugstorm_global_lock;
	return &gl->guard;
}

static void *global_lock_open(struct plugstorm_guard *guard)
{
	return container_of(guard, struct global_lock_guard, guard);
}

static void *global_lock_enter(void *handle, struct plugstorm_token *token)
{
	struct global_lock_guard *gl = handle;

	mutex_lock(&global_lock);
	PLUGSTORM_POINT_SLEEP("global-lock.locked");
	if (gl->res)
		return gl->res;

	mutex_unlock(&global_lock);
	return ERR_PTR(-ENODEV);
}

static void global_lock_leave(void *handle, struct plugstorm_token *token)
{
	PLUGSTORM_POINT_SLEEP("global-lock.before-unlock");
	mutex_unlock(&global_lock);
}

static void global_lock_revoke(struct plugstorm_guard *guard)
{
	struct global_lock_guard *gl = container_of(guard, struct global_lock_guard, guard);

	mutex_lock(&global_lock);
	PLUGSTORM_POINT_SLEEP("global-lock.locked-to-revoke");
	WRITE_ONCE(gl->res, NULL);
	mutex_unlock(&global_lock);
}

/* One wait for all: who holds the lock keeps everybody out of all devices. */
static void global_lock_revoke_many(struct plugstorm_guard **guards, unsigned int count)
{
	unsigned int i;

	mutex_lock(&global_lock);
	for (i = 0; i < count; i++)
		WRITE_ONCE(container_of(guards[i], struct global_lock_guard, guard)->res, NULL);
	mutex_unlock(&global_lock);
}

static void global_lock_close(void *handle)
{
}

static void global_lock_destroy(struct plugstorm_guard *guard)
{
	kfree(container_of(guard, struct global_lock_guard, guard));
}

static void global_lock_show(struct plugstorm_guard *guard, struct seq_file *m)
{
	struct global_lock_guard *gl = container_of(guard, struct global_lock_guard, guard);

	seq_printf(m, "global-lock locked %d revoked %d\n", mutex_is_locked(&global_lock),
		   !READ_ONCE(gl->res));
}

const struct plugstorm_design plugstorm_global_lock = {
	.number = 9,
	.name = "global-lock",
	.atomic = false,
	.sleeps = true,
	.init = global_lock_init,
	.open = global_lock_open,
	.enter = global_lock_enter,
	.leave = global_lock_leave,
	.revoke = global_lock_revoke,
	.revoke_many = global_lock_revoke_many,
	.close = global_lock_close,
	.destroy = global_lock_destroy,
	.show = global_lock_show,
};
