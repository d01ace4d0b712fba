// SPDX-License-Identifier: GPL-2.0
/*
 * A page of the resource in user space. A mapping keeps its description and so
 * the device, but not the resource: the page is looked up through the design at
 * each fault, and taken out of all page tables after the revoke. Who has it in
 * a page table, or pinned, keeps the page's memory, so that a mapping that was
 * made before the free cannot show memory of somebody else's.
 */
#include <linux/mm.h>
#include <linux/pagemap.h>

#include "compat.h"
#include "file.h"
#include "section.h"

static void plugstorm_file_zap(struct plugstorm_file *pf)
{
	unmap_mapping_range(pf->mapping, 0, PAGE_SIZE, 1);
}

/*
 * After the revoke. A fault that found the page before may put it into a page
 * table behind this one's back: it looks at the phase afterwards. So either it
 * sees that the resource has been revoked, or it was early enough to be found.
 */
void plugstorm_mappings_zap(struct plugstorm_device *pd)
{
	struct plugstorm_file *pf;

	smp_mb();	/* the phase is set before page tables are read: plugstorm_fault() */
	mutex_lock(&pd->files_lock);
	list_for_each_entry(pf, &pd->files, node)
		plugstorm_file_zap(pf);
	mutex_unlock(&pd->files_lock);
}

/*
 * The page is put into the page table outside the section: that may have to
 * allocate one, and not every design's section may sleep.
 */
static vm_fault_t plugstorm_fault(struct vm_fault *vmf)
{
	struct plugstorm_file *pf = vmf->vma->vm_file->private_data;
	struct plugstorm_section section;
	struct page *page;
	vm_fault_t ret;

	if (plugstorm_enter(&section, &pf->user))
		return VM_FAULT_SIGBUS;
	page = section.res->levels;
	/* Where a design lets a fault in after the free, the page may be nobody's. */
	if (!get_page_unless_zero(page))
		page = NULL;
	plugstorm_leave(&section);
	if (!page)
		return VM_FAULT_SIGBUS;

	ret = vmf_insert_page(vmf->vma, vmf->address, page);
	put_page(page);

	smp_mb();	/* the page table is written before the phase is read; see above */
	if (READ_ONCE(pf->user.pd->phase) != PLUGSTORM_REVOKED)
		return ret;

	plugstorm_file_zap(pf);
	return VM_FAULT_SIGBUS;
}

static const struct vm_operations_struct plugstorm_vm_ops = {
	.fault = plugstorm_fault,
};

int plugstorm_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct plugstorm_file *pf = file->private_data;
	int err;

	if (vma->vm_pgoff || vma_pages(vma) != 1 || !(vma->vm_flags & VM_MAYSHARE))
		return -EINVAL;
	if (vma->vm_flags & VM_WRITE)
		return -EACCES;

	err = plugstorm_stay(&pf->user, 0);
	if (err)
		return err;

	plugstorm_vm_flags_mod(vma, VM_MIXEDMAP | VM_DONTEXPAND | VM_DONTDUMP, VM_MAYWRITE);
	vma->vm_ops = &plugstorm_vm_ops;
	return 0;
}
