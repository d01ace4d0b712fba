// SPDX-License-Identifier: GPL-2.0
/*
 * The file operations of /dev/plugstormN.
 *
 * They reach the resource through the section (section.h) and in no other way.
 * Memory of user space is touched outside of it, so that a page fault does not
 * lengthen it.
 */
#include <linux/container_of.h>
#include <linux/err.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "file.h"
#include "section.h"

static int plugstorm_open(struct inode *inode, struct file *file)
{
	struct plugstorm_device *pd = container_of(inode->i_cdev, struct plugstorm_device, cdev);
	struct plugstorm_file *pf;

	pf = kzalloc(sizeof(*pf), GFP_KERNEL);
	if (!pf)
		return -ENOMEM;

	pf->user.pd = pd;
	pf->user.handle = pd->guard->design->open(pd->guard);
	if (IS_ERR(pf->user.handle)) {
		int err = PTR_ERR(pf->user.handle);

		kfree(pf);
		return err;
	}
	pf->mapping = file->f_mapping;
	plugstorm_deferred_init(pf);

	mutex_lock(&pd->files_lock);
	list_add_tail(&pf->node, &pd->files);
	mutex_unlock(&pd->files_lock);

	atomic_inc(&pd->opens);
	file->private_data = pf;
	return stream_open(inode, file);
}

/* What uses the handle ends before it is closed. Nothing is mapped any more. */
static int plugstorm_release(struct inode *inode, struct file *file)
{
	struct plugstorm_file *pf = file->private_data;
	struct plugstorm_device *pd = pf->user.pd;

	plugstorm_deferred_cancel(pf);
	plugstorm_unwatch(pf);
	plugstorm_borrowed_return(pf);

	mutex_lock(&pd->files_lock);
	list_del(&pf->node);
	mutex_unlock(&pd->files_lock);

	pd->guard->design->close(pf->user.handle);
	atomic_dec(&pd->opens);
	kfree(pf);
	return 0;
}

/* One section for all lines. */
static int plugstorm_get_levels(struct plugstorm_file *pf, u8 *levels, size_t lines)
{
	struct plugstorm_section section;
	size_t i;
	int err;

	err = plugstorm_enter(&section, &pf->user);
	if (err)
		return err;

	for (i = 0; i < lines && !err; i++)
		err = plugstorm_line_get(&section, i, &levels[i]);

	plugstorm_leave(&section);
	return err;
}

static int plugstorm_set_levels(struct plugstorm_file *pf, const u8 *levels, size_t lines)
{
	struct plugstorm_section section;
	size_t i;
	int err;

	err = plugstorm_enter(&section, &pf->user);
	if (err)
		return err;

	for (i = 0; i < lines && !err; i++)
		err = plugstorm_line_set(&section, i, levels[i]);

	plugstorm_leave(&section);
	return err;
}

static ssize_t plugstorm_read_levels(struct plugstorm_file *pf, char __user *buf, size_t count)
{
	size_t lines = min_t(size_t, count, pf->user.pd->ngpio);
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

/* The watch as plugstorm_watch() made it, or NULL. */
static struct plugstorm_watch *plugstorm_watch_of(struct plugstorm_file *pf)
{
	return smp_load_acquire(&pf->watch);	/* pairs with the release in events.c */
}

static ssize_t plugstorm_read(struct file *file, char __user *buf, size_t count, loff_t *ppos)
{
	struct plugstorm_file *pf = file->private_data;
	struct plugstorm_watch *watch = plugstorm_watch_of(pf);

	if (watch)
		return plugstorm_read_events(pf, watch, buf, count, file->f_flags & O_NONBLOCK);
	return plugstorm_read_levels(pf, buf, count);
}

static ssize_t plugstorm_write(struct file *file, const char __user *buf, size_t count,
			       loff_t *ppos)
{
	struct plugstorm_file *pf = file->private_data;
	size_t i, lines = min_t(size_t, count, pf->user.pd->ngpio);
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
	struct plugstorm_watch *watch = plugstorm_watch_of(pf);
	struct plugstorm_device *pd = pf->user.pd;
	__poll_t readable = EPOLLIN | EPOLLRDNORM;

	poll_wait(file, &pd->wait, wait);
	/* Also before a WATCH: epoll registers once, and that may come later. */
	poll_wait(file, &pd->events, wait);
	if (watch)
		readable = plugstorm_poll_events(watch);
	if (READ_ONCE(pd->phase) != PLUGSTORM_LIVE)
		return EPOLLHUP | EPOLLERR;
	return readable | EPOLLOUT | EPOLLWRNORM;
}

static long plugstorm_ioctl_hold(struct plugstorm_file *pf, const __u32 __user *arg)
{
	__u32 us;

	if (get_user(us, arg))
		return -EFAULT;
	if (us > PLUGSTORM_HOLD_MAX_US)
		return -EINVAL;
	return plugstorm_stay(&pf->user, us);
}

static long plugstorm_ioctl_line(struct plugstorm_file *pf, unsigned int cmd,
				 struct plugstorm_line __user *arg)
{
	struct plugstorm_section section;
	struct plugstorm_line line;
	u8 level = 0;
	int err;

	if (copy_from_user(&line, arg, sizeof(line)))
		return -EFAULT;
	if (line.line >= pf->user.pd->ngpio)
		return -EINVAL;
	if (cmd == PLUGSTORM_SET && line.value > 1)
		return -EINVAL;

	err = plugstorm_enter(&section, &pf->user);
	if (err)
		return err;

	if (cmd == PLUGSTORM_SET)
		err = plugstorm_line_set(&section, line.line, line.value);
	else
		err = plugstorm_line_get(&section, line.line, &level);

	plugstorm_leave(&section);
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
		return plugstorm_stay(&pf->user, 0);
	case PLUGSTORM_SET:
		/* What write() does, and like write(). */
		if (!(file->f_mode & FMODE_WRITE))
			return -EBADF;
		fallthrough;
	case PLUGSTORM_GET:
		return plugstorm_ioctl_line(pf, cmd, (void __user *)arg);
	case PLUGSTORM_HOLD:
		return plugstorm_ioctl_hold(pf, (void __user *)arg);
	case PLUGSTORM_WATCH:
		/* For read(), which is how the events are had; it sets no level. */
		if (!(file->f_mode & FMODE_READ))
			return -EBADF;
		return plugstorm_watch(pf, (void __user *)arg);
	case PLUGSTORM_WORK:
		return plugstorm_work(pf, (void __user *)arg);
	case PLUGSTORM_TIMER:
		return plugstorm_timer(pf, (void __user *)arg);
	case PLUGSTORM_BORROW:
		return plugstorm_borrow(pf, (void __user *)arg);
	case PLUGSTORM_BORROWED_GET:
		return plugstorm_borrowed_get(pf, (void __user *)arg);
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
	.mmap = plugstorm_mmap,
	.unlocked_ioctl = plugstorm_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};
