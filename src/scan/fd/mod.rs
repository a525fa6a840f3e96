//! Open files.

pub mod details;
pub mod epoll;
pub mod files;
pub mod inherited_locks;
pub mod locks;
pub mod lookup;
pub mod overlay;
pub mod paths;
pub mod queued;
pub mod remote;
pub mod right_paths;
pub mod terminals;
pub mod watches;
