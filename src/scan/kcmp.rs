//! kcmp(2): whether two tasks share a thing of the kernel, by the kernel's own word.
//!
//! The kernel does not only say equal or not, it orders its (scrambled) pointers (`kcmp_ptr()`, kernel/kcmp.c), so that
//! n tasks are grouped with n log n calls. Needs PTRACE_MODE_READ_REALCREDS on both tasks.

use super::sys::Seen;
use nix::errno::Errno;
use std::cmp::Ordering;

/// What two tasks may share (linux/kcmp.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
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
pub type Fd = (i32, i32);

/// Things grouped by being one and the same for the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grouped<T> {
    /// Each group in the order of the input, groups in the order of their first members.
    pub groups: Vec<Vec<T>>,
    /// What the kernel refused to compare, with the errno. What has ended is left out without a word.
    pub denied: Vec<(T, i32)>,
}

/// Groups tasks by what they share. Dead tasks have none of it and would count as one group: leave them out.
pub fn groups(pids: &[i32], kind: Kind) -> Grouped<i32> {
    group(pids, |a, b| tasks(*a, *b, kind))
}

/// Groups descriptors by their open file (`struct file`). For files that statx already shows to be equal: CRIU too asks
/// only then (kcmp-ids.c).
pub fn open_files(fds: &[Fd]) -> Grouped<Fd> {
    group(fds, |a, b| files(*a, *b))
}

/// Tasks by what they share, met one after another: who shares the thing with a further one is found with log n calls.
pub struct Sharers {
    kind: Kind,
    /// Ascending in the kernel's order.
    sorted: Vec<(usize, Vec<i32>)>,
}

impl Sharers {
    pub fn of(kind: Kind) -> Sharers {
        Sharers { kind, sorted: Vec::new() }
    }

    /// The first of the tasks met so far that shares the thing with this one. [`Seen::Denied`]: it could not be compared.
    pub fn meet(&mut self, pid: i32) -> Seen<Option<i32>> {
        let kind = self.kind;
        place(&mut self.sorted, 0, &pid, &|a, b| tasks(*a, *b, kind))
    }
}

/// Whether two tasks share one descriptor table.
pub fn same_files(a: i32, b: i32) -> Seen<bool> {
    tasks(a, b, Kind::Files).map(Ordering::is_eq)
}

/// How the kernel orders a thing of two tasks.
pub fn tasks(a: i32, b: i32, kind: Kind) -> Seen<Ordering> {
    kcmp(a, b, kind.number(), 0, 0)
}

/// How the kernel orders the open files of two descriptors. A descriptor that is not open is [`Seen::Gone`].
pub fn files(a: Fd, b: Fd) -> Seen<Ordering> {
    kcmp(a.0, b.0, KCMP_FILE, as_index(a.1), as_index(b.1))
}

