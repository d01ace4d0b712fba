// SPDX-License-Identifier: GPL-2.0
/*
 * stack-token: what the reviewers of shared-handle asked for. One object, no
 * split into provider and handle; who keeps it has a reference; the SRCU index
 * is on the stack of the thread that is inside.
 *
 * No known defect but one it leaves to the driver: it wakes no sleeping reader.
 */
#include <linux/container_of.h>
#include <linux/err.h>
#include <linux/kref.h>
#include <linux/slab.h>
#include <linux/srcu.h>

#include "batch.h"
#include "design.h"
#include "points.h"

struct stack_token {
	struct plugstorm_guard guard;
	struct srcu_struct srcu;
	void __rcu *res;
	struct kref kref;	/* the device's reference, and one for each open */
	struct plugstorm_batched leaving;
};

static void stack_token_release(struct kref *kref)
{
	struct stack_token *st = container_of(kref, struct stack_token, kref);

	cleanup_srcu_struct(&st->srcu);
	kfree(st);
}

static struct plugstorm_guard *stack_token_init(void *resource)
{
	struct stack_token *st = kzalloc(sizeof(*st), GFP_KERNEL);
	int err;

	if (!st)
		return ERR_PTR(-ENOMEM);

	err = init_srcu_struct(&st->srcu);
	if (err) {
		kfree(st);
		return ERR_PTR(err);
	}
	kref_init(&st->kref);
	rcu_assign_pointer(st->res, resource);
	st->guard.design = &plugstorm_stack_token;
	return &st->guard;
}

/* Whoever can call this keeps the device, and with it the device's reference. */
static void *stack_token_open(struct plugstorm_guard *guard)
{
	struct stack_token *st = container_of(guard, struct stack_token, guard);

	kref_get(&st->kref);
	return st;
}

static void *stack_token_enter(void *handle, struct plugstorm_token *token)
{
	struct stack_token *st = handle;
	void *res;

	token->idx = srcu_read_lock(&st->srcu);
	PLUGSTORM_POINT_SLEEP("stack-token.locked");
	res = srcu_dereference(st->res, &st->srcu);
	if (res)
		return res;

	srcu_read_unlock(&st->srcu, token->idx);
	return ERR_PTR(-ENODEV);
}

static void stack_token_leave(void *handle, struct plugstorm_token *token)
{
	struct stack_token *st = handle;

	PLUGSTORM_POINT_SLEEP("stack-token.before-unlock");
	srcu_read_unlock(&st->srcu, token->idx);
}

static void stack_token_revoke(struct plugstorm_guard *guard)
{
	struct stack_token *st = container_of(guard, struct stack_token, guard);

	RCU_INIT_POINTER(st->res, NULL);
	PLUGSTORM_POINT_SLEEP("stack-token.cleared");
	synchronize_srcu(&st->srcu);
	plugstorm_no_tail_call();
}

/*
 * Each object has its own domain, whose grace period begins when that object's
 * pointer was cleared: what a reader of one does is nothing to another. All run
 * at the same time, and the last to end is the end of the wait.
 */
static void stack_token_revoke_many(struct plugstorm_guard **guards, unsigned int count)
{
	struct plugstorm_batch batch;
	unsigned int i;

	plugstorm_batch_init(&batch);
	for (i = 0; i < count; i++) {
		struct stack_token *st = container_of(guards[i], struct stack_token, guard);

		RCU_INIT_POINTER(st->res, NULL);
		plugstorm_batch_begin(&batch, &st->leaving, &st->srcu);
	}
	plugstorm_batch_wait(&batch);
	plugstorm_no_tail_call();
}

static void stack_token_close(void *handle)
{
	struct stack_token *st = handle;

	kref_put(&st->kref, stack_token_release);
}

static void stack_token_destroy(struct plugstorm_guard *guard)
{
	struct stack_token *st = container_of(guard, struct stack_token, guard);

	kref_put(&st->kref, stack_token_release);
}

static void stack_token_show(struct plugstorm_guard *guard, struct seq_file *m)
{
	struct stack_token *st = container_of(guard, struct stack_token, guard);

	plugstorm_srcu_show(m, &st->srcu);
}

const struct plugstorm_design plugstorm_stack_token = {
	.number = 5,
	.name = "stack-token",
	.atomic = true,
	.sleeps = true,
	.init = stack_token_init,
	.open = stack_token_open,
	.enter = stack_token_enter,
	.leave = stack_token_leave,
	.revoke = stack_token_revoke,
	.revoke_many = stack_token_revoke_many,
	.close = stack_token_close,
	.destroy = stack_token_destroy,
	.show = stack_token_show,
};
