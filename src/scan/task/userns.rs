//! The user namespace of a task: its id maps, its maker, and which of the task's other namespaces belong to it.
//!
//! The files of /proc/PID/ns are opened for that, which lasts as long as the question and is not seen.

use crate::parse::capability::{self, CAP_SYS_RESOURCE};
use crate::parse::idmap;
use crate::scan::passes::PassContext;
use crate::scan::sys;
use crate::snapshot::{Namespaces, Probe, UserNs};
use nix::errno::Errno;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `_IO(0xb7, n)` (linux/nsfs.h), Linux 4.9 and 4.11.
const NS_GET_USERNS: libc::Ioctl = 0xb701 as libc::Ioctl;
const NS_GET_OWNER_UID: libc::Ioctl = 0xb704 as libc::Ioctl;

/// Fills in [`crate::snapshot::Task::userns`] of the tasks outside of our user namespace: the root, and the others where
/// it makes a difference who made theirs.
pub(crate) fn collect(cx: &mut PassContext) {
    let PassContext { snap, proc, b, log, .. } = cx;
    let Some(ours) = snap.criu.ns.user else { return };
    let root = snap.root;
    let everyone = snap.criu.cap_eff.is_none_or(|caps| !capability::has(caps, CAP_SYS_RESOURCE));
    for task in snap.tasks.iter_mut().filter(|t| (everyone || t.pid == root) && t.ns.user.is_some_and(|n| n != ours)) {
        let Some(dir) = log.take(proc.process(task.pid), task.pid, None, Probe::Process) else { continue };
        let mut map =
            |name: &CStr, probe| dir.read_or_log(name, probe, &mut b.text, log).map(|text| idmap::parse(text).items);
        let (Some(uid_map), Some(gid_map)) = (map(c"uid_map", Probe::UidMap), map(c"gid_map", Probe::GidMap)) else {
            continue;
        };
        let Some(ns) = log.take(dir.dir(c"ns"), task.pid, None, Probe::Namespaces) else { continue };
        let mut open = |name: &CStr| log.take(ns.namespace(name), task.pid, None, Probe::Namespaces);
        let owner_uid = open(c"user").and_then(|user| owner_uid(&user).ok());
        let mut owner = |name: &CStr| owner(&open(name)?).ok();
        let owners = Namespaces {
            mnt: owner(c"mnt"),
            net: owner(c"net"),
            ipc: owner(c"ipc"),
            uts: owner(c"uts"),
            time: owner(c"time"),
            ..Namespaces::default()
        };
        task.userns = Some(Box::new(UserNs { uid_map, gid_map, owner_uid, owners }));
    }
}

/// The inode of the user namespace that a namespace belongs to. EPERM: it is above our own.
fn owner(ns: &OwnedFd) -> nix::Result<u64> {
    // SAFETY: the request takes no argument.
    let fd = Errno::result(unsafe { libc::ioctl(ns.as_raw_fd(), NS_GET_USERNS) })?;
    // SAFETY: the kernel has just made it (close-on-exec); no other code knows it.
    let user = unsafe { OwnedFd::from_raw_fd(fd) };
    sys::statx(&user, c"").map(|file| file.ino)
}

/// Who made a user namespace.
fn owner_uid(user: &OwnedFd) -> nix::Result<u32> {
    let mut uid: libc::uid_t = 0;
    // SAFETY: the request writes one uid_t.
    Errno::result(unsafe { libc::ioctl(user.as_raw_fd(), NS_GET_OWNER_UID, &mut uid) })?;
    Ok(uid)
}
