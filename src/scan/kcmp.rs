//! kcmp(2): whether two tasks share a thing of the kernel, by the kernel's own word.
//!
//! The kernel does not only say equal or not, it orders its (scrambled) pointers (`kcmp_ptr()`, kernel/kcmp.c), so that
//! n tasks are grouped with n log n calls. Needs PTRACE_MODE_READ_REALCREDS on both tasks.

use crate::scan::order::{self, Grouped, Placed};
use crate::scan::sys::Seen;
use nix::errno::Errno;
use std::cmp::Ordering;

/// What two tasks may share (linux/kcmp.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// The address space.
    Vm,
    /// The descriptor table.
    Files,
    /// umask, root, cwd.
    Fs,
    /// Signal handlers.
    Sighand,
}

const KCMP_FILE: libc::c_int = 0;
const KCMP_EPOLL_TFD: libc::c_int = 7;

impl Kind {
    fn number(self) -> libc::c_int {
        match self {
            Kind::Vm => 1,
            Kind::Files => 2,
            Kind::Fs => 3,
            Kind::Sighand => 4,
        }
    }
}

/// A descriptor of a process.
pub(crate) type Fd = (i32, i32);

/// Groups tasks by what they share. Dead tasks have none of it and would count as one group: leave them out.
pub(crate) fn groups(pids: &[i32], kind: Kind) -> Grouped<i32> {
    order::group(pids, |a, b| tasks(*a, *b, kind))
}

/// Groups descriptors by their open file (`struct file`). For files that statx already shows to be equal: CRIU too asks
/// only then (kcmp-ids.c).
pub(crate) fn open_files(fds: &[Fd]) -> Grouped<Fd> {
    order::group(fds, |a, b| files(*a, *b))
}

/// Tasks by what they share, met one after another: who shares the thing with a further one is found with log n calls.
pub(crate) struct Sharers {
    kind: Kind,
    placed: Placed<i32>,
}

impl Sharers {
    pub(crate) fn of(kind: Kind) -> Sharers {
        Sharers { kind, placed: Placed::default() }
    }

    /// The first of the tasks met so far that shares the thing with this one. [`Seen::Denied`]: it could not be compared.
    pub(crate) fn meet(&mut self, pid: i32) -> Seen<Option<i32>> {
        let kind = self.kind;
        self.placed.meet(&pid, |a, b| tasks(*a, *b, kind))
    }
}

/// Whether two tasks share one descriptor table.
pub(crate) fn same_files(a: i32, b: i32) -> Seen<bool> {
    tasks(a, b, Kind::Files).map(Ordering::is_eq)
}

/// How the kernel orders a thing of two tasks.
pub(crate) fn tasks(a: i32, b: i32, kind: Kind) -> Seen<Ordering> {
    kcmp(a, b, kind.number(), 0, 0)
}

/// How the kernel orders the open files of two descriptors. A descriptor that is not open is [`Seen::Gone`].
pub(crate) fn files(a: Fd, b: Fd) -> Seen<Ordering> {
    kcmp(a.0, b.0, KCMP_FILE, as_index(a.1), as_index(b.1))
}

/// How the kernel orders the open file of descriptor `fd` and the one that `epoll` watches in its entry `tfd`, the `toff`-th of
/// the entries with that number (several when the number was used again). The order is that of [`files`]
/// (`kcmp_epoll_target()`). Linux 4.13+, CONFIG_EPOLL and CONFIG_KCMP.
///
/// [`Seen::Gone`]: the entry or a descriptor is not there.
pub(crate) fn epoll_target(fd: Fd, epoll: Fd, tfd: u32, toff: u32) -> Seen<Ordering> {
    // struct kcmp_epoll_slot: efd, tfd, toff.
    let slot = [epoll.1 as u32, tfd, toff];
    let address = std::ptr::from_ref(&slot).addr();
    kcmp(fd.0, epoll.0, KCMP_EPOLL_TFD, as_index(fd.1), address as libc::c_ulong)
}

