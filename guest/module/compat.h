/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where Linux 6.1 and 6.12 want different calls. The Makefile asks the headers
 * which of them they have, not for their version.
 */
#ifndef _PLUGSTORM_COMPAT_H
#define _PLUGSTORM_COMPAT_H

#include <linux/mm.h>
#include <linux/virtio_config.h>

/* Finds @count virtqueues in the order of their callbacks and names. */
static inline int plugstorm_find_vqs(struct virtio_device *vdev, unsigned int count,
				     struct virtqueue *vqs[], vq_callback_t *callbacks[],
				     const char *const names[])
{
#ifdef PLUGSTORM_VIRTQUEUE_INFO
	struct virtqueue_info infos[2] = {};
	unsigned int i;

	if (count > ARRAY_SIZE(infos))
		return -EINVAL;
	for (i = 0; i < count; i++) {
		infos[i].name = names[i];
		infos[i].callback = callbacks[i];
	}
	return virtio_find_vqs(vdev, count, vqs, infos, NULL);
#else
	return virtio_find_vqs(vdev, count, vqs, callbacks, names, NULL);
#endif
}

/* In mmap(), before anybody else can see @vma. */
static inline void plugstorm_vm_flags_mod(struct vm_area_struct *vma, unsigned long set,
					  unsigned long clear)
{
#ifdef PLUGSTORM_VM_FLAGS_MOD
	vm_flags_mod(vma, set, clear);
#else
	vma->vm_flags = (vma->vm_flags | set) & ~clear;
#endif
}

#endif /* _PLUGSTORM_COMPAT_H */
