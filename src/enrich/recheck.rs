//! Findings of a look at a running tree, asked again: only a tree that is about to be refused pays for it.
//!
//! [`watch`] fills the time between two looks: an object that is now this and now that is not one that two looks have met by
//! chance in the same state. [`mod@paths`] looks an open file and its path up in one piece. Both answer in [`Finding::held`].

use crate::bytes::Bytes;
use crate::criu_model::paths::is_beside;
use crate::parse::locks::Lock;
use crate::parse::{fdinfo, stat, status};
use crate::rules::{registry, Evidence, Finding, TaskLink};
use crate::scan::fd::paths;
use crate::scan::fd::paths::Roots;
use crate::scan::proc::{Buffers, Dir};
use crate::scan::task::dstate::is_uninterruptible;
use crate::scan::task::process::namespaces;
use crate::scan::{Seen, UncheckedList};
use crate::snapshot::{Dev, FileAttr, Namespaces, OpenFile, PathMismatch, Snapshot, Task};
use std::collections::HashMap;
use std::ffi::CString;
use std::time::{Duration, Instant};

/// How often an object is asked between two looks.
const TIMES: u32 = 10;
/// Of more findings the two looks alone decide: one that is certain is enough for a refusal.
const MOST: usize = 256;
/// How often a path is looked up: a directory that is renamed to and fro can deceive one time, and hardly all.
const ROUNDS: usize = 8;
/// What all paths together may take. What is not asked again in this time is not certain.
const BUDGET: Duration = Duration::from_millis(250);

/// What an object is, as far as no two of its states are alike in it.
#[derive(Clone, Debug, PartialEq)]
enum State {
    File { dev: Dev, ino: u64, mode: u32, rdev: Dev, link: Option<Bytes>, locks: Vec<Lock> },
    Link(Bytes),
    Task(Box<TaskState>),
}

#[derive(Clone, Debug, PartialEq)]
struct TaskState {
    dead: bool,
    stopped: bool,
    tracer: Option<i32>,
    sigtrap: [bool; 3],
    ids: (Option<[u32; 4]>, Option<[u32; 4]>),
    seccomp: Option<u32>,
    ns: Namespaces,
}

/// Waits for a moment and asks for what the refusals are about all the while: which of them stayed as they were.
pub(crate) fn watch(findings: &mut [Finding], snap: &Snapshot, moment: Duration) {
    let Ok(proc) = Dir::proc() else {
        std::thread::sleep(moment);
        findings.iter_mut().for_each(|f| f.held = Some(false));
        return;
    };
    let mut asker = Asker { proc: &proc, snap, dirs: HashMap::new(), files: HashMap::new(), b: Buffers::new() };
    // Many findings may be about one thing: thousands of locks of one descriptor, all of which it shows at once.
    let mut things: HashMap<Thing, Watched> = HashMap::new();
    let is_refused = |f: &Finding| f.verdict.is_certain();
    for f in findings.iter().filter(|f| is_refused(f)).take(MOST) {
        things.entry(thing(f)).or_insert_with(|| Watched { first: f.clone(), state: None, steady: true });
    }
    for _ in 0..TIMES {
        std::thread::sleep(moment / TIMES);
        for thing in things.values_mut().filter(|thing| thing.steady) {
            thing.steady = match asker.state(&thing.first) {
                Seen::Seen(Some(state)) => *thing.state.get_or_insert_with(|| state.clone()) == state,
                // It cannot be asked without waiting for somebody.
                Seen::Seen(None) => true,
                Seen::Gone | Seen::Denied(_) => false,
            }
        }
    }
    for f in findings.iter_mut().filter(|f| is_refused(f)).take(MOST) {
        f.held = things.get(&thing(f)).map(|thing| thing.steady);
    }
}

/// What a finding is about: process, thread, descriptor, mapping, whether it lies in no queue.
type Thing = (i32, Option<i32>, Option<i32>, Option<u64>, bool);

fn thing(f: &Finding) -> Thing {
    (f.pid, f.tid, f.fd, f.addr, f.queued.is_empty())
}

/// What findings are about, and how it was when it was first asked.
struct Watched {
    /// One of them.
    first: Finding,
    state: Option<State>,
    steady: bool,
}

