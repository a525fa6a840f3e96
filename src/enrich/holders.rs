//! Who has the other end: looked up only for findings, after judging, over all processes that our /proc shows.

use crate::bytes::Bytes;
use crate::parse::nslink::{self, LinkTarget};
use crate::parse::{stat, status};
use crate::rules::{Finding, Holder, Other, Place};
use crate::scan::kcmp::{self, Fd};
use crate::scan::proc::{number, Buffers, Dir};
use crate::scan::sys::Seen;
use crate::scan::task::dstate::is_uninterruptible;
use crate::snapshot::{Index, OpenFile, Snapshot};
use std::cmp::Ordering;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::time::{Duration, Instant};

/// More names of holders than this are of no use.
const MOST: usize = 8;

/// Fills in [`Finding::holders`] where the finding names another end.
///
/// Holders in the tree come first and cost nothing; for what no process there holds all other processes are searched, until
/// each thing has a holder or the budget is used up. What is left then gets the process that SO_PEERCRED names.
pub fn resolve(findings: &mut [Finding], snap: &Snapshot, budget: Duration) {
    let until = Instant::now() + budget;
    let Ok(proc) = Dir::proc() else { return };
    let mut bufs = Buffers::new();
    let index = Index::new(snap);
    let mut search = Search::default();
    let (mut asked, mut named) = (HashMap::new(), None);
    for finding in findings.iter_mut() {
        match finding.other {
            Some(Other::Process(pid)) => {
                // Thousands of findings may name one process, or thousands, and each may have a thousand above it.
                if Instant::now() >= until && !asked.contains_key(&pid) {
                    continue;
                }
                let (holder, outside) = asked.entry(pid).or_insert_with(|| {
                    let outside = |dir: Dir| is_outside(&dir, snap.root, &index, &proc, &mut bufs);
                    let outside = proc.process(pid).ok().and_then(outside);
                    (process(pid, &index, &proc, &mut bufs), outside)
                });
                finding.holders.extend(holder.clone());
                finding.outside = *outside;
            }
            Some(Other::Socket(ino)) => {
                finding.holders = in_tree(finding, &index, ino);
                if finding.holders.is_empty() {
                    search.want(ino);
                    search.likely.extend(named.get_or_insert_with(|| peers(snap)).get(&finding.place()));
                }
            }
            Some(Other::OpenFile) => search.want_open_file(finding, snap),
            None => {}
        }
    }
    search.run(snap.root, &index, &proc, &mut bufs, until);
    for finding in findings.iter_mut().filter(|f| f.other == Some(Other::OpenFile)) {
        finding.holders = search
            .open_files
            .iter()
            .find(|o| Some(o.fd) == descriptor(finding))
            .map(|o| o.holders.clone())
            .unwrap_or_default();
    }
    for finding in findings.iter_mut().filter(|f| f.holders.is_empty()) {
        let Some(Other::Socket(ino)) = finding.other else { continue };
        finding.holders = search.sockets.get(&ino).cloned().unwrap_or_default();
        finding.outside = search.outside.get(&ino).copied().flatten();
        if finding.holders.is_empty() {
            let named = named.get_or_insert_with(|| peers(snap)).get(&finding.place()).copied();
            finding.holders.extend(named.and_then(|pid| process(pid, &index, &proc, &mut bufs)));
        }
    }
}

/// What the finding is about, if that lies in no queue.
fn descriptor(finding: &Finding) -> Option<Fd> {
    finding.fd.filter(|_| finding.queued.is_empty()).map(|fd| (finding.pid, fd))
}

/// The process itself; `None` if it is not there (any more).
fn process(pid: i32, index: &Index, proc: &Dir, bufs: &mut Buffers) -> Option<Holder> {
    let comm = match index.task(pid) {
        Some(task) => task.comm.clone(),
        None => comm(&proc.process(pid).ok()?, bufs)?,
    };
    Some(Holder { pid, comm, fd: None })
}

fn comm(dir: &Dir, bufs: &mut Buffers) -> Option<Bytes> {
    let text = dir.read(c"comm", &mut bufs.text).ok()?;
    Some(text.strip_suffix(b"\n").unwrap_or(text).into())
}

