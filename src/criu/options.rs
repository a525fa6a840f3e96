//! The options CRIU was given, each known or not.

use serde::{Deserialize, Serialize};

/// `opts.network_lock_method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockMethod {
    Iptables,
    Nftables,
    Skip,
}

/// A boolean option that can lift a refusal; the name is the one a person writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Opt {
    ExtUnixSk,
    ShellJob,
    FileLocks,
    TcpEstablished,
    TcpClose,
    SkipInFlight,
    EvasiveDevices,
    LinkRemap,
    ForceIrmap,
    EnableExternalSharing,
    EnableExternalMasters,
    AllowUprobes,
    Unprivileged,
    /// RPC only, there is no command line spelling.
    OrphanPtsMaster,
    AutodetectExtMounts,
    LazyPages,
}

/// One boolean option, wherever it is named. Its place in the options object is in [`super::layout`]; the command line
/// (`cli/`), the hints and what holds without any option are made from this. To add one: its variant, its field, its row.
pub struct Switch {
    pub opt: Opt,
    /// On criu's command line and in its configuration files, without the dashes. `None`: RPC only.
    pub name: Option<&'static str>,
    /// The field of `criu_opts` (images/rpc.proto of CRIU 4.2). `None`: the request has none.
    pub rpc_field: Option<&'static str>,
    get: fn(&Options) -> Option<bool>,
    slot: fn(&mut Options) -> &mut Option<bool>,
}

impl Switch {
    /// Whether it is given, if that is known.
    pub fn given(&self, options: &Options) -> Option<bool> {
        (self.get)(options)
    }

    pub fn set(&self, options: &mut Options, given: Option<bool>) {
        *(self.slot)(options) = given;
    }
}

/// All of them, each at the number of its variant.
pub const SWITCHES: [Switch; 16] = [
    Switch {
        opt: Opt::ExtUnixSk,
        name: Some("ext-unix-sk"),
        rpc_field: Some("ext_unix_sk"),
        get: |o| o.ext_unix_sk,
        slot: |o| &mut o.ext_unix_sk,
    },
    Switch {
        opt: Opt::ShellJob,
        name: Some("shell-job"),
        rpc_field: Some("shell_job"),
        get: |o| o.shell_job,
        slot: |o| &mut o.shell_job,
    },
    Switch {
        opt: Opt::FileLocks,
        name: Some("file-locks"),
        rpc_field: Some("file_locks"),
        get: |o| o.file_locks,
        slot: |o| &mut o.file_locks,
    },
    Switch {
        opt: Opt::TcpEstablished,
        name: Some("tcp-established"),
        rpc_field: Some("tcp_established"),
        get: |o| o.tcp_established,
        slot: |o| &mut o.tcp_established,
    },
    Switch {
        opt: Opt::TcpClose,
        name: Some("tcp-close"),
        rpc_field: Some("tcp_close"),
        get: |o| o.tcp_close,
        slot: |o| &mut o.tcp_close,
    },
    Switch {
        opt: Opt::SkipInFlight,
        name: Some("skip-in-flight"),
        rpc_field: Some("tcp_skip_in_flight"),
        get: |o| o.skip_in_flight,
        slot: |o| &mut o.skip_in_flight,
    },
    Switch {
        opt: Opt::EvasiveDevices,
        name: Some("evasive-devices"),
        rpc_field: Some("evasive_devices"),
        get: |o| o.evasive_devices,
        slot: |o| &mut o.evasive_devices,
    },
    Switch {
        opt: Opt::LinkRemap,
        name: Some("link-remap"),
        rpc_field: Some("link_remap"),
        get: |o| o.link_remap,
        slot: |o| &mut o.link_remap,
    },
    Switch {
        opt: Opt::ForceIrmap,
        name: Some("force-irmap"),
        rpc_field: Some("force_irmap"),
        get: |o| o.force_irmap,
        slot: |o| &mut o.force_irmap,
    },
    Switch {
        opt: Opt::EnableExternalSharing,
        name: Some("enable-external-sharing"),
        rpc_field: Some("ext_sharing"),
        get: |o| o.enable_external_sharing,
        slot: |o| &mut o.enable_external_sharing,
    },
    Switch {
        opt: Opt::EnableExternalMasters,
        name: Some("enable-external-masters"),
        rpc_field: Some("ext_masters"),
        get: |o| o.enable_external_masters,
        slot: |o| &mut o.enable_external_masters,
    },
    Switch {
        opt: Opt::AllowUprobes,
        name: Some("allow-uprobes"),
        rpc_field: None,
        get: |o| o.allow_uprobes,
        slot: |o| &mut o.allow_uprobes,
    },
    Switch {
        opt: Opt::Unprivileged,
        name: Some("unprivileged"),
        rpc_field: Some("unprivileged"),
        get: |o| o.unprivileged,
        slot: |o| &mut o.unprivileged,
    },
    Switch {
        opt: Opt::OrphanPtsMaster,
        name: None,
        rpc_field: Some("orphan_pts_master"),
        get: |o| o.orphan_pts_master,
        slot: |o| &mut o.orphan_pts_master,
    },
    Switch {
        opt: Opt::AutodetectExtMounts,
        name: Some("external mnt[]"),
        rpc_field: Some("auto_ext_mnt"),
        get: |o| o.autodetect_ext_mounts,
        slot: |o| &mut o.autodetect_ext_mounts,
    },
    Switch {
        opt: Opt::LazyPages,
        name: Some("lazy-pages"),
        rpc_field: Some("lazy_pages"),
        get: |o| o.lazy_pages,
        slot: |o| &mut o.lazy_pages,
    },
];

