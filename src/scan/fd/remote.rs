//! What only the open file itself can tell: one descriptor at a time is borrowed (pidfd_getfd, Linux 5.6), asked and closed.
//!
//! Nothing about the open file changes: no data is read, no flag set, no terminal becomes ours (pidfd_getfd is no open).
//!
//! **Only for sockets, pipes and FIFOs, terminals, tun, inotify and fanotify.** Closing a descriptor flushes its file, and a
//! flush of FUSE waits for the server, which may be a frozen task of this very tree; these kinds and O_PATH descriptors
//! have no flush.

mod ask;
pub(crate) mod peek;

use crate::parse::diag::UnixDiag;
use crate::parse::sockets::protocol::{TCP, UDP, UDPLITE};
use crate::parse::sockets::state::{CLOSE, LISTEN};
use crate::scan::ns_child;
use crate::scan::passes::PassContext;
use crate::scan::sys::Seen;
use crate::snapshot::{Detail, Socket, SocketFacts, TtyFacts, TunFacts};
use nix::errno::Errno;
use nix::sys::socket::{self, MsgFlags};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// A process, held by a pidfd: its number cannot be used again for another while we ask.
#[derive(Debug)]
pub(crate) struct Process(OwnedFd);

impl Process {
    /// pidfd_open(2), Linux 5.3. Only for the leader of a thread group.
    pub(crate) fn open(pid: i32) -> Seen<Process> {
        // SAFETY: two numbers; the result is a new descriptor (close-on-exec) that no other code knows.
        let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) });
        match fd.map(i32::try_from) {
            // SAFETY: see above.
            Ok(Ok(fd)) => Seen::Seen(Process(unsafe { OwnedFd::from_raw_fd(fd) })),
            Ok(Err(_)) => Seen::Denied(libc::EOVERFLOW),
            Err(e) => Err(e).into(),
        }
    }

    /// pidfd_getfd(2): needs PTRACE_MODE_ATTACH_REALCREDS; EPERM is Yama's or another security module's word.
    pub(crate) fn borrow(&self, fd: i32) -> Seen<OwnedFd> {
        // SAFETY: three numbers; the result is a new descriptor (close-on-exec) that no other code knows.
        let got = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_getfd, self.0.as_raw_fd(), fd, 0) });
        match got.map(i32::try_from) {
            // SAFETY: see above.
            Ok(Ok(fd)) => Seen::Seen(unsafe { OwnedFd::from_raw_fd(fd) }),
            Ok(Err(_)) => Seen::Denied(libc::EOVERFLOW),
            // ESRCH: the process has ended; EBADF: the descriptor is closed, or the process is ending.
            Err(Errno::ESRCH | Errno::EBADF) => Seen::Gone,
            Err(e) => Seen::Denied(e as i32),
        }
    }
}

/// Whether CRIU may attach to the running processes: fills in `attach` of [`crate::snapshot::Task`].
///
/// pidfd_getfd(2) asks for exactly what ptrace(2) does (PTRACE_MODE_ATTACH_REALCREDS), Yama and other security modules
/// included, before it looks for the descriptor; -1 is none.
pub(crate) fn attach(cx: &mut PassContext) {
    let allowed = |pid: i32| match Process::open(pid) {
        Seen::Seen(process) => match process.borrow(-1) {
            Seen::Gone => Some(true),
            Seen::Denied(libc::EPERM) => Some(false),
            _ => None,
        },
        _ => None,
    };
    // Everybody may attach to himself in this sense: what is refused there is refused by a filter of system calls.
    if allowed(nix::unistd::getpid().as_raw()) != Some(true) {
        return;
    }
    for task in cx.snap.tasks.iter_mut().filter(|t| !t.is_zombie()) {
        task.attach = allowed(task.pid);
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What to ask an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FdQuery {
    /// A pipe or FIFO: its flags only (O_DIRECT).
    Flags,
    Socket(SocketQuery),
    /// A terminal of any kind.
    Tty {
        /// The device says that it is the master of a pseudoterminal.
        master: bool,
    },
    /// /dev/net/tun.
    Tun,
}

/// What to ask a socket besides its flags; each is one or a few system calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SocketQuery {
    /// SO_DOMAIN, SO_TYPE, SO_PROTOCOL.
    pub identity: bool,
    pub udp_cork: bool,
    /// tcpi_state and SO_PEERNAME.
    pub tcp_state: bool,
    /// What keeps a peek from reaching the end of the receive queue.
    pub tcp_queue: bool,
    /// Whether the kernel decrypts what is received (kTLS).
    pub tls: bool,
    pub netns: bool,
    pub peer_pid: bool,
    pub readable: bool,
    pub unix_file: bool,
    pub filter: bool,
    pub bound_device: bool,
    /// getsockname().
    pub local: bool,
    /// Unread messages: how many descriptors lie among them, what else will come with them, whether an error is pending.
    pub queue: bool,
    /// Options that CRIU does not save: some twenty calls.
    pub options: bool,
}

impl SocketQuery {
    /// All that a rule may need about a socket, by what sock_diag said of it; `None`: it is in no table.
    pub(crate) fn about(listed: Option<Socket<'_>>) -> SocketQuery {
        let filter = SocketQuery { filter: true, ..SocketQuery::default() };
        match listed {
            Some(Socket::Unix(s)) => SocketQuery {
                unix_file: s.path().is_some(),
                peer_pid: s.peer.is_some_and(|ino| ino != 0),
                queue: has_queue(s),
                bound_device: true,
                ..filter
            },
            Some(Socket::Inet(s)) => SocketQuery {
                // An MPTCP socket is listed as its first subflow.
                identity: s.protocol == TCP,
                udp_cork: matches!(s.protocol, UDP | UDPLITE),
                // Bound, and never connected or not any more.
                tcp_state: s.protocol == TCP && s.state == CLOSE,
                tcp_queue: s.protocol == TCP && s.state != LISTEN,
                tls: s.protocol == TCP && s.state != LISTEN && (s.rqueue, s.wqueue) != (0, 0),
                bound_device: s.if_ != 0,
                ..filter
            },
            Some(Socket::Packet(_)) => SocketQuery { bound_device: true, ..filter },
            Some(Socket::Netlink(_)) => SocketQuery { readable: true, bound_device: true, ..filter },
            // What does not fit the family is not asked (see `ask::socket`).
            None => SocketQuery {
                identity: true,
                udp_cork: true,
                tcp_state: true,
                tcp_queue: true,
                tls: true,
                netns: true,
                readable: true,
                unix_file: true,
                bound_device: true,
                local: true,
                ..filter
            },
        }
    }
}

/// Messages are waiting. (A listening socket counts connections there.)
pub(crate) fn has_queue(s: &UnixDiag) -> bool {
    s.state != LISTEN && s.rqlen.is_some_and(|q| q.rqueue != 0)
}

/// The answers of one open file.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Facts {
    /// f_flags, without O_CLOEXEC (which is the descriptor's).
    pub flags: u32,
    /// Of one with O_ASYNC: F_GETOWN.
    pub owner: Option<i32>,
    pub detail: Option<Detail>,
    /// An errno that was no answer: something of this is not known.
    pub unasked: Option<i32>,
}

