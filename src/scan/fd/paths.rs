//! Where the path of an open file leads to: the stat that CRIU makes of it from the root of its mount namespace
//! (`check_path_remap`, criu/files-reg.c), and the one of the directory in which it would make another name. What it makes of
//! them is the matter of [`crate::criu_model::paths`].
//!
//! Nothing here can wait for a file server: a path that goes through a mount of a kind that has one is not looked up, and
//! in a frozen tree symbolic links are not followed (the kernel's text for an open file has none, unless the tree has changed).

use crate::bytes::Bytes;
use crate::hash::{Map, Set};
use crate::scan::fd::right_paths::Covers;
use crate::scan::passes::PassContext;
use crate::scan::proc::{owned, Buffers, Dir};
use crate::scan::{sys, Seen, UncheckedList};
use crate::snapshot::{Dev, MountTable, OpenFile, Origin, PathMismatch, Probe, ScanPhase, Snapshot, Task};
use nix::errno::Errno;
use std::collections::HashMap;
use std::ffi::CString;

/// Whether a look-up on such a file system may have to wait for somebody, who may be a frozen task of the tree.
pub(crate) fn has_server(fstype: &[u8]) -> bool {
    const NAMES: [&[u8]; 19] = [
        b"fuse",
        b"fuseblk",
        b"virtiofs",
        b"nfs",
        b"nfs4",
        b"autofs",
        b"9p",
        b"cifs",
        b"smb3",
        b"smbfs",
        b"afs",
        b"ceph",
        b"coda",
        b"orangefs",
        b"gfs2",
        b"ocfs2",
        b"lustre",
        b"glusterfs",
        b"beegfs",
    ];
    NAMES.contains(&fstype)
}

/// path is below, or the same as, base.
pub(crate) fn is_below(path: &[u8], base: &[u8]) -> bool {
    let base = base.strip_suffix(b"/").unwrap_or(base);
    path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Where the paths of a mount namespace begin.
pub(crate) struct Root {
    pub fd: Dir,
    /// Mountpoints behind which a file server may be asked, without a slash at the end.
    servers: Set<Vec<u8>>,
}

impl Root {
    /// Whether looking this path up could wait for a file server.
    pub(crate) fn may_wait(&self, path: &[u8]) -> bool {
        let ends = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at).chain([path.len()]);
        !self.servers.is_empty() && ends.filter_map(|end| path.get(..end)).any(|above| self.servers.contains(above))
    }
}

/// The roots of the namespaces of a snapshot, opened with the first need.
pub(crate) struct Roots<'a> {
    proc: &'a Dir,
    /// The root task shares CRIU's namespace: then CRIU looks up every path from its own root.
    shared: bool,
    open: HashMap<u64, Option<Root>>,
    /// Why one could not be opened, for the log.
    denied: Option<i32>,
}

impl<'a> Roots<'a> {
    pub(crate) fn new(proc: &'a Dir, snap: &Snapshot, tasks: &[Task]) -> Self {
        let root = tasks.first().and_then(|t| t.ns.mnt);
        Roots { proc, shared: root == snap.criu.ns.mnt, open: HashMap::new(), denied: None }
    }

    /// Mountpoints behind which a file server may be asked.
    pub(crate) fn servers(table: &MountTable) -> impl Iterator<Item = &Bytes> {
        table.mounts.iter().filter(|m| has_server(&m.fstype)).map(|m| &m.mountpoint)
    }

    /// Where CRIU looks up the paths of files on the mounts of this table.
    pub(crate) fn of(&mut self, table: &MountTable) -> Option<&Root> {
        let (proc, shared, denied) = (self.proc, self.shared, &mut self.denied);
        let open = || {
            let name = if shared { c"self/root".into() } else { CString::new(format!("{}/root", table.pid)).ok()? };
            let fd = match proc.dir(&name) {
                Seen::Seen(fd) => fd,
                Seen::Gone => return None,
                Seen::Denied(errno) => {
                    *denied = Some(errno);
                    return None;
                }
            };
            let servers = Roots::servers(table).map(|at| at.strip_suffix(b"/").unwrap_or(at).to_vec()).collect();
            Some(Root { fd, servers })
        };
        self.open.entry(table.ns).or_insert_with(open).as_ref()
    }
}

