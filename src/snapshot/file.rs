//! An open file as seen through one descriptor.

use crate::bytes::Bytes;
use crate::parse::fdinfo::FdInfo;
use crate::snapshot::Dev;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// What a file is reached by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A descriptor of the process.
    Fd(i32),
    /// A link of its directory in /proc that is no descriptor's: of a mapping, its program, its directories. What holds it
    /// in the snapshot says which.
    #[default]
    Link,
    /// A message in the queue of a UNIX socket; only where CRIU meets it there first.
    Queued(Box<Queued>),
}

/// One file that is held, mostly by a descriptor. What lies in a socket's queue follows the socket. The statx fields are always
/// there; the rest only where a rule can still fire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OpenFile {
    pub origin: Origin,
    pub dev: Dev,
    pub ino: u64,
    /// st_mode: type and permission bits (type bits 0 for an anonymous inode).
    pub mode: u32,
    pub nlink: u32,
    /// Bytes.
    pub size: u64,
    /// Units of 512 bytes.
    pub blocks: u64,
    pub rdev: Dev,
    /// Change of the inode, seconds and nanoseconds; only to know a file again within one run.
    #[serde(default)]
    pub ctime: (i64, u32),
    /// STATX_MNT_ID (5.8+), else fdinfo's mnt_id.
    pub mnt_id: Option<u64>,
    /// f_flags (fcntl F_GETFL on a borrowed descriptor, or fdinfo `flags:` without O_CLOEXEC).
    pub flags: Option<u32>,
    /// Whom its signals go to, where they are asked for (O_ASYNC): F_GETOWN, in our pid namespace; negative: a group.
    #[serde(default)]
    pub owner: Option<i32>,
    /// Text of the /proc link.
    pub link: Option<Bytes>,
    /// Where that text leads to from the root of the mount namespace, if not to this file; `None`: to this file, or not
    /// looked at.
    pub mismatch: Option<PathMismatch>,
    pub info: Option<Box<FdInfo>>,
    pub detail: Option<Box<Detail>>,
    /// The first task in walk order, if it is another, that has the same open file. Asked only of files with POSIX locks.
    #[serde(default)]
    pub earlier_holder: Option<i32>,
}

/// Where a descriptor lies that was sent and not received (SCM_RIGHTS).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// The process's descriptor of the socket.
    pub fd: i32,
    /// 1-based index of the descriptor in that socket's queue; if that is another socket, the index in its queue, and so on.
    pub path: Vec<u32>,
    /// Process and number of the descriptors of the tree that are the same open file, all met later.
    pub later: Vec<(i32, i32)>,
    /// Which of all descriptors that were met in queues it is.
    pub nth: u32,
}

/// What a stat of an open file's path found instead of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathMismatch {
    /// Nothing: the errno, if it is not ENOENT.
    Errno(i32),
    /// Nothing (ENOENT). `above`: the mount of the last directory on the way that is there, if it could be looked up.
    NoEntry { above: Option<u64> },
    /// Nothing, and the file is one of a lower layer of overlayfs whose only name that was.
    LowerLayer,
    /// Another file.
    Replaced { dev: Dev, ino: u64, rdev: Dev },
}

/// What only the open file itself knows, by pidfd_getfd, kcmp or its file handles.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Detail {
    Socket(SocketFacts),
    Tty(TtyFacts),
    Tun(TunFacts),
    Epoll(EpollFacts),
    Watch(WatchFacts),
}

/// An epoll descriptor that still watches what had another number once, in the first task of the tree that has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpollFacts {
    /// In the order of its fdinfo.
    pub entries: Vec<EpollEntry>,
}

/// A watched file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpollEntry {
    /// Its number when it was added.
    pub tfd: u32,
    /// Its device, as fdinfo shows it.
    pub sdev: u32,
    /// That number still is that file.
    pub kept: bool,
    /// `None`: not known.
    pub holders: Option<TargetHolders>,
}

/// Descriptors of an open file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetHolders {
    /// The first of the tree, in walk order: process and number.
    pub first: Option<(i32, i32)>,
    /// The first of the task that has the epoll descriptor.
    pub own: Option<i32>,
}

/// The watched inodes of an inotify or fanotify descriptor, in the order of its fdinfo.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchFacts {
    pub watches: Vec<Watch>,
    /// Bytes of events that nobody has read (FIONREAD); only in the last look of a dump.
    #[serde(default)]
    pub unread: Option<u32>,
}

