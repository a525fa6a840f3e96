//! A descriptor made in another namespace, without going there ourselves.
//!
//! A socket belongs to the network namespace it was made in for good, a mount of message queues to the IPC namespace. So a
//! child enters the namespace, makes the thing, hands it back and ends; all talk with it then happens in our own process.

use crate::scan::ns_child;
use crate::scan::sys::{retry, wait_readable};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::socket::{self, ControlMessageOwned, MsgFlags};
use nix::sys::stat::Mode;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// A kind of namespace, and what is made in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Errand {
    /// In /proc/PID/ns.
    pub name: &'static str,
    pub flag: libc::c_int,
    /// Makes system calls only, and returns a descriptor or -1.
    pub make: unsafe fn(libc::c_int) -> RawFd,
    pub argument: libc::c_int,
}

/// A netlink socket of this protocol (NETLINK_SOCK_DIAG, NETLINK_ROUTE).
pub(crate) const fn netlink(protocol: libc::c_int) -> Errand {
    unsafe fn make(protocol: libc::c_int) -> RawFd {
        // SAFETY: takes three numbers.
        unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) }
    }
    Errand { name: "net", flag: libc::CLONE_NEWNET, make, argument: protocol }
}

/// A mount of the namespace's message queues that is attached nowhere and ends with its descriptor (Linux 5.2+).
pub(crate) const MQUEUE: Errand = {
    unsafe fn make(_: libc::c_int) -> RawFd {
        // linux/mount.h
        const FSOPEN_CLOEXEC: libc::c_int = 1;
        const FSCONFIG_CMD_CREATE: libc::c_int = 6;
        const FSMOUNT_CLOEXEC: libc::c_int = 1;
        // SAFETY: numbers, a name that ends in NUL, and null where nothing is given.
        unsafe {
            let context = libc::syscall(libc::SYS_fsopen, c"mqueue".as_ptr(), FSOPEN_CLOEXEC);
            let null = std::ptr::null::<libc::c_char>();
            if context < 0 || libc::syscall(libc::SYS_fsconfig, context, FSCONFIG_CMD_CREATE, null, null, 0) != 0 {
                return -1;
            }
            libc::syscall(libc::SYS_fsmount, context, FSMOUNT_CLOEXEC, 0) as RawFd
        }
    }
    Errand { name: "ipc", flag: libc::CLONE_NEWIPC, make, argument: 0 }
};

/// The namespace `ino`, through one of its members; `None`: the member has gone, or moved.
pub(crate) fn open(ns_request: Errand, pid: i32, ino: u64) -> nix::Result<Option<OwnedFd>> {
    let path = format!("/proc/{pid}/ns/{}", ns_request.name);
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    match retry(|| nix::fcntl::open(path.as_str(), flags, Mode::empty())) {
        Ok(ns) => Ok((nix::sys::stat::fstat(&ns)?.st_ino == ino).then_some(ns)),
        Err(Errno::ENOENT | Errno::ESRCH) => Ok(None),
        Err(e) => Err(e),
    }
}

/// What is made in the namespace. Needs CAP_SYS_ADMIN there; waits no longer than `patience`.
pub(crate) fn make(ns: BorrowedFd, ns_request: Errand, patience: Duration) -> nix::Result<OwnedFd> {
    let ns = ns.as_raw_fd();
    // SAFETY: `in_child` only makes system calls and ends in `_exit`.
    unsafe {
        ns_child::ask(|answer| in_child(ns, ns_request, answer), |from| receive(from, Instant::now() + patience))
    }?
}

/// Enters the namespace, makes the thing and sends it, or sends the errno that stopped it.
///
/// # Safety
///
/// For a process just cloned; does not return. Both descriptors are open.
unsafe fn in_child(ns: RawFd, ns_request: Errand, answer: RawFd) -> ! {
    // SAFETY: system calls on open descriptors and on memory of this frame, here and in `make`; CMSG_FIRSTHDR of a control buffer of at least
    // CMSG_SPACE bytes is not null, and its data has room for the one descriptor that CMSG_LEN announces.
    unsafe {
        let mut made = -1;
        let mut errno: i32 = 0;
        if libc::setns(ns, ns_request.flag) == 0 {
            made = (ns_request.make)(ns_request.argument);
        }
        if made < 0 {
            errno = Errno::last_raw();
        }
        // u64: aligned as struct cmsghdr is.
        let mut control = [0u64; 8];
        let mut text = libc::iovec { iov_base: std::ptr::from_mut(&mut errno).cast(), iov_len: size_of::<i32>() };
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &mut text;
        message.msg_iovlen = 1;
        if made >= 0 {
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(size_of::<RawFd>() as u32) as _;
            let header = libc::CMSG_FIRSTHDR(&message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
            libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(made);
        }
        let sent = libc::sendmsg(answer, &message, libc::MSG_NOSIGNAL);
        libc::_exit(i32::from(sent < 0))
    }
}

/// The child's answer: the descriptor, or why there is none. The outer error is about the child itself.
fn receive(from: BorrowedFd, until: Instant) -> nix::Result<nix::Result<OwnedFd>> {
    wait_readable(from, until)?;
    let mut errno = [0u8; size_of::<i32>()];
    let mut iov = [IoSliceMut::new(&mut errno)];
    let mut control = nix::cmsg_space!(RawFd);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = socket::recvmsg::<()>(from.as_raw_fd(), &mut iov, Some(&mut control), flags)?;
    if message.bytes == 0 {
        // It ended without a word: killed.
        return Err(Errno::ECHILD);
    }
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = part {
            if let Some(fd) = fds.first() {
                // SAFETY: the kernel has just made this descriptor for us; no other code knows it.
                return Ok(Ok(unsafe { OwnedFd::from_raw_fd(*fd) }));
            }
        }
    }
    Ok(Err(Errno::from_raw(i32::from_ne_bytes(errno))))
}
