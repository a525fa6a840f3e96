//! What CRIU makes of descriptors that were sent and not received (`dump_scm_rights`, criu/sk-queue.c; `dump_my_file`,
//! criu/files.c): it dumps them as its own, each open file where it meets it first.

use crate::criu::{Host, Release};
use crate::snapshot::{Dev, OpenFile, Snapshot};
use std::collections::{HashMap, HashSet};

/// A descriptor: process, number.
pub(crate) type Fd = (i32, i32);

/// `CMSG_MAX_SIZE` (criu/sk-queue.c) up to 4.2: a descriptor that has no room there CRIU does not see. 4.3 has room for all.
pub(crate) const OLD_CONTROL: usize = 1024;

/// Room for control messages, if that is not enough for all.
pub(crate) fn control_room(host: &Host) -> Option<usize> {
    (host.release < Release::V4_3).then_some(OLD_CONTROL)
}

/// Whether CRIU dumps what lies in a message of this length: it stops at one of none.
pub(crate) fn is_dumped(length: u64) -> bool {
    length > 0
}

/// Descriptors of processes whose open file CRIU meets in a socket's queue before.
pub(crate) fn met_in_queues(snap: &Snapshot) -> HashSet<Fd> {
    let files = snap.tasks.iter().flat_map(|t| &t.files);
    files.filter_map(OpenFile::queued).flat_map(|q| &q.later).copied().collect()
}

/// A descriptor in a queue: the process and its file behind which it belongs, the number that we have for it, the file.
pub(crate) type Met<'a> = ((usize, usize), i32, &'a OpenFile);

/// For each, in the order in which they are met: the descriptors of the tree that are the same open file, if none of them, and
/// no other that lies in a queue, is met before (`None`: one is). `me`: whose descriptors those in queues are. `same` tells
/// which of these descriptors are the same open file as one of ours, each group in their order.
pub(crate) fn first_references(
    snap: &Snapshot,
    met: &[Met],
    me: i32,
    same: impl Fn(&[Fd]) -> Result<Vec<Vec<Fd>>, i32>,
) -> Result<Vec<Option<Vec<Fd>>>, i32> {
    let key = |f: &OpenFile| (f.attr.dev, f.attr.ino);
    let wanted: HashSet<(Dev, u64)> = met.iter().map(|(_, _, found)| key(found)).collect();
    // In CRIU's order.
    let mut alike: HashMap<(Dev, u64), Vec<Fd>> = HashMap::new();
    let mut queued = met.iter().peekable();
    for (t, task) in snap.tasks.iter().enumerate() {
        for (f, file) in task.files.iter().enumerate() {
            if wanted.contains(&key(file)) {
                alike.entry(key(file)).or_default().extend(file.fd().map(|fd| (task.pid, fd)));
            }
            while let Some((_, fd, found)) = queued.next_if(|(place, ..)| *place == (t, f)) {
                alike.entry(key(found)).or_default().push((me, *fd));
            }
        }
    }
    let mut later: HashMap<i32, Vec<Fd>> = HashMap::new();
    for fds in alike.values() {
        for group in same(fds)? {
            if let Some(((pid, fd), rest)) = group.split_first() {
                if *pid == me {
                    later.insert(*fd, rest.iter().filter(|(pid, _)| *pid != me).copied().collect());
                }
            }
        }
    }
    Ok(met.iter().map(|(_, fd, _)| later.remove(fd)).collect())
}
