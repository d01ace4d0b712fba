/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Stands in for the delay points until they are there: none is ever armed.
 */
#ifndef _PLUGSTORM_POINTS_H
#define _PLUGSTORM_POINTS_H

#include <linux/types.h>

static inline bool plugstorm_point_armed(const char *name)
{
	return false;
}

#endif /* _PLUGSTORM_POINTS_H */
