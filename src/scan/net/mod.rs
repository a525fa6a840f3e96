//! Network namespaces and their sockets.

pub(crate) mod diag;
pub(crate) mod inside;
mod proc_net;