struct Asker<'a> {
    proc: &'a Dir,
    snap: &'a Snapshot,
    /// By pid; `None`: it is another process by now.
    dirs: HashMap<i32, Option<Dir>>,
    /// By pid and descriptor: what the look saw there.
    files: HashMap<(i32, i32), Option<&'a OpenFile>>,
    b: Buffers,
}

impl Asker<'_> {
    fn state(&mut self, f: &Finding) -> Seen<Option<State>> {
        let task = self.snap.task(f.pid);
        let (proc, b) = (self.proc, &mut self.b);
        let dir = self.dirs.entry(f.pid).or_insert_with(|| process(proc, f.pid, f.start_time, b));
        let Some(dir) = dir else { return Seen::Gone };
        let path = match f.tid {
            Some(tid) => CString::new(format!("task/{tid}/status")).unwrap_or_default(),
            None => c"status".to_owned(),
        };
        let status = match dir.read_one(&path, &mut b.text) {
            Seen::Seen(text) => status::parse(text),
            Seen::Gone => return Seen::Gone,
            Seen::Denied(errno) => return Seen::Denied(errno),
        };
        if is_uninterruptible(&status) {
            return Seen::Seen(None);
        }
        match (f.fd.filter(|_| f.queued.is_empty()), task.and_then(|t| mapping(f, t))) {
            (Some(fd), _) => {
                let seen = || task.and_then(|t| t.files.iter().find(|file| file.fd() == Some(fd)));
                let known = *self.files.entry((f.pid, fd)).or_insert_with(seen);
                file_state(dir, fd, known, b).map(Some)
            }
            (None, Some(name)) => dir.link(&name, &mut b.link).map(|text| Some(State::Link(text.into()))),
            (None, None) => Seen::Seen(Some(State::Task(Box::new(task_state(dir, &status, b))))),
        }
    }
}

/// The link of the mapping of a file that a finding is about.
fn mapping(f: &Finding, task: &Task) -> Option<CString> {
    let start = f.addr?;
    let vma = task.maps.iter().find(|m| m.vma.start == start && m.file.is_some()).map(|m| &m.vma)?;
    CString::new(format!("map_files/{:x}-{:x}", vma.start, vma.end)).ok()
}

fn file_state(dir: &Dir, fd: i32, known: Option<&OpenFile>, b: &mut Buffers) -> Seen<State> {
    let Ok(name) = CString::new(format!("fd/{fd}")) else { return Seen::Gone };
    // Of a file without attributes the link is all there is.
    let Some(known) = known else {
        return dir.link(&name, &mut b.link).map(|text| State::Link(text.into()));
    };
    let link = match known.link.is_some() {
        true => dir.link(&name, &mut b.link).map(|text| Some(Bytes::from(text))),
        false => Seen::Seen(None),
    };
    let link = match link {
        Seen::Seen(link) => link,
        Seen::Gone => return Seen::Gone,
        Seen::Denied(errno) => return Seen::Denied(errno),
    };
    let locked = known.info.as_ref().is_some_and(|info| !info.locks.is_empty());
    let locks = match locked.then(|| CString::new(format!("fdinfo/{fd}"))) {
        Some(Ok(name)) => dir.read_one(&name, &mut b.text).ok().map(fdinfo::parse).map(|info| info.locks),
        _ => None,
    };
    let locks = locks.unwrap_or_default();
    dir.stat(&name).map(|f| State::File { dev: f.dev, ino: f.ino, mode: f.mode, rdev: f.rdev, link, locks })
}

fn task_state(dir: &Dir, status: &status::Status, b: &mut Buffers) -> TaskState {
    let trap = |set: Option<u64>| set.unwrap_or_default() & (1 << (libc::SIGTRAP - 1)) != 0;
    TaskState {
        dead: matches!(status.state, Some('Z' | 'X')),
        stopped: status.state == Some('T'),
        tracer: status.tracer_pid,
        sigtrap: [trap(status.sig_pnd), trap(status.shd_pnd), trap(status.sig_blk)],
        ids: (status.uid, status.gid),
        seccomp: status.seccomp,
        ns: namespaces(dir, None, b, &mut UncheckedList::default()),
    }
}