/// A watched inode, and what the kernel answers to the ways in which CRIU looks for it ([`crate::criu_model::watches`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    pub dev: Dev,
    pub ino: u64,
    /// Of the file handle that the kernel printed; `None`: it printed none.
    pub handle: Option<HandleAnswers>,
    /// Of a search below the directories that CRIU searches; `None`: not made.
    pub search: Option<SearchAnswer>,
}

/// What opening a handle gave on the mounts that CRIU tries, one after the other up to the first on which a path leads to the
/// inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandleAnswers {
    /// On one it opened, and the path that it shows leads to it.
    pub path: bool,
    /// On one it opened, but no path leads to it.
    pub no_path: bool,
    /// On one that could not be found out without asking a file server, or not at all.
    pub unknown: bool,
    /// One was left to the frozen look: opening its root would notify a watcher of the tree.
    pub deferred: bool,
}

/// What a search gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchAnswer {
    pub found: bool,
    /// Something could not be looked at.
    pub partial: bool,
    /// A directory was left to the frozen look.
    pub deferred: bool,
}

/// getsockopt and ioctl answers; `None`: not asked or not answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SocketFacts {
    /// An O_PATH descriptor of a socket file: every getsockopt fails with EBADF.
    pub o_path: bool,
    /// SO_DOMAIN, SO_TYPE, SO_PROTOCOL.
    pub domain: Option<i32>,
    pub kind: Option<i32>,
    pub protocol: Option<i32>,
    /// UDP_CORK (UDP and UDP-Lite).
    pub udp_cork: Option<bool>,
    /// tcpi_state of TCP_INFO, for a TCP socket that diag lists in no state, or in TCP_CLOSE.
    pub tcp_state: Option<u8>,
    /// SO_PEERNAME of such a socket: unlike getpeername() it still tells the peer of a closed connection. A port of 0 (or
    /// ENOTCONN) means that there never was one, or that it was dissolved.
    pub peer: Option<SocketAddr>,
    /// SO_PEEK_OFF above 0 of a TCP socket with unread data (Linux 6.10+).
    #[serde(default)]
    pub peek_off: Option<i32>,
    /// SO_OOBINLINE is set on a TCP socket, and an urgent byte lies behind other unread data.
    #[serde(default)]
    pub urgent_inline: Option<bool>,
    /// The kernel decrypts what a TCP socket receives (kTLS): bytes of FIONREAD, records as they came.
    #[serde(default)]
    pub tls_unread: Option<u32>,
    /// Inode of the socket's network namespace (SIOCGSKNS), for a socket that no diag table lists.
    pub netns: Option<u64>,
    /// SO_PEERCRED pid in our pid namespace, for a connected UNIX socket with a peer outside the tree.
    pub peer_pid: Option<i32>,
    /// A netlink socket: poll() for POLLIN reports anything, an error included (CRIU: `fd_has_data`).
    pub readable: Option<bool>,
    /// SIOCUNIXFILE: the link text of the bound path's file, for a relative name; Err is the errno.
    pub unix_file: Option<Result<Bytes, i32>>,
    /// SO_GET_FILTER length; Err is the errno (EACCES for an eBPF filter).
    pub filter: Option<Result<u32, i32>>,
    /// SO_BINDTODEVICE, empty for none; Err is the errno (ENODEV: the interface is gone).
    pub bound_device: Option<Result<Bytes, i32>>,
    /// getsockname() of an IP socket that no diag table lists.
    #[serde(default)]
    pub local: Option<SocketAddr>,
    /// SO_PASSCRED, SO_PASSSEC, SO_PASSPIDFD of a UNIX socket with unread data: its messages come with control messages.
    pub passcred: Option<bool>,
    pub passsec: Option<bool>,
    pub passpidfd: Option<bool>,
    /// SO_TIMESTAMP or SO_TIMESTAMPNS of such a socket, and their like with 64 bits (Linux 5.1+).
    pub timestamps: Option<bool>,
    pub timestamps64: Option<bool>,
    /// poll() reports an error of such a socket: the peer has gone without reading what it was sent.
    pub error: Option<bool>,
    /// SO_SNDBUF of such a socket.
    pub sndbuf: Option<i32>,
    /// Length of the longest message of those looked at: the first, or more where that can tell more; only when the tree is
    /// frozen.
    pub longest: Option<u64>,
    /// The kinds of control messages (SCM_*) that come with these.
    pub control: Option<Vec<i32>>,
    /// All that CRIU will see of the queue was looked at, and every descriptor in it.
    #[serde(default)]
    pub examined: bool,
    /// `scm_fds:` of the fdinfo of a UNIX socket with unread data: descriptors that lie in its queue (Linux 5.8+).
    pub scm_fds: Option<u32>,
}

