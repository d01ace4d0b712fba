// SPDX-License-Identifier: GPL-2.0
/*
 * The virtqueues, and their callbacks as users of the resource.
 *
 * A callback runs in an interrupt. Where the design can be used there, it goes
 * through the design like everybody else, with a handle of its own for each
 * virtqueue, and nothing else keeps it from a resource that is being revoked.
 * The other designs cannot have that; there the callbacks are stopped before
 * the revoke.
 *
 * Where a design counts its handles (shared-handle), these two count as well,
 * and whatever is freed with the last of them stays until they are closed. That
 * is the design's own demand: nobody may go through a handle that has been
 * closed, and a callback may come until it is stopped, which is after the
 * revoke. What is the driver's choice is how long it keeps them beyond that: not
 * at all. They go as soon as no callback can come, and not with the virtqueues,
 * whose end waits for the device's reset: an open that is on its way would find
 * the memory still there for as long as that takes.
 */
#include <linux/err.h>
#include <linux/virtio_config.h>
#include <linux/virtio_gpio.h>

#include "compat.h"
#include "section.h"

/* Has the device been pulled out? Its registers read as all-ones then. */
static bool plugstorm_vanished(struct virtio_device *vdev)
{
	return vdev->config->get_status(vdev) == 0xff;
}

/* Gives whether the resource is there; then plugstorm_interrupt_leave() must follow. */
static bool plugstorm_interrupt_enter(struct plugstorm_section *section,
				      struct plugstorm_device *pd, enum plugstorm_queue queue)
{
	struct plugstorm_user *user = &pd->interrupts[queue];

	/* A device that interrupts before it was asked anything lies. */
	if (!smp_load_acquire(&pd->ready))
		return false;
	if (user->handle)
		return !plugstorm_enter(section, user);

	section->user = user;
	section->res = pd->resource;
	return true;
}

static void plugstorm_interrupt_leave(struct plugstorm_section *section)
{
	if (section->user->handle)
		plugstorm_leave(section);
}

static void plugstorm_requestq_callback(struct virtqueue *vq)
{
	struct plugstorm_section section;

	if (!plugstorm_interrupt_enter(&section, vq->vdev->priv, PLUGSTORM_REQUESTQ))
		return;
	plugstorm_requests_done(section.res, vq);
	plugstorm_interrupt_leave(&section);
}

static void plugstorm_eventq_callback(struct virtqueue *vq)
{
	struct plugstorm_section section;

	if (!plugstorm_interrupt_enter(&section, vq->vdev->priv, PLUGSTORM_EVENTQ))
		return;
	plugstorm_events_done(section.user->pd, section.res, vq);
	plugstorm_interrupt_leave(&section);
}

/* Before the virtqueues: a callback may come as soon as they are there. */
int plugstorm_interrupts_open(struct plugstorm_device *pd)
{
	const struct plugstorm_design *design = pd->guard->design;
	void *handle;
	int queue;

	for (queue = 0; queue < PLUGSTORM_QUEUES; queue++) {
		pd->interrupts[queue].pd = pd;
		if (!design->atomic)
			continue;

		handle = design->open(pd->guard);
		if (IS_ERR(handle)) {
			plugstorm_interrupts_close(pd);
			return PTR_ERR(handle);
		}
		pd->interrupts[queue].handle = handle;
	}
	return 0;
}

/* When no callback can come: without virtqueues, or after plugstorm_queues_quiet(). */
void plugstorm_interrupts_close(struct plugstorm_device *pd)
{
	int queue;

	for (queue = 0; queue < PLUGSTORM_QUEUES; queue++) {
		if (pd->interrupts[queue].handle)
			pd->guard->design->close(pd->interrupts[queue].handle);
		pd->interrupts[queue].handle = NULL;
	}
}

int plugstorm_queues_find(struct plugstorm_device *pd)
{
	static const char *const names[] = { "requestq", "eventq" };
	vq_callback_t *callbacks[] = { plugstorm_requestq_callback, plugstorm_eventq_callback };
	struct virtio_device *vdev = pd->vdev;
	int err;

	err = plugstorm_find_vqs(vdev, pd->has_events ? 2 : 1, pd->vqs, callbacks, names);
	if (err) {
		dev_err(&vdev->dev, "failed to set up the virtqueues: %d\n", err);
		return err;
	}
	pd->resource->vq = pd->vqs[PLUGSTORM_REQUESTQ];
	if (pd->has_events)
		pd->resource->eventq = pd->vqs[PLUGSTORM_EVENTQ];

	if (virtqueue_get_vring_size(pd->vqs[PLUGSTORM_REQUESTQ]) >= 2 &&
	    (!pd->has_events || virtqueue_get_vring_size(pd->vqs[PLUGSTORM_EVENTQ]) >= 2))
		return 0;
	dev_err(&vdev->dev, "a virtqueue has less than the two descriptors of a request\n");
	plugstorm_queues_give_up(pd);
	return -EINVAL;
}

/* When this returns no callback runs, and none ever will again. */
void plugstorm_queues_quiet(struct plugstorm_device *pd)
{
	virtio_break_device(pd->vdev);
	virtio_synchronize_cbs(pd->vdev);
}

/*
 * In a probe that fails. The device has been given nothing, and must not look at
 * a virtqueue before it is told that its driver is ready (virtio 1.2, 3.1.1). One
 * that was pulled out reads as all-ones, and to reset it would be to wait for a 0
 * for ever. That a removal does so is the kernel's own trouble, and is left to
 * be seen; a probe that knows of it need not.
 */
void plugstorm_queues_give_up(struct plugstorm_device *pd)
{
	plugstorm_queues_quiet(pd);
	if (!plugstorm_vanished(pd->vdev))
		virtio_reset_device(pd->vdev);
	pd->vdev->config->del_vqs(pd->vdev);
}

/*
 * After plugstorm_queues_quiet(). The device may still hold requests and buffers
 * for events.
 */
void plugstorm_queues_free(struct plugstorm_device *pd)
{
	virtio_reset_device(pd->vdev);
	plugstorm_requests_drop(pd->vqs[PLUGSTORM_REQUESTQ]);
	if (pd->has_events)
		plugstorm_events_drop(pd->vqs[PLUGSTORM_EVENTQ]);
	pd->vdev->config->del_vqs(pd->vdev);
}
