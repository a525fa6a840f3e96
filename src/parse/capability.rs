//! Numbers of capabilities (include/uapi/linux/capability.h), as CapEff of status has them.

pub(crate) const CAP_SYS_PTRACE: u32 = 19;
pub(crate) const CAP_SYS_ADMIN: u32 = 21;
pub(crate) const CAP_SYS_RESOURCE: u32 = 24;
/// Linux 5.9+.
pub(crate) const CAP_CHECKPOINT_RESTORE: u32 = 40;

/// Whether a set has it.
pub(crate) fn has(set: u64, capability: u32) -> bool {
    set & (1u64 << (capability & 63)) != 0
}
