//! The remedies of a finding, and where to write it for the program that drives CRIU.
//!
//! CRIU's own messages name its command line, which a user of podman or containerd cannot reach. What decides here
//! (criu/cr-service.c, `setup_opts_from_req`): an RPC request overrules `/etc/criu/default.conf` for every field it sets,
//! even to false, and the configuration file it names overrules the request. So an option that a runtime always sends
//! (runc, crun and youki send `tcp_established`, `file_locks`, `shell_job` and `ext_unix_sk`) is reached by the runtime's
//! own flag or by the file the runtime names, never by default.conf.

use crate::criu::{options, Gate, Host, Opt, Release, Runtime};
use crate::report::template::{render, Style};
use crate::rules::{Finding, Remedy, Rule};

/// How far away a cure is: reports are ordered by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// An option, and this user can give it.
    Option,
    /// The workload, a plugin, another CRIU.
    Change,
    /// Nothing.
    NoRemedy,
}

/// What would make the dump pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hint {
    pub rank: Rank,
    pub text: String,
}

/// An option to be given.
struct Setting {
    opt: Option<Opt>,
    name: &'static str,
    /// All of them are needed, each with the name.
    values: Vec<String>,
}

/// The ways in which an option can reach CRIU.
#[derive(Default)]
struct Route {
    /// The command that has a flag of the same name; empty: criu itself.
    flag: Option<&'static str>,
    /// A configuration file that CRIU will read.
    file: Option<String>,
    /// A field of the RPC request.
    field: Option<&'static str>,
    /// Why there is none.
    blocked: Option<String>,
}

/// Instead of a hint.
pub(super) const NO_REMEDY: &str = "no workaround known";

const RUNC_CONF: &str = "/etc/criu/runc.conf";
const CRUN_CONF: &str = "/etc/criu/crun.conf";
const DEFAULT_CONF: &str = "/etc/criu/default.conf";
const RUNC_CONF_OR_ANNOTATION: &str = "/etc/criu/runc.conf (or the file of annotation org.criu.config)";
const CRUN_CONF_OR_ANNOTATION: &str = "/etc/criu/crun.conf (or the file of annotation org.criu.config)";

/// The cure of a finding.
pub fn cure(rule: &Rule, finding: &Finding, host: &Host) -> Hint {
    let fact = |name: &str| crate::report::fact_text(finding, name);
    let mut settings = Vec::new();
    let mut changes = Vec::new();
    let mut blocked: Vec<String> = Vec::new();
    for lift in rule.remedies {
        match lift {
            // Given already and it did not lift: naming it again helps nobody.
            Remedy::Option(opt) | Remedy::OptionFor(opt, _) if host.options.flag(*opt) == Some(true) => {}
            Remedy::Option(opt) if !opt.is_known_to(host) => {}
            Remedy::OptionFor(_, name) if finding.get(name).is_none() => {}
            Remedy::Option(opt) | Remedy::OptionFor(opt, _) => {
                match opt.name().map(|n| n.split_once(' ').unwrap_or((n, ""))) {
                    Some((name, value)) => {
                        let values = (!value.is_empty()).then(|| value.to_string()).into_iter().collect();
                        settings.push(Setting { opt: Some(*opt), name, values });
                    }
                    None if host.runtime == Runtime::Rpc => {
                        settings.push(Setting { opt: Some(*opt), name: "", values: Vec::new() });
                    }
                    None => blocked
                        .push("only an RPC client of CRIU can set orphan_pts_master, its command line cannot".into()),
                }
            }
            // CRIU 3.18+.
            Remedy::Modelled("network-lock", "skip") if host.release == Release::V3_17 => {}
            Remedy::External(template) | Remedy::Modelled(_, template) => {
                let name = match lift {
                    Remedy::Modelled(name, _) => *name,
                    _ => "external",
                };
                let value = render(template, Style::OptionValue, &fact);
                let given = name == "external" && host.gate_external(value.text.as_bytes()) == Gate::Waived;
                if value.complete && !given {
                    // Of the values of `mnt[]` none has a blank: they are several.
                    let values = match value.text.starts_with("mnt[]") {
                        true => value.text.split(' ').map(str::to_string).collect(),
                        false => vec![value.text],
                    };
                    settings.push(Setting { opt: None, name, values });
                }
            }
            Remedy::AtRestore(name, template) => {
                let value = render(template, Style::OptionValue, &fact);
                if value.complete {
                    changes.push(format!("restore with --{name} {}", quoted(&value.text)));
                }
            }
            Remedy::Hook(hook) => changes.push(format!("load a CRIU plugin that accepts it ({} hook)", hook.name())),
            Remedy::Release(release) if host.release != Release::Unknown && host.release >= *release => {}
            Remedy::Release(release) => {
                changes.push(format!("use CRIU {} or newer", release.first()));
            }
            Remedy::Workload(template) => {
                let words = render(template, Style::Sentence, &fact);
                if words.complete {
                    changes.push(words.text);
                }
            }
        }
    }
    let reachable = reach(&settings, host, &mut blocked);
    let rank = match (&reachable, changes.is_empty()) {
        (Some(_), _) => Rank::Option,
        (None, false) => Rank::Change,
        (None, true) => Rank::NoRemedy,
    };
    let ways: Vec<String> = reachable.into_iter().chain(changes).collect();
    let mut clauses = if ways.is_empty() { Vec::new() } else { vec![ways.join("; or ")] };
    clauses.append(&mut blocked);
    let text = if clauses.is_empty() { NO_REMEDY.to_string() } else { clauses.join("; ") };
    Hint { rank, text }
}

