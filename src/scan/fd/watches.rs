//! What becomes of the file handles of inotify and fanotify watches: which of them open, and whether a path leads to what opens.
//! What CRIU makes of that is the matter of [`crate::criu_model::watches`].
//!
//! Handles are opened as CRIU does, but only with O_PATH and never on a file system with a server. Only a tree with a watch
//! pays for it. There may be half a million watches, and a search lists whole directories: a handle is tried on no more
//! mounts, and a search made no oftener, than the model needs to decide.
//!
//! Directories have to be opened for that, and a watcher of one may be notified. CRIU's dump notifies it as well; but as
//! long as the dump may still be refused before it, a directory of which a watcher in the tree would be notified is left alone.

mod search;
mod would_notify;

use crate::criu::{Host, Stage};
use crate::criu_model::watches;
use crate::hash::Map;
use crate::parse::fdinfo::{FanotifyObject, FdInfo, FileHandle};
use crate::parse::mountinfo::MountInfo;
use crate::scan::fd::paths::{has_server, Root, Roots};
use crate::scan::passes::PassContext;
use crate::scan::sys;
use crate::snapshot::{Detail, Dev, HandleAnswers, MountTable, OpenFile, ScanPhase, SearchAnswer, Watch, WatchFacts};
use nix::errno::Errno;
use search::{c_path, is_absent, path_of, reopen, Search};
use std::os::fd::OwnedFd;
use would_notify::WouldNotify;

/// Handles opened in one look; what is left then is not known.
const MAX_HANDLES: usize = 100_000;

/// Directories held open at a time.
const MAX_PLACES: usize = 16;

/// The watched inodes of a descriptor, in the order of its fdinfo: device, inode, handle.
fn watched(info: &FdInfo) -> impl Iterator<Item = (Dev, u64, Option<&FileHandle>)> {
    let inotify = info.inotify.iter().map(|w| (Dev::from_sdev(w.sdev), w.ino, w.handle.as_ref()));
    let fanotify = info.fanotify_marks.iter().filter_map(|m| match &m.on {
        FanotifyObject::Inode { ino, sdev, handle } => Some((Dev::from_sdev(*sdev), *ino, handle.as_ref())),
        _ => None,
    });
    inotify.chain(fanotify)
}

fn has_watches(file: &OpenFile) -> bool {
    file.info.as_ref().is_some_and(|info| watched(info).next().is_some())
}

/// Fills in the details of inotify and fanotify descriptors.
pub(crate) fn collect(cx: &mut PassContext) {
    let PassContext { snap, proc, host, .. } = cx;
    if !snap.tasks.iter().flat_map(|t| &t.files).any(has_watches) {
        return;
    }
    // The command's look is the only one there will be.
    let quiet = snap.look == ScanPhase::Early && host.caps.checkpoint_hook && host.stage != Stage::DryRun;
    let would_notify = if quiet { WouldNotify::of(snap) } else { WouldNotify::default() };
    let mut tasks = std::mem::take(&mut snap.tasks);
    let root_ns = tasks.first().and_then(|t| t.ns.mnt);
    let tables = watches::tables(snap, root_ns);
    let mut look = HandleReader {
        first: tables.first().copied(),
        mounts: watches::tried_mounts(&tables, host),
        roots: Roots::new(proc, snap, &tasks),
        host,
        would_notify,
        places: Map::default(),
        known: Map::default(),
        handles: 0,
        search: None,
    };
    for file in tasks.iter_mut().flat_map(|t| &mut t.files).filter(|f| has_watches(f)) {
        let Some(info) = &file.info else { continue };
        let watches = watched(info).map(|(dev, ino, handle)| look.watch(dev, ino, handle)).collect();
        file.detail = Some(Box::new(Detail::Watch(WatchFacts { watches, unread: None })));
    }
    snap.tasks = tasks;
}

struct HandleReader<'a> {
    /// The root task's mounts.
    first: Option<&'a MountTable>,
    mounts: watches::Mounts<'a>,
    roots: Roots<'a>,
    host: &'a Host,
    /// Directories that are not opened.
    would_notify: WouldNotify,
    /// The directories that were opened, by mount.
    places: Map<i32, Place>,
    /// What became of an inode that was asked for before.
    known: Map<(Dev, u64), Watch>,
    /// Handles opened so far.
    handles: usize,
    /// Made with the first need.
    search: Option<Search>,
}

/// The directory on which handles of a mount are opened.
enum Place {
    Open(OwnedFd),
    /// The mount is not there: it is no directory, or hidden by another.
    No,
    Unknown,
    /// Opening it would notify a watcher.
    Deferred,
}

/// How a handle fared on one mount.
enum Opened {
    Path,
    NoPath,
    No,
    Unknown,
    Deferred,
}

