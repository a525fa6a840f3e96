//! The look: the only room that does I/O on the tree.
//!
//! Everything is asked through a held /proc/PID directory, nothing of the tree is opened, nothing that can wait for a
//! file server is called, and no trace is left behind. What has gone meanwhile is left out without a word; what the
//! kernel denies stands in [`Snapshot::unchecked`].

pub mod fd;
pub mod kcmp;
pub mod kernel;
pub mod mount;
pub mod net;
pub mod ns_child;
pub mod order;
pub mod passes;
pub mod proc;
pub mod programs;
pub mod sys;
pub mod task;

use crate::criu::Host;
use crate::snapshot::{Cgroups, MountTable, Observer, Probe, Regs, ScanPhase, Snapshot, Task, Unchecked};
use passes::PassContext;
use proc::{Buffers, Dir};
use std::collections::{HashMap, HashSet};
pub use sys::Seen;

/// Why there is no picture at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanError {
    /// No process with the root's pid, or it ended while it was looked at.
    NoSuchTask,
    /// /proc cannot be used: the errno (EXDEV: it is not a procfs of our own pid namespace).
    NoProc(i32),
    /// The kernel has no /proc/PID/task/TID/children (CONFIG_PROC_CHILDREN): the tree cannot be walked. CRIU refuses to
    /// work there.
    NoChildren,
    /// A thread of this process does not come back from the kernel (see [`stuck`]).
    Stuck { pid: i32, tid: i32 },
}

/// Collects what could not be looked at.
#[derive(Debug, Default)]
pub struct UncheckedList(pub Vec<Unchecked>);

impl UncheckedList {
    /// Notes one refusal of the kernel, or (errno 0) text that was not understood. Repeats about one process in a row
    /// are noted once.
    pub fn deny(&mut self, pid: i32, fd: Option<i32>, probe: Probe, errno: i32) {
        let entry = Unchecked { pid, fd, probe, errno };
        if self.0.last() != Some(&entry) {
            self.0.push(entry);
        }
    }

    /// Whether no list of tasks or descriptors was denied, in whole or in part. What is wrong with the file behind a single
    /// descriptor (a dead server) says nothing of the others. EIO may have other reasons.
    fn is_whole(&self) -> bool {
        let of_file = |errno| matches!(errno, libc::ENOTCONN | libc::ESTALE | libc::EHOSTDOWN | libc::ETIMEDOUT);
        !self.0.iter().any(|u| u.probe.is_list() && !(u.fd.is_some() && of_file(u.errno)))
    }

    /// The value if it was seen; a refusal is noted.
    pub fn take<T>(&mut self, seen: Seen<T>, pid: i32, fd: Option<i32>, probe: Probe) -> Option<T> {
        match seen {
            Seen::Seen(value) => Some(value),
            Seen::Gone => None,
            Seen::Denied(errno) => {
                self.deny(pid, fd, probe, errno);
                None
            }
        }
    }
}

/// What the look at the running tree has learned and the frozen one need not find out again. Each part says what keeps it valid.
#[derive(Debug, Default)]
pub struct ScanCache {
    learned: Option<kernel::SystemFacts>,
    /// By process, the descriptors that were anonymous inodes.
    anonymous: HashMap<i32, Vec<i32>>,
    /// There were so many descriptors that /proc/locks was read.
    many_locks: bool,
    refused: net::diag::Refused,
    compared: task::sharing::Compared,
    cgroups: Option<(i32, Cgroups)>,
    right_paths: fd::right_paths::Right,
}

/// Who looks, on whose behalf, and what is kept between two looks at one tree.
pub struct ScanSession<'a> {
    /// The process that will dump: this one, or the one this is a copy of.
    pub criu: i32,
    /// The registers of these threads, as far as their tracer can read them. In the frozen look CRIU is the tracer.
    pub registers: &'a dyn Fn(&[i32]) -> Vec<Option<Regs>>,
    /// Inode of the socket by which that process asks this one: not a thing of the tree, should it be in it.
    pub channel: Option<u64>,
    pub cache: ScanCache,
}

impl ScanSession<'static> {
    /// One in which the calling process is the one that would dump, and the tracer if there is one.
    pub fn in_place() -> Self {
        let registers = &|tids: &[i32]| tids.iter().map(|tid| task::registers::read(*tid)).collect();
        ScanSession { criu: nix::unistd::getpid().as_raw(), registers, channel: None, cache: ScanCache::default() }
    }
}

