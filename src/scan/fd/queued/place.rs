//! Puts what was met in queues into the snapshot, where CRIU meets it first.

use super::QueuedFd;
use crate::criu_model::queued::{first_references, Met};
use crate::hash::Set;
use crate::scan::fd::details::want;
use crate::scan::fd::files;
use crate::scan::fd::files::Class;
use crate::scan::fd::remote;
use crate::scan::kcmp::{self, Fd};
use crate::scan::kernel::PseudoFsIds;
use crate::scan::net::diag;
use crate::scan::{order, Seen, UncheckedList};
use crate::snapshot::{Detail, Index, OpenFile, Origin, Probe, ScanPhase, Snapshot};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::os::fd::AsRawFd;

/// File systems on which a file is closed without waiting for anybody. What is on others stays open.
const CLOSED_AT_ONCE: [&[u8]; 8] = [b"ext2", b"ext3", b"ext4", b"xfs", b"btrfs", b"tmpfs", b"ramfs", b"hugetlbfs"];

/// Leaves out what was met before, asks the rest, and puts it behind the sockets in whose queues it lies.
pub(super) fn place(snap: &mut Snapshot, own: &PseudoFsIds, mut met: Vec<QueuedFd>, log: &mut UncheckedList) {
    let me = nix::unistd::getpid().as_raw();
    let number = |m: &QueuedFd| m.taken.file().as_raw_fd();
    let places: Vec<Met> = met.iter().map(|m| ((m.task, m.file), number(m), &m.found)).collect();
    match first_references(snap, &places, me, |fds| same_as_queued(fds, me, kcmp::files)) {
        Ok(first_references) => {
            for (m, later) in met.iter_mut().zip(first_references) {
                m.first = later.is_some();
                if let (Some(later), Origin::Queued(at)) = (later, &mut m.found.origin) {
                    at.later = later;
                }
            }
        }
        Err(errno) => {
            // Nothing is known of what is the same, so nothing is said of what is in the queues.
            log.deny(me, None, Probe::Kcmp, errno);
            for file in snap.tasks.iter_mut().flat_map(|t| &mut t.files) {
                if let Some(Detail::Socket(facts)) = file.detail.as_deref_mut() {
                    facts.unix.queue.iter_mut().for_each(|queue| queue.examined = false);
                }
            }
        }
    }
    more_sockets(snap, own, &met, log);
    {
        let index = Index::new(snap);
        for m in met.iter_mut().filter(|m| m.first) {
            let before = m.found.detail.take().map(|d| *d);
            if let Some(what) = want(&m.found, own, &index) {
                let facts = remote::facts_of(m.taken.file(), what);
                let unasked = facts.as_ref().map_or_else(|errno| Some(*errno as i32), |facts| facts.unasked);
                if let Some(errno) = unasked {
                    log.deny(me, None, Probe::UnreadMessage, errno);
                }
                m.found.detail = facts.ok().and_then(|facts| facts.detail).map(Box::new);
            }
            // What its own queue holds was seen already.
            if let (Some(Detail::Socket(seen)), Some(Detail::Socket(facts))) = (before, m.found.detail.as_deref_mut()) {
                if let Some(seen) = seen.unix.queue {
                    let queue = facts.unix.queue.get_or_insert_default();
                    (queue.longest, queue.control, queue.examined) = (seen.longest, seen.control, seen.examined);
                }
            }
        }
    }
    let mut all: HashMap<usize, HashMap<usize, Vec<OpenFile>>> = HashMap::new();
    let closed_at_once = CloseAtOnce::new(snap);
    for (nth, m) in met.into_iter().enumerate() {
        let QueuedFd { task, file, mut found, taken, first } = m;
        if closed_at_once.covers(snap, &found, own) {
            taken.close();
        }
        if first {
            if let Origin::Queued(at) = &mut found.origin {
                at.nth = u32::try_from(nth).unwrap_or(u32::MAX);
            }
            all.entry(task).or_default().entry(file).or_default().push(found);
        }
    }
    for (task, mut inside) in all {
        let Some(task) = snap.tasks.get_mut(task) else { continue };
        for (f, file) in std::mem::take(&mut task.files).into_iter().enumerate() {
            task.files.push(file);
            task.files.extend(inside.remove(&f).unwrap_or_default());
        }
    }
}

/// Which of these descriptors are the same open file as one of ours, each group in their order. Ours, which are few, are
/// sorted, and the tree's are sought among them.
pub(super) fn same_as_queued(
    fds: &[Fd],
    me: i32,
    compare: impl Fn(Fd, Fd) -> Seen<Ordering>,
) -> Result<Vec<Vec<Fd>>, i32> {
    let ours: Vec<Fd> = fds.iter().filter(|(pid, _)| *pid == me).copied().collect();
    let sorted = order::sort(&ours, |a, b| compare(*a, *b));
    if let Some((_, errno)) = sorted.denied.first() {
        return Err(*errno);
    }
    let numbered = sorted.groups.iter().enumerate();
    let known: HashMap<Fd, usize> = numbered.flat_map(|(at, group)| group.iter().map(move |fd| (*fd, at))).collect();
    let mut groups = vec![Vec::new(); sorted.groups.len()];
    for fd in fds {
        let at = match known.get(fd) {
            Some(at) => Some(*at),
            None => match sorted.find(|ours| compare(*ours, *fd)) {
                Ok(at) => at,
                Err(Seen::Denied(errno)) => return Err(errno),
                Err(_) => None,
            },
        };
        if let Some(group) = at.and_then(|at| groups.get_mut(at)) {
            group.push(*fd);
        }
    }
    Ok(groups)
}

/// Sockets that only lie in queues were not looked for.
fn more_sockets(snap: &mut Snapshot, own: &PseudoFsIds, met: &[QueuedFd], log: &mut UncheckedList) {
    let sockets = || met.iter().map(|m| &m.found).filter(|f| own.is_socket(f)).map(|f| f.attr.ino);
    {
        let index = Index::new(snap);
        if sockets().all(|ino| index.socket(ino).is_some()) {
            return;
        }
    }
    let files = snap.tasks.iter().flat_map(|t| &t.files).filter(|f| own.is_socket(f)).map(|f| f.attr.ino);
    let held: Set<u64> = files.chain(sockets()).collect();
    let (tables, unchecked) =
        diag::ask(&snap.tasks, &snap.criu.ns, &held, ScanPhase::Frozen, &mut diag::Refused::default());
    snap.sockets = tables;
    log.0.extend(unchecked);
}

/// Mounts on which a file is closed without waiting for anybody.
struct CloseAtOnce(Set<u64>);

impl CloseAtOnce {
    fn new(snap: &Snapshot) -> CloseAtOnce {
        let mounts = snap.mounts.iter().flat_map(|t| &t.mounts);
        let of_kind = mounts.filter(|m| CLOSED_AT_ONCE.contains(&&*m.fstype.0));
        CloseAtOnce(of_kind.filter_map(|m| u64::try_from(m.mnt_id).ok()).collect())
    }

    /// Whether closing this file waits for no process.
    fn covers(&self, snap: &Snapshot, file: &OpenFile, own: &PseudoFsIds) -> bool {
        let o_path = file.flags.is_some_and(|f| f & libc::O_PATH as u32 != 0);
        match files::classify(file, own) {
            _ if o_path => true,
            Class::Device | Class::Unknown => false,
            Class::Path if file.is_fifo() || snap.kernel.shmem.contains(&file.attr.dev) => true,
            Class::Path => file.attr.mnt_id.is_some_and(|id| self.0.contains(&id)),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests;
