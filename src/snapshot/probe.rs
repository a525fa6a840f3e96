//! What the scan tries of the tree and the kernel, as far as it may be denied.

use serde::{Deserialize, Serialize};

/// One kind of attempt. Rules compare these; the words for them are those of [`crate::report::probe_text`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// /proc itself.
    Proc,
    /// The directory of a process in it.
    Process,
    Stat,
    Status,
    /// The list of threads.
    Threads,
    Children,
    /// The list of descriptors; with a descriptor: its attributes.
    Descriptors,
    FdLink,
    FdInfo,
    /// The open file itself: what it answers to a descriptor of ours.
    OpenFile,
    /// Where the path of an open file leads.
    Path,
    /// Unread messages, and what lies in them.
    UnreadMessage,
    Namespaces,
    Limits,
    Maps,
    Smaps,
    MapFiles,
    Exe,
    Cwd,
    Root,
    Auxv,
    Mountinfo,
    UidMap,
    GidMap,
    Cgroup,
    CgroupInside,
    /// Who is in a cgroup: the file of version 1.
    CgroupTasks,
    /// The same of version 2.
    CgroupThreads,
    Locks,
    Devices,
    OsRelease,
    /// The automounter of a mount.
    Autofs,
    Kcmp,
    /// What a tracer can read of a stopped thread.
    Registers,
    PidfdOpen,
    PidfdGetfd,
    ProcessVmReadv,
    /// A short-lived file of our own, to learn a device from.
    Eventfd,
    Pipe,
    Socket,
    /// The sockets of a network namespace.
    Sockets {
        net: u64,
    },
    /// The interfaces of a network namespace.
    Interfaces {
        net: u64,
    },
    /// Its routes.
    Routes {
        net: u64,
    },
}

impl Probe {
    /// Whether this lists tasks or descriptors of the tree, or tells where the walk goes on: without it something of the tree
    /// may be missing.
    pub(crate) fn is_list(self) -> bool {
        use Probe::{Children, Descriptors, Process, Stat, Status, Threads};
        matches!(self, Process | Status | Stat | Threads | Children | Descriptors)
    }
}
