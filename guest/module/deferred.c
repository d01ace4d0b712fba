// SPDX-License-Identifier: GPL-2.0
/*
 * A work item and a timer, which use the resource later and elsewhere: a kernel
 * thread, a soft interrupt. Each arms itself again until the design says that
 * the resource has gone. The removal does not stop them; the last close does.
 */
#include <linux/jiffies.h>
#include <linux/uaccess.h>

#include "file.h"
#include "section.h"

/* How long each stays inside, so that there is something to run into. */
#define PLUGSTORM_DEFERRED_STAY_US	20
/* Between two runs, in ticks. */
#define PLUGSTORM_DEFERRED_EVERY	1

static void plugstorm_work_run(struct work_struct *work)
{
	struct plugstorm_file *pf = container_of(work, struct plugstorm_file, work.work);

	atomic_inc(&pf->work_runs);
	if (plugstorm_stay(&pf->user, PLUGSTORM_DEFERRED_STAY_US) != -ENODEV)
		queue_delayed_work(system_unbound_wq, &pf->work, PLUGSTORM_DEFERRED_EVERY);
}

static void plugstorm_timer_run(struct timer_list *timer)
{
	struct plugstorm_file *pf = container_of(timer, struct plugstorm_file, timer);

	atomic_inc(&pf->timer_runs);
	if (plugstorm_stay(&pf->user, PLUGSTORM_DEFERRED_STAY_US) != -ENODEV)
		mod_timer(timer, jiffies + PLUGSTORM_DEFERRED_EVERY);
}

void plugstorm_deferred_init(struct plugstorm_file *pf)
{
	INIT_DELAYED_WORK(&pf->work, plugstorm_work_run);
	timer_setup(&pf->timer, plugstorm_timer_run, 0);
}

/* Nobody can start them any more; when this returns neither runs, nor ever will. */
void plugstorm_deferred_cancel(struct plugstorm_file *pf)
{
	timer_shutdown_sync(&pf->timer);
	cancel_delayed_work_sync(&pf->work);
}

long plugstorm_work(struct plugstorm_file *pf, __u32 __user *arg)
{
	int err;

	err = plugstorm_stay(&pf->user, 0);
	if (err)
		return err;

	queue_delayed_work(system_unbound_wq, &pf->work, PLUGSTORM_DEFERRED_EVERY);
	return put_user(atomic_read(&pf->work_runs), arg);
}

long plugstorm_timer(struct plugstorm_file *pf, __u32 __user *arg)
{
	int err;

	if (!pf->user.pd->guard->design->atomic)
		return -EOPNOTSUPP;

	err = plugstorm_stay(&pf->user, 0);
	if (err)
		return err;

	/* One that is pending is left alone: calls in a row would put it off for ever. */
	if (!timer_pending(&pf->timer))
		mod_timer(&pf->timer, jiffies + PLUGSTORM_DEFERRED_EVERY);
	return put_user(atomic_read(&pf->timer_runs), arg);
}
