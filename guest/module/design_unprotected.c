// SPDX-License-Identifier: GPL-2.0
/*
 * unprotected: a plain pointer, and nothing that keeps its target alive.
 *
 * The control. A harness that does not catch this one catches nothing.
 */
#include <linux/container_of.h>
#include <linux/err.h>
#include <linux/slab.h>

#include "design.h"
#include "points.h"

struct unprotected {
	struct plugstorm_guard guard;
	void *res;	/* never cleared: it dangles after the revoke */
};

static struct plugstorm_guard *unprotected_init(void *resource)
{
	struct unprotected *un = kzalloc(sizeof(*un), GFP_KERNEL);

	if (!un)
		return ERR_PTR(-ENOMEM);

	un->guard.design = &plugstorm_unprotected;
	un->res = resource;
	return &un->guard;
}

static void *unprotected_open(struct plugstorm_guard *guard)
{
	return container_of(guard, struct unprotected, guard);
}

static void *unprotected_enter(void *handle, struct plugstorm_token *token)
{
	struct unprotected *un = handle;
	void *res = un->res;

	PLUGSTORM_POINT_SLEEP("unprotected.loaded");
	return res;
}

static void unprotected_leave(void *handle, struct plugstorm_token *token)
{
}

static void unprotected_revoke(struct plugstorm_guard *guard)
{
}

static void unprotected_close(void *handle)
{
}

static void unprotected_destroy(struct plugstorm_guard *guard)
{
	kfree(container_of(guard, struct unprotected, guard));
}

const struct plugstorm_design plugstorm_unprotected = {
	.number = 1,
	.name = "unprotected",
	.atomic = true,
	.sleeps = true,
	.init = unprotected_init,
	.open = unprotected_open,
	.enter = unprotected_enter,
	.leave = unprotected_leave,
	.revoke = unprotected_revoke,
	.close = unprotected_close,
	.destroy = unprotected_destroy,
};