/// Who of the tree has this socket. Of one that is connected to itself the finding's own places are no other end; else they
/// are, where both ends are one finding.
fn in_tree(finding: &Finding, index: &Index, ino: u64) -> Vec<Holder> {
    let held = || index.socket_holders(ino).map(|(t, f)| (t, Place::of(t, f)));
    let itself = held().any(|(_, place)| place == finding.place());
    let own = if itself { places(finding) } else { HashSet::new() };
    held()
        .filter(|(_, place)| !own.contains(place))
        .take(MOST)
        .map(|(t, place)| Holder { pid: t.pid, comm: t.comm.clone(), fd: place.fd })
        .collect()
}

fn places(finding: &Finding) -> HashSet<Place> {
    finding.also.iter().cloned().chain([finding.place()]).collect()
}

/// Whom SO_PEERCRED of each descriptor named: who connected or listened, not always who holds the other end now.
fn peers(snap: &Snapshot) -> HashMap<Place, i32> {
    let of = |task, file: &OpenFile| Some((Place::of(task, file), file.socket()?.unix.peer_pid?));
    snap.tasks.iter().flat_map(|task| task.files.iter().filter_map(move |file| of(task, file))).collect()
}

/// The one walk over /proc for all that is looked for.
#[derive(Default)]
struct Search {
    sockets: HashMap<u64, Vec<Holder>>,
    /// Processes that may well hold some of them: these are looked at first.
    likely: Vec<i32>,
    /// How many of them have no holder yet.
    missing: usize,
    /// Epoll files of which another holder is looked for.
    open_files: Vec<OpenElsewhere>,
    /// Whether the holders are outside of the tree: `Some(false)` if one is not, `None` if of one it is not known.
    outside: HashMap<u64, Option<bool>>,
}

/// An epoll descriptor, and who else has that open file.
struct OpenElsewhere {
    fd: Fd,
    holders: Vec<Holder>,
}

impl OpenElsewhere {
    /// Whether it was the first that was found.
    fn add(&mut self, fd: Fd, holder: impl FnOnce() -> Option<Holder>) -> bool {
        let is_new =
            fd != self.fd && self.holders.len() < MOST && kcmp::files(self.fd, fd) == Seen::Seen(Ordering::Equal);
        self.holders.extend(if is_new { holder() } else { None });
        is_new && self.holders.len() == 1
    }
}

/// Each is compared with every epoll descriptor there is.
const MOST_OPEN_FILES: usize = 16;

const EPOLL: &[u8] = b"anon_inode:[eventpoll]";

impl Search {
    /// Of the tree at once; if no process there has it, it is searched for.
    fn want_open_file(&mut self, finding: &Finding, snap: &Snapshot) {
        let Some(fd) = descriptor(finding) else { return };
        if self.open_files.len() >= MOST_OPEN_FILES || self.open_files.iter().any(|o| o.fd == fd) {
            return;
        }
        let mut open = OpenElsewhere { fd, holders: Vec::new() };
        for task in &snap.tasks {
            for file in task.files.iter().filter(|f| f.link.as_deref().is_some_and(|l| l == EPOLL)) {
                let Some(number) = file.fd() else { continue };
                let holder = || Some(Holder { pid: task.pid, comm: task.comm.clone(), fd: Some(number) });
                open.add((task.pid, number), holder);
            }
        }
        self.missing = self.missing.saturating_add(usize::from(open.holders.is_empty()));
        self.open_files.push(open);
    }

    fn want(&mut self, ino: u64) {
        if let Entry::Vacant(new) = self.sockets.entry(ino) {
            new.insert(Vec::new());
            self.missing = self.missing.saturating_add(1);
        }
    }

