//! What this CRIU is and can do, told by its symbols, never by a version string: distributions backport.

use serde::{Deserialize, Serialize};

/// The release line whose source the rules mirror. Ordered: later releases are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Release {
    #[serde(rename = "3.17")]
    V3_17,
    /// 3.18 and 3.19 (same options, same hooks, same rules).
    #[serde(rename = "3.18")]
    V3_18,
    #[serde(rename = "4.0")]
    V4_0,
    #[serde(rename = "4.1")]
    V4_1,
    #[serde(rename = "4.2")]
    V4_2,
    #[serde(rename = "4.3")]
    V4_3,
    /// Something this plugin has not met: every finding is only a warning.
    #[serde(rename = "unknown")]
    Unknown,
}

/// Capabilities of the CRIU binary, each found by the presence of a symbol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Caps {
    /// CHECKPOINT_DEVICES is called, there will be a frozen look (4.0+).
    pub checkpoint_hook: bool,
    /// `pidfd_dump_ops`: pidfds are dumped (4.1+).
    pub pidfd: bool,
    /// `kdat_has_shstk` (4.0+).
    pub shstk: bool,
    /// `found_uprobes_vma`: `--allow-uprobes`, ICMP sockets and the SO_PASSCRED fix for kernel 6.16 (4.2+).
    pub uprobes: bool,
    /// `collect_madv_guards` (4.2+).
    pub madv_guards: bool,
    /// `bpfmap_dump_ops`: a build with libbpf.
    pub bpfmap: bool,
    /// `mmap_ia32`: a build with 32-bit task support (the kernel must still offer it).
    pub compat: bool,
    /// `criu_plugin_get_options` (4.3+).
    pub plugin_options: bool,
}

/// What came with a release and changes what a rule finds. One row each in [`Cap::since`]; those that a symbol tells of are
/// asked by that ([`Host::has`](crate::criu::Host::has)), whatever the number says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap {
    /// pidfds are dumped.
    Pidfds,
    /// BPF maps are dumped: a build with libbpf, of whatever release.
    BpfMaps,
    /// The parasite copes with shadow stacks.
    ShadowStacks,
    /// ICMP sockets are dumped.
    IcmpSockets,
    /// SO_PASSCRED is asked of UNIX and netlink sockets alone.
    PasscredUnasked,
    /// Guard regions are dumped.
    GuardRegions,
    /// Plugins are told `--plugin-option`.
    PluginOptions,
    /// A mapping `[vvar_vclock]` is known.
    VvarVclock,
    /// The interface tunl0 is left to the kernel of the restored namespace.
    Tunl0,
    /// A watch on an overlayfs is looked for by walking it.
    OverlayWatches,
    /// Credentials and times that come with queued messages are dumped.
    QueuedCredentials,
    /// UDP-Lite sockets are not asked for any more.
    NoUdpLite,
    /// Lines of /proc files may be longer than a page.
    LongLines,
    /// A stopped process with a stop signal other than SIGSTOP is known.
    StopSignals,
    /// Each thread's cgroups are dumped.
    ThreadCgroups,
    /// `--unprivileged`, and the check of capabilities that came with it.
    Unprivileged,
    /// A terminal from outside passes with `--shell-job`.
    JobTerminals,
    /// The ghost limit is held against the blocks of a file, not against its length.
    GhostBlocks,
    /// A UNIX socket whose file the kernel does not open is refused.
    UnixFileNeeded,
}

impl Cap {
    /// The first release, as published, that has it.
    pub const fn since(self) -> Release {
        match self {
            Cap::StopSignals
            | Cap::ThreadCgroups
            | Cap::Unprivileged
            | Cap::JobTerminals
            | Cap::GhostBlocks
            | Cap::UnixFileNeeded => Release::V3_18,
            Cap::ShadowStacks => Release::V4_0,
            Cap::Pidfds | Cap::BpfMaps | Cap::VvarVclock => Release::V4_1,
            Cap::IcmpSockets | Cap::PasscredUnasked | Cap::GuardRegions => Release::V4_2,
            Cap::PluginOptions
            | Cap::Tunl0
            | Cap::OverlayWatches
            | Cap::QueuedCredentials
            | Cap::NoUdpLite
            | Cap::LongLines => Release::V4_3,
        }
    }
}

