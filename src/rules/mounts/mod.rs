//! The mounts of the dumped mount namespaces, and what CRIU writes of them.

pub mod autofs;
pub mod content;
pub mod dev_instances;
pub mod devpts;
pub mod peer_groups;
pub mod table;