/// Whether descriptor `fd` is the open file that `epoll` watches in its entry `tfd`, the `toff`-th of the entries with
/// that number (several when the number was used again). Linux 4.13+, CONFIG_EPOLL and CONFIG_KCMP.
///
/// [`Seen::Gone`]: the entry or a descriptor is not there.
pub fn epoll_target(fd: Fd, epoll: Fd, tfd: u32, toff: u32) -> Seen<bool> {
    // struct kcmp_epoll_slot: efd, tfd, toff.
    let slot = [epoll.1 as u32, tfd, toff];
    let address = std::ptr::from_ref(&slot).addr();
    kcmp(fd.0, epoll.0, KCMP_EPOLL_TFD, as_index(fd.1), address as libc::c_ulong).map(Ordering::is_eq)
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

/// Binary search and insertion rather than a sort: an order that a task's end breaks in the middle must not be handed to
/// `sort_by`, which may panic then.
fn group<T: Copy>(items: &[T], order: impl Fn(&T, &T) -> Seen<Ordering>) -> Grouped<T> {
    // Ascending in the kernel's order; each with the place of its first member in `items`.
    let mut sorted: Vec<(usize, Vec<T>)> = Vec::new();
    let mut denied = Vec::new();
    for (nth, item) in items.iter().enumerate() {
        if let Seen::Denied(errno) = place(&mut sorted, nth, item, &order) {
            denied.push((*item, errno));
        }
    }
    sorted.sort_by_key(|(nth, _)| *nth);
    Grouped { groups: sorted.into_iter().map(|(_, group)| group).collect(), denied }
}

/// Puts an item where it belongs; the first member of the group that it joins, if there is one.
fn place<T: Copy>(
    sorted: &mut Vec<(usize, Vec<T>)>,
    nth: usize,
    item: &T,
    order: &impl Fn(&T, &T) -> Seen<Ordering>,
) -> Seen<Option<T>> {
    let (mut low, mut high) = (0, sorted.len());
    // Who is alone is not compared with anybody, and may be gone all the same.
    if sorted.is_empty() {
        match order(item, item) {
            Seen::Seen(_) => {}
            other => return other.map(|_| None),
        }
    }
    while low < high {
        let middle = low + (high - low) / 2;
        let Some(other) = sorted.get(middle).and_then(|(_, group)| group.last()) else { break };
        match order(item, other) {
            Seen::Seen(Ordering::Equal) => {
                let Some((_, group)) = sorted.get_mut(middle) else { break };
                group.push(*item);
                return Seen::Seen(group.first().copied());
            }
            Seen::Seen(Ordering::Less) => high = middle,
            Seen::Seen(Ordering::Greater) => low = middle + 1,
            // Whose fault is it? Each against itself tells.
            failed => match (order(item, item), order(other, other)) {
                (Seen::Seen(_), Seen::Seen(_)) => return failed.map(|_| None),
                // That member has ended: forget it, and look again among what is left.
                (Seen::Seen(_), _) => {
                    if let Some((_, group)) = sorted.get_mut(middle) {
                        group.pop();
                        if group.is_empty() {
                            sorted.remove(middle);
                        }
                    }
                    (low, high) = (0, sorted.len());
                }
                (item_failed, _) => return item_failed.map(|_| None),
            },
        }
    }
    sorted.insert(low.min(sorted.len()), (nth, vec![*item]));
    Seen::Seen(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
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
    fn epoll_targets() {
        // SAFETY: makes a descriptor that nobody else has.
        let epoll = unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) };
        let (read, _write) = nix::unistd::pipe().unwrap();
        let dup = read.try_clone().unwrap();
        let (other, _write) = nix::unistd::pipe().unwrap();
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
        // SAFETY: reads `event`.
        let r = unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, read.as_raw_fd(), &mut event) };
        assert_eq!(r, 0);
        let tfd = read.as_raw_fd().cast_unsigned();
        let ask = |fd: i32| epoll_target((me(), fd), (me(), epoll.as_raw_fd()), tfd, 0);
        assert_eq!(ask(read.as_raw_fd()), Seen::Seen(true));
        assert_eq!(ask(dup.as_raw_fd()), Seen::Seen(true));
        assert_eq!(ask(other.as_raw_fd()), Seen::Seen(false));
        assert_eq!(epoll_target((me(), 0), (me(), epoll.as_raw_fd()), 999_999, 0), Seen::Gone);
    }

    #[test]
    fn a_thousand_take_n_log_n_calls_and_survive_endings() {
        let calls = Cell::new(0);
        let items: Vec<u32> = (0..1000).map(|i| (i * 7919) % 1000).collect();
        let grouped = group(&items, |a, b| {
            calls.set(calls.get() + 1);
            Seen::Seen((a / 2).cmp(&(b / 2)))
        });
        assert_eq!(grouped.groups.len(), 500);
        assert!(grouped.groups.iter().all(|g| g.len() == 2 && g[0] / 2 == g[1] / 2));
        assert!(calls.get() < 12_000, "{}", calls.get());

        // 500 and more end when two thirds have been placed.
        let calls = Cell::new(0);
        let grouped = group(&items, |a, b| {
            calls.set(calls.get() + 1);
            let gone = |i: &u32| calls.get() > 7000 && *i >= 500;
            if gone(a) || gone(b) {
                Seen::Gone
            } else {
                Seen::Seen((a / 2).cmp(&(b / 2)))
            }
        });
        let below: usize = grouped.groups.iter().flatten().filter(|i| **i < 500).count();
        assert_eq!(below, 500, "no living member is lost");
        assert!(grouped.groups.iter().all(|g| g.iter().all(|i| i / 2 == g[0] / 2)));
    }
}
