// SPDX-License-Identifier: GPL-2.0
/*
 * get-put: versions 8 to 11 of the revocable API, rewritten from their
 * description. One object, which may be embedded in another. It starts with two
 * references, the provider's and the consumer's; every use takes and drops one
 * more around its SRCU section, so that the consumer's can go at any time.
 *
 * Here the consumer's reference belongs to all opens together. Who finds that
 * the resource has been revoked gives it up; otherwise it goes with the device.
 *
 * Lookups are safe in both variants, so that nothing but the wanted defects
 * shows:
 * F. The reference of every use is a shared cache line on the path that SRCU
 *    kept clean.
 * G. get-put-embedded: the parent that the object is embedded in is freed when
 *    it has been revoked. A reader has left its SRCU section, so the revoke does
 *    not wait for it, and its put touches freed memory.
 * H. get-put: the last put calls cleanup_srcu_struct(), which sleeps. The last
 *    put may be that of a use in an interrupt or a timer.
 * I. get-put: the revoke drops the provider's reference as often as it is
 *    called. The second time that is the consumer's, which is put again later.
 */
#include <linux/build_bug.h>
#include <linux/container_of.h>
#include <linux/err.h>
#include <linux/kref.h>
#include <linux/mutex.h>
#include <linux/rcupdate.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/srcu.h>

#include "batch.h"
#include "design.h"
#include "points.h"

struct get_put {
	struct srcu_struct srcu;
	void __rcu *res;
	struct kref kref;
	bool embedded;		/* its memory is its parent's */
	struct rcu_head rcu;
	struct plugstorm_batched leaving;
};

/* What get-put-embedded's object is part of; the driver's, freed when it has revoked it. */
struct get_put_parent {
	struct get_put object;
};

struct get_put_owner {
	struct plugstorm_guard guard;
	struct get_put *provided;		/* I: stays when it has been revoked */
	struct get_put __rcu *consumed;		/* by lookups; has a reference */
	struct mutex evidence_lock;		/* @evidence; nobody but show takes part */
	struct get_put *evidence;		/* NULL after the revoke */
};

static void get_put_free(struct rcu_head *rcu)
{
	kfree(container_of(rcu, struct get_put, rcu));
}

/* Not kfree_rcu(), which would hide I as it would by-value's D: see there. */
static void get_put_release(struct kref *kref)
{
	struct get_put *gp = container_of(kref, struct get_put, kref);

	cleanup_srcu_struct(&gp->srcu);		/* H */
	if (!gp->embedded)
		call_rcu(&gp->rcu, get_put_free);
}

static void get_put_put(struct get_put *gp)
{
	kref_put(&gp->kref, get_put_release);
}

static int get_put_object_init(struct get_put *gp, void *resource)
{
	int err = init_srcu_struct(&gp->srcu);

	if (err)
		return err;
	kref_init(&gp->kref);			/* the provider's */
	kref_get(&gp->kref);			/* the consumer's */
	rcu_assign_pointer(gp->res, resource);
	return 0;
}

/* @gp is on the heap, alone or as the first member of a parent. */
static struct plugstorm_guard *get_put_owner_alloc(struct get_put *gp, void *resource,
						   const struct plugstorm_design *design)
{
	struct get_put_owner *owner = kzalloc(sizeof(*owner), GFP_KERNEL);
	int err = -ENOMEM;

	if (!gp || !owner)
		goto err_free;

	err = get_put_object_init(gp, resource);
	if (err)
		goto err_free;

	mutex_init(&owner->evidence_lock);
	owner->evidence = gp;
	owner->provided = gp;
	rcu_assign_pointer(owner->consumed, gp);
	owner->guard.design = design;
	return &owner->guard;

err_free:
	kfree(owner);
	kfree(gp);
	return ERR_PTR(err);
}

static struct plugstorm_guard *get_put_init(void *resource)
{
	struct get_put *gp = kzalloc(sizeof(*gp), GFP_KERNEL);

