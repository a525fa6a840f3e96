//! What only an open file itself tells, by its kind.

use crate::bytes::Bytes;
use crate::snapshot::{Dev, SocketFacts};
use serde::{Deserialize, Serialize};

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
    /// Bytes of unread events (FIONREAD); only in the last look of a dump.
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

/// Answers of a terminal.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TtyFacts {
    /// TIOCGPTN (a ptmx) or the number at the end of the slave's path.
    pub index: Option<u32>,
    /// This descriptor is a pty master (/dev/ptmx, 5:2).
    pub master: bool,
    /// TIOCGSID through a borrowed descriptor: only a master answers an outsider. In our pid namespace; 0: it controls none.
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
    /// Which of the open files of this inode it is; known in trees with many terminals only.
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
