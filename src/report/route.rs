//! The ways in which the options of a remedy reach CRIU, by the program that drives it.
//!
//! CRIU's own messages name its command line, which a user of podman or containerd cannot reach. What decides here
//! (criu/cr-service.c, `setup_opts_from_req`): an RPC request overrules `/etc/criu/default.conf` for every field it sets,
//! even to false, and the configuration file it names overrules the request. So an option that a runtime always sends
//! (runc, crun and youki send `tcp_established`, `file_locks`, `shell_job` and `ext_unix_sk`) is reached by the runtime's
//! own flag or by the file the runtime names, never by default.conf.

use crate::criu::{options, Host, Opt, Release, Runtime};
use crate::report::setting::Setting;

/// The ways in which an option can reach CRIU.
#[derive(Default)]
pub(super) struct Route {
    /// The command that has a flag of the same name; empty: criu itself.
    pub flag: Option<&'static str>,
    /// A configuration file that CRIU will read.
    pub file: Option<String>,
    /// A field of the RPC request.
    pub field: Option<&'static str>,
    /// Why there is none.
    pub blocked: Option<String>,
}

const RUNC_CONF: &str = "/etc/criu/runc.conf";
const CRUN_CONF: &str = "/etc/criu/crun.conf";
const DEFAULT_CONF: &str = "/etc/criu/default.conf";
const RUNC_CONF_OR_ANNOTATION: &str = "/etc/criu/runc.conf (or the file of annotation org.criu.config)";
const CRUN_CONF_OR_ANNOTATION: &str = "/etc/criu/crun.conf (or the file of annotation org.criu.config)";

/// How this runtime lets its user give an option.
pub(super) fn way(setting: &Setting, host: &Host) -> Route {
    let always_sent =
        matches!(setting.opt, Some(Opt::TcpEstablished | Opt::FileLocks | Opt::ShellJob | Opt::ExtUnixSk));
    let podman_flag = matches!(setting.opt, Some(Opt::TcpEstablished | Opt::FileLocks));
    // crun hands CRIU a configuration file only with libcriu 4.2 or newer.
    let crun_has_file = host.release >= Release::V4_2;
    let file = |usual: &str| Route { file: Some(usual.to_string()), ..Route::default() };
    // The one of an annotation, or crun's second choice: the runtime's usual one is not read then.
    let named = |usual: &str| match &host.config_file {
        Some(named) if usual.split(' ').next().map(str::as_bytes) != Some(named) => file(&named.escaped()),
        _ => file(usual),
    };
    let flag = |command| Route { flag: Some(command), ..Route::default() };
    let flag_or_file = |has_flag: bool, command, conf| Route { flag: has_flag.then_some(command), ..named(conf) };
    match host.runtime {
        Runtime::Cli | Runtime::None => flag(""),
        Runtime::Runc => flag_or_file(always_sent, "runc checkpoint", RUNC_CONF),
        // Neither hands a flag of its user to the runtime.
        Runtime::Containerd | Runtime::Crio => named(RUNC_CONF),
        Runtime::PodmanRunc => flag_or_file(podman_flag, "podman container checkpoint", RUNC_CONF_OR_ANNOTATION),
        Runtime::Crun if crun_has_file => flag_or_file(always_sent, "crun checkpoint", CRUN_CONF),
        Runtime::Crun if always_sent => flag("crun checkpoint"),
        Runtime::PodmanCrun if crun_has_file => {
            flag_or_file(podman_flag, "podman container checkpoint", CRUN_CONF_OR_ANNOTATION)
        }
        Runtime::PodmanCrun if podman_flag => flag("podman container checkpoint"),
        Runtime::PodmanCrun if always_sent => Route {
            blocked: Some(format!(
                "podman has no flag for --{}, and crun reads {CRUN_CONF} only with libcriu 4.2 or newer",
                setting.name
            )),
            ..Route::default()
        },
        Runtime::ContainerdCrun | Runtime::CrioCrun if crun_has_file => named(CRUN_CONF),
        Runtime::ContainerdCrun | Runtime::CrioCrun if always_sent => Route {
            blocked: Some(format!(
                "{} gives crun no flags, and crun reads {CRUN_CONF} only with libcriu 4.2 or newer",
                host.runtime.name()
            )),
            ..Route::default()
        },
        Runtime::Youki if always_sent => flag("youki's checkpoint command"),
        // Its request says link_remap = false.
        Runtime::Youki if setting.opt == Some(Opt::LinkRemap) => {
            Route { blocked: Some("youki gives no way to pass --link-remap".to_string()), ..Route::default() }
        }
        // lxc-checkpoint runs the plain command line with options of its own choice; default.conf adds to them.
        Runtime::Crun
        | Runtime::PodmanCrun
        | Runtime::ContainerdCrun
        | Runtime::CrioCrun
        | Runtime::Lxc
        | Runtime::Youki => file(DEFAULT_CONF),
        Runtime::Rpc => match field_of(setting) {
            Some(field) => Route { field: Some(field), ..Route::default() },
            None => named("the request's config_file or /etc/criu/default.conf"),
        },
    }
}

/// The field of `criu_opts` (images/rpc.proto of CRIU 4.2); `None`: the request has none.
fn field_of(setting: &Setting) -> Option<&'static str> {
    if let Some(opt) = setting.opt {
        return opt.rpc_field();
    }
    options::named(setting.name)?.rpc_field
}
