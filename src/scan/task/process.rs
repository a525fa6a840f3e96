//! One process: what stat, status, task/ and ns/ say of it.

use crate::parse::limits;
use crate::parse::nslink::{self, LinkTarget};
use crate::parse::status::{self, Status};
use crate::parse::{self, stat::Stat};
use crate::scan::proc::{number, Buffers, Dir};
use crate::scan::sys::{self, Seen};
use crate::scan::task::dstate;
use crate::scan::task::dstate::DStateWait;
use crate::scan::{ScanError, UncheckedList};
use crate::snapshot::{Namespaces, Probe, ScanPhase, Task, Thread};
use std::ffi::{CStr, CString};

/// A process and where the walk goes on.
pub(crate) struct VisitedTask {
    pub task: Task,
    /// Its directory of /proc, held.
    pub dir: Dir,
    /// As the `children` files of its threads list them.
    pub children: Vec<i32>,
    /// Room of its descriptor table (FDSize of status).
    pub table_size: Option<u64>,
}

/// What is known of a process's place before it is looked at.
#[derive(Clone, Copy)]
pub(crate) struct ParentContext {
    /// The parent; `None`: the root of the tree.
    pub parent: Option<i32>,
    /// Namespaces of pids from ours down to the one below, both counted.
    depth: usize,
    /// The parent's (our own for the root's sake).
    pid_ns: Option<u64>,
}

impl ParentContext {
    pub(crate) fn root(observer: &Namespaces) -> ParentContext {
        ParentContext { parent: None, depth: 1, pid_ns: observer.pid }
    }

    pub(crate) fn child_of(task: &Task) -> ParentContext {
        ParentContext { parent: Some(task.pid), depth: task.ns_pid.len(), pid_ns: task.ns.pid }
    }

    /// The pid namespace of a process at this depth. That of a child is its parent's or one below (`copy_pid_ns`,
    /// `find_new_reaper`), that of any process in /proc is ours or one below; so at the same depth it is the same one.
    fn pid_ns_of(&self, ns_pid: &[i32]) -> Option<u64> {
        self.pid_ns.filter(|_| !ns_pid.is_empty() && ns_pid.len() == self.depth)
    }
}

/// Looks at one process. `None`: it is gone, or is not the child of its parent any more (the pid was used again).
///
/// `patience`: that of a look at a running tree. What could wait for a thread that hangs in the kernel is asked last.
pub(crate) fn visit(
    proc: &Dir,
    pid: i32,
    above: ParentContext,
    patience: Option<&mut DStateWait>,
    b: &mut Buffers,
    log: &mut UncheckedList,
) -> Result<Option<VisitedTask>, ScanError> {
    let Some(dir) = log.take(proc.process(pid), pid, None, Probe::Process) else { return Ok(None) };
    let Some(status) = read_status(&dir, c"status", b, log) else { return Ok(None) };
    let (threads, children) = threads(&dir, &status, b, log);
    let look = if patience.is_some() { ScanPhase::Early } else { ScanPhase::Frozen };
    if let Some(patience) = patience {
        for (tid, status) in threads.iter().filter(|(_, status)| dstate::is_uninterruptible(status)) {
            let path = CString::new(format!("task/{tid}/status")).unwrap_or_default();
            if patience.ends_at(&dir, &path, status, &mut b.text) && !dstate::in_vfork(proc, &dir, &children) {
                return Err(ScanError::Stuck { pid, tid: *tid });
            }
        }
    }
    let Some(stat) = read_stat(&dir, b, log) else { return Ok(None) };
    if above.parent.is_some_and(|parent| parent != stat.ppid) {
        return Ok(None);
    }
    let mut task = task_of(pid, stat, &status);
    task.threads = threads.iter().map(|(tid, status)| thread_of(*tid, status)).collect();
    if !task.is_zombie() {
        task.ns = namespaces(&dir, above.pid_ns_of(&task.ns_pid), b, log);
        let limits = limits(&dir, look, b, log);
        task.nofile = limits.nofile;
        let in_use = status.vm_size.map(|kb| kb.saturating_mul(1024));
        task.free_address_space = limits.address_space.zip(in_use).map(|(limit, used)| limit.saturating_sub(used));
    }
    Ok(Some(VisitedTask { task, dir, children, table_size: status.fd_size }))
}

/// The threads of a process, and the children of all of them.
fn threads(dir: &Dir, leader: &Status, b: &mut Buffers, log: &mut UncheckedList) -> (Vec<(i32, Status)>, Vec<i32>) {
    // The only thread of a process has its pid (`de_thread`, fs/exec.c).
    let tids = if leader.threads == Some(1) { vec![dir.pid] } else { tids(dir, b, log) };
    let (mut threads, mut children) = (Vec::new(), Vec::new());
    let mut path = String::new();
    for tid in tids {
        let mut below = |name: &str| {
            path.clear();
            path.extend(["task/", &tid.to_string(), name]);
            CString::new(path.as_str()).unwrap_or_default()
        };
        if tid == dir.pid {
            threads.push((tid, leader.clone()));
        } else if let Some(status) = read_status(dir, &below("/status"), b, log) {
            threads.push((tid, status));
        }
        if let Some(text) = log.take(dir.read(&below("/children"), &mut b.text), dir.pid, None, Probe::Children) {
            children.extend(pids(text));
        }
    }
    (threads, children)
}

fn read_stat(dir: &Dir, b: &mut Buffers, log: &mut UncheckedList) -> Option<Stat> {
    let stat = parse::stat::parse(log.take(dir.read_one(c"stat", &mut b.text), dir.pid, None, Probe::Stat)?);
    if stat.is_none() {
        log.deny(dir.pid, None, Probe::Stat, 0);
    }
    stat
}

