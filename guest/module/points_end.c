// SPDX-License-Identifier: GPL-2.0
/*
 * Where the list of delay points ends: the Makefile links this file last.
 */
#include <linux/compiler.h>

#include "points.h"

static struct plugstorm_point *const plugstorm_points_end __used PLUGSTORM_POINT_SECTION;
