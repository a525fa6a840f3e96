//! Whether there are queues in the message queue file systems that are mounted in the tree's namespaces.
//!
//! No directory is listed for that: the size of the root of such a file system is 20 bytes (`DIRENT_SIZE`, ipc/mqueue.c) for
//! each name in it, `.` and `..` counted.

use super::paths::Roots;
use super::proc::Dir;
use super::sys;
use crate::snapshot::{Dev, Snapshot};
use std::ffi::CString;

const EMPTY: u64 = 2 * 20;

/// Fills in [`crate::snapshot::MountTable::filled`]. A mount that its path does not lead to is left out.
pub fn look(snap: &mut Snapshot, proc: &Dir) {
    // CRIU dumps the mounts of other namespaces than its own.
    if snap.root_shares(|ns| ns.mnt) != Some(false) {
        return;
    }
    let mut tables = std::mem::take(&mut snap.mounts);
    let mut roots = Roots::new(proc, snap, &snap.tasks);
    for table in tables.iter_mut().filter(|t| Some(t.ns) != snap.criu.ns.mnt) {
        let mut filled = Vec::new();
        for m in table.mounts.iter().filter(|m| *m.fstype == *b"mqueue" && *m.root == *b"/") {
            let Some(root) = roots.of(table).filter(|r| !r.may_wait(&m.mountpoint)) else { continue };
            let Some(path) = m.mountpoint.strip_prefix(b"/").and_then(|p| CString::new(p).ok()) else { continue };
            let Ok(found) = sys::open_path(&root.fd, &path).and_then(|fd| sys::statx(fd, c"")) else { continue };
            if found.dev == (Dev { major: m.major, minor: m.minor }) && found.size > EMPTY {
                filled.push(m.mnt_id);
            }
        }
        table.filled = filled;
    }
    snap.mounts = tables;
}
