//! The one file we write: the report in CRIU's work directory.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;

pub const REPORT: &str = "preflight.json";

/// A file of the current directory in the making: written aside and renamed, so that a reader finds the old one or the whole new
/// one. A symbolic link in its place is replaced, not followed. Dropped before [`Replacement::commit`], it leaves nothing.
#[derive(Debug)]
pub struct Replacement {
    name: &'static str,
    aside: String,
    file: File,
}

impl Replacement {
    pub fn create(name: &'static str) -> io::Result<Replacement> {
        let aside = format!(".{name}.{}", std::process::id());
        let open =
            || OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(&aside);
        let file = match open() {
            // What a killed criu with our pid has left behind.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                remove(&aside);
                open()
            }
            other => other,
        }?;
        Ok(Replacement { name, aside, file })
    }

    pub fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.file.write_all(piece)
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
