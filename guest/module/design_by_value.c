// SPDX-License-Identifier: GPL-2.0
/*
 * by-value: the repair of shared-handle that was posted on 29 January 2026,
 * rewritten from its description. The handle is on the stack of the thread that
 * is inside, and so is the SRCU index; the provider is freed by RCU, and a
 * reader takes a reference only if there still is one. The revoke gets a pointer
 * to the owner's pointer and clears it.
 *
 * Its defects are wanted and must stay. Both come from the reader's side: it
 * hands over the provider's pointer by value.
 * D. A consumer that has saved the pointer (as that series' own self-test did)
 *    is not reached by the clearing of the owner's pointer. After the free its
 *    copy is as good as before, and it passes it. That consumer is the variant
 *    by-value-copy; by-value itself reads the owner's pointer at each use.
 * E. And yet the pointer is read when the argument is evaluated, and protected
 *    when the callee has come to its rcu_read_lock(): the revoke, the last put
 *    and RCU's free all fit in between.
 *
 * The last put may be a reader's, and cleanup_srcu_struct() sleeps: get-put's
 * defect H is here too.
 */
#include <linux/container_of.h>
#include <linux/err.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/srcu.h>

#include "batch.h"
#include "design.h"
#include "points.h"

struct by_value_provider {
	struct srcu_struct srcu;
	void __rcu *res;
	struct kref kref;	/* the owner's reference, and one for each reader inside */
	struct rcu_head rcu;
	struct plugstorm_batched leaving;
};

struct by_value_owner {
	struct plugstorm_guard guard;
	struct by_value_provider __rcu *provider;
	struct mutex evidence_lock;		/* @evidence; nobody but show takes part */
	struct by_value_provider *evidence;	/* NULL after the revoke */
};

/* What a consumer of by-value-copy keeps. */
struct by_value_copy {
	struct by_value_provider *provider;	/* D */
};

static void by_value_free(struct rcu_head *rcu)
{
	kfree(container_of(rcu, struct by_value_provider, rcu));
}

/*
 * Not kfree_rcu(): that gathers what it has to free for up to five seconds, in
 * which the memory of a provider that is gone looks as it did. It would hide D
 * and E from every storm, and leave them in.
 */
static void by_value_release(struct kref *kref)
{
	struct by_value_provider *provider = container_of(kref, struct by_value_provider, kref);

	cleanup_srcu_struct(&provider->srcu);
	call_rcu(&provider->rcu, by_value_free);
}

static struct by_value_provider *by_value_provider_alloc(void *resource)
{
	struct by_value_provider *provider = kzalloc(sizeof(*provider), GFP_KERNEL);
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
	return provider;
}

static struct plugstorm_guard *by_value_owner_alloc(void *resource,
						    const struct plugstorm_design *design)
{
	struct by_value_owner *owner = kzalloc(sizeof(*owner), GFP_KERNEL);
	struct by_value_provider *provider;

	if (!owner)
		return ERR_PTR(-ENOMEM);

	provider = by_value_provider_alloc(resource);
	if (IS_ERR(provider)) {
		kfree(owner);
		return ERR_CAST(provider);
	}
	mutex_init(&owner->evidence_lock);
	owner->evidence = provider;
	rcu_assign_pointer(owner->provider, provider);
	owner->guard.design = design;
	return &owner->guard;
}

static struct plugstorm_guard *by_value_init(void *resource)
{
	return by_value_owner_alloc(resource, &plugstorm_by_value);
}

static struct plugstorm_guard *by_value_copy_init(void *resource)
{
	return by_value_owner_alloc(resource, &plugstorm_by_value_copy);
}

static void by_value_leave(void *handle, struct plugstorm_token *token)
{
	struct by_value_provider *provider = token->pointer;

	srcu_read_unlock(&provider->srcu, token->idx);
	PLUGSTORM_POINT_SLEEP("by-value.before-put");
	kref_put(&provider->kref, by_value_release);
}

/*
 * Makes a handle of the token. Not inlined, so that the compiler cannot read the
 * owner's pointer after the rcu_read_lock(), which would mend E.
 */
static noinline int by_value_handle_init(struct by_value_provider *provider,
					 struct plugstorm_token *token)
{
	bool alive;

	PLUGSTORM_POINT_SLEEP("by-value.argument-evaluated");
	if (!provider)
		return -ENODEV;

	rcu_read_lock();
	alive = kref_get_unless_zero(&provider->kref);	/* D, E: of memory that may be free */
	rcu_read_unlock();
	token->pointer = provider;
	return alive ? 0 : -ENODEV;
}

static void *by_value_use(struct by_value_provider *provider, struct plugstorm_token *token)
{
	int err = by_value_handle_init(provider, token);
	void *res;

	if (err)
		return ERR_PTR(err);

	PLUGSTORM_POINT_SLEEP("by-value.reference-taken");
	token->idx = srcu_read_lock(&provider->srcu);
	res = srcu_dereference(provider->res, &provider->srcu);
	if (res)
		return res;

	by_value_leave(NULL, token);
	return ERR_PTR(-ENODEV);
}

