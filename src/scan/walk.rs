//! The walk over the processes of the tree: what it reads of each is what the passes work on (`WALK` in [`crate::scan::passes`]).

use crate::criu::Host;
use crate::scan::passes::PassContext;
use crate::scan::proc::{Buffers, Dir};
use crate::scan::{fd, kernel, mount, sys, task, ScanCache, ScanError, ScanSession, Seen, UncheckedList};
use crate::snapshot::{Cgroups, MountTable, Observer, Probe, ScanPhase, Snapshot, Task};
use std::collections::HashSet;

/// The tree as the walk alone shows it (`WALK` in [`crate::scan::passes`]).
pub(super) fn walked(
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
pub(super) struct Scan {
    proc: Dir,
    look: ScanPhase,
    /// See [`ScanSession::channel`].
    channel: Option<u64>,
    b: Buffers,
    pub log: UncheckedList,
}

impl Scan {
    pub(crate) fn context<'a>(
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
        let mut known_files = fd::files::Memo::new(if frozen { anonymous } else { Default::default() });
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
