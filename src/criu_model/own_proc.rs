//! Whether the root task sees itself in its own /proc: what the parasite asks first (`get_proc_fd`, criu/pie/parasite.c).

use crate::snapshot::{ProcSelf, Snapshot};

/// What the task finds at /proc/self.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnProc {
    /// Itself.
    Own,
    /// It is not there.
    Missing,
    /// The /proc of another pid namespace.
    Other,
    /// No symbolic link that can be read: the errno.
    Errno(i32),
}

/// The number of the process that a path below /proc leads to.
pub(crate) fn process_number(path: &[u8]) -> Option<i32> {
    let first = path.strip_prefix(b"/proc/")?.split(|b| *b == b'/').next()?;
    std::str::from_utf8(first).ok()?.parse().ok().filter(|number| *number > 0)
}

/// `None`: not known.
pub(crate) fn own_proc(snap: &Snapshot) -> Option<OwnProc> {
    let task = snap.root_task().filter(|t| !t.is_zombie())?;
    let shares = || snap.root_shares(|n| n.pid);
    Some(match task.proc_self? {
        ProcSelf::Missing => OwnProc::Missing,
        ProcSelf::Errno(errno) => OwnProc::Errno(errno),
        // CRIU's own pid namespace: there the task sees its number in that namespace.
        ProcSelf::Reader if shares()? => OwnProc::Own,
        ProcSelf::Reader => OwnProc::Other,
        // A pid namespace in which CRIU is not: the task's own, if it has one below CRIU's.
        ProcSelf::NoNumber if shares()? => OwnProc::Other,
        ProcSelf::NoNumber => OwnProc::Own,
    })
}
