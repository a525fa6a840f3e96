//! Processes and threads.

pub(crate) mod cgroups;
pub(crate) mod dstate;
pub(crate) mod freezer;
pub(crate) mod guard_regions;
pub(crate) mod links;
pub(crate) mod maps;
pub(crate) mod own_proc;
pub(crate) mod process;
pub(crate) mod registers;
pub(crate) mod sharing;
pub(crate) mod unsaved;
pub(crate) mod userns;
