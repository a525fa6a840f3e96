//! A process of the tree and what belongs to it besides its descriptors.

use crate::bytes::Bytes;
use crate::parse::idmap::IdRange;
use crate::snapshot::file::OpenFile;
use serde::{Deserialize, Serialize};

/// Inodes of /proc/PID/ns/*; `None`: not readable or not in this kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespaces {
    pub mnt: Option<u64>,
    pub net: Option<u64>,
    pub pid: Option<u64>,
    pub ipc: Option<u64>,
    pub uts: Option<u64>,
    pub user: Option<u64>,
    pub cgroup: Option<u64>,
    pub time: Option<u64>,
    pub time_for_children: Option<u64>,
}

impl Namespaces {
    /// Whether one of them is known to be another than the other process's.
    pub(crate) fn differ(&self, other: &Namespaces) -> bool {
        let all = |n: &Namespaces| [n.mnt, n.net, n.pid, n.ipc, n.uts, n.user, n.cgroup, n.time];
        all(self).into_iter().zip(all(other)).any(|(a, b)| a.is_some() && b.is_some() && a != b)
    }
}

/// One thread (the leader is one of them).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    pub tid: i32,
    /// State letter of its status file.
    pub state: char,
    /// TracerPid; in the frozen look CRIU's own pid, which means no foreign tracer.
    pub tracer: i32,
    /// SigPnd and SigBlk of the thread.
    pub sig_pnd: u64,
    #[serde(default)]
    pub sig_blk: u64,
    /// How often it has gone to sleep; `None`: not known.
    #[serde(default)]
    pub switches: Option<u64>,
    /// 0, 1 strict, 2 filter.
    pub seccomp: u32,
    /// Last column of NSpid.
    pub ns_tid: Option<i32>,
    /// What only a tracer can read (frozen look).
    pub regs: Option<Regs>,
    /// What CRIU does not ask for; only in the last look of a dump.
    #[serde(default)]
    pub unasked: Option<UnsavedThreadState>,
}

/// Properties of a thread that CRIU loses without a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsavedThreadState {
    /// SCHED_* of sched_getscheduler(2).
    pub policy: i32,
    /// Class and level of ioprio_get(2); 0: none of its own.
    pub ioprio: i32,
    /// It does not share its leader's descriptor table, or its root and working directory (kcmp).
    pub own_files: bool,
    pub own_fs: bool,
}

/// What PTRACE_GETREGSET(NT_PRSTATUS) and PTRACE_GET_RSEQ_CONFIGURATION said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Regs {
    /// Bytes the kernel filled in: 68 for a task in 32-bit mode, 216 for a 64-bit one.
    pub size: usize,
    /// The code segment selector.
    pub cs: u64,
    /// Where its area of restartable sequences is (rseq(2)); 0: it has none, or this kernel does not say.
    #[serde(default)]
    pub rseq: u64,
}

/// A link of /proc/PID (exe, cwd, root): its text and the file behind it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Link {
    pub text: Bytes,
    /// statx through the link.
    pub file: Option<OpenFile>,
}

/// One mapping of /proc/PID/maps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mapping {
    /// Its `flags` (VmFlags of smaps) are read only for a task with a mapping that needs them.
    pub vma: crate::parse::maps::Vma,
    /// statx through the map_files link, only for file mappings where a rule can fire; `None`: not read or not openable.
    pub file: Option<OpenFile>,
    /// What stands where the head of an AIO ring belongs; `None`: no ring, or not readable.
    #[serde(default)]
    pub aio_head: Option<AioHead>,
}

/// `struct aio_ring` (fs/aio.c), as far as CRIU tests it: memory that the program can write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AioHead {
    pub nr: u32,
    pub magic: u32,
    pub compat: u32,
    pub incompat: u32,
    pub header_length: u32,
}

/// The earlier task (in walk order) whose thing of the kernel this one shares; `None`: none does, or not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shares {
    /// The address space (kcmp KCMP_VM).
    pub mm: Option<i32>,
    /// Root, cwd and umask (KCMP_FS).
    pub fs: Option<i32>,
    /// Signal handlers (KCMP_SIGHAND).
    pub sighand: Option<i32>,
    /// The descriptor table (KCMP_FILES), of a task that does not share it with its parent: see [`Task::files_of`].
    pub files: Option<i32>,
}

/// The user namespace of a task.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct UserNs {
    /// /proc/PID/uid_map and gid_map as we read them.
    pub uid_map: Vec<IdRange>,
    pub gid_map: Vec<IdRange>,
    /// Who made it (NS_GET_OWNER_UID), in our user namespace.
    pub owner_uid: Option<u32>,
    /// The user namespace (its inode) that each of the task's other namespaces belongs to (NS_GET_USERNS).
    pub owners: Namespaces,
}

