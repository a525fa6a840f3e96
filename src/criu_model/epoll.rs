//! Which watched files of an epoll descriptor CRIU does not find (`dump_one_eventpoll`, `flush_eventpoll_dinfo_queue`,
//! criu/eventpoll.c).
//!
//! CRIU asks the kernel whether each number still is the watched file; only if one is not, it looks for every watched file of
//! that epoll file among all that it has met so far (`kid_lookup_epoll_tfd`, kcmp-ids.c): by device and inode, and by the first
//! process that it met the file in, which must be the very same process.

use crate::criu_model::queued::Fd;
use crate::snapshot::{Dev, EpollEntry, OpenFile, Task};
use std::collections::HashSet;

/// A watched descriptor that CRIU does not find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnresolvedEpollTarget {
    /// Its number when it was added.
    pub tfd: u32,
    /// It still has that number, but another watched descriptor, this, has not: then CRIU looks for all of them.
    pub moved: Option<u32>,
    pub reason: UnresolvedReason,
}

/// Why CRIU does not find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UnresolvedReason {
    /// The process has no descriptor of the open file left.
    Closed,
    /// A process that is dumped before has one, too.
    Earlier,
    /// It lies in the queue of a socket that is dumped before.
    Queued,
    /// The device number is one that CRIU misreads.
    Device,
}

/// Those of one epoll descriptor. `queued`: see [`crate::criu_model::queued::met_in_queues`].
pub(crate) fn unresolved(task: &Task, file: &OpenFile, queued: &HashSet<Fd>) -> Vec<UnresolvedEpollTarget> {
    let Some((facts, fd)) = file.epoll().zip(file.fd()) else { return Vec::new() };
    // CRIU does not verify an epoll file that it meets in a queue.
    if queued.contains(&(task.pid, fd)) {
        return Vec::new();
    }
    let Some(moved) = facts.entries.iter().find(|e| !e.kept).map(|e| e.tfd) else { return Vec::new() };
    let of = |entry: &EpollEntry| {
        let reason = reason(task, entry, queued)?;
        Some(UnresolvedEpollTarget { tfd: entry.tfd, moved: entry.kept.then_some(moved), reason })
    };
    facts.entries.iter().filter_map(of).collect()
}

/// `None`: CRIU finds it, or that is not known.
fn reason(task: &Task, entry: &EpollEntry, queued: &HashSet<Fd>) -> Option<UnresolvedReason> {
    let holders = entry.holders?;
    let Some(own) = holders.own else { return Some(UnresolvedReason::Closed) };
    if holders.first.is_some_and(|(pid, _)| pid != task.pid) {
        return Some(UnresolvedReason::Earlier);
    }
    if queued.contains(&(task.pid, own)) {
        return Some(UnresolvedReason::Queued);
    }
    // It seeks by device, but fdinfo shows that in the kernel's form, and stat(2) in another.
    let misread = Dev::from_sdev(entry.sdev).userspace() != u64::from(entry.sdev);
    misread.then_some(UnresolvedReason::Device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit::{file, task};
    use crate::snapshot::{Detail, EpollFacts, TargetHolders};

    fn entry(tfd: u32, kept: bool, first: Option<Fd>, own: Option<i32>) -> EpollEntry {
        EpollEntry { tfd, sdev: 15, kept, holders: Some(TargetHolders { first, own }) }
    }

    /// What becomes of these entries of descriptor 3 of process 100, which has the eventfds 11 and 20.
    fn of(entries: Vec<EpollEntry>, queued: &[Fd]) -> Vec<(u32, Option<u32>, UnresolvedReason)> {
        let mut epoll = file(3, 0, 77);
        epoll.detail = Some(Box::new(Detail::Epoll(EpollFacts { entries })));
        let mut task = task(100);
        task.files = vec![epoll];
        let queued = queued.iter().copied().collect();
        let found = unresolved(&task, &task.files[0], &queued);
        found.into_iter().map(|t| (t.tfd, t.moved, t.reason)).collect()
    }

    #[test]
    fn why_it_is_not_found() {
        use UnresolvedReason::{Closed, Device, Earlier, Queued};
        let kept = entry(11, true, Some((100, 11)), Some(11));
        let moved = entry(10, false, Some((100, 20)), Some(20));
        assert_eq!(of(vec![moved, kept], &[]), []);
        assert_eq!(of(vec![entry(10, false, None, None), kept], &[]), [(10, None, Closed)]);
        // Though it is open somewhere else.
        assert_eq!(of(vec![entry(10, false, Some((99, 5)), None)], &[]), [(10, None, Closed)]);
        assert_eq!(of(vec![entry(10, false, Some((99, 5)), Some(20)), kept], &[]), [(10, None, Earlier)]);
        assert_eq!(of(vec![moved, kept], &[(100, 20)]), [(10, None, Queued)]);
        let misread = |e: EpollEntry| EpollEntry { sdev: 8 << 20 | 15, ..e };
        let both = [(10, None, Device), (11, Some(10), Device)];
        assert_eq!(of(vec![misread(moved), misread(kept)], &[]), both);
        // What could not be compared.
        assert_eq!(of(vec![EpollEntry { holders: None, ..moved }], &[]), []);
    }

    #[test]
    fn it_looks_only_if_a_number_is_another_file() {
        let kept = entry(11, true, Some((99, 5)), Some(11));
        assert_eq!(of(vec![kept], &[]), []);
        let moved = entry(10, false, Some((100, 20)), Some(20));
        assert_eq!(of(vec![moved, kept], &[]), [(11, Some(10), UnresolvedReason::Earlier)]);
        // And not if it meets the epoll file itself in a queue.
        assert_eq!(of(vec![moved, kept], &[(100, 3)]), []);
    }
}
