// SPDX-License-Identifier: GPL-2.0
/*
 * What an object costs: the time of its init, open, close and destroy, and its
 * memory.
 *
 * The memory is what the kernel's own tracepoints say that the inits took: of the
 * slabs, with what an allocation is rounded up to, and of the per-CPU allocator for
 * all CPUs that may ever be there. Counters of the whole system would have others'
 * pages in them. Nothing is taken off for what an init frees again; none does.
 */
#include <linux/cpumask.h>
#include <linux/err.h>
#include <linux/mm.h>
#include <linux/rcupdate.h>
#include <linux/string.h>
#include <linux/timekeeping.h>
#include <linux/tracepoint.h>
#include <trace/events/kmem.h>
#include <trace/events/percpu.h>

#include "bench.h"

/* The samples of a round, in the place of threads. */
enum { ALLOCATE_INIT, ALLOCATE_OPEN, ALLOCATE_CLOSE, ALLOCATE_DESTROY };

static bool allocate_open(struct plugstorm_crew *crew, struct plugstorm_bench_objects *objects,
			  void **handles)
{
	const struct plugstorm_design *design = objects->design;
	unsigned int i;

	for (i = 0; i < objects->made; i++) {
		handles[i] = design->open(objects->guards[i]);
		if (IS_ERR(handles[i])) {
			plugstorm_crew_fail(crew, PTR_ERR(handles[i]), "an open failed");
			while (i--)
				design->close(handles[i]);
			return false;
		}
	}
	return true;
}

/* The inits check for an error and for the end as they go: two loads that are in the window. */
static bool allocate_round(struct plugstorm_crew *crew, struct plugstorm_bench_objects *objects,
			   void **handles, unsigned int round)
{
	const struct plugstorm_design *design = objects->design;
	struct plugstorm_bench *bench = crew->bench;
	unsigned int i, count = objects->count;
	bool made, opened = false;
	u64 start, ns;

	start = ktime_get_mono_fast_ns();
	made = !plugstorm_bench_objects_make(crew, objects);
	ns = ktime_get_mono_fast_ns() - start;
	if (made) {
		plugstorm_bench_sample(bench, round, ALLOCATE_INIT, ns, count);

		start = ktime_get_mono_fast_ns();
		opened = allocate_open(crew, objects, handles);
		ns = ktime_get_mono_fast_ns() - start;
	}
	plugstorm_bench_objects_revoke(objects);
	if (opened) {
		plugstorm_bench_sample(bench, round, ALLOCATE_OPEN, ns, count);

		start = ktime_get_mono_fast_ns();
		for (i = 0; i < count; i++)
			design->close(handles[i]);
		ns = ktime_get_mono_fast_ns() - start;
		plugstorm_bench_sample(bench, round, ALLOCATE_CLOSE, ns, count);
	}

	start = ktime_get_mono_fast_ns();
	plugstorm_bench_objects_destroy(objects);
	ns = ktime_get_mono_fast_ns() - start;
	if (opened)
		plugstorm_bench_sample(bench, round, ALLOCATE_DESTROY, ns, count);
	/* What is freed after a grace period, before the next round. */
	rcu_barrier();
	return opened;
}

static void allocate_work(struct plugstorm_hand *hand)
{
	struct plugstorm_crew *crew = hand->crew;
	struct plugstorm_bench_objects *objects = crew->job;
	unsigned int round;
	void **handles;

	handles = kvcalloc(objects->count, sizeof(*handles), GFP_KERNEL);
	if (!handles) {
		plugstorm_crew_fail(crew, -ENOMEM, "no memory for handles");
		return;
	}
	for (round = 0; round < plugstorm_bench_asked(crew->bench, ROUNDS); round++)
		if (!plugstorm_crew_goes_on(crew) ||
		    !allocate_round(crew, objects, handles, round))
			break;
	kvfree(handles);
}

static int allocate_run(struct plugstorm_bench *bench, void (*work)(struct plugstorm_hand *hand))
{
	struct plugstorm_bench_objects *objects;
	int err;

	objects = plugstorm_bench_objects_alloc(bench, plugstorm_bench_asked(bench, OBJECTS));
	if (!objects)
		return -ENOMEM;

	err = plugstorm_crew_one(bench, objects, work);
	if (!bench->hung)
		kvfree(objects);
	return err;
}

