//! An open file as seen through one descriptor.

use crate::bytes::Bytes;
use crate::parse::fdinfo::FdInfo;
use crate::snapshot::detail::{Detail, EpollFacts, TtyFacts, TunFacts, WatchFacts};
use crate::snapshot::{Dev, SocketFacts};
use serde::{Deserialize, Serialize};

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

/// What statx(2) tells of a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FileAttr {
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
}

/// One file that is held, mostly by a descriptor. What lies in a socket's queue follows the socket. The attributes are always
/// there; the rest only where a rule can still fire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OpenFile {
    pub origin: Origin,
    pub attr: FileAttr,
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

impl FileAttr {
    /// The S_IFMT bits.
    pub(crate) fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }
    pub(crate) fn is_socket(&self) -> bool {
        self.kind() == libc::S_IFSOCK
    }
    pub(crate) fn is_chrdev(&self) -> bool {
        self.kind() == libc::S_IFCHR
    }
    pub(crate) fn is_blkdev(&self) -> bool {
        self.kind() == libc::S_IFBLK
    }
    pub(crate) fn is_fifo(&self) -> bool {
        self.kind() == libc::S_IFIFO
    }
    /// An anonymous inode: statx shows no type bits (fs/anon_inodes.c, up to 6.18 at least).
    pub(crate) fn is_anon(&self) -> bool {
        self.kind() == 0
    }
}

impl OpenFile {
    /// What a link of /proc leads to, of which only the attributes are known.
    pub(crate) fn linked(attr: FileAttr) -> OpenFile {
        OpenFile { attr, ..OpenFile::default() }
    }
    /// Its number, of a descriptor of the process.
    pub(crate) fn fd(&self) -> Option<i32> {
        match self.origin {
            Origin::Fd(fd) => Some(fd),
            _ => None,
        }
    }
    /// Where it lies, of what was sent and not received.
    pub(crate) fn queued(&self) -> Option<&Queued> {
        match &self.origin {
            Origin::Queued(at) => Some(at),
            _ => None,
        }
    }
    pub(crate) fn kind(&self) -> u32 {
        self.attr.kind()
    }
    pub(crate) fn is_socket(&self) -> bool {
        self.attr.is_socket()
    }
    pub(crate) fn is_chrdev(&self) -> bool {
        self.attr.is_chrdev()
    }
    pub(crate) fn is_blkdev(&self) -> bool {
        self.attr.is_blkdev()
    }
    pub(crate) fn is_fifo(&self) -> bool {
        self.attr.is_fifo()
    }
    pub(crate) fn is_anon(&self) -> bool {
        self.attr.is_anon()
    }
    pub(crate) fn socket(&self) -> Option<&SocketFacts> {
        match self.detail.as_deref() {
            Some(Detail::Socket(s)) => Some(s),
            _ => None,
        }
    }
    pub(crate) fn tty(&self) -> Option<&TtyFacts> {
        match self.detail.as_deref() {
            Some(Detail::Tty(t)) => Some(t),
            _ => None,
        }
    }
    pub(crate) fn tun(&self) -> Option<&TunFacts> {
        match self.detail.as_deref() {
            Some(Detail::Tun(t)) => Some(t),
            _ => None,
        }
    }
    pub(crate) fn epoll(&self) -> Option<&EpollFacts> {
        match self.detail.as_deref() {
            Some(Detail::Epoll(e)) => Some(e),
            _ => None,
        }
    }
    pub(crate) fn watches(&self) -> Option<&WatchFacts> {
        match self.detail.as_deref() {
            Some(Detail::Watch(w)) => Some(w),
            _ => None,
        }
    }
}
