//! The mounts of the dumped mount namespaces, and what CRIU writes of them.

pub(crate) mod autofs;
pub(crate) mod content;
pub(crate) mod dev_instances;
pub(crate) mod devpts;
pub(crate) mod mountpoint;
pub(crate) mod overlay;
pub(crate) mod peer_groups;
pub(crate) mod table;
#[cfg(test)]
mod table_tests;
