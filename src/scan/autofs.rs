//! The automounters of the autofs mounts in the tree's namespaces (`autofs_create_entry`, criu/autofs.c).

use super::paths::{Root, Roots};
use super::proc::{number, Buffers, Dir};
use super::sys;
use super::Seen;
use crate::parse::fdinfo;
use crate::parse::mountinfo::MountInfo;
use crate::snapshot::{AutofsMaster, Dev, MasterPipe, Snapshot};
use std::ffi::{CStr, CString};

/// /dev/autofs
const DEVICE: Dev = Dev { major: 10, minor: 235 };

/// Fills in [`crate::snapshot::MountTable::masters`].
pub fn look(snap: &mut Snapshot, proc: &Dir, b: &mut Buffers) {
    // CRIU dumps the mounts of other namespaces than its own.
    if snap.root_shares(|ns| ns.mnt) != Some(false) {
        return;
    }
    let mut tables = std::mem::take(&mut snap.mounts);
    let mut roots = Roots::new(proc, snap, &snap.tasks);
    for table in tables.iter_mut().filter(|t| Some(t.ns) != snap.criu.ns.mnt) {
        let served = table.mounts.iter().filter_map(|m| Some((m.mnt_id, served(m)?)));
        let masters = served.filter_map(|(mnt_id, (pid, ino))| {
            let pipe = pipe_of(proc, pid, ino, b, || roots.of(table).is_some_and(has_device))?;
            Some(AutofsMaster { mnt_id, pid, pipe })
        });
        table.masters = masters.collect();
    }
    snap.mounts = tables;
}

/// The automounter and the inode of its pipe; `None`: no autofs, or one that has none any more (catatonic).
fn served(m: &MountInfo) -> Option<(i32, u64)> {
    if *m.fstype != *b"autofs" {
        return None;
    }
    let number = |key: &[u8]| std::str::from_utf8(&m.super_value(key)?).ok()?.parse::<i64>().ok();
    if number(b"fd")? == -1 {
        return None;
    }
    Some((i32::try_from(number(b"pgrp")?).ok()?, u64::try_from(number(b"pipe_ino")?).ok()?))
}

/// `None`: it may not be looked at.
fn pipe_of(proc: &Dir, pid: i32, ino: u64, b: &mut Buffers, device: impl FnOnce() -> bool) -> Option<MasterPipe> {
    // For a process of another pid namespace CRIU looks at itself.
    if pid == 0 {
        return Some(MasterPipe::Closed { device: device() });
    }
    let dir = match proc.process(pid) {
        Seen::Seen(dir) => dir,
        Seen::Gone => return Some(MasterPipe::Gone),
        Seen::Denied(_) => return None,
    };
    let Seen::Seen(fds) = dir.listing(c"fd") else { return None };
    let (mut open, text) = (false, &mut b.text);
    let Seen::Seen(()) = fds.each(&mut b.dents, |name| open = open || reads(&dir, &fds, name, ino, text)) else {
        return None;
    };
    Some(if open { MasterPipe::Open } else { MasterPipe::Closed { device: device() } })
}

/// Whether a descriptor is the pipe, and not open for writing only.
fn reads(dir: &Dir, fds: &Dir, name: &CStr, ino: u64, text: &mut Vec<u8>) -> bool {
    if !fds.stat(name).ok().is_some_and(|f| f.is_fifo() && f.ino == ino) {
        return false;
    }
    let path = number(name).and_then(|fd| CString::new(format!("fdinfo/{fd}")).ok());
    let flags = path.and_then(|path| fdinfo::parse(dir.read(&path, text).ok()?).flags);
    flags.is_some_and(|flags| flags & libc::O_WRONLY as u32 == 0)
}

/// Not asked where a server of the tree would have to answer.
fn has_device(root: &Root) -> bool {
    !root.may_wait(b"/dev/autofs")
        && sys::open_path(&root.fd, c"dev/autofs")
            .and_then(|fd| sys::statx(fd, c""))
            .is_ok_and(|f| f.is_chrdev() && f.rdev == DEVICE)
}
