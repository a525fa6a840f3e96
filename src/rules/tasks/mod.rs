//! Processes and threads: their state, what they share, who traces them, whose they are, and where they stand.

pub mod cgroup;
pub mod cpu_state;
pub mod credentials;
pub mod freezer;
pub mod lsm;
pub mod session;
pub mod shared;
pub mod state;
pub mod tracer;
