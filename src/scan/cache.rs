//! What is kept from the look at a running tree for that at the frozen one. What a part holds, and when it still counts, is known to
//! its module alone.

use crate::scan::{fd, kernel, net, task};

/// What the look at the running tree has learned and the frozen one need not find out again. Each part says what keeps it valid.
#[derive(Debug, Default)]
pub struct ScanCache {
    pub(super) learned: Option<kernel::SystemFacts>,
    pub(super) anonymous: fd::files::Anonymous,
    /// There were so many descriptors that /proc/locks was read.
    pub(super) many_locks: bool,
    pub(super) refused: net::diag::Refused,
    pub(super) compared: task::sharing::Compared,
    pub(super) cgroups: task::cgroups::Kept,
    pub(super) right_paths: fd::right_paths::Right,
}
