//! Where the threads of the tree stand in the hierarchies of cgroups.

use crate::parse::cgroup::Cgroup;
use serde::{Deserialize, Serialize};

/// Looked at only where CRIU could stumble over it: see `scan/task/cgroups.rs`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cgroups {
    /// Each once.
    pub places: Vec<Places>,
    /// In CRIU's order: depth first, each process's threads after it.
    pub members: Vec<Member>,
    /// Those of CRIU's process; `None`: not known.
    #[serde(default)]
    pub criu: Option<Vec<Cgroup>>,
    /// Threads that are not in the cgroup of `--freeze-cgroup` (process, thread), where CRIU freezes that.
    #[serde(default)]
    pub not_frozen: Vec<(i32, i32)>,
    /// Threads in that cgroup that are not of the tree and are traced, each with its tracer.
    #[serde(default)]
    pub frozen_traced: Vec<(i32, i32)>,
    /// The same that are stopped.
    #[serde(default)]
    pub frozen_stopped: Vec<i32>,
    /// What that directory is; `None`: not given, relative, or not known.
    #[serde(default)]
    pub freezer: Option<Freezer>,
}

/// The directory of `--freeze-cgroup`, as CRIU would find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Freezer {
    V1,
    V2,
    /// It has no file for freezing.
    Missing,
    /// It has one that cannot be opened for writing: the errno.
    Unwritable(i32),
}

/// What `/proc/PID/task/TID/cgroup` says of one thread or many.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Places {
    /// As we are shown it, and CRIU.
    pub lines: Vec<Cgroup>,
    /// As the root task is shown it, from the root of its cgroup namespace; `None`: not known.
    pub inside: Option<Inside>,
}

/// The same file, read in another cgroup namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Inside {
    pub lines: Vec<Cgroup>,
    /// Bytes of the file.
    pub size: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub pid: i32,
    pub tid: i32,
    /// Its [`Places`], by their number.
    pub places: usize,
}
