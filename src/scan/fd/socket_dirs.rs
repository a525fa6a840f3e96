//! The directories in which a restore binds the UNIX sockets of the tree again: whether they are there, and on which mount. What
//! follows from it is the matter of [`crate::rules::sockets::unix_dir`].
//!
//! A look-up follows no symbolic link, and asks no file server: what is behind one is not known.

use crate::bytes::Bytes;
use crate::criu_model::unix_names::{directory, is_bound_again};
use crate::hash::Map;
use crate::scan::fd::paths::Roots;
use crate::scan::passes::PassContext;
use crate::scan::sys;
use crate::snapshot::{Answer, Detail, Index, OpenFile, Probe, Snapshot, Socket};
use nix::errno::Errno;
use std::ffi::CString;

/// Fills in `UnixFacts::dir`.
pub(crate) fn collect(cx: &mut PassContext) {
    let PassContext { snap, proc, log, .. } = cx;
    let names = directories(snap);
    if names.is_empty() {
        return;
    }
    let mut roots = Roots::new(proc, snap, &snap.tasks);
    let of_root = snap.root_task().and_then(|root| root.ns.mnt);
    let Some(table) = snap.mounts.iter().find(|table| Some(table.ns) == of_root) else { return };
    let Some(root) = roots.of(table) else { return };
    let mut known: Map<&Bytes, Answer<u64>> = Map::default();
    let mut found: Map<u64, Answer<u64>> = Map::default();
    for (pid, fd, ino, dir) in &names {
        let answer = known.entry(dir).or_insert_with(|| {
            let path = dir.strip_prefix(b"/").filter(|below| !below.is_empty()).unwrap_or(b".");
            let Some(path) = CString::new(path).ok().filter(|_| !root.may_wait(dir)) else { return Answer::Unknown };
            let found = sys::open_path(&root.fd, &path).and_then(|fd| sys::statx(fd, c""));
            match sys::answer(found, &[Errno::ENOENT, Errno::ENOTDIR]) {
                Ok(Ok(attr)) if attr.kind() == libc::S_IFDIR => attr.mnt_id.map_or(Answer::Unknown, Answer::Is),
                Ok(Ok(_)) => Answer::Errno(libc::ENOTDIR),
                Ok(Err(errno)) => Answer::Errno(errno as i32),
                Err(Errno::ELOOP) => Answer::Unknown,
                Err(errno) => {
                    log.deny(*pid, *fd, Probe::Path, errno as i32);
                    Answer::Unknown
                }
            }
        });
        found.insert(*ino, *answer);
    }
    for file in snap.tasks.iter_mut().flat_map(|t| &mut t.files) {
        let answer = found.get(&file.attr.ino).filter(|_| file.is_socket()).copied();
        if let (Some(answer), Some(Detail::Socket(facts))) = (answer, file.detail.as_deref_mut()) {
            facts.unix.dir = answer;
        }
    }
}

/// Process, descriptor and inode of the sockets that are bound again in a directory of the root task's mount namespace.
fn directories(snap: &Snapshot) -> Vec<(i32, Option<i32>, u64, Bytes)> {
    // Of several namespaces it is not known in which one a socket was bound.
    let of_root = snap.root_task().and_then(|root| root.ns.mnt);
    if of_root.is_none() || snap.live_tasks().any(|task| task.ns.mnt != of_root) {
        return Vec::new();
    }
    let index = Index::new(snap);
    let one = |file: &OpenFile| {
        let Some((_, Socket::Unix(socket))) = index.socket(file.attr.ino) else { return None };
        let bound = file.socket()?.unix.file.is()?;
        let dir = directory(socket.path()?, bound).filter(|_| is_bound_again(socket))?;
        Some((file.attr.ino, dir))
    };
    let files = snap.live_tasks().flat_map(|task| task.files.iter().map(move |file| (task.pid, file)));
    files.filter_map(|(pid, file)| one(file).map(|(ino, dir)| (pid, file.fd(), ino, dir))).collect()
}
