//! Guard regions (`madvise(MADV_GUARD_INSTALL)`, Linux 6.13+): markers in the page tables that no /proc text shows.
//!
//! Asked of PAGEMAP_SCAN (fs/proc/task_mmu.c), which knows them since 6.15. The kernel walks the page tables for it, so it
//! is asked only for a CRIU that cannot dump such regions, and only while the tree still runs.

use crate::scan::proc::Dir;
use crate::scan::sys::{self, Seen};
use nix::fcntl::OFlag;
use std::os::fd::AsRawFd;

/// PAGE_IS_GUARD of linux/fs.h.
const PAGE_IS_GUARD: u64 = 1 << 8;

/// `struct pm_scan_arg` of linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct ScanArg {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

/// `struct page_region` of linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct Region {
    start: u64,
    end: u64,
    categories: u64,
}

nix::ioctl_readwrite!(pagemap_scan, b'f', 16, ScanArg);

/// The first guard region of the process within `start..end`; `Seen(None)`: there is none. EINVAL: this kernel cannot
/// tell (before 6.15).
pub(crate) fn first(process: &Dir, start: u64, end: u64) -> Seen<Option<(u64, u64)>> {
    let pagemap = match process.open(c"pagemap", OFlag::O_RDONLY) {
        Seen::Seen(file) => file,
        Seen::Gone => return Seen::Gone,
        Seen::Denied(errno) => return Seen::Denied(errno),
    };
    let mut region = Region::default();
    let found = sys::retry(|| {
        let mut arg = ScanArg {
            size: size_of::<ScanArg>() as u64,
            start,
            end,
            vec: (&raw mut region) as u64,
            vec_len: 1,
            category_mask: PAGE_IS_GUARD,
            return_mask: PAGE_IS_GUARD,
            ..ScanArg::default()
        };
        // SAFETY: `arg` has the layout and size it announces, and `vec` points to room for the one region it promises.
        unsafe { pagemap_scan(pagemap.as_raw_fd(), &raw mut arg) }
    });
    Seen::from(found).map(|n| (n > 0).then_some((region.start, region.end)))
}
