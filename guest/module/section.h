/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The protected section: the one way to the resource, through the design's
 * enter and leave and nothing else. No look at the device's phase, no lock of
 * the driver's: a defect of the design is meant to show.
 */
#ifndef _PLUGSTORM_SECTION_H
#define _PLUGSTORM_SECTION_H

#include <linux/err.h>
#include <linux/gfp.h>

#include "plugstorm.h"

/**
 * struct plugstorm_section - one use of the resource, on the user's stack
 * @user:	whose
 * @res:	the resource; NULL while outside
 * @token:	the design's
 */
struct plugstorm_section {
	struct plugstorm_user *user;
	struct plugstorm_resource *res;
	struct plugstorm_token token;
};

/* Gives 0, or what the design says: -ENODEV once the resource has been revoked. */
static inline int plugstorm_enter(struct plugstorm_section *section, struct plugstorm_user *user)
{
	struct plugstorm_resource *res;

	section->user = user;
	section->res = NULL;
	res = user->pd->guard->design->enter(user->handle, &section->token);
	if (IS_ERR(res))
		return PTR_ERR(res);

	section->res = res;
	plugstorm_resource_look(user->pd, res);
	return 0;
}

/*
 * Does nothing outside. The last use is just before the leave: a section that
 * ended too early shows here.
 */
static inline void plugstorm_leave(struct plugstorm_section *section)
{
	struct plugstorm_user *user = section->user;

	if (!section->res)
		return;

	plugstorm_resource_look(user->pd, section->res);
	section->res = NULL;
	user->pd->guard->design->leave(user->handle, &section->token);
}

/* Before a sleep, which the sections of some designs do not allow: those are left. */
static inline void plugstorm_sleep_begin(struct plugstorm_section *section)
{
	if (!section->user->pd->guard->design->sleeps)
		plugstorm_leave(section);
}

/*
 * After a sleep. On failure, as that of plugstorm_enter(), the section has been
 * left for good.
 */
static inline int plugstorm_sleep_end(struct plugstorm_section *section)
{
	return section->res ? 0 : plugstorm_enter(section, section->user);
}

/* How memory may be had inside. */
static inline gfp_t plugstorm_gfp(const struct plugstorm_section *section)
{
	return section->user->pd->guard->design->sleeps ? GFP_KERNEL : GFP_ATOMIC;
}

/* section.c */
int plugstorm_stay(struct plugstorm_user *user, unsigned int us);

#endif /* _PLUGSTORM_SECTION_H */
