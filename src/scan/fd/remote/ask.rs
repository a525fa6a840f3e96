//! The questions themselves: fcntl, getsockopt, ioctl on a borrowed descriptor. None changes the open file or waits for
//! anything but a short kernel lock.

mod socket;
mod terminal;
mod tun;

use crate::scan::sys;
use crate::snapshot::Answer;
use nix::errno::Errno;
pub(crate) use socket::{lingers, socket};
use std::cell::Cell;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
#[cfg(test)]
pub(super) use terminal::hung_up;
pub(crate) use terminal::tty;
pub(crate) use tun::tun;

/// F_GETFL: the f_flags of the open file.
pub(crate) fn flags(file: &OwnedFd) -> nix::Result<u32> {
    // SAFETY: two numbers.
    Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) }).map(|n| n as u32)
}

/// F_GETOWN: whom SIGIO goes to, a process or thread, or (negative) a process group; 0: none that we see.
pub(crate) fn owner(file: &OwnedFd) -> nix::Result<i32> {
    // SAFETY: two numbers.
    Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETOWN) })
}

/// By which a socket says that there is no such thing here: not of this family, not in this kernel, not connected, not set.
const NO_ANSWER: [Errno; 5] = [Errno::EOPNOTSUPP, Errno::ENOPROTOOPT, Errno::ENOTCONN, Errno::EBUSY, Errno::ENOTTY];
/// Not ours to know (no CAP_NET_ADMIN over it), or no such request (Linux before 4.10, and of tun before 5.2).
const NO_NETNS: [Errno; 3] = [Errno::EPERM, Errno::ENOTTY, Errno::EINVAL];

/// The last errno that was no answer.
#[derive(Debug, Default)]
pub(crate) struct NotAsked(Cell<Option<Errno>>);

impl NotAsked {
    pub(crate) fn errno(&self) -> Option<Errno> {
        self.0.get()
    }

    fn note<T>(&self, result: nix::Result<T>) -> Option<T> {
        result.map_err(|errno| self.0.set(Some(errno))).ok()
    }

    /// An answer as rules read it: an errno only where it is one.
    fn answered<T>(&self, result: nix::Result<T>, answers: &[Errno]) -> Option<Result<T, i32>> {
        self.note(sys::answer(result, answers)).map(|answer| answer.map_err(|errno| errno as i32))
    }

    /// The same, of which rules tell the errno from no answer.
    fn answer<T>(&self, result: nix::Result<T>, answers: &[Errno]) -> Answer<T> {
        match self.answered(result, answers) {
            None => Answer::Unknown,
            Some(Ok(value)) => Answer::Is(value),
            Some(Err(errno)) => Answer::Errno(errno),
        }
    }

    /// A value, where there is one.
    fn value<T>(&self, result: nix::Result<T>) -> Option<T> {
        self.note(sys::answer(result, &NO_ANSWER))?.ok()
    }
}

/// An option that is a plain number.
pub(crate) fn number(file: &OwnedFd, level: libc::c_int, name: libc::c_int) -> nix::Result<i32> {
    let mut value: libc::c_int = 0;
    get(file, level, name, &mut value).map(|_| value)
}

/// getsockopt(2) into a value that any bytes are valid for; the length the kernel gave.
fn get<T: Plain>(file: &OwnedFd, level: libc::c_int, name: libc::c_int, value: &mut T) -> nix::Result<libc::socklen_t> {
    let mut len = size_of::<T>() as libc::socklen_t;
    let place = std::ptr::from_mut(value).cast();
    // SAFETY: the kernel writes at most `len` bytes, the size of `T`, and `T` is Plain.
    Errno::result(unsafe { libc::getsockopt(file.as_raw_fd(), level, name, place, &mut len) }).map(|_| len)
}

/// Made of numbers only, so that whatever bytes the kernel writes are a value.
///
/// # Safety
///
/// Every bit pattern must be valid.
unsafe trait Plain {}
// SAFETY: numbers, arrays of numbers and structures of numbers.
unsafe impl Plain for libc::c_int {}
// SAFETY: see above.
unsafe impl Plain for libc::ucred {}
// SAFETY: see above.
unsafe impl<const N: usize> Plain for [u8; N] {}

/// An ioctl that fills in a number.
fn ioctl_number(file: &OwnedFd, request: libc::Ioctl) -> nix::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    // SAFETY: the requests used here (FIONREAD of a socket or a watch, SIOCATMARK) write one int.
    Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), request, &mut value) }).map(|_| value)
}

/// FIONREAD: bytes to be read.
pub(crate) fn unread(file: &OwnedFd) -> nix::Result<u32> {
    ioctl_number(file, libc::FIONREAD).map(|bytes| u32::try_from(bytes).unwrap_or_default())
}

/// An ioctl without argument that makes a descriptor (close-on-exec, as all of those used here do).
fn opened(file: &OwnedFd, request: libc::Ioctl) -> nix::Result<OwnedFd> {
    // SAFETY: no argument.
    let fd = Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), request) })?;
    // SAFETY: the kernel has just made it; no other code knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The inode of its network namespace.
fn netns(file: &OwnedFd) -> nix::Result<u64> {
    // An nsfs file: no file server.
    Ok(nix::sys::stat::fstat(sys::netns_of(file.as_raw_fd())?)?.st_ino)
}
