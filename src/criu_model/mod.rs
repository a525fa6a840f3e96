//! What CRIU makes of the tree before it decides: its mount tree, its tests of paths, its pairing of terminals, its sockets.
//! Pure: from the snapshot and the host alone.

pub mod devices;
pub mod diag_list;
pub mod mount_binds;
pub mod mounts;
pub mod paths;
pub mod prefixes;
pub mod sockets;
pub mod ttys;
