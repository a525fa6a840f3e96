//! Which watched descriptors of an epoll file CRIU will not find (`dump_one_eventpoll`, criu/eventpoll.c).
//!
//! CRIU asks kcmp(KCMP_EPOLL_TFD) whether each number still is the file; if one is not, it looks for every watched file of that
//! epoll file among all that it has met so far (`kid_lookup_epoll_tfd`, kcmp-ids.c), by device and inode and by the first
//! process that it met it in, which must be the very same process (`flush_eventpoll_dinfo_queue`).
//!
//! The kernel finds an entry of an epoll file by going through all of them (`ep_find_tfd()`, fs/eventpoll.c), so each is asked
//! for once; the files of one inode, as all eventfds are, are sorted once and the missing one is searched by halves. Of an
//! epoll file with many entries those are not asked for that are sockets: each of these has an inode, and one open file, of its own.

use crate::hash::{Map, Set};
use crate::parse::fdinfo::EpollItem;
use crate::scan::kcmp::{self, Fd};
use crate::scan::order::Sorted;
use crate::scan::passes::PassContext;
use crate::scan::{Seen, UncheckedList};
use crate::snapshot::{Detail, EpollFacts, OpenFile, Probe, Snapshot, Task, UnresolvedEpollTarget, UnresolvedReason};
use std::cmp::Ordering;

/// Fills in the details of epoll descriptors, in the first task that has them.
pub fn collect(cx: &mut PassContext) {
    let PassContext { snap, log, .. } = cx;
    // One of which it is not known what it watches may be the first that CRIU meets of the same open file.
    if snap.tasks.iter().flat_map(|t| &t.files).any(|f| has_link(f) && f.info.is_none()) {
        return;
    }
    for ((task, file), escaped) in all(snap, &KERNEL, log) {
        if let Some(file) = snap.tasks.get_mut(task).and_then(|t| t.files.get_mut(file)) {
            file.detail = Some(Box::new(Detail::Epoll(EpollFacts { escaped })));
        }
    }
}

/// Index of a task, and of one of its files.
type Place = (usize, usize);

/// How the open files of two descriptors compare.
type Files<'a> = dyn Fn(Fd, Fd) -> Seen<Ordering> + 'a;
/// How the open file of a descriptor and that of an entry of an epoll file (its number, which of those with that) compare.
type Target<'a> = dyn Fn(Fd, Fd, u32, u32) -> Seen<Ordering> + 'a;

/// Who compares; another one in tests.
struct Kernel<'a> {
    files: &'a Files<'a>,
    target: &'a Target<'a>,
}

const KERNEL: Kernel = Kernel { files: &kcmp::files, target: &kcmp::epoll_target };

/// The epoll files with entries that escaped.
fn all(snap: &Snapshot, kernel: &Kernel, log: &mut UncheckedList) -> Vec<(Place, Vec<UnresolvedEpollTarget>)> {
    let mut holders: Vec<(Fd, Place)> = Vec::new();
    // What CRIU meets in a socket's queue first, it takes for its own process's.
    let mut queued: Set<Fd> = Set::default();
    for (t, task) in snap.tasks.iter().enumerate() {
        let epolls = task.files.iter().enumerate().filter(|(_, file)| is_epoll(file));
        holders.extend(epolls.filter_map(|(f, file)| Some(((task.pid, file.fd()?), (t, f)))));
        queued.extend(task.files.iter().filter_map(OpenFile::queued).flat_map(|q| &q.later));
    }
    // CRIU dumps an open file once, in the first process.
    let groups = crate::scan::order::group(&holders, |a, b| (kernel.files)(a.0, b.0)).groups;
    let firsts = groups.into_iter().filter_map(|group| group.first().copied());
    let mut search = Search { snap, kernel, queued: &queued, descriptors: None, sorted: Map::default() };
    // It does not verify an epoll file that it meets in a queue.
    let verified = firsts.filter(|(fd, _)| !queued.contains(fd));
    let lost = verified.filter_map(|(_, (t, f))| {
        let task = snap.tasks.get(t)?;
        let escaped = search.lost(t, task, task.files.get(f)?, log);
        (!escaped.is_empty()).then_some(((t, f), escaped))
    });
    lost.collect()
}

