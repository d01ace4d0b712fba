// SPDX-License-Identifier: GPL-2.0
/*
 * Requests to the device (virtio 1.2, 5.18.6) and how their waiters are woken.
 *
 * A request has two owners: the caller, and the device for as long as it may
 * write to it. A caller may give up, or be told that the device has gone, while
 * the device still has the buffer; so the memory goes with the later of the two.
 * The driver may have several requests for one line in flight.
 */
#include <linux/cache.h>
#include <linux/completion.h>
#include <linux/kref.h>
#include <linux/mm.h>
#include <linux/scatterlist.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/virtio_gpio.h>

#include "section.h"

/**
 * struct plugstorm_request - one request
 * @ref:	the caller's reference, and the device's
 * @node:	in the resource's pending list for as long as it has no outcome
 * @done:	it has an outcome
 * @error:	its outcome: 0 = the device answered
 * @len:	how many bytes the device says it wrote
 * @out:	to the device
 * @in:		from the device
 */
struct plugstorm_request {
	struct kref ref;
	struct list_head node;
	struct completion done;
	int error;
	unsigned int len;
	struct virtio_gpio_request out ____cacheline_aligned;
	struct virtio_gpio_response in ____cacheline_aligned;
};

static void plugstorm_request_release(struct kref *ref)
{
	kfree(container_of(ref, struct plugstorm_request, ref));
}

static void plugstorm_request_put(struct plugstorm_request *rq)
{
	kref_put(&rq->ref, plugstorm_request_release);
}

/* Under the resource's lock. The first outcome counts; a later one changes nothing. */
static void plugstorm_request_end(struct plugstorm_request *rq, int error, unsigned int len)
{
	if (list_empty(&rq->node))
		return;

	list_del_init(&rq->node);
	rq->error = error;
	rq->len = len;
	complete(&rq->done);
}

/* In the virtqueue's callback. */
void plugstorm_requests_done(struct plugstorm_resource *res, struct virtqueue *vq)
{
	struct plugstorm_request *rq;
	unsigned long flags;
	unsigned int len;

	spin_lock_irqsave(&res->lock, flags);
	while ((rq = virtqueue_get_buf(vq, &len))) {
		plugstorm_request_end(rq, 0, len);
		plugstorm_request_put(rq);
	}
	spin_unlock_irqrestore(&res->lock, flags);

	wake_up(&res->space);
}

/* Takes no request from here on, and wakes all who wait: they get -ENODEV. */
void plugstorm_requests_fail(struct plugstorm_resource *res)
{
	struct plugstorm_request *rq, *next;
	unsigned long flags;

	spin_lock_irqsave(&res->lock, flags);
	WRITE_ONCE(res->gone, true);
	list_for_each_entry_safe(rq, next, &res->pending, node)
		plugstorm_request_end(rq, -ENODEV, 0);
	spin_unlock_irqrestore(&res->lock, flags);

	wake_up_all(&res->space);
}

/* After the device's reset: drops the device's reference to what it did not return. */
void plugstorm_requests_drop(struct virtqueue *vq)
{
	struct plugstorm_request *rq;

	while ((rq = virtqueue_detach_unused_buf(vq)))
		plugstorm_request_put(rq);
}

/* Gives -ENOSPC if the virtqueue has no room. */
static int plugstorm_request_queue(struct plugstorm_resource *res, struct plugstorm_request *rq)
{
	struct scatterlist out, in, *sgs[] = { &out, &in };
	struct virtqueue *vq = res->vq;
	bool notify = false;
	unsigned long flags;
	int err;

	if (virtqueue_is_broken(vq))
		return -ENODEV;

	sg_init_one(&out, &rq->out, sizeof(rq->out));
	sg_init_one(&in, &rq->in, sizeof(rq->in));

	spin_lock_irqsave(&res->lock, flags);
	if (res->gone)
		err = -ENODEV;
	else
		err = virtqueue_add_sgs(vq, sgs, 1, 1, rq, GFP_ATOMIC);
	if (!err) {
		kref_get(&rq->ref);
		list_add_tail(&rq->node, &res->pending);
		notify = virtqueue_kick_prepare(vq);
	}
	spin_unlock_irqrestore(&res->lock, flags);

	/* Our monitor answers within this exit: not with the lock held. */
	if (notify)
		virtqueue_notify(vq);
	return err;
}

/* Waits until the virtqueue may have room for a request, which may need two descriptors. */
static int plugstorm_request_room(struct plugstorm_section *section)
{
	struct plugstorm_resource *res = section->res;

	if (section->user->pd->guard->design->sleeps)
		return wait_event_killable(res->space, READ_ONCE(res->gone) ||
					   READ_ONCE(res->vq->num_free) >= 2);

	/* Outside there is no wait queue to sleep on: look again a tick later. */
	plugstorm_sleep_begin(section);
	schedule_timeout_killable(1);
	if (fatal_signal_pending(current))
		return -EINTR;
	return plugstorm_sleep_end(section);
}