impl Opt {
    fn switch(self) -> Option<&'static Switch> {
        SWITCHES.iter().find(|switch| switch.opt == self)
    }

    /// See [`Switch::name`].
    pub fn name(self) -> Option<&'static str> {
        self.switch()?.name
    }

    /// See [`Switch::rpc_field`].
    pub fn rpc_field(self) -> Option<&'static str> {
        self.switch()?.rpc_field
    }
}

/// The fields of `struct cr_options` that a rule's gate needs. `None`: not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Options {
    pub ext_unix_sk: Option<bool>,
    pub shell_job: Option<bool>,
    pub file_locks: Option<bool>,
    pub tcp_established: Option<bool>,
    pub tcp_close: Option<bool>,
    pub skip_in_flight: Option<bool>,
    pub evasive_devices: Option<bool>,
    pub link_remap: Option<bool>,
    pub force_irmap: Option<bool>,
    pub enable_external_sharing: Option<bool>,
    pub enable_external_masters: Option<bool>,
    pub autodetect_ext_mounts: Option<bool>,
    pub allow_uprobes: Option<bool>,
    pub unprivileged: Option<bool>,
    pub orphan_pts_master: Option<bool>,
    pub lazy_pages: Option<bool>,
    /// Bytes.
    pub ghost_limit: Option<u64>,
    pub network_lock: Option<LockMethod>,
    /// CLONE_NEW* bits of `--empty-ns`.
    pub empty_ns: Option<u32>,
    /// `--freeze-cgroup DIR`: outer None not known, inner None not given.
    #[serde(default, with = "known")]
    pub freeze_cgroup: Option<Option<crate::bytes::Bytes>>,
    /// `--irmap-scan-path`, in order.
    pub irmap_scan_paths: Option<Vec<crate::bytes::Bytes>>,
    /// Seconds before CRIU's alarm ends the seizing (`--timeout`, default 10).
    pub timeout: Option<u32>,
    /// `--file-validation`: true for `filesize` (no build-id is read, no file is opened).
    pub validate_by_size: Option<bool>,
    /// `--leave-running` / `--leave-stopped`: `final_state` of the task, as in the options object.
    pub manage_cgroups: Option<u32>,
    /// The values of `--enable-fs` (comma separated lists) and of `--skip-mnt`. CRIU keeps them where nobody can look, so
    /// they are known only where its command line and configuration files are.
    pub enable_fs: Option<Vec<crate::bytes::Bytes>>,
    pub skip_mnt: Option<Vec<crate::bytes::Bytes>>,
    /// `--cgroup-dump-controller`: outer None not known, inner None not given; else the only hierarchies of cgroups that
    /// CRIU looks at, named as in /proc/PID/cgroup (cgroup v2: the empty name).
    #[serde(default, with = "known")]
    pub dump_controllers: Option<Option<Vec<crate::bytes::Bytes>>>,
    /// `--lsm-profile` given.
    pub lsm_supplied: Option<bool>,
}

