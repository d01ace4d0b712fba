// SPDX-License-Identifier: GPL-2.0
/*
 * Events of lines (virtio 1.2, 5.18.6.7 and 5.18.7), and who is told of them.
 *
 * A line that somebody watches has one buffer, which is the device's until the
 * next edge; the callback hands it back at once. Buffers and the queues of
 * those who watch are the device's memory, not the resource's: the callback may
 * be the last to touch them.
 *
 * Whoever waits for an event waits inside the section, as gpiolib does, and the
 * removal wakes nobody before the revoke has returned. A design that has a step
 * to wake sleepers takes it by guard->wake; one that waits for its users without
 * it waits for ever.
 */
#include <linux/bitops.h>
#include <linux/build_bug.h>
#include <linux/kfifo.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/poll.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/timekeeping.h>
#include <linux/uaccess.h>
#include <linux/virtio_gpio.h>

#include "file.h"
#include "section.h"

/* Events kept for one that does not read; a power of two. */
#define PLUGSTORM_EVENTS_KEPT		64
/* Descriptions of one device that may watch: an interrupt looks at each, interrupts off. */
#define PLUGSTORM_WATCHERS		1024
/* Events of one read(). */
#define PLUGSTORM_EVENTS_AT_ONCE	8

static_assert(PLUGSTORM_EDGE_RISING == VIRTIO_GPIO_IRQ_TYPE_EDGE_RISING);
static_assert(PLUGSTORM_EDGE_FALLING == VIRTIO_GPIO_IRQ_TYPE_EDGE_FALLING);

/**
 * struct plugstorm_event_buffer - by which a line's next edge is told
 * @line:	which; what is in @out the device might have changed
 * @armed:	it is the device's; under the resource's lock
 * @out:	to the device
 * @in:		from the device
 */
struct plugstorm_event_buffer {
	u16 line;
	bool armed;
	struct virtio_gpio_irq_request out ____cacheline_aligned;
	struct virtio_gpio_irq_response in ____cacheline_aligned;
};

/**
 * struct plugstorm_watch - the lines whose events an open description wants; it has one at most
 * @node:	among the device's watches
 * @pd:		the device
 * @sequence:	of the last event
 * @fifo:	events not read; under the device's watch_lock
 * @lines:	a bit for each line of the device
 */
struct plugstorm_watch {
	struct list_head node;
	struct plugstorm_device *pd;
	u32 sequence;
	DECLARE_KFIFO(fifo, struct plugstorm_event, PLUGSTORM_EVENTS_KEPT);
	unsigned long lines[];
};

int plugstorm_event_buffers_alloc(struct plugstorm_device *pd)
{
	pd->buffers = kvcalloc(pd->ngpio, sizeof(*pd->buffers), GFP_KERNEL);
	return pd->buffers ? 0 : -ENOMEM;
}

/* With the device's memory, long after its reset. */
void plugstorm_event_buffers_free(struct plugstorm_device *pd)
{
	unsigned int line;

	if (!pd->buffers)
		return;
	for (line = 0; line < pd->ngpio; line++)
		kfree(pd->buffers[line]);
	kvfree(pd->buffers);
}

/* Makes sure that the line has a buffer, which it keeps. */
static struct plugstorm_event_buffer *plugstorm_event_buffer_of(struct plugstorm_device *pd,
								u16 line)
{
	struct plugstorm_event_buffer *buffer = READ_ONCE(pd->buffers[line]), *before;

	if (buffer)
		return buffer;

	buffer = kzalloc(sizeof(*buffer), GFP_KERNEL);
	if (!buffer)
		return NULL;
	buffer->line = line;
	buffer->out.gpio = cpu_to_le16(line);

	before = cmpxchg(&pd->buffers[line], NULL, buffer);
	if (!before)
		return buffer;
	kfree(buffer);
	return before;
}

/* Under the resource's lock. The buffer is the device's when it succeeds. */
static int plugstorm_event_arm(struct virtqueue *vq, struct plugstorm_event_buffer *buffer)
{
	struct scatterlist out, in, *sgs[] = { &out, &in };
	int err;

	sg_init_one(&out, &buffer->out, sizeof(buffer->out));
	sg_init_one(&in, &buffer->in, sizeof(buffer->in));
	err = virtqueue_add_sgs(vq, sgs, 1, 1, buffer, GFP_ATOMIC);
	buffer->armed = !err;
	return err;
}

