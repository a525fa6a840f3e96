//! Locked files that a process has from another: CRIU notes the locks of an open file where it meets that first, and forgets
//! those of every further descriptor (`discard_dup_locks_tail`, criu/file-lock.c). Other locks are shown at each descriptor of
//! the open file, POSIX locks only at those of the process that took them.

use super::kcmp;
use crate::parse::locks::LockKind;
use crate::snapshot::{Dev, OpenFile, Snapshot};
use std::collections::{HashMap, HashSet};

/// Fills in [`OpenFile::met_before`]. What the kernel does not compare for us it does not for CRIU, which ends there.
pub fn look(snap: &mut Snapshot) {
    let files =
        || snap.tasks.iter().enumerate().flat_map(|(nth, t)| t.files.iter().enumerate().map(move |f| (nth, t.pid, f)));
    let locked: HashSet<(Dev, u64)> =
        files().filter(|(.., (_, f))| has_posix_locks(f)).map(|(.., (_, f))| (f.dev, f.ino)).collect();
    let mut earlier: HashMap<(Dev, u64), Vec<(usize, kcmp::Fd)>> = HashMap::new();
    let mut met = Vec::new();
    for (nth, pid, (at, file)) in files().filter(|(.., (_, f))| f.queued.is_none() && locked.contains(&(f.dev, f.ino)))
    {
        let alike = earlier.entry((file.dev, file.ino)).or_default();
        let same = |other| kcmp::files(other, (pid, file.fd)).ok().is_some_and(|o| o.is_eq());
        if has_posix_locks(file) && alike.iter().any(|(task, other)| *task != nth && same(*other)) {
            met.push((nth, at));
        }
        alike.push((nth, (pid, file.fd)));
    }
    for (nth, at) in met {
        if let Some(file) = snap.tasks.get_mut(nth).and_then(|t| t.files.get_mut(at)) {
            file.met_before = true;
        }
    }
}

fn has_posix_locks(file: &OpenFile) -> bool {
    file.info.iter().flat_map(|i| &i.locks).any(|l| l.kind == LockKind::Posix)
}
