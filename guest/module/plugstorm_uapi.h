/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * What user space says to /dev/plugstormN.
 *
 * read() gives one byte for each line, 0 or 1, in the order of the lines, and
 * asks the device once for each. write() sets as many lines as it was given
 * bytes, each 0 or 1. poll() finds the device readable and writable for as
 * long as it is there, and EPOLLHUP | EPOLLERR afterwards. Once the device has
 * gone every call fails with ENODEV, and close() works.
 */
#ifndef _UAPI_PLUGSTORM_H
#define _UAPI_PLUGSTORM_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * struct plugstorm_line - a line and its level
 * @line:	number of the line, from 0
 * @value:	0 = low, 1 = high; filled in by PLUGSTORM_GET
 */
struct plugstorm_line {
	__u32 line;
	__u32 value;
};

/* The longest PLUGSTORM_HOLD, in microseconds. */
#define PLUGSTORM_HOLD_MAX_US	1000

#define PLUGSTORM_MAGIC		'P'

/* Enter the protected section, look at the resource, leave. */
#define PLUGSTORM_TOUCH		_IO(PLUGSTORM_MAGIC, 1)
/* Ask the device for the level of a line; makes the line an input if it was unused. */
#define PLUGSTORM_GET		_IOWR(PLUGSTORM_MAGIC, 2, struct plugstorm_line)
/* Set the level of a line; makes the line an output. */
#define PLUGSTORM_SET		_IOW(PLUGSTORM_MAGIC, 3, struct plugstorm_line)
/* Stay inside the protected section, busy, for this many microseconds. */
#define PLUGSTORM_HOLD		_IOW(PLUGSTORM_MAGIC, 4, __u32)

#endif /* _UAPI_PLUGSTORM_H */
