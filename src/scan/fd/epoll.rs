//! Where the files that an epoll descriptor watches are open. What CRIU makes of that is the matter of
//! [`crate::criu_model::epoll`].
//!
//! kcmp(KCMP_EPOLL_TFD) tells whether a number still is the watched file. Only if one is not, does CRIU look for files, and do
//! we: that costs a comparison with what has the same inode for every entry.
//!
//! The kernel finds an entry of an epoll file by going through all of them (`ep_find_tfd()`, fs/eventpoll.c), so each is asked
//! for once; the files of one inode, as all eventfds are, are sorted once and the missing one is searched by halves. Of an
//! epoll file with many entries those are not asked for that are sockets: each of these has an inode, and one open file, of its own.

use crate::hash::Map;
use crate::parse::fdinfo::EpollItem;
use crate::scan::kcmp::{self, Fd};
use crate::scan::order::Sorted;
use crate::scan::passes::PassContext;
use crate::scan::{Seen, UncheckedList};
use crate::snapshot::{Detail, EpollEntry, EpollFacts, OpenFile, Probe, Snapshot, TargetHolders, Task};
use std::cmp::Ordering;

/// Fills in the details of epoll descriptors, in the first task that has them.
pub(crate) fn collect(cx: &mut PassContext) {
    let PassContext { snap, log, .. } = cx;
    // One of which it is not known what it watches may be the first that CRIU meets of the same open file.
    if snap.tasks.iter().flat_map(|t| &t.files).any(|f| has_link(f) && f.info.is_none()) {
        return;
    }
    for ((task, file), entries) in all(snap, &KERNEL, log) {
        if let Some(file) = snap.tasks.get_mut(task).and_then(|t| t.files.get_mut(file)) {
            file.detail = Some(Box::new(Detail::Epoll(EpollFacts { entries })));
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

/// The epoll files with an entry whose number is not its file any more, each where the tree has it first: CRIU dumps an open
/// file once.
fn all(snap: &Snapshot, kernel: &Kernel, log: &mut UncheckedList) -> Vec<(Place, Vec<EpollEntry>)> {
    let mut holders: Vec<(Fd, Place)> = Vec::new();
    for (t, task) in snap.tasks.iter().enumerate() {
        let epolls = task.files.iter().enumerate().filter(|(_, file)| is_epoll(file));
        holders.extend(epolls.filter_map(|(f, file)| Some(((task.pid, file.fd()?), (t, f)))));
    }
    let groups = crate::scan::order::group(&holders, |a, b| (kernel.files)(a.0, b.0)).groups;
    let mut search = Search { snap, kernel, descriptors: None, sorted: Map::default() };
    let moved = groups.into_iter().filter_map(|group| group.first().copied()).filter_map(|(_, (t, f))| {
        let task = snap.tasks.get(t)?;
        let entries = search.entries(t, task, task.files.get(f)?, log);
        (!entries.is_empty()).then_some(((t, f), entries))
    });
    moved.collect()
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
    (file.attr.ino, file.attr.dev.major << 20 | file.attr.dev.minor)
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
    /// Made with the first need.
    descriptors: Option<Descriptors>,
    sorted: Map<Inode, Alike>,
}

impl Search<'_> {
    /// All entries, if a number is not its file any more.
    fn entries(&mut self, nth: usize, task: &Task, file: &OpenFile, log: &mut UncheckedList) -> Vec<EpollEntry> {
        let items = file.info.iter().flat_map(|i| &i.epoll);
        let many = file.info.as_ref().is_some_and(|i| i.epoll.len() > MANY);
        let Some(number) = file.fd() else { return Vec::new() };
        let epoll = (task.pid, number);
        let mut entries = Vec::new();
        // Entries with the same number differ by their order.
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
        if entries.iter().all(|(_, kept)| *kept) {
            return Vec::new();
        }
        let found = entries.into_iter().map(|(entry, kept)| EpollEntry {
            tfd: entry.tfd,
            sdev: entry.item.target.as_ref().map_or(0, |t| t.sdev),
            kept,
            holders: log.take(self.holders(nth, &entry, kept), task.pid, Some(number), Probe::Kcmp).flatten(),
        });
        found.collect()
    }

    /// Whether the number of an entry is the socket that it watches.
    fn is_watched_socket(&mut self, entry: &Entry) -> bool {
        let Some(target) = &entry.item.target else { return false };
        let snap = self.snap;
        let place = self.descriptors().numbers.get(&(entry.epoll.0, entry.item.tfd)).copied();
        let file = place.and_then(|(t, f)| snap.tasks.get(t)?.files.get(f));
        file.is_some_and(|f| f.is_socket() && inode_of(f) == (target.ino, target.sdev))
    }

    /// Where the watched file is open. `None`: not known.
    fn holders(&mut self, nth: usize, entry: &Entry, kept: bool) -> Seen<Option<TargetHolders>> {
        // A kernel before 4.13 does not say what the entry refers to, nor does it know this kcmp.
        let Some(target) = &entry.item.target else { return Seen::Seen(None) };
        let kernel = self.kernel;
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
        let first = members().next().map(|member| member.fd);
        let own = members().find(|member| member.place.0 == nth).map(|member| member.fd.1);
        match alike.sorted.denied.first() {
            // It may be one that could not be compared.
            Some((_, errno)) if own.is_none() => Seen::Denied(*errno),
            _ => Seen::Seen(Some(TargetHolders { first, own })),
        }
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
