// SPDX-License-Identifier: GPL-2.0
/*
 * A consumer inside the kernel: the description of one device uses a line of
 * another. It keeps the other's memory and a handle of the other's design, and
 * nothing that would keep the other device from going.
 */
#include <linux/err.h>
#include <linux/file.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "file.h"
#include "section.h"

/**
 * struct plugstorm_borrowed - a line of another device
 * @user:	goes through the other device's design; holds a reference to it
 * @line:	the line
 */
struct plugstorm_borrowed {
	struct plugstorm_user user;
	u16 line;
};

static void plugstorm_borrowed_free(struct plugstorm_borrowed *borrowed)
{
	struct plugstorm_device *pd = borrowed->user.pd;

	pd->guard->design->close(borrowed->user.handle);
	put_device(&pd->dev);
	kfree(borrowed);
}

/* The caller keeps @lender, and so its device, for as long as this runs. */
static struct plugstorm_borrowed *plugstorm_borrowed_of(struct plugstorm_file *lender, u32 line)
{
	struct plugstorm_device *pd = lender->user.pd;
	struct plugstorm_borrowed *borrowed;
	void *handle;

	if (line >= pd->ngpio)
		return ERR_PTR(-EINVAL);

	borrowed = kzalloc(sizeof(*borrowed), GFP_KERNEL);
	if (!borrowed)
		return ERR_PTR(-ENOMEM);

	handle = pd->guard->design->open(pd->guard);
	if (IS_ERR(handle)) {
		kfree(borrowed);
		return ERR_CAST(handle);
	}
	get_device(&pd->dev);
	borrowed->user.pd = pd;
	borrowed->user.handle = handle;
	borrowed->line = line;
	return borrowed;
}

long plugstorm_borrow(struct plugstorm_file *pf, const struct plugstorm_loan __user *arg)
{
	struct plugstorm_borrowed *borrowed;
	struct plugstorm_loan loan;
	struct file *file;
	int err;

	if (copy_from_user(&loan, arg, sizeof(loan)))
		return -EFAULT;

	err = plugstorm_stay(&pf->user, 0);
	if (err)
		return err;

	file = fget(loan.fd);
	if (!file)
		return -EBADF;
	if (file->f_op == &plugstorm_fops)
		borrowed = plugstorm_borrowed_of(file->private_data, loan.line);
	else
		borrowed = ERR_PTR(-EINVAL);
	fput(file);
	if (IS_ERR(borrowed))
		return PTR_ERR(borrowed);

	if (!cmpxchg(&pf->borrowed, NULL, borrowed))
		return 0;
	plugstorm_borrowed_free(borrowed);
	return -EBUSY;
}

/* One section after the other: this device must be there, and the other one. */
long plugstorm_borrowed_get(struct plugstorm_file *pf, __u32 __user *arg)
{
	struct plugstorm_borrowed *borrowed = READ_ONCE(pf->borrowed);
	struct plugstorm_section section;
	u8 level = 0;
	int err;

	err = plugstorm_stay(&pf->user, 0);
	if (err)
		return err;
	if (!borrowed)
		return -ENXIO;

	err = plugstorm_enter(&section, &borrowed->user);
	if (err)
		return err;
	err = plugstorm_line_get(&section, borrowed->line, &level);
	plugstorm_leave(&section);
	return err ?: put_user(level, arg);
}

/* The last thing that is done to the description. */
void plugstorm_borrowed_return(struct plugstorm_file *pf)
{
	if (pf->borrowed)
		plugstorm_borrowed_free(pf->borrowed);
}
