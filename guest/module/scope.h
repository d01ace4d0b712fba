/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A section that ends where its block ends, on whichever way out.
 *
 *	struct plugstorm_scope scope __cleanup(plugstorm_scope_leave) =
 *		PLUGSTORM_SCOPE(design, handle);
 *	void *res = plugstorm_scope_enter(&scope);
 *
 *	if (IS_ERR(res))
 *		return PTR_ERR(res);
 */
#ifndef _PLUGSTORM_SCOPE_H
#define _PLUGSTORM_SCOPE_H

#include <linux/compiler.h>
#include <linux/err.h>

#include "design.h"

/**
 * struct plugstorm_scope - a section that its block ends
 * @design:	the design
 * @handle:	what its open gave
 * @token:	in place: a design may keep the address from enter to leave
 * @inside:	entered, and so to be left
 */
struct plugstorm_scope {
	const struct plugstorm_design *design;
	void *handle;
	struct plugstorm_token token;
	bool inside;
};

#define PLUGSTORM_SCOPE(the_design, the_handle) \
	{ .design = (the_design), .handle = (the_handle) }

/* The resource, or an ERR_PTR, after which nothing is left. Once for each scope. */
static inline void *plugstorm_scope_enter(struct plugstorm_scope *scope)
{
	void *res = scope->design->enter(scope->handle, &scope->token);

	scope->inside = !IS_ERR(res);
	return res;
}

static inline void plugstorm_scope_leave(struct plugstorm_scope *scope)
{
	if (scope->inside)
		scope->design->leave(scope->handle, &scope->token);
}

#endif /* _PLUGSTORM_SCOPE_H */