fn as_index(fd: i32) -> libc::c_ulong {
    // A negative number becomes one that no table has.
    libc::c_ulong::from(fd as u32)
}

fn kcmp(a: i32, b: i32, kind: libc::c_int, first: libc::c_ulong, second: libc::c_ulong) -> Seen<Ordering> {
    // SAFETY: the kernel reads memory only for KCMP_EPOLL_TFD, the slot that `second` is the address of; the caller keeps
    // it alive. A wrong address would be EFAULT.
    let r = unsafe { libc::syscall(libc::SYS_kcmp, a, b, kind, first, second) };
    match Errno::result(r) {
        Ok(0) => Seen::Seen(Ordering::Equal),
        Ok(1) => Seen::Seen(Ordering::Less),
        // 2; 3 would be "not equal, no order", which this kernel interface never used.
        Ok(_) => Seen::Seen(Ordering::Greater),
        Err(Errno::ESRCH | Errno::EBADF | Errno::ENOENT) => Seen::Gone,
        Err(e) => Seen::Denied(e as i32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::process::Command;

    fn me() -> i32 {
        std::process::id().cast_signed()
    }

    #[test]
    fn open_files_are_told_from_open_names() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let (dup, other) = (file.try_clone().unwrap(), std::fs::File::open("/proc/self/exe").unwrap());
        let fd = |f: &std::fs::File| (me(), f.as_raw_fd());
        let closed = (me(), 1_000_000);
        let grouped = open_files(&[fd(&other), closed, fd(&file), fd(&dup)]);
        assert_eq!(grouped.groups, [vec![fd(&other)], vec![fd(&file), fd(&dup)]]);
        assert_eq!(grouped.denied, []);
        assert_eq!(files(fd(&file), closed), Seen::Gone);
    }

    #[test]
    fn threads_share_all_and_children_nothing() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id().cast_signed();
        let tid = std::thread::spawn(move || {
            let tid = nix::unistd::gettid().as_raw();
            [Kind::Vm, Kind::Files, Kind::Fs, Kind::Sighand].map(|kind| groups(&[pid, me(), tid], kind))
        });
        for grouped in tid.join().unwrap() {
            assert_eq!(grouped.groups.len(), 2, "{grouped:?}");
            assert_eq!((&grouped.groups[0], grouped.groups[1].len()), (&vec![pid], 2));
        }
        assert_eq!(same_files(me(), pid), Seen::Seen(false));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(groups(&[pid, me()], Kind::Vm).groups, [vec![me()]], "an ended task is left out");
    }

    #[test]
    fn epoll_targets_are_in_the_order_of_open_files() {
        // SAFETY: makes a descriptor that no other code has.
        let epoll = unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) };
        let events: Vec<OwnedFd> = (0..40).map(|_| crate::scan::sys::eventfd().unwrap()).collect();
        let fds: Vec<Fd> = events.iter().map(|fd| (me(), fd.as_raw_fd())).collect();
        let (watched, others) = fds.split_at(30);
        for (_, fd) in watched {
            let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
            // SAFETY: reads `event`.
            let r = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, *fd, &mut event) };
            assert_eq!(r, 0);
        }
        let dup = events[3].try_clone().unwrap();
        let target = |fd: Fd, tfd: i32| epoll_target(fd, (me(), epoll.as_raw_fd()), tfd.cast_unsigned(), 0);
        assert_eq!(target((me(), dup.as_raw_fd()), fds[3].1), Seen::Seen(Ordering::Equal));
        assert_eq!(target(fds[0], 999_999), Seen::Gone);
        let sorted = order::sort(&fds, |a, b| files(*a, *b));
        assert_eq!(sorted.groups.len(), fds.len());
        for fd in watched {
            let found = sorted.find(|member| target(*member, fd.1)).unwrap().unwrap();
            assert_eq!(sorted.groups[found], [*fd]);
        }
        // Its number is not that of a file among these.
        let rest = order::sort(others, |a, b| files(*a, *b));
        for fd in watched {
            assert_eq!(rest.find(|member| target(*member, fd.1)), Ok(None));
        }
    }
}
