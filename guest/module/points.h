/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Delay points: places with a name at which a scenario may widen a race.
 *
 * A point that is not armed is one instruction that does nothing; a module
 * built with PLUGSTORM_POINTS=0 has none. Their names are "design.place", and
 * /sys/kernel/debug/plugstorm/points lists and arms them.
 */
#ifndef _PLUGSTORM_POINTS_H
#define _PLUGSTORM_POINTS_H

#include <linux/types.h>

struct dentry;

#ifdef PLUGSTORM_POINTS

#include <linux/atomic.h>
#include <linux/compiler.h>
#include <linux/jump_label.h>

/* The longest delay, in microseconds, and the most rarely that one is taken. */
#define PLUGSTORM_POINT_MAX_US		1000000
#define PLUGSTORM_POINT_MAX_EVERY	1000000

/**
 * enum plugstorm_point_kind - what an armed point does
 * @PLUGSTORM_SPIN:	is busy for a while
 * @PLUGSTORM_SLEEP:	sleeps for a while; busy where that is not allowed
 * @PLUGSTORM_KNOB:	says that it is armed; the code that asks knows the rest
 */
enum plugstorm_point_kind {
	PLUGSTORM_SPIN,
	PLUGSTORM_SLEEP,
	PLUGSTORM_KNOB,
};

/**
 * struct plugstorm_point - a place with a name
 * @name:	"design.place"
 * @kind:	what it does
 * @armed:	patches the place: nobody looks at the rest before it is on
 * @delay_us:	how long, in microseconds; 0 when not armed
 * @every:	at each so manieth hit
 * @hits:	since it was armed
 */
struct plugstorm_point {
	const char *name;
	enum plugstorm_point_kind kind;
	struct static_key_false armed;
	unsigned int delay_us;
	unsigned int every;
	atomic_t hits;
};

bool plugstorm_point_hit(struct plugstorm_point *point);

/*
 * The points find each other through a section of pointers to them: pointers,
 * because structures might be aligned with gaps between them. points_begin.c and
 * points_end.c have its first and its last entry, each NULL.
 */
#define PLUGSTORM_POINT_SECTION __section("plugstorm_point_list")
extern struct plugstorm_point *const plugstorm_points[];

#define PLUGSTORM_POINT(point_name, point_kind) ({				\
	static struct plugstorm_point point = {					\
		.name = (point_name),						\
		.kind = (point_kind),						\
		.armed = STATIC_KEY_FALSE_INIT,					\
	};									\
	static struct plugstorm_point *const entry				\
		__used PLUGSTORM_POINT_SECTION = &point;			\
	static_branch_unlikely(&point.armed) && plugstorm_point_hit(&point);	\
})

/* In any context. */
#define PLUGSTORM_POINT_SPIN(name)	((void)PLUGSTORM_POINT(name, PLUGSTORM_SPIN))
/* Outside of RCU read-side sections; spins with preemption or interrupts off. */
#define PLUGSTORM_POINT_SLEEP(name)	((void)PLUGSTORM_POINT(name, PLUGSTORM_SLEEP))
/* Is this knob armed, and is it its turn? */
#define plugstorm_point_armed(name)	PLUGSTORM_POINT(name, PLUGSTORM_KNOB)

void plugstorm_points_add(struct dentry *folder);

#else

#define PLUGSTORM_POINT_SPIN(name)	((void)(name))
#define PLUGSTORM_POINT_SLEEP(name)	((void)(name))
#define plugstorm_point_armed(name)	((void)(name), false)

static inline void plugstorm_points_add(struct dentry *folder)
{
}

#endif /* PLUGSTORM_POINTS */
#endif /* _PLUGSTORM_POINTS_H */
