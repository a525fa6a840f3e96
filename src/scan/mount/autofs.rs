//! The automounters of the autofs mounts in the tree's namespaces (`autofs_create_entry`, criu/autofs.c).

use crate::parse::fdinfo;
use crate::parse::mountinfo::MountInfo;
use crate::scan::fd::paths::{Root, Roots};
use crate::scan::passes::PassContext;
use crate::scan::proc::{number, Buffers, Dir};
use crate::scan::sys;
use crate::scan::Seen;
use crate::snapshot::{AutofsMaster, Dev, MasterPipe, Probe};
use nix::errno::Errno;
use std::ffi::{CStr, CString};

/// Fills in [`crate::snapshot::MountTable::masters`].
pub(crate) fn collect(cx: &mut PassContext) {
    let PassContext { snap, proc, b, log, .. } = cx;
    // CRIU dumps the mounts of other namespaces than its own.
    if snap.root_shares(|ns| ns.mnt) != Some(false) {
        return;
    }
    let mut tables = std::mem::take(&mut snap.mounts);
    let mut roots = Roots::new(proc, snap, &snap.tasks);
    for table in tables.iter_mut().filter(|t| Some(t.ns) != snap.criu.ns.mnt) {
        let served = table.mounts.iter().filter_map(|m| Some((m.mnt_id, served(m)?)));
        let masters = served.filter_map(|(mnt_id, (pid, ino))| {
            let device = || roots.of(table).ok_or(libc::ENOENT).and_then(has_device);
            match pipe_of(proc, pid, ino, b, device) {
                Ok(pipe) => Some(AutofsMaster { mnt_id, pid, pipe }),
                Err(errno) => {
                    log.deny(pid, None, Probe::Autofs, errno);
                    None
                }
            }
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

/// [`Seen::Denied`]: it is not known.
fn pipe_of(
    proc: &Dir,
    pid: i32,
    ino: u64,
    b: &mut Buffers,
    device: impl FnOnce() -> Result<bool, i32>,
) -> Result<MasterPipe, i32> {
    let closed = || device().map(|device| MasterPipe::Closed { device });
    // For a process of another pid namespace CRIU looks at itself.
    if pid == 0 {
        return closed();
    }
    let dir = match proc.process(pid) {
        Seen::Seen(dir) => dir,
        Seen::Gone => return Ok(MasterPipe::Gone),
        Seen::Denied(errno) => return Err(errno),
    };
    let fds = known(dir.listing(c"fd"))?;
    let (mut open, mut failed, text) = (false, None, &mut b.text);
    let listed = fds.each(&mut b.dents, |name| {
        if !open {
            match reads(&dir, &fds, name, ino, text) {
                Seen::Seen(reads) => open = reads,
                Seen::Gone => {}
                Seen::Denied(errno) => failed = Some(errno),
            }
        }
    });
    match (open, failed, listed) {
        (true, ..) => Ok(MasterPipe::Open),
        (false, Some(errno), _) => Err(errno),
        (false, None, listed) => known(listed).and_then(|()| closed()),
    }
}

/// What is gone while it is asked about tells nothing either.
fn known<T>(seen: Seen<T>) -> Result<T, i32> {
    match seen {
        Seen::Seen(value) => Ok(value),
        Seen::Gone => Err(libc::ENOENT),
        Seen::Denied(errno) => Err(errno),
    }
}

/// Whether a descriptor is the pipe, and not open for writing only.
fn reads(dir: &Dir, fds: &Dir, name: &CStr, ino: u64, text: &mut Vec<u8>) -> Seen<bool> {
    match fds.stat(name) {
        Seen::Seen(file) if file.is_fifo() && file.ino == ino => {}
        other => return other.map(|_| false),
    }
    let Some(path) = number(name).and_then(|fd| CString::new(format!("fdinfo/{fd}")).ok()) else { return Seen::Gone };
    let reading = |text: &[u8]| fdinfo::parse(text).flags.is_some_and(|flags| flags & libc::O_WRONLY as u32 == 0);
    dir.read(&path, text).map(reading)
}

/// Not asked where a server of the tree would have to answer.
fn has_device(root: &Root) -> Result<bool, i32> {
    if root.may_wait(b"/dev/autofs") {
        return Err(libc::EAGAIN);
    }
    let found = sys::open_path(&root.fd, c"dev/autofs").and_then(|fd| sys::statx(fd, c""));
    match sys::answer(found, &[Errno::ENOENT, Errno::ENOTDIR]) {
        Ok(Ok(file)) => Ok(file.is_chrdev() && file.rdev == Dev::AUTOFS),
        Ok(Err(_)) => Ok(false),
        Err(errno) => Err(errno as i32),
    }
}
