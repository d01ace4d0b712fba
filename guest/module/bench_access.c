// SPDX-License-Identifier: GPL-2.0
/*
 * What it costs to enter and to leave: measure access, and measure nothing, which
 * is the same loop around functions that do nothing.
 */
#include <linux/err.h>
#include <linux/overflow.h>
#include <linux/slab.h>

#include "bench.h"

/* A reader that costs nothing. In this table, so that it is called as a design is. */
static void *nothing_enter(void *handle, struct plugstorm_token *token)
{
	return handle;
}

static void nothing_leave(void *handle, struct plugstorm_token *token)
{
}

const struct plugstorm_design plugstorm_bench_nothing = {
	.name = "nothing",
	.atomic = true,
	.sleeps = true,
	.enter = nothing_enter,
	.leave = nothing_leave,
};

/* What one thread goes through; by itself, as its handles are: see access_open(). */
struct access_thread {
	const struct plugstorm_design *design;
	unsigned int next;
	unsigned int opened;
	unsigned int handles_len;
	void *handles[] __counted_by(handles_len);
};

/*
 * The loop. Never inlined, so that it is the same machine code for all designs;
 * the functions are called through the design's pointers, read anew each time as
 * the calls might change them.
 */
static noinline int access_pass(void *of, unsigned int loops)
{
	struct access_thread *thread = of;
	const struct plugstorm_design *design = thread->design;
	unsigned int next = thread->next;
	struct plugstorm_token token;

	while (loops--) {
		void *handle = thread->handles[next];

		if (IS_ERR(design->enter(handle, &token)))
			return -EIO;
		design->leave(handle, &token);
		if (++next == thread->opened)
			next = 0;
	}
	thread->next = next;
	return 0;
}

/*
 * A handle of its own for each object, opened by the thread itself: from its CPU's
 * part of the allocator, as those of a driver's users mostly are. The objects of a
 * design whose handle is in the heap would else share cache lines by accident.
 */
static int access_open(struct plugstorm_crew *crew, struct access_thread *thread,
		       struct plugstorm_bench_objects *objects)
{
	while (thread->opened < objects->count) {
		void *handle = thread->design->open(objects->guards[thread->opened]);

		if (IS_ERR(handle)) {
			plugstorm_crew_fail(crew, PTR_ERR(handle), "an open failed");
			return PTR_ERR(handle);
		}
		thread->handles[thread->opened++] = handle;
	}
	return 0;
}

static void access_close(struct access_thread *thread)
{
	while (thread->opened)
		thread->design->close(thread->handles[--thread->opened]);
}

static struct access_thread *access_thread_alloc(const struct plugstorm_design *design,
						 unsigned int handles)
{
	struct access_thread *thread;

	thread = kvzalloc(struct_size(thread, handles, handles), GFP_KERNEL);
	if (thread) {
		thread->handles_len = handles;
		thread->design = design;
	}
	return thread;
}

static void access_rounds(struct plugstorm_hand *hand, struct plugstorm_bench_objects *objects)
{
	struct plugstorm_crew *crew = hand->crew;
	struct access_thread *thread = access_thread_alloc(objects->design, objects->count);

	if (!thread) {
		plugstorm_crew_fail(crew, -ENOMEM, "no memory for handles");
		return;
	}
	if (!access_open(crew, thread, objects))
		plugstorm_bench_rounds(hand, plugstorm_bench_asked(crew->bench, CONTEXT),
				       access_pass, thread);
	access_close(thread);
	kvfree(thread);
}

/* The first thread makes the objects, and the last one to be done with them takes them away. */
static void access_work(struct plugstorm_hand *hand)
{
	struct plugstorm_bench_objects *objects = hand->crew->job;

	if (!hand->index)
		plugstorm_bench_objects_make(hand->crew, objects);
	if (plugstorm_crew_meet(hand->crew))
		access_rounds(hand, objects);
	if (plugstorm_crew_last(hand->crew)) {
		plugstorm_bench_objects_revoke(objects);
		plugstorm_bench_objects_destroy(objects);
	}
}

static void nothing_work(struct plugstorm_hand *hand)
{
	struct plugstorm_crew *crew = hand->crew;
	struct access_thread *thread = access_thread_alloc(&plugstorm_bench_nothing, 1);

	if (!thread) {
		plugstorm_crew_fail(crew, -ENOMEM, "no memory for handles");
		return;
	}
	/* Any pointer that is no error. */
	thread->handles[thread->opened++] = thread;
	plugstorm_bench_rounds(hand, plugstorm_bench_asked(crew->bench, CONTEXT), access_pass,
			       thread);
	kvfree(thread);
}

static int access_run(struct plugstorm_bench *bench, void *job,
		      void (*work)(struct plugstorm_hand *hand))
{
	struct plugstorm_crew *crew;
	int err;

	crew = plugstorm_crew_alloc(bench, plugstorm_bench_asked(bench, THREADS), 0, job, work);
	if (!crew)
		return -ENOMEM;

	err = plugstorm_crew_run(crew);
	plugstorm_crew_free(crew);
	return err;
}

int plugstorm_bench_access(struct plugstorm_bench *bench)
{
	const struct plugstorm_design *design = bench->request.design;
	struct plugstorm_bench_objects *objects;
	int err;

	if (!design)
		return access_run(bench, NULL, nothing_work);
	if (plugstorm_bench_asked(bench, CONTEXT) != PLUGSTORM_BENCH_PROCESS && !design->atomic)
		return plugstorm_bench_fail(bench, -EOPNOTSUPP,
					    "%s cannot be entered there: it may sleep",
					    design->name);

	objects = plugstorm_bench_objects_alloc(bench, plugstorm_bench_asked(bench, OBJECTS));
	if (!objects)
		return -ENOMEM;

	err = access_run(bench, objects, access_work);
	if (!bench->hung)
		kvfree(objects);
	return err;
}
