//! Whether CRIU will find the inodes that inotify and fanotify watch (`check_open_handle`, criu/fsnotify.c).
//!
//! CRIU opens the file handle of each watch on the mounts of its device; where that fails it searches a fixed list of
//! directories and those of `--irmap-scan-path` (criu/irmap.c). Both are done here the same way, only O_PATH for what is
//! found, and never on a file system with a server. Only a tree with a watch pays for it.
//!
//! Directories have to be opened for that, and whoever watches one may be told so. CRIU's dump tells it as well; but as
//! long as the dump may still be refused before it, a directory of which somebody in the tree would be told is left alone.

use crate::bytes::Bytes;
use crate::criu::{Host, Release, Stage};
use crate::hash::{Map, Set};
use crate::parse::fdinfo::{FanotifyObject, FdInfo, FileHandle};
use crate::parse::mountinfo::MountInfo;
use crate::scan::fd::paths::{has_server, Root, Roots};
use crate::scan::passes::PassContext;
use crate::scan::sys;
use crate::snapshot::{Detail, Dev, MountTable, OpenFile, ScanPhase, Snapshot, Watch, WatchFacts, WatchResolution};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};

/// Where CRIU searches, with everything below; "/" itself is the last, without what is below it.
const HINTS: [&str; 8] = [
    "/etc",
    "/var/spool",
    "/var/log",
    "/usr/share/dbus-1/services",
    "/usr/share/dbus-1/system-services",
    "/var/lib/polkit-1/localauthority",
    "/usr/share/polkit-1/actions",
    "/lib/udev",
];
/// Names met in that search before it is given up as too long: then nothing is known.
const MAX_SEARCH: usize = 100_000;
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

/// Of which directories somebody in the tree is told that they were opened, read or closed.
#[derive(Default)]
struct WouldNotify {
    inodes: Set<(Dev, u64)>,
    mounts: Set<u64>,
    devices: Set<Dev>,
}

impl WouldNotify {
    /// `dev`: as mountinfo has it, or stat.
    fn has(&self, dev: Dev, dir: &OpenFile) -> bool {
        self.inodes.contains(&(dev, dir.ino))
            || self.devices.contains(&dev)
            || dir.mnt_id.is_some_and(|id| self.mounts.contains(&id))
    }
}

fn would_notify(snap: &Snapshot) -> WouldNotify {
    const TOLD: u32 = libc::IN_OPEN | libc::IN_ACCESS | libc::IN_CLOSE_NOWRITE;
    let infos = || snap.tasks.iter().flat_map(|t| &t.files).filter_map(|f| f.info.as_deref());
    let inotify =
        infos().flat_map(|i| &i.inotify).filter(|w| w.mask & TOLD != 0).map(|w| (Dev::from_sdev(w.sdev), w.ino));
    let fanotify = infos().flat_map(|i| &i.fanotify_marks).filter_map(|m| match m.on {
        FanotifyObject::Inode { ino, sdev, .. } => Some((Dev::from_sdev(sdev), ino)),
        _ => None,
    });
    let mut would_notify = WouldNotify { inodes: inotify.chain(fanotify).collect(), ..WouldNotify::default() };
    for mark in infos().flat_map(|i| &i.fanotify_marks) {
        match mark.on {
            FanotifyObject::Mount { mnt_id } => {
                would_notify.mounts.insert(u64::from(mnt_id));
            }
            FanotifyObject::Filesystem { sdev } => {
                would_notify.devices.insert(Dev::from_sdev(sdev));
            }
            _ => {}
        }
    }
    would_notify
}

fn has_watches(file: &OpenFile) -> bool {
    file.info.as_ref().is_some_and(|info| watched(info).next().is_some())
}

/// Fills in the details of inotify and fanotify descriptors.
pub fn collect(cx: &mut PassContext) {
    let PassContext { snap, proc, host, .. } = cx;
    if !snap.tasks.iter().flat_map(|t| &t.files).any(has_watches) {
        return;
    }
    // The command's look is the only one there will be.
    let quiet = snap.look == ScanPhase::Early && host.caps.checkpoint_hook && host.stage != Stage::DryRun;
    let would_notify = if quiet { would_notify(snap) } else { WouldNotify::default() };
    let mut tasks = std::mem::take(&mut snap.tasks);
    let root_ns = tasks.first().and_then(|t| t.ns.mnt);
    let tables: Vec<_> =
        snap.mounts.iter().filter(|t| Some(t.ns) == root_ns || Some(t.ns) != snap.criu.ns.mnt).collect();
    let mut look = WatchResolver {
        first: tables.first().copied(),
        mounts: by_device(&tables, host),
        roots: Roots::new(proc, snap, &tasks),
        host,
        would_notify,
        places: Map::default(),
        found: Map::default(),
        handles: 0,
        index: None,
    };
    for file in tasks.iter_mut().flat_map(|t| &mut t.files).filter(|f| has_watches(f)) {
        let Some(info) = &file.info else { continue };
        let resolved = watched(info).map(|(dev, ino, handle)| {
            let resolution = look.one(dev, ino, handle);
            Watch { dev, ino, has_handle: handle.is_some(), resolution }
        });
        file.detail = Some(Box::new(Detail::Watch(WatchFacts { watches: resolved.collect(), unread: None })));
    }
    snap.tasks = tasks;
}

