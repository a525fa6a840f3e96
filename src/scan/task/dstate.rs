//! A thread that does not come back from the kernel.
//!
//! Uninterruptible sleep mostly lasts for milliseconds. If it does not (an NFS or FUSE server that answers no more), what
//! the thread has locked stays locked: its address space (a mapping of such a file that is replaced), the right to look into
//! the process (execve holds `exec_update_lock` while it drops the old memory), a socket that it sends from. stat, maps and
//! the links of /proc, kcmp and getsockopt then wait as well, beyond any signal but SIGKILL. CRIU cannot stop such a thread
//! and gives up after its --timeout, but it has to get that far.
//!
//! `status` and `children` need none of these locks: they are read first.

use crate::bytes::Bytes;
use crate::criu::Host;
use crate::parse::status::{self, Status};
use crate::scan::proc::Dir;
use crate::scan::{sys, Seen};
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// What waiting for threads may cost in one look. A disk that is busy answers in less.
const PATIENCE: Duration = Duration::from_millis(300);

/// For how long threads in uninterruptible sleep are waited for.
pub(crate) struct DStateWait(Option<Duration>);

impl DStateWait {
    pub(crate) fn new(host: &Host) -> DStateWait {
        let frozen = host.options.freeze_cgroup.as_ref().is_some_and(|dir| dir.as_ref().is_some_and(is_frozen));
        DStateWait((!frozen).then_some(PATIENCE))
    }

    /// Whether the thread, whose status file this is and was, is asleep all the time that is left.
    pub(crate) fn ends_at(&mut self, dir: &Dir, path: &CStr, was: &Status, text: &mut Vec<u8>) -> bool {
        let Some(left) = &mut self.0 else { return false };
        let mut pause = Duration::from_millis(1);
        loop {
            match dir.read_one(path, text) {
                Seen::Seen(text) if asleep(was, &status::parse(text)) => {}
                _ => return false,
            }
            if left.is_zero() {
                return true;
            }
            pause = pause.min(*left);
            std::thread::sleep(pause);
            *left = left.saturating_sub(pause);
            pause = pause.saturating_mul(2);
        }
    }
}

/// A thread that sleeps again has been awake, and has a switch more.
fn asleep(was: &Status, is: &Status) -> bool {
    is_uninterruptible(is) && is.switches == was.switches
}

pub(crate) fn is_uninterruptible(status: &Status) -> bool {
    status.state == Some('D')
}

/// Tasks that the freezer of cgroup v1 holds look like this, and hold nothing.
fn is_frozen(dir: &Bytes) -> bool {
    let state = sys::read_file(&Path::new(OsStr::from_bytes(dir)).join("freezer.state"));
    state.is_ok_and(|state| !state.starts_with(b"THAWED"))
}

/// Whether the process waits in vfork, holding nothing: one of its children has the very same memory.
pub(crate) fn in_vfork(proc: &Dir, process: &Dir, children: &[i32]) -> bool {
    let memory = |dir: &Dir| {
        let mut text = Vec::new();
        dir.read_one(c"status", &mut text).ok().map(status::memory)
    };
    let Some(own) = memory(process).filter(|lines| !lines.is_empty()) else { return false };
    children.iter().any(|child| proc.process(*child).ok().and_then(|dir| memory(&dir)).is_some_and(|of| of == own))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit;
    use crate::scan::{collect_once, ScanError};
    use crate::snapshot::ScanPhase;

    /// A child that waits for one of its own to exec, in vain.
    struct Waiting(i32);

    impl Waiting {
        /// CLONE_VM: with the same memory, as vfork(2) does. Without, the child looks like any other that hangs.
        fn start(flags: libc::c_int) -> Waiting {
            let clone = |flags: libc::c_int| {
                // SAFETY: as fork(2), or as vfork(2) where the caller waits; the children make system calls only.
                unsafe { test_signals::clone(flags | libc::SIGCHLD) }
            };
            let pid = clone(0).unwrap();
            if pid == 0 {
                if clone(libc::CLONE_VFORK | flags).is_err() {
                    // SAFETY: takes a number. The parent finds no status file of a process that waits.
                    unsafe { libc::_exit(1) };
                }
                loop {
                    // SAFETY: takes nothing.
                    unsafe { libc::pause() };
                }
            }
            let status = format!("/proc/{pid}/status");
            let waiting = Waiting(pid);
            loop {
                let status = std::fs::read_to_string(&status).unwrap();
                assert!(!status.contains("State:\tZ"), "the child could make none of its own");
                if status.contains("State:\tD") {
                    return waiting;
                }
                std::thread::yield_now();
            }
        }
    }

    impl Drop for Waiting {
        fn drop(&mut self) {
            let below = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.0)).unwrap_or_default();
            for pid in below.split_whitespace().filter_map(|pid| pid.parse().ok()).chain([self.0]) {
                // The child's own child first: who is no more below this process is left alone.
                let _ = test_signals::signal_below(pid, libc::SIGKILL);
            }
            let _ = test_signals::wait(self.0, 0);
        }
    }

    #[test]
    fn who_hangs_is_left_alone_and_who_waits_in_vfork_is_not() {
        let host = testkit::host();
        let vfork = Waiting::start(libc::CLONE_VM);
        let snap = collect_once(vfork.0, ScanPhase::Early, &host).unwrap();
        assert_eq!((snap.tasks.len(), snap.tasks[0].threads[0].state), (2, 'D'));
        let hanging = Waiting::start(0);
        let stuck = Err(ScanError::Stuck { pid: hanging.0, tid: hanging.0 });
        assert_eq!(collect_once(hanging.0, ScanPhase::Early, &host).map(drop), stuck);

        // Whom the caller has frozen is only asleep.
        let dir = std::env::temp_dir().join(format!("stuck-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut frozen = host.clone();
        frozen.options.freeze_cgroup = Some(Some(Bytes::from(dir.as_os_str().as_bytes())));
        for (state, seen) in [("FROZEN\n", Ok(())), ("THAWED\n", stuck)] {
            std::fs::write(dir.join("freezer.state"), state).unwrap();
            assert_eq!(collect_once(hanging.0, ScanPhase::Early, &frozen).map(drop), seen, "{state}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
