// SPDX-License-Identifier: GPL-2.0
/*
 * Threads that go in and out of sections while the crew's first thread revokes, or
 * waits for a grace period. It publishes a handle for each of them, takes it back
 * when it is done, and closes it when they have let go of it.
 */
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/jiffies.h>
#include <linux/overflow.h>
#include <linux/sched.h>
#include <linux/slab.h>

#include "bench.h"

/* How long the first thread waits until the readers have come or gone. */
#define PLUGSTORM_READERS_WAIT	(20 * HZ)

static bool plugstorm_reader_stays(struct plugstorm_bench_readers *readers)
{
	return !READ_ONCE(readers->over) && !READ_ONCE(readers->crew->stop);
}

/*
 * As a consumer that is told that the device has gone, a reader that was refused
 * does not try again. It is as polite as rcuscale's readers are.
 */
static void plugstorm_reader(struct plugstorm_bench_readers *readers,
			     struct plugstorm_bench_reader *reader)
{
	bool refused = false;

	set_user_nice(current, MAX_NICE);
	while (plugstorm_reader_stays(readers)) {
		/* Pairs with plugstorm_reader_publish(): what is behind the handle is there. */
		void *handle = smp_load_acquire(&reader->handle);

		if (!handle || refused) {
			if (!handle) {
				refused = false;
				/* Pairs with plugstorm_reader_wait(): it uses no handle. */
				smp_store_release(&reader->away, reader->away + 1);
			}
			usleep_range(20, 50);
			continue;
		}
		switch (readers->section(readers, handle)) {
		case 0:
			WRITE_ONCE(reader->sections, reader->sections + 1);
			break;
		case -ENODEV:
			refused = true;
			break;
		default:
			plugstorm_crew_fail(readers->crew, -EIO, "a reader's enter failed");
		}
		cond_resched();
	}
	/* Pairs as above. */
	smp_store_release(&reader->ended, true);
}

static void plugstorm_readers_work(struct plugstorm_hand *hand)
{
	struct plugstorm_bench_readers *readers = hand->crew->job;

	if (hand->index) {
		plugstorm_reader(readers, &readers->reader[hand->index - 1]);
		return;
	}
	/* As rcuscale's writer, and as the thread that a slot's interrupt runs in. */
	sched_set_fifo_low(current);
	readers->act(readers);
	WRITE_ONCE(readers->over, true);
}

/* Has the first CPU @act, and as many readers as were asked for be at work, from @first_cpu on. */
int plugstorm_bench_readers_run(struct plugstorm_bench *bench, unsigned int first_cpu, void *job,
				void (*act)(struct plugstorm_bench_readers *readers),
				int (*section)(struct plugstorm_bench_readers *readers,
					       void *handle))
{
	unsigned int count = plugstorm_bench_asked(bench, READERS), i;
	struct plugstorm_bench_readers *readers;
	struct plugstorm_crew *crew;
	int err = -ENOMEM;

	readers = kvzalloc(struct_size(readers, reader, count), GFP_KERNEL);
	if (!readers)
		return plugstorm_bench_fail(bench, -ENOMEM, "no memory for %u readers", count);
	readers->count = count;
	readers->job = job;
	readers->act = act;
	readers->section = section;

	crew = plugstorm_crew_alloc(bench, 1 + count, 0, readers, plugstorm_readers_work);
	if (!crew)
		goto out;
	readers->crew = crew;
	for (i = 0; i < count; i++)
		crew->hands[1 + i].cpu = plugstorm_bench_cpu(first_cpu + i);

	err = plugstorm_crew_run(crew);
	plugstorm_crew_free(crew);
out:
	if (!bench->hung)
		kvfree(readers);
	return err;
}

/* Tells a reader, by the first thread, what to use from now on. */
void plugstorm_reader_publish(struct plugstorm_bench_reader *reader, void *handle)
{
	/* Pairs with plugstorm_reader()'s load. */
	smp_store_release(&reader->handle, handle);
}

/*
 * Waits, by the first thread, until the reader has counted on, or ended. False if
 * that took too long.
 */
static bool plugstorm_reader_wait(struct plugstorm_bench_readers *readers,
				  struct plugstorm_bench_reader *reader, const unsigned long *count)
{
	unsigned long until = jiffies + PLUGSTORM_READERS_WAIT;
	unsigned long from = READ_ONCE(*count);

	/* Pairs with plugstorm_reader()'s stores. */
	while (!smp_load_acquire(&reader->ended) && smp_load_acquire(count) == from) {
		if (time_after(jiffies, until)) {
			plugstorm_crew_fail(readers->crew, -ETIMEDOUT, "a reader does not come by");
			return false;
		}
		usleep_range(20, 50);
	}
	return true;
}

/*
 * When handles were published: waits until each of the first @count readers has
 * been inside. False if one was not, or all are to end.
 */
bool plugstorm_bench_readers_inside(struct plugstorm_bench_readers *readers, unsigned int count)
{
	unsigned int i;

	for (i = 0; i < count; i++) {
		struct plugstorm_bench_reader *reader = &readers->reader[i];

		if (!plugstorm_reader_wait(readers, reader, &reader->sections))
			return false;
	}
	return !READ_ONCE(readers->crew->stop);
}

/* Takes all handles back, and waits until no reader uses one. False if one may. */
bool plugstorm_bench_readers_away(struct plugstorm_bench_readers *readers)
{
	unsigned int i;

	for (i = 0; i < readers->count; i++)
		WRITE_ONCE(readers->reader[i].handle, NULL);
	for (i = 0; i < readers->count; i++) {
		struct plugstorm_bench_reader *reader = &readers->reader[i];

		if (!plugstorm_reader_wait(readers, reader, &reader->away))
			return false;
	}
	return true;
}
