//! Network namespaces and their sockets.

pub mod diag;
pub mod inside;
