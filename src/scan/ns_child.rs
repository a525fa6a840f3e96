//! A child that does in another namespace what our own process must not: CRIU itself never changes its namespaces.
//!
//! The child has no exit signal: its end sends no SIGCHLD (CRIU's service has a handler that reaps whatever it finds) and
//! no plain wait of anybody sees it. It is waited for here, by its pid.

use crate::scan::sys::retry;
use nix::errno::Errno;
use nix::sys::signal::{sigprocmask, SigSet, SigmaskHow};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType};
use nix::sys::wait::{waitpid, WaitPidFlag};
use nix::unistd::Pid;
use std::convert::Infallible;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

/// Runs `run` in a child, with one end of a socket for packets, and `hear` here, with the other. An error of `hear` is about
/// the child itself, which is killed then.
///
/// # Safety
///
/// `run` makes system calls on open descriptors and on its own memory, and ends in `_exit`: no lock of another thread is
/// needed, no destructor runs.
pub(crate) unsafe fn ask<T>(
    run: impl FnOnce(RawFd) -> Infallible,
    hear: impl FnOnce(BorrowedFd) -> nix::Result<T>,
) -> nix::Result<T> {
    let (ours, theirs) = socket::socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    let mut before = SigSet::empty();
    // The child has no use for handlers that its parent installed; only the kernel's SIGKILL can reach it.
    // (Not pthread_sigmask(3) of the crate nix, which takes its errors, positive numbers, for success.)
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    // SAFETY: as fork(2) without an exit signal: flags, stack, parent_tid, child_tid and tls are 0 in any order. The child
    // runs `run` alone, which does as promised.
    let pid = unsafe {
        let pid = libc::syscall(libc::SYS_clone, 0usize, 0usize, 0usize, 0usize, 0usize);
        if pid == 0 {
            // Should our parent be killed meanwhile.
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            run(theirs.as_raw_fd());
        }
        pid
    };
    let pid = Errno::result(pid);
    let restore = || sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
    let restored = restore().or_else(|_| restore()).or_else(|_| restore());
    let pid = Pid::from_raw(i32::try_from(pid?).map_err(|_| Errno::EOVERFLOW)?);
    drop(theirs);
    let answer = hear(ours.as_fd());
    if answer.is_err() {
        // Harmless if it has ended: it stays a zombie, and the pid its own, until it is waited for.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
    }
    let waited = retry(|| waitpid(pid, Some(WaitPidFlag::__WALL)));
    restored?;
    let answer = answer?;
    waited?;
    Ok(answer)
}
