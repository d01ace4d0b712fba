// SPDX-License-Identifier: GPL-2.0
/*
 * Delay points: what an armed one does, and the debugfs file that arms them.
 *
 * Reading /sys/kernel/debug/plugstorm/points gives a line for each point, "name
 * kind delay_us every hits". Writing "name delay_us every" arms one, with a
 * delay of 0 disarms it, and in both cases begins to count its hits anew.
 */
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/preempt.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "points.h"

/* A name, two numbers, and what stands between them. A longer line is refused, not cut. */
#define PLUGSTORM_POINT_LINE	96

/* udelay() takes no more than a few milliseconds at a time. */
#define PLUGSTORM_POINT_SLICE_US	1000

static DEFINE_MUTEX(plugstorm_points_lock);	/* arming */

static const char *const plugstorm_point_kinds[] = {
	[PLUGSTORM_SPIN] = "spin",
	[PLUGSTORM_SLEEP] = "sleep",
	[PLUGSTORM_KNOB] = "knob",
};

static void plugstorm_point_spin(unsigned int us)
{
	while (us) {
		unsigned int slice = min_t(unsigned int, us, PLUGSTORM_POINT_SLICE_US);

		udelay(slice);
		us -= slice;
	}
}

/*
 * A kernel that does not count preemption off cannot tell whether a spinlock is
 * held; this driver has no sleeping point below one.
 */
static bool plugstorm_point_may_sleep(void)
{
	if (IS_ENABLED(CONFIG_PREEMPT_COUNT))
		return preemptible();
	return !in_interrupt() && !irqs_disabled();
}

/* An armed point was reached. Gives whether it was its turn. */
bool plugstorm_point_hit(struct plugstorm_point *point)
{
	unsigned int us = READ_ONCE(point->delay_us);
	unsigned int every = READ_ONCE(point->every);
	unsigned int hits = atomic_inc_return(&point->hits);

	/* Disarmed in the meantime. */
	if (!us || !every)
		return false;
	if (hits % every)
		return false;

	if (point->kind == PLUGSTORM_SLEEP && plugstorm_point_may_sleep())
		usleep_range(us, us + us / 8 + 1);
	else if (point->kind != PLUGSTORM_KNOB)
		plugstorm_point_spin(us);
	return true;
}

/* Gives NULL if there is none of this name. */
static struct plugstorm_point *plugstorm_point_find(const char *name)
{
	struct plugstorm_point *const *point;

	for (point = plugstorm_points + 1; *point; point++)
		if (!strcmp((*point)->name, name))
			return *point;
	return NULL;
}

static void plugstorm_point_arm(struct plugstorm_point *point, unsigned int us, unsigned int every)
{
	mutex_lock(&plugstorm_points_lock);
	WRITE_ONCE(point->every, every);
	WRITE_ONCE(point->delay_us, us);
	atomic_set(&point->hits, 0);
	if (us)
		static_branch_enable(&point->armed);
	else
		static_branch_disable(&point->armed);
	mutex_unlock(&plugstorm_points_lock);
}

/*
 * Takes a line apart, one blank between its words. Not by sscanf(), which takes
 * the end of a name that is too long for the first number, and the low bits of
 * a number that is too large for the number.
 */
static int plugstorm_point_parse(char *line, char **name, unsigned int *us, unsigned int *every)
{
	char *rest = strim(line), *delay;
	int err;

	*name = strsep(&rest, " ");
	delay = strsep(&rest, " ");
	if (!rest)
		return -EINVAL;

	err = kstrtouint(delay, 10, us) ?: kstrtouint(rest, 10, every);
	if (err)
		return err;
	if (*us > PLUGSTORM_POINT_MAX_US || !*every || *every > PLUGSTORM_POINT_MAX_EVERY)
		return -ERANGE;
	return 0;
}

static ssize_t plugstorm_points_write(struct file *file, const char __user *buf, size_t count,
				      loff_t *ppos)
{
	struct plugstorm_point *point;
	unsigned int us, every;
	char *line, *name;
	int err;

	if (count > PLUGSTORM_POINT_LINE)
		return -E2BIG;

	line = memdup_user_nul(buf, count);
	if (IS_ERR(line))
		return PTR_ERR(line);

	/* A NUL would hide what comes after it. */
	err = strlen(line) == count ? plugstorm_point_parse(line, &name, &us, &every) : -EINVAL;
	if (err)
		goto out;

	point = plugstorm_point_find(name);
	if (point)
		plugstorm_point_arm(point, us, every);
	else
		err = -ENOENT;
out:
	kfree(line);
	return err ?: count;
}

static int plugstorm_points_show(struct seq_file *m, void *data)
{
	struct plugstorm_point *const *entry;

	for (entry = plugstorm_points + 1; *entry; entry++) {
		struct plugstorm_point *point = *entry;

		seq_printf(m, "%s %s %u %u %u\n", point->name, plugstorm_point_kinds[point->kind],
			   READ_ONCE(point->delay_us), READ_ONCE(point->every),
			   (unsigned int)atomic_read(&point->hits));
	}
	return 0;
}

static int plugstorm_points_open(struct inode *inode, struct file *file)
{
	return single_open(file, plugstorm_points_show, NULL);
}

static const struct file_operations plugstorm_points_fops = {
	.owner = THIS_MODULE,
	.open = plugstorm_points_open,
	.read = seq_read,
	.write = plugstorm_points_write,
	.llseek = seq_lseek,
	.release = single_release,
};

void plugstorm_points_add(struct dentry *folder)
{
	debugfs_create_file("points", 0600, folder, NULL, &plugstorm_points_fops);
}