static int plugstorm_request_submit(struct plugstorm_section *section, struct plugstorm_request *rq)
{
	int err;

	do {
		err = plugstorm_request_queue(section->res, rq);
		if (err == -EIO)	/* broken in the meantime */
			return -ENODEV;
		if (err != -ENOSPC)
			return err;

		err = plugstorm_request_room(section);
	} while (!err);
	return err;
}

/*
 * Who gives up leaves the request among those pending: it goes from there, with
 * its outcome, before the device's reference is dropped.
 */
static int plugstorm_request_wait(struct plugstorm_section *section, struct plugstorm_request *rq)
{
	int err, entered;

	plugstorm_sleep_begin(section);
	err = wait_for_completion_killable(&rq->done);
	entered = plugstorm_sleep_end(section);
	if (err)
		return err;
	if (rq->error)
		return rq->error;
	if (entered)
		return entered;
	if (rq->len < sizeof(rq->in) || rq->in.status != VIRTIO_GPIO_STATUS_OK)
		return -EIO;
	return 0;
}

/*
 * Inside the section, which may have been left for good if it fails. Asks the
 * device and waits: for the answer, for a removal, or for a deadly signal.
 */
static int plugstorm_request(struct plugstorm_section *section, u16 type, u16 line, u8 value,
			     u8 *answer)
{
	struct plugstorm_request *rq;
	int err;

	rq = kzalloc(sizeof(*rq), plugstorm_gfp(section));
	if (!rq)
		return -ENOMEM;

	kref_init(&rq->ref);
	INIT_LIST_HEAD(&rq->node);
	init_completion(&rq->done);
	rq->out.type = cpu_to_le16(type);
	rq->out.gpio = cpu_to_le16(line);
	rq->out.value = cpu_to_le32(value);

	err = plugstorm_request_submit(section, rq);
	if (!err)
		err = plugstorm_request_wait(section, rq);
	if (!err && answer)
		*answer = rq->in.value;

	plugstorm_request_put(rq);
	return err;
}

/* Keeps the level for those who have the page mapped, which shows that many lines. */
static void plugstorm_level_keep(struct plugstorm_resource *res, u16 line, u8 level)
{
	u8 *levels = page_address(res->levels);

	if (line < PAGE_SIZE)
		WRITE_ONCE(levels[line], level);
}

static int plugstorm_set_direction(struct plugstorm_section *section, u16 line, u8 direction)
{
	int err;

	err = plugstorm_request(section, VIRTIO_GPIO_MSG_SET_DIRECTION, line, direction, NULL);
	if (!err)
		WRITE_ONCE(section->res->lines[line].direction, direction);
	return err;
}

/* As plugstorm_request(). A line that nobody has used becomes an input first. */
int plugstorm_line_get(struct plugstorm_section *section, u16 line, u8 *level)
{
	int err;

	if (READ_ONCE(section->res->lines[line].direction) == VIRTIO_GPIO_DIRECTION_NONE) {
		err = plugstorm_set_direction(section, line, VIRTIO_GPIO_DIRECTION_IN);
		if (err)
			return err;
	}
	err = plugstorm_request(section, VIRTIO_GPIO_MSG_GET_VALUE, line, 0, level);
	if (!err)
		plugstorm_level_keep(section->res, line, *level);
	return err;
}

/* As plugstorm_request(). The level is set before the direction, as the standard advises. */
int plugstorm_line_set(struct plugstorm_section *section, u16 line, u8 level)
{
	int err;

	err = plugstorm_request(section, VIRTIO_GPIO_MSG_SET_VALUE, line, level, NULL);
	if (err)
		return err;

	plugstorm_level_keep(section->res, line, level);
	if (READ_ONCE(section->res->lines[line].direction) == VIRTIO_GPIO_DIRECTION_OUT)
		return 0;
	return plugstorm_set_direction(section, line, VIRTIO_GPIO_DIRECTION_OUT);
}

/* As plugstorm_request(). Makes the line an input that interrupts on these edges. */
int plugstorm_line_listen(struct plugstorm_section *section, u16 line, u8 edges)
{
	int err;

	if (READ_ONCE(section->res->lines[line].direction) != VIRTIO_GPIO_DIRECTION_IN) {
		err = plugstorm_set_direction(section, line, VIRTIO_GPIO_DIRECTION_IN);
		if (err)
			return err;
	}
	return plugstorm_request(section, VIRTIO_GPIO_MSG_IRQ_TYPE, line, edges, NULL);
}
