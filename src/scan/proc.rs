//! /proc/PID held open: every question goes through one directory descriptor, which belongs to one process for good
//! (its dentry is tied to the struct pid), so that a pid used again never mixes two processes.

use crate::bytes::Bytes;
use crate::scan::sys::{self, Seen};
use crate::scan::UncheckedList;
use crate::snapshot::{FileAttr, Probe};
use nix::fcntl::OFlag;
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;

/// Memory that is used over and over: one for text, one for listings.
pub(crate) struct Buffers {
    pub text: Vec<u8>,
    pub dents: Vec<u8>,
    pub link: Box<[u8; 4096]>,
}

impl Buffers {
    pub(crate) fn new() -> Self {
        Buffers { text: Vec::new(), dents: vec![0; 64 * 1024], link: Box::new([0; 4096]) }
    }
}

impl Default for Buffers {
    fn default() -> Self {
        Buffers::new()
    }
}

/// A directory below /proc.
pub(crate) struct Dir {
    fd: OwnedFd,
    /// Whose it is, for the log.
    pub pid: i32,
}

impl Dir {
    /// /proc itself.
    pub(crate) fn proc() -> nix::Result<Dir> {
        let fd = sys::open(nix::fcntl::AT_FDCWD, c"/proc", OFlag::O_PATH | OFlag::O_DIRECTORY)?;
        Ok(Dir { fd, pid: 0 })
    }

    /// The directory of a process, below /proc.
    pub(crate) fn process(&self, pid: i32) -> Seen<Dir> {
        let Ok(name) = CString::new(pid.to_string()) else { return Seen::Gone };
        sys::open(&self.fd, &name, OFlag::O_PATH | OFlag::O_DIRECTORY).map(|fd| Dir { fd, pid }).into()
    }

    /// A directory in it, only to look up names in.
    pub(crate) fn dir(&self, name: &CStr) -> Seen<Dir> {
        sys::open(&self.fd, name, OFlag::O_PATH | OFlag::O_DIRECTORY).map(|fd| Dir { fd, pid: self.pid }).into()
    }

    /// A file in it: only of /proc itself.
    pub(crate) fn open(&self, name: &CStr, flags: OFlag) -> Seen<OwnedFd> {
        sys::open(&self.fd, name, flags).into()
    }

    /// A directory in it that can be listed.
    pub(crate) fn listing(&self, name: &CStr) -> Seen<Dir> {
        sys::open(&self.fd, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY).map(|fd| Dir { fd, pid: self.pid }).into()
    }

    /// Calls `each` with every name of the listing, as long as it can be read.
    pub(crate) fn each(&self, dents: &mut [u8], mut each: impl FnMut(&CStr)) -> Seen<()> {
        loop {
            match sys::retry(|| sys::getdents(&self.fd, dents)) {
                Ok(0) => return Seen::Seen(()),
                Ok(n) => sys::names(dents.get(..n).unwrap_or_default()).for_each(&mut each),
                Err(e) => return Err(e).into(),
            }
        }
    }

    /// Reads a whole file.
    pub(crate) fn read<'b>(&self, name: &CStr, text: &'b mut Vec<u8>) -> Seen<&'b [u8]> {
        sys::slurp(&self.fd, name, text, false).map(|()| text.as_slice()).into()
    }

    /// Reads a file that the kernel makes in one piece (`single_open()`): stat, status and their like.
    pub(crate) fn read_one<'b>(&self, name: &CStr, text: &'b mut Vec<u8>) -> Seen<&'b [u8]> {
        sys::slurp(&self.fd, name, text, true).map(|()| text.as_slice()).into()
    }

    /// Reads a whole file; a refusal goes to the log.
    pub(crate) fn read_or_log<'b>(
        &self,
        name: &CStr,
        probe: Probe,
        text: &'b mut Vec<u8>,
        log: &mut UncheckedList,
    ) -> Option<&'b [u8]> {
        log.take(self.read(name, text), self.pid, None, probe)
    }

    /// Reads a whole file, unless it is long and `wanted` says no: then the text is nothing.
    pub(crate) fn read_if<'b>(
        &self,
        name: &CStr,
        text: &'b mut Vec<u8>,
        wanted: impl FnOnce() -> bool,
    ) -> Seen<Option<&'b [u8]>> {
        sys::slurp_if(&self.fd, name, text, false, wanted).map(|whole| whole.then_some(text.as_slice())).into()
    }

    /// A namespace, from a process's `ns` directory: to be asked, not to be entered.
    pub(crate) fn namespace(&self, name: &CStr) -> Seen<OwnedFd> {
        sys::open(&self.fd, name, OFlag::O_RDONLY).into()
    }

    /// The text of a link.
    pub(crate) fn link<'b>(&self, name: &CStr, buf: &'b mut [u8; 4096]) -> Seen<&'b [u8]> {
        sys::readlink(&self.fd, name, buf).into()
    }

    /// The file behind a link.
    pub(crate) fn stat(&self, name: &CStr) -> Seen<FileAttr> {
        sys::statx(&self.fd, name).into()
    }

    /// The link itself.
    pub(crate) fn stat_link(&self, name: &CStr) -> Seen<FileAttr> {
        sys::lstatx(&self.fd, name).into()
    }
}

impl std::os::fd::AsFd for Dir {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A decimal name of a listing.
pub(crate) fn number(name: &CStr) -> Option<i32> {
    name.to_str().ok()?.parse().ok()
}

/// Copies a link's text.
pub(crate) fn owned(text: &[u8]) -> Bytes {
    Bytes(text.to_vec())
}