impl HandleReader<'_> {
    fn watch(&mut self, dev: Dev, ino: u64, handle: Option<&FileHandle>) -> Watch {
        let mut watch = Watch { dev, ino, ..Watch::default() };
        let Some(handle) = handle else { return watch };
        if let Some(known) = self.known.get(&(dev, ino)) {
            return *known;
        }
        watch.handle = Some(self.open(dev, ino, handle));
        if watches::is_searched_for(&watch, self.host) {
            watch.search = Some(self.searched(dev, ino));
        }
        self.known.insert((dev, ino), watch);
        watch
    }

    fn searched(&mut self, dev: Dev, ino: u64) -> SearchAnswer {
        let (first, roots) = (self.first, &mut self.roots);
        let search = self
            .search
            .get_or_insert_with(|| Search::whole(first.and_then(|t| roots.of(t)), self.host, &self.would_notify));
        search.answer(dev, ino)
    }

    fn open(&mut self, dev: Dev, ino: u64, handle: &FileHandle) -> HandleAnswers {
        let mut answers = HandleAnswers::default();
        for (table, mount) in self.mounts.get(&dev).into_iter().flatten() {
            if self.handles >= MAX_HANDLES {
                answers.unknown = true;
                break;
            }
            self.handles = self.handles.saturating_add(1);
            let Some(root) = self.roots.of(table) else {
                answers.unknown = true;
                continue;
            };
            if self.places.len() >= MAX_PLACES {
                self.places.clear();
            }
            let place = self.places.entry(mount.mnt_id).or_insert_with(|| place(root, mount, &self.would_notify));
            match by_handle(root, place, ino, handle) {
                // The first decides.
                Opened::Path => {
                    answers.path = true;
                    break;
                }
                Opened::NoPath => answers.no_path = true,
                Opened::No => {}
                Opened::Unknown => answers.unknown = true,
                Opened::Deferred => answers.deferred = true,
            }
        }
        answers
    }
}

fn place(root: &Root, mount: &MountInfo, would_notify: &WouldNotify) -> Place {
    if has_server(&mount.fstype) || root.may_wait(&mount.mountpoint) {
        return Place::Unknown;
    }
    let Some(at) = c_path(&mount.mountpoint) else { return Place::Unknown };
    let there = match sys::open_path(&root.fd, &at) {
        Ok(there) => there,
        Err(e) if is_absent(e) => return Place::No,
        Err(_) => return Place::Unknown,
    };
    match sys::statx(&there, c"") {
        // CRIU passes over what is no directory, and notices by the device what is hidden.
        Ok(f) if f.kind() != libc::S_IFDIR => return Place::No,
        Ok(f) if f.mnt_id.is_some_and(|id| Ok(id) != u64::try_from(mount.mnt_id)) => return Place::No,
        Ok(f) if would_notify.has(Dev { major: mount.major, minor: mount.minor }, &f) => return Place::Deferred,
        Ok(_) => {}
        Err(_) => return Place::Unknown,
    }
    reopen(&there).map_or(Place::Unknown, Place::Open)
}

/// Opens the handle on one mount, and the path that it shows.
fn by_handle(root: &Root, place: &Place, ino: u64, handle: &FileHandle) -> Opened {
    let dir = match place {
        Place::Open(dir) => dir,
        Place::No => return Opened::No,
        Place::Unknown => return Opened::Unknown,
        Place::Deferred => return Opened::Deferred,
    };
    let bytes: &[u8] = &handle.handle;
    let bytes = bytes.get(..usize::try_from(handle.len).unwrap_or(usize::MAX)).unwrap_or(bytes);
    let found = match sys::open_by_handle(dir, handle.handle_type, bytes) {
        Ok(found) => found,
        // The file system does not know the handle, or has none (`handle_to_path`, fs/fhandle.c).
        Err(Errno::ESTALE | Errno::ENOENT | Errno::EOPNOTSUPP) => return Opened::No,
        Err(_) => return Opened::Unknown,
    };
    let Some(text) = path_of(&found).filter(|text| !root.may_wait(text)) else { return Opened::Unknown };
    let Some(path) = c_path(&text) else { return Opened::Unknown };
    match sys::open_path(&root.fd, &path).and_then(|fd| sys::statx(fd, c"")) {
        // Without O_NOFOLLOW, CRIU lands behind a symbolic link.
        Ok(f) if f.ino == ino && f.kind() != libc::S_IFLNK => Opened::Path,
        Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR) => Opened::NoPath,
        Err(_) => Opened::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::criu_model::watches::WatchResolution;
    use crate::rules::testkit;
    use std::os::fd::{AsRawFd, FromRawFd};

    /// How a watch of our own on the root directory fares.
    fn watch(mask: u32, look: ScanPhase, host: &Host) -> WatchResolution {
        // SAFETY: a new descriptor that no other code knows.
        let inotify = unsafe { OwnedFd::from_raw_fd(libc::inotify_init1(libc::IN_CLOEXEC)) };
        // SAFETY: reads the name.
        assert_ne!(unsafe { libc::inotify_add_watch(inotify.as_raw_fd(), c"/".as_ptr(), mask) }, -1);
        let snap = crate::scan::collect_once(std::process::id().cast_signed(), look, host).unwrap();
        let file = snap.tasks[0].files.iter().find(|f| f.fd() == Some(inotify.as_raw_fd())).unwrap();
        match file.detail.as_deref() {
            Some(Detail::Watch(facts)) => watches::resolution(&facts.watches[0], host),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn no_watcher_is_notified_before_the_dump_is_certain() {
        let (mut host, mask) = (testkit::host(), libc::IN_OPEN);
        host.caps.checkpoint_hook = true;
        let quiet = watch(libc::IN_DELETE, ScanPhase::Early, &host);
        if matches!(quiet, WatchResolution::Nowhere | WatchResolution::Unknown) {
            println!("skip: the root directory is not opened by its handle: {quiet:?}");
            return;
        }
        assert_ne!(quiet, WatchResolution::Later);
        assert_eq!(watch(mask, ScanPhase::Early, &host), WatchResolution::Later);
        assert_eq!(watch(mask, ScanPhase::Frozen, &host), quiet);
        // There is no later look.
        let dry = Host { stage: Stage::DryRun, ..host.clone() };
        assert_eq!(watch(mask, ScanPhase::Early, &dry), quiet);
        host.caps.checkpoint_hook = false;
        assert_eq!(watch(mask, ScanPhase::Early, &host), quiet);
    }
}