/// An option with a value in JSON, where null cannot be both not known and not given: the latter is an empty list.
mod known {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<T: Serialize, S: Serializer>(value: &Option<Option<T>>, serializer: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(|given| given.iter().collect::<Vec<_>>()).serialize(serializer)
    }

    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<Option<T>>, D::Error> {
        Ok(Option::<Vec<T>>::deserialize(from)?.map(|given| given.into_iter().next()))
    }
}

/// is_same_path of criu/util.c: empty components and "." do not count.
fn is_same_path(a: &[u8], b: &[u8]) -> bool {
    fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
        path.split(|b| *b == b'/').filter(|p| !matches!(*p, b"" | b"."))
    }
    parts(a).eq(parts(b))
}

impl Options {
    /// Whether `--skip-mnt` is known to name this mountpoint: CRIU leaves such mounts out of its tables
    /// (`should_skip_mount`, criu/proc_parse.c).
    pub fn skips(&self, mountpoint: &[u8]) -> bool {
        self.skip_mnt.iter().flatten().any(|given| is_same_path(given, mountpoint))
    }

    /// The state of one boolean option.
    pub fn flag(&self, opt: Opt) -> Option<bool> {
        opt.switch()?.given(self)
    }
}

impl Options {
    /// What holds when `criu dump` is given no option at all (`init_opts`, criu/config.c).
    pub fn none_given() -> Self {
        let mut options = Options {
            ghost_limit: Some(1 << 20),
            // From CRIU 4.1 on it depends on the build (NETWORK_LOCK_DEFAULT): see [`crate::criu::Host::dry_run`].
            network_lock: None,
            empty_ns: Some(0),
            freeze_cgroup: Some(None),
            irmap_scan_paths: Some(Vec::new()),
            timeout: Some(10),
            validate_by_size: Some(false),
            // CG_MODE_DEFAULT.
            manage_cgroups: Some(1 << 2),
            lsm_supplied: Some(false),
            enable_fs: Some(Vec::new()),
            skip_mnt: Some(Vec::new()),
            dump_controllers: Some(None),
            ..Options::default()
        };
        SWITCHES.iter().for_each(|switch| switch.set(&mut options, Some(false)));
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_switch_is_one_option_under_one_name() {
        for (nth, switch) in SWITCHES.iter().enumerate() {
            assert_eq!(SWITCHES.iter().position(|other| other.opt == switch.opt), Some(nth));
            assert!(switch.name.is_some() || switch.rpc_field.is_some(), "{:?}", switch.opt);
            let mut options = Options::none_given();
            switch.set(&mut options, Some(true));
            for other in &SWITCHES {
                assert_eq!(
                    other.given(&options),
                    Some(other.opt == switch.opt),
                    "{:?} sets {:?}",
                    switch.opt,
                    other.opt
                );
            }
        }
    }

    /// The scanner is sent them so, and a check is saved so.
    #[test]
    fn not_given_is_not_unknown_after_json() {
        let given = Options {
            freeze_cgroup: Some(Some("/a".into())),
            dump_controllers: Some(Some(vec!["cpu".into(), "".into()])),
            ..Options::none_given()
        };
        for options in [Options::none_given(), Options::default(), given] {
            let json = serde_json::to_vec(&options).unwrap();
            assert_eq!(serde_json::from_slice::<Options>(&json).unwrap(), options);
        }
    }
}
