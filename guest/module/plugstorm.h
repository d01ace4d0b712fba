/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the parts of the driver share.
 *
 * Two objects, two lifetimes. The resource (virtqueues, requests, lines)
 * belongs to the hardware and is freed when it has been revoked. The device
 * belongs to whoever has it open and is freed at the last close.
 */
#ifndef _PLUGSTORM_H
#define _PLUGSTORM_H

#include <linux/atomic.h>
#include <linux/cdev.h>
#include <linux/compiler.h>
#include <linux/device.h>
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/mm_types.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/virtio.h>
#include <linux/wait.h>

#include "design.h"

struct plugstorm_device;
struct plugstorm_event_buffer;
struct plugstorm_section;

/* The virtqueues (virtio 1.2, 5.18.2); the second is there with VIRTIO_GPIO_F_IRQ only. */
enum plugstorm_queue {
	PLUGSTORM_REQUESTQ,
	PLUGSTORM_EVENTQ,
	PLUGSTORM_QUEUES,
};

/**
 * struct plugstorm_line_state - what the driver has asked of a line
 * @direction:	last direction set: VIRTIO_GPIO_DIRECTION_*
 * @edges:	edges asked for: VIRTIO_GPIO_IRQ_TYPE_EDGE_*, 0 if nobody has
 */
struct plugstorm_line_state {
	u8 direction;
	u8 edges;
};

/**
 * struct plugstorm_resource - what the hardware takes with it
 * @canary:	the device's @canary while the resource lives; first, where the
 *		allocator keeps no pointer of its own in freed memory
 * @vq:		the request virtqueue
 * @eventq:	the event virtqueue, or NULL
 * @lock:	of @vq, @eventq, @gone, @pending and the lines' edges; taken by
 *		the interrupt handlers
 * @gone:	no request is taken any more
 * @pending:	requests that somebody waits for
 * @space:	who waits for room in @vq
 * @levels:	last known levels, a byte for each line; may be mapped, and so
 *		outlives the rest for as long as somebody has it mapped
 * @lines:	what was asked of them
 */
struct plugstorm_resource {
	u64 canary;
	struct virtqueue *vq;
	struct virtqueue *eventq;
	spinlock_t lock;	/* @vq, @eventq, @gone, @pending, edges */
	bool gone;
	struct list_head pending;
	wait_queue_head_t space;
	struct page *levels;
	struct plugstorm_line_state lines[];
};

/**
 * enum plugstorm_phase - how far a device's removal has come
 * @PLUGSTORM_LIVE:	not begun
 * @PLUGSTORM_GONE:	new requests are refused, those waiting have been woken
 * @PLUGSTORM_REVOKING:	inside the design's revoke
 * @PLUGSTORM_REVOKED:	the resource is being freed, or has been
 */
enum plugstorm_phase {
	PLUGSTORM_LIVE,
	PLUGSTORM_GONE,
	PLUGSTORM_REVOKING,
	PLUGSTORM_REVOKED,
};

/**
 * struct plugstorm_user - who goes through the design
 * @pd:		the device, which the user keeps
 * @handle:	the design's, from its open
 */
struct plugstorm_user {
	struct plugstorm_device *pd;
	void *handle;
};

/**
 * struct plugstorm_device - /dev/plugstormN
 * @dev:	its device; holds the memory of this structure
 * @cdev:	its character device; keeps @dev while open
 * @guard:	the design's part, from probe to the last close
 * @resource:	for probe and remove alone, and for interrupt handlers that
 *		cannot go through the design: everybody else does
 * @vdev:	for probe and remove alone
 * @vqs:	for probe and remove alone; outlive @resource by a little
 * @interrupts:	the virtqueues' callbacks as users; no handles where the design
 *		cannot be used in an interrupt
 * @canary:	tells this device's resource from any other memory
 * @ngpio:	number of lines
 * @id:		the N
 * @ready:	the callbacks may use what they find here
 * @has_events:	it has an event virtqueue
 * @phase:	enum plugstorm_phase
 * @opens:	open descriptions
 * @used_after_free: how often somebody was seen to use the resource after its free
 * @wait:	for poll: it goes
 * @events:	who waits for an event, inside the section if the design lets it
 * @no_more_events: and none of them shall wait any longer
 * @watch_lock:	of @watches, @watchers and what each has; taken by the interrupt
 *		handler
 * @watches:	those who are told of events
 * @watchers:	how many they are
 * @buffers:	for events, by line; the device may write to them until its reset
 * @files_lock:	of @files
 * @files:	open descriptions, to find their mappings
 * @debugfs:	its directory
 */
