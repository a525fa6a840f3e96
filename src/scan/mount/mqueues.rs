//! Whether there are queues in the message queue file systems that are mounted in the tree's namespaces.
//!
//! No directory is listed for that: the size of the root of such a file system is 20 bytes (`DIRENT_SIZE`, ipc/mqueue.c) for
//! each name in it, `.` and `..` counted.

use crate::parse::mountinfo::MountInfo;
use crate::scan::fd::paths::{Root, Roots};
use crate::scan::net::inside;
use crate::scan::passes::PassContext;
use crate::scan::proc::Dir;
use crate::scan::sys;
use crate::snapshot::{Dev, FileAttr, MountTable, Namespaces, Snapshot, Task};
use std::collections::{HashMap, HashSet};
use std::ffi::CString;
use std::os::fd::AsFd;
use std::time::Duration;

const EMPTY: u64 = 2 * 20;

/// For how long an IPC namespace may answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Fills in [`crate::snapshot::MountTable::filled`].
pub(crate) fn collect(cx: &mut PassContext) {
    let PassContext { snap, proc, .. } = cx;
    // CRIU dumps the mounts of other namespaces than its own.
    if snap.root_shares(|ns| ns.mnt) != Some(false) {
        return;
    }
    let mut tables = std::mem::take(&mut snap.mounts);
    let filled = filled(&tables, snap, proc);
    for table in tables.iter_mut().filter(|t| Some(t.ns) != snap.criu.ns.mnt) {
        table.filled = mounts(table).filter(|m| filled.contains(&dev(m))).map(|m| m.mnt_id).collect();
    }
    snap.mounts = tables;
}

/// The file systems with queues in them.
fn filled(tables: &[MountTable], snap: &Snapshot, proc: &Dir) -> HashSet<Dev> {
    let mut sizes: HashMap<Dev, Option<u64>> = HashMap::new();
    let mut roots = Roots::new(proc, snap, &snap.tasks);
    for table in tables.iter().filter(|t| Some(t.ns) != snap.criu.ns.mnt) {
        for m in mounts(table) {
            let size = sizes.entry(dev(m)).or_default();
            *size = size.or_else(|| size_of(roots.of(table)?, m));
        }
    }
    // Those that other mounts cover.
    if sizes.values().any(Option::is_none) {
        for found in of_namespaces(&snap.tasks, &snap.criu.ns) {
            sizes.entry(found.dev).and_modify(|size| *size = size.or(Some(found.size)));
        }
    }
    let filled = sizes.into_iter().filter(|(_, size)| size.is_some_and(|size| size > EMPTY));
    filled.map(|(dev, _)| dev).collect()
}

fn mounts(table: &MountTable) -> impl Iterator<Item = &MountInfo> {
    table.mounts.iter().filter(|m| *m.fstype == *b"mqueue" && *m.root == *b"/")
}

fn dev(m: &MountInfo) -> Dev {
    Dev { major: m.major, minor: m.minor }
}

/// The size of its root; `None`: the path of the mount does not lead to it.
fn size_of(root: &Root, m: &MountInfo) -> Option<u64> {
    if root.may_wait(&m.mountpoint) {
        return None;
    }
    let path = CString::new(m.mountpoint.strip_prefix(b"/")?).ok()?;
    let found = sys::open_path(&root.fd, &path).and_then(|fd| sys::statx(fd, c"")).ok()?;
    (found.dev == dev(m)).then_some(found.size)
}

/// The roots of the message queue file systems of the IPC namespaces in sight: each namespace has one, mounted or not. That
/// of a namespace in which neither a process of the tree nor we are is not found.
fn of_namespaces(tasks: &[Task], observer: &Namespaces) -> Vec<FileAttr> {
    let own = (nix::unistd::getpid().as_raw(), observer);
    let members = std::iter::once(own).chain(tasks.iter().map(|t| (t.pid, &t.ns)));
    let mut asked = HashSet::new();
    let root = |(pid, ns): (i32, &Namespaces)| {
        let ino = ns.ipc.filter(|ino| !asked.contains(ino))?;
        let ns = inside::open(inside::MQUEUE, pid, ino).ok()??;
        let mount = inside::make(ns.as_fd(), inside::MQUEUE, PATIENCE).ok()?;
        asked.insert(ino);
        sys::statx(mount, c"").ok()
    };
    members.filter_map(root).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queues_of_our_own_namespace() {
        let me = nix::unistd::getpid().as_raw();
        let ino = nix::sys::stat::stat("/proc/self/ns/ipc").unwrap().st_ino;
        let roots = of_namespaces(&[], &Namespaces { ipc: Some(ino), ..Namespaces::default() });
        if roots.is_empty() && nix::unistd::geteuid().as_raw() != 0 {
            println!("skip: process {me} may not enter its IPC namespace");
            return;
        }
        assert_eq!(roots.len(), 1);
        let root = roots[0].clone();
        assert_eq!((root.kind(), root.size % 20), (libc::S_IFDIR, 0));
        assert!(root.size >= EMPTY);
        // The same file system is what mounts of it show.
        let again = of_namespaces(&[], &Namespaces { ipc: Some(ino), ..Namespaces::default() });
        assert_eq!(again[0].dev, root.dev);
    }
}