    fn run(&mut self, root: i32, index: &Index, proc: &Dir, bufs: &mut Buffers, until: Instant) {
        if self.missing == 0 {
            return;
        }
        let mut pids = std::mem::take(&mut self.likely);
        if let Seen::Seen(listing) = proc.listing(c".") {
            let _ = listing.each(&mut bufs.dents, |name| pids.extend(number(name)));
        }
        let mut met = HashSet::new();
        pids.retain(|pid| met.insert(*pid) && index.task(*pid).is_none());
        for pid in pids {
            if self.missing == 0 || Instant::now() >= until {
                return;
            }
            if let Some(dir) = proc.process(pid).ok().filter(|dir| answers(dir, bufs)) {
                let found = self.process(&dir, bufs, until);
                if found.is_empty() {
                    continue;
                }
                let outside = is_outside(&dir, root, index, proc, bufs);
                for ino in found {
                    let known = self.outside.entry(ino).or_insert(outside);
                    // One in the tree counts more than one outside, and more than one that is not known.
                    *known = if [*known, outside].contains(&Some(false)) { Some(false) } else { known.and(outside) };
                }
            }
        }
    }

    /// What of the wanted it has.
    fn process(&mut self, dir: &Dir, bufs: &mut Buffers, until: Instant) -> Vec<u64> {
        let mut found = Vec::new();
        let Seen::Seen(fds) = dir.listing(c"fd") else { return found };
        let mut names: Vec<CString> = Vec::new();
        let _ = fds.each(&mut bufs.dents, |name| names.push(name.to_owned()));
        for (nth, name) in names.iter().enumerate() {
            // One process may have a million of them.
            if nth % 64 == 63 && Instant::now() >= until {
                break;
            }
            found.extend(self.descriptor(dir, &fds, name, bufs));
        }
        found
    }

    fn descriptor(&mut self, dir: &Dir, fds: &Dir, name: &CStr, bufs: &mut Buffers) -> Option<u64> {
        // The text is made by the kernel alone (d_path): no file server is asked.
        let Seen::Seen(text) = fds.link(name, &mut bufs.link) else { return None };
        if text == EPOLL {
            let at = (dir.pid, number(name)?);
            for open in &mut self.open_files {
                let found = open.add(at, || holder(dir, name, bufs));
                self.missing = self.missing.saturating_sub(usize::from(found));
            }
            return None;
        }
        let LinkTarget::Socket(ino) = nslink::parse(text) else { return None };
        let holders = self.sockets.get_mut(&ino)?;
        if holders.len() < MOST {
            let first = holders.is_empty();
            holders.extend(holder(dir, name, bufs));
            if first && !holders.is_empty() {
                self.missing = self.missing.saturating_sub(1);
            }
        }
        Some(ino)
    }
}

/// More processes above one another than this are not looked at.
const DEEPEST: usize = 1000;

/// Whether a process is not below the root of the tree, and so never will be: nothing comes into a tree but what is made in it.
/// `None`: it has gone, or one above it has while it was looked at.
fn is_outside(dir: &Dir, root: i32, index: &Index, proc: &Dir, bufs: &mut Buffers) -> Option<bool> {
    let mut is = stat::parse(dir.read_one(c"stat", &mut bufs.text).ok()?)?;
    let mut pid = dir.pid;
    for _ in 0..DEEPEST {
        if pid == root || index.task(pid).is_some_and(|t| t.start_time == is.starttime) {
            return Some(false);
        }
        // 0: above our own pid namespace, or none.
        if is.ppid == 0 {
            return Some(true);
        }
        let above = stat::parse(proc.process(is.ppid).ok()?.read_one(c"stat", &mut bufs.text).ok()?)?;
        // The number was used again.
        if above.starttime > is.starttime {
            return None;
        }
        (pid, is) = (is.ppid, above);
    }
    None
}

/// Not of a process that may hang in execve: its links would be waited for (see [`crate::scan::task::dstate`]).
fn answers(dir: &Dir, bufs: &mut Buffers) -> bool {
    let status = dir.read_one(c"status", &mut bufs.text).ok().map(status::parse);
    status.is_some_and(|status| !is_uninterruptible(&status))
}

fn holder(dir: &Dir, name: &CStr, bufs: &mut Buffers) -> Option<Holder> {
    Some(Holder { pid: dir.pid, comm: comm(dir, bufs)?, fd: number(name) })
}

#[cfg(test)]
mod tests;
