// SPDX-License-Identifier: GPL-2.0
/*
 * plugstorm_bench.ko: what the designs cost. It uses them as a driver would,
 * through struct plugstorm_design, without a device.
 *
 * A write to /sys/kernel/debug/plugstorm_bench/run is one measure; results is what
 * the last one gave, or "error" and a sentence.
 */
#include <linux/debugfs.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/jiffies.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/stdarg.h>
#include <linux/string.h>

#include "bench.h"

/* The longest request. A longer one is refused, not cut. */
#define PLUGSTORM_BENCH_LINE	255

static DEFINE_MUTEX(plugstorm_bench_lock);		/* one measure at a time, and @last */
static struct plugstorm_bench *plugstorm_bench_last;	/* what results shows */
static bool plugstorm_bench_spoilt;			/* a thread of an earlier one hangs */
static struct dentry *plugstorm_bench_folder;

/* Why there are no results. Of several who say so the first one counts. Gives @error. */
int plugstorm_bench_fail(struct plugstorm_bench *bench, int error, const char *sentence, ...)
{
	va_list arguments;

	if (atomic_xchg(&bench->failing, 1))
		return error;

	va_start(arguments, sentence);
	vscnprintf(bench->sentence, sizeof(bench->sentence), sentence, arguments);
	va_end(arguments);
	WRITE_ONCE(bench->error, error);
	return error;
}

/* By any thread, each its own samples. */
void plugstorm_bench_sample(struct plugstorm_bench *bench, unsigned int round, unsigned int thread,
			    u64 value, unsigned int count)
{
	struct plugstorm_bench_sample *sample = &bench->samples[round * bench->width + thread];

	sample->value = value;
	sample->count = count;
}

/* By one thread. */
void plugstorm_bench_note(struct plugstorm_bench *bench, const char *key, u64 value)
{
	if (bench->noted == PLUGSTORM_BENCH_NOTES)
		return;

	bench->notes[bench->noted].key = key;
	bench->notes[bench->noted].value = value;
	bench->noted++;
}

static void plugstorm_bench_free(struct plugstorm_bench *bench)
{
	/* A thread that hangs may come back and write. */
	if (!bench || bench->hung)
		return;

	kvfree(bench->samples);
	kfree(bench);
}

static int plugstorm_bench_measure(struct plugstorm_bench *bench, char *text)
{
	unsigned int samples;
	int err;

	if (plugstorm_bench_spoilt)
		return plugstorm_bench_fail(bench, -ETIMEDOUT,
					    "an earlier measure hangs: only a new guest can measure");

	err = plugstorm_bench_parse(bench, text);
	if (err)
		return err;

	/* A measure without rounds is one. */
	samples = max(plugstorm_bench_asked(bench, ROUNDS), 1U) * bench->width;
	bench->samples = kvcalloc(samples, sizeof(*bench->samples), GFP_KERNEL);
	if (!bench->samples)
		return plugstorm_bench_fail(bench, -ENOMEM, "no memory for %u samples", samples);

	plugstorm_bench_note(bench, "cpus", num_online_cpus());
	plugstorm_bench_note(bench, "hz", HZ);
	err = bench->request.measure->run(bench);
	if (bench->hung) {
		/* Its text must stay. */
		__module_get(THIS_MODULE);
		plugstorm_bench_spoilt = true;
	}
	return err;
}

static ssize_t plugstorm_bench_write(struct file *file, const char __user *buf, size_t count,
				     loff_t *ppos)
{
	struct plugstorm_bench *bench;
	char *text;
	int err;

	if (!count || count > PLUGSTORM_BENCH_LINE)
		return -EINVAL;
	if (mutex_lock_killable(&plugstorm_bench_lock))
		return -EINTR;

	text = memdup_user_nul(buf, count);
	if (IS_ERR(text)) {
		err = PTR_ERR(text);
		goto out;
	}
	bench = kzalloc(sizeof(*bench), GFP_KERNEL);
	if (!bench) {
		err = -ENOMEM;
		goto out_text;
	}

	/* A NUL would hide what comes after it. One newline is what echo adds. */
	if (strlen(text) != count)
		err = plugstorm_bench_fail(bench, -EINVAL, "a request is text");
	else
		err = plugstorm_bench_measure(bench, strim(text));
	plugstorm_bench_free(plugstorm_bench_last);
	plugstorm_bench_last = bench;
out_text:
	kfree(text);
out:
	mutex_unlock(&plugstorm_bench_lock);
	return err ?: count;
}

static void plugstorm_bench_show_samples(struct seq_file *m, const struct plugstorm_bench *bench)
{
	unsigned int rounds = max(plugstorm_bench_asked(bench, ROUNDS), 1U);
	unsigned int round, thread;

	for (round = 0; round < rounds; round++) {
		for (thread = 0; thread < bench->width; thread++) {
			const struct plugstorm_bench_sample *sample =
				&bench->samples[round * bench->width + thread];

			if (sample->count)
				seq_printf(m, "%u %u %llu %u\n", round, thread, sample->value,
					   sample->count);
		}
	}
}

static int plugstorm_bench_show(struct seq_file *m, void *data)
{
	const struct plugstorm_bench *bench;
	unsigned int note;

	if (mutex_lock_killable(&plugstorm_bench_lock))
		return -EINTR;

	bench = plugstorm_bench_last;
	if (bench && READ_ONCE(bench->error)) {
		seq_printf(m, "error %s\n", bench->sentence);
	} else if (bench) {
		plugstorm_bench_show_samples(m, bench);
		for (note = 0; note < bench->noted; note++)
			seq_printf(m, "note %s %llu\n", bench->notes[note].key,
				   bench->notes[note].value);
	}
	mutex_unlock(&plugstorm_bench_lock);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(plugstorm_bench);

static const struct file_operations plugstorm_bench_run_fops = {
	.owner = THIS_MODULE,
	.open = simple_open,
	.write = plugstorm_bench_write,
	.llseek = noop_llseek,
};

static int __init plugstorm_bench_init(void)
{
	plugstorm_bench_folder = debugfs_create_dir("plugstorm_bench", NULL);
	debugfs_create_file("run", 0200, plugstorm_bench_folder, NULL, &plugstorm_bench_run_fops);
	debugfs_create_file("results", 0400, plugstorm_bench_folder, NULL, &plugstorm_bench_fops);
	return 0;
}

static void __exit plugstorm_bench_exit(void)
{
	debugfs_remove(plugstorm_bench_folder);
	plugstorm_bench_free(plugstorm_bench_last);
}

module_init(plugstorm_bench_init);
module_exit(plugstorm_bench_exit);

MODULE_DESCRIPTION("What plugstorm's designs cost");
MODULE_LICENSE("GPL");
