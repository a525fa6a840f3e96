//! What CRIU loses without asking for it: only the warnings of `rules/lossy.rs` need it, so only the last look of a dump
//! pays for it (a handful of cheap calls for each thread, one for each watch).

use crate::scan::fd::remote;
use crate::scan::fd::remote::Process;
use crate::scan::kcmp::{self, Kind};
use crate::scan::passes::PassContext;
use crate::scan::sys;
use crate::snapshot::{Detail, OpenFile, Task, UnsavedThreadState};

/// Fills in [`crate::snapshot::Thread::unasked`] and [`crate::snapshot::WatchFacts::unread`]. What cannot be seen is left
/// out: nothing is refused for it.
pub(crate) fn collect(cx: &mut PassContext) {
    for task in cx.snap.tasks.iter_mut().filter(|t| !t.is_zombie()) {
        threads(task);
        watches(task);
    }
}

fn threads(task: &mut Task) {
    let leader = task.pid;
    for thread in &mut task.threads {
        let (Ok(policy), Ok(ioprio)) = (sys::sched_policy(thread.tid), sys::io_priority(thread.tid)) else { continue };
        let own = |kind| {
            thread.tid != leader && kcmp::tasks(leader, thread.tid, kind).ok().is_some_and(|order| order.is_ne())
        };
        let (own_files, own_fs) = (own(Kind::Files), own(Kind::Fs));
        thread.unasked = Some(UnsavedThreadState { policy, ioprio, own_files, own_fs });
    }
}

fn watches(task: &mut Task) {
    if !task.files.iter().any(|f| f.watches().is_some()) {
        return;
    }
    let Some(process) = Process::open(task.pid).ok() else { return };
    let unread = |file: &mut OpenFile| {
        let fd = file.fd();
        if let (Some(Detail::Watch(facts)), Some(fd)) = (file.detail.as_deref_mut(), fd) {
            facts.unread = remote::unread(&process, fd).ok();
        }
    };
    task.files.iter_mut().for_each(unread);
}
