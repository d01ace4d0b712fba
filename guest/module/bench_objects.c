// SPDX-License-Identifier: GPL-2.0
/*
 * Objects of a design, as many as a measure wants, outside of any window.
 */
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/overflow.h>
#include <linux/slab.h>

#include "bench.h"

/* Up to here a pause is busy: a sleep would be longer than what was asked for. */
#define PLUGSTORM_QUIET_BUSY_US	1000U

/* NULL, and the measure has failed, if there is no memory. */
struct plugstorm_bench_objects *plugstorm_bench_objects_alloc(struct plugstorm_bench *bench,
							      unsigned int count)
{
	struct plugstorm_bench_objects *objects;

	objects = kvzalloc(struct_size(objects, guards, count), GFP_KERNEL);
	if (!objects) {
		plugstorm_bench_fail(bench, -ENOMEM, "no memory for %u objects", count);
		return NULL;
	}
	objects->count = count;
	objects->design = bench->request.design;
	return objects;
}

/* Makes them. On failure the measure has failed; those that were made are in there. */
int plugstorm_bench_objects_make(struct plugstorm_crew *crew,
				 struct plugstorm_bench_objects *objects)
{
	while (objects->made < objects->count) {
		struct plugstorm_guard *guard = objects->design->init(&objects->resource);

		if (IS_ERR(guard)) {
			plugstorm_crew_fail(crew, PTR_ERR(guard), "an init failed");
			return PTR_ERR(guard);
		}
		objects->guards[objects->made++] = guard;
		if (!plugstorm_crew_goes_on(crew))
			return -EINTR;
	}
	return 0;
}

void plugstorm_bench_objects_revoke(struct plugstorm_bench_objects *objects)
{
	unsigned int i;

	if (!objects->made)
		return;
	if (objects->design->revoke_many) {
		objects->design->revoke_many(objects->guards, objects->made);
		return;
	}
	for (i = 0; i < objects->made; i++)
		objects->design->revoke(objects->guards[i]);
}

/* Those that were made and have been revoked. */
void plugstorm_bench_objects_destroy(struct plugstorm_bench_objects *objects)
{
	while (objects->made)
		objects->design->destroy(objects->guards[--objects->made]);
}

/* Lets so many microseconds pass, at least. */
void plugstorm_bench_quiet(unsigned int us)
{
	if (us <= PLUGSTORM_QUIET_BUSY_US)
		udelay(us);
	else
		usleep_range(us, us + us / 8);
}