fn is_epoll(file: &OpenFile) -> bool {
    has_link(file) && file.info.is_some()
}

fn has_link(file: &OpenFile) -> bool {
    file.fd().is_some() && file.link.as_deref().is_some_and(|l| l == b"anon_inode:[eventpoll]")
}

/// Inode and device as fdinfo tells them of what is watched.
type Inode = (u64, u32);

fn inode_of(file: &OpenFile) -> Inode {
    (file.ino, file.dev.major << 20 | file.dev.minor)
}

/// More entries than this, and a table of all descriptors costs less than to ask for each.
const MANY: usize = 64;

/// One descriptor among those of the same inode.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    fd: Fd,
    place: Place,
}

/// All descriptors of the tree.
struct Descriptors {
    by_inode: Map<Inode, Vec<Candidate>>,
    numbers: Map<Fd, Place>,
}

/// The descriptors of one inode in the kernel's order, and in which group each of them is.
struct Alike {
    sorted: Sorted<Candidate>,
    group: Map<Fd, usize>,
}

struct Search<'a> {
    snap: &'a Snapshot,
    kernel: &'a Kernel<'a>,
    queued: &'a Set<Fd>,
    /// Made with the first need.
    descriptors: Option<Descriptors>,
    sorted: Map<Inode, Alike>,
}

