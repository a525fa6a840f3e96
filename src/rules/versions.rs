//! Which releases of CRIU refuse what a rule is about.

use crate::criu::{Cap, Host, Release};
use std::fmt;

/// A range of releases. A release that is not known counts as newer than all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    All,
    /// All, but not everywhere the same: what differs, for the documentation. The rule asks [`Host::has`].
    Partly(&'static str),
    Since(Release),
    /// All before this one.
    Before(Release),
    Only(Release),
    /// Builds that have what came with the capability.
    With(Cap),
    /// Builds that do not have it.
    Without(Cap),
}

impl Versions {
    /// Whether this CRIU is among them.
    pub(crate) fn cover(self, host: &Host) -> bool {
        match self {
            Versions::All | Versions::Partly(_) => true,
            Versions::Since(first) => host.release >= first,
            Versions::Before(first) => host.release < first,
            Versions::Only(one) => host.release == one,
            Versions::With(cap) => host.has(cap),
            Versions::Without(cap) => !host.has(cap),
        }
    }
}

/// As people write them: `all`, `3.18+`, `3.17.1-4.0`.
impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Versions::All => f.write_str("all"),
            Versions::Partly(words) => write!(f, "all; {words}"),
            Versions::Since(first) => write!(f, "{}+", first.first()),
            Versions::Before(first) => write!(f, "{}-{}", Release::V3_17.first(), first.last_before()),
            Versions::Only(one) => f.write_str(one.first()),
            Versions::With(cap) => Versions::Since(cap.since()).fmt(f),
            Versions::Without(cap) => Versions::Before(cap.since()).fmt(f),
        }
    }
}
