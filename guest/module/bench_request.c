// SPDX-License-Identifier: GPL-2.0
/*
 * What can be asked for: the measures, their words, and how large a number may be.
 *
 * A request is words "key=value" with one blank between them, in any order, each
 * once. The limits keep a round below a second on hardware, a measure's memory
 * below some hundred megabytes, and a sleeper below what the kernel calls a hang.
 */
#include <linux/bits.h>
#include <linux/cpumask.h>
#include <linux/kernel.h>
#include <linux/string.h>

#include "bench.h"

#define WORD(name) BIT(PLUGSTORM_BENCH_##name)

static unsigned int width_of_threads(const struct plugstorm_bench *bench)
{
	return plugstorm_bench_asked(bench, THREADS);
}

/* Inits, opens, closes and destroys. */
static unsigned int width_of_lives(const struct plugstorm_bench *bench)
{
	return 4;
}

static const struct plugstorm_bench_measure measures[] = {
	{
		.name = "access",
		.words = WORD(DESIGN) | WORD(THREADS) | WORD(OBJECTS) | WORD(CONTEXT) |
			 WORD(ROUNDS) | WORD(LOOPS),
		.width = width_of_threads,
		.run = plugstorm_bench_access,
	}, {
		.name = "nothing",
		.words = WORD(THREADS) | WORD(CONTEXT) | WORD(ROUNDS) | WORD(LOOPS),
		.width = width_of_threads,
		.run = plugstorm_bench_access,
	}, {
		.name = "clock",
		.words = WORD(ROUNDS) | WORD(LOOPS),
		.run = plugstorm_bench_clock,
	}, {
		.name = "primitive",
		.words = WORD(PRIMITIVE) | WORD(THREADS) | WORD(ROUNDS) | WORD(LOOPS),
		.width = width_of_threads,
		.run = plugstorm_bench_primitive,
	}, {
		.name = "revoke",
		.words = WORD(DESIGN) | WORD(READERS) | WORD(HOLD_US) | WORD(GAP_US) | WORD(ROUNDS),
		.run = plugstorm_bench_revoke,
	}, {
		.name = "sleeper",
		.words = WORD(DESIGN) | WORD(SLEEP_US) | WORD(ROUNDS),
		.run = plugstorm_bench_sleeper,
	}, {
		.name = "revoke-many",
		.words = WORD(DESIGN) | WORD(RESOURCES) | WORD(BATCHED) | WORD(ROUNDS),
		.run = plugstorm_bench_revoke_many,
	}, {
		.name = "grace-period",
		.words = WORD(READERS) | WORD(GAP_US) | WORD(EXPEDITED) | WORD(ROUNDS),
		.run = plugstorm_bench_grace_period,
	}, {
		.name = "allocate",
		.words = WORD(DESIGN) | WORD(OBJECTS) | WORD(ROUNDS),
		.width = width_of_lives,
		.run = plugstorm_bench_allocate,
	}, {
		.name = "memory",
		.words = WORD(DESIGN) | WORD(OBJECTS),
		.run = plugstorm_bench_memory,
	}, {
		.name = "instructions",
		.words = WORD(DESIGN) | WORD(OPERATION) | WORD(ROUNDS),
		.run = plugstorm_bench_instructions,
	},
};

static const char *const contexts[] = { "process", "preempt-off", "softirq", NULL };
static const char *const primitives[] = { "srcu", "rwsem", "refcnt", "rwlock", "percpuinc", NULL };
static const char *const operations[] = { "pair", "init", "revoke", "nothing", NULL };
static const char *const no_yes[] = { "no", "yes", NULL };

/* A word with names takes one of them; one without takes a number from @least to @most. */
static const struct {
	const char *name;
	const char *const *names;
	unsigned int least;
	unsigned int most;
} words[PLUGSTORM_BENCH_WORDS] = {
	[PLUGSTORM_BENCH_DESIGN] = { "design" },
	[PLUGSTORM_BENCH_THREADS] = { "threads", NULL, 1, 64 },
	[PLUGSTORM_BENCH_OBJECTS] = { "objects", NULL, 1, 1024 },
	[PLUGSTORM_BENCH_CONTEXT] = { "context", contexts },
	[PLUGSTORM_BENCH_ROUNDS] = { "rounds", NULL, 1, PLUGSTORM_BENCH_SAMPLES },
	[PLUGSTORM_BENCH_LOOPS] = { "loops", NULL, 1, 1000000 },
	[PLUGSTORM_BENCH_PRIMITIVE] = { "primitive", primitives },
	[PLUGSTORM_BENCH_READERS] = { "readers", NULL, 0, 64 },
	[PLUGSTORM_BENCH_HOLD_US] = { "hold_us", NULL, 0, 10000 },
	[PLUGSTORM_BENCH_GAP_US] = { "gap_us", NULL, 0, 100000 },
	[PLUGSTORM_BENCH_SLEEP_US] = { "sleep_us", NULL, 1, 10000000 },
	[PLUGSTORM_BENCH_RESOURCES] = { "resources", NULL, 1, 256 },
	[PLUGSTORM_BENCH_BATCHED] = { "batched", no_yes },
	[PLUGSTORM_BENCH_EXPEDITED] = { "expedited", no_yes },
	[PLUGSTORM_BENCH_OPERATION] = { "operation", operations },
};