/// Looks at the tree below `root`, a pid of the pid namespace that our /proc shows.
///
/// With [`ScanPhase::Frozen`] every thread of the tree is stopped and traced (CRIU after seizing).
pub fn collect(root: i32, look: ScanPhase, host: &Host, session: &mut ScanSession) -> Result<Snapshot, ScanError> {
    let (mut scan, own, mut snap) = walked(root, look, host, session)?;
    passes::run(&mut scan.context(&mut snap, &own, host, session));
    snap.whole = scan.log.is_whole();
    snap.unchecked = scan.log.0;
    let cache = &mut session.cache;
    if look == ScanPhase::Early {
        cache.anonymous = fd::files::remember(&snap.tasks);
        if cache.many_locks {
            fd::locks::again();
        }
    }
    Ok(snap)
}

/// The tree as the walk alone shows it ([`passes::WALK`]).
fn walked(
    root: i32,
    look: ScanPhase,
    host: &Host,
    session: &mut ScanSession,
) -> Result<(Scan, kernel::PseudoFsIds, Snapshot), ScanError> {
    let proc = open_proc()?;
    let ScanSession { criu, channel, cache, .. } = session;
    let mut scan = Scan { look, channel: *channel, b: Buffers::new(), log: UncheckedList::default(), proc };
    let kernel::SystemFacts { criu, kernel, own } =
        kernel::facts(&mut cache.learned, *criu, &scan.proc, &mut scan.b, &mut scan.log);
    let (tasks, mounts) = scan.walk(root, host, &criu, &own, cache)?;
    let snap = Snapshot {
        look,
        root,
        criu,
        kernel,
        tasks,
        mounts,
        sockets: Vec::new(),
        links: Vec::new(),
        cgroups: Cgroups::default(),
        unchecked: Vec::new(),
        uptime: sys::uptime(),
        whole: false,
    };
    Ok((scan, own, snap))
}

/// One look by this process on its own behalf, with nothing known before.
pub fn collect_once(root: i32, phase: ScanPhase, host: &Host) -> Result<Snapshot, ScanError> {
    collect(root, phase, host, &mut ScanSession::in_place())
}

/// /proc, if it is a procfs of our own pid namespace and can show a tree.
fn open_proc() -> Result<Dir, ScanError> {
    let no_proc = |errno: nix::errno::Errno| ScanError::NoProc(errno as i32);
    let proc = Dir::proc().map_err(no_proc)?;
    let mut buf = [0; 4096];
    let own = nix::unistd::getpid().to_string();
    match proc.link(c"self", &mut buf) {
        Seen::Seen(pid) if pid == own.as_bytes() => {}
        Seen::Denied(errno) => return Err(ScanError::NoProc(errno)),
        _ => return Err(no_proc(nix::errno::Errno::EXDEV)),
    }
    match proc.stat(c"thread-self/children") {
        Seen::Gone => Err(ScanError::NoChildren),
        _ => Ok(proc),
    }
}

/// The processes of ours below CRIU, should it be in the tree itself: the scanner and its parent.
fn ours(criu: i32) -> Vec<i32> {
    let me = nix::unistd::getpid().as_raw();
    if me == criu {
        return Vec::new();
    }
    vec![me, nix::unistd::getppid().as_raw()]
}

/// One look in the making.
struct Scan {
    proc: Dir,
    look: ScanPhase,
    /// See [`ScanSession::channel`].
    channel: Option<u64>,
    b: Buffers,
    log: UncheckedList,
}

