//! Which processes share an address space, a root and working directory, signal handlers or a descriptor table.

use crate::bytes::Bytes;
use crate::scan::kcmp::{self, Kind};
use crate::scan::passes::PassContext;
use crate::scan::UncheckedList;
use crate::snapshot::{Probe, ScanPhase, Shares, Task};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

/// Fills in [`Task::shares`].
pub(crate) fn collect(cx: &mut PassContext) {
    let look = cx.snap.look;
    find(&mut cx.snap.tasks, look, &mut cx.cache.compared, cx.log);
}

/// Only tasks that look alike are compared: what is shared is the same for both.
///
/// `memo`: what the look at the running tree has learned, for the frozen one.
fn find(tasks: &mut [Task], look: ScanPhase, memo: &mut Compared, log: &mut UncheckedList) {
    let before = std::mem::take(memo);
    let before = if look == ScanPhase::Frozen { before } else { Compared::default() };
    let mut look = SharingFinder { log, before, now: Compared::default(), early: look == ScanPhase::Early };
    // Where a program was put is random, so that mostly only what was forked and not executed is left to compare.
    let starts: HashMap<i32, u64> = tasks.iter().filter_map(|t| Some((t.pid, t.maps.first()?.vma.start))).collect();
    let place = |t: &Task| starts.get(&t.maps_of.unwrap_or(t.pid)).copied();
    let mm = alike(tasks, |t| Some((link_text(t.exe.as_ref()), place(t))));
    look.share(tasks, mm, Kind::Vm, |s| &mut s.mm);
    // Handlers are never shared without the address space (`copy_process`, kernel/fork.c; `de_thread`, fs/exec.c).
    let mut handlers: HashMap<i32, Vec<i32>> = HashMap::new();
    for (first, pid) in tasks.iter().filter_map(|t| Some((t.shares.mm?, t.pid))) {
        handlers.entry(first).or_insert_with(|| vec![first]).push(pid);
    }
    let handlers: Vec<Vec<i32>> = handlers.into_values().collect();
    look.share(tasks, handlers, Kind::Sighand, |s| &mut s.sighand);
    let fs = alike(tasks, |t| Some((link_text(t.cwd.as_ref()), link_text(t.root.as_ref()))));
    look.share(tasks, fs, Kind::Fs, |s| &mut s.fs);
    // What was not read because it is shared is known already.
    let files = alike(tasks, |t| t.files_of.is_none().then(|| held(t)));
    look.share(tasks, files, Kind::Files, |s| &mut s.files);
    if look.early {
        *memo = look.now;
    }
}

fn link_text(link: Option<&crate::snapshot::Link>) -> Option<&Bytes> {
    link.map(|l| &l.text)
}

/// Two tasks with different numbers have different tables.
fn held(task: &Task) -> u64 {
    let mut hasher = DefaultHasher::new();
    task.files.iter().for_each(|f| (f.fd(), f.attr.ino).hash(&mut hasher));
    hasher.finish()
}

/// The pids of living tasks with the same mark, in walk order, where there are at least two.
fn alike<'a, M: Eq + Hash>(tasks: &'a [Task], mark: impl Fn(&'a Task) -> Option<M>) -> Vec<Vec<i32>> {
    let mut by_mark: HashMap<M, Vec<i32>> = HashMap::new();
    for task in tasks.iter().filter(|t| !t.is_zombie()) {
        if let Some(mark) = mark(task) {
            by_mark.entry(mark).or_default().push(task.pid);
        }
    }
    by_mark.into_values().filter(|pids| pids.len() > 1).collect()
}

/// What the look at the running tree has learned, for the frozen one.
///
/// Two tasks that do not share such a thing never come to: a task has it from its parent (`copy_process`,
/// kernel/fork.c), and later gets only a fresh one of its own (execve, unshare, setns). So the frozen look has to compare
/// those that shared it, and the tasks that are new. What looks alike but was not compared is compared.
#[derive(Debug, Default)]
pub(crate) struct Compared {
    /// By what was compared, pid and start time.
    tasks: HashMap<(Kind, i32, u64), Place>,
    /// How many lists of tasks have been compared.
    lists: usize,
}

/// Where a task stood.
#[derive(Debug)]
struct Place {
    /// In which list: all of one list have been compared with each other.
    list: usize,
    /// The first task it shares the thing with, or itself.
    first: i32,
    /// A thread besides the leader, if there was one.
    thread: Option<i32>,
}

