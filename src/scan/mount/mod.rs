//! Mount tables, and what can only be asked of a mounted file system.

pub mod autofs;
pub mod mqueues;
pub mod tables;
