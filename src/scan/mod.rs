//! The look: the only room that does I/O on the tree.
//!
//! Everything is asked through a held /proc/PID directory, nothing of the tree is opened, nothing that can wait for a
//! file server is called, and no trace is left behind. What has gone meanwhile is left out without a word; what the
//! kernel denies stands in [`Snapshot::unchecked`].

mod cache;
pub(crate) mod fd;
pub(crate) mod kcmp;
pub(crate) mod kernel;
pub(crate) mod mount;
pub(crate) mod net;
pub(crate) mod ns_child;
pub(crate) mod order;
pub(crate) mod passes;
pub(crate) mod proc;
pub(crate) mod programs;
pub(crate) mod sys;
pub(crate) mod task;
mod unchecked;
mod walk;

use crate::criu::Host;
use crate::snapshot::{Regs, ScanPhase, Snapshot};
pub(crate) use cache::ScanCache;
pub(crate) use sys::Seen;
pub(crate) use unchecked::UncheckedList;

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
    /// A thread of this process does not come back from the kernel (see [`task::dstate`]).
    Stuck { pid: i32, tid: i32 },
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
    let (mut scan, own, mut snap) = walk::walked(root, look, host, session)?;
    passes::run(&mut scan.context(&mut snap, &own, host, session));
    snap.whole = scan.log.is_whole();
    snap.unchecked = scan.log.0;
    let cache = &mut session.cache;
    if look == ScanPhase::Early {
        cache.anonymous = fd::files::Anonymous::of(&snap.tasks);
        if cache.many_locks {
            fd::locks::again();
        }
    }
    Ok(snap)
}

/// One look by this process on its own behalf, with nothing known before.
pub(crate) fn collect_once(root: i32, phase: ScanPhase, host: &Host) -> Result<Snapshot, ScanError> {
    collect(root, phase, host, &mut ScanSession::in_place())
}

#[cfg(test)]
mod tests;
