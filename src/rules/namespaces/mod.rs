//! Namespaces, and what is in the network namespaces.

pub(crate) mod net;
pub(crate) mod ns_fd;
pub(crate) mod other;
pub(crate) mod own_proc;
pub(crate) mod user_proc;
