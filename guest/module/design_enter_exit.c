// SPDX-License-Identifier: GPL-2.0
/*
 * enter-exit: as DRM's drm_dev_enter() and drm_dev_exit(). One SRCU structure
 * for all devices, and a flag for each.
 *
 * No device costs a grace period or per-CPU memory of its own; but the removal
 * of one waits for the readers of all. A reader that sleeps inside (J), on
 * whichever device, holds up every removal.
 */
#include <linux/container_of.h>
#include <linux/err.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/srcu.h>

#include "design.h"
#include "points.h"

DEFINE_STATIC_SRCU(enter_exit_srcu);

struct enter_exit {
	struct plugstorm_guard guard;
	bool unplugged;
	void *res;		/* dangles when unplugged */
};

static struct plugstorm_guard *enter_exit_init(void *resource)
{
	struct enter_exit *ee = kzalloc(sizeof(*ee), GFP_KERNEL);

	if (!ee)
		return ERR_PTR(-ENOMEM);

	ee->res = resource;
	ee->guard.design = &plugstorm_enter_exit;
	return &ee->guard;
}

static void *enter_exit_open(struct plugstorm_guard *guard)
{
	return container_of(guard, struct enter_exit, guard);
}

static void *enter_exit_enter(void *handle, struct plugstorm_token *token)
{
	struct enter_exit *ee = handle;

	token->idx = srcu_read_lock(&enter_exit_srcu);
	PLUGSTORM_POINT_SLEEP("enter-exit.locked");
	if (!READ_ONCE(ee->unplugged))
		return ee->res;

	srcu_read_unlock(&enter_exit_srcu, token->idx);
	return ERR_PTR(-ENODEV);
}

static void enter_exit_leave(void *handle, struct plugstorm_token *token)
{
	PLUGSTORM_POINT_SLEEP("enter-exit.before-unlock");
	srcu_read_unlock(&enter_exit_srcu, token->idx);
}

static void enter_exit_revoke(struct plugstorm_guard *guard)
{
	struct enter_exit *ee = container_of(guard, struct enter_exit, guard);

	WRITE_ONCE(ee->unplugged, true);
	PLUGSTORM_POINT_SLEEP("enter-exit.flagged");
	synchronize_srcu(&enter_exit_srcu);
	plugstorm_no_tail_call();
}

/*
 * One wait for all: the domain is everybody's, so a grace period that begins when
 * the last flag is set waits for whoever may have seen any of them unset.
 */
static void enter_exit_revoke_many(struct plugstorm_guard **guards, unsigned int count)
{
	unsigned int i;

	for (i = 0; i < count; i++)
		WRITE_ONCE(container_of(guards[i], struct enter_exit, guard)->unplugged, true);
	synchronize_srcu(&enter_exit_srcu);
	plugstorm_no_tail_call();
}

static void enter_exit_close(void *handle)
{
}

static void enter_exit_destroy(struct plugstorm_guard *guard)
{
	kfree(container_of(guard, struct enter_exit, guard));
}

/* The counts are those of all devices together. */
static void enter_exit_show(struct plugstorm_guard *guard, struct seq_file *m)
{
	struct enter_exit *ee = container_of(guard, struct enter_exit, guard);

	seq_printf(m, "unplugged %d\n", READ_ONCE(ee->unplugged));
	plugstorm_srcu_show(m, &enter_exit_srcu);
}

const struct plugstorm_design plugstorm_enter_exit = {
	.number = 11,
	.name = "enter-exit",
	.atomic = true,
	.sleeps = true,
	.init = enter_exit_init,
	.open = enter_exit_open,
	.enter = enter_exit_enter,
	.leave = enter_exit_leave,
	.revoke = enter_exit_revoke,
	.revoke_many = enter_exit_revoke_many,
	.close = enter_exit_close,
	.destroy = enter_exit_destroy,
	.show = enter_exit_show,
};
