/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Every design: DESIGN(x) stands for the struct plugstorm_design plugstorm_x of
 * design_x.c. No include guard: it is included once for each use of the list.
 */
DESIGN(unprotected),
DESIGN(shared_handle),
DESIGN(stack_token),
