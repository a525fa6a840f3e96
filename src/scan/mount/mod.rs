//! Mount tables, and what can only be asked of a mounted file system.

pub(crate) mod autofs;
pub(crate) mod mqueues;
pub(crate) mod tables;
