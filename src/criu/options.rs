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

impl Opt {
    /// The spelling on criu's command line and in its configuration files, without the dashes. `None`: RPC only.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Opt::ExtUnixSk => "ext-unix-sk",
            Opt::ShellJob => "shell-job",
            Opt::FileLocks => "file-locks",
            Opt::TcpEstablished => "tcp-established",
            Opt::TcpClose => "tcp-close",
            Opt::SkipInFlight => "skip-in-flight",
            Opt::EvasiveDevices => "evasive-devices",
            Opt::LinkRemap => "link-remap",
            Opt::ForceIrmap => "force-irmap",
            Opt::EnableExternalSharing => "enable-external-sharing",
            Opt::EnableExternalMasters => "enable-external-masters",
            Opt::AllowUprobes => "allow-uprobes",
            Opt::Unprivileged => "unprivileged",
            Opt::OrphanPtsMaster => return None,
            Opt::AutodetectExtMounts => "external mnt[]",
            Opt::LazyPages => "lazy-pages",
        })
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
        match opt {
            Opt::ExtUnixSk => self.ext_unix_sk,
            Opt::ShellJob => self.shell_job,
            Opt::FileLocks => self.file_locks,
            Opt::TcpEstablished => self.tcp_established,
            Opt::TcpClose => self.tcp_close,
            Opt::SkipInFlight => self.skip_in_flight,
            Opt::EvasiveDevices => self.evasive_devices,
            Opt::LinkRemap => self.link_remap,
            Opt::ForceIrmap => self.force_irmap,
            Opt::EnableExternalSharing => self.enable_external_sharing,
            Opt::EnableExternalMasters => self.enable_external_masters,
            Opt::AllowUprobes => self.allow_uprobes,
            Opt::Unprivileged => self.unprivileged,
            Opt::OrphanPtsMaster => self.orphan_pts_master,
            Opt::AutodetectExtMounts => self.autodetect_ext_mounts,
            Opt::LazyPages => self.lazy_pages,
        }
    }
}

impl Options {
    /// What holds when `criu dump` is given no option at all (`init_opts`, criu/config.c).
    pub fn none_given() -> Self {
        Options {
            ext_unix_sk: Some(false),
            shell_job: Some(false),
            file_locks: Some(false),
            tcp_established: Some(false),
            tcp_close: Some(false),
            skip_in_flight: Some(false),
            evasive_devices: Some(false),
            link_remap: Some(false),
            force_irmap: Some(false),
            enable_external_sharing: Some(false),
            enable_external_masters: Some(false),
            autodetect_ext_mounts: Some(false),
            allow_uprobes: Some(false),
            unprivileged: Some(false),
            orphan_pts_master: Some(false),
            lazy_pages: Some(false),
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
