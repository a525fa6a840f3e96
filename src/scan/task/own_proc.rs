//! What the root task's own /proc is. Whether the task sees itself there is the matter of [`crate::criu_model::own_proc`].

use crate::criu_model::own_proc::process_number;
use crate::scan::fd::paths::Roots;
use crate::scan::passes::PassContext;
use crate::scan::sys;
use crate::snapshot::{ProcSelf, Task};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::fd::AsFd;

/// Fills in [`crate::snapshot::Task::proc_self`] of the root task, and which processes are alive in a /proc of a namespace above its own.
pub(crate) fn collect(cx: &mut PassContext) {
    let PassContext { snap, proc, b, .. } = cx;
    let servers = snap.root_task().and_then(|t| snap.mounts.iter().find(|m| Some(m.ns) == t.ns.mnt));
    // On /proc, or above it, there could be a mount whose server is a frozen task of the tree.
    if servers.is_none_or(|table| Roots::servers(table).any(|at| crate::scan::fd::paths::is_below(b"/proc/self", at))) {
        return;
    }
    let own_numbers = snap.root_shares(|n| n.pid) == Some(false);
    let named = if own_numbers { named(&snap.tasks) } else { BTreeSet::new() };
    let Some(task) = snap.tasks.first_mut().filter(|t| !t.is_zombie()) else { return };
    let Ok(name) = std::ffi::CString::new(format!("{}/root", task.pid)) else { return };
    let Ok(root) = sys::open(proc, &name, OFlag::O_PATH | OFlag::O_DIRECTORY) else { return };
    // What the link says is said to its reader: this process, which is of CRIU's pid namespace.
    let reader = nix::unistd::getpid().to_string();
    task.proc_self = match sys::open_linked(&root, c"proc/self") {
        Err(Errno::ENOENT) => Some(ProcSelf::Missing),
        Err(e @ (Errno::ENOTDIR | Errno::ELOOP)) => Some(ProcSelf::Errno(e as i32)),
        Err(_) => None,
        Ok(link) => match sys::readlink(&link, c"", &mut b.link) {
            Ok(text) if text == reader.as_bytes() => Some(ProcSelf::Reader),
            Err(Errno::ENOENT) => Some(ProcSelf::NoNumber),
            Err(Errno::EINVAL) => Some(ProcSelf::Errno(Errno::EINVAL as i32)),
            _ => None,
        },
    };
    if task.proc_self == Some(ProcSelf::Reader) {
        task.proc_alive = named.into_iter().filter(|number| is_there(&root, *number)).collect();
    }
}

/// The numbers of processes in the paths of files below /proc.
fn named(tasks: &[Task]) -> BTreeSet<i32> {
    let files = tasks.iter().flat_map(|t| t.files.iter().filter_map(|f| f.link.as_ref()));
    let dirs = tasks.iter().filter_map(|t| Some(&t.cwd.as_ref()?.text));
    files.chain(dirs).filter_map(|path| process_number(path)).collect()
}

fn is_there(root: impl AsFd, number: i32) -> bool {
    CString::new(format!("proc/{number}")).is_ok_and(|path| sys::open_path(root, &path).is_ok())
}
