//! In which cgroups the threads of the tree are, as we see it and as the root task sees it.
//!
//! What a process is shown of a cgroup begins at the root of the cgroup namespace of who reads. CRIU reads the places of the
//! root task's threads twice, from outside and through its code in the task, and compares (`parse_thread_cgroup`,
//! criu/proc_parse.c). Where the namespace is our own, both are the same, and nothing is asked of it. Where it is another,
//! a child enters it and reads there. The tree need not be stopped for that: only the early look asks, and the frozen look
//! takes over its answer.

use crate::criu::{Host, Release};
use crate::parse::cgroup;
use crate::scan::passes::PassContext;
use crate::scan::proc::{Buffers, Dir};
use crate::scan::task::freezer;
use crate::scan::{ns_child, sys, Seen, UncheckedList};
use crate::snapshot::{Cgroups, Inside, Member, Places, Probe, ScanPhase, Snapshot, Task};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::socket::{self, MsgFlags};
use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// For how long the child may take to answer. It takes less than a millisecond.
const PATIENCE: Duration = Duration::from_secs(1);
/// So many different places are compared.
const LIMIT: usize = 64;
/// Shorter texts are no matter for a rule.
const LONG: usize = 2048;
/// CRIU itself takes less than a page.
const TEXT: usize = 16 * 1024;

/// The answer of the early look, with the root task that it is about.
#[derive(Debug, Default)]
pub(crate) struct Kept(Option<(i32, Cgroups)>);

/// Fills in [`Snapshot::cgroups`]: in the frozen look with the answer of the early one, if the root task is the same.
pub(crate) fn collect(cx: &mut PassContext) {
    let PassContext { snap, proc, host, cache, b, log, .. } = cx;
    let seen = &mut cache.cgroups.0;
    if let Some((_, cgroups)) = seen.take().filter(|(root, _)| snap.look == ScanPhase::Frozen && *root == snap.root) {
        snap.cgroups = cgroups;
        return;
    }
    let known = log.0.len();
    snap.cgroups = ask(snap, proc, host, b, log).unwrap_or_default();
    if snap.look == ScanPhase::Early {
        if let Some(Some(dir)) = &host.options.freeze_cgroup {
            freezer::collect(&mut snap.cgroups, &dir.0, &snap.tasks, proc, b, log);
        }
        // What is not known is asked again.
        let known_now = log.0.len() == known && snap.root_shares(|n| n.cgroup).is_some();
        *seen = known_now.then(|| (snap.root, snap.cgroups.clone()));
    }
}

fn ask(snap: &Snapshot, proc: &Dir, host: &Host, b: &mut Buffers, log: &mut UncheckedList) -> Option<Cgroups> {
    let root = snap.root_task().filter(|t| !t.is_zombie())?;
    let shares = snap.root_shares(|n| n.cgroup)?;
    let criu = snap.criu.pid;
    let own = log.take(proc.process(criu), criu, None, Probe::Process)?;
    let own = log.take(own.read_one(&file(criu), &mut b.text), criu, None, Probe::Cgroup)?.to_vec();
    let mut texts = Texts::default();
    for task in snap.tasks.iter().filter(|t| !t.is_zombie()) {
        // CRIU 3.17.1 looks at first threads only.
        let threads = match host.release >= Release::V3_18 {
            false => Threads::First,
            // In CRIU's namespace they matter only if CRIU does not leave out the set of the first.
            true if shares => Threads::AllUnlessFirstIs(&own),
            true => Threads::All,
        };
        texts.read(task, threads, proc, b, log);
    }
    let Texts { mut cgroups, firsts, .. } = texts;
    cgroups.criu = Some(cgroup::parse(&own).items);
    if shares {
        // If all are in the same, none is moved.
        return if cgroups.places.len() > 1 { Some(cgroups) } else { long(root, proc, b) };
    }
    let inside = log.take(inside(root, &firsts, proc).into(), root.pid, None, Probe::CgroupInside);
    for (places, text) in cgroups.places.iter_mut().zip(inside.unwrap_or_default()) {
        places.inside = text.map(|text| Inside { lines: cgroup::parse(&text).items, size: text.len() });
    }
    Some(cgroups)
}

