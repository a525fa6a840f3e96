//! `--as RUNTIME`: what a container runtime gives CRIU besides what its user typed. Some of it has no option of `criu dump`, as
//! `orphan_pts_master`, and some of it no user types, as `--empty-ns net`.

use crate::criu_config;
use criu_preflight::bytes::{escape, Bytes};
use criu_preflight::criu::{Host, Runtime};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// CLONE_NEWNET: the network namespace is made anew by the restore, so none of its devices is dumped.
const NEWNET: u32 = 0x4000_0000;

/// A runtime by the name its users call it.
struct Driver {
    name: &'static str,
    runtime: Runtime,
    /// It asks for an empty network namespace.
    empty_net: bool,
    /// The first of these that is there is named in the request.
    config_files: &'static [&'static str],
}

const RUNC: &[&str] = &["/etc/criu/runc.conf"];
const CRUN: &[&str] = &["/etc/criu/crun.conf", "/etc/criu/runc.conf"];

const DRIVERS: &[Driver] = &[
    Driver { name: "runc", runtime: Runtime::Runc, empty_net: true, config_files: RUNC },
    Driver { name: "crun", runtime: Runtime::Crun, empty_net: false, config_files: CRUN },
    Driver { name: "docker", runtime: Runtime::Containerd, empty_net: true, config_files: RUNC },
    Driver { name: "containerd", runtime: Runtime::Containerd, empty_net: true, config_files: RUNC },
    Driver { name: "cri-o", runtime: Runtime::Crio, empty_net: true, config_files: RUNC },
    Driver { name: "podman", runtime: Runtime::PodmanCrun, empty_net: false, config_files: CRUN },
    Driver { name: "podman-runc", runtime: Runtime::PodmanRunc, empty_net: true, config_files: RUNC },
    Driver { name: "lxc", runtime: Runtime::Lxc, empty_net: false, config_files: &[] },
];

/// For messages and the help.
pub fn names() -> String {
    std::iter::once("criu").chain(DRIVERS.iter().map(|d| d.name)).collect::<Vec<_>>().join("|")
}

/// Gives the host what this runtime gives, and then what the configuration file that it names says.
pub fn apply(host: &mut Host, name: &OsStr) -> Result<(), String> {
    // Its own command line.
    if name == "criu" {
        return Ok(());
    }
    let driver = DRIVERS.iter().find(|d| d.name.as_bytes() == name.as_bytes());
    let driver = driver.ok_or_else(|| format!("--as {}: known are {}", escape(name.as_bytes()), names()))?;
    driver.give(host);
    match driver.config_files.iter().map(Path::new).find(|file| file.exists()) {
        Some(file) => criu_config::apply_of_request(host, file),
        None => Ok(()),
    }
}

impl Driver {
    fn give(&self, host: &mut Host) {
        host.runtime = self.runtime;
        let options = &mut host.options;
        // Each mount from outside is named, whatever its propagation.
        options.autodetect_ext_mounts = Some(true);
        options.enable_external_masters = Some(true);
        options.enable_external_sharing = Some(true);
        // Its request has these, true or false, which overrules the default.conf that CRIU has read before
        // (setup_opts_from_req, criu/cr-service.c); lxc-checkpoint makes none.
        if self.runtime != Runtime::Lxc {
            options.tcp_established = Some(false);
            options.file_locks = Some(false);
            options.ext_unix_sk = Some(false);
            options.shell_job = Some(false);
        }
        // Only a newer runc has these two.
        if self.empty_net {
            for option in [&mut options.link_remap, &mut options.skip_in_flight] {
                *option = option.filter(|given| !given);
            }
        }
        if self.empty_net {
            options.empty_ns = options.empty_ns.map(|flags| flags | NEWNET);
        }
        match self.runtime {
            // lxc-checkpoint runs the plain command line.
            Runtime::Lxc => {
                for option in [
                    &mut options.tcp_established,
                    &mut options.file_locks,
                    &mut options.link_remap,
                    &mut options.skip_in_flight,
                    &mut options.force_irmap,
                ] {
                    *option = Some(true);
                }
                if let Some(kinds) = &mut options.enable_fs {
                    kinds.extend(["hugetlbfs", "tracefs"].map(Bytes::from));
                }
            }
            Runtime::Crio | Runtime::CrioCrun => {
                options.orphan_pts_master = Some(true);
                options.file_locks = Some(true);
            }
            _ => options.orphan_pts_master = Some(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use criu_preflight::criu::Release;

    #[test]
    fn a_runtime_gives_what_its_request_says() {
        for (name, empty_ns, pts, locks) in [
            ("runc", NEWNET, true, false),
            ("docker", NEWNET, true, false),
            ("cri-o", NEWNET, true, true),
            ("podman", 0, true, false),
            ("lxc", 0, false, true),
        ] {
            let mut host = Host::dry_run(Release::NEWEST);
            DRIVERS.iter().find(|d| d.name == name).unwrap().give(&mut host);
            let o = &host.options;
            assert_eq!(
                (o.empty_ns, o.orphan_pts_master, o.file_locks, o.autodetect_ext_mounts),
                (Some(empty_ns), Some(pts), Some(locks), Some(true)),
                "{name}"
            );
        }
    }

    #[test]
    fn a_request_overrules_what_default_conf_gave() {
        let given = |name: &str| {
            let mut host = Host::dry_run(Release::NEWEST);
            (host.options.file_locks, host.options.link_remap) = (Some(true), Some(true));
            DRIVERS.iter().find(|d| d.name == name).unwrap().give(&mut host);
            (host.options.file_locks, host.options.link_remap)
        };
        assert_eq!(given("runc"), (Some(false), None));
        assert_eq!(given("crun"), (Some(false), Some(true)));
        assert_eq!(given("lxc"), (Some(true), Some(true)));
    }

    #[test]
    fn an_unknown_runtime_is_an_error_that_names_the_known() {
        let mut host = Host::dry_run(Release::NEWEST);
        let why = apply(&mut host, OsStr::new("rkt\n")).unwrap_err();
        assert!(why.starts_with(r"--as rkt\n: known are criu|runc|crun|docker|"), "{why}");
        assert_eq!(host, Host::dry_run(Release::NEWEST));
    }
}
