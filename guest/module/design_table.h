/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Every design: DESIGN(x) stands for a struct plugstorm_design plugstorm_x. A
 * variant is in the file of the design that it is one of. No include guard: it
 * is included once for each use of the list.
 */
DESIGN(unprotected),
DESIGN(shared_handle),
DESIGN(by_value),
DESIGN(by_value_copy),
DESIGN(get_put),
DESIGN(get_put_embedded),
DESIGN(stack_token),
DESIGN(rwsem),
DESIGN(percpu_rwsem),
DESIGN(in_flight),
DESIGN(global_lock),
DESIGN(ops_pointer),
DESIGN(enter_exit),
DESIGN(devres_bound),
