/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * What user space says to /dev/plugstormN.
 *
 * read() gives one byte for each line, 0 or 1, in the order of the lines, as
 * many as were asked for and there are, and asks the device for each. After a
 * PLUGSTORM_WATCH on the same open description it gives events instead, struct
 * plugstorm_event, and waits for the first one unless O_NONBLOCK is set. write()
 * sets as many lines as it was given bytes, each 0 or 1, and there are. poll()
 * finds the device readable (with a watch: once there are events) and writable
 * for as long as it is there, and EPOLLHUP | EPOLLERR afterwards. mmap() of one
 * page, shared and read-only, shows the levels as last known, a byte for each
 * line as far as the page goes, and SIGBUS once the device has gone.
 *
 * Once it has gone, whatever has to do with the device fails with ENODEV, and
 * events that nobody has read are lost. Two things do not: poll(), as above, and
 * close(), which works. A call that is wrong in itself fails for that, and a
 * read() or write() of no bytes gives 0, as ever.
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

/* Edges, for PLUGSTORM_WATCH. */
#define PLUGSTORM_EDGE_RISING	0x1
#define PLUGSTORM_EDGE_FALLING	0x2

/**
 * struct plugstorm_event - an edge of a line that is watched
 * @timestamp_ns: when the driver heard of it, CLOCK_MONOTONIC
 * @line:	number of the line
 * @sequence:	counts the events of this open description from 1; one that is
 *		missing was dropped because nobody read
 *
 * The device does not say which edge it was.
 */
struct plugstorm_event {
	__aligned_u64 timestamp_ns;
	__u32 line;
	__u32 sequence;
};

/**
 * struct plugstorm_loan - what to borrow
 * @fd:		a descriptor of the device to borrow from
 * @line:	the line of that device
 */
struct plugstorm_loan {
	__s32 fd;
	__u32 line;
};

/* The longest PLUGSTORM_HOLD, in microseconds. */
#define PLUGSTORM_HOLD_MAX_US	1000

#define PLUGSTORM_MAGIC		'P'

/* Enter the protected section, look at the resource, leave. */
#define PLUGSTORM_TOUCH		_IO(PLUGSTORM_MAGIC, 1)
/* Ask the device for the level of a line; makes the line an input if it was unused. */
#define PLUGSTORM_GET		_IOWR(PLUGSTORM_MAGIC, 2, struct plugstorm_line)
/* Set the level of a line; makes the line an output. EBADF without the right to write. */
#define PLUGSTORM_SET		_IOW(PLUGSTORM_MAGIC, 3, struct plugstorm_line)
/* Stay inside the protected section, busy, for this many microseconds. */
#define PLUGSTORM_HOLD		_IOW(PLUGSTORM_MAGIC, 4, __u32)
/*
 * Be told of a line's edges (@value: PLUGSTORM_EDGE_*); makes the line an input.
 * May be called for several lines. EBADF without the right to read, EOPNOTSUPP
 * if the device has no events, EBUSY if somebody has asked for other edges of
 * this line before: the first one decides, for as long as the device is there.
 * ENOSPC if 1024 open descriptions of the device watch already.
 */
#define PLUGSTORM_WATCH		_IOW(PLUGSTORM_MAGIC, 5, struct plugstorm_line)
/*
 * Start a work item, or a timer, which enters the protected section every tick
 * until the device has gone or the description is closed. One for each open
 * description: to start it again changes nothing. Gives how often it has run.
 * The timer: EOPNOTSUPP if the design cannot be used in a timer.
 */
#define PLUGSTORM_WORK		_IOR(PLUGSTORM_MAGIC, 6, __u32)
#define PLUGSTORM_TIMER		_IOR(PLUGSTORM_MAGIC, 7, __u32)
/*
 * Borrow a line of another device, once for each open description (EBUSY).
 * Afterwards the descriptor that was given may be closed and its device may go.
 */
#define PLUGSTORM_BORROW	_IOW(PLUGSTORM_MAGIC, 8, struct plugstorm_loan)
/*
 * Ask for the level of the borrowed line. ENODEV once either device has gone,
 * ENXIO if nothing was borrowed.
 */
#define PLUGSTORM_BORROWED_GET	_IOR(PLUGSTORM_MAGIC, 9, __u32)

#endif /* _UAPI_PLUGSTORM_H */
