//! Processes that a test makes: started, signalled and waited for, and never any other.
//!
//! To kill(2) the number -1 is every process of the machine, 0 and other negative ones are groups; and -1 is what a fork that
//! failed has returned. Nothing else here or in the tests calls kill(2), fork(2) or clone(2): `scripts/check-signals` looks.

use std::io::{Error, ErrorKind, Result};

/// What fork(2) or clone(2) has returned: 0 in the child, the child's number in its parent, never -1.
fn made(returned: libc::c_long) -> Result<i32> {
    if returned < 0 {
        return Err(Error::last_os_error());
    }
    i32::try_from(returned).map_err(|_| refused(returned))
}

fn refused(pid: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("pid {pid} is no process of a test: not signalled, not waited for"))
}

/// `pid`, if it can be the number of one process that a test has made.
fn one(pid: i32) -> Result<i32> {
    let own = std::process::id();
    if pid <= 1 || u32::try_from(pid) == Ok(own) {
        return Err(refused(pid));
    }
    Ok(pid)
}

/// fork(2): 0 in the child.
///
/// # Safety
///
/// The child of a process with threads makes system calls only.
pub unsafe fn fork() -> Result<i32> {
    made(libc::c_long::from(libc::fork()))
}

/// clone(2) with no stack: 0 in the child.
///
/// # Safety
///
/// As of [`fork`]. With CLONE_VM and CLONE_VFORK the child runs on the stack of its parent, which must not go on then.
pub unsafe fn clone(flags: libc::c_int) -> Result<i32> {
    made(libc::syscall(libc::SYS_clone, libc::c_long::from(flags), 0, 0, 0, 0))
}

/// clone(2) of a child that calls `run`, on the stack that ends at `top`.
///
/// # Safety
///
/// As of clone(3).
pub unsafe fn clone_at(
    run: extern "C" fn(*mut libc::c_void) -> libc::c_int,
    top: *mut libc::c_void,
    flags: libc::c_int,
    with: *mut libc::c_void,
) -> Result<i32> {
    made(libc::c_long::from(libc::clone(run, top, flags, with)))
}

/// Sends a signal to one process that the caller has made and not yet waited for: its number is nobody else's until then.
pub fn signal(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: takes two numbers.
    match unsafe { libc::kill(one(pid)?, signal) } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

/// To this process itself, as others would send it: raise(3) sends to a thread.
pub fn signal_self(signal: i32) -> Result<()> {
    // SAFETY: takes two numbers; getpid(2) cannot fail.
    match unsafe { libc::kill(libc::getpid(), signal) } {
        0 => Ok(()),
        _ => Err(Error::last_os_error()),
    }
}

/// Sends a signal to a process whose number was heard of some time ago, if it is still one below this process.
///
/// For a subreaper (PR_SET_CHILD_SUBREAPER) that is every process that its children have made.
pub fn signal_below(pid: i32, signal: i32) -> Result<()> {
    let pid = one(pid)?;
    // The descriptor stays with the process that is looked at, whoever gets its number.
    // SAFETY: takes numbers.
    let fd = made(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let sent = if is_below(pid) {
        // SAFETY: the signal's information may be a null pointer.
        match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, std::ptr::null::<libc::siginfo_t>(), 0) }
        {
            0 => Ok(()),
            _ => Err(Error::last_os_error()),
        }
    } else {
        Err(refused(pid))
    };
    // SAFETY: ours.
    unsafe { libc::close(fd) };
    sent
}

/// Whether the parents of `pid` lead to this process.
fn is_below(pid: i32) -> bool {
    let own = std::process::id();
    let mut pid = u32::try_from(pid).unwrap_or_default();
    while pid > 1 {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // After the name, which may have anything in it.
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        pid = parent.unwrap_or_default();
        if pid == own {
            return true;
        }
    }
    false
}

/// waitpid(2) for one child; its status, or `None` if WNOHANG is given and it lives.
pub fn wait(child: i32, flags: i32) -> Result<Option<i32>> {
    let child = one(child)?;
    let mut status = 0;
    loop {
        // SAFETY: the pointer is to a local.
        match unsafe { libc::waitpid(child, &raw mut status, flags) } {
            0 => return Ok(None),
            -1 if Error::last_os_error().kind() == ErrorKind::Interrupted => {}
            -1 => return Err(Error::last_os_error()),
            _ => return Ok(Some(status)),
        }
    }
}

/// Kills a child and waits for it.
pub fn end(child: i32) -> Result<()> {
    signal(child, libc::SIGKILL)?;
    wait(child, libc::__WALL).map(drop)
}

/// Takes whatever children have ended, of the first process of a pid namespace, say.
pub fn reap_all() {
    // SAFETY: no status is asked for.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
}

/// Whether this thread has a child without an exit signal.
pub fn has_silent_child() -> bool {
    // SAFETY: no status is asked for.
    let pid = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::__WCLONE | libc::WNOHANG | libc::__WNOTHREAD) };
    pid != -1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of these numbers all but the first and the last would be valid to kill(2); with signal 0 nothing is sent even if
    /// they got that far.
    #[test]
    fn what_is_not_one_process_of_a_test() {
        let own = std::process::id().cast_signed();
        for pid in [i32::MIN, -own, -2, -1, 0, 1, own] {
            for done in [signal(pid, 0), signal_below(pid, 0), wait(pid, libc::WNOHANG).map(drop)] {
                let error = done.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{pid}: {error}");
                assert_eq!(
                    error.to_string(),
                    format!("pid {pid} is no process of a test: not signalled, not waited for")
                );
            }
        }
        // `end` goes through `signal`, with a signal that is one.
        assert_eq!(end(-1).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn a_fork_that_fails_is_no_child() {
        // SAFETY: the kernel refuses these flags, no child is made.
        let error = unsafe { clone(libc::CLONE_THREAD) }.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn a_child_is_signalled_and_waited_for() {
        // SAFETY: the child only waits.
        let child = unsafe { fork() }.unwrap();
        if child == 0 {
            loop {
                // SAFETY: takes nothing.
                unsafe { libc::pause() };
            }
        }
        assert!(wait(child, libc::WNOHANG).unwrap().is_none());
        signal_below(child, libc::SIGTERM).unwrap();
        let status = wait(child, 0).unwrap().unwrap();
        assert_eq!((libc::WIFSIGNALED(status), libc::WTERMSIG(status)), (true, libc::SIGTERM));
        assert_eq!(wait(child, 0).unwrap_err().raw_os_error(), Some(libc::ECHILD));
    }

    /// The parent of this process is alive, and not below it.
    #[test]
    fn who_is_not_below_is_not_signalled() {
        let parent = std::os::unix::process::parent_id().cast_signed();
        assert_eq!(signal_below(parent, 0).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
