// SPDX-License-Identifier: GPL-2.0
/*
 * The file operations of /dev/plugstormN.
 *
 * Nothing but the design's enter and leave stands between an operation and the
 * resource: no look at the device's phase, no lock of the driver's. A defect of
 * the design is meant to show. Memory of user space is touched outside the
 * section, so that a page fault does not lengthen it.
 */
#include <linux/container_of.h>
#include <linux/delay.h>
#include <linux/err.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "plugstorm.h"
#include "plugstorm_uapi.h"

/* How long PLUGSTORM_HOLD spins between two looks at the resource. */
#define PLUGSTORM_HOLD_SLICE_US	10

/**
 * struct plugstorm_file - what an open description keeps
 * @pd:		the device, which the open character device keeps
 * @handle:	the design's, shared by all threads that use the description
 */
struct plugstorm_file {
	struct plugstorm_device *pd;
	void *handle;
};

static struct plugstorm_resource *plugstorm_enter(struct plugstorm_file *pf,
						  struct plugstorm_token *token)
{
	struct plugstorm_resource *res;

	res = pf->pd->guard->design->enter(pf->handle, token);
	if (!IS_ERR(res))
		plugstorm_resource_look(pf->pd, res);
	return res;
}

/* The last use is just before the leave: a section that ended too early shows here. */
static void plugstorm_leave(struct plugstorm_file *pf, struct plugstorm_resource *res,
			    struct plugstorm_token *token)
{
	plugstorm_resource_look(pf->pd, res);
	pf->pd->guard->design->leave(pf->handle, token);
}

static int plugstorm_open(struct inode *inode, struct file *file)
{
	struct plugstorm_device *pd = container_of(inode->i_cdev, struct plugstorm_device, cdev);
	struct plugstorm_file *pf;

	pf = kzalloc(sizeof(*pf), GFP_KERNEL);
	if (!pf)
		return -ENOMEM;

	pf->pd = pd;
	pf->handle = pd->guard->design->open(pd->guard);
	if (IS_ERR(pf->handle)) {
		int err = PTR_ERR(pf->handle);

		kfree(pf);
		return err;
	}
	atomic_inc(&pd->opens);
	file->private_data = pf;
	return stream_open(inode, file);
}

static int plugstorm_release(struct inode *inode, struct file *file)
{
	struct plugstorm_file *pf = file->private_data;

	pf->pd->guard->design->close(pf->handle);
	atomic_dec(&pf->pd->opens);
	kfree(pf);
	return 0;
}

/* One section for all lines. */
static int plugstorm_get_levels(struct plugstorm_file *pf, u8 *levels, size_t lines)
{
	struct plugstorm_token token;
	struct plugstorm_resource *res;
	int err = 0;
	size_t i;

	res = plugstorm_enter(pf, &token);
	if (IS_ERR(res))
		return PTR_ERR(res);

	for (i = 0; i < lines && !err; i++)
		err = plugstorm_line_get(res, i, &levels[i]);

	plugstorm_leave(pf, res, &token);
	return err;
}

static int plugstorm_set_levels(struct plugstorm_file *pf, const u8 *levels, size_t lines)
{
	struct plugstorm_token token;
	struct plugstorm_resource *res;
	int err = 0;
	size_t i;

	res = plugstorm_enter(pf, &token);
	if (IS_ERR(res))
		return PTR_ERR(res);

	for (i = 0; i < lines && !err; i++)
		err = plugstorm_line_set(res, i, levels[i]);

	plugstorm_leave(pf, res, &token);
	return err;
}

static ssize_t plugstorm_read(struct file *file, char __user *buf, size_t count, loff_t *ppos)
{
	struct plugstorm_file *pf = file->private_data;
	size_t lines = min_t(size_t, count, pf->pd->ngpio);
	ssize_t ret;
	u8 *levels;

	if (!lines)
		return 0;

	levels = kvmalloc(lines, GFP_KERNEL);
	if (!levels)
		return -ENOMEM;

	ret = plugstorm_get_levels(pf, levels, lines);
	if (!ret)
		ret = copy_to_user(buf, levels, lines) ? -EFAULT : lines;

	kvfree(levels);
	return ret;
}

