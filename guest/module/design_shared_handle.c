// SPDX-License-Identifier: GPL-2.0
/*
 * shared-handle: the revocable API as it was merged in January 2026, rewritten
 * from its description. A provider on the heap holds the resource; every open
 * has a handle on the heap, and the handle holds the SRCU index.
 *
 * Its defects are wanted and must stay:
 * A. The index is the handle's, the handle is the descriptor's, and so all
 *    threads that use one descriptor write one index. Two of them inside at
 *    once, with a grace period's flip between their entries, leave with the
 *    index of the later one.
 * B. Nothing keeps the provider from being freed between the moment a consumer
 *    reads the pointer to it and the moment it takes its reference.
 * C. Allocating a provider waits for a grace period that has nothing to wait for.
 * I. The revoke drops a reference each time that it is called.
 */
#include <linux/container_of.h>
#include <linux/err.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/srcu.h>

#include "batch.h"
#include "design.h"
#include "points.h"

struct shared_provider {
	struct srcu_struct srcu;
	void __rcu *res;
	struct kref kref;
	struct plugstorm_batched leaving;
};

struct shared_handle {
	struct shared_provider *provider;
	int idx;
};

/* The device's side. @provider is not cleared by the revoke: see B. */
struct shared_owner {
	struct plugstorm_guard guard;
	struct shared_provider *provider;
	struct mutex evidence_lock;	/* @revoked; nobody but show takes part */
	bool revoked;
};

static void shared_provider_release(struct kref *kref)
{
	struct shared_provider *provider = container_of(kref, struct shared_provider, kref);

	cleanup_srcu_struct(&provider->srcu);
	kfree(provider);
}

static struct shared_provider *shared_provider_alloc(void *resource)
{
	struct shared_provider *provider = kzalloc(sizeof(*provider), GFP_KERNEL);
	int err;

	if (!provider)
		return ERR_PTR(-ENOMEM);

	err = init_srcu_struct(&provider->srcu);
	if (err) {
		kfree(provider);
		return ERR_PTR(err);
	}
	kref_init(&provider->kref);
	rcu_assign_pointer(provider->res, resource);
	synchronize_srcu(&provider->srcu);	/* C: nobody can be inside yet */
	return provider;
}

static struct plugstorm_guard *shared_handle_init(void *resource)
{
	struct shared_owner *owner = kzalloc(sizeof(*owner), GFP_KERNEL);

	if (!owner)
		return ERR_PTR(-ENOMEM);

	owner->provider = shared_provider_alloc(resource);
	if (IS_ERR(owner->provider)) {
		int err = PTR_ERR(owner->provider);

		kfree(owner);
		return ERR_PTR(err);
	}
	mutex_init(&owner->evidence_lock);
	owner->guard.design = &plugstorm_shared_handle;
	return &owner->guard;
}

static void *shared_handle_open(struct plugstorm_guard *guard)
{
	struct shared_owner *owner = container_of(guard, struct shared_owner, guard);
	struct shared_provider *provider = owner->provider;
	struct shared_handle *handle;

	handle = kzalloc(sizeof(*handle), GFP_KERNEL);
	if (!handle)
		return ERR_PTR(-ENOMEM);

	PLUGSTORM_POINT_SLEEP("shared-handle.provider-read");
	kref_get(&provider->kref);		/* B: of memory that may be free by now */
	handle->provider = provider;
	return handle;
}

/*
 * A: reads the handle's index again, whoever wrote it last. Not inlined, so
 * that the compiler cannot carry the index over from shared_handle_enter() and
 * mend the failing path by accident.
 */
static noinline void shared_handle_leave(void *data, struct plugstorm_token *token)
{
	struct shared_handle *handle = data;

	PLUGSTORM_POINT_SLEEP("shared-handle.before-unlock");
	srcu_read_unlock(&handle->provider->srcu, handle->idx);
}

static void *shared_handle_enter(void *data, struct plugstorm_token *token)
{
	struct shared_handle *handle = data;
	void *res;
	int idx;

	idx = srcu_read_lock(&handle->provider->srcu);
	PLUGSTORM_POINT_SLEEP("shared-handle.index-read");
	handle->idx = idx;		/* A */
	PLUGSTORM_POINT_SLEEP("shared-handle.index-stored");
	res = srcu_dereference(handle->provider->res, &handle->provider->srcu);
	if (res)
		return res;

	shared_handle_leave(handle, token);
	return ERR_PTR(-ENODEV);
}

/* When its readers have been waited for. */
static void shared_handle_drop(struct shared_owner *owner)
{
	mutex_lock(&owner->evidence_lock);
	owner->revoked = true;
	mutex_unlock(&owner->evidence_lock);

	PLUGSTORM_POINT_SLEEP("shared-handle.before-drop");
	kref_put(&owner->provider->kref, shared_provider_release);	/* I */
}

static void shared_handle_revoke(struct plugstorm_guard *guard)
{
	struct shared_owner *owner = container_of(guard, struct shared_owner, guard);
	struct shared_provider *provider = owner->provider;

	RCU_INIT_POINTER(provider->res, NULL);
	PLUGSTORM_POINT_SLEEP("shared-handle.cleared");
	synchronize_srcu(&provider->srcu);
	shared_handle_drop(owner);
}

/*
 * Each provider has its own domain, whose grace period begins when that provider's
 * pointer was cleared; all run at the same time. The API that was merged had no
 * such call: a driver revoked one after another. A and I are as they were.
 */
static void shared_handle_revoke_many(struct plugstorm_guard **guards, unsigned int count)
{
	struct plugstorm_batch batch;
	unsigned int i;

	plugstorm_batch_init(&batch);
	for (i = 0; i < count; i++) {
		struct shared_owner *owner = container_of(guards[i], struct shared_owner, guard);
		struct shared_provider *provider = owner->provider;

		RCU_INIT_POINTER(provider->res, NULL);
		plugstorm_batch_begin(&batch, &provider->leaving, &provider->srcu);
	}
	plugstorm_batch_wait(&batch);
	for (i = 0; i < count; i++)
		shared_handle_drop(container_of(guards[i], struct shared_owner, guard));
}

static void shared_handle_close(void *data)
{
	struct shared_handle *handle = data;

	kref_put(&handle->provider->kref, shared_provider_release);
	kfree(handle);
}

static void shared_handle_destroy(struct plugstorm_guard *guard)
{
	kfree(container_of(guard, struct shared_owner, guard));
}

static void shared_handle_show(struct plugstorm_guard *guard, struct seq_file *m)
{
	struct shared_owner *owner = container_of(guard, struct shared_owner, guard);

	mutex_lock(&owner->evidence_lock);
	if (!owner->revoked)
		plugstorm_srcu_show(m, &owner->provider->srcu);
	mutex_unlock(&owner->evidence_lock);
}

const struct plugstorm_design plugstorm_shared_handle = {
	.number = 2,
	.name = "shared-handle",
	.atomic = true,
	.sleeps = true,
	.init = shared_handle_init,
	.open = shared_handle_open,
	.enter = shared_handle_enter,
	.leave = shared_handle_leave,
	.revoke = shared_handle_revoke,
	.revoke_many = shared_handle_revoke_many,
	.close = shared_handle_close,
	.destroy = shared_handle_destroy,
	.show = shared_handle_show,
};
