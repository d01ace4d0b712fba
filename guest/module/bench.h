/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the parts of plugstorm_bench.ko share: a request, its results, and the
 * threads that measure.
 *
 * No wait is without an end. A design that is wrong may hang its revoke; then the
 * measure fails, what the thread that hangs needs is left where it is, and the
 * module cannot be unloaded any more.
 */
#ifndef _PLUGSTORM_BENCH_H
#define _PLUGSTORM_BENCH_H

#include <linux/atomic.h>
#include <linux/cache.h>
#include <linux/completion.h>
#include <linux/compiler.h>
#include <linux/sched.h>
#include <linux/types.h>

#include "design.h"

/* At most so many samples, so that what is read stays below 128 KiB. */
#define PLUGSTORM_BENCH_SAMPLES	4000
#define PLUGSTORM_BENCH_NOTES	8

/* The words of a request. A measure wants some of them, and no other. */
enum plugstorm_bench_word {
	PLUGSTORM_BENCH_DESIGN,
	PLUGSTORM_BENCH_THREADS,
	PLUGSTORM_BENCH_OBJECTS,
	PLUGSTORM_BENCH_CONTEXT,
	PLUGSTORM_BENCH_ROUNDS,
	PLUGSTORM_BENCH_LOOPS,
	PLUGSTORM_BENCH_PRIMITIVE,
	PLUGSTORM_BENCH_READERS,
	PLUGSTORM_BENCH_HOLD_US,
	PLUGSTORM_BENCH_GAP_US,
	PLUGSTORM_BENCH_SLEEP_US,
	PLUGSTORM_BENCH_RESOURCES,
	PLUGSTORM_BENCH_BATCHED,
	PLUGSTORM_BENCH_EXPEDITED,
	PLUGSTORM_BENCH_OPERATION,
	PLUGSTORM_BENCH_WORDS,
};

/* Values of the words that have no number, in the order of their names in bench_request.c. */
enum plugstorm_bench_context {
	PLUGSTORM_BENCH_PROCESS,
	PLUGSTORM_BENCH_PREEMPT_OFF,
	PLUGSTORM_BENCH_SOFTIRQ,
	PLUGSTORM_BENCH_IRQS_OFF,	/* not to be asked for: as refscale measures */
};

enum plugstorm_bench_primitive {
	PLUGSTORM_BENCH_SRCU,
	PLUGSTORM_BENCH_RWSEM,
	PLUGSTORM_BENCH_REFCNT,
	PLUGSTORM_BENCH_RWLOCK,
	PLUGSTORM_BENCH_PERCPUINC,
};

enum plugstorm_bench_operation {
	PLUGSTORM_BENCH_PAIR,
	PLUGSTORM_BENCH_INIT,
	PLUGSTORM_BENCH_REVOKE,
	PLUGSTORM_BENCH_NOTHING,
};

struct plugstorm_bench;

/**
 * struct plugstorm_bench_measure - a kind of measure
 * @name:	in requests
 * @words:	a bit for each word that it wants
 * @width:	samples of a round; NULL: one
 * @run:	measures; 0, or an error for which plugstorm_bench_fail() was called
 */
struct plugstorm_bench_measure {
	const char *name;
	unsigned long words;
	unsigned int (*width)(const struct plugstorm_bench *bench);
	int (*run)(struct plugstorm_bench *bench);
};

/* A number, or the place of a name in its list: bench_request.c. */
struct plugstorm_bench_request {
	const struct plugstorm_bench_measure *measure;
	const struct plugstorm_design *design;
	unsigned int value[PLUGSTORM_BENCH_WORDS];
};

/* Of a request, 0 for a word that its measure does not have; by the rest of the word's name. */
#define plugstorm_bench_asked(bench, word) ((bench)->request.value[PLUGSTORM_BENCH_##word])

/**
 * struct plugstorm_bench - one measure
 * @request:	what was asked for
 * @width:	samples of a round, each a thread's or a part's
 * @samples:	by round, then by thread; %count 0 if there is none
 * @notes:	more to know
 * @noted:	how many of them
 * @failing:	somebody fails it; the first one to do so says why
 * @error:	0, or why there are no results
 * @sentence:	the same for people
 * @hung:	a thread has not come back: nothing that it may use can be freed
 */
struct plugstorm_bench {
	struct plugstorm_bench_request request;
	unsigned int width;
	struct plugstorm_bench_sample {
		u64 value;
		unsigned int count;
	} *samples;
	struct plugstorm_bench_note {
		const char *key;
		u64 value;
	} notes[PLUGSTORM_BENCH_NOTES];
	unsigned int noted;
	atomic_t failing;
	int error;
	char sentence[160];
	bool hung;
};

struct plugstorm_crew;

/**
 * struct plugstorm_hand - a thread of a measure
 * @crew:	its crew
 * @index:	its place there
 * @cpu:	the CPU that it is bound to
 * @work:	what it does
 * @task:	itself
 * @done:	it is no more
 */
struct plugstorm_hand {
	struct plugstorm_crew *crew;
	unsigned int index;
	unsigned int cpu;
	void (*work)(struct plugstorm_hand *hand);
	struct task_struct *task;
	struct completion done;
};

/**
 * struct plugstorm_crew - the threads of a measure
 * @bench:	the measure
 * @job:	the measure's own
 * @count:	how many
 * @left:	how many have not called plugstorm_crew_last()
 * @arrived:	how many wait in plugstorm_crew_meet()
 * @meetings:	how often all have met
 * @cooled:	timed passes that are over, of all rounds
 * @progress:	changes while there is any
 * @stop:	all are to end
 * @hands:	the threads
 */
