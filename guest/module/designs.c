// SPDX-License-Identifier: GPL-2.0
/*
 * The table of designs.
 */
#include <linux/export.h>
#include <linux/stddef.h>
#include <linux/string.h>

#include "design.h"

#define DESIGN(name) (&plugstorm_##name)
const struct plugstorm_design *const plugstorm_designs[] = {
#include "design_table.h"
	NULL
};

/* Gives NULL for a number that no design has. */
const struct plugstorm_design *plugstorm_design_by_number(u16 number)
{
	const struct plugstorm_design *const *design;

	for (design = plugstorm_designs; *design; design++)
		if ((*design)->number == number)
			return *design;
	return NULL;
}

/* Gives NULL for a name that no design has. */
const struct plugstorm_design *plugstorm_design_by_name(const char *name)
{
	const struct plugstorm_design *const *design;

	for (design = plugstorm_designs; *design; design++)
		if (!strcmp((*design)->name, name))
			return *design;
	return NULL;
}
EXPORT_SYMBOL_GPL(plugstorm_design_by_name);	/* for the self-tests */
