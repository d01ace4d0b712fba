// SPDX-License-Identifier: GPL-2.0
/*
 * plugstorm: a driver for a virtio-gpio device whose resources are handed out
 * through one of several designs for taking them away again.
 *
 * It binds only to devices with plugstorm's own vendor, and must be loaded
 * before gpio-virtio, which takes those of any vendor.
 */
#include <linux/container_of.h>
#include <linux/err.h>
#include <linux/idr.h>
#include <linux/kdev_t.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/poll.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/virtio_config.h>
#include <linux/virtio_gpio.h>
#include <linux/virtio_ids.h>

#include "plugstorm.h"

#define PLUGSTORM_VENDOR	0x5053	/* "PS" */
#define PLUGSTORM_MINORS	4096

static char *fallback_design;
module_param_named(design, fallback_design, charp, 0444);
MODULE_PARM_DESC(design, "Design, by name, for devices that do not name one by their PCI subsystem device id");

static dev_t plugstorm_devt;
static DEFINE_IDA(plugstorm_ida);

static struct class plugstorm_class = {
	.name = "plugstorm",
};

/* The device itself says which design it wants: PCI subsystem device id. */
static const struct plugstorm_design *plugstorm_design_of(struct virtio_device *vdev)
{
	const struct plugstorm_design *design = NULL;
	struct device *parent = vdev->dev.parent;
	int number = -1;

	if (parent && dev_is_pci(parent)) {
		number = to_pci_dev(parent)->subsystem_device;
		design = plugstorm_design_by_number(number);
	}
	if (!design && fallback_design)
		design = plugstorm_design_by_name(fallback_design);
	if (design)
		return design;

	if (number < 0)
		dev_err(&vdev->dev, "not a PCI device, and the module parameter design=%s names no design\n",
			fallback_design ?: "");
	else
		dev_err(&vdev->dev, "no design has number %d (PCI subsystem device id), and the module parameter design=%s names none\n",
			number, fallback_design ?: "");
	return ERR_PTR(-EINVAL);
}

/* The last reference has gone: it was removed (or never came up), and nobody has it open. */
static void plugstorm_device_release(struct device *dev)
{
	struct plugstorm_device *pd = container_of(dev, struct plugstorm_device, dev);

	if (pd->guard)
		pd->guard->design->destroy(pd->guard);
	plugstorm_event_buffers_free(pd);
	ida_free(&plugstorm_ida, pd->id);
	kfree(pd);
}

/* From here on put_device() frees it. */
static struct plugstorm_device *plugstorm_device_alloc(struct virtio_device *vdev, u16 ngpio)
{
	struct plugstorm_device *pd;
	int err;

	pd = kzalloc(sizeof(*pd), GFP_KERNEL);
	if (!pd)
		return ERR_PTR(-ENOMEM);

	/* Held until the last close: a name belongs to one device at a time. */
	pd->id = ida_alloc_max(&plugstorm_ida, PLUGSTORM_MINORS - 1, GFP_KERNEL);
	if (pd->id < 0) {
		err = pd->id;
		kfree(pd);
		return ERR_PTR(err);
	}

	pd->vdev = vdev;
	pd->ngpio = ngpio;
	pd->has_events = virtio_has_feature(vdev, VIRTIO_GPIO_F_IRQ);
	init_waitqueue_head(&pd->wait);
	init_waitqueue_head(&pd->events);
	spin_lock_init(&pd->watch_lock);
	INIT_LIST_HEAD(&pd->watches);
	mutex_init(&pd->files_lock);
	INIT_LIST_HEAD(&pd->files);

	device_initialize(&pd->dev);
	pd->dev.class = &plugstorm_class;
	pd->dev.parent = &vdev->dev;
	pd->dev.release = plugstorm_device_release;
	pd->dev.devt = MKDEV(MAJOR(plugstorm_devt), MINOR(plugstorm_devt) + pd->id);
	cdev_init(&pd->cdev, &plugstorm_fops);
	pd->cdev.owner = THIS_MODULE;

	err = dev_set_name(&pd->dev, "plugstorm%d", pd->id);
	if (!err)
		err = plugstorm_event_buffers_alloc(pd);
	if (err) {
		put_device(&pd->dev);
		return ERR_PTR(err);
	}
	return pd;
}

/* For a design that has a step to wake those who sleep inside the section. */
static void plugstorm_wake(struct plugstorm_guard *guard)
{
	plugstorm_events_over(guard->driver);
}

/*
 * Refuses new requests and wakes whoever waits for an answer, inside the
 * section, or for the end, in poll. Then makes sure that the interrupt handlers
 * run no more where they do not go through the design.
 */
static void plugstorm_gone(struct plugstorm_device *pd)
{
	WRITE_ONCE(pd->phase, PLUGSTORM_GONE);
	plugstorm_requests_fail(pd->resource);
	wake_up_poll(&pd->wait, EPOLLHUP | EPOLLERR);

	if (!pd->guard->design->atomic)
		plugstorm_queues_quiet(pd);
}

/*
 * After plugstorm_gone(). Who waits for an event is woken after the revoke, not
 * before: see events.c. Callbacks that go through the design have come until
 * here; their handles go with them (queues.c). The device's memory stays until
 * the last close.
 */
static void plugstorm_finish(struct plugstorm_device *pd)
{
	plugstorm_revoke(pd);
	plugstorm_events_over(pd);
	plugstorm_mappings_zap(pd);
	plugstorm_queues_quiet(pd);
	plugstorm_interrupts_close(pd);
	plugstorm_queues_free(pd);
	plugstorm_debugfs_remove(pd);
	put_device(&pd->dev);
}