/// A file by what would change if its name went: which name it is, device, inode, mount, time of the inode's last change.
pub(crate) type Key = (Name, Dev, u64, u64, (i64, u32));

/// Which name of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Name {
    /// That of the descriptor with this number (of the same open file in a forked child).
    Fd(i32),
    /// That of a descriptor in a queue.
    Queued(u32),
    /// The only one.
    Only,
    /// That of a mapping or of a program.
    Mapped,
}

impl Name {
    fn of(file: &OpenFile) -> Name {
        match &file.origin {
            Origin::Fd(fd) => Name::Fd(*fd),
            Origin::Queued(at) => Name::Queued(at.nth),
            Origin::Link => Name::Mapped,
        }
    }
}

/// What became of a path; an error: that is not known.
type Found = Result<Option<Wrong>, ()>;

/// The text, and where it leads to instead.
type Wrong = (Bytes, PathMismatch);

/// Fills in [`OpenFile::mismatch`], and the link of each file that has one. What the look at the running tree has seen to be
/// right the frozen one does not ask again.
pub(crate) fn collect(cx: &mut PassContext) {
    let PassContext { snap, proc, cache, b, log, .. } = cx;
    let right = &mut cache.right_paths;
    let before = if snap.look == ScanPhase::Frozen { right.take(&snap.mounts) } else { Set::default() };
    let mut tasks = std::mem::take(&mut snap.tasks);
    let mut roots = Roots::new(proc, snap, &tasks);
    let mut look = PathReader {
        look: snap.look,
        tables: &snap.mounts,
        mounts: mounts(&snap.mounts),
        roots: &mut roots,
        known: Map::default(),
        covers: Covers::of(if snap.look == ScanPhase::Early { &snap.mounts } else { &[] }),
        doubtful: Set::default(),
        before,
        b,
        log,
    };
    for task in tasks.iter_mut().filter(|t| !t.is_zombie()) {
        look.task(task, proc);
    }
    if snap.look == ScanPhase::Early {
        let PathReader { known, doubtful, .. } = look;
        let found = known.into_iter().filter(|(key, found)| *found == Ok(None) && key.0 != Name::Mapped);
        right.keep(found.map(|(key, _)| key).filter(|key| !doubtful.contains(key)), &snap.mounts);
    }
    snap.tasks = tasks;
}

/// Mounts whose files have paths to look up: id -> index of the table.
fn mounts(tables: &[MountTable]) -> Map<u64, usize> {
    let of = |(i, t): (usize, &'_ MountTable)| -> Vec<(u64, usize)> {
        let plain = t.mounts.iter().filter(|m| !has_server(&m.fstype));
        let plain = plain.filter(|m| !matches!(&*m.fstype.0, b"proc" | b"devpts"));
        plain.filter_map(|m| Some((u64::try_from(m.mnt_id).ok()?, i))).collect()
    };
    tables.iter().enumerate().flat_map(of).collect()
}

struct PathReader<'a, 'r> {
    look: ScanPhase,
    tables: &'a [MountTable],
    mounts: Map<u64, usize>,
    roots: &'a mut Roots<'r>,
    known: Map<Key, Found>,
    /// Of what is to be asked again, though nothing was found.
    covers: Covers<'a>,
    doubtful: Set<Key>,
    before: Set<Key>,
    b: &'a mut Buffers,
    log: &'a mut UncheckedList,
}

