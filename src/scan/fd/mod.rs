//! Open files.

pub(crate) mod details;
pub(crate) mod epoll;
pub(crate) mod files;
pub(crate) mod inherited_locks;
pub(crate) mod locks;
pub(crate) mod lookup;
pub(crate) mod overlay;
pub(crate) mod paths;
pub(crate) mod queued;
pub(crate) mod remote;
pub(crate) mod right_paths;
pub(crate) mod socket_dirs;
pub(crate) mod terminals;
pub(crate) mod watches;
