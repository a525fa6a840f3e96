//! A path looked up one component after another, where openat2(2) is not to be had: Linux before 5.6, a seccomp profile.
//!
//! Each component is opened with O_PATH and O_NOFOLLOW below the one before, so that no symbolic link leads away and nothing
//! is opened for reading.

use crate::scan::sys;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

/// As many symbolic links as the kernel follows (MAXSYMLINKS, include/linux/namei.h).
const MOST_LINKS: usize = 40;

/// O_PATH of a path below `root`, which it does not leave. Symbolic links before the last component are followed from `root`, or
/// are ELOOP; the last one is opened itself.
pub(crate) fn walk(root: impl AsFd, path: &CStr, follow: bool) -> nix::Result<OwnedFd> {
    let mut way: VecDeque<Vec<u8>> = components(path.to_bytes());
    let mut dirs: Vec<OwnedFd> = Vec::new();
    let mut links = 0;
    while let Some(name) = way.pop_front() {
        if name == b".." {
            dirs.pop();
            continue;
        }
        let c_name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        let here = dirs.last().map_or(root.as_fd(), AsFd::as_fd);
        let found = sys::open(here, &c_name, OFlag::O_PATH | OFlag::O_NOFOLLOW)?;
        if way.is_empty() || sys::statx(&found, c"")?.kind() != libc::S_IFLNK {
            dirs.push(found);
            continue;
        }
        links += 1;
        if !follow || links > MOST_LINKS {
            return Err(Errno::ELOOP);
        }
        let mut buf = [0; 4096];
        let text = sys::readlink(&found, c"", &mut buf)?;
        if text.starts_with(b"/") {
            dirs.clear();
        }
        let mut target = components(text);
        target.append(&mut way);
        way = target;
    }
    match dirs.pop() {
        Some(found) => Ok(found),
        None => sys::open(root, c".", OFlag::O_PATH),
    }
}

fn components(path: &[u8]) -> VecDeque<Vec<u8>> {
    path.split(|b| *b == b'/').filter(|c| !matches!(*c, b"" | b".")).map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// What each of two ways finds: the inode, or the errno.
    fn both(root: &OwnedFd, path: &str, follow: bool) -> [Result<u64, Errno>; 2] {
        let path = CString::new(path).unwrap();
        let kernel = if follow { sys::open_linked(root, &path) } else { sys::open_path(root, &path) };
        [kernel, walk(root, &path, follow)].map(|fd| sys::statx(fd?, c"").map(|f| f.ino))
    }

    #[test]
    fn it_finds_what_openat2_finds() {
        let dir = std::env::temp_dir().join(format!("preflight-lookup-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(dir.join("a/b")).unwrap();
        std::fs::write(dir.join("a/b/file"), "x").unwrap();
        symlink("a", dir.join("link")).unwrap();
        symlink("/a/b", dir.join("a/rooted")).unwrap();
        symlink("../../../../a/b", dir.join("a/up")).unwrap();
        symlink("loop", dir.join("loop")).unwrap();
        let root: OwnedFd = std::fs::File::open(&dir).unwrap().into();
        let paths = [
            ".",
            "a",
            "a/b/file",
            "./a//b/",
            "a/none",
            "a/b/file/x",
            "link",
            "link/b/file",
            "a/rooted/file",
            "a/up/file",
            "a/b/../b/file",
            "loop/x",
            "loop",
            "link/rooted",
        ];
        let mut found = 0;
        for path in paths {
            for follow in [false, true] {
                let [kernel, walked] = both(&root, path, follow);
                assert_eq!(walked, kernel, "{path} {follow}");
                found += usize::from(walked.is_ok());
            }
        }
        // With links and without.
        assert_eq!(found, 7 + 11, "of the paths that are there");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
