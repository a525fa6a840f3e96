//! What lies below the directories in which CRIU searches for a watched inode (`irmap_scan`, criu/irmap.c).
//!
//! Made the same way, but with O_PATH for what is found, and never on a file system with a server.

use super::would_notify::WouldNotify;
use crate::criu::Host;
use crate::criu_model::watches::{irmap_dirs, IRMAP_LAST};
use crate::hash::Set;
use crate::scan::fd::paths::Root;
use crate::scan::sys;
use crate::snapshot::{Dev, FileAttr, SearchAnswer};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};

/// Names met in the search before it is given up as too long: then nothing is known.
const MAX_SEARCH: usize = 100_000;

/// All inodes that were met.
pub(super) struct Search {
    /// Names that may be met.
    most: usize,
    inodes: Set<(Dev, u64)>,
    /// Something could not be looked at.
    partial: bool,
    /// Some directory of it would have notified a watcher.
    would_notify: bool,
    /// Names looked at.
    count: usize,
}

impl Search {
    /// The search that CRIU makes (`irmap_lookup`).
    pub(crate) fn whole(root: Option<&Root>, host: &Host, would_notify: &WouldNotify) -> Search {
        let mut search = Search::new(MAX_SEARCH);
        let Some(root) = root else {
            search.partial = true;
            return search;
        };
        let (dirs, known) = irmap_dirs(host);
        search.partial = !known;
        for path in dirs {
            search.tree(root, path, would_notify);
        }
        search.one(root, IRMAP_LAST);
        search
    }

    pub(crate) fn answer(&self, dev: Dev, ino: u64) -> SearchAnswer {
        let found = self.inodes.contains(&(dev, ino));
        SearchAnswer { found, partial: self.partial, deferred: self.would_notify }
    }

    pub(crate) fn new(most: usize) -> Search {
        Search { most, inodes: Set::default(), partial: false, would_notify: false, count: 0 }
    }

    /// irmap_update_stat
    pub(crate) fn one(&mut self, root: &Root, path: &[u8]) -> Option<(OwnedFd, FileAttr)> {
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
    pub(crate) fn tree(&mut self, root: &Root, path: &[u8], would_notify: &WouldNotify) {
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

pub(super) fn c_path(path: &[u8]) -> Option<CString> {
    let below = path.strip_prefix(b"/").unwrap_or(path);
    CString::new(if below.is_empty() { b"." } else { below }).ok()
}

/// What a file system or a path says of itself, to CRIU as to us. Any other error tells only that it could not be asked: no such
/// system call, one that is forbidden (seccomp), no memory or descriptor left.
pub(super) fn is_absent(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENAMETOOLONG | Errno::EACCES)
}

/// The kernel's text for the path of a descriptor of ours.
pub(super) fn path_of(fd: &OwnedFd) -> Option<Vec<u8>> {
    let name = CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()?;
    sys::readlink(nix::fcntl::AT_FDCWD, &name, &mut [0; 4096]).ok().map(<[u8]>::to_vec)
}

/// A directory for listing and for handles: O_PATH is not enough for either.
pub(super) fn reopen(there: &OwnedFd) -> nix::Result<OwnedFd> {
    sys::open(there, c".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NONBLOCK | OFlag::O_NOATIME)
        .or_else(|_| sys::open(there, c".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NONBLOCK))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit;
    use crate::scan::fd::paths::Roots;

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
