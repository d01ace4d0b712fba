// SPDX-License-Identifier: GPL-2.0
/*
 * How often each index of an srcu_struct was locked and unlocked: the evidence
 * for an index that was overwritten.
 *
 * The counts are per CPU and unsigned long or atomic_long_t, depending on the
 * kernel (6.1: the former, 6.12: the latter; the same in memory). Later kernels
 * put the two into a structure, which the Makefile finds out. A sum taken while
 * readers come and go is a snapshot; once the readers stand still it is exact.
 */
#include <linux/build_bug.h>
#include <linux/percpu.h>
#include <linux/seq_file.h>
#include <linux/srcu.h>

#include "design.h"

#ifdef PLUGSTORM_SRCU_CTRS
#define SRCU_LOCKS(sdp, idx)	((sdp)->srcu_ctrs[idx].srcu_locks)
#define SRCU_UNLOCKS(sdp, idx)	((sdp)->srcu_ctrs[idx].srcu_unlocks)
#else
#define SRCU_LOCKS(sdp, idx)	((sdp)->srcu_lock_count[idx])
#define SRCU_UNLOCKS(sdp, idx)	((sdp)->srcu_unlock_count[idx])
#endif

void plugstorm_srcu_show(struct seq_file *m, struct srcu_struct *ssp)
{
#ifdef CONFIG_TREE_SRCU
	int idx;

	for (idx = 0; idx < 2; idx++) {
		unsigned long locks = 0, unlocks = 0;
		int cpu;

		for_each_possible_cpu(cpu) {
			struct srcu_data *sdp = per_cpu_ptr(ssp->sda, cpu);

			static_assert(sizeof(SRCU_LOCKS(sdp, 0)) == sizeof(locks));
			unlocks += READ_ONCE(*(unsigned long *)&SRCU_UNLOCKS(sdp, idx));
			locks += READ_ONCE(*(unsigned long *)&SRCU_LOCKS(sdp, idx));
		}
		seq_printf(m, "srcu%d locks %lu unlocks %lu inside %ld\n",
			   idx, locks, unlocks, (long)(locks - unlocks));
	}
#else
	seq_puts(m, "srcu tiny: this kernel counts no locks\n");
#endif
}