/// Borrows the descriptor, asks and closes it.
///
/// [`Seen::Gone`]: the process has ended or the descriptor is closed. [`Seen::Denied`]: EPERM (no right to trace the
/// process), ENOSYS (Linux before 5.6), EMFILE (our own table is full).
pub(crate) fn facts(process: &Process, fd: i32, want: FdQuery) -> Seen<Facts> {
    match process.borrow(fd) {
        Seen::Seen(file) => {
            let facts = facts_of(&file, want).into();
            close(file, want);
            facts
        }
        Seen::Gone => Seen::Gone,
        Seen::Denied(errno) => Seen::Denied(errno),
    }
}

/// Closes what was borrowed. Its owner may have closed it meanwhile, or ended: then this is the close of the socket itself, which
/// waits for as long as its owner has asked for (SO_LINGER). It does not where a process ends with it (PF_EXITING in
/// `inet_release()`, net/ipv4/af_inet.c), so such a socket is left to a child that does nothing but end. If none can be made, it
/// is closed here.
fn close(file: OwnedFd, want: FdQuery) {
    if !matches!(want, FdQuery::Socket(_)) || !ask::lingers(&file) {
        return;
    }
    let mut byte = [0u8; 1];
    // SAFETY: two system calls on an open descriptor and on memory that the child has a copy of.
    let _ = unsafe {
        ns_child::ask(
            |done| {
                libc::recv(done, byte.as_mut_ptr().cast(), byte.len(), 0);
                libc::_exit(0)
            },
            |child| {
                drop(file);
                socket::send(child.as_raw_fd(), &[0], MsgFlags::MSG_NOSIGNAL)
            },
        )
    };
}

/// Asks a descriptor of our own.
pub(crate) fn facts_of(file: &OwnedFd, want: FdQuery) -> nix::Result<Facts> {
    let flags = ask::flags(file)?;
    let unasked = ask::NotAsked::default();
    // An O_PATH descriptor answers nothing at all (EBADF).
    let o_path = flags & libc::O_PATH as u32 != 0;
    let detail = match want {
        FdQuery::Flags => None,
        FdQuery::Socket(_) if o_path => Some(Detail::Socket(SocketFacts { o_path, ..SocketFacts::default() })),
        FdQuery::Socket(what) => Some(Detail::Socket(ask::socket(file, what, &unasked))),
        FdQuery::Tty { .. } if o_path => Some(Detail::Tty(TtyFacts::default())),
        FdQuery::Tty { master } => Some(Detail::Tty(ask::tty(file, master, &unasked))),
        FdQuery::Tun if o_path => Some(Detail::Tun(TunFacts::default())),
        FdQuery::Tun => Some(Detail::Tun(ask::tun(file, &unasked))),
    };
    let owner = (flags & libc::O_ASYNC as u32 != 0).then(|| ask::owner(file).ok()).flatten();
    Ok(Facts { flags, owner, detail, unasked: unasked.errno().map(|errno| errno as i32) })
}

/// The f_flags of a descriptor of our own.
pub(crate) fn flags(file: &OwnedFd) -> nix::Result<u32> {
    ask::flags(file)
}

/// Bytes that an inotify or fanotify descriptor has to be read.
pub(crate) fn unread(process: &Process, fd: i32) -> Seen<u32> {
    match process.borrow(fd) {
        Seen::Seen(file) => ask::unread(&file).into(),
        Seen::Gone => Seen::Gone,
        Seen::Denied(errno) => Seen::Denied(errno),
    }
}

#[cfg(test)]
mod tests;