	return get_put_owner_alloc(gp, resource, &plugstorm_get_put);
}

static struct plugstorm_guard *get_put_embedded_init(void *resource)
{
	struct get_put_parent *parent = kzalloc(sizeof(*parent), GFP_KERNEL);

	static_assert(offsetof(struct get_put_parent, object) == 0);
	if (parent)
		parent->object.embedded = true;
	return get_put_owner_alloc(parent ? &parent->object : NULL, resource,
				   &plugstorm_get_put_embedded);
}

static void *get_put_open(struct plugstorm_guard *guard)
{
	return container_of(guard, struct get_put_owner, guard);
}

static void get_put_leave(void *handle, struct plugstorm_token *token)
{
	struct get_put *gp = token->pointer;

	srcu_read_unlock(&gp->srcu, token->idx);
	PLUGSTORM_POINT_SLEEP("get-put.before-put");	/* G: revoked and freed in between */
	get_put_put(gp);
}

/* Drops the consumer's reference, once. */
static void get_put_give_up(struct get_put_owner *owner)
{
	struct get_put *gp = unrcu_pointer(xchg(&owner->consumed, RCU_INITIALIZER(NULL)));

	if (gp)
		get_put_put(gp);
}

static void *get_put_enter(void *handle, struct plugstorm_token *token)
{
	struct get_put_owner *owner = handle;
	struct get_put *gp;
	void *res;

	rcu_read_lock();
	gp = rcu_dereference(owner->consumed);
	if (gp && !kref_get_unless_zero(&gp->kref))	/* F */
		gp = NULL;
	if (gp) {
		PLUGSTORM_POINT_SPIN("get-put.reference-taken");
		token->idx = srcu_read_lock(&gp->srcu);
	}
	rcu_read_unlock();
	if (!gp)
		return ERR_PTR(-ENODEV);

	token->pointer = gp;
	res = srcu_dereference(gp->res, &gp->srcu);
	if (res)
		return res;

	get_put_leave(handle, token);
	get_put_give_up(owner);				/* H: with it goes the last one */
	return ERR_PTR(-ENODEV);
}

/* When its readers have been waited for. */
static void get_put_drop(struct get_put_owner *owner, struct get_put *gp)
{
	mutex_lock(&owner->evidence_lock);
	owner->evidence = NULL;
	mutex_unlock(&owner->evidence_lock);

	PLUGSTORM_POINT_SLEEP("get-put.before-drop");
	get_put_put(gp);
}

/* Of the API. I: what it was called for before, it does again. */
static void get_put_object_revoke(struct get_put_owner *owner, struct get_put *gp)
{
	RCU_INIT_POINTER(gp->res, NULL);
	PLUGSTORM_POINT_SLEEP("get-put.cleared");
	synchronize_srcu(&gp->srcu);
	get_put_drop(owner, gp);
}

static void get_put_revoke(struct plugstorm_guard *guard)
{
	struct get_put_owner *owner = container_of(guard, struct get_put_owner, guard);

	get_put_object_revoke(owner, owner->provided);
	plugstorm_no_tail_call();
}

/*
 * Each object has its own domain, whose grace period begins when that object's
 * pointer was cleared; all run at the same time. I is as it was.
 */
static void get_put_revoke_many(struct plugstorm_guard **guards, unsigned int count)
{
	struct plugstorm_batch batch;
	unsigned int i;

	plugstorm_batch_init(&batch);
	for (i = 0; i < count; i++) {
		struct get_put_owner *owner = container_of(guards[i], struct get_put_owner, guard);
		struct get_put *gp = owner->provided;

		RCU_INIT_POINTER(gp->res, NULL);
		plugstorm_batch_begin(&batch, &gp->leaving, &gp->srcu);
	}
	plugstorm_batch_wait(&batch);
	for (i = 0; i < count; i++) {
		struct get_put_owner *owner = container_of(guards[i], struct get_put_owner, guard);

		get_put_drop(owner, owner->provided);
	}
}

