// SPDX-License-Identifier: GPL-2.0
/*
 * A section in which nothing is done but to use the resource.
 */
#include <linux/delay.h>
#include <linux/minmax.h>

#include "section.h"

/* How long plugstorm_stay() spins between two looks at the resource. */
#define PLUGSTORM_STAY_SLICE_US	10

/* Inside the section for @us microseconds, using the resource all the while. In any context. */
int plugstorm_stay(struct plugstorm_user *user, unsigned int us)
{
	struct plugstorm_section section;
	int err;

	err = plugstorm_enter(&section, user);
	if (err)
		return err;

	while (us) {
		unsigned int slice = min_t(unsigned int, us, PLUGSTORM_STAY_SLICE_US);

		udelay(slice);
		us -= slice;
		plugstorm_resource_look(user->pd, section.res);
	}

	plugstorm_leave(&section);
	return 0;
}