impl PathReader<'_, '_> {
    fn task(&mut self, task: &mut Task, proc: &Dir) {
        let mut dir = None;
        let pid = task.pid;
        for file in &mut task.files {
            let name = match file.kind() {
                libc::S_IFREG | libc::S_IFLNK => Name::of(file),
                libc::S_IFDIR | libc::S_IFCHR => Name::Only,
                libc::S_IFIFO if file.link.as_deref().is_some_and(|l| l.starts_with(b"/")) => Name::of(file),
                _ => continue,
            };
            let Some(key) = self.key(file, name) else { continue };
            if self.before.contains(&key) {
                continue;
            }
            if !self.known.contains_key(&key) {
                let text = match &file.link {
                    Some(link) => Some(link.clone()),
                    None => {
                        let Some(fd) = file.fd() else { continue };
                        let log = &mut *self.log;
                        let dir = dir.get_or_insert_with(|| log.take(proc.process(pid), pid, None, Probe::Process));
                        let name = CString::new(format!("fd/{fd}")).unwrap_or_default();
                        let Some(dir) = dir else { continue };
                        self.log.take(dir.link(&name, &mut self.b.link), pid, Some(fd), Probe::FdLink).map(owned)
                    }
                };
                if !text.as_ref().is_some_and(|text| self.covers.leave(file, text)) {
                    self.doubtful.insert(key);
                }
                let found = text.ok_or(()).and_then(|text| self.mismatch(pid, file, &text));
                self.known.insert(key, found);
            }
            if let Some(Ok(Some((text, mismatch)))) = self.known.get(&key) {
                file.link.get_or_insert_with(|| text.clone());
                file.mismatch = Some(*mismatch);
            }
        }
        for m in &mut task.maps {
            let Some(file) = &mut m.file else { continue };
            if !matches!(file.kind(), libc::S_IFREG | libc::S_IFCHR) {
                continue;
            }
            let Some(key) = self.key(file, Name::Mapped) else { continue };
            if !self.known.contains_key(&key) {
                let text = m.vma.unescaped();
                let found = self.mismatch(pid, file, &text);
                self.known.insert(key, found);
            }
            if let Some(Ok(Some((text, mismatch)))) = self.known.get(&key) {
                file.link.get_or_insert_with(|| text.clone());
                file.mismatch = Some(*mismatch);
            }
        }
        for link in [&mut task.exe, &mut task.cwd, &mut task.root].into_iter().flatten() {
            let Some(file) = &mut link.file else { continue };
            let name = if file.kind() == libc::S_IFDIR { Name::Only } else { Name::Mapped };
            let Some(key) = self.key(file, name) else { continue };
            if self.before.contains(&key) {
                continue;
            }
            if !self.known.contains_key(&key) {
                if !self.covers.leave(file, &link.text) {
                    self.doubtful.insert(key);
                }
                let found = self.mismatch(pid, file, &link.text);
                self.known.insert(key, found);
            }
            if let Some(Ok(Some((_, mismatch)))) = self.known.get(&key) {
                file.mismatch = Some(*mismatch);
            }
        }
    }

    /// `None`: nothing that CRIU would look up, or that we may.
    fn key(&self, file: &OpenFile, name: Name) -> Option<Key> {
        let mnt_id = file.attr.mnt_id?;
        (file.attr.nlink > 0 && self.mounts.contains_key(&mnt_id)).then_some((
            name,
            file.attr.dev,
            file.attr.ino,
            mnt_id,
            file.attr.ctime,
        ))
    }

    fn mismatch(&mut self, pid: i32, file: &OpenFile, text: &[u8]) -> Found {
        let nth = file.attr.mnt_id.and_then(|id| self.mounts.get(&id)).copied();
        let root = nth.and_then(|nth| self.tables.get(nth)).and_then(|table| self.roots.of(table));
        // Who is gone has no paths.
        let found = root.ok_or(NOT_ASKED).and_then(|root| mismatch(root, file, text, self.look));
        if let Some(errno) = self.roots.denied.take() {
            self.log.deny(pid, None, Probe::Root, errno);
        }
        match found {
            Ok(found) => Ok(found.map(|mismatch| (text.into(), mismatch))),
            // Known to be beyond us: a server would have to be asked, a symbolic link to be followed.
            Err(NOT_ASKED | Errno::ELOOP) => Err(()),
            Err(errno) => {
                self.log.deny(pid, file.fd(), Probe::Path, errno as i32);
                Err(())
            }
        }
    }
}