/// What /proc/self below a task's root says to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcSelf {
    /// Our number: it is the /proc of our pid namespace.
    Reader,
    /// Nothing: it is the /proc of a pid namespace in which we have no number.
    NoNumber,
    /// It is not there.
    Missing,
    /// No symbolic link that can be read: the errno.
    Errno(i32),
}

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Task {
    pub pid: i32,
    pub ppid: i32,
    /// As the kernel has it: any bytes.
    pub comm: Bytes,
    /// State letter; for `Z` and `X` descriptors, mappings and links are empty.
    pub state: char,
    /// Field 22 of stat, in clock ticks since boot: with the pid it names the process for good.
    pub start_time: u64,
    /// Process group and session, in our pid namespace (0: not visible there).
    pub pgid: i32,
    pub sid: i32,
    /// Controlling terminal, stat field 7 (see [`crate::snapshot::Dev::from_tty_nr`]); 0: none.
    pub tty_nr: i32,
    /// Foreground process group of that terminal, stat field 8, in our pid namespace (-1: no terminal, 0: not visible).
    pub tpgid: i32,
    /// The signal that stopped it, of a process in state `T`; 0: not known (its parent has waited for the stop).
    #[serde(default)]
    pub stop_signal: i32,
    /// Whether CRIU may attach to it (early look only); `None`: not known, or it has ended.
    #[serde(default)]
    pub attach: Option<bool>,
    /// NSpid, NSsid, NSpgid of status: from our namespace inwards.
    pub ns_pid: Vec<i32>,
    pub ns_sid: Vec<i32>,
    pub ns_pgid: Vec<i32>,
    /// Real, effective, saved, filesystem.
    pub uid: [u32; 4],
    pub gid: [u32; 4],
    /// Number of supplementary groups, and bytes of the `Groups:` line after its tab.
    pub groups: (usize, usize),
    /// ShdPnd.
    pub shd_pnd: u64,
    /// CapEff of the first thread, in its own user namespace.
    #[serde(default)]
    pub cap_eff: Option<u64>,
    /// Soft RLIMIT_NOFILE: descriptors must be below it. `None`: not known, or unlimited.
    pub nofile: Option<u64>,
    /// Bytes of address space that its soft RLIMIT_AS leaves. `None`: not known, or unlimited.
    #[serde(default)]
    pub free_address_space: Option<u64>,
    /// `x86_Thread_features:` names.
    pub thread_features: Vec<Bytes>,
    pub threads: Vec<Thread>,
    pub ns: Namespaces,
    /// Read for the root task, and for others only where CRIU lacks a capability; `None`: not read.
    pub userns: Option<Box<UserNs>>,
    pub shares: Shares,
    /// ELF class of the executable (1: 32-bit, 2: 64-bit); `None`: not known.
    pub elf_class: Option<u8>,
    pub exe: Option<Link>,
    pub cwd: Option<Link>,
    pub root: Option<Link>,
    /// Of the root task; `None`: not known.
    #[serde(default)]
    pub proc_self: Option<ProcSelf>,
    /// Of the root task, if its /proc is one of a pid namespace above its own: which numbers in the paths of the tree's files and
    /// directories there are those of living processes.
    #[serde(default)]
    pub proc_alive: Vec<i32>,
    /// Ascending by fd. Empty when the table is shared with `files_of`.
    pub files: Vec<OpenFile>,
    /// The first task of those that share this one's descriptor table (kcmp KCMP_FILES), of a long table or its parent's;
    /// `None`: read by itself.
    pub files_of: Option<i32>,
    /// What is open or entered, and has no attributes any more: stat says ENOENT.
    #[serde(default)]
    pub unstattable: Vec<UnstattableFile>,
    /// Number of descriptors seen by the listing.
    pub fd_count: usize,
    /// In address order. Empty when the address space is shared with `maps_of`.
    pub maps: Vec<Mapping>,
    /// The first task of those that share this one's address space, if it was known before reading: where there are few
    /// mappings, each task has its own list of them. (Who shares with whom is in [`Shares::mm`].)
    #[serde(default)]
    pub maps_of: Option<i32>,
    /// The first guard region (MADV_GUARD_INSTALL) in a private mapping: looked for only in the early look, for a CRIU that
    /// cannot dump it.
    pub guard: Option<(u64, u64)>,
}

/// A descriptor or directory of a process that the kernel has the name of and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnstattableFile {
    /// `None`: the current or the root directory.
    pub fd: Option<i32>,
    pub link: Bytes,
}

impl Mapping {
    /// A mapping of which nothing but its line is known.
    pub(crate) fn new(vma: crate::parse::maps::Vma, file: Option<OpenFile>) -> Mapping {
        Mapping { vma, file, aio_head: None }
    }

    /// A ring of io_setup(2), as CRIU tells it: by its name, and an inode without a type (`vma_get_mapfile`).
    pub(crate) fn is_aio_ring(&self) -> bool {
        self.vma.major == 0 && self.vma.path.starts_with(b"/[aio]") && self.file.as_ref().is_some_and(OpenFile::is_anon)
    }
}

impl Task {
    /// Whether the process is dead and only waits for its parent.
    pub(crate) fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }

    /// The pid as the task's own pid namespace knows it.
    pub(crate) fn own_pid(&self) -> i32 {
        self.ns_pid.last().copied().unwrap_or(self.pid)
    }

    /// The session as the task's own pid namespace knows it; 0: its leader is not visible there.
    pub(crate) fn own_sid(&self) -> i32 {
        self.ns_sid.last().copied().unwrap_or(self.sid)
    }
}