/// Answers of a terminal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TtyFacts {
    /// TIOCGPTN (a ptmx) or the number at the end of the slave's path.
    pub index: Option<u32>,
    /// This descriptor is a pty master (/dev/ptmx, 5:2).
    pub master: bool,
    /// TIOCGSID through a borrowed descriptor: only a master answers an outsider. In our pid namespace; 0: it controls nobody.
    pub sid: Option<i32>,
    /// The pid namespace of the leader of that session.
    #[serde(default)]
    pub sid_pidns: Option<u64>,
    /// TIOCGPGRP, likewise.
    pub pgrp: Option<i32>,
    /// The other side is closed, or the terminal was hung up; `None`: it gave answers that do not fit together.
    pub hung_up: Option<bool>,
    /// TIOCGDEV: the terminal itself, also behind /dev/tty and /dev/console.
    pub device: Option<Dev>,
    /// The errno of TCGETS, if it fails: a line discipline that does not know it.
    pub unset: Option<i32>,
    /// Which of the open files of this inode it is; told in trees with many terminals only.
    #[serde(default)]
    pub open_file: Option<usize>,
}

/// Answers of a tun or tap descriptor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TunFacts {
    /// IFF_* of TUNGETIFF; `None` for a descriptor with no interface attached.
    pub flags: Option<u32>,
    pub name: Option<Bytes>,
    /// TUNGETFILTER: a filter with instructions is attached.
    pub filter: Option<bool>,
    /// Inode of the interface's network namespace (TUNGETDEVNETNS or SIOCGSKNS).
    pub netns: Option<u64>,
}

/// Tells files of one task apart, in the keys of findings.
impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Fd(fd) => fd.fmt(f),
            Origin::Link => f.write_str("link"),
            Origin::Queued(at) => write!(f, "queued {}", at.nth),
        }
    }
}

impl OpenFile {
    /// Its number, of a descriptor of the process.
    pub fn fd(&self) -> Option<i32> {
        match self.origin {
            Origin::Fd(fd) => Some(fd),
            _ => None,
        }
    }
    /// Where it lies, of what was sent and not received.
    pub fn queued(&self) -> Option<&Queued> {
        match &self.origin {
            Origin::Queued(at) => Some(at),
            _ => None,
        }
    }
    /// The S_IFMT bits.
    pub fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }
    pub fn is_socket(&self) -> bool {
        self.kind() == libc::S_IFSOCK
    }
    pub fn is_chrdev(&self) -> bool {
        self.kind() == libc::S_IFCHR
    }
    pub fn is_blkdev(&self) -> bool {
        self.kind() == libc::S_IFBLK
    }
    pub fn is_fifo(&self) -> bool {
        self.kind() == libc::S_IFIFO
    }
    /// An anonymous inode: statx shows no type bits (fs/anon_inodes.c, up to 6.18 at least).
    pub fn is_anon(&self) -> bool {
        self.kind() == 0
    }
    pub fn socket(&self) -> Option<&SocketFacts> {
        match self.detail.as_deref() {
            Some(Detail::Socket(s)) => Some(s),
            _ => None,
        }
    }
    pub fn tty(&self) -> Option<&TtyFacts> {
        match self.detail.as_deref() {
            Some(Detail::Tty(t)) => Some(t),
            _ => None,
        }
    }
    pub fn tun(&self) -> Option<&TunFacts> {
        match self.detail.as_deref() {
            Some(Detail::Tun(t)) => Some(t),
            _ => None,
        }
    }
    pub fn epoll(&self) -> Option<&EpollFacts> {
        match self.detail.as_deref() {
            Some(Detail::Epoll(e)) => Some(e),
            _ => None,
        }
    }
    pub fn watches(&self) -> Option<&WatchFacts> {
        match self.detail.as_deref() {
            Some(Detail::Watch(w)) => Some(w),
            _ => None,
        }
    }
}