/// Mounts of each device that CRIU tries, in its order, each with its table.
type Mounts<'a> = Map<Dev, Vec<(&'a MountTable, &'a MountInfo)>>;

/// `tables`: those CRIU collects, the root task's first.
fn by_device<'a>(tables: &[&'a MountTable], host: &Host) -> Mounts<'a> {
    let mut all = Mounts::default();
    for table in tables.iter().copied() {
        for mount in table.mounts.iter().filter(|m| !host.options.skips(&m.mountpoint)) {
            all.entry(Dev { major: mount.major, minor: mount.minor }).or_default().push((table, mount));
        }
    }
    all
}

struct WatchResolver<'a> {
    /// The root task's mounts.
    first: Option<&'a MountTable>,
    mounts: Mounts<'a>,
    roots: Roots<'a>,
    host: &'a Host,
    /// Directories that are not opened.
    would_notify: WouldNotify,
    /// The directories that were opened, by mount.
    places: Map<i32, Place>,
    /// What became of an inode that was asked for before.
    found: Map<(Dev, u64), WatchResolution>,
    /// Handles opened so far.
    handles: usize,
    /// All that is below the directories CRIU searches; made with the first need.
    index: Option<Search>,
}

struct Search {
    /// Names that may be met.
    most: usize,
    inodes: Set<(Dev, u64)>,
    /// Something could not be looked at.
    partial: bool,
    /// Some directory of it would have told.
    would_notify: bool,
    /// Names looked at.
    count: usize,
}

/// The directory on which handles of a mount are opened.
enum Place {
    Open(OwnedFd),
    /// CRIU passes the mount over.
    No,
    Unknown,
    /// Opening it would notify a watcher.
    Later,
}

/// How the handle fared on the mounts.
enum Opened {
    Path,
    NoPath,
    No,
    Unknown,
    Later,
}

impl WatchResolver<'_> {
    fn one(&mut self, dev: Dev, ino: u64, handle: Option<&FileHandle>) -> WatchResolution {
        // Without a handle CRIU does not understand the line at all.
        let Some(handle) = handle else { return WatchResolution::Nowhere };
        if let Some(known) = self.found.get(&(dev, ino)) {
            return *known;
        }
        let result = match self.open(dev, ino, handle) {
            Opened::Path => WatchResolution::Path,
            Opened::NoPath if self.host.options.force_irmap != Some(true) => WatchResolution::NoPath,
            Opened::NoPath => self.irmap(dev, ino, WatchResolution::Lost),
            Opened::Unknown => WatchResolution::Unknown,
            Opened::Later => WatchResolution::Later,
            Opened::No => self.irmap(dev, ino, WatchResolution::Nowhere),
        };
        self.found.insert((dev, ino), result);
        result
    }

    /// irmap_lookup.
    fn irmap(&mut self, dev: Dev, ino: u64, not_found: WatchResolution) -> WatchResolution {
        let search = self.search();
        match (search.inodes.contains(&(dev, ino)), search.partial) {
            (true, _) => WatchResolution::Irmap,
            _ if search.would_notify => WatchResolution::Later,
            (false, true) => WatchResolution::Unknown,
            (false, false) => not_found,
        }
    }

    /// alloc_openable.
    fn open(&mut self, dev: Dev, ino: u64, handle: &FileHandle) -> Opened {
        let mut opened = false;
        let (mut unknown, mut later) = (false, false);
        for (table, mount) in self.mounts.get(&dev).into_iter().flatten() {
            if self.handles >= MAX_HANDLES {
                unknown = true;
                break;
            }
            self.handles = self.handles.saturating_add(1);
            let Some(root) = self.roots.of(table) else {
                unknown = true;
                continue;
            };
            if self.places.len() >= MAX_PLACES {
                self.places.clear();
            }
            let place = self.places.entry(mount.mnt_id).or_insert_with(|| place(root, mount, &self.would_notify));
            match by_handle(root, place, ino, handle) {
                Opened::Path => return Opened::Path,
                Opened::NoPath => opened = true,
                Opened::No => {}
                Opened::Unknown => unknown = true,
                Opened::Later => later = true,
            }
        }
        match (unknown, opened) {
            _ if later => Opened::Later,
            (true, _) => Opened::Unknown,
            (false, true) => Opened::NoPath,
            (false, false) => Opened::No,
        }
    }

    fn search(&mut self) -> &Search {
        let (first, roots, host) = (self.first, &mut self.roots, self.host);
        self.index.get_or_insert_with(|| {
            let mut search = Search::new(MAX_SEARCH);
            let Some(root) = first.and_then(|t| roots.of(t)) else {
                search.partial = true;
                return search;
            };
            let given: &[Bytes] = host.options.irmap_scan_paths.as_deref().unwrap_or_default();
            search.partial = host.options.irmap_scan_paths.is_none();
            let would_notify = &self.would_notify;
            // /usr/share/dbus-1/services came with 3.18.
            let old = host.release == Release::V3_17;
            let hints = HINTS.iter().filter(|h| !(old && h.ends_with("/services"))).map(|h| h.as_bytes());
            for path in given.iter().map(|p| p.0.as_slice()).chain(hints) {
                search.tree(root, path, would_notify);
            }
            search.one(root, b"/");
            search
        })
    }
}