/// A status file; `path` may be that of a thread.
fn read_status(dir: &Dir, path: &CStr, b: &mut Buffers, log: &mut UncheckedList) -> Option<Status> {
    let text = log.take(dir.read_one(path, &mut b.text), dir.pid, None, Probe::Status)?;
    let status = status::parse(text);
    if status.bad > 0 || status.state.is_none() {
        log.deny(dir.pid, None, Probe::Status, 0);
    }
    Some(status)
}

fn task_of(pid: i32, stat: Stat, status: &Status) -> Task {
    let label = b"Groups:\t".len();
    Task {
        pid,
        ppid: stat.ppid,
        comm: stat.comm,
        state: stat.state,
        start_time: stat.starttime,
        pgid: stat.pgrp,
        sid: stat.session,
        tty_nr: stat.tty_nr,
        tpgid: stat.tpgid,
        stop_signal: if stat.state == 'T' { stat.exit_code } else { 0 },
        ns_pid: status.ns_pid.clone(),
        ns_sid: status.ns_sid.clone(),
        ns_pgid: status.ns_pgid.clone(),
        uid: status.uid.unwrap_or_default(),
        gid: status.gid.unwrap_or_default(),
        groups: (status.groups.unwrap_or_default(), status.groups_line.unwrap_or_default().saturating_sub(label)),
        shd_pnd: status.shd_pnd.unwrap_or_default(),
        cap_eff: status.cap_eff,
        thread_features: status.x86_thread_features.clone(),
        ..Task::default()
    }
}

fn thread_of(tid: i32, status: &Status) -> Thread {
    Thread {
        tid,
        state: status.state.unwrap_or('?'),
        tracer: status.tracer_pid.unwrap_or_default(),
        sig_pnd: status.sig_pnd.unwrap_or_default(),
        sig_blk: status.sig_blk.unwrap_or_default(),
        switches: status.switches,
        seccomp: status.seccomp.unwrap_or_default(),
        ns_tid: status.ns_pid.last().copied(),
        regs: None,
        unasked: None,
    }
}

fn tids(dir: &Dir, b: &mut Buffers, log: &mut UncheckedList) -> Vec<i32> {
    let mut tids = Vec::new();
    let listed = match dir.listing(c"task") {
        Seen::Seen(task) => task.each(&mut b.dents, |name| tids.extend(number(name))),
        Seen::Gone => Seen::Gone,
        Seen::Denied(errno) => Seen::Denied(errno),
    };
    log.take(listed, dir.pid, None, Probe::Threads);
    tids
}

/// Soft limits of a process. `None`: not known, or unlimited.
#[derive(Default)]
struct Limits {
    nofile: Option<u64>,
    address_space: Option<u64>,
}

/// While the tree runs from the file, which belongs to the process for good; prlimit(2) is cheaper, but may be denied where the
/// file is not.
fn limits(dir: &Dir, look: ScanPhase, b: &mut Buffers, log: &mut UncheckedList) -> Limits {
    if look == ScanPhase::Frozen {
        let soft = |which| sys::soft_limit(dir.pid, which).map(|soft| (soft != libc::RLIM_INFINITY).then_some(soft));
        if let (Ok(nofile), Ok(address_space)) = (soft(libc::RLIMIT_NOFILE), soft(libc::RLIMIT_AS)) {
            return Limits { nofile, address_space };
        }
    }
    let text = log.take(dir.read_one(c"limits", &mut b.text), dir.pid, None, Probe::Limits);
    let Some(table) = text.map(limits::parse) else { return Limits::default() };
    let soft = |name| table.get(name).and_then(|limit| limit.soft);
    Limits { nofile: soft(limits::OPEN_FILES), address_space: soft(limits::ADDRESS_SPACE) }
}

/// The numbers of a `children` file (`children_seq_show()` in fs/proc/array.c): each is followed by a blank.
fn pids(text: &[u8]) -> impl Iterator<Item = i32> + '_ {
    text.split(|b| *b == b' ').filter_map(|word| std::str::from_utf8(word).ok()?.parse().ok())
}

/// The inodes of a process's namespaces; that of its pid is asked unless it is known. A link costs half of what a statx through it does.
pub(crate) fn namespaces(dir: &Dir, pid: Option<u64>, b: &mut Buffers, log: &mut UncheckedList) -> Namespaces {
    let Some(ns) = log.take(dir.dir(c"ns"), dir.pid, None, Probe::Namespaces) else { return Namespaces::default() };
    let mut inode = |name: &CStr| {
        let link = match ns.link(name, &mut b.link) {
            // So says the kernel of a process that has gone, too (`proc_ns_readlink`, fs/proc/namespaces.c).
            Seen::Denied(libc::EACCES) if dir.stat(c"stat") == Seen::Gone => Seen::Gone,
            seen => seen,
        };
        match nslink::parse(log.take(link, dir.pid, None, Probe::Namespaces)?) {
            LinkTarget::Ns { ino, .. } => Some(ino),
            _ => None,
        }
    };
    Namespaces {
        mnt: inode(c"mnt"),
        net: inode(c"net"),
        pid: pid.or_else(|| inode(c"pid")),
        ipc: inode(c"ipc"),
        uts: inode(c"uts"),
        user: inode(c"user"),
        cgroup: inode(c"cgroup"),
        time: inode(c"time"),
        time_for_children: inode(c"time_for_children"),
    }
}
