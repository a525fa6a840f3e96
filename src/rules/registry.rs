//! The one table of rules, in the order the documentation lists them.

use super::Rule;

/// Every rule.
pub static RULES: &[&Rule] = &[
    &super::device::FD_CHRDEV,
    &super::device::FD_BLKDEV,
    &super::device::TUN_HOST_NETNS,
    &super::anon::FD_ANON,
    &super::anon::FD_ANON_LONG_NAME,
    &super::anon::FD_IO_URING,
    &super::anon::PIDFD_OLD,
    &super::anon::PIDFD_THREAD_RULE,
    &super::anon::PIDFD_OUTSIDE,
    &super::mapping::VMA_ANON_INODE,
    &super::mapping::VMA_DEVICE,
    &super::mapping::VMA_IO_PFNMAP,
    &super::mapping::VMA_VVAR_VCLOCK,
    &super::mapping::VMA_UPROBES,
    &super::mapping::SYSV_SHM_NO_IPCNS,
    &super::pipe::PIPE_PACKET,
    &super::pipe::PIPE_TOO_MANY,
    &super::lock::LOCK_NOT_ALLOWED,
    &super::lock::LOCK_KIND,
];

/// The rule with this id.
pub fn by_id(id: &str) -> Option<&'static Rule> {
    RULES.iter().copied().find(|r| r.id == id)
}