fn c_path(path: &[u8]) -> Option<CString> {
    let below = path.strip_prefix(b"/").unwrap_or(path);
    CString::new(if below.is_empty() { b"." } else { below }).ok()
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
        // Not a directory: CRIU passes it over. Hidden by another mount: CRIU notices by the device.
        Ok(f) if f.kind() != libc::S_IFDIR => return Place::No,
        Ok(f) if f.mnt_id.is_some_and(|id| Ok(id) != u64::try_from(mount.mnt_id)) => return Place::No,
        Ok(f) if would_notify.has(Dev { major: mount.major, minor: mount.minor }, &f) => return Place::Later,
        Ok(_) => {}
        Err(_) => return Place::Unknown,
    }
    reopen(&there).map_or(Place::Unknown, Place::Open)
}

/// What a file system or a path says of itself, to CRIU as to us. Any other error tells only that it could not be asked: no such
/// system call, one that is forbidden (seccomp), no memory or descriptor left.
fn is_absent(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENAMETOOLONG | Errno::EACCES)
}

/// Opens the handle on one mount, and the path that it shows.
fn by_handle(root: &Root, place: &Place, ino: u64, handle: &FileHandle) -> Opened {
    let dir = match place {
        Place::Open(dir) => dir,
        Place::No => return Opened::No,
        Place::Unknown => return Opened::Unknown,
        Place::Later => return Opened::Later,
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

/// The kernel's text for the path of a descriptor of ours.
fn path_of(fd: &OwnedFd) -> Option<Vec<u8>> {
    let name = CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
    sys::readlink(nix::fcntl::AT_FDCWD, &name, &mut [0; 4096]).ok().map(<[u8]>::to_vec)
}

/// A directory for listing and for handles: O_PATH is not enough for either.
fn reopen(there: &OwnedFd) -> nix::Result<OwnedFd> {
    sys::open(there, c".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NONBLOCK | OFlag::O_NOATIME)
        .or_else(|_| sys::open(there, c".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NONBLOCK))
}

impl Search {
    fn new(most: usize) -> Search {
        Search { most, inodes: Set::default(), partial: false, would_notify: false, count: 0 }
    }

    /// irmap_update_stat
    fn one(&mut self, root: &Root, path: &[u8]) -> Option<(OwnedFd, OpenFile)> {
        if root.may_wait(path) {
            self.partial = true;
            return None;
        }
        self.count = self.count.saturating_add(1);
        let fd = match sys::open_path(&root.fd, &c_path(path)?) {
            Ok(fd) => fd,
            Err(e) => {
                self.partial |= !is_absent(e);
                return None;
            }
        };
        let Ok(file) = sys::statx(&fd, c"") else {
            self.partial = true;
            return None;
        };
        self.inodes.insert((file.dev, file.ino));
        (file.kind() == libc::S_IFDIR).then_some((fd, file))
    }

    /// irmap_scan, depth first.
    fn tree(&mut self, root: &Root, path: &[u8], would_notify: &WouldNotify) {
        if root.may_wait(path) {
            self.partial = true;
            return;
        }
        // Links on the way there are followed (/lib), those below are not.
        let Some(path) = c_path(path) else { return };
        let path = match sys::open_linked(&root.fd, &path) {
            Ok(fd) => path_of(&fd),
            Err(e) => {
                self.partial |= !is_absent(e);
                return;
            }
        };
        let Some(path) = path else {
            self.partial = true;
            return;
        };
        let mut dents = vec![0; 32 * 1024];
        let mut todo = vec![path];
        while let Some(path) = todo.pop() {
            let Some((dir, file)) = self.one(root, &path) else { continue };
            if would_notify.has(file.dev, &file) {
                self.would_notify = true;
                continue;
            }
            let dir = match reopen(&dir) {
                Ok(dir) => dir,
                Err(e) => {
                    self.partial |= !is_absent(e);
                    continue;
                }
            };
            loop {
                let n = match sys::retry(|| sys::getdents(&dir, &mut dents)) {
                    Ok(0) => break,
                    Ok(n) => n,
                    Err(_) => {
                        self.partial = true;
                        break;
                    }
                };
                let names = sys::names(dents.get(..n).unwrap_or_default());
                todo.extend(names.map(|name| [&path[..], b"/", name.to_bytes()].concat()));
                // A directory may have any number of names.
                if self.count.saturating_add(todo.len()) > self.most {
                    self.partial = true;
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit;
    use std::os::fd::FromRawFd;

    /// How a watch of our own on the root directory fares.
    fn watch(mask: u32, look: ScanPhase, host: &Host) -> WatchResolution {
        // SAFETY: a new descriptor that nobody else knows.
        let inotify = unsafe { OwnedFd::from_raw_fd(libc::inotify_init1(libc::IN_CLOEXEC)) };
        // SAFETY: reads the name.
        assert_ne!(unsafe { libc::inotify_add_watch(inotify.as_raw_fd(), c"/".as_ptr(), mask) }, -1);
        let snap = crate::scan::collect_once(std::process::id().cast_signed(), look, host).unwrap();
        let file = snap.tasks[0].files.iter().find(|f| f.fd() == Some(inotify.as_raw_fd())).unwrap();
        match file.detail.as_deref() {
            Some(Detail::Watch(facts)) => facts.watches[0].resolution,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nobody_is_told_before_the_dump_is_certain() {
        let (mut host, told) = (testkit::host(), libc::IN_OPEN);
        host.caps.checkpoint_hook = true;
        let quiet = watch(libc::IN_DELETE, ScanPhase::Early, &host);
        if matches!(quiet, WatchResolution::Nowhere | WatchResolution::Unknown) {
            println!("skip: the root directory is not opened by its handle: {quiet:?}");
            return;
        }
        assert_ne!(quiet, WatchResolution::Later);
        assert_eq!(watch(told, ScanPhase::Early, &host), WatchResolution::Later);
        assert_eq!(watch(told, ScanPhase::Frozen, &host), quiet);
        // Nobody looks later.
        let dry = Host { stage: Stage::DryRun, ..host.clone() };
        assert_eq!(watch(told, ScanPhase::Early, &dry), quiet);
        host.caps.checkpoint_hook = false;
        assert_eq!(watch(told, ScanPhase::Early, &host), quiet);
    }

    #[test]
    fn a_mark_on_a_mount_or_a_file_system_is_told_of_every_directory_there() {
        let dir = |dev, mnt_id, ino| OpenFile { dev, mnt_id: Some(mnt_id), ino, ..OpenFile::default() };
        let (marked, other) = (Dev { major: 8, minor: 1 }, Dev { major: 8, minor: 2 });
        for (line, there) in [
            ("sdev:800001", dir(marked, 5, 2)),
            ("mnt_id:1b", dir(other, 0x1b, 2)),
            ("ino:9 sdev:800002", dir(other, 5, 9)),
        ] {
            let mut file = testkit::file(3, 0, 1);
            let text = format!("fanotify {line} mflags:0 mask:20 ignored_mask:0\n");
            file.info = Some(Box::new(crate::parse::fdinfo::parse(text.as_bytes())));
            let would_notify = would_notify(&testkit::snap(vec![file]));
            assert!(would_notify.has(there.dev, &there), "{line}");
            let elsewhere = dir(other, 6, 3);
            assert!(!would_notify.has(elsewhere.dev, &elsewhere), "{line}");
        }
    }

    #[test]
    fn a_search_ends_where_there_is_too_much() {
        let dir = std::env::temp_dir().join(format!("watches-{}", std::process::id()));
        let wide = dir.join("wide");
        std::fs::create_dir_all(&wide).unwrap();
        for nth in 0..300 {
            std::fs::write(wide.join(nth.to_string()), "").unwrap();
        }
        std::os::unix::fs::symlink(&wide, dir.join("link")).unwrap();
        let proc = crate::scan::proc::Dir::proc().unwrap();
        let snap = testkit::snap(vec![]);
        let table = testkit::mount_table(7, std::process::id().cast_signed(), "");
        let mut roots = Roots::new(&proc, &snap, &[]);
        let root = roots.of(&table).unwrap();
        let search = |most| {
            let mut search = Search::new(most);
            search.tree(root, dir.as_os_str().as_encoded_bytes(), &WouldNotify::default());
            (search.inodes.len(), search.partial)
        };
        // The directories, the link, the files.
        let (whole, cut) = (search(1000), search(100));
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(whole, (303, false));
        assert!(cut.0 <= 100 && cut.1, "{cut:?}");
    }
}
