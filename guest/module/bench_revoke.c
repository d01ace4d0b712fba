// SPDX-License-Identifier: GPL-2.0
/*
 * How long a revoke takes, with readers that come and go; and how long a plain
 * grace period does, as the kernel's rcuscale measures it (kernel/rcu/rcuscale.c).
 */
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/irqflags.h>
#include <linux/minmax.h>
#include <linux/slab.h>
#include <linux/srcu.h>
#include <linux/timekeeping.h>

#include "bench.h"

/* udelay() takes no more than a few milliseconds at a time. */
#define PLUGSTORM_HOLD_SLICE_US	1000U

static int revoke_section(struct plugstorm_bench_readers *readers, void *handle)
{
	const struct plugstorm_bench *bench = readers->crew->bench;
	const struct plugstorm_design *design = bench->request.design;
	unsigned int us = plugstorm_bench_asked(bench, HOLD_US);
	struct plugstorm_token token;
	void *res = design->enter(handle, &token);

	if (IS_ERR(res))
		return PTR_ERR(res);

	while (us) {
		unsigned int slice = min(us, PLUGSTORM_HOLD_SLICE_US);

		udelay(slice);
		us -= slice;
	}
	design->leave(handle, &token);
	return 0;
}

/* Each reader has its own handle: two on one are a defect's matter, not a cost. */
static unsigned int revoke_open(struct plugstorm_bench_readers *readers,
				struct plugstorm_guard *guard, void **handles)
{
	const struct plugstorm_design *design = guard->design;
	unsigned int i;

	for (i = 0; i < readers->count; i++) {
		handles[i] = design->open(guard);
		if (IS_ERR(handles[i])) {
			plugstorm_crew_fail(readers->crew, PTR_ERR(handles[i]), "an open failed");
			break;
		}
		plugstorm_reader_publish(&readers->reader[i], handles[i]);
	}
	return i;
}

static u64 revoke_timed(struct plugstorm_guard *guard)
{
	const struct plugstorm_design *design = guard->design;
	u64 start = ktime_get_mono_fast_ns();

	design->revoke(guard);
	return ktime_get_mono_fast_ns() - start;
}

/* One object from its init to its end. Gives false if there is to be no other round. */
static bool revoke_round(struct plugstorm_bench_readers *readers, unsigned int round)
{
	struct plugstorm_crew *crew = readers->crew;
	const struct plugstorm_design *design = crew->bench->request.design;
	void **handles = readers->job;
	struct plugstorm_guard *guard;
	unsigned long resource = 0;
	unsigned int opened;
	bool inside;
	u64 ns;

	guard = design->init(&resource);
	if (IS_ERR(guard)) {
		plugstorm_crew_fail(crew, PTR_ERR(guard), "an init failed");
		return false;
	}
	opened = revoke_open(readers, guard, handles);
	inside = opened == readers->count && plugstorm_bench_readers_inside(readers, opened);
	if (inside)
		plugstorm_bench_quiet(plugstorm_bench_asked(crew->bench, GAP_US));
	ns = revoke_timed(guard);
	/* Handles that a reader may still have cannot be closed. */
	if (!plugstorm_bench_readers_away(readers)) {
		crew->bench->hung = true;
		return false;
	}

	while (opened)
		design->close(handles[--opened]);
	design->destroy(guard);
	if (inside)
		plugstorm_bench_sample(crew->bench, round, 0, ns, 1);
	return inside;
}

static void revoke_act(struct plugstorm_bench_readers *readers)
{
	struct plugstorm_bench *bench = readers->crew->bench;
	unsigned int round;

	for (round = 0; round < plugstorm_bench_asked(bench, ROUNDS); round++)
		if (!plugstorm_crew_goes_on(readers->crew) || !revoke_round(readers, round))
			return;
}

int plugstorm_bench_revoke(struct plugstorm_bench *bench)
{
	unsigned int readers = plugstorm_bench_asked(bench, READERS);
	void **handles;
	int err;

	handles = kcalloc(max(readers, 1U), sizeof(*handles), GFP_KERNEL);
	if (!handles)
		return plugstorm_bench_fail(bench, -ENOMEM, "no memory for handles");

	/* Beside the revoke's CPU first: on the same one a reader is rarely inside at its begin. */
	err = plugstorm_bench_readers_run(bench, 1, handles, revoke_act, revoke_section);
	if (!bench->hung)
		kfree(handles);
	return err;
}

/* As rcuscale's readers. */
static int grace_period_section(struct plugstorm_bench_readers *readers, void *handle)
{
	struct srcu_struct *domain = handle;
	unsigned long flags;
	int idx;

	local_irq_save(flags);
	idx = srcu_read_lock(domain);
	srcu_read_unlock(domain, idx);
	local_irq_restore(flags);
	return 0;
}

static u64 grace_period_timed(struct srcu_struct *domain, bool expedited)
{
	u64 start = ktime_get_mono_fast_ns();

	if (expedited)
		synchronize_srcu_expedited(domain);
	else
		synchronize_srcu(domain);
	return ktime_get_mono_fast_ns() - start;
}

static void grace_period_act(struct plugstorm_bench_readers *readers)
{
	struct plugstorm_bench *bench = readers->crew->bench;
	struct srcu_struct *domain = readers->job;
	unsigned int i;

	for (i = 0; i < readers->count; i++)
		plugstorm_reader_publish(&readers->reader[i], domain);
	if (!plugstorm_bench_readers_inside(readers, readers->count))
		return;

	for (i = 0; i < plugstorm_bench_asked(bench, ROUNDS); i++) {
		u64 ns;

		if (!plugstorm_crew_goes_on(readers->crew))
			return;
		plugstorm_bench_quiet(plugstorm_bench_asked(bench, GAP_US));
		ns = grace_period_timed(domain, plugstorm_bench_asked(bench, EXPEDITED));
		plugstorm_bench_sample(bench, i, 0, ns, 1);
	}
}

int plugstorm_bench_grace_period(struct plugstorm_bench *bench)
{
	struct srcu_struct *domain = kzalloc(sizeof(*domain), GFP_KERNEL);
	int err;

	/* Not a static one: rcuscale's srcud has one that was made when it was loaded, too. */
	if (!domain || init_srcu_struct(domain)) {
		kfree(domain);
		return plugstorm_bench_fail(bench, -ENOMEM, "no memory for a domain");
	}
	/* rcuscale's readers begin with the writer's own CPU. */
	err = plugstorm_bench_readers_run(bench, 0, domain, grace_period_act, grace_period_section);
	if (bench->hung)
		return err;

	cleanup_srcu_struct(domain);
	kfree(domain);
	return err;
}
