//! Whether the root task sees itself in its own /proc: what CRIU's code in it asks first (`get_proc_fd`,
//! criu/pie/parasite.c).

use crate::scan::fd::paths::Roots;
use crate::scan::passes::PassContext;
use crate::scan::sys;
use crate::snapshot::ProcSelf;
use nix::errno::Errno;
use nix::fcntl::OFlag;

/// Fills in [`crate::snapshot::Task::proc_self`] of the root task.
pub fn collect(cx: &mut PassContext) {
    let PassContext { snap, proc, b, .. } = cx;
    let servers = snap.root_task().and_then(|t| snap.mounts.iter().find(|m| Some(m.ns) == t.ns.mnt));
    // On /proc, or above it, there could be a mount whose server is a frozen task of the tree.
    if servers.is_none_or(|table| Roots::servers(table).any(|at| crate::scan::fd::paths::is_below(b"/proc/self", at))) {
        return;
    }
    let shares = snap.root_shares(|n| n.pid);
    let Some(task) = snap.tasks.first_mut().filter(|t| !t.is_zombie()) else { return };
    let Ok(name) = std::ffi::CString::new(format!("{}/root", task.pid)) else { return };
    let Ok(root) = sys::open(proc, &name, OFlag::O_PATH | OFlag::O_DIRECTORY) else { return };
    // What the link says is said to its reader: this process, which is of CRIU's pid namespace.
    let reader = nix::unistd::getpid().to_string();
    task.proc_self = match sys::open_linked(&root, c"proc/self") {
        Err(Errno::ENOENT) => Some(ProcSelf::Missing),
        Err(e @ (Errno::ENOTDIR | Errno::ELOOP)) => Some(ProcSelf::Errno(e as i32)),
        Err(_) => None,
        Ok(link) => match (sys::readlink(&link, c"", &mut b.link), shares) {
            // CRIU's own pid namespace: there the task sees its number in that namespace.
            (Ok(text), Some(true)) if text == reader.as_bytes() => Some(ProcSelf::Own),
            (Ok(text), Some(false)) if text == reader.as_bytes() => Some(ProcSelf::Other),
            // A pid namespace in which CRIU is not: the task's own, if it has one below CRIU's.
            (Err(Errno::ENOENT), Some(false)) => Some(ProcSelf::Own),
            (Err(Errno::ENOENT), Some(true)) => Some(ProcSelf::Other),
            (Err(Errno::EINVAL), _) => Some(ProcSelf::Errno(Errno::EINVAL as i32)),
            _ => None,
        },
    };
}