static ssize_t plugstorm_write(struct file *file, const char __user *buf, size_t count,
			       loff_t *ppos)
{
	struct plugstorm_file *pf = file->private_data;
	size_t i, lines = min_t(size_t, count, pf->pd->ngpio);
	ssize_t ret;
	u8 *levels;

	if (!lines)
		return 0;

	levels = kvmalloc(lines, GFP_KERNEL);
	if (!levels)
		return -ENOMEM;

	ret = -EFAULT;
	if (copy_from_user(levels, buf, lines))
		goto out;

	ret = -EINVAL;
	for (i = 0; i < lines; i++)
		if (levels[i] > 1)
			goto out;

	ret = plugstorm_set_levels(pf, levels, lines);
	if (!ret)
		ret = lines;
out:
	kvfree(levels);
	return ret;
}

/* Takes no part in the protection: it uses the device's memory, not the resource. */
static __poll_t plugstorm_poll(struct file *file, struct poll_table_struct *wait)
{
	struct plugstorm_file *pf = file->private_data;

	poll_wait(file, &pf->pd->wait, wait);
	if (READ_ONCE(pf->pd->phase) != PLUGSTORM_LIVE)
		return EPOLLHUP | EPOLLERR;
	return EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM;
}

/* Inside the section for @us microseconds, using the resource all the while. */
static int plugstorm_stay(struct plugstorm_file *pf, unsigned int us)
{
	struct plugstorm_token token;
	struct plugstorm_resource *res;

	res = plugstorm_enter(pf, &token);
	if (IS_ERR(res))
		return PTR_ERR(res);

	while (us) {
		unsigned int slice = min_t(unsigned int, us, PLUGSTORM_HOLD_SLICE_US);

		udelay(slice);
		us -= slice;
		plugstorm_resource_look(pf->pd, res);
	}

	plugstorm_leave(pf, res, &token);
	return 0;
}

static long plugstorm_ioctl_hold(struct plugstorm_file *pf, const __u32 __user *arg)
{
	__u32 us;

	if (get_user(us, arg))
		return -EFAULT;
	if (us > PLUGSTORM_HOLD_MAX_US)
		return -EINVAL;
	return plugstorm_stay(pf, us);
}

static long plugstorm_ioctl_line(struct plugstorm_file *pf, unsigned int cmd,
				 struct plugstorm_line __user *arg)
{
	struct plugstorm_token token;
	struct plugstorm_resource *res;
	struct plugstorm_line line;
	u8 level = 0;
	int err;

	if (copy_from_user(&line, arg, sizeof(line)))
		return -EFAULT;
	if (line.line >= pf->pd->ngpio)
		return -EINVAL;
	if (cmd == PLUGSTORM_SET && line.value > 1)
		return -EINVAL;

	res = plugstorm_enter(pf, &token);
	if (IS_ERR(res))
		return PTR_ERR(res);

	if (cmd == PLUGSTORM_SET)
		err = plugstorm_line_set(res, line.line, line.value);
	else
		err = plugstorm_line_get(res, line.line, &level);

	plugstorm_leave(pf, res, &token);
	if (err || cmd == PLUGSTORM_SET)
		return err;

	line.value = level;
	return copy_to_user(arg, &line, sizeof(line)) ? -EFAULT : 0;
}

static long plugstorm_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct plugstorm_file *pf = file->private_data;

	switch (cmd) {
	case PLUGSTORM_TOUCH:
		return plugstorm_stay(pf, 0);
	case PLUGSTORM_GET:
	case PLUGSTORM_SET:
		return plugstorm_ioctl_line(pf, cmd, (void __user *)arg);
	case PLUGSTORM_HOLD:
		return plugstorm_ioctl_hold(pf, (void __user *)arg);
	default:
		return -ENOTTY;
	}
}

const struct file_operations plugstorm_fops = {
	.owner = THIS_MODULE,
	.open = plugstorm_open,
	.release = plugstorm_release,
	.read = plugstorm_read,
	.write = plugstorm_write,
	.poll = plugstorm_poll,
	.unlocked_ioctl = plugstorm_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};