/// A file server would have to be asked: no look-up that is made here ends with this.
const NOT_ASKED: Errno = Errno::EREMOTE;

/// Where a path leads to, if not to the file. [`NOT_ASKED`]; ELOOP: a symbolic link is on the way. Other errors are no answer
/// either.
pub(crate) fn mismatch(
    root: &Root,
    file: &OpenFile,
    text: &[u8],
    look: ScanPhase,
) -> nix::Result<Option<PathMismatch>> {
    let Some(below) = text.strip_prefix(b"/") else { return Ok(None) };
    // CRIU cannot even read it, and a "." before it makes it too long for any look-up.
    if text.len() >= nix::libc::PATH_MAX as usize - 1 {
        return Ok(Some(PathMismatch::Errno(Errno::ENAMETOOLONG as i32)));
    }
    if root.may_wait(text) {
        return Err(NOT_ASKED);
    }
    let Ok(path) = CString::new(if below.is_empty() { b"." } else { below }) else { return Ok(None) };
    // One call while a file server behind a link could still answer, three when it may be frozen.
    let stat = match look {
        ScanPhase::Early => sys::lstatx(&root.fd, &path),
        ScanPhase::Frozen => sys::open_path(&root.fd, &path).and_then(|fd| sys::statx(fd, c"")),
    };
    const WRONG: [Errno; 5] = [Errno::ENOENT, Errno::ENOTDIR, Errno::EACCES, Errno::ESTALE, Errno::ENAMETOOLONG];
    let found = match sys::answer(stat, &WRONG)? {
        Ok(found) => found,
        Err(Errno::ENOENT) => return Ok(Some(PathMismatch::NoEntry { above: mount_above(root, text)? })),
        Err(errno) => return Ok(Some(PathMismatch::Errno(errno as i32))),
    };
    if (found.dev, found.ino) == (file.attr.dev, file.attr.ino)
        || (found.kind() == libc::S_IFLNK && found.kind() != file.kind())
    {
        return Ok(None);
    }
    Ok(Some(PathMismatch::Replaced { dev: found.dev, ino: found.ino, rdev: found.rdev }))
}

/// The mount of the first directory there is of those that were above a path.
fn mount_above(root: &Root, text: &[u8]) -> nix::Result<Option<u64>> {
    let mut path = text;
    while let Some(slash) = path.iter().rposition(|b| *b == b'/') {
        path = path.get(..slash).unwrap_or_default();
        let below = path.strip_prefix(b"/").unwrap_or(path);
        let Ok(dir) = CString::new(if below.is_empty() { b"." } else { below }) else { return Ok(None) };
        let found = sys::open_path(&root.fd, &dir).and_then(|fd| sys::statx(fd, c""));
        match sys::answer(found, &[Errno::ENOENT, Errno::ENOTDIR, Errno::EACCES, Errno::ELOOP])? {
            Ok(dir) => return Ok(dir.mnt_id),
            Err(Errno::ENOENT) => {}
            Err(_) => return Ok(None),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn who_may_wait_is_who_is_below_a_server(
            servers in prop::collection::vec("(/[ab]{1,2}){0,3}/?", 0..4),
            path in "(/[ab]{0,2}){0,4}",
        ) {
            let kept = servers.iter().map(|at| at.strip_suffix('/').unwrap_or(at).as_bytes().to_vec());
            let root = Root { fd: Dir::proc().unwrap(), servers: kept.collect() };
            let below = servers.iter().any(|at| is_below(path.as_bytes(), at.as_bytes()));
            prop_assert_eq!(root.may_wait(path.as_bytes()), below);
        }
    }
}