impl Scan {
    fn context<'a>(
        &'a mut self,
        snap: &'a mut Snapshot,
        own: &'a kernel::PseudoFsIds,
        host: &'a Host,
        session: &'a mut ScanSession,
    ) -> PassContext<'a> {
        let (Scan { proc, b, log, .. }, ScanSession { registers, cache, .. }) = (self, session);
        PassContext { snap, proc, own, host, registers, cache, b, log }
    }

    /// Depth first from the root, children in the kernel's order, as CRIU walks (`collect_task`, criu/seize.c).
    fn walk(
        &mut self,
        root: i32,
        host: &Host,
        criu: &Observer,
        own: &kernel::PseudoFsIds,
        cache: &mut ScanCache,
    ) -> Result<(Vec<Task>, Vec<MountTable>), ScanError> {
        let observer = &criu.ns;
        let mut mounts = mount::tables::Mounts::default();
        let frozen = self.look == ScanPhase::Frozen;
        let (anonymous, many_locks) = (std::mem::take(&mut cache.anonymous), std::mem::take(&mut cache.many_locks));
        let locks = fd::locks::Locks::new(observer, frozen && many_locks);
        let mut known_files = fd::files::Memo::new(if frozen { anonymous } else { HashMap::new() });
        let mut known_maps = task::maps::Memo::default();
        let mut known_links = task::links::Memo::default();
        let mut tables = fd::files::Tables::default();
        let mut seen = HashSet::new();
        let mut tasks: Vec<Task> = Vec::new();
        let mut todo = vec![(root, task::process::ParentContext::root(observer))];
        let ours = ours(criu.pid);
        let mut patience = (self.look == ScanPhase::Early).then(|| task::dstate::DStateWait::new(host));
        while let Some((pid, above)) = todo.pop() {
            // A child that changes its parent while we walk could be met twice.
            if !seen.insert(pid) || ours.contains(&pid) {
                continue;
            }
            let visit = task::process::visit(&self.proc, pid, above, patience.as_mut(), &mut self.b, &mut self.log)?;
            let Some(visit) = visit else { continue };
            let task::process::VisitedTask { mut task, dir, children, table_size } = visit;
            let below = task::process::ParentContext::child_of(&task);
            todo.extend(children.into_iter().rev().map(|child| (child, below)));
            if !task.is_zombie() {
                // Its own namespace CRIU reads through itself: a process in it may be confined to a part by chroot.
                let through_us = task.ns.mnt == observer.mnt && !mounts.knows(task.ns.mnt);
                let me = if through_us { self.myself() } else { None };
                mounts.meet(task.ns.mnt, me.as_ref().unwrap_or(&dir), &mut self.b, &mut self.log);
                task::links::collect(&mut task, &dir, !frozen, &mut known_links, &mut self.b, &mut self.log);
                if !tables.knows(&mut task, above.parent, table_size, &mut self.log) {
                    let cx = fd::files::Context { own, mounts: &mounts, locks: &locks, caps: host.caps };
                    let (memo, b, log) = (&mut known_files, &mut self.b, &mut self.log);
                    task.files = fd::files::collect(&dir, &cx, memo, &mut task.unstattable, b, log);
                    if pid == criu.pid {
                        task.files.retain(|f| Some(f.attr.ino) != self.channel || !own.is_socket(f));
                    }
                    task.fd_count = task.files.len();
                }
                tables.note(&task);
                match task::maps::collect(&dir, task.ns.mnt, &mut known_maps, &mut self.b, &mut self.log) {
                    task::maps::Found::PseudoFsIds(maps) => task.maps = maps,
                    task::maps::Found::Of(other) => task.maps_of = Some(other),
                }
                if self.look == ScanPhase::Early && !host.caps.madv_guards {
                    task.guard = self.first_guard(&dir, &task);
                }
            }
            tasks.push(task);
        }
        if tasks.is_empty() {
            return Err(ScanError::NoSuchTask);
        }
        cache.many_locks = locks.many();
        if let Some(errno) = locks.denied() {
            self.log.deny(0, None, Probe::Locks, errno);
        }
        // What `--external mnt[]` compares with.
        if host.options.autodetect_ext_mounts != Some(false) {
            if let Some(me) = self.myself() {
                mounts.meet(observer.mnt, &me, &mut self.b, &mut self.log);
            }
        }
        Ok((tasks, mounts.tables))
    }

    /// The first guard region in memory that CRIU dumps page by page: private mappings.
    fn first_guard(&mut self, dir: &Dir, task: &Task) -> Option<(u64, u64)> {
        for vma in task.maps.iter().map(|m| &m.vma).filter(|v| !v.shared && v.start < v.end) {
            match task::guard_regions::first(dir, vma.start, vma.end) {
                Seen::Seen(None) => {}
                Seen::Seen(found) => return found,
                // A kernel without guard regions, or one that cannot tell: nothing is known.
                Seen::Gone | Seen::Denied(_) => return None,
            }
        }
        None
    }

    fn myself(&self) -> Option<Dir> {
        self.proc.process(nix::unistd::getpid().as_raw()).ok()
    }
}

#[cfg(test)]
mod log_tests {
    use super::UncheckedList;
    use crate::snapshot::Probe;

    #[test]
    fn a_list_that_was_denied_is_not_whole() {
        let whole = |fd, probe, errno| {
            let mut log = UncheckedList::default();
            log.deny(100, fd, probe, errno);
            log.is_whole()
        };
        assert!(UncheckedList::default().is_whole());
        assert!(!whole(None, Probe::Descriptors, libc::EACCES) && !whole(None, Probe::Descriptors, libc::EMFILE));
        assert!(!whole(None, Probe::Children, libc::ENOMEM) && !whole(None, Probe::Status, 0));
        assert!(!whole(Some(3), Probe::Descriptors, libc::ENOMEM));
        // A dead server below one file.
        assert!(whole(Some(3), Probe::Descriptors, libc::ENOTCONN) && whole(None, Probe::Maps, libc::EACCES));
    }
}

#[cfg(test)]
mod tests;