/* In the callback, interrupts off. */
static void plugstorm_event_tell(struct plugstorm_device *pd, u16 line)
{
	struct plugstorm_event event = { .timestamp_ns = ktime_get_ns(), .line = line };
	struct plugstorm_watch *watch;

	spin_lock(&pd->watch_lock);
	list_for_each_entry(watch, &pd->watches, node) {
		if (!test_bit(line, watch->lines))
			continue;
		event.sequence = ++watch->sequence;
		if (kfifo_is_full(&watch->fifo))
			kfifo_skip(&watch->fifo);
		kfifo_put(&watch->fifo, event);
	}
	spin_unlock(&pd->watch_lock);
}

void plugstorm_events_done(struct plugstorm_device *pd, struct plugstorm_resource *res,
			   struct virtqueue *vq)
{
	struct plugstorm_event_buffer *buffer;
	unsigned long flags;
	unsigned int len;
	bool notify;

	spin_lock_irqsave(&res->lock, flags);
	while ((buffer = virtqueue_get_buf(vq, &len))) {
		buffer->armed = false;
		/* Given back unused: the device does not interrupt for this line. */
		if (len < sizeof(buffer->in) || buffer->in.status != VIRTIO_GPIO_IRQ_STATUS_VALID)
			continue;
		plugstorm_event_tell(pd, buffer->line);
		/* If it cannot be armed no event will come, until somebody watches again. */
		if (!res->gone)
			plugstorm_event_arm(vq, buffer);
	}
	notify = virtqueue_kick_prepare(vq);
	spin_unlock_irqrestore(&res->lock, flags);

	if (notify)
		virtqueue_notify(vq);
	wake_up_poll(&pd->events, EPOLLIN | EPOLLRDNORM);
}

/* After the device's reset: takes back what it did not return. */
void plugstorm_events_drop(struct virtqueue *vq)
{
	while (virtqueue_detach_unused_buf(vq))
		;
}

/* Nobody waits for an event any longer, and nobody will again. */
void plugstorm_events_over(struct plugstorm_device *pd)
{
	WRITE_ONCE(pd->no_more_events, true);
	wake_up_all(&pd->events);
}

/* Gives -EBUSY if others have asked for other edges; 1 if events of these are on their way. */
static int plugstorm_event_claim(struct plugstorm_resource *res, u16 line, u8 edges,
				 struct plugstorm_event_buffer *buffer)
{
	unsigned long flags;
	int ret;

	spin_lock_irqsave(&res->lock, flags);
	if (!res->lines[line].edges)
		res->lines[line].edges = edges;
	ret = res->lines[line].edges == edges ? buffer->armed : -EBUSY;
	spin_unlock_irqrestore(&res->lock, flags);
	return ret;
}

/* Inside the section. Of several who come first, each asks the device: the others may fail. */
static int plugstorm_event_begin(struct plugstorm_section *section, u16 line, u8 edges,
				 struct plugstorm_event_buffer *buffer)
{
	struct plugstorm_resource *res;
	bool notify = false;
	unsigned long flags;
	int ret;

	ret = plugstorm_event_claim(section->res, line, edges, buffer);
	if (ret)
		return min(ret, 0);

	ret = plugstorm_line_listen(section, line, edges);
	if (ret)
		return ret;

	res = section->res;
	spin_lock_irqsave(&res->lock, flags);
	if (res->gone) {
		ret = -ENODEV;
	} else if (!buffer->armed) {
		ret = plugstorm_event_arm(res->eventq, buffer);
		notify = !ret && virtqueue_kick_prepare(res->eventq);
	}
	spin_unlock_irqrestore(&res->lock, flags);

	if (notify)
		virtqueue_notify(res->eventq);
	return ret == -EIO ? -ENODEV : ret;	/* broken in the meantime */
}

/*
 * From here on read() gives events. -ENOSPC, as of inotify, if too many others
 * watch already: who does once may watch all lines.
 */
static int plugstorm_watch_add(struct plugstorm_file *pf, u16 line)
{
	struct plugstorm_device *pd = pf->user.pd;
	struct plugstorm_watch *watch, *spare;
	unsigned long flags;
	int err = 0;

	spare = kzalloc(struct_size(spare, lines, BITS_TO_LONGS(pd->ngpio)), GFP_KERNEL);
	if (!spare)
		return -ENOMEM;
	INIT_KFIFO(spare->fifo);
	spare->pd = pd;

	spin_lock_irqsave(&pd->watch_lock, flags);
	watch = pf->watch;
	if (!watch && pd->watchers < PLUGSTORM_WATCHERS) {
		watch = spare;
		spare = NULL;
		pd->watchers++;
		list_add_tail(&watch->node, &pd->watches);
		/* Readers look at it without the lock. */
		smp_store_release(&pf->watch, watch);
	}
	if (watch)
		set_bit(line, watch->lines);
	else
		err = -ENOSPC;
	spin_unlock_irqrestore(&pd->watch_lock, flags);

	kfree(spare);
	return err;
}