/// In our own cgroup namespace both read the same; only its length can be too much for CRIU.
fn long(root: &Task, proc: &Dir, b: &mut Buffers) -> Option<Cgroups> {
    let text = proc.process(root.pid).ok()?.read_one(&file(root.pid), &mut b.text).ok()?;
    if text.len() < LONG {
        return None;
    }
    let lines = cgroup::parse(text).items;
    let inside = Some(Inside { lines: lines.clone(), size: text.len() });
    let member = Member { pid: root.pid, tid: root.pid, places: 0 };
    Some(Cgroups { places: vec![Places { lines, inside }], members: vec![member], ..Cgroups::default() })
}

/// The different texts, each with the first thread that has it.
#[derive(Default)]
struct Texts {
    cgroups: Cgroups,
    firsts: Vec<(i32, i32)>,
    known: HashMap<Vec<u8>, usize>,
}

/// Of which threads of a process the text is read.
enum Threads<'a> {
    First,
    /// The others only if the first one's text is another than this.
    AllUnlessFirstIs(&'a [u8]),
    All,
}

impl Texts {
    fn read(&mut self, task: &Task, which: Threads, proc: &Dir, b: &mut Buffers, log: &mut UncheckedList) {
        let Some(dir) = log.take(proc.process(task.pid), task.pid, None, Probe::Process) else { return };
        let mut all = !matches!(which, Threads::First);
        let threads = task.threads.iter().map(|t| t.tid).filter(|tid| *tid != task.pid);
        for tid in std::iter::once(task.pid).chain(threads) {
            if tid != task.pid && !all {
                return;
            }
            let Some(text) = log.take(dir.read_one(&file(tid), &mut b.text), task.pid, None, Probe::Cgroup) else {
                continue;
            };
            if let (Threads::AllUnlessFirstIs(own), true) = (&which, tid == task.pid) {
                all = text != *own;
            }
            let places = self.known.get(text).copied().unwrap_or_else(|| {
                let lines = cgroup::parse(text).items;
                self.cgroups.places.push(Places { lines, inside: None });
                self.firsts.push((task.pid, tid));
                self.known.insert(text.to_vec(), self.known.len());
                self.known.len().saturating_sub(1)
            });
            self.cgroups.members.push(Member { pid: task.pid, tid, places });
        }
    }
}

/// Below the directory of its process.
fn file(tid: i32) -> CString {
    CString::new(format!("task/{tid}/cgroup")).unwrap_or_default()
}

/// What the root task would read of these threads, as far as that can be known. An error is about its namespace.
fn inside(root: &Task, threads: &[(i32, i32)], proc: &Dir) -> nix::Result<Vec<Option<Vec<u8>>>> {
    let ns = there(proc.process(root.pid))?.map(|p| there(p.dir(c"ns"))).transpose()?.flatten();
    let Some(ns) = ns.map(|ns| there(ns.namespace(c"cgroup"))).transpose()?.flatten() else { return Ok(Vec::new()) };
    if Some(sys::statx(&ns, c"")?.ino) != root.ns.cgroup {
        return Ok(Vec::new());
    }
    let open = |(pid, tid): &(i32, i32)| match there(proc.process(*pid))? {
        Some(dir) => there(dir.open(&file(*tid), OFlag::O_RDONLY)),
        None => Ok(None),
    };
    let files = threads.iter().take(LIMIT).map(open).collect::<nix::Result<Vec<Option<OwnedFd>>>>()?;
    let fds: Vec<RawFd> = files.iter().map(|f| f.as_ref().map_or(-1, AsRawFd::as_raw_fd)).collect();
    let until = Instant::now() + PATIENCE;
    let hear = |from: BorrowedFd| fds.iter().map(|_| receive(from, until)).collect::<nix::Result<Vec<_>>>();
    let ns = ns.as_fd().as_raw_fd();
    // SAFETY: `in_child` only makes system calls and ends in `_exit`.
    let answers = unsafe { ns_child::ask(|answer| in_child(ns, &fds, answer), hear) }?;
    // A thread that has gone, a path that is too long for the kernel: of one text.
    const ALONE: [Errno; 5] = [Errno::ENOENT, Errno::ESRCH, Errno::ENODEV, Errno::EBADF, Errno::ENAMETOOLONG];
    answers.into_iter().map(|text| Ok(sys::answer(text, &ALONE)?.ok())).collect()
}

