//! Removed files of overlayfs that are of a lower layer.
//!
//! overlayfs shows the link count of the layer's file, so that such a file looks as if it had another name, while the
//! kernel knows that it has none and makes no hard link to it. What tells is the layer: it still has the file by that name,
//! with the same inode number and time of change, which a copy in the upper layer does not have (`ovl_copy_up`).
//!
//! Where the layer's file has several names, each is a file of its own in the overlayfs, unless that has an index
//! (`ovl_get_index_name`): then the other names count.

use crate::bytes::Bytes;
use crate::criu_model::paths::is_beside;
use crate::hash::Map;
use crate::parse::mountinfo::{self, MountInfo};
use crate::scan::fd::paths::{has_server, is_below};
use crate::scan::passes::PassContext;
use crate::scan::proc::{Buffers, Dir};
use crate::scan::sys;
use crate::snapshot::{MountTable, OpenFile, PathMismatch, Snapshot, Task};
use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::OwnedFd;

/// Only of what CRIU would come to ask about: it looks for a directory on the same mount first.
///
/// Turns [`PathMismatch::NoEntry`] into [`PathMismatch::LowerLayer`] where that is certain. Only of the running tree: symbolic links are followed
/// on the way to a layer.
pub(crate) fn collect(cx: &mut PassContext) {
    let PassContext { snap, proc, b, .. } = cx;
    let Snapshot { tasks, mounts, .. } = &mut **snap;
    if !tasks.iter().any(|t| files(t).any(is_candidate)) {
        return;
    }
    let overlays = overlays(mounts);
    let mut layers = Layers { proc, b, own: None, of_tables: HashMap::new(), open: HashMap::new() };
    for task in tasks {
        let mapped = task.maps.iter_mut().filter_map(|m| m.file.as_mut());
        for file in task.files.iter_mut().chain(mapped).filter(|f| is_candidate(f)) {
            let Some((table, mount)) = file.attr.mnt_id.and_then(|id| overlays.get(&id).copied()) else { continue };
            let Some(text) = &file.link else { continue };
            if layers.has(table, mount, text, file) {
                file.mismatch = Some(PathMismatch::LowerLayer);
            }
        }
    }
}

fn is_candidate(file: &OpenFile) -> bool {
    let gone = |m| matches!(m, PathMismatch::NoEntry { above } if !is_beside(file, above));
    file.kind() == libc::S_IFREG && file.attr.nlink > 0 && file.mismatch.is_some_and(gone)
}

fn files(task: &Task) -> impl Iterator<Item = &OpenFile> {
    task.files.iter().chain(task.maps.iter().filter_map(|m| m.file.as_ref()))
}

/// The mounts of overlayfs by id, each with the first table that has it.
fn overlays(tables: &[MountTable]) -> Map<u64, (&MountTable, &MountInfo)> {
    let mut all = Map::default();
    for table in tables {
        for mount in table.mounts.iter().filter(|m| *m.fstype == *b"overlay") {
            let id = u64::try_from(mount.mnt_id).unwrap_or(u64::MAX);
            all.entry(id).or_insert((table, mount));
        }
    }
    all
}

/// Where the names of layers may begin, and the mounts there that have a file server: id and mountpoint.
struct Place {
    root: Dir,
    servers: Vec<(i32, Bytes)>,
}

impl Place {
    fn new(root: Dir, mounts: &[MountInfo]) -> Place {
        let servers = mounts.iter().filter(|m| has_server(&m.fstype)).map(|m| (m.mnt_id, m.mountpoint.clone()));
        Place { root, servers: servers.collect() }
    }

    fn open(&self, dir: &[u8]) -> Option<OwnedFd> {
        let below = CString::new(dir.strip_prefix(b"/")?).ok()?;
        if self.servers.iter().any(|(_, at)| is_below(dir, at)) {
            return None;
        }
        // podman names its layers by links.
        let fd = sys::open_linked(&self.root, &below).ok()?;
        let mount = sys::statx(&fd, c"").ok()?.mnt_id?;
        (!self.servers.iter().any(|(id, _)| u64::try_from(*id) == Ok(mount))).then_some(fd)
    }
}

/// The layers as they are seen from here, where overlayfs is mounted as a rule, and from where it was met.
struct Layers<'a> {
    proc: &'a Dir,
    b: &'a mut Buffers,
    own: Option<Option<Place>>,
    /// By the namespace.
    of_tables: HashMap<u64, Option<Place>>,
    /// By the namespace, 0 for our own.
    open: HashMap<(u64, Bytes), Option<OwnedFd>>,
}