impl Compared {
    fn note(&mut self, task: &Task, kind: Kind, first: i32) {
        let thread = task.threads.iter().map(|t| t.tid).find(|tid| *tid != task.pid);
        self.tasks.insert((kind, task.pid, task.start_time), Place { list: self.lists, first, thread });
    }

    /// Parts of a list that may share the thing; `None`: there are some in it that were not compared with each other.
    fn parts(&self, tasks: &[&Task], kind: Kind) -> Option<Vec<Vec<i32>>> {
        let mut parts: HashMap<i32, Vec<i32>> = HashMap::new();
        let mut list = None;
        for task in tasks {
            let place = self.tasks.get(&(kind, task.pid, task.start_time))?;
            if *list.get_or_insert(place.list) != place.list {
                return None;
            }
            // A thread that calls execve becomes the leader and keeps its own root and working directory, which may be
            // shared with others than the leader's were. All other threads end then (`de_thread`, fs/exec.c).
            if place.thread.is_some_and(|tid| task.threads.iter().all(|t| t.tid != tid)) {
                return None;
            }
            parts.entry(place.first).or_default().push(task.pid);
        }
        Some(parts.into_values().filter(|pids| pids.len() > 1).collect())
    }
}

struct SharingFinder<'a> {
    log: &'a mut UncheckedList,
    before: Compared,
    now: Compared,
    early: bool,
}

impl SharingFinder<'_> {
    fn share(
        &mut self,
        tasks: &mut [Task],
        candidates: Vec<Vec<i32>>,
        kind: Kind,
        place: fn(&mut Shares) -> &mut Option<i32>,
    ) {
        if candidates.is_empty() {
            return;
        }
        let at: HashMap<i32, usize> = tasks.iter().enumerate().map(|(i, t)| (t.pid, i)).collect();
        for pids in candidates {
            let alike: Vec<&Task> = pids.iter().filter_map(|pid| tasks.get(*at.get(pid)?)).collect();
            let parts = self.before.parts(&alike, kind).unwrap_or_else(|| vec![pids]);
            for pids in parts {
                self.compare(tasks, &at, &pids, kind, place);
            }
        }
    }

    fn compare(
        &mut self,
        tasks: &mut [Task],
        at: &HashMap<i32, usize>,
        pids: &[i32],
        kind: Kind,
        place: fn(&mut Shares) -> &mut Option<i32>,
    ) {
        let grouped = kcmp::groups(pids, kind);
        let complete = grouped.denied.is_empty();
        for (pid, errno) in grouped.denied {
            self.log.deny(pid, None, Probe::Kcmp, errno);
        }
        self.now.lists = self.now.lists.saturating_add(1);
        for group in grouped.groups {
            let Some(first) = group.first() else { continue };
            for pid in &group {
                let Some(task) = at.get(pid).and_then(|i| tasks.get_mut(*i)) else { continue };
                if pid != first {
                    *place(&mut task.shares) = Some(*first);
                }
                if self.early && complete {
                    self.now.note(task, kind, *first);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A forked child that shares with us what `flags` say, and does nothing.
    fn child(flags: libc::c_int) -> i32 {
        // SAFETY: without CLONE_VM this is a fork, and the child calls nothing but pause(2).
        let pid = unsafe { test_signals::clone(flags | libc::SIGCHLD) }.unwrap();
        if pid == 0 {
            loop {
                // SAFETY: takes nothing.
                unsafe { libc::pause() };
            }
        }
        pid
    }

    #[test]
    fn what_a_child_shares() {
        let me = std::process::id().cast_signed();
        for (flags, shares) in [
            (0, Shares::default()),
            (libc::CLONE_FS, Shares { fs: Some(me), ..Shares::default() }),
            (libc::CLONE_FILES, Shares { files: Some(me), ..Shares::default() }),
        ] {
            let pid = child(flags);
            let mut tasks = [me, pid].map(|pid| Task { pid, ppid: 1, state: 'S', ..Task::default() });
            let mut log = UncheckedList::default();
            super::find(&mut tasks, ScanPhase::Early, &mut Compared::default(), &mut log);
            test_signals::end(pid).unwrap();
            assert_eq!((tasks[0].shares, tasks[1].shares), (Shares::default(), shares));
            assert_eq!(log.0, []);
        }
    }
}
