//! System V shared memory.

use crate::ctx::{Args, Ctx, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] =
    &[Kind { name: "sysv-shm", help: "attached, marked for removal; detached: attached and let go again", make: shm }];

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
    cx.fact("addr", format!("{:x}", at as usize));
    cx.fact("id", id);
    Ok(())
}