static int plugstorm_guard_init(struct plugstorm_device *pd, const struct plugstorm_design *design)
{
	struct plugstorm_guard *guard;

	guard = design->init(pd->resource);
	if (IS_ERR(guard)) {
		dev_err(&pd->vdev->dev, "failed to set up design %s: %ld\n", design->name,
			PTR_ERR(guard));
		return PTR_ERR(guard);
	}
	guard->driver = pd;
	guard->wake = plugstorm_wake;
	pd->guard = guard;
	return 0;
}

/*
 * What can go wrong before anybody can open the device. The guard comes before
 * the virtqueues, whose callbacks use it.
 */
static int plugstorm_bring_up(struct plugstorm_device *pd, const struct plugstorm_design *design)
{
	struct virtio_device *vdev = pd->vdev;
	int err;

	pd->resource = plugstorm_resource_alloc(pd);
	if (!pd->resource)
		return -ENOMEM;

	vdev->priv = pd;
	err = plugstorm_guard_init(pd, design);
	if (err) {
		plugstorm_resource_free(pd->resource);
		return err;
	}

	err = plugstorm_interrupts_open(pd);
	if (err)
		goto err_revoke;

	err = plugstorm_queues_find(pd);
	if (err)
		goto err_interrupts;

	/*
	 * A device that was pulled out meanwhile reads as all-ones. Looked at
	 * last: a design may have waited for a grace period since.
	 */
	if (vdev->config->get_status(vdev) & VIRTIO_CONFIG_S_DRIVER_OK) {
		dev_err(&vdev->dev, "the device vanished while it was set up\n");
		err = -ENODEV;
		goto err_queues;
	}

	smp_store_release(&pd->ready, true);	/* for the callbacks: all is set up */
	virtio_device_ready(vdev);
	return 0;

err_queues:
	plugstorm_queues_give_up(pd);
err_interrupts:
	plugstorm_interrupts_close(pd);
err_revoke:
	plugstorm_revoke(pd);
	return err;
}

static int plugstorm_probe(struct virtio_device *vdev)
{
	const struct plugstorm_design *design;
	struct plugstorm_device *pd;
	u16 ngpio;
	int err;

	design = plugstorm_design_of(vdev);
	if (IS_ERR(design))
		return PTR_ERR(design);

	virtio_cread_le(vdev, struct virtio_gpio_config, ngpio, &ngpio);
	if (!ngpio) {
		dev_err(&vdev->dev, "the device says it has no lines\n");
		return -EINVAL;
	}

	pd = plugstorm_device_alloc(vdev, ngpio);
	if (IS_ERR(pd))
		return PTR_ERR(pd);

	err = plugstorm_bring_up(pd, design);
	if (err) {
		put_device(&pd->dev);
		return err;
	}

	plugstorm_debugfs_add(pd);
	err = cdev_device_add(&pd->cdev, &pd->dev);
	if (err) {
		/* It could be opened for a moment, so it goes the way of a removal. */
		dev_err(&vdev->dev, "failed to add %s: %d\n", dev_name(&pd->dev), err);
		plugstorm_gone(pd);
		plugstorm_finish(pd);
		return err;
	}

	dev_info(&vdev->dev, "%s: %u lines, design %s\n", dev_name(&pd->dev), ngpio, design->name);
	return 0;
}

/*
 * The node goes first: no open begins from here on, though one that has begun
 * may still be on its way. Then the sleepers are woken, and without delay the
 * design has its turn: many of them will not have run by then, as in a driver
 * that does nothing in between.
 */
static noinline void plugstorm_remove(struct virtio_device *vdev)
{
	struct plugstorm_device *pd = vdev->priv;

	cdev_device_del(&pd->cdev, &pd->dev);
	plugstorm_gone(pd);
	plugstorm_finish(pd);
}

static const struct virtio_device_id plugstorm_ids[] = {
	{ VIRTIO_ID_GPIO, PLUGSTORM_VENDOR },
	{ }
};
MODULE_DEVICE_TABLE(virtio, plugstorm_ids);

static const unsigned int plugstorm_features[] = {
	VIRTIO_GPIO_F_IRQ,
};

static struct virtio_driver plugstorm_driver = {
	.driver = {
		.name = "plugstorm",
		.owner = THIS_MODULE,
	},
	.feature_table = plugstorm_features,
	.feature_table_size = ARRAY_SIZE(plugstorm_features),
	.id_table = plugstorm_ids,
	.probe = plugstorm_probe,
	.remove = plugstorm_remove,
};

static int __init plugstorm_init(void)
{
	int err;

	err = alloc_chrdev_region(&plugstorm_devt, 0, PLUGSTORM_MINORS, "plugstorm");
	if (err)
		return err;

	err = class_register(&plugstorm_class);
	if (err)
		goto err_region;

	plugstorm_debugfs_init();
	err = register_virtio_driver(&plugstorm_driver);
	if (err)
		goto err_class;
	return 0;

err_class:
	rcu_barrier();		/* as below: devices may have come and gone */
	plugstorm_debugfs_exit();
	class_unregister(&plugstorm_class);
err_region:
	unregister_chrdev_region(plugstorm_devt, PLUGSTORM_MINORS);
	return err;
}
module_init(plugstorm_init);

static void __exit plugstorm_exit(void)
{
	unregister_virtio_driver(&plugstorm_driver);
	plugstorm_debugfs_exit();
	class_unregister(&plugstorm_class);
	unregister_chrdev_region(plugstorm_devt, PLUGSTORM_MINORS);
	ida_destroy(&plugstorm_ida);
	rcu_barrier();		/* a design may free by a function of this module */
}
module_exit(plugstorm_exit);

MODULE_DESCRIPTION("virtio-gpio driver that hands its resources out through a choice of revocable designs");
MODULE_LICENSE("GPL");
