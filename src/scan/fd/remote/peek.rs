//! Looking at the unread messages of a UNIX socket as CRIU does (`dump_sk_queue`, criu/sk-queue.c): MSG_PEEK with SO_PEEK_OFF.
//!
//! Only in a frozen tree: the offset is a property of the socket, set back at the end, and an error that comes at that moment
//! would be taken away. One trace stays: a datagram of no length at which CRIU would have stopped is marked as peeked at by
//! the kernel (`skb_set_peeked`), and CRIU's own look, a moment later, passes over it and saves what is behind it as well.

use crate::scan::fd::remote::ask::{number, unread};
use crate::scan::sys::retry;
use nix::errno::Errno;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// linux/socket.h
const SCM_PIDFD: libc::c_int = 4;
/// What control messages are aligned to.
const WORD: usize = size_of::<u64>();
/// More than a message ever needs: 253 descriptors (SCM_MAX_FD), credentials, times.
const CONTROL: usize = 2048;
/// Text of a stream that is passed over at once.
const PIECE: usize = 64 * 1024;
/// Messages looked at; a queue has some hundred. At one more, the rest of them is not known.
const MOST: usize = 100_000;

/// A descriptor that came with a message: ours. Dropped, it stays open until CRIU ends, as all that CRIU itself takes from
/// queues: closing one of a file system with a server may wait for a frozen process.
#[derive(Debug)]
pub(crate) struct ReceivedFd(ManuallyDrop<OwnedFd>);

impl ReceivedFd {
    /// Not of what may have a flush that waits.
    pub(crate) fn close(self) {
        drop(ManuallyDrop::into_inner(self.0));
    }
    pub(crate) fn file(&self) -> &OwnedFd {
        &self.0
    }
}

/// What one recvmsg(2) shows: of a stream perhaps several messages in one.
#[derive(Debug, Default)]
pub(crate) struct Message {
    pub length: u64,
    /// SCM_* of its control messages.
    pub kinds: Vec<i32>,
    pub fds: Vec<ReceivedFd>,
    /// The kernel did not hand out all descriptors: our table is full, or a security module denies it.
    pub cut: bool,
}

/// The messages of a queue, one after the other.
pub(crate) struct Queue<'a> {
    file: &'a OwnedFd,
    kind: i32,
    /// Bytes for control messages.
    room: usize,
    /// SO_PEEK_OFF as it was.
    before: i32,
    /// Bytes in the queue (of a datagram socket: in its first message), and how far we are.
    total: u64,
    at: u64,
    count: usize,
    text: Vec<u8>,
}

impl<'a> Queue<'a> {
    /// `kind`: SOCK_*. `room`: for control messages, if CRIU has little.
    pub(crate) fn open(file: &'a OwnedFd, kind: i32, room: Option<usize>) -> nix::Result<Queue<'a>> {
        let before = number(file, libc::SOL_SOCKET, libc::SO_PEEK_OFF)?;
        let total = unread(file)?.into();
        let text = vec![0; if kind == libc::SOCK_STREAM { PIECE } else { 1 }];
        set_peek_off(file, 0)?;
        let room = room.unwrap_or(CONTROL).min(CONTROL);
        Ok(Queue { file, kind, room, before, total, at: 0, count: 0, text })
    }

    /// `None`: there is no more. E2BIG: there are too many.
    pub(crate) fn message(&mut self) -> nix::Result<Option<Message>> {
        // Behind the last byte of a stream an error may wait for its reader.
        let ended = self.kind != libc::SOCK_DGRAM && self.at >= self.total;
        self.count = self.count.saturating_add(1);
        if ended {
            return Ok(None);
        }
        if self.count > MOST {
            return Err(Errno::E2BIG);
        }
        set_peek_off(self.file, i32::try_from(self.at).unwrap_or(i32::MAX))?;
        let mut control = [0u64; CONTROL / WORD];
        let mut text = libc::iovec { iov_base: self.text.as_mut_ptr().cast(), iov_len: self.text.len() };
        // SAFETY: struct msghdr is made of numbers and pointers; zero is a value.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = &mut text;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = self.room as _;
        let flags = libc::MSG_PEEK | libc::MSG_TRUNC | libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        // SAFETY: the kernel writes at most `iov_len` bytes of text and `msg_controllen` bytes of control messages.
        let length = match retry(|| Errno::result(unsafe { libc::recvmsg(self.file.as_raw_fd(), &mut message, flags) }))
        {
            Ok(n) => u64::try_from(n).unwrap_or_default(),
            Err(Errno::EAGAIN) => return Ok(None),
            Err(e) => return Err(e),
        };
        let used = message.msg_controllen as usize;
        let (kinds, fds) = parts(control.get(..used.div_ceil(WORD)).unwrap_or_default());
        self.at = self.at.saturating_add(length);
        let cut =
            message.msg_flags & libc::MSG_CTRUNC != 0 && used.saturating_add(size_of::<libc::c_int>()) <= self.room;
        let nothing = length == 0 && self.kind == libc::SOCK_STREAM;
        Ok((!nothing).then_some(Message { length, kinds, fds, cut }))
    }
}

impl Drop for Queue<'_> {
    fn drop(&mut self) {
        // It cannot fail where setting it did not; but it is the tree's.
        let _ = (0..3).any(|_| set_peek_off(self.file, self.before).is_ok());
    }
}

fn set_peek_off(file: &OwnedFd, offset: i32) -> nix::Result<()> {
    let place = std::ptr::from_ref(&offset).cast();
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel reads one int.
    let r = unsafe { libc::setsockopt(file.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEEK_OFF, place, size) };
    Errno::result(r).map(drop)
}

/// The kinds of these control messages, and the descriptors that came with them.
fn parts(mut control: &[u64]) -> (Vec<i32>, Vec<ReceivedFd>) {
    let (mut kinds, mut taken) = (Vec::new(), Vec::new());
    // struct cmsghdr: its length with the header; level and kind, each half of a word. Data and padding follow.
    while let [length, what, data @ ..] = control {
        let kind = (what >> 32) as i32;
        kinds.push(kind);
        let words = usize::try_from(*length).unwrap_or_default().div_ceil(WORD).max(2);
        if matches!(kind, libc::SCM_RIGHTS | SCM_PIDFD) {
            let bytes = usize::try_from(*length).unwrap_or_default().saturating_sub(2 * WORD);
            for n in 0..bytes / size_of::<libc::c_int>() {
                let Some(word) = data.get(n / 2) else { break };
                let fd = (word >> (32 * (n % 2))) as u32 as i32;
                // A pidfd may be an error number.
                if fd >= 0 {
                    // SAFETY: the kernel has just made it for us; no other code knows it.
                    let fd = ReceivedFd(ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(fd) }));
                    if kind == SCM_PIDFD {
                        fd.close();
                    } else {
                        taken.push(fd);
                    }
                }
            }
        }
        control = control.get(words..).unwrap_or_default();
    }
    (kinds, taken)
}