long plugstorm_watch(struct plugstorm_file *pf, const struct plugstorm_line __user *arg)
{
	struct plugstorm_device *pd = pf->user.pd;
	struct plugstorm_event_buffer *buffer;
	struct plugstorm_section section;
	struct plugstorm_line line;
	int err;

	if (copy_from_user(&line, arg, sizeof(line)))
		return -EFAULT;
	if (!pd->has_events)
		return -EOPNOTSUPP;
	if (line.line >= pd->ngpio || !line.value ||
	    line.value & ~(PLUGSTORM_EDGE_RISING | PLUGSTORM_EDGE_FALLING))
		return -EINVAL;

	buffer = plugstorm_event_buffer_of(pd, line.line);
	if (!buffer)
		return -ENOMEM;

	err = plugstorm_enter(&section, &pf->user);
	if (err)
		return err;
	err = plugstorm_event_begin(&section, line.line, line.value, buffer);
	plugstorm_leave(&section);

	return err ?: plugstorm_watch_add(pf, line.line);
}

/* The last thing that is done to the description. */
void plugstorm_unwatch(struct plugstorm_file *pf)
{
	struct plugstorm_device *pd = pf->user.pd;
	unsigned long flags;

	if (!pf->watch)
		return;

	spin_lock_irqsave(&pd->watch_lock, flags);
	list_del(&pf->watch->node);
	pd->watchers--;
	spin_unlock_irqrestore(&pd->watch_lock, flags);
	kfree(pf->watch);
}

/* Gives how many there were. */
static int plugstorm_events_take(struct plugstorm_watch *watch, struct plugstorm_event *events,
				 unsigned int room)
{
	unsigned long flags;
	int taken;

	spin_lock_irqsave(&watch->pd->watch_lock, flags);
	taken = kfifo_out(&watch->fifo, events, room);
	spin_unlock_irqrestore(&watch->pd->watch_lock, flags);
	return taken;
}

static bool plugstorm_events_any(struct plugstorm_watch *watch)
{
	unsigned long flags;
	bool any;

	spin_lock_irqsave(&watch->pd->watch_lock, flags);
	any = !kfifo_is_empty(&watch->fifo);
	spin_unlock_irqrestore(&watch->pd->watch_lock, flags);
	return any;
}

/* Not inlined, so that a stack shows who is asleep and for what. */
static noinline int plugstorm_event_wait(struct plugstorm_section *section,
					 struct plugstorm_watch *watch)
{
	struct plugstorm_device *pd = watch->pd;
	int err, entered;

	plugstorm_sleep_begin(section);
	err = wait_event_interruptible(pd->events, plugstorm_events_any(watch) ||
				       READ_ONCE(pd->no_more_events));
	entered = plugstorm_sleep_end(section);
	if (err)
		return err;
	if (READ_ONCE(pd->no_more_events))
		return -ENODEV;
	return entered;
}

/* Gives how many there were; waits for the first one. */
static int plugstorm_events_get(struct plugstorm_file *pf, struct plugstorm_watch *watch,
				struct plugstorm_event *events, unsigned int room,
				bool nonblocking)
{
	struct plugstorm_section section;
	int ret;

	ret = plugstorm_enter(&section, &pf->user);
	if (ret)
		return ret;

	for (;;) {
		ret = plugstorm_events_take(watch, events, room);
		if (ret)
			break;
		ret = nonblocking ? -EAGAIN : plugstorm_event_wait(&section, watch);
		if (ret)
			break;
	}

	plugstorm_leave(&section);
	return ret;
}

ssize_t plugstorm_read_events(struct plugstorm_file *pf, struct plugstorm_watch *watch,
			      char __user *buf, size_t count, bool nonblocking)
{
	struct plugstorm_event events[PLUGSTORM_EVENTS_AT_ONCE];
	size_t room = min_t(size_t, count / sizeof(*events), ARRAY_SIZE(events));
	int got;

	if (!room)
		return -EINVAL;

	got = plugstorm_events_get(pf, watch, events, room, nonblocking);
	if (got < 0)
		return got;
	return copy_to_user(buf, events, got * sizeof(*events)) ? -EFAULT : got * sizeof(*events);
}

__poll_t plugstorm_poll_events(struct plugstorm_watch *watch)
{
	return plugstorm_events_any(watch) ? EPOLLIN | EPOLLRDNORM : 0;
}