struct plugstorm_device {
	struct device dev;
	struct cdev cdev;
	struct plugstorm_guard *guard;
	struct plugstorm_resource *resource;
	struct virtio_device *vdev;
	struct virtqueue *vqs[PLUGSTORM_QUEUES];
	struct plugstorm_user interrupts[PLUGSTORM_QUEUES];
	u64 canary;
	u16 ngpio;
	int id;
	bool ready;
	bool has_events;
	enum plugstorm_phase phase;
	atomic_t opens;
	atomic_t used_after_free;
	wait_queue_head_t wait;
	wait_queue_head_t events;
	bool no_more_events;
	spinlock_t watch_lock;	/* @watches, @watchers */
	struct list_head watches;
	unsigned int watchers;
	struct plugstorm_event_buffer **buffers;
	struct mutex files_lock;	/* @files */
	struct list_head files;
	struct dentry *debugfs;
};

/* chardev.c */
extern const struct file_operations plugstorm_fops;

/* debugfs.c */
void plugstorm_debugfs_init(void);
void plugstorm_debugfs_exit(void);
void plugstorm_debugfs_add(struct plugstorm_device *pd);
void plugstorm_debugfs_remove(struct plugstorm_device *pd);

/* events.c */
void plugstorm_events_done(struct plugstorm_device *pd, struct plugstorm_resource *res,
			   struct virtqueue *vq);
void plugstorm_events_drop(struct virtqueue *vq);
void plugstorm_events_over(struct plugstorm_device *pd);
int plugstorm_event_buffers_alloc(struct plugstorm_device *pd);
void plugstorm_event_buffers_free(struct plugstorm_device *pd);

/* mapping.c */
void plugstorm_mappings_zap(struct plugstorm_device *pd);

/* queues.c */
int plugstorm_queues_find(struct plugstorm_device *pd);
void plugstorm_queues_quiet(struct plugstorm_device *pd);
void plugstorm_queues_give_up(struct plugstorm_device *pd);
void plugstorm_queues_free(struct plugstorm_device *pd);
int plugstorm_interrupts_open(struct plugstorm_device *pd);
void plugstorm_interrupts_close(struct plugstorm_device *pd);

/* request.c */
void plugstorm_requests_done(struct plugstorm_resource *res, struct virtqueue *vq);
void plugstorm_requests_fail(struct plugstorm_resource *res);
void plugstorm_requests_drop(struct virtqueue *vq);
int plugstorm_line_get(struct plugstorm_section *section, u16 line, u8 *level);
int plugstorm_line_set(struct plugstorm_section *section, u16 line, u8 level);
int plugstorm_line_listen(struct plugstorm_section *section, u16 line, u8 edges);

/* resource.c */
struct plugstorm_resource *plugstorm_resource_alloc(struct plugstorm_device *pd);
void plugstorm_resource_free(struct plugstorm_resource *res);
void plugstorm_used_after_free(struct plugstorm_device *pd, u64 found);
extern atomic_t plugstorm_uses_after_free;
void plugstorm_revoke(struct plugstorm_device *pd);
extern bool plugstorm_canaries;

/**
 * plugstorm_resource_look() - use the resource without asking the device
 * @pd:		the device
 * @res:	what the design's enter gave
 *
 * Follows a pointer of the resource, so that freed memory which was poisoned or
 * cleared gives a fault. A kernel that does neither leaves the old contents and
 * notices nothing: there the canary speaks.
 */
static inline void plugstorm_resource_look(struct plugstorm_device *pd,
					   struct plugstorm_resource *res)
{
	u64 found = READ_ONCE(res->canary);

	if (unlikely(found != pd->canary) && plugstorm_canaries)
		plugstorm_used_after_free(pd, found);
	READ_ONCE(READ_ONCE(res->vq)->num_free);
}

#endif /* _PLUGSTORM_H */