/// `None`: it is gone.
fn there<T>(seen: Seen<T>) -> nix::Result<Option<T>> {
    match seen {
        Seen::Seen(value) => Ok(Some(value)),
        Seen::Gone => Ok(None),
        Seen::Denied(errno) => Err(Errno::from_raw(errno)),
    }
}

/// Enters the namespace, reads the files there and sends each: an errno, and the text if that is 0.
///
/// # Safety
///
/// For a process just cloned; does not return. `ns` and `answer` are open; a file that is not is answered with EBADF.
unsafe fn in_child(ns: RawFd, files: &[RawFd], answer: RawFd) -> ! {
    const HEAD: usize = size_of::<i32>();
    let mut buf = [0u8; HEAD + TEXT];
    // SAFETY: system calls on open descriptors and on memory of this frame.
    unsafe {
        let mut errno = 0;
        let entered = libc::setns(ns, libc::CLONE_NEWCGROUP) == 0;
        if !entered {
            errno = Errno::last_raw();
        }
        for file in files {
            if entered {
                errno = 0;
            }
            let mut len = HEAD;
            while let Some(room) = buf.get_mut(len..).filter(|room| errno == 0 && !room.is_empty()) {
                match usize::try_from(libc::read(*file, room.as_mut_ptr().cast(), room.len())) {
                    Ok(0) => break,
                    Ok(n) => len += n,
                    Err(_) => errno = Errno::last_raw(),
                }
            }
            if let Some(head) = buf.first_chunk_mut() {
                *head = errno.to_ne_bytes();
            }
            libc::send(answer, buf.as_ptr().cast(), len, libc::MSG_NOSIGNAL);
        }
        libc::_exit(0)
    }
}

/// The next text, or why there is none. The outer error is about the child itself.
fn receive(from: BorrowedFd, until: Instant) -> nix::Result<nix::Result<Vec<u8>>> {
    sys::wait_readable(from, until)?;
    let mut buf = vec![0u8; size_of::<i32>() + TEXT];
    let len = socket::recv(from.as_raw_fd(), &mut buf, MsgFlags::MSG_DONTWAIT)?;
    buf.truncate(len);
    // Nothing: it ended without a word.
    let Some((head, text)) = buf.split_first_chunk() else { return Err(Errno::ECHILD) };
    match i32::from_ne_bytes(*head) {
        0 => Ok(Ok(text.to_vec())),
        errno => Ok(Err(Errno::from_raw(errno))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In our own namespace a child reads what we read ourselves; one that may not enter says so.
    #[test]
    fn a_child_reads_in_the_namespace_it_enters() {
        let proc = Dir::proc().unwrap();
        let me = std::process::id().cast_signed();
        let (mut b, mut log) = (Buffers::new(), UncheckedList::default());
        let dir = proc.process(me).ok().unwrap();
        let ns = crate::scan::task::process::namespaces(&dir, None, &mut b, &mut log);
        let root = Task { pid: me, ns, ..Task::default() };
        let gone = (me, i32::MAX);
        let own = std::fs::read(format!("/proc/{me}/task/{me}/cgroup")).unwrap();
        match inside(&root, &[(me, me), gone, (me, me)], &proc) {
            Ok(texts) => assert_eq!(texts, [Some(own.clone()), None, Some(own)]),
            Err(errno) => assert_eq!((errno, nix::unistd::geteuid().is_root()), (Errno::EPERM, false)),
        }
        // No namespace of cgroups.
        let other = Task { ns: crate::snapshot::Namespaces { cgroup: Some(1), ..root.ns }, ..root };
        assert_eq!(inside(&other, &[(me, me)], &proc).unwrap(), Vec::<Option<Vec<u8>>>::new());
    }
}
