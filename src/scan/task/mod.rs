//! Processes and threads.

pub mod cgroups;
pub mod dstate;
pub mod freezer;
pub mod guard_regions;
pub mod links;
pub mod maps;
pub mod own_proc;
pub mod process;
pub mod registers;
pub mod sharing;
pub mod unsaved;
pub mod userns;
