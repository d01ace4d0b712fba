/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One interface for every way of taking a resource away from code that may
 * still be using it. A design is one file, design_*.c, and one line in
 * design_table.h.
 */
#ifndef _PLUGSTORM_DESIGN_H
#define _PLUGSTORM_DESIGN_H

#include <linux/compiler.h>
#include <linux/types.h>

struct plugstorm_design;
struct seq_file;
struct srcu_struct;

/**
 * struct plugstorm_guard - what one device holds of its design
 * @design:	the design
 * @wake:	set by the driver after @init, or NULL: wakes whoever sleeps inside
 *		the section, for good. For a design whose protocol has that step;
 *		it calls it in its revoke, when new users are refused already
 * @driver:	the driver's, set after @init: what @wake finds its device by
 *
 * Embedded in the design's own structure.
 */
struct plugstorm_guard {
	const struct plugstorm_design *design;
	void (*wake)(struct plugstorm_guard *guard);
	void *driver;
};

/**
 * struct plugstorm_token - what a design wants to remember from enter to leave
 * @pointer:	for the design
 * @idx:	for the design
 *
 * On the stack of the caller: one for each call, never shared by threads.
 */
struct plugstorm_token {
	void *pointer;
	int idx;
};

/**
 * struct plugstorm_design - a way to take a resource away
 * @number:	PCI subsystem device id of a device that wants this design
 * @name:	its name in scenarios and in the module parameter
 * @atomic:	@enter and @leave may be called where sleeping is not allowed:
 *		from an interrupt, from a timer, with preemption off
 * @sleeps:	whoever is inside may sleep
 * @init:	the device has come: guard this resource; ERR_PTR on failure; may sleep
 * @open:	a consumer has come: what it keeps until @close; ERR_PTR on
 *		failure; may run at the same time as @revoke and after it
 * @enter:	begin to use the resource: gives it, or an ERR_PTR, after which
 *		@leave must not be called; -ENODEV once it has been revoked,
 *		-EINTR if the caller is dying
 * @leave:	end the use begun with the same handle and token
 * @revoke:	take the resource away; when it returns the caller frees the
 *		resource; may sleep. May be called again, never at the same time:
 *		a right design makes that harmless
 * @revoke_many: optional: as @revoke of each of @count guards, all of this design
 *		and none twice; when it returns all of their resources may be freed.
 *		For mechanisms that can wait for all at once. On the same terms as
 *		@revoke
 * @close:	the consumer goes; may run long after @revoke
 * @destroy:	no consumer is left and none can come; always after @revoke
 * @show:	optional: evidence for debugfs; at any time between @init and
 *		@destroy, so it must not wait for @revoke
 */
struct plugstorm_design {
	u16 number;
	const char *name;
	bool atomic;
	bool sleeps;
	struct plugstorm_guard *(*init)(void *resource);
	void *(*open)(struct plugstorm_guard *guard);
	void *(*enter)(void *handle, struct plugstorm_token *token);
	void (*leave)(void *handle, struct plugstorm_token *token);
	void (*revoke)(struct plugstorm_guard *guard);
	void (*revoke_many)(struct plugstorm_guard **guards, unsigned int count);
	void (*close)(void *handle);
	void (*destroy)(struct plugstorm_guard *guard);
	void (*show)(struct plugstorm_guard *guard, struct seq_file *m);
};

/* Every design of design_table.h, and the table itself, which ends with NULL. */
#define DESIGN(name) plugstorm_##name
extern const struct plugstorm_design
#include "design_table.h"
*const plugstorm_designs[];
#undef DESIGN

const struct plugstorm_design *plugstorm_design_by_number(u16 number);
const struct plugstorm_design *plugstorm_design_by_name(const char *name);

/*
 * For the end of a function that waits: without a statement after the wait the
 * compiler would jump there, and a hang's stack would not name the function.
 */
#define plugstorm_no_tail_call()	barrier()

/* Writes an srcu_struct's sums of locks and unlocks, one line for each index. */
void plugstorm_srcu_show(struct seq_file *m, struct srcu_struct *ssp);

#endif /* _PLUGSTORM_DESIGN_H */
