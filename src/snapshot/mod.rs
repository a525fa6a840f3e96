//! The joined, immutable picture of the tree, as one look saw it.
//!
//! Only `scan/` makes one; rules only read it. It can be written to JSON and read back, so that a user's report is
//! replayed as a test without root and without CRIU. What could not be looked at is not missing in silence: it stands in
//! [`Snapshot::unchecked`]; what vanished while we looked is simply not there.

pub(crate) mod cgroups;
pub(crate) mod detail;
pub(crate) mod device;
pub(crate) mod file;
pub(crate) mod index;
pub(crate) mod probe;
pub(crate) mod socket;
pub(crate) mod still;
pub(crate) mod task;

use crate::bytes::Bytes;
use crate::parse::devices::TtyDriver;
use crate::parse::diag::{NetLink, Route};
use crate::parse::mountinfo::MountInfo;
pub(crate) use cgroups::{Cgroups, Freezer, Inside, Member, Places};
pub(crate) use detail::{
    Detail, EpollEntry, EpollFacts, HandleAnswers, SearchAnswer, TargetHolders, TtyFacts, TunFacts, Watch, WatchFacts,
};
pub(crate) use device::Dev;
pub(crate) use file::{FileAttr, OpenFile, Origin, PathMismatch, Queued};
pub(crate) use index::Index;
pub(crate) use probe::Probe;
use serde::{Deserialize, Serialize};
pub(crate) use socket::{Answer, Socket, SocketFacts, SocketTable, UnixQueueFacts};
#[cfg(test)]
pub(crate) use socket::{TcpFacts, UnixFacts};
use std::collections::BTreeMap;
pub(crate) use task::{
    AioHead, Link, Mapping, Namespaces, ProcSelf, Regs, Shares, Task, Thread, UnsavedThreadState, UnstattableFile,
    UserNs,
};

/// When the picture was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScanPhase {
    /// The tree runs: a finding counts only if a second look sees it again.
    Early,
    /// CRIU has seized and stopped the whole tree and we are its tracer: the final word.
    Frozen,
}

/// The picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub look: ScanPhase,
    /// Root of the tree, in the pid namespace of the /proc that was read (CRIU's).
    pub root: i32,
    pub criu: Observer,
    pub kernel: Kernel,
    /// Depth first from the root, as CRIU walks; the root is the first, zombies are in it.
    pub tasks: Vec<Task>,
    /// One table per mount namespace met, the root task's first.
    pub mounts: Vec<MountTable>,
    /// One table per network namespace met, the root task's first.
    pub sockets: Vec<SocketTable>,
    /// One table per network namespace whose contents CRIU dumps, the root task's first.
    #[serde(default)]
    pub links: Vec<LinkTable>,
    #[serde(default)]
    pub cgroups: Cgroups,
    /// What could not be looked at.
    pub unchecked: Vec<Unchecked>,
    /// When the look began, in clock ticks since boot as [`Task::start_time`]; 0: not known.
    #[serde(default)]
    pub uptime: u64,
    /// The kernel has denied no list of children and of descriptors: what is in none of them is not in the tree, as far as
    /// that could be seen while it moved.
    #[serde(default)]
    pub whole: bool,
}

/// The process that looks (CRIU itself, or the dry run).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Observer {
    pub pid: i32,
    pub ns: Namespaces,
    /// Real, effective, saved, filesystem.
    pub uid: [u32; 4],
    pub gid: [u32; 4],
    /// CapEff of /proc/self/status. `None`: it could not be read, and the ids neither.
    pub cap_eff: Option<u64>,
    /// Seccomp mode of /proc/self/status.
    pub seccomp: Option<u32>,
    /// Programs named `iptables` and `ip6tables` are in the PATH that CRIU's shell would search.
    pub iptables: Option<bool>,
    pub ip6tables: Option<bool>,
    /// Of those that CRIU runs itself.
    #[serde(default)]
    pub iptables_restore: Option<bool>,
    #[serde(default)]
    pub ip6tables_restore: Option<bool>,
    /// `ip`, or what the variable CR_IP_TOOL names in its place.
    #[serde(default)]
    pub ip: Option<bool>,
    /// Its own /dev/pts is a devpts.
    #[serde(default)]
    pub devpts: Option<bool>,
    /// Its own /dev is a devtmpfs or another tmpfs.
    #[serde(default)]
    pub devtmpfs: Option<bool>,
}