static void *by_value_open(struct plugstorm_guard *guard)
{
	return container_of(guard, struct by_value_owner, guard);
}

static void *by_value_enter(void *handle, struct plugstorm_token *token)
{
	struct by_value_owner *owner = handle;

	return by_value_use(rcu_access_pointer(owner->provider), token);	/* E */
}

static void *by_value_copy_open(struct plugstorm_guard *guard)
{
	struct by_value_owner *owner = container_of(guard, struct by_value_owner, guard);
	struct by_value_copy *copy = kzalloc(sizeof(*copy), GFP_KERNEL);

	if (!copy)
		return ERR_PTR(-ENOMEM);

	copy->provider = rcu_access_pointer(owner->provider);
	return copy;
}

static void *by_value_copy_enter(void *handle, struct plugstorm_token *token)
{
	struct by_value_copy *copy = handle;

	return by_value_use(copy->provider, token);
}

/*
 * Of the API: the argument is the owner's pointer itself, and a second call finds
 * it cleared. Gives the provider, which takes no new readers; NULL if it was gone.
 */
static struct by_value_provider *by_value_take(struct by_value_provider __rcu **where)
{
	struct by_value_provider *provider = unrcu_pointer(xchg(where, RCU_INITIALIZER(NULL)));

	if (provider)
		RCU_INIT_POINTER(provider->res, NULL);
	return provider;
}

/* When its readers have been waited for. */
static void by_value_drop(struct by_value_owner *owner, struct by_value_provider *provider)
{
	mutex_lock(&owner->evidence_lock);
	owner->evidence = NULL;
	mutex_unlock(&owner->evidence_lock);

	kref_put(&provider->kref, by_value_release);
}

static void by_value_revoke(struct plugstorm_guard *guard)
{
	struct by_value_owner *owner = container_of(guard, struct by_value_owner, guard);
	struct by_value_provider *provider = by_value_take(&owner->provider);

	if (!provider)
		return;

	PLUGSTORM_POINT_SLEEP("by-value.cleared");
	synchronize_srcu(&provider->srcu);
	by_value_drop(owner, provider);
	plugstorm_no_tail_call();
}

/*
 * Each provider has its own domain, whose grace period begins when that provider's
 * pointers were cleared; all run at the same time. The owner's evidence keeps what
 * was taken until it has been waited for. Both variants: what a consumer has
 * copied is as wrong after this as after one revoke (D).
 */
static void by_value_revoke_many(struct plugstorm_guard **guards, unsigned int count)
{
	struct plugstorm_batch batch;
	unsigned int i;

	plugstorm_batch_init(&batch);
	for (i = 0; i < count; i++) {
		struct by_value_owner *owner = container_of(guards[i], struct by_value_owner,
							    guard);
		struct by_value_provider *provider = by_value_take(&owner->provider);

		if (provider)
			plugstorm_batch_begin(&batch, &provider->leaving, &provider->srcu);
	}
	plugstorm_batch_wait(&batch);
	for (i = 0; i < count; i++) {
		struct by_value_owner *owner = container_of(guards[i], struct by_value_owner,
							    guard);

		/* Only a revoke writes to it, and no two run at the same time. */
		if (owner->evidence)
			by_value_drop(owner, owner->evidence);
	}
}

static void by_value_close(void *handle)
{
}

static void by_value_copy_close(void *handle)
{
	kfree(handle);
}

static void by_value_destroy(struct plugstorm_guard *guard)
{
	kfree(container_of(guard, struct by_value_owner, guard));
}

static void by_value_show(struct plugstorm_guard *guard, struct seq_file *m)
{
	struct by_value_owner *owner = container_of(guard, struct by_value_owner, guard);

	mutex_lock(&owner->evidence_lock);
	if (owner->evidence)
		plugstorm_srcu_show(m, &owner->evidence->srcu);
	mutex_unlock(&owner->evidence_lock);
}

const struct plugstorm_design plugstorm_by_value = {
	.number = 3,
	.name = "by-value",
	.atomic = true,
	.sleeps = true,
	.init = by_value_init,
	.open = by_value_open,
	.enter = by_value_enter,
	.leave = by_value_leave,
	.revoke = by_value_revoke,
	.revoke_many = by_value_revoke_many,
	.close = by_value_close,
	.destroy = by_value_destroy,
	.show = by_value_show,
};

const struct plugstorm_design plugstorm_by_value_copy = {
	.number = 0x103,
	.name = "by-value-copy",
	.atomic = true,
	.sleeps = true,
	.init = by_value_copy_init,
	.open = by_value_copy_open,
	.enter = by_value_copy_enter,
	.leave = by_value_leave,
	.revoke = by_value_revoke,
	.revoke_many = by_value_revoke_many,
	.close = by_value_copy_close,
	.destroy = by_value_destroy,
	.show = by_value_show,
};
