//! The CRIU around us, as plain data: which release, what it can do, which options it was given, which other plugins
//! stand beside us and who started it.
//!
//! Everything here is gathered once per command by the leaf files of this room and is immutable afterwards, so rules stay
//! pure functions of (snapshot, host) and a recorded pair can be replayed without CRIU.
//!
//! `None` always means *not known*: an option layout that was not recognised and verified, a symbol that is not there. A
//! rule whose gate is unknown warns, it never refuses.

pub(crate) mod auto_fs;
pub(crate) mod cmdline;
pub mod config_files;
pub mod externals;
pub(crate) mod gather;
pub(crate) mod hugetlb;
pub(crate) mod layout;
pub(crate) mod log;
pub mod options;
pub(crate) mod release;
pub(crate) mod report_place;
pub(crate) mod runtime;
pub(crate) mod safe_read;
pub mod settings;
pub(crate) mod siblings;
pub mod symbols;
pub(crate) mod syslog;
pub(crate) mod workdir;

use crate::bytes::Bytes;
pub(crate) use options::Opt;
pub use options::{LockMethod, Options};
pub(crate) use release::Cap;
pub use release::{Caps, Release};
pub use runtime::Runtime;
use serde::{Deserialize, Serialize};
#[cfg(test)]
pub(crate) use siblings::Sibling;
pub(crate) use siblings::{Hook, Siblings};

/// Which command CRIU carries out (`CR_PLUGIN_STAGE__*` of criu-plugin.h), or none at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    Dump,
    PreDump,
    /// No CRIU around us: the C functions of the header, the `criu-preflight` command.
    DryRun,
}

/// All that rules may know about the CRIU that would do the dump.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Host {
    pub stage: Stage,
    pub release: Release,
    pub caps: Caps,
    pub options: Options,
    /// Every `--external` string, whole (`unix[1234]`, `mnt[/data]:vol`, ...), in CRIU's order.
    pub externals: Option<Vec<Bytes>>,
    /// The keys of the inherit-fd list (`tty[...]` is the only one a dump looks at).
    pub inherit_ids: Option<Vec<Bytes>>,
    /// Inode of CRIU's RPC socket (`service_sk_ino`), whose peer is exempt from the external socket rules.
    pub service_sk_ino: Option<u32>,
    pub siblings: Siblings,
    pub runtime: Runtime,
    /// The devices of huge pages that CRIU knows, as stat shows them.
    #[serde(default)]
    pub hugetlb: Option<Vec<u64>>,
    /// The configuration file that an RPC request names: it overrules what else the request says.
    #[serde(default)]
    pub config_file: Option<Bytes>,
}

/// What the options say about a finding that some of them could lift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gate {
    /// One of them is given: CRIU does not refuse.
    Waived,
    /// All are known and none is given: CRIU refuses.
    InForce,
    /// Not known whether one is given: warn.
    Unknown(Missing),
}

/// What would have to be known to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    /// An option of CRIU.
    Option,
    /// The other plugins, which are not loaded yet.
    Plugins,
    /// A fact about the tree or the kernel.
    Fact,
}

impl Host {
    /// No CRIU: what this release would do without any option and any plugin.
    pub fn dry_run(release: Release) -> Self {
        Host {
            stage: Stage::DryRun,
            release,
            caps: Caps::of(release),
            options: Options {
                network_lock: (release < Release::V4_1).then_some(LockMethod::Iptables),
                ..Options::none_given()
            },
            externals: Some(Vec::new()),
            inherit_ids: Some(Vec::new()),
            // As CRIU has it when it was not asked over a socket.
            service_sk_ino: Some(u32::MAX),
            siblings: Siblings::default(),
            runtime: Runtime::None,
            hugetlb: None,
            config_file: None,
        }
    }

    /// Whether this CRIU has what came with a release. One that is not known counts as the newest.
    pub(crate) fn has(&self, cap: Cap) -> bool {
        match cap {
            Cap::CheckpointHook => self.caps.checkpoint_hook,
            Cap::Uprobes => self.caps.uprobes,
            Cap::Pidfds => self.caps.pidfd,
            Cap::BpfMaps => self.caps.bpfmap,
            Cap::ShadowStacks => self.caps.shstk,
            Cap::GuardRegions => self.caps.madv_guards,
            Cap::PluginOptions => self.caps.plugin_options,
            // They came together, and a build that has them need not have the number.
            Cap::IcmpSockets | Cap::PasscredUnasked => self.caps.uprobes || self.release >= cap.since(),
            _ => self.release >= cap.since(),
        }
    }

    /// The gate made of several boolean options, any of which is enough.
    pub(crate) fn gate(&self, any_of: &[Opt]) -> Gate {
        let mut gate = Gate::InForce;
        for opt in any_of {
            match self.options.flag(*opt) {
                Some(true) => return Gate::Waived,
                Some(false) => {}
                None => gate = Gate::OPTION_UNKNOWN,
            }
        }
        gate
    }

    /// The gate of a GPU's device, by the name of its driver: the CUDA plugin takes all of them away before they are dumped.
    pub(crate) fn gate_gpu(&self, driver: Option<&[u8]>) -> Gate {
        if !driver.is_some_and(|d| d.starts_with(b"nvidia")) {
            Gate::InForce
        } else if self.siblings.cuda() {
            Gate::Waived
        } else if self.siblings.pending {
            Gate::PLUGINS_UNKNOWN
        } else {
            Gate::InForce
        }
    }

    /// The gate of a plugin hook: what a loaded sibling could accept is not ours to refuse.
    pub(crate) fn gate_hook(&self, hook: Hook) -> Gate {
        if self.siblings.claims(hook) {
            Gate::Waived
        } else if self.siblings.pending {
            Gate::PLUGINS_UNKNOWN
        } else {
            Gate::InForce
        }
    }
}

impl Gate {
    pub(crate) const OPTION_UNKNOWN: Gate = Gate::Unknown(Missing::Option);
    pub(crate) const PLUGINS_UNKNOWN: Gate = Gate::Unknown(Missing::Plugins);
    pub(crate) const FACT_UNKNOWN: Gate = Gate::Unknown(Missing::Fact);

    /// Any of several gates is enough.
    pub(crate) fn or(self, other: Gate) -> Gate {
        match (self, other) {
            (Gate::Waived, _) | (_, Gate::Waived) => Gate::Waived,
            (Gate::Unknown(missing), _) | (_, Gate::Unknown(missing)) => Gate::Unknown(missing),
            _ => Gate::InForce,
        }
    }
}
