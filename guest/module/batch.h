/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Grace periods of several SRCU domains that are waited for together, for the
 * designs that have a domain for each object.
 *
 * synchronize_srcu() begins a grace period and waits for its end; called for one
 * domain after another, the waits add up. call_srcu() begins one and comes back
 * at once, so that all of them run at the same time. Polling
 * (start_poll_synchronize_srcu()) would do as well, but it has nobody to wake
 * whoever waits.
 *
 * What it costs: call_srcu() never expedites (Linux 6.12, kernel/rcu/srcutree.c:
 * it is synchronize_srcu() that asks srcu_might_be_idle()). The grace periods run
 * side by side, but each of them takes jiffies where a synchronize_srcu() of an
 * idle domain may take microseconds.
 */
#ifndef _PLUGSTORM_BATCH_H
#define _PLUGSTORM_BATCH_H

#include <linux/atomic.h>
#include <linux/completion.h>
#include <linux/container_of.h>
#include <linux/srcu.h>

/**
 * struct plugstorm_batch - grace periods that somebody waits for, on its stack
 * @running:	how many have not ended, and one for the caller until it waits
 * @ended:	all have
 */
struct plugstorm_batch {
	atomic_t running;
	struct completion ended;
};

/**
 * struct plugstorm_batched - one of them, in the object whose domain it is of
 * @rcu:	call_srcu()'s
 * @batch:	whose part it is
 *
 * In the object because a revoke must not fail for want of memory.
 */
struct plugstorm_batched {
	struct rcu_head rcu;
	struct plugstorm_batch *batch;
};

static inline void plugstorm_batch_init(struct plugstorm_batch *batch)
{
	atomic_set(&batch->running, 1);
	init_completion(&batch->ended);
}

static inline void plugstorm_batch_put(struct plugstorm_batch *batch)
{
	if (atomic_dec_and_test(&batch->running))
		complete(&batch->ended);
}

static inline void plugstorm_batch_ended(struct rcu_head *rcu)
{
	plugstorm_batch_put(container_of(rcu, struct plugstorm_batched, rcu)->batch);
}

/* Begins a grace period of @ssp. @one is the batch's until plugstorm_batch_wait() has returned. */
static inline void plugstorm_batch_begin(struct plugstorm_batch *batch,
					 struct plugstorm_batched *one, struct srcu_struct *ssp)
{
	one->batch = batch;
	atomic_inc(&batch->running);
	call_srcu(ssp, &one->rcu, plugstorm_batch_ended);
}

/*
 * Waits for all that were begun. The domains may be cleaned up afterwards: that
 * waits for the callbacks.
 */
static inline void plugstorm_batch_wait(struct plugstorm_batch *batch)
{
	plugstorm_batch_put(batch);
	wait_for_completion(&batch->ended);
}

#endif /* _PLUGSTORM_BATCH_H */