impl Layers<'_> {
    fn has(&mut self, table: &MountTable, mount: &MountInfo, text: &[u8], file: &OpenFile) -> bool {
        let Some(path) = inner(mount, text).and_then(|p| CString::new(p).ok()) else { return false };
        if file.attr.nlink > 1 && self.has_index(mount) != Some(false) {
            return false;
        }
        lower_dirs(mount).into_iter().any(|dir| {
            [None, Some(table)].into_iter().any(|from| {
                let Some(layer) = self.layer(from, &dir) else { return false };
                let Ok(found) = sys::open_path(layer, &path).and_then(|fd| sys::statx(fd, c"")) else { return false };
                (found.ino, found.ctime, found.mode, found.size, found.nlink)
                    == (file.attr.ino, file.attr.ctime, file.attr.mode, file.attr.size, file.attr.nlink)
            })
        })
    }

    /// Whether the overlayfs keeps an index of files with several names: the option is shown where it is not the default.
    fn has_index(&mut self, mount: &MountInfo) -> Option<bool> {
        if let Some(value) = mount.super_value(b"index") {
            return Some(*value == *b"on");
        }
        let default = self.proc.read(c"self/root/sys/module/overlay/parameters/index", &mut self.b.text).ok()?;
        Some(!default.starts_with(b"N"))
    }

    fn layer(&mut self, from: Option<&MountTable>, dir: &Bytes) -> Option<&OwnedFd> {
        let (proc, text) = (self.proc, &mut self.b.text);
        let place = match from {
            None => self.own.get_or_insert_with(|| {
                let mounts = mountinfo::parse(proc.read(c"self/mountinfo", text).ok()?).items;
                Some(Place::new(proc.dir(c"self/root").ok()?, &mounts))
            }),
            Some(table) => self.of_tables.entry(table.ns).or_insert_with(|| {
                let root = CString::new(format!("{}/root", table.pid)).ok()?;
                Some(Place::new(proc.dir(&root).ok()?, &table.mounts))
            }),
        };
        let key = (from.map_or(0, |t| t.ns), dir.clone());
        self.open.entry(key).or_insert_with(|| place.as_ref()?.open(dir)).as_ref()
    }
}

/// The path inside the overlayfs, without a slash before it.
fn inner(mount: &MountInfo, text: &[u8]) -> Option<Vec<u8>> {
    let text = text.strip_suffix(b" (deleted)")?;
    let at: &[u8] = mount.mountpoint.strip_suffix(b"/").unwrap_or(&mount.mountpoint);
    let rest = text.strip_prefix(at)?.strip_prefix(b"/")?;
    let root: &[u8] = mount.root.strip_prefix(b"/")?;
    Some(if root.is_empty() { rest.to_vec() } else { [root, b"/", rest].concat() })
}

/// `lowerdir=A:B`, in which a colon of a name has a backslash before it, or `lowerdir+=A,lowerdir+=B` (Linux 6.8+).
fn lower_dirs(mount: &MountInfo) -> Vec<Bytes> {
    let mut dirs: Vec<Bytes> = mount.super_values(b"lowerdir+").collect();
    for list in mount.super_values(b"lowerdir") {
        let mut dir = Vec::new();
        let mut bytes = list.iter().copied();
        while let Some(byte) = bytes.next() {
            match byte {
                b'\\' => dir.extend(bytes.next()),
                b':' => dirs.push(Bytes(std::mem::take(&mut dir))),
                _ => dir.push(byte),
            }
        }
        dirs.push(Bytes(dir));
    }
    dirs.retain(|d| d.starts_with(b"/"));
    dirs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(line: &str) -> MountInfo {
        mountinfo::line(line.as_bytes()).unwrap()
    }

    #[test]
    fn the_layers_of_a_mount() {
        let dirs = |options: &str| -> Vec<String> {
            let m = mount(&format!("20 1 0:25 / /o rw - overlay overlay rw,{options}"));
            lower_dirs(&m).iter().map(|d| d.escaped().to_string()).collect()
        };
        assert_eq!(dirs("lowerdir=/a:/b,upperdir=/u,workdir=/w"), ["/a", "/b"]);
        assert_eq!(dirs(r"lowerdir=/a\134:x:/b\040c"), ["/a:x", "/b c"]);
        assert_eq!(dirs("lowerdir+=/a,lowerdir+=/b:c,datadir+=/d"), ["/a", "/b:c"]);
        assert!(dirs("lowerdir=l/ABC::l/DEF,upperdir=u").is_empty(), "relative to who knows what");
    }

    #[test]
    fn the_path_in_a_layer() {
        let inner = |line: &str, text: &str| super::inner(&mount(line), text.as_bytes()).map(|p| Bytes(p).escaped());
        let root = "20 1 0:25 / / rw - overlay overlay rw";
        assert_eq!(inner(root, "/lib/x.so (deleted)").as_deref(), Some("lib/x.so"));
        assert_eq!(inner(root, "/lib/x.so"), None);
        assert_eq!(inner("20 1 0:25 / /o rw - overlay o rw", "/o/x (deleted)").as_deref(), Some("x"));
        assert_eq!(inner("20 1 0:25 / /o rw - overlay o rw", "/oo/x (deleted)"), None);
        assert_eq!(inner("20 1 0:25 /in /o rw - overlay o rw", "/o/x (deleted)").as_deref(), Some("in/x"));
    }
}