/// The process, if it is still that one.
fn process(proc: &Dir, pid: i32, start_time: u64, b: &mut Buffers) -> Option<Dir> {
    let dir = proc.process(pid).ok()?;
    let stat = stat::parse(dir.read_one(c"stat", &mut b.text).ok()?)?;
    (stat.starttime == start_time).then_some(dir)
}

/// Which of the refusals that rest on a path hold: the descriptor (or mapping, or directory) before and after, and in between
/// where its path leads.
pub(crate) fn paths(findings: &mut [Finding], snap: &Snapshot) {
    let rests_on_path = |f: &Finding| registry::by_id(&f.rule).is_some_and(|r| r.evidence == Evidence::Path);
    let asked = |f: &Finding| f.verdict.is_certain() && rests_on_path(f);
    if !findings.iter().any(asked) {
        return;
    }
    let until = Instant::now() + BUDGET;
    let Ok(proc) = Dir::proc() else { return };
    let mut roots = Roots::new(&proc, snap, &snap.tasks);
    let mut b = Buffers::new();
    for f in findings.iter_mut().filter(|f| asked(f)) {
        f.held = Some(Instant::now() < until && path_holds(f, snap, &proc, &mut roots, &mut b).unwrap_or(false));
    }
}

fn path_holds(f: &Finding, snap: &Snapshot, proc: &Dir, roots: &mut Roots, b: &mut Buffers) -> Option<bool> {
    let task = snap.task(f.pid)?;
    let (name, file, text) = place(f, task)?;
    let dir = process(proc, f.pid, f.start_time, b)?;
    let status = status::parse(dir.read_one(c"status", &mut b.text).ok()?);
    if is_uninterruptible(&status) {
        return Some(false);
    }
    let table =
        snap.mounts.iter().find(|t| t.mounts.iter().any(|m| u64::try_from(m.mnt_id).ok() == file.attr.mnt_id))?;
    // What changes when a name comes or goes. In a directory, and with a file that has none left, other things change it too.
    let mark = |f: &FileAttr| (f.kind() != libc::S_IFDIR && f.nlink > 0).then_some((f.nlink, f.ctime));
    let mut ask = || {
        let is = dir.stat(&name).ok()?;
        let linked = dir.link(&name, &mut b.link).ok()?;
        let id = |f: &FileAttr| (f.dev, f.ino, f.mode, f.mnt_id, f.nlink > 0);
        Some((id(&is) == id(&file.attr) && *linked == *text.0, mark(&is)))
    };
    for _ in 0..ROUNDS {
        let before = ask()?;
        if let Some(expected) = file.mismatch {
            let found = paths::mismatch(roots.of(table)?, file, &text, snap.look).ok()?;
            let same = match (expected, found) {
                // Whether it is of a layer is not asked again.
                (PathMismatch::LowerLayer, Some(PathMismatch::NoEntry { above })) => !is_beside(file, above),
                (expected, found) => found == Some(expected),
            };
            if !same {
                return Some(false);
            }
        }
        if !before.0 || ask()? != before {
            return Some(false);
        }
    }
    Some(true)
}

/// The name in /proc/PID of what a finding is about, the file that was seen there, and its path.
fn place<'a>(f: &Finding, task: &'a Task) -> Option<(CString, &'a OpenFile, Bytes)> {
    if !f.queued.is_empty() {
        return None;
    }
    if let Some(fd) = f.fd {
        let file = task.files.iter().find(|file| file.fd() == Some(fd))?;
        return Some((CString::new(format!("fd/{fd}")).ok()?, file, file.link.clone()?));
    }
    if f.addr.is_some() {
        let name = mapping(f, task)?;
        let m = task.maps.iter().find(|m| Some(m.vma.start) == f.addr)?;
        return Some((name, m.file.as_ref()?, m.vma.unescaped()));
    }
    let (name, link) = match f.link? {
        TaskLink::Exe => (c"exe", &task.exe),
        TaskLink::Cwd => (c"cwd", &task.cwd),
        TaskLink::Root => (c"root", &task.root),
    };
    let link = link.as_ref()?;
    Some((name.to_owned(), link.file.as_ref()?, link.text.clone()))
}

#[cfg(test)]
#[path = "recheck_tests.rs"]
mod tests;
