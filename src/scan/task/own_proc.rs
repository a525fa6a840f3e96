//! What the root task's own /proc is. Whether the task sees itself there is the matter of [`crate::criu_model::own_proc`].

use crate::scan::fd::paths::Roots;
use crate::scan::passes::PassContext;
use crate::scan::sys;
use crate::snapshot::ProcSelf;
use nix::errno::Errno;
use nix::fcntl::OFlag;

/// Fills in [`crate::snapshot::Task::proc_self`] of the root task.
pub(crate) fn collect(cx: &mut PassContext) {
    let PassContext { snap, proc, b, .. } = cx;
    let servers = snap.root_task().and_then(|t| snap.mounts.iter().find(|m| Some(m.ns) == t.ns.mnt));
    // On /proc, or above it, there could be a mount whose server is a frozen task of the tree.
    if servers.is_none_or(|table| Roots::servers(table).any(|at| crate::scan::fd::paths::is_below(b"/proc/self", at))) {
        return;
    }
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
}