impl Search<'_> {
    /// The entries that escaped.
    fn lost(
        &mut self,
        nth: usize,
        task: &Task,
        file: &OpenFile,
        log: &mut UncheckedList,
    ) -> Vec<UnresolvedEpollTarget> {
        let items = file.info.iter().flat_map(|i| &i.epoll);
        let many = file.info.as_ref().is_some_and(|i| i.epoll.len() > MANY);
        let Some(number) = file.fd() else { return Vec::new() };
        let epoll = (task.pid, number);
        let mut entries = Vec::new();
        // Entries with the same number are told apart by their order.
        let mut offsets: Map<u32, u32> = Map::default();
        for item in items {
            let Ok(tfd) = u32::try_from(item.tfd) else { continue };
            let offset = *offsets.entry(tfd).and_modify(|n| *n = n.saturating_add(1)).or_insert(0);
            let entry = Entry { epoll, item, tfd, offset };
            let kept = match many && self.is_watched_socket(&entry) {
                true => Seen::Seen(true),
                false => entry.kept_its_number(self.kernel),
            };
            match kept {
                Seen::Seen(kept) => entries.push((entry, kept)),
                Seen::Denied(errno) => log.deny(task.pid, Some(number), Probe::Kcmp, errno),
                Seen::Gone => {}
            }
        }
        // Only when a number is no longer the file, does CRIU look for files in its tree; then for all that are watched.
        let Some(moved) = entries.iter().find(|(_, kept)| !kept).map(|(entry, _)| entry.tfd) else {
            return Vec::new();
        };
        let mut escapes = Vec::new();
        for (entry, kept) in entries {
            match self.why(nth, &entry, kept) {
                Seen::Seen(Some(why)) => {
                    escapes.push(UnresolvedEpollTarget { tfd: entry.tfd, moved: kept.then_some(moved), why });
                }
                Seen::Seen(None) | Seen::Gone => {}
                Seen::Denied(errno) => log.deny(task.pid, Some(number), Probe::Kcmp, errno),
            }
        }
        escapes
    }

    /// Whether the number of an entry is the socket that it watches.
    fn is_watched_socket(&mut self, entry: &Entry) -> bool {
        let Some(target) = &entry.item.target else { return false };
        let snap = self.snap;
        let place = self.descriptors().numbers.get(&(entry.epoll.0, entry.item.tfd)).copied();
        let file = place.and_then(|(t, f)| snap.tasks.get(t)?.files.get(f));
        file.is_some_and(|f| f.is_socket() && inode_of(f) == (target.ino, target.sdev))
    }

    /// UnresolvedReason CRIU does not find the file in its tree under this process; `None`: it does, or that is not known.
    fn why(&mut self, nth: usize, entry: &Entry, kept: bool) -> Seen<Option<UnresolvedReason>> {
        // A kernel before 4.13 does not say what the entry refers to, nor does it know this kcmp.
        let Some(target) = &entry.item.target else { return Seen::Seen(None) };
        let (snap, kernel, queued) = (self.snap, self.kernel, self.queued);
        let fd = (entry.epoll.0, entry.item.tfd);
        // It has come to its number since that was looked at.
        if kept && !self.descriptors().numbers.contains_key(&fd) {
            return Seen::Seen(None);
        }
        let alike = self.alike((target.ino, target.sdev));
        let known = if kept { alike.group.get(&fd).copied() } else { None };
        let group = match known {
            Some(group) => Some(group),
            None => match alike.sorted.find(|member| entry.compare(kernel, member.fd)) {
                Ok(group) => group,
                Err(failed) => return failed.map(|()| None),
            },
        };
        let members = || group.and_then(|at| alike.sorted.groups.get(at)).into_iter().flatten();
        let Some(own) = members().find(|member| member.place.0 == nth) else {
            // It may be one that could not be compared.
            return match alike.sorted.denied.first() {
                Some((_, errno)) => Seen::Denied(*errno),
                None => Seen::Seen(Some(UnresolvedReason::Closed)),
            };
        };
        if members().any(|member| member.place.0 < nth) {
            return Seen::Seen(Some(UnresolvedReason::Earlier));
        }
        if queued.contains(&own.fd) {
            return Seen::Seen(Some(UnresolvedReason::Queued));
        }
        // It seeks by device, but fdinfo shows that in the kernel's form, and stat(2) in another.
        let file = snap.tasks.get(nth).and_then(|t| t.files.get(own.place.1));
        let misread = file.is_some_and(|f| f.dev.userspace() != u64::from(target.sdev));
        Seen::Seen(misread.then_some(UnresolvedReason::Device))
    }

    fn descriptors(&mut self) -> &Descriptors {
        let snap = self.snap;
        self.descriptors.get_or_insert_with(|| Descriptors::of(snap))
    }

    fn alike(&mut self, inode: Inode) -> &Alike {
        let (snap, kernel) = (self.snap, self.kernel);
        let all = self.descriptors.get_or_insert_with(|| Descriptors::of(snap));
        self.sorted.entry(inode).or_insert_with(|| {
            let candidates = all.by_inode.get(&inode).map(Vec::as_slice).unwrap_or_default();
            let sorted = crate::scan::order::sort(candidates, |a, b| (kernel.files)(a.fd, b.fd));
            let members =
                sorted.groups.iter().enumerate().flat_map(|(at, group)| group.iter().map(move |m| (m.fd, at)));
            let group = members.collect();
            Alike { sorted, group }
        })
    }
}

impl Descriptors {
    fn of(snap: &Snapshot) -> Descriptors {
        let mut all = Descriptors { by_inode: Map::default(), numbers: Map::default() };
        for (t, task) in snap.tasks.iter().enumerate() {
            for (f, file) in task.files.iter().enumerate() {
                let Some(number) = file.fd() else { continue };
                let fd = (task.pid, number);
                all.by_inode.entry(inode_of(file)).or_default().push(Candidate { fd, place: (t, f) });
                all.numbers.insert(fd, (t, f));
            }
        }
        all
    }
}

/// One watched file.
struct Entry<'a> {
    epoll: Fd,
    item: &'a EpollItem,
    tfd: u32,
    offset: u32,
}

impl Entry<'_> {
    fn compare(&self, kernel: &Kernel, fd: Fd) -> Seen<Ordering> {
        (kernel.target)(fd, self.epoll, self.tfd, self.offset)
    }

    fn kept_its_number(&self, kernel: &Kernel) -> Seen<bool> {
        match self.compare(kernel, (self.epoll.0, self.item.tfd)) {
            // That number is closed, or the entry has left the epoll file meanwhile; any descriptor will do to learn which.
            Seen::Gone => self.compare(kernel, self.epoll).map(|_| false),
            other => other.map(Ordering::is_eq),
        }
    }
}

#[cfg(test)]
mod tests;
