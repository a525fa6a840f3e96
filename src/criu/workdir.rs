//! The report in the making.

use crate::scan::sys::retry;
use nix::errno::Errno;
use nix::fcntl::{OFlag, AT_FDCWD};
use nix::sys::stat::Mode;
use nix::unistd::UnlinkatFlags;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Its name in CRIU's work directory.
pub(crate) const REPORT: &str = "preflight.json";

/// A file in the making: written aside and renamed, so that a reader finds the old one or the whole new one. A symbolic link in
/// its place is replaced, not followed. Dropped before [`Replacement::commit`], it leaves nothing.
#[derive(Debug)]
pub(crate) struct Replacement {
    /// `None`: the current one.
    dir: Option<OwnedFd>,
    name: String,
    aside: String,
    file: OwnedFd,
}

impl Replacement {
    pub(crate) fn create(dir: Option<OwnedFd>, name: &str) -> io::Result<Replacement> {
        let aside = format!(".{name}.{}", std::process::id());
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let at = borrowed(dir.as_ref());
        // Not by the library of Rust, which asks for ever where a filter of system calls answers EINTR.
        let open = || retry(|| nix::fcntl::openat(at, aside.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR));
        let file = match open() {
            // What a killed criu with our pid has left behind.
            Err(Errno::EEXIST) => {
                remove(at, &aside);
                open()
            }
            other => other,
        }?;
        Ok(Replacement { dir, name: name.to_owned(), aside, file })
    }

    pub(crate) fn write(&mut self, mut piece: &[u8]) -> io::Result<()> {
        while !piece.is_empty() {
            let n = retry(|| nix::unistd::write(&self.file, piece))?;
            piece = piece.get(n..).filter(|_| n > 0).ok_or(io::ErrorKind::WriteZero)?;
        }
        Ok(())
    }

    pub(crate) fn commit(self) -> io::Result<()> {
        let at = borrowed(self.dir.as_ref());
        Ok(nix::fcntl::renameat(at, self.aside.as_str(), at, self.name.as_str())?)
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        // Not there any more after a rename.
        remove(borrowed(self.dir.as_ref()), &self.aside);
    }
}

fn borrowed(dir: Option<&OwnedFd>) -> BorrowedFd<'_> {
    dir.map_or(AT_FDCWD, AsFd::as_fd)
}

/// That there is none is as good.
fn remove(dir: BorrowedFd, name: &str) {
    let _ = nix::unistd::unlinkat(dir, name, UnlinkatFlags::NoRemoveDir);
}
