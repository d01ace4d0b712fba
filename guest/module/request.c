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
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/virtio_gpio.h>

#include "plugstorm.h"

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

/* The virtqueue's callback. Not called any more when the resource is revoked. */
void plugstorm_request_done(struct virtqueue *vq)
{
	struct plugstorm_device *pd = vq->vdev->priv;
	struct plugstorm_resource *res = pd->resource;
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

/* Waits for room in the virtqueue, of which a request may need two descriptors. */
static int plugstorm_request_submit(struct plugstorm_resource *res, struct plugstorm_request *rq)
{
	int err;

	for (;;) {
		err = plugstorm_request_queue(res, rq);
		if (err == -EIO)	/* broken in the meantime */
			return -ENODEV;
		if (err != -ENOSPC)
			return err;

		err = wait_event_killable(res->space, READ_ONCE(res->gone) ||
					  READ_ONCE(res->vq->num_free) >= 2);
		if (err)
			return err;
	}
}

static int plugstorm_request_wait(struct plugstorm_resource *res, struct plugstorm_request *rq)
{
	unsigned long flags;
	int err;

	err = wait_for_completion_killable(&rq->done);
	if (err) {
		spin_lock_irqsave(&res->lock, flags);
		list_del_init(&rq->node);
		spin_unlock_irqrestore(&res->lock, flags);
		return err;
	}
	if (rq->error)
		return rq->error;
	if (rq->len < sizeof(rq->in) || rq->in.status != VIRTIO_GPIO_STATUS_OK)
		return -EIO;
	return 0;
}

/* Asks the device and waits: for the answer, for a removal, or for a deadly signal. */
static int plugstorm_request(struct plugstorm_resource *res, u16 type, u16 line, u8 value,
			     u8 *answer)
{
	struct plugstorm_request *rq;
	int err;

	rq = kzalloc(sizeof(*rq), GFP_KERNEL);
	if (!rq)
		return -ENOMEM;

	kref_init(&rq->ref);
	INIT_LIST_HEAD(&rq->node);
	init_completion(&rq->done);
	rq->out.type = cpu_to_le16(type);
	rq->out.gpio = cpu_to_le16(line);
	rq->out.value = cpu_to_le32(value);

	err = plugstorm_request_submit(res, rq);
	if (!err)
		err = plugstorm_request_wait(res, rq);
	if (!err && answer)
		*answer = rq->in.value;

	plugstorm_request_put(rq);
	return err;
}

static int plugstorm_set_direction(struct plugstorm_resource *res, u16 line, u8 direction)
{
	int err;

	err = plugstorm_request(res, VIRTIO_GPIO_MSG_SET_DIRECTION, line, direction, NULL);
	if (!err)
		WRITE_ONCE(res->directions[line], direction);
	return err;
}

/* Inside the section. A line that nobody has used becomes an input first. */
int plugstorm_line_get(struct plugstorm_resource *res, u16 line, u8 *level)
{
	int err;

	if (READ_ONCE(res->directions[line]) == VIRTIO_GPIO_DIRECTION_NONE) {
		err = plugstorm_set_direction(res, line, VIRTIO_GPIO_DIRECTION_IN);
		if (err)
			return err;
	}
	return plugstorm_request(res, VIRTIO_GPIO_MSG_GET_VALUE, line, 0, level);
}

/* Inside the section. The level is set before the direction, as the standard advises. */
int plugstorm_line_set(struct plugstorm_resource *res, u16 line, u8 level)
{
	int err;

	err = plugstorm_request(res, VIRTIO_GPIO_MSG_SET_VALUE, line, level, NULL);
	if (!err && READ_ONCE(res->directions[line]) != VIRTIO_GPIO_DIRECTION_OUT)
		err = plugstorm_set_direction(res, line, VIRTIO_GPIO_DIRECTION_OUT);
	return err;
}
