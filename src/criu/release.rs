//! The releases of CRIU that are known, what each can do, and what came with which.
//!
//! Which one is around us its symbols tell, never by a version string: distributions backport ([`super::symbols`]).

use serde::{Deserialize, Serialize};
use std::ffi::CStr;

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
    /// CHECKPOINT_DEVICES is called: there is a frozen look.
    CheckpointHook,
    /// `--allow-uprobes`.
    Uprobes,
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
    /// Plugins get `--plugin-option`.
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
    pub(crate) const fn since(self) -> Release {
        match self {
            Cap::StopSignals
            | Cap::ThreadCgroups
            | Cap::Unprivileged
            | Cap::JobTerminals
            | Cap::GhostBlocks
            | Cap::UnixFileNeeded => Release::V3_18,
            Cap::CheckpointHook | Cap::ShadowStacks => Release::V4_0,
            Cap::Pidfds | Cap::BpfMaps | Cap::VvarVclock => Release::V4_1,
            Cap::Uprobes | Cap::IcmpSockets | Cap::PasscredUnasked | Cap::GuardRegions => Release::V4_2,
            Cap::PluginOptions
            | Cap::Tunl0
            | Cap::OverlayWatches
            | Cap::QueuedCredentials
            | Cap::NoUdpLite
            | Cap::LongLines => Release::V4_3,
        }
    }
}

/// A release line as it was published. To add one: docs/adding-a-criu-release.md.
pub(crate) struct Published {
    pub release: Release,
    /// The lines of versions it stands for, oldest first, without the third number.
    pub lines: &'static [&'static str],
    /// The name a person knows it by.
    pub name: &'static str,
    /// The first and the last version that was published.
    pub first: &'static str,
    pub last: &'static str,
    /// CR_PLUGIN_HOOK__MAX.
    pub hooks: usize,
    /// `sizeof(struct cr_options)` on x86-64: which row of [`super::layout`] it has.
    pub options_size: usize,
    /// The function that it has, and those that it must not have.
    pub has: Option<&'static CStr>,
    pub lacks: &'static [&'static CStr],
}

const DONT_USE_FREEZE_CGROUP: &CStr = c"dont_use_freeze_cgroup";
const INTERRUPT_ONLY_MODE: &CStr = c"set_compel_interrupt_only_mode";

/// All that the rules were held against, oldest first.
pub(crate) const PUBLISHED: [Published; 6] = [
    Published {
        release: Release::V3_17,
        lines: &["3.17"],
        name: "3.17",
        first: "3.17.1",
        last: "3.17.1",
        hooks: 10,
        options_size: 472,
        has: None,
        lacks: &[DONT_USE_FREEZE_CGROUP, INTERRUPT_ONLY_MODE],
    },
    Published {
        release: Release::V3_18,
        lines: &["3.18", "3.19"],
        name: "3.18/3.19",
        first: "3.18",
        last: "3.19",
        hooks: 10,
        options_size: 504,
        has: None,
        lacks: &[DONT_USE_FREEZE_CGROUP, INTERRUPT_ONLY_MODE],
    },
    Published {
        release: Release::V4_0,
        lines: &["4.0"],
        name: "4.0",
        first: "4.0",
        last: "4.0",
        hooks: 12,
        options_size: 504,
        has: Some(DONT_USE_FREEZE_CGROUP),
        lacks: &[],
    },
    Published {
        release: Release::V4_1,
        lines: &["4.1"],
        name: "4.1",
        first: "4.1",
        last: "4.1.1",
        hooks: 12,
        options_size: 504,
        has: Some(INTERRUPT_ONLY_MODE),
        lacks: &[DONT_USE_FREEZE_CGROUP],
    },
    Published {
        release: Release::V4_2,
        lines: &["4.2"],
        name: "4.2",
        first: "4.2",
        last: "4.2.1",
        hooks: 13,
        options_size: 512,
        has: Some(INTERRUPT_ONLY_MODE),
        lacks: &[],
    },
    Published {
        release: Release::V4_3,
        lines: &["4.3"],
        name: "4.3",
        first: "4.3",
        last: "4.3",
        hooks: 17,
        options_size: 552,
        has: Some(INTERRUPT_ONLY_MODE),
        lacks: &[],
    },
];

impl Release {
    /// The newest whose source the rules have been held against.
    pub const NEWEST: Release = Release::V4_3;

    /// Its row; [`Release::Unknown`] has none.
    pub(crate) fn published(self) -> Option<&'static Published> {
        PUBLISHED.iter().find(|row| row.release == self)
    }

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
        PUBLISHED.iter().find(|row| row.lines.iter().any(|known| known.as_bytes() == line)).map(|row| row.release)
    }

    /// All lines that [`Release::by_name`] knows: `3.17, 3.18, ... and 4.3`.
    pub fn names() -> String {
        let lines: Vec<&str> = PUBLISHED.iter().flat_map(|row| row.lines).copied().collect();
        match lines.split_last() {
            Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
            None => String::new(),
        }
    }

    /// The name a person knows it by.
    pub fn name(self) -> &'static str {
        self.published().map_or("of an unknown release", |row| row.name)
    }

    /// Its first version: what documents name.
    pub(crate) fn first(self) -> &'static str {
        self.published().map_or("", |row| row.first)
    }

    /// The last version before this release.
    pub(crate) fn last_before(self) -> &'static str {
        PUBLISHED.iter().rev().find(|row| row.release < self).map_or("", |row| row.last)
    }
}

impl Caps {
    /// What the release has as published, in a build with 32-bit tasks and without libbpf.
    pub fn of(release: Release) -> Self {
        let since = |cap: Cap| release >= cap.since() && release != Release::Unknown;
        Caps {
            checkpoint_hook: since(Cap::CheckpointHook),
            pidfd: since(Cap::Pidfds),
            shstk: since(Cap::ShadowStacks),
            uprobes: since(Cap::Uprobes),
            madv_guards: since(Cap::GuardRegions),
            bpfmap: false,
            compat: true,
            plugin_options: since(Cap::PluginOptions),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_tells_its_releases_apart() {
        assert!(PUBLISHED.is_sorted_by(|a, b| a.release < b.release));
        assert_eq!(PUBLISHED.last().unwrap().release, Release::NEWEST);
        assert_eq!(Release::names(), "3.17, 3.18, 3.19, 4.0, 4.1, 4.2 and 4.3");
        for (nth, a) in PUBLISHED.iter().enumerate() {
            for b in PUBLISHED.iter().skip(nth + 1) {
                let same = (a.hooks, a.options_size, a.has) == (b.hooks, b.options_size, b.has);
                assert!(!same, "{} and {}", a.name, b.name);
            }
        }
        assert_eq!((Release::V4_0.last_before(), Release::Unknown.last_before()), ("3.19", "4.3"));
    }

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