static int parse_measure(struct plugstorm_bench *bench, const char *name)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(measures); i++) {
		if (strcmp(measures[i].name, name))
			continue;
		bench->request.measure = &measures[i];
		return 0;
	}
	return plugstorm_bench_fail(bench, -EINVAL, "there is no measure \"%s\"", name);
}

static int parse_value(struct plugstorm_bench *bench, enum plugstorm_bench_word word,
		       const char *text)
{
	unsigned int *value = &bench->request.value[word];
	int found;

	if (word == PLUGSTORM_BENCH_DESIGN) {
		bench->request.design = plugstorm_design_by_name(text);
		if (bench->request.design)
			return 0;
		return plugstorm_bench_fail(bench, -EINVAL, "there is no design \"%s\"", text);
	}
	if (words[word].names) {
		for (found = 0; words[word].names[found]; found++) {
			if (strcmp(words[word].names[found], text))
				continue;
			*value = found;
			return 0;
		}
		return plugstorm_bench_fail(bench, -EINVAL, "%s cannot be \"%s\"",
					    words[word].name, text);
	}
	if (kstrtouint(text, 10, value) || *value < words[word].least || *value > words[word].most)
		return plugstorm_bench_fail(bench, -EINVAL,
					    "%s is a number from %u to %u, not \"%s\"",
					    words[word].name, words[word].least, words[word].most,
					    text);
	return 0;
}

/* One word but "measure", whose bit it adds to @seen. */
static int parse_word(struct plugstorm_bench *bench, char *key, char *text, unsigned long *seen)
{
	int word;

	for (word = 0; word < PLUGSTORM_BENCH_WORDS; word++)
		if (!strcmp(words[word].name, key))
			break;
	if (word == PLUGSTORM_BENCH_WORDS)
		return plugstorm_bench_fail(bench, -EINVAL, "there is no word \"%s\"", key);
	if (*seen & BIT(word))
		return plugstorm_bench_fail(bench, -EINVAL, "%s comes twice", key);

	*seen |= BIT(word);
	return parse_value(bench, word, text);
}

/* The words that a request must have, and may: nothing is of no design. */
static unsigned long wanted_words(const struct plugstorm_bench *bench)
{
	unsigned long wanted = bench->request.measure->words;

	if (wanted & WORD(OPERATION) &&
	    plugstorm_bench_asked(bench, OPERATION) == PLUGSTORM_BENCH_NOTHING)
		wanted &= ~WORD(DESIGN);
	return wanted;
}

/* What only all words together tell. */
static int check(struct plugstorm_bench *bench, unsigned long seen)
{
	const struct plugstorm_bench_measure *measure = bench->request.measure;
	unsigned int rounds = plugstorm_bench_asked(bench, ROUNDS);
	unsigned long wanted, wrong;

	if (!measure)
		return plugstorm_bench_fail(bench, -EINVAL, "the word measure is missing");
	wanted = wanted_words(bench);
	wrong = wanted & ~seen;
	if (wrong)
		return plugstorm_bench_fail(bench, -EINVAL, "measure %s wants the word %s",
					    measure->name, words[__ffs(wrong)].name);
	wrong = seen & ~wanted;
	if (wrong)
		return plugstorm_bench_fail(bench, -EINVAL, "measure %s has no word %s",
					    measure->name, words[__ffs(wrong)].name);
	if (plugstorm_bench_asked(bench, THREADS) > num_online_cpus())
		return plugstorm_bench_fail(bench, -EINVAL,
					    "%u threads are more than there are CPUs (%u)",
					    plugstorm_bench_asked(bench, THREADS),
					    num_online_cpus());

	bench->width = measure->width ? measure->width(bench) : 1;
	if (rounds * bench->width > PLUGSTORM_BENCH_SAMPLES)
		return plugstorm_bench_fail(bench, -EINVAL,
					    "%u rounds of %u samples are more than %u",
					    rounds, bench->width, PLUGSTORM_BENCH_SAMPLES);
	return 0;
}

/* Takes a request apart, and @text with it. 0, or -EINVAL and a sentence. */
int plugstorm_bench_parse(struct plugstorm_bench *bench, char *text)
{
	unsigned long seen = 0;
	char *key, *value;
	int err;

	while (text) {
		value = strsep(&text, " ");
		key = strsep(&value, "=");
		if (!value)
			return plugstorm_bench_fail(bench, -EINVAL, "\"%s\" is no key=value", key);
		if (strcmp(key, "measure"))
			err = parse_word(bench, key, value, &seen);
		else if (bench->request.measure)
			err = plugstorm_bench_fail(bench, -EINVAL, "measure comes twice");
		else
			err = parse_measure(bench, value);
		if (err)
			return err;
	}
	return check(bench, seen);
}
