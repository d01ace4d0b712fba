// SPDX-License-Identifier: GPL-2.0
/*
 * How long it takes to revoke all resources of one device: one after another, or
 * by the design's revoke of many. Nobody is inside.
 */
#include <linux/mm.h>
#include <linux/rcupdate.h>
#include <linux/timekeeping.h>

#include "bench.h"

/*
 * Between the last init and the window, as a device lives for a while: longer than
 * srcutree.exp_holdoff, 25 us, that it be no matter how long the inits took.
 */
#define PLUGSTORM_MANY_QUIET_US	1000

static u64 many_timed(struct plugstorm_bench_objects *objects)
{
	const struct plugstorm_design *design = objects->design;
	unsigned int i, made = objects->made;
	u64 start = ktime_get_mono_fast_ns();

	for (i = 0; i < made; i++)
		design->revoke(objects->guards[i]);
	return ktime_get_mono_fast_ns() - start;
}

static u64 many_timed_batched(struct plugstorm_bench_objects *objects)
{
	const struct plugstorm_design *design = objects->design;
	u64 start = ktime_get_mono_fast_ns();

	design->revoke_many(objects->guards, objects->made);
	return ktime_get_mono_fast_ns() - start;
}

static bool many_round(struct plugstorm_crew *crew, unsigned int round)
{
	struct plugstorm_bench_objects *objects = crew->job;
	bool batched = plugstorm_bench_asked(crew->bench, BATCHED);
	bool made = !plugstorm_bench_objects_make(crew, objects);
	u64 ns;

	if (made) {
		plugstorm_bench_quiet(PLUGSTORM_MANY_QUIET_US);
		ns = batched ? many_timed_batched(objects) : many_timed(objects);
		plugstorm_bench_sample(crew->bench, round, 0, ns, objects->made);
	} else {
		plugstorm_bench_objects_revoke(objects);
	}
	plugstorm_bench_objects_destroy(objects);
	/* What is freed after a grace period, before the next round. */
	rcu_barrier();
	return made;
}

static void many_work(struct plugstorm_hand *hand)
{
	unsigned int round;

	sched_set_fifo_low(current);
	for (round = 0; round < plugstorm_bench_asked(hand->crew->bench, ROUNDS); round++)
		if (!plugstorm_crew_goes_on(hand->crew) || !many_round(hand->crew, round))
			return;
}

int plugstorm_bench_revoke_many(struct plugstorm_bench *bench)
{
	const struct plugstorm_design *design = bench->request.design;
	struct plugstorm_bench_objects *objects;
	int err;

	if (plugstorm_bench_asked(bench, BATCHED) && !design->revoke_many)
		return plugstorm_bench_fail(bench, -EOPNOTSUPP,
					    "%s can only be revoked one after another",
					    design->name);

	objects = plugstorm_bench_objects_alloc(bench, plugstorm_bench_asked(bench, RESOURCES));
	if (!objects)
		return -ENOMEM;

	err = plugstorm_crew_one(bench, objects, many_work);
	if (!bench->hung)
		kvfree(objects);
	return err;
}