int plugstorm_bench_allocate(struct plugstorm_bench *bench)
{
	return allocate_run(bench, allocate_work);
}

/**
 * struct memory_taken - what the tracepoints say of one thread
 * @task:	the thread
 * @slab:	bytes of the slabs, as they were rounded up
 * @percpu:	bytes of the per-CPU allocator, of all CPUs
 */
struct memory_taken {
	struct task_struct *task;
	u64 slab;
	u64 percpu;
};

/* Of the thread itself alone: what an interrupt takes meanwhile is not its own. */
static bool memory_is_ours(const struct memory_taken *taken)
{
	return current == taken->task && in_task();
}

static void memory_kmalloc(void *data, unsigned long call_site, const void *ptr, size_t bytes_req,
			   size_t bytes_alloc, gfp_t gfp_flags, int node)
{
	struct memory_taken *taken = data;

	if (memory_is_ours(taken))
		taken->slab += bytes_alloc;
}

static void memory_percpu(void *data, unsigned long call_site, bool reserved, bool is_atomic,
			  size_t size, size_t align, void *base_addr, int off, void __percpu *ptr,
			  size_t bytes_alloc, gfp_t gfp_flags)
{
	struct memory_taken *taken = data;

	if (memory_is_ours(taken))
		taken->percpu += (u64)size * num_possible_cpus();
}

/* The per-CPU allocator's tracepoint is not exported, but can be found. */
static void memory_find(struct tracepoint *tracepoint, void *data)
{
	struct tracepoint **found = data;

	if (!strcmp(tracepoint->name, "percpu_alloc_percpu"))
		*found = tracepoint;
}

static void memory_measure(struct plugstorm_crew *crew, struct plugstorm_bench_objects *objects,
			   struct memory_taken *taken, void **handles)
{
	struct plugstorm_bench *bench = crew->bench;
	const struct plugstorm_design *design = objects->design;
	unsigned int i, opened = 0;
	u64 inits;

	/* Not what the registration itself took. */
	taken->slab = 0;
	taken->percpu = 0;
	if (plugstorm_bench_objects_make(crew, objects))
		goto out;
	inits = taken->slab + taken->percpu;
	plugstorm_bench_note(bench, "slab_bytes", taken->slab);
	plugstorm_bench_note(bench, "percpu_bytes", taken->percpu);
	if (!allocate_open(crew, objects, handles))
		goto out;
	opened = objects->count;
	plugstorm_bench_note(bench, "open_bytes", taken->slab + taken->percpu - inits);
	plugstorm_bench_sample(bench, 0, 0, inits, objects->count);
out:
	plugstorm_bench_objects_revoke(objects);
	for (i = 0; i < opened; i++)
		design->close(handles[i]);
	plugstorm_bench_objects_destroy(objects);
}

static void memory_work(struct plugstorm_hand *hand)
{
	struct plugstorm_crew *crew = hand->crew;
	struct plugstorm_bench_objects *objects = crew->job;
	struct memory_taken taken = { .task = current };
	struct tracepoint *percpu = NULL;
	void **handles;
	int err;

	for_each_kernel_tracepoint(memory_find, &percpu);
	if (!percpu) {
		plugstorm_crew_fail(crew, -EOPNOTSUPP,
				    "this kernel has no tracepoint of its per-CPU allocator");
		return;
	}
	handles = kvcalloc(objects->count, sizeof(*handles), GFP_KERNEL);
	if (!handles) {
		plugstorm_crew_fail(crew, -ENOMEM, "no memory for handles");
		return;
	}
	check_trace_callback_type_percpu_alloc_percpu(memory_percpu);
	err = register_trace_kmalloc(memory_kmalloc, &taken);
	if (!err) {
		err = tracepoint_probe_register(percpu, (void *)memory_percpu, &taken);
		if (!err) {
			memory_measure(crew, objects, &taken, handles);
			tracepoint_probe_unregister(percpu, (void *)memory_percpu, &taken);
		}
		unregister_trace_kmalloc(memory_kmalloc, &taken);
	}
	/* A probe may still be running, and has a pointer to our stack. */
	tracepoint_synchronize_unregister();
	if (err)
		plugstorm_crew_fail(crew, err, "the allocators' tracepoints cannot be used");
	rcu_barrier();
	kvfree(handles);
}

int plugstorm_bench_memory(struct plugstorm_bench *bench)
{
	return allocate_run(bench, memory_work);
}