/* G: the parent goes, and nobody has counted the references to what is in it. */
static void get_put_parent_free(struct get_put *gp)
{
	get_put_put(gp);
	PLUGSTORM_POINT_SLEEP("get-put-embedded.before-free");
	kfree(container_of(gp, struct get_put_parent, object));
}

/*
 * As a driver's remove that frees its private data when it has revoked what is
 * embedded there. Lookups end first, and RCU waits for those that are under way:
 * what is left are readers that have found the object, and they have a reference.
 */
static void get_put_embedded_revoke(struct plugstorm_guard *guard)
{
	struct get_put_owner *owner = container_of(guard, struct get_put_owner, guard);
	struct get_put *gp = unrcu_pointer(xchg(&owner->consumed, RCU_INITIALIZER(NULL)));

	if (!gp)
		return;

	synchronize_rcu();
	get_put_object_revoke(owner, gp);
	get_put_parent_free(gp);
}

/*
 * Two waits: RCU's, which is everybody's, for all lookups; then the domains' own
 * at the same time. The owner's evidence keeps what was taken until then.
 */
static void get_put_embedded_revoke_many(struct plugstorm_guard **guards, unsigned int count)
{
	struct plugstorm_batch batch;
	unsigned int i;

	for (i = 0; i < count; i++) {
		struct get_put_owner *owner = container_of(guards[i], struct get_put_owner, guard);

		xchg(&owner->consumed, RCU_INITIALIZER(NULL));
	}
	synchronize_rcu();
	plugstorm_batch_init(&batch);
	for (i = 0; i < count; i++) {
		struct get_put_owner *owner = container_of(guards[i], struct get_put_owner, guard);
		struct get_put *gp = owner->evidence;

		if (!gp)
			continue;
		RCU_INIT_POINTER(gp->res, NULL);
		plugstorm_batch_begin(&batch, &gp->leaving, &gp->srcu);
	}
	plugstorm_batch_wait(&batch);
	for (i = 0; i < count; i++) {
		struct get_put_owner *owner = container_of(guards[i], struct get_put_owner, guard);
		struct get_put *gp = owner->evidence;

		if (!gp)
			continue;
		get_put_drop(owner, gp);
		get_put_parent_free(gp);
	}
}

static void get_put_close(void *handle)
{
}

static void get_put_destroy(struct plugstorm_guard *guard)
{
	struct get_put_owner *owner = container_of(guard, struct get_put_owner, guard);

	get_put_give_up(owner);
	kfree(owner);
}

static void get_put_show(struct plugstorm_guard *guard, struct seq_file *m)
{
	struct get_put_owner *owner = container_of(guard, struct get_put_owner, guard);

	mutex_lock(&owner->evidence_lock);
	if (owner->evidence) {
		seq_printf(m, "references %u\n", kref_read(&owner->evidence->kref));
		plugstorm_srcu_show(m, &owner->evidence->srcu);
	}
	mutex_unlock(&owner->evidence_lock);
}

const struct plugstorm_design plugstorm_get_put = {
	.number = 4,
	.name = "get-put",
	.atomic = true,
	.sleeps = true,
	.init = get_put_init,
	.open = get_put_open,
	.enter = get_put_enter,
	.leave = get_put_leave,
	.revoke = get_put_revoke,
	.revoke_many = get_put_revoke_many,
	.close = get_put_close,
	.destroy = get_put_destroy,
	.show = get_put_show,
};

const struct plugstorm_design plugstorm_get_put_embedded = {
	.number = 0x104,
	.name = "get-put-embedded",
	.atomic = true,
	.sleeps = true,
	.init = get_put_embedded_init,
	.open = get_put_open,
	.enter = get_put_enter,
	.leave = get_put_leave,
	.revoke = get_put_embedded_revoke,
	.revoke_many = get_put_embedded_revoke_many,
	.close = get_put_close,
	.destroy = get_put_destroy,
	.show = get_put_show,
};
