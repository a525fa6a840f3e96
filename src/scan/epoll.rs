//! Which watched descriptors of an epoll file CRIU will not find (`dump_one_eventpoll`, criu/eventpoll.c).
//!
//! CRIU asks kcmp(KCMP_EPOLL_TFD) whether each number still is the file; if one is not, it looks for every watched file of that
//! epoll file among all that it has met so far (`kid_lookup_epoll_tfd`, kcmp-ids.c), by device and inode and by the first
//! process that it met it in, which must be the very same process (`flush_eventpoll_dinfo_queue`).

use super::kcmp::{self, Fd};
use super::{Log, Seen};
use crate::parse::fdinfo::EpollItem;
use crate::snapshot::{Detail, EpollFacts, Escape, OpenFile, Snapshot, Task, Why};
use std::collections::{HashMap, HashSet};

/// Fills in the details of epoll descriptors, in the first task that has them.
pub fn look(snap: &mut Snapshot, log: &mut Log) {
    let mut holders: Vec<Fd> = Vec::new();
    // What CRIU meets in a socket's queue first, it takes for its own process's.
    let mut queued: HashSet<Fd> = HashSet::new();
    for task in &snap.tasks {
        holders.extend(task.files.iter().filter(|f| is_epoll(f)).map(|f| (task.pid, f.fd)));
        queued.extend(task.files.iter().filter_map(|f| f.queued.as_ref()).flat_map(|q| &q.later));
    }
    // CRIU dumps an open file once, in the first process.
    let firsts: Vec<Fd> =
        kcmp::open_files(&holders).groups.into_iter().filter_map(|group| group.first().copied()).collect();
    let mut escaped: HashMap<Fd, Vec<Escape>> = HashMap::new();
    // It does not verify an epoll file that it meets there.
    for (pid, fd) in firsts.into_iter().filter(|fd| !queued.contains(fd)) {
        let Some(nth) = snap.tasks.iter().position(|t| t.pid == pid) else { continue };
        let (earlier, rest) = snap.tasks.split_at(nth);
        let Some((task, file)) = rest.first().and_then(|t| Some((t, t.files.iter().find(|f| f.fd == fd)?))) else {
            continue;
        };
        let lost = lost(earlier, &queued, task, file, log);
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
    file.queued.is_none() && file.link.as_deref().is_some_and(|l| l == b"anon_inode:[eventpoll]") && file.info.is_some()
}

/// The entries that escaped.
fn lost(earlier: &[Task], queued: &HashSet<Fd>, task: &Task, file: &OpenFile, log: &mut Log) -> Vec<Escape> {
    let items = file.info.iter().flat_map(|i| &i.epoll);
    let epoll = (task.pid, file.fd);
    let mut entries = Vec::new();
    // Entries with the same number are told apart by their order.
    let mut offsets: HashMap<u32, u32> = HashMap::new();
    for item in items {
        let Ok(tfd) = u32::try_from(item.tfd) else { continue };
        let offset = *offsets.entry(tfd).and_modify(|n| *n = n.saturating_add(1)).or_insert(0);
        let entry = Entry { epoll, item, tfd, offset };
        match entry.kept_its_number() {
            Seen::Seen(kept) => entries.push((entry, kept)),
            Seen::Denied(errno) => log.deny(task.pid, Some(file.fd), b"kcmp", errno),
            Seen::Gone => {}
        }
    }
    // Only when a number is no longer the file, does CRIU look for files in its tree; then for all that are watched.
    let Some(moved) = entries.iter().find(|(_, kept)| !kept).map(|(entry, _)| entry.tfd) else { return Vec::new() };
    let escape = |(entry, kept): &(Entry, bool)| {
        let why = entry.lost(earlier, queued, task)?;
        Some(Escape { tfd: entry.tfd, moved: (*kept).then_some(moved), why })
    };
    entries.iter().filter_map(escape).collect()
}

/// One watched file.
struct Entry<'a> {
    epoll: Fd,
    item: &'a EpollItem,
    tfd: u32,
    offset: u32,
}

impl Entry<'_> {
    fn is(&self, fd: Fd) -> Seen<bool> {
        kcmp::epoll_target(fd, self.epoll, self.tfd, self.offset)
    }

    fn kept_its_number(&self) -> Seen<bool> {
        match self.is((self.epoll.0, self.item.tfd)) {
            // That number is closed, or the entry has left the epoll file meanwhile; any descriptor will do to learn which.
            Seen::Gone => self.is(self.epoll).map(|_| false),
            other => other,
        }
    }

    /// Why CRIU does not find the file in its tree under this process; `None`: it does, or that is not known.
    fn lost(&self, earlier: &[Task], queued: &HashSet<Fd>, task: &Task) -> Option<Why> {
        // A kernel before 4.13 does not say what the entry refers to, nor does it know this kcmp.
        let target = self.item.target.as_ref()?;
        let alike = |f: &&OpenFile| f.ino == target.ino && (f.dev.major << 20 | f.dev.minor) == target.sdev;
        let find =
            |t: &Task| t.files.iter().filter(alike).find(|f| self.is((t.pid, f.fd)) == Seen::Seen(true)).cloned();
        let Some(own) = find(task) else { return Some(Why::Closed) };
        if earlier.iter().any(|t| find(t).is_some()) {
            return Some(Why::Earlier);
        }
        if queued.contains(&(task.pid, own.fd)) {
            return Some(Why::Queued);
        }
        // It seeks by device, but fdinfo shows that in the kernel's form, and stat(2) in another.
        (own.dev.userspace() != u64::from(target.sdev)).then_some(Why::Device)
    }
}
