//! What CRIU makes of the tree before it decides: its mount tree, its tests of paths, its pairing of terminals, its sockets.
//! Pure: from the snapshot and the host alone.

pub mod devices;
pub mod diag_list;
pub mod epoll;
pub mod mount_binds;
pub mod mounts;
pub mod outside_mounts;
pub mod own_proc;
pub mod paths;
pub mod prefixes;
pub mod queued;
pub mod socket;
pub mod sockets;
pub mod superblock;
pub mod ttys;
pub mod watches;
