//! Namespaces, and what is in the network namespaces.

pub mod net;
pub mod ns_fd;
pub mod other;
pub mod own_proc;
