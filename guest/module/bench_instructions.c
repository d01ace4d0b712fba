// SPDX-License-Identifier: GPL-2.0
/*
 * How many instructions something takes, counted by the machine: plugstorm's own
 * has a counter, two I/O ports, if it was asked for one. Instructions do not depend
 * on what else the host does.
 */
#include <linux/bottom_half.h>
#include <linux/err.h>
#include <linux/io.h>
#include <linux/irqflags.h>
#include <linux/kconfig.h>

#include "bench.h"

/* The counter (vmm/machine). Written to the second: 1 begins, 0 ends, 2 chooses the locked ones. */
#define COUNTER_DATA	0x5c00
#define COUNTER_CONTROL	0x5c04
#define COUNTER_THERE	0x504c5331
#define COUNTER_BEGIN	1
#define COUNTER_END	0
#define COUNTER_LOCKED	2
/* What it gives when it has given up. */
#define COUNTER_TOO_MANY	0xffffffff

/* Of the last count of this CPU. */
static u32 counter_read(u32 *locked)
{
	u32 count = inl(COUNTER_DATA);

	outl(COUNTER_LOCKED, COUNTER_CONTROL);
	*locked = inl(COUNTER_DATA);
	return count;
}

/*
 * With interrupts off: the counter steps through each instruction, which is slow
 * enough for a tick to come in. Soft interrupts too, so that a might_sleep() of a
 * design that may sleep, but will not where it is alone, gives away no CPU.
 */
static bool counted_pair(const struct plugstorm_design *design, void *handle)
{
	struct plugstorm_token token;
	unsigned long flags;
	void *res;

	local_bh_disable();
	local_irq_save(flags);
	outl(COUNTER_BEGIN, COUNTER_CONTROL);
	res = design->enter(handle, &token);
	if (!IS_ERR(res))
		design->leave(handle, &token);
	outl(COUNTER_END, COUNTER_CONTROL);
	local_irq_restore(flags);
	local_bh_enable();
	return !IS_ERR(res);
}

static struct plugstorm_guard *counted_init(const struct plugstorm_design *design, void *resource)
{
	struct plugstorm_guard *guard;

	outl(COUNTER_BEGIN, COUNTER_CONTROL);
	guard = design->init(resource);
	outl(COUNTER_END, COUNTER_CONTROL);
	return guard;
}

static void counted_revoke(const struct plugstorm_design *design, struct plugstorm_guard *guard)
{
	outl(COUNTER_BEGIN, COUNTER_CONTROL);
	design->revoke(guard);
	outl(COUNTER_END, COUNTER_CONTROL);
}

/* One object from its init to its end, of which one operation is counted. */
static bool instructions_round(struct plugstorm_crew *crew, u32 *count, u32 *locked)
{
	enum plugstorm_bench_operation operation = plugstorm_bench_asked(crew->bench, OPERATION);
	const struct plugstorm_design *design = crew->bench->request.design;
	struct plugstorm_guard *guard;
	unsigned long resource = 0;
	bool entered = true;
	void *handle;

	if (operation == PLUGSTORM_BENCH_NOTHING) {
		counted_pair(&plugstorm_bench_nothing, crew);
		*count = counter_read(locked);
		return true;
	}

	if (operation == PLUGSTORM_BENCH_INIT) {
		guard = counted_init(design, &resource);
		*count = counter_read(locked);
	} else {
		guard = design->init(&resource);
	}
	if (IS_ERR(guard)) {
		plugstorm_crew_fail(crew, PTR_ERR(guard), "an init failed");
		return false;
	}

	if (operation == PLUGSTORM_BENCH_PAIR) {
		handle = design->open(guard);
		entered = !IS_ERR(handle) && counted_pair(design, handle);
		*count = counter_read(locked);
		if (!IS_ERR(handle))
			design->close(handle);
	}

	if (operation == PLUGSTORM_BENCH_REVOKE) {
		counted_revoke(design, guard);
		*count = counter_read(locked);
	} else {
		design->revoke(guard);
	}
	design->destroy(guard);
	if (!entered)
		plugstorm_crew_fail(crew, -EIO, "an enter failed");
	return entered;
}

static void instructions_work(struct plugstorm_hand *hand)
{
	struct plugstorm_crew *crew = hand->crew;
	unsigned int round;
	u32 count = 0, locked = 0;

	if (inl(COUNTER_CONTROL) != COUNTER_THERE) {
		plugstorm_crew_fail(crew, -ENODEV, "this machine counts no instructions");
		return;
	}
	for (round = 0; round < plugstorm_bench_asked(crew->bench, ROUNDS); round++) {
		if (!plugstorm_crew_goes_on(crew) || !instructions_round(crew, &count, &locked))
			return;
		if (count == COUNTER_TOO_MANY) {
			plugstorm_crew_fail(crew, -EIO, "more than the machine counts");
			return;
		}
		plugstorm_bench_sample(crew->bench, round, 0, count, 1);
	}
	plugstorm_bench_note(crew->bench, "locked", locked);
}

int plugstorm_bench_instructions(struct plugstorm_bench *bench)
{
	const struct plugstorm_design *design = bench->request.design;

	/* Nothing has no design, so the operation first. */
	if (plugstorm_bench_asked(bench, OPERATION) == PLUGSTORM_BENCH_PAIR &&
	    IS_ENABLED(CONFIG_DEBUG_ATOMIC_SLEEP) && !design->atomic)
		return plugstorm_bench_fail(bench, -EOPNOTSUPP,
					    "this kernel reports %s with interrupts off",
					    design->name);
	return plugstorm_crew_one(bench, NULL, instructions_work);
}