struct plugstorm_crew {
	struct plugstorm_bench *bench;
	void *job;
	unsigned int count;
	atomic_t left;
	atomic_t arrived;
	unsigned int meetings;
	atomic_t cooled;
	unsigned long progress;
	bool stop;
	struct plugstorm_hand hands[] __counted_by(count);
};

/**
 * struct plugstorm_bench_objects - objects of a design, all guarding one resource
 * @design:	the design
 * @resource:	the resource, which nobody looks into
 * @count:	how many there are to be
 * @made:	and how many there are
 * @guards:	the objects
 */
struct plugstorm_bench_objects {
	const struct plugstorm_design *design;
	unsigned long resource;
	unsigned int count;
	unsigned int made;
	struct plugstorm_guard *guards[] __counted_by(count);
};

/* bench_main.c */
int plugstorm_bench_fail(struct plugstorm_bench *bench, int error, const char *sentence, ...)
	__printf(3, 4);
void plugstorm_bench_sample(struct plugstorm_bench *bench, unsigned int round, unsigned int thread,
			    u64 value, unsigned int count);
void plugstorm_bench_note(struct plugstorm_bench *bench, const char *key, u64 value);

/* bench_request.c */
int plugstorm_bench_parse(struct plugstorm_bench *bench, char *words);

/* bench_crew.c */
unsigned int plugstorm_bench_cpu(unsigned int index);
struct plugstorm_crew *plugstorm_crew_alloc(struct plugstorm_bench *bench, unsigned int count,
					    unsigned int first_cpu, void *job,
					    void (*work)(struct plugstorm_hand *hand));
int plugstorm_crew_run(struct plugstorm_crew *crew);
void plugstorm_crew_free(struct plugstorm_crew *crew);
bool plugstorm_crew_meet(struct plugstorm_crew *crew);
bool plugstorm_crew_last(struct plugstorm_crew *crew);
void plugstorm_crew_fail(struct plugstorm_crew *crew, int error, const char *what);
bool plugstorm_crew_goes_on(struct plugstorm_crew *crew);
int plugstorm_crew_one(struct plugstorm_bench *bench, void *job,
		       void (*work)(struct plugstorm_hand *hand));

/* bench_rounds.c */
void plugstorm_bench_rounds(struct plugstorm_hand *hand, enum plugstorm_bench_context context,
			    int (*pass)(void *of, unsigned int loops), void *of);

/* bench_objects.c */
struct plugstorm_bench_objects *plugstorm_bench_objects_alloc(struct plugstorm_bench *bench,
							      unsigned int count);
int plugstorm_bench_objects_make(struct plugstorm_crew *crew,
				 struct plugstorm_bench_objects *objects);
void plugstorm_bench_objects_revoke(struct plugstorm_bench_objects *objects);
void plugstorm_bench_objects_destroy(struct plugstorm_bench_objects *objects);
void plugstorm_bench_quiet(unsigned int us);

/**
 * struct plugstorm_bench_reader - what one reader goes through, and how far it is
 * @handle:	published for it; NULL: it is to stay away
 * @sections:	times it was inside
 * @away:	times it found nothing published
 * @ended:	it will not look again
 * @apart:	no two share a cache line, wherever the first one begins
 */
struct plugstorm_bench_reader {
	void *handle;
	unsigned long sections;
	unsigned long away;
	bool ended;
	u8 apart[L1_CACHE_BYTES];
};

/**
 * struct plugstorm_bench_readers - threads that go in and out while the first one does something
 * @crew:	all threads; the first is no reader
 * @act:	what the first one does
 * @section:	one section: 0, or what enter said
 * @job:	the measure's
 * @over:	the first one is done
 * @count:	how many readers
 * @reader:	the readers
 */
struct plugstorm_bench_readers {
	struct plugstorm_crew *crew;
	void (*act)(struct plugstorm_bench_readers *readers);
	int (*section)(struct plugstorm_bench_readers *readers, void *handle);
	void *job;
	bool over;
	unsigned int count;
	struct plugstorm_bench_reader reader[] __counted_by(count);
};

/* bench_readers.c */
int plugstorm_bench_readers_run(struct plugstorm_bench *bench, unsigned int first_cpu, void *job,
				void (*act)(struct plugstorm_bench_readers *readers),
				int (*section)(struct plugstorm_bench_readers *readers,
					       void *handle));
void plugstorm_reader_publish(struct plugstorm_bench_reader *reader, void *handle);
bool plugstorm_bench_readers_inside(struct plugstorm_bench_readers *readers, unsigned int count);
bool plugstorm_bench_readers_away(struct plugstorm_bench_readers *readers);

/* The measures, each in the file that its name says. */
extern const struct plugstorm_design plugstorm_bench_nothing;	/* enter and leave do nothing */
int plugstorm_bench_access(struct plugstorm_bench *bench);
int plugstorm_bench_primitive(struct plugstorm_bench *bench);
int plugstorm_bench_clock(struct plugstorm_bench *bench);
int plugstorm_bench_revoke(struct plugstorm_bench *bench);
int plugstorm_bench_grace_period(struct plugstorm_bench *bench);
int plugstorm_bench_sleeper(struct plugstorm_bench *bench);
int plugstorm_bench_revoke_many(struct plugstorm_bench *bench);
int plugstorm_bench_allocate(struct plugstorm_bench *bench);
int plugstorm_bench_memory(struct plugstorm_bench *bench);
int plugstorm_bench_instructions(struct plugstorm_bench *bench);

#endif /* _PLUGSTORM_BENCH_H */
