//! Which processes share an address space, a root and working directory, signal handlers or a descriptor table.

use super::kcmp::{self, Kind};
use super::Log;
use crate::bytes::Bytes;
use crate::snapshot::{Shares, Task};
use std::collections::HashMap;
use std::hash::Hash;

/// Fills in [`Task::shares`]. Only tasks that look alike are compared: what is shared is the same for both.
pub fn look(tasks: &mut [Task], log: &mut Log) {
    // Where a program was put is random, so that mostly only what was forked and not executed is left to compare.
    let place = |t: &Task| t.maps.first().map(|m| m.vma.start);
    let mm = alike(tasks, |t| Some((link_text(t.exe.as_ref()), place(t))));
    share(tasks, mm, Kind::Vm, |s| &mut s.mm, log);
    // Handlers are never shared without the address space (`copy_process`, kernel/fork.c; `de_thread`, fs/exec.c).
    let mut handlers: HashMap<i32, Vec<i32>> = HashMap::new();
    for (first, pid) in tasks.iter().filter_map(|t| Some((t.shares.mm?, t.pid))) {
        handlers.entry(first).or_insert_with(|| vec![first]).push(pid);
    }
    let handlers: Vec<Vec<i32>> = handlers.into_values().collect();
    share(tasks, handlers, Kind::Sighand, |s| &mut s.sighand, log);
    let fs = alike(tasks, |t| Some((link_text(t.cwd.as_ref()), link_text(t.root.as_ref()))));
    share(tasks, fs, Kind::Fs, |s| &mut s.fs, log);
    // What is shared with the parent is known already.
    let held = |t: &Task| t.files.iter().map(|f| (f.fd, f.ino)).collect::<Vec<_>>();
    let files = alike(tasks, |t| t.files_of.is_none().then(|| held(t)));
    share(tasks, files, Kind::Files, |s| &mut s.files, log);
}

fn link_text(link: Option<&crate::snapshot::Link>) -> Option<&Bytes> {
    link.map(|l| &l.text)
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

fn share(
    tasks: &mut [Task],
    candidates: Vec<Vec<i32>>,
    kind: Kind,
    place: fn(&mut Shares) -> &mut Option<i32>,
    log: &mut Log,
) {
    for pids in candidates {
        let grouped = kcmp::groups(&pids, kind);
        for (pid, errno) in grouped.denied {
            log.deny(pid, None, b"kcmp", errno);
        }
        for group in grouped.groups {
            let Some((first, others)) = group.split_first() else { continue };
            for task in tasks.iter_mut().filter(|t| others.contains(&t.pid)) {
                *place(&mut task.shares) = Some(*first);
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
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD, 0, 0, 0, 0) };
        if pid == 0 {
            loop {
                // SAFETY: takes nothing.
                unsafe { libc::pause() };
            }
        }
        i32::try_from(pid).unwrap()
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
            let mut log = Log::default();
            look(&mut tasks, &mut log);
            // SAFETY: our own child.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).unwrap();
            assert_eq!((tasks[0].shares, tasks[1].shares), (Shares::default(), shares));
            assert_eq!(log.0, []);
        }
    }
}
