//! The one file we write: the report in CRIU's work directory.

use crate::scan::sys::retry;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use std::io;
use std::os::fd::OwnedFd;

pub const REPORT: &str = "preflight.json";

/// A file of the current directory in the making: written aside and renamed, so that a reader finds the old one or the whole new
/// one. A symbolic link in its place is replaced, not followed. Dropped before [`Replacement::commit`], it leaves nothing.
#[derive(Debug)]
pub struct Replacement {
    name: &'static str,
    aside: String,
    file: OwnedFd,
}

impl Replacement {
    pub fn create(name: &'static str) -> io::Result<Replacement> {
        let aside = format!(".{name}.{}", std::process::id());
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        // Not by the library of Rust, which asks for ever where a filter of system calls answers EINTR.
        let open = || retry(|| nix::fcntl::open(aside.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR));
        let file = match open() {
            // What a killed criu with our pid has left behind.
            Err(Errno::EEXIST) => {
                remove(&aside);
                open()
            }
            other => other,
        }?;
        Ok(Replacement { name, aside, file })
    }

    pub fn write(&mut self, mut piece: &[u8]) -> io::Result<()> {
        while !piece.is_empty() {
            let n = retry(|| nix::unistd::write(&self.file, piece))?;
            piece = piece.get(n..).filter(|_| n > 0).ok_or(io::ErrorKind::WriteZero)?;
        }
        Ok(())
    }

    pub fn commit(self) -> io::Result<()> {
        std::fs::rename(&self.aside, self.name)
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        // Not there any more after a rename.
        remove(&self.aside);
    }
}

/// Removes a file of the current directory; that there is none is as good.
pub fn remove(name: &str) {
    let _ = std::fs::remove_file(name);
}
