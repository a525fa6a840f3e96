//! Locked files that a process shares with one that is dumped before: CRIU notes the locks of an open file where it meets that first, and forgets
//! those of every further descriptor (`discard_dup_locks_tail`, criu/file-lock.c). Other locks are shown at each descriptor of
//! the open file, POSIX locks only at those of the process that took them.

use crate::hash::{Map, Set};
use crate::parse::locks::LockKind;
use crate::scan::kcmp::{self, Fd};
use crate::scan::order::Grouped;
use crate::scan::passes::PassContext;
use crate::snapshot::{Dev, OpenFile, Snapshot};

/// Fills in [`OpenFile::earlier_holder`]. What the kernel does not compare for us it does not for CRIU, which ends there.
pub(crate) fn collect(cx: &mut PassContext) {
    let snap = &mut *cx.snap;
    for ((task, file), first) in earlier_holders(snap, kcmp::open_files) {
        if let Some(file) = snap.tasks.get_mut(task).and_then(|t| t.files.get_mut(file)) {
            file.earlier_holder = Some(first);
        }
    }
}

/// Task and file of every descriptor with POSIX locks whose open file an earlier task has, too, and that task.
fn earlier_holders(snap: &Snapshot, group: impl Fn(&[Fd]) -> Grouped<Fd>) -> Vec<((usize, usize), i32)> {
    let files = || snap.tasks.iter().flat_map(|t| t.files.iter().map(move |f| (t.pid, f)));
    let locked: Set<(Dev, u64)> =
        files().filter(|(_, f)| has_posix_locks(f)).map(|(_, f)| (f.attr.dev, f.attr.ino)).collect();
    if locked.is_empty() {
        return Vec::new();
    }
    let mut alike: Map<(Dev, u64), Vec<Fd>> = Map::default();
    let mut places: Map<Fd, (usize, usize)> = Map::default();
    for (nth, task) in snap.tasks.iter().enumerate() {
        for (at, file) in task.files.iter().enumerate() {
            let Some(fd) = file.fd() else { continue };
            if locked.contains(&(file.attr.dev, file.attr.ino)) {
                alike.entry((file.attr.dev, file.attr.ino)).or_default().push((task.pid, fd));
                if has_posix_locks(file) {
                    places.insert((task.pid, fd), (nth, at));
                }
            }
        }
    }
    let groups = alike.values().flat_map(|fds| group(fds).groups);
    let later = groups.flat_map(|group| {
        let first = group.first().map_or(0, |(pid, _)| *pid);
        group.into_iter().filter(move |(pid, _)| *pid != first).map(move |fd| (fd, first))
    });
    later.filter_map(|(fd, first)| Some((*places.get(&fd)?, first))).collect()
}

fn has_posix_locks(file: &OpenFile) -> bool {
    file.info.iter().flat_map(|i| &i.locks).any(|l| l.kind == LockKind::Posix)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::fdinfo::{self, FdInfo};
    use crate::rules::testkit::*;
    use crate::scan::{order, Seen};
    use std::cell::Cell;

    fn locked(file: OpenFile) -> OpenFile {
        let info = fdinfo::parse(b"lock:\t1: POSIX  ADVISORY  WRITE 101 08:01:9 0 EOF\n");
        assert_eq!(info.locks.len(), 1);
        OpenFile { info: Some(Box::new(info)), ..file }
    }

    /// Two processes with so many descriptors of one file; the second's hold a lock. Equal numbers are one open file.
    fn two(count: i32) -> Snapshot {
        let plain = (0..count).map(|fd| file(fd, libc::S_IFREG, 9));
        let mut s = snap(plain.clone().collect());
        let mut second = task(101);
        second.files = plain.map(locked).collect();
        s.tasks.push(second);
        s
    }

    #[test]
    fn each_open_file_is_placed_once() {
        const COUNT: i32 = 4000;
        let calls = Cell::new(0_usize);
        let met = earlier_holders(&two(COUNT), |fds| {
            order::group(fds, |a, b| {
                calls.set(calls.get() + 1);
                Seen::Seen(a.1.cmp(&b.1))
            })
        });
        assert_eq!(met.len(), 4000);
        assert!(met.iter().all(|((task, _), first)| (*task, *first) == (1, 100)));
        // 8,000 by 13.
        assert!(calls.get() <= 8000 * 13, "{}", calls.get());
    }

    #[test]
    fn only_what_an_earlier_task_has() {
        let all = |fds: &[Fd]| order::group(fds, |_, _| Seen::Seen(std::cmp::Ordering::Equal));
        let none = |fds: &[Fd]| order::group(fds, |a, b| Seen::Seen(a.cmp(b)));
        let mut s = two(2);
        assert_eq!(earlier_holders(&s, none), []);
        let mut met = earlier_holders(&s, all);
        met.sort_unstable();
        assert_eq!(met, [((1, 0), 100), ((1, 1), 100)]);
        // Another descriptor of the same task is no other task.
        s.tasks.remove(0);
        assert_eq!(earlier_holders(&s, all), []);
        // A lock of another kind, a file of another number.
        let mut s = two(1);
        s.tasks[1].files[0].info = Some(Box::new(FdInfo::default()));
        assert_eq!(earlier_holders(&s, |_| panic!("nothing to compare")), []);
        let mut s = two(1);
        s.tasks[0].files[0].attr.ino = 8;
        assert_eq!(earlier_holders(&s, all), []);
        // What cannot be compared is not taken for the same.
        let denied = |fds: &[Fd]| order::group(fds, |_, _| Seen::Denied(libc::EPERM));
        assert_eq!(earlier_holders(&two(2), denied), []);
    }
}
