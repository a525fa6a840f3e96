//! What the scanner takes upon itself before it looks: no descriptor of CRIU's, no more memory than it is allowed.

use crate::scan::sys;
use nix::sys::resource::{getrlimit, setrlimit, Resource};
use procfs::FromRead as _;
use std::ffi::{c_int, c_uint};

/// Closes every descriptor of the calling process but one. Where the kernel has no close_range(2) (Linux before 5.9), those below
/// the limit that processes usually have.
///
/// # Safety
/// In a process that owns nothing it would miss.
pub(crate) unsafe fn close_descriptors(but: c_int) {
    const USUAL: c_int = 1024;
    // SAFETY: numbers; what is closed belongs to no other code, as the caller promises.
    let close = |first: c_uint, last: c_uint| unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) == 0 };
    let but = c_uint::try_from(but).ok();
    let closed = match but {
        None => close(0, c_uint::MAX),
        Some(0) => close(1, c_uint::MAX),
        Some(but) => close(0, but.saturating_sub(1)) && close(but.saturating_add(1), c_uint::MAX),
    };
    if !closed {
        for fd in (0..USUAL).filter(|fd| c_uint::try_from(*fd).ok() != but) {
            // SAFETY: as above.
            unsafe { libc::close(fd) };
        }
    }
}

/// Limits the memory of this process to what it has and `more` bytes, and sees to it that a crash leaves no core file and that
/// the kernel, short of memory, takes this process before any other. What the kernel refuses here is no reason not to look.
pub(crate) fn apply(more: u64) {
    if let (Some(now), Ok((_, hard))) = (address_space(), getrlimit(Resource::RLIMIT_AS)) {
        let limit = now.saturating_add(more).min(hard);
        let _ = setrlimit(Resource::RLIMIT_AS, limit, limit);
    }
    // Not 0: a program that takes the cores (core(5), `|` in core_pattern) is run for 0, and not for 1 (do_coredump(), fs/coredump.c).
    let _ = setrlimit(Resource::RLIMIT_CORE, 1, 1);
    let oom = sys::open(nix::fcntl::AT_FDCWD, c"/proc/self/oom_score_adj", nix::fcntl::OFlag::O_WRONLY);
    let _ = oom.map(|file| sys::retry(|| nix::unistd::write(&file, b"1000")));
}

/// Bytes of address space in use.
fn address_space() -> Option<u64> {
    let text = sys::read_file("/proc/self/statm".as_ref()).ok()?;
    let pages = procfs::process::StatM::from_read(text.as_slice()).ok()?.size;
    pages.checked_mul(procfs::page_size())
}
