//! Processes and threads: their state, what they share, who traces them, whose they are, and where they stand.

pub(crate) mod cgroup;
pub(crate) mod cgroup_restore;
pub(crate) mod cpu_state;
pub(crate) mod credentials;
pub(crate) mod freezer;
pub(crate) mod lsm;
pub(crate) mod session;
pub(crate) mod shared;
pub(crate) mod state;
pub(crate) mod tracer;
