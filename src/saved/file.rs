//! The file of a saved check.

use super::SavedCheck;
use crate::bytes::escape;
use serde::Deserialize;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Raised when an older reader would misunderstand a newer file.
pub(crate) const FORMAT: u32 = 2;

/// Bytes of a file, to be read and to be written. A snapshot of a tree with a million descriptors has about 300 MB.
const MOST: u64 = 256 << 20;

/// Characters of what the parser says about a file, which may quote it.
const COMPLAINT: usize = 200;

/// What comes first: is it one of ours, and can this version read it?
#[derive(Deserialize)]
struct Head {
    format: u64,
    version: Option<String>,
}

/// Reads a saved check. `Err`: what is wrong with it, in one line.
pub fn read(json: &[u8]) -> Result<SavedCheck, String> {
    let head: Head = serde_json::from_slice(json).map_err(|e| format!("not a saved check: {}", complaint(&e)))?;
    if head.format != u64::from(FORMAT) {
        let by = head.version.map(|v| format!(" (written by criu-preflight {})", beginning(&v))).unwrap_or_default();
        return Err(format!("saved in format {}{by}, this criu-preflight reads format {FORMAT}", head.format));
    }
    let saved: SavedCheck = serde_json::from_slice(json).map_err(|e| format!("damaged: {}", complaint(&e)))?;
    if saved.snapshots.is_empty() {
        return Err("damaged: it has no snapshot".into());
    }
    Ok(saved)
}

/// Reads a saved check from a regular file.
pub fn read_file(path: &Path) -> Result<SavedCheck, String> {
    // Opening a pipe or a device must not wait.
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|e| e.to_string())?;
    if !file.metadata().map_err(|e| e.to_string())?.is_file() {
        return Err("not a regular file".into());
    }
    if file.metadata().is_ok_and(|meta| meta.len() > MOST) {
        return Err(too_long());
    }
    // It may grow meanwhile.
    let mut json = Vec::new();
    file.take(MOST.saturating_add(1)).read_to_end(&mut json).map_err(|e| e.to_string())?;
    if u64::try_from(json.len()).is_ok_and(|len| len > MOST) {
        return Err(too_long());
    }
    read(&json)
}

fn too_long() -> String {
    format!("longer than {} MiB, which no saved check is", MOST >> 20)
}

/// Writes it to a new file that only its owner can read. Whatever stands there already, a symbolic link too, is left alone.
pub fn write_new(saved: &SavedCheck, path: &Path) -> Result<(), String> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => "it exists already".to_owned(),
        _ => e.to_string(),
    })?;
    write(saved, file).inspect_err(|_| {
        // What is there is of no use to anybody.
        let _ = std::fs::remove_file(path);
    })
}

fn write(saved: &SavedCheck, file: File) -> Result<(), String> {
    let mut out = BufWriter::new(Limited { file, left: MOST });
    serde_json::to_writer(&mut out, saved).map_err(|e| complaint(&e))?;
    out.write_all(b"\n").and_then(|()| out.flush()).map_err(|e| e.to_string())
}

/// A file that takes no more than what can be read again.
struct Limited {
    file: File,
    left: u64,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        let left = u64::try_from(written).ok().and_then(|n| self.left.checked_sub(n));
        self.left = left.ok_or_else(|| std::io::Error::other(format!("more than {} MiB", MOST >> 20)))?;
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

fn complaint(e: &serde_json::Error) -> String {
    beginning(&e.to_string())
}

fn beginning(text: &str) -> String {
    let mut out = escape(text.chars().take(COMPLAINT).collect::<String>().as_bytes());
    if text.chars().nth(COMPLAINT).is_some() {
        out.push_str("...");
    }
    out
}