impl Release {
    /// The oldest that the rules know.
    pub const OLDEST: Release = Release::V3_17;

    /// Its first and its last version as published: what documents name.
    const fn published(self) -> (&'static str, &'static str) {
        match self {
            Release::V3_17 => ("3.17.1", "3.17.1"),
            Release::V3_18 => ("3.18", "3.19"),
            Release::V4_0 => ("4.0", "4.0"),
            Release::V4_1 => ("4.1", "4.1.1"),
            Release::V4_2 => ("4.2", "4.2"),
            Release::V4_3 => ("4.3", "4.3"),
            Release::Unknown => ("", ""),
        }
    }

    pub const fn first(self) -> &'static str {
        self.published().0
    }

    /// The last version before this release.
    pub const fn last_before(self) -> &'static str {
        match self {
            Release::V3_17 | Release::V3_18 => Release::V3_17,
            Release::V4_0 => Release::V3_18,
            Release::V4_1 => Release::V4_0,
            Release::V4_2 => Release::V4_1,
            Release::V4_3 => Release::V4_2,
            Release::Unknown => Release::NEWEST,
        }
        .published()
        .1
    }

    /// The newest whose source the rules have been held against.
    pub const NEWEST: Release = Release::V4_3;

    /// The release line by the name people use, with or without a third number; `None`: not one of those.
    pub fn by_name(name: &[u8]) -> Option<Self> {
        let mut numbers = name.splitn(3, |b| *b == b'.');
        let line = match (numbers.next(), numbers.next(), numbers.next()) {
            (Some(major), Some(minor), Some(patch)) if !patch.is_empty() && patch.iter().all(u8::is_ascii_digit) => {
                [major, b".", minor].concat()
            }
            (.., None) => name.to_vec(),
            _ => return None,
        };
        Some(match line.as_slice() {
            b"3.17" => Release::V3_17,
            b"3.18" | b"3.19" => Release::V3_18,
            b"4.0" => Release::V4_0,
            b"4.1" => Release::V4_1,
            b"4.2" => Release::V4_2,
            b"4.3" => Release::V4_3,
            _ => return None,
        })
    }

    /// The name a person knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Release::V3_17 => "3.17",
            Release::V3_18 => "3.18/3.19",
            Release::V4_0 => "4.0",
            Release::V4_1 => "4.1",
            Release::V4_2 => "4.2",
            Release::V4_3 => "4.3",
            Release::Unknown => "of an unknown release",
        }
    }
}

impl Caps {
    /// What the release has as published, in a build with 32-bit tasks and without libbpf.
    pub fn of(release: Release) -> Self {
        let since = |first: Release| release >= first && release != Release::Unknown;
        Caps {
            checkpoint_hook: since(Release::V4_0),
            pidfd: since(Release::V4_1),
            shstk: since(Release::V4_0),
            uprobes: since(Release::V4_2),
            madv_guards: since(Release::V4_2),
            bpfmap: false,
            compat: true,
            plugin_options: since(Release::V4_3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_by_name() {
        for (name, release) in [
            ("3.17", Some(Release::V3_17)),
            ("3.17.1", Some(Release::V3_17)),
            ("3.19", Some(Release::V3_18)),
            ("4.1.1", Some(Release::V4_1)),
            ("4.3", Some(Release::V4_3)),
            ("4.9", None),
            ("4", None),
            ("4.2.", None),
            ("4.2.x", None),
            ("4.2.1.1", None),
            ("", None),
        ] {
            assert_eq!(Release::by_name(name.as_bytes()), release, "{name}");
        }
    }
}
