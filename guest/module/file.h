/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What an open description of /dev/plugstormN keeps, and what can be done to
 * one.
 */
#ifndef _PLUGSTORM_FILE_H
#define _PLUGSTORM_FILE_H

#include <linux/fs.h>
#include <linux/list.h>
#include <linux/poll.h>
#include <linux/timer.h>
#include <linux/types.h>
#include <linux/workqueue.h>

#include "plugstorm.h"
#include "plugstorm_uapi.h"

struct plugstorm_borrowed;
struct plugstorm_watch;

/**
 * struct plugstorm_file - what an open description keeps
 * @user:	goes through the design; the open character device keeps its
 *		device, and all threads that use the description share its handle
 * @node:	among the device's files
 * @mapping:	where its mappings are found; lives as long as the description
 * @watch:	the lines whose events it wants, or NULL
 * @borrowed:	a line of another device, or NULL
 * @work:	a work item that arms itself
 * @work_runs:	how often it has run
 * @timer:	a timer that arms itself
 * @timer_runs:	how often it has run
 */
struct plugstorm_file {
	struct plugstorm_user user;
	struct list_head node;
	struct address_space *mapping;
	struct plugstorm_watch *watch;
	struct plugstorm_borrowed *borrowed;
	struct delayed_work work;
	atomic_t work_runs;
	struct timer_list timer;
	atomic_t timer_runs;
};

/* borrow.c */
long plugstorm_borrow(struct plugstorm_file *pf, const struct plugstorm_loan __user *arg);
long plugstorm_borrowed_get(struct plugstorm_file *pf, __u32 __user *arg);
void plugstorm_borrowed_return(struct plugstorm_file *pf);

/* deferred.c */
void plugstorm_deferred_init(struct plugstorm_file *pf);
void plugstorm_deferred_cancel(struct plugstorm_file *pf);
long plugstorm_work(struct plugstorm_file *pf, __u32 __user *arg);
long plugstorm_timer(struct plugstorm_file *pf, __u32 __user *arg);

/* events.c */
long plugstorm_watch(struct plugstorm_file *pf, const struct plugstorm_line __user *arg);
void plugstorm_unwatch(struct plugstorm_file *pf);
ssize_t plugstorm_read_events(struct plugstorm_file *pf, struct plugstorm_watch *watch,
			      char __user *buf, size_t count, bool nonblocking);
__poll_t plugstorm_poll_events(struct plugstorm_watch *watch);

/* mapping.c */
int plugstorm_mmap(struct file *file, struct vm_area_struct *vma);

#endif /* _PLUGSTORM_FILE_H */
