//! What CRIU makes of the tree before it decides: its mount tree, its tests of paths, its pairing of terminals, its sockets.
//! Pure: from the snapshot and the host alone.

pub(crate) mod cgroup_sets;
pub(crate) mod devices;
pub(crate) mod diag_list;
pub(crate) mod epoll;
pub(crate) mod mount_binds;
pub(crate) mod mounts;
pub(crate) mod outside_mounts;
pub(crate) mod own_proc;
pub(crate) mod paths;
pub(crate) mod prefixes;
pub(crate) mod queued;
pub(crate) mod socket;
pub(crate) mod socket_options;
pub(crate) mod sockets;
pub(crate) mod superblock;
pub(crate) mod ttys;
pub(crate) mod unix_names;
pub(crate) mod unix_order;
pub(crate) mod watches;