/// One clause for all settings, any of which is enough; `None`: not one of them can be given.
fn reach(settings: &[Setting], host: &Host, blocked: &mut Vec<String>) -> Option<String> {
    let mut flags: (Vec<String>, &str) = (Vec::new(), "");
    let mut files: (Vec<String>, String) = (Vec::new(), String::new());
    let mut fields = Vec::new();
    for setting in settings {
        let way = way(setting, host);
        if let Some(command) = way.flag {
            flags.0.push(setting.flag());
            flags.1 = command;
        }
        if let Some(field) = way.field {
            fields.push(setting.field(field));
        }
        if let Some(file) = way.file {
            files.0.push(setting.config_lines());
            files.1 = file;
        }
        if let Some(why) = way.blocked {
            blocked.push(why);
        }
    }
    let mut ways = Vec::new();
    if !flags.0.is_empty() {
        let to = if flags.1.is_empty() { String::new() } else { format!(" to {}", flags.1) };
        ways.push(format!("pass {}{to}", flags.0.join(" or ")));
    }
    if !fields.is_empty() {
        ways.push(format!("set {} in the RPC request", fields.join(" or ")));
    }
    if !files.0.is_empty() {
        ways.push(format!("write {} in {}", files.0.join(" or "), files.1));
    }
    (!ways.is_empty()).then(|| ways.join(", or "))
}

/// How this runtime lets its user give an option.
fn way(setting: &Setting, host: &Host) -> Route {
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
        Runtime::Containerd => named(RUNC_CONF),
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
        Runtime::Youki if always_sent => flag("youki's checkpoint command"),
        // Its request says link_remap = false.
        Runtime::Youki if setting.opt == Some(Opt::LinkRemap) => {
            Route { blocked: Some("youki gives no way to pass --link-remap".to_string()), ..Route::default() }
        }
        // lxc-checkpoint runs the plain command line with options of its own choice; default.conf adds to them.
        Runtime::Crun | Runtime::PodmanCrun | Runtime::Lxc | Runtime::Youki => file(DEFAULT_CONF),
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

/// A value for a shell.
pub(super) fn quoted(value: &str) -> String {
    let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || "_./:=,@%+-".contains(c));
    if plain {
        value.to_string()
    } else {
        format!("'{}'", value.replace('\'', "'\\''"))
    }
}

impl Setting {
    /// For a command line, quoted for a shell where that is needed: brackets are patterns there.
    fn flag(&self) -> String {
        if self.values.is_empty() {
            return format!("--{}", self.name);
        }
        let flags: Vec<String> = self.values.iter().map(|v| format!("--{} {}", self.name, quoted(v))).collect();
        flags.join(" ")
    }

    /// For a configuration file: without dashes; a value with a blank in double quotes (criu/config.c:parse_statement).
    fn config_lines(&self) -> String {
        if self.values.is_empty() {
            return format!("'{}'", self.name);
        }
        let line = |value: &String| match value.contains([' ', '\t', '"', '#']) {
            true => format!("'{} \"{}\"'", self.name, value.replace('"', "\\\"")),
            false => format!("'{} {value}'", self.name),
        };
        let lines: Vec<String> = self.values.iter().map(line).collect();
        lines.join(" and ")
    }

    fn field(&self, field: &str) -> String {
        // `external mnt[]` has a field of its own.
        if self.opt.is_some() || self.values.is_empty() {
            return format!("{field} = true");
        }
        let values: Vec<String> = self.values.iter().map(|value| format!("{field} = {value}")).collect();
        values.join(" and ")
    }
}
