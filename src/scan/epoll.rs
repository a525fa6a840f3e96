//! Which watched descriptors of an epoll file CRIU will not find (`dump_one_eventpoll`, criu/eventpoll.c).
//!
//! CRIU asks kcmp(KCMP_EPOLL_TFD) whether the number still is the file; if not, it looks for the file among all that it
//! has met so far, by the first process that it met it in, which must be the very same process.

use super::kcmp::{self, Fd};
use super::{Log, Seen};
use crate::parse::fdinfo::EpollItem;
use crate::snapshot::{Detail, EpollFacts, OpenFile, Snapshot, Task};
use std::collections::HashMap;

/// Fills in the details of epoll descriptors, in the first task that has them.
pub fn look(snap: &mut Snapshot, log: &mut Log) {
    let mut holders: Vec<Fd> = Vec::new();
    for task in &snap.tasks {
        holders.extend(task.files.iter().filter(|f| is_epoll(f)).map(|f| (task.pid, f.fd)));
    }
    // CRIU dumps an open file once, in the first process.
    let firsts: Vec<Fd> =
        kcmp::open_files(&holders).groups.into_iter().filter_map(|group| group.first().copied()).collect();
    let mut escaped: HashMap<Fd, Vec<u32>> = HashMap::new();
    for (pid, fd) in firsts {
        let Some(nth) = snap.tasks.iter().position(|t| t.pid == pid) else { continue };
        let (earlier, rest) = snap.tasks.split_at(nth);
        let Some((task, file)) = rest.first().and_then(|t| Some((t, t.files.iter().find(|f| f.fd == fd)?))) else {
            continue;
        };
        let lost = lost(earlier, task, file, log);
        if !lost.is_empty() {
            escaped.insert((pid, fd), lost);
        }
    }
    for task in &mut snap.tasks {
        let pid = task.pid;
        for file in &mut task.files {
            if let Some(escaped) = escaped.remove(&(pid, file.fd)) {
                file.detail = Some(Box::new(Detail::Epoll(EpollFacts { escaped })));
            }
        }
    }
}

fn is_epoll(file: &OpenFile) -> bool {
    file.link.as_deref().is_some_and(|l| l == b"anon_inode:[eventpoll]") && file.info.is_some()
}

/// The numbers that escaped.
fn lost(earlier: &[Task], task: &Task, file: &OpenFile, log: &mut Log) -> Vec<u32> {
    let items = file.info.iter().flat_map(|i| &i.epoll);
    let epoll = (task.pid, file.fd);
    let mut lost = Vec::new();
    // Entries with the same number are told apart by their order.
    let mut offsets: HashMap<u32, u32> = HashMap::new();
    for item in items {
        let Ok(tfd) = u32::try_from(item.tfd) else { continue };
        let offset = offsets.entry(tfd).and_modify(|n| *n = n.saturating_add(1)).or_insert(0);
        match is_found(earlier, task, epoll, item, tfd, *offset) {
            Seen::Seen(false) => lost.push(tfd),
            Seen::Denied(errno) => log.deny(task.pid, Some(file.fd), b"kcmp", errno),
            Seen::Seen(true) | Seen::Gone => {}
        }
    }
    lost
}

fn is_found(earlier: &[Task], task: &Task, epoll: Fd, item: &EpollItem, tfd: u32, offset: u32) -> Seen<bool> {
    let is = |fd: Fd| kcmp::epoll_target(fd, epoll, tfd, offset);
    match is((task.pid, item.tfd)) {
        Seen::Seen(true) => return Seen::Seen(true),
        // Gone: that number is closed, or the entry has left the epoll file meanwhile, which the next question tells.
        Seen::Seen(false) | Seen::Gone => {}
        Seen::Denied(errno) => return Seen::Denied(errno),
    }
    // Any descriptor will do to learn whether the entry is there at all.
    if is(epoll) == Seen::Gone {
        return Seen::Gone;
    }
    // A kernel before 4.13 does not say what the entry refers to, nor does it know this kcmp.
    let Some(target) = &item.target else { return Seen::Gone };
    let alike = |f: &&OpenFile| f.ino == target.ino && (f.dev.major << 20 | f.dev.minor) == target.sdev;
    let holds = |t: &Task| t.files.iter().filter(alike).any(|f| is((t.pid, f.fd)) == Seen::Seen(true));
    Seen::Seen(holds(task) && !earlier.iter().any(holds))
}
