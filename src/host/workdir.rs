//! The one file we write: the report in CRIU's work directory.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;

pub const REPORT: &str = "preflight.json";

/// Writes a file of the current directory aside and renames it, so that a reader finds the old one or the whole new one.
/// A symbolic link in its place is replaced, not followed.
pub fn replace(name: &str, content: &[u8]) -> io::Result<()> {
    let aside = format!(".{name}.{}", std::process::id());
    let written = create(&aside).and_then(|mut f| f.write_all(content)).and_then(|()| std::fs::rename(&aside, name));
    if written.is_err() {
        remove(&aside);
    }
    written
}

fn create(name: &str) -> io::Result<File> {
    let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW).open(name);
    match open() {
        // What a killed criu with our pid has left behind.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            remove(name);
            open()
        }
        other => other,
    }
}

/// Removes a file of the current directory; that there is none is as good.
pub fn remove(name: &str) {
    let _ = std::fs::remove_file(name);
}
