// SPDX-License-Identifier: GPL-2.0
/*
 * The resource: its memory, and its revocation.
 */
#include <linux/atomic.h>
#include <linux/bug.h>
#include <linux/gfp.h>
#include <linux/mm.h>
#include <linux/moduleparam.h>
#include <linux/overflow.h>
#include <linux/slab.h>

#include "plugstorm.h"
#include "points.h"

#define PLUGSTORM_CANARY	0x5053a11fe0000000ULL
#define PLUGSTORM_CANARY_FREED	0x5053dead00000000ULL

bool plugstorm_canaries = true;
module_param_named(canary, plugstorm_canaries, bool, 0444);
MODULE_PARM_DESC(canary, "Warn when a revoked resource is used, also where the kernel would not notice (default: true)");

/* Gives NULL if there is no memory. Sets the device's canary, of which no two are alike. */
struct plugstorm_resource *plugstorm_resource_alloc(struct plugstorm_device *pd)
{
	static atomic_t serial = ATOMIC_INIT(0);
	struct plugstorm_resource *res;

	res = kzalloc(struct_size(res, lines, pd->ngpio), GFP_KERNEL);
	if (!res)
		return NULL;

	res->levels = alloc_page(GFP_KERNEL | __GFP_ZERO);
	if (!res->levels) {
		kfree(res);
		return NULL;
	}
	spin_lock_init(&res->lock);
	INIT_LIST_HEAD(&res->pending);
	init_waitqueue_head(&res->space);
	pd->canary = PLUGSTORM_CANARY + (u32)atomic_inc_return(&serial);
	res->canary = pd->canary;
	return res;
}

void plugstorm_resource_free(struct plugstorm_resource *res)
{
	WRITE_ONCE(res->canary, PLUGSTORM_CANARY_FREED);
	put_page(res->levels);
	kfree(res);
}

/* Of all devices since the module was loaded. */
atomic_t plugstorm_uses_after_free = ATOMIC_INIT(0);

/*
 * A function of its own so that the warning's title says what happened. Each use
 * counts, and the first of a device warns: a guest that lives on shows that
 * there were more, and does not drown in reports of them.
 */
noinline void plugstorm_used_after_free(struct plugstorm_device *pd, u64 found)
{
	atomic_inc(&plugstorm_uses_after_free);
	WARN(atomic_inc_return(&pd->used_after_free) == 1,
	     "plugstorm: resource used after it was revoked and freed (canary %#llx)\n", found);
}

/*
 * Takes the resource away and frees it. By the promise of a design nobody uses
 * it from here on. Not inlined, and in another file than its callers, so that
 * it shows in stacks and a kprobe finds it by this name.
 */
noinline void plugstorm_revoke(struct plugstorm_device *pd)
{
	WRITE_ONCE(pd->phase, PLUGSTORM_REVOKING);
	pd->guard->design->revoke(pd->guard);
	if (plugstorm_point_armed("driver.revoke-twice"))
		pd->guard->design->revoke(pd->guard);
	WRITE_ONCE(pd->phase, PLUGSTORM_REVOKED);

	/* The plant for who looks for lost memory. */
	if (!plugstorm_point_armed("driver.forget"))
		plugstorm_resource_free(pd->resource);
	pd->resource = NULL;
}
