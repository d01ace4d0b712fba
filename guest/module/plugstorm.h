/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the parts of the driver share.
 *
 * Two objects, two lifetimes. The resource (virtqueue, requests, directions)
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
#include <linux/spinlock.h>
#include <linux/types.h>
#include <linux/virtio.h>
#include <linux/wait.h>

#include "design.h"

/**
 * struct plugstorm_resource - what the hardware takes with it
 * @canary:	the device's @canary while the resource lives; first, where the
 *		allocator keeps no pointer of its own in freed memory
 * @vq:		the request virtqueue
 * @lock:	of @vq, @gone and @pending; taken by the interrupt handler
 * @gone:	no request is taken any more
 * @pending:	requests that somebody waits for
 * @space:	who waits for room in @vq
 * @directions:	last direction set, by line: VIRTIO_GPIO_DIRECTION_*
 */
struct plugstorm_resource {
	u64 canary;
	struct virtqueue *vq;
	spinlock_t lock;	/* @vq, @gone, @pending */
	bool gone;
	struct list_head pending;
	wait_queue_head_t space;
	u8 directions[];
};

/**
 * enum plugstorm_phase - how far a device's removal has come
 * @PLUGSTORM_LIVE:	not begun
 * @PLUGSTORM_GONE:	new requests are refused, those waiting have been woken
 * @PLUGSTORM_REVOKING:	inside the design's revoke
 * @PLUGSTORM_REVOKED:	the resource has been freed
 */
enum plugstorm_phase {
	PLUGSTORM_LIVE,
	PLUGSTORM_GONE,
	PLUGSTORM_REVOKING,
	PLUGSTORM_REVOKED,
};

/**
 * struct plugstorm_device - /dev/plugstormN
 * @dev:	its device; holds the memory of this structure
 * @cdev:	its character device; keeps @dev while open
 * @guard:	the design's part, from probe to the last close
 * @resource:	for probe, remove and the interrupt handler alone: everybody
 *		else goes through @guard
 * @vdev:	for probe and remove alone
 * @vq:		for probe and remove alone; outlives @resource by a little
 * @canary:	tells this device's resource from any other memory
 * @ngpio:	number of lines
 * @id:		the N
 * @phase:	enum plugstorm_phase
 * @opens:	open descriptions
 * @wait:	for poll
 * @debugfs:	its directory
 */
struct plugstorm_device {
	struct device dev;
	struct cdev cdev;
	struct plugstorm_guard *guard;
	struct plugstorm_resource *resource;
	struct virtio_device *vdev;
	struct virtqueue *vq;
	u64 canary;
	u16 ngpio;
	int id;
	enum plugstorm_phase phase;
	atomic_t opens;
	wait_queue_head_t wait;
	struct dentry *debugfs;
};

/* chardev.c */
extern const struct file_operations plugstorm_fops;

/* debugfs.c */
void plugstorm_debugfs_init(void);
void plugstorm_debugfs_exit(void);
void plugstorm_debugfs_add(struct plugstorm_device *pd);
void plugstorm_debugfs_remove(struct plugstorm_device *pd);

/* resource.c */
struct plugstorm_resource *plugstorm_resource_alloc(struct plugstorm_device *pd);
void plugstorm_resource_free(struct plugstorm_resource *res);
void plugstorm_used_after_free(u64 found);
void plugstorm_revoke(struct plugstorm_device *pd);
extern bool plugstorm_canaries;

/* request.c */
void plugstorm_request_done(struct virtqueue *vq);
void plugstorm_requests_fail(struct plugstorm_resource *res);
void plugstorm_requests_drop(struct virtqueue *vq);
int plugstorm_line_get(struct plugstorm_resource *res, u16 line, u8 *level);
int plugstorm_line_set(struct plugstorm_resource *res, u16 line, u8 level);

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
		plugstorm_used_after_free(found);
	READ_ONCE(READ_ONCE(res->vq)->num_free);
}

#endif /* _PLUGSTORM_H */
