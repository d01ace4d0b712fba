// SPDX-License-Identifier: GPL-2.0
/*
 * /sys/kernel/debug/plugstorm/N/state: what a hung removal looks like from the
 * inside. It takes no lock that a revoke holds while it waits. It goes with the
 * device, and uses of a freed resource may come later: of these all devices have
 * one count, /sys/kernel/debug/plugstorm/used_after_free.
 */
#include <linux/debugfs.h>
#include <linux/kernel.h>
#include <linux/seq_file.h>

#include "plugstorm.h"
#include "points.h"

static struct dentry *plugstorm_debugfs_root;

static const char *const plugstorm_phase_names[] = {
	[PLUGSTORM_LIVE] = "live",
	[PLUGSTORM_GONE] = "gone",
	[PLUGSTORM_REVOKING] = "revoking",
	[PLUGSTORM_REVOKED] = "revoked",
};

static int plugstorm_state_show(struct seq_file *m, void *data)
{
	struct plugstorm_device *pd = m->private;
	const struct plugstorm_design *design = pd->guard->design;

	seq_printf(m, "design %s\n", design->name);
	seq_printf(m, "phase %s\n", plugstorm_phase_names[READ_ONCE(pd->phase)]);
	seq_printf(m, "opens %d\n", atomic_read(&pd->opens));
	seq_printf(m, "used_after_free %u\n", (unsigned int)atomic_read(&pd->used_after_free));
	if (design->show)
		design->show(pd->guard, m);
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(plugstorm_state);

/* The last thing of a probe before the device can be opened; the guard is there. */
void plugstorm_debugfs_add(struct plugstorm_device *pd)
{
	char name[12];

	snprintf(name, sizeof(name), "%d", pd->id);
	pd->debugfs = debugfs_create_dir(name, plugstorm_debugfs_root);
	debugfs_create_file("state", 0444, pd->debugfs, pd, &plugstorm_state_fops);
}

/* Waits for a reader of the file; afterwards it reads as EIO. */
void plugstorm_debugfs_remove(struct plugstorm_device *pd)
{
	debugfs_remove(pd->debugfs);
}

void plugstorm_debugfs_init(void)
{
	plugstorm_debugfs_root = debugfs_create_dir("plugstorm", NULL);
	debugfs_create_atomic_t("used_after_free", 0444, plugstorm_debugfs_root,
				&plugstorm_uses_after_free);
	plugstorm_points_add(plugstorm_debugfs_root);
}

void plugstorm_debugfs_exit(void)
{
	debugfs_remove(plugstorm_debugfs_root);
}