/// What the kernel is, as far as a rule depends on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Kernel {
    /// uname release, major and minor.
    pub version: (u32, u32),
    /// Names of character device majors (/proc/devices).
    pub chrdev: BTreeMap<u32, Bytes>,
    /// Names of block device majors (/proc/devices).
    pub blkdev: BTreeMap<u32, Bytes>,
    /// Names of the minors of major 10 (/proc/misc).
    pub misc: BTreeMap<u32, Bytes>,
    /// /proc/tty/drivers, if the tree has a descriptor whose driver only that tells.
    #[serde(default)]
    pub ttys: Vec<TtyDriver>,
    /// SO_PASSCRED on an own UDP socket answers EOPNOTSUPP (kernel 6.16+).
    pub passcred_refused: Option<bool>,
    /// SIOCUNIXFILE is known to this kernel (4.10+, CAP_NET_ADMIN).
    pub siocunixfile: Option<bool>,
    /// This kernel runs 32-bit programs and CRIU could map their vdso (CONFIG_IA32_EMULATION and the arch_prctl).
    pub compat: Option<bool>,
    /// The kernel's own tmpfs and hugetlbfs mounts, where memfds, System V segments and shared anonymous memory are.
    pub shmem: Vec<Dev>,
    /// There is IPv6 (/proc/sys/net/ipv6).
    #[serde(default)]
    pub ipv6: Option<bool>,
    /// /proc/PID/fdinfo shows `lock:` lines (4.1+), so CRIU's refusal for locks comes late (P6).
    pub locks_in_fdinfo: Option<bool>,
}

/// The mounts of one mount namespace (/proc/PID/mountinfo of its first task).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MountTable {
    /// Inode of the namespace.
    pub ns: u64,
    /// The task it was read through.
    pub pid: i32,
    /// In the file's order.
    pub mounts: Vec<MountInfo>,
    /// Which of them are file systems of message queues with queues in them.
    #[serde(default)]
    pub filled: Vec<i32>,
    /// Who serves its autofs mounts; the others have no daemon.
    #[serde(default)]
    pub masters: Vec<AutofsMaster>,
    /// Lines not understood.
    pub bad: usize,
}

/// The process that an autofs mount names as its automounter, as CRIU looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AutofsMaster {
    pub mnt_id: i32,
    /// 0: not in our pid namespace.
    pub pid: i32,
    pub pipe: MasterPipe,
}

/// Whether an automounter has the end of its pipe that it reads from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MasterPipe {
    Open,
    /// It lives, or is a zombie, and has not. `device`: /dev/autofs is there in the mount's namespace.
    Closed {
        device: bool,
    },
    /// There is no such process any more.
    Gone,
}

/// The interfaces of one network namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkTable {
    /// Inode of the namespace.
    pub netns: u64,
    /// The task it was asked through.
    pub pid: i32,
    pub links: Vec<NetLink>,
    #[serde(default)]
    pub routes: RouteTables,
    /// We have CAP_NET_ADMIN over the namespace.
    #[serde(default)]
    pub net_admin: Option<bool>,
}

/// Routes of one network namespace that a restore has trouble with; of each kind the first, and not all if there are many
/// routes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteTables {
    /// IPv4, of the main table, with an interface that has no carrier or is down.
    pub down: Vec<Route>,
    /// Of the main table, by a nexthop object.
    pub by_nexthop: Vec<Route>,
    /// Other tables that have routes, but that of local addresses.
    pub others: Vec<u32>,
}

/// Something that could not be looked at, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unchecked {
    pub pid: i32,
    pub fd: Option<i32>,
    pub probe: Probe,
    /// errno, 0 for text that was not understood.
    pub errno: i32,
}

impl Snapshot {
    /// The task with this pid.
    pub(crate) fn task(&self, pid: i32) -> Option<&Task> {
        self.tasks.iter().find(|t| t.pid == pid)
    }

    /// Whether the mounts of every namespace of the tree, and which of them is CRIU's, are known: what is in no table is
    /// nowhere then.
    pub(crate) fn knows_mounts(&self) -> bool {
        let table = |ns: u64| self.mounts.iter().any(|t| t.ns == ns && t.bad == 0);
        let live = self.tasks.iter().filter(|t| !t.is_zombie());
        self.criu.ns.mnt.is_some() && live.map(|t| t.ns.mnt).all(|ns| ns.is_some_and(table))
    }

    /// Every process that is not dead.
    pub(crate) fn live_tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(|t| !t.is_zombie())
    }

    /// The root task.
    pub(crate) fn root_task(&self) -> Option<&Task> {
        self.tasks.first()
    }

    /// Whether the root task shares this namespace with the observer; `None` when either is not known.
    pub(crate) fn root_shares(&self, pick: impl Fn(&Namespaces) -> Option<u64>) -> Option<bool> {
        Some(pick(&self.root_task()?.ns)? == pick(&self.criu.ns)?)
    }
}
