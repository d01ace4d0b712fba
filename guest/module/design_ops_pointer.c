// SPDX-License-Identifier: GPL-2.0
/*
 * ops-pointer: as gpiolib has done it since 6.9. The subsystem's object outlives
 * the driver; it has an SRCU structure of its own and, protected by that, a
 * pointer to what the driver provides.
 *
 * It wakes no sleeping reader (J), and in 6.12 gpiolib itself falls into that
 * (K): linereq_read() and lineinfo_watch_read() sleep inside such a section.
 */
#include <linux/container_of.h>
#include <linux/err.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/srcu.h>

#include "batch.h"
#include "design.h"
#include "points.h"

/* The driver's part, as a gpio_chip. */
struct ops_chip {
	void *res;
};

/* The subsystem's object, as a gpio_device: kept by the device, and so by every open. */
struct ops_pointer {
	struct plugstorm_guard guard;
	struct srcu_struct srcu;
	struct ops_chip __rcu *chip;
	struct ops_chip *taken;		/* by the revoke of many, until it has waited */
	struct plugstorm_batched leaving;
};

static struct plugstorm_guard *ops_pointer_init(void *resource)
{
	struct ops_pointer *op = kzalloc(sizeof(*op), GFP_KERNEL);
	struct ops_chip *chip = kzalloc(sizeof(*chip), GFP_KERNEL);
	int err = -ENOMEM;

	if (!op || !chip)
		goto err_free;

	err = init_srcu_struct(&op->srcu);
	if (err)
		goto err_free;

	chip->res = resource;
	rcu_assign_pointer(op->chip, chip);
	op->guard.design = &plugstorm_ops_pointer;
	return &op->guard;

err_free:
	kfree(chip);
	kfree(op);
	return ERR_PTR(err);
}

static void *ops_pointer_open(struct plugstorm_guard *guard)
{
	return container_of(guard, struct ops_pointer, guard);
}

static void *ops_pointer_enter(void *handle, struct plugstorm_token *token)
{
	struct ops_pointer *op = handle;
	struct ops_chip *chip;

	token->idx = srcu_read_lock(&op->srcu);
	PLUGSTORM_POINT_SLEEP("ops-pointer.locked");
	chip = srcu_dereference(op->chip, &op->srcu);
	if (chip)
		return chip->res;

	srcu_read_unlock(&op->srcu, token->idx);
	return ERR_PTR(-ENODEV);
}

static void ops_pointer_leave(void *handle, struct plugstorm_token *token)
{
	struct ops_pointer *op = handle;

	PLUGSTORM_POINT_SLEEP("ops-pointer.before-unlock");
	srcu_read_unlock(&op->srcu, token->idx);
}

static void ops_pointer_revoke(struct plugstorm_guard *guard)
{
	struct ops_pointer *op = container_of(guard, struct ops_pointer, guard);
	struct ops_chip *chip = rcu_replace_pointer(op->chip, NULL, true);

	PLUGSTORM_POINT_SLEEP("ops-pointer.cleared");
	synchronize_srcu(&op->srcu);
	kfree(chip);
}

/*
 * Each object has its own domain, whose grace period begins when that object's
 * pointer was cleared; all run at the same time. No chip is freed before all have
 * ended, which is later than it need be for the first of them.
 */
static void ops_pointer_revoke_many(struct plugstorm_guard **guards, unsigned int count)
{
	struct plugstorm_batch batch;
	unsigned int i;

	plugstorm_batch_init(&batch);
	for (i = 0; i < count; i++) {
		struct ops_pointer *op = container_of(guards[i], struct ops_pointer, guard);

		op->taken = rcu_replace_pointer(op->chip, NULL, true);
		plugstorm_batch_begin(&batch, &op->leaving, &op->srcu);
	}
	plugstorm_batch_wait(&batch);
	for (i = 0; i < count; i++)
		kfree(container_of(guards[i], struct ops_pointer, guard)->taken);
}

static void ops_pointer_close(void *handle)
{
}

static void ops_pointer_destroy(struct plugstorm_guard *guard)
{
	struct ops_pointer *op = container_of(guard, struct ops_pointer, guard);

	cleanup_srcu_struct(&op->srcu);
	kfree(op);
}

static void ops_pointer_show(struct plugstorm_guard *guard, struct seq_file *m)
{
	struct ops_pointer *op = container_of(guard, struct ops_pointer, guard);

	plugstorm_srcu_show(m, &op->srcu);
}

const struct plugstorm_design plugstorm_ops_pointer = {
	.number = 10,
	.name = "ops-pointer",
	.atomic = true,
	.sleeps = true,
	.init = ops_pointer_init,
	.open = ops_pointer_open,
	.enter = ops_pointer_enter,
	.leave = ops_pointer_leave,
	.revoke = ops_pointer_revoke,
	.revoke_many = ops_pointer_revoke_many,
	.close = ops_pointer_close,
	.destroy = ops_pointer_destroy,
	.show = ops_pointer_show,
};
