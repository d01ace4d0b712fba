// SPDX-License-Identifier: GPL-2.0
/*
 * Where the list of delay points begins: the Makefile links this file first.
 */
#include <linux/stddef.h>

#include "points.h"

struct plugstorm_point *const plugstorm_points[] PLUGSTORM_POINT_SECTION = { NULL };
