//! System V shared memory.

use crate::ctx::{Args, Ctx, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[Kind {
    name: "sysv-shm",
    help: "attached, marked for removal; detached: attached and let go again; private: mapped so instead",
    make: shm,
}];

fn shm(cx: &mut Ctx, a: &Args) -> Res {
    let id = sys::ok("shmget", unsafe { libc::shmget(libc::IPC_PRIVATE, 4096, libc::IPC_CREAT | 0o600) })?;
    let at = unsafe { libc::shmat(id, std::ptr::null(), 0) };
    // In an IPC namespace of its own the segment must outlive the dump; there the namespace removes it.
    if !a.has("keep") {
        unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
    }
    sys::ok("shmat", at as isize)?;
    if a.has("detached") {
        unsafe { libc::shmdt(at) };
    }
    if a.has("private") {
        // shmat knows no private mapping; the mapped file can be opened and mapped again.
        let (start, end) = (at as usize, at as usize + 4096);
        let fd = sys::open(&format!("/proc/self/map_files/{start:x}-{end:x}"), libc::O_RDWR)?;
        sys::mmap("segment", 4096, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE, fd, 0)?;
        sys::close(fd);
        unsafe { libc::shmdt(at) };
    }
    cx.fact("addr", format!("{:x}", at as usize));
    cx.fact("id", id);
    Ok(())
}
