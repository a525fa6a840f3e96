//! The remedies of a finding, and where to write it for the program that drives CRIU.

use crate::criu::{options, Gate, Host, Release, Runtime};
use crate::report::route::way;
use crate::report::setting::{quoted, Setting};
use crate::report::template::{render, Style};
use crate::rules::{Finding, Remedy, Rule};

/// How far away a cure is: reports are ordered by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    /// An option, and this user can give it.
    Option,
    /// The workload, a plugin, another CRIU.
    Change,
    /// Nothing.
    NoRemedy,
}

/// What would make the dump pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hint {
    pub rank: Rank,
    pub text: String,
}

/// Instead of a hint.
pub(super) const NO_REMEDY: &str = "no workaround known";

/// What a finding's remedies come to.
#[derive(Default)]
struct Remedies {
    settings: Vec<Setting>,
    changes: Vec<String>,
}

/// The options of which any one allows the finding, as far as this user can give them, and the restore what it then needs.
pub(super) fn settings(rule: &Rule, finding: &Finding, host: &Host) -> Vec<Setting> {
    let given = remedies(rule, finding, host).settings.into_iter();
    given.filter(|s| way(s, host).blocked.is_none() && (!s.hands_in() || can_hand_in(host))).collect()
}

/// The cure of a finding.
pub(crate) fn cure(rule: &Rule, finding: &Finding, host: &Host) -> Hint {
    let Remedies { settings, changes } = remedies(rule, finding, host);
    // Why an option cannot be given.
    let mut blocked = Vec::new();
    // What these let pass cannot be restored: they are named last.
    let (hopeless, settings): (Vec<Setting>, Vec<Setting>) =
        settings.into_iter().partition(|setting| setting.hands_in() && !can_hand_in(host));
    let reachable = reach(&settings, host, &mut blocked);
    let rank = match (&reachable, changes.is_empty()) {
        (Some(_), _) => Rank::Option,
        (None, false) => Rank::Change,
        (None, true) => Rank::NoRemedy,
    };
    let ways: Vec<String> = reachable.into_iter().chain(changes).collect();
    let mut clauses = if ways.is_empty() { Vec::new() } else { vec![ways.join("; or ")] };
    clauses.append(&mut blocked);
    clauses.extend(hopeless.iter().map(|setting| {
        let restore = setting.at_restore().unwrap_or_default();
        format!(
            "{} would let the dump pass, but its restore needs {restore}, which {} cannot give",
            setting.flag(),
            host.runtime.name()
        )
    }));
    let text = if clauses.is_empty() { NO_REMEDY.to_string() } else { clauses.join("; ") };
    Hint { rank, text }
}

/// Of each remedy that the finding has the facts for, what it says.
fn remedies(rule: &Rule, finding: &Finding, host: &Host) -> Remedies {
    let fact = |name: &str| crate::report::fact_text(finding, name);
    let Remedies { mut settings, mut changes } = Remedies::default();
    for lift in rule.remedies {
        match lift {
            // Given already and it did not lift: naming it again is of no use.
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
                    // A field of the RPC request, which the known runtimes set themselves.
                    None => {}
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
            Remedy::ExternalInVain(_) => {}
            Remedy::AtRestore(name, template) => {
                let value = render(template, Style::OptionValue, &fact);
                if value.complete {
                    let value = if template.is_empty() { String::new() } else { quoted(&value.text) };
                    changes.push(format!("restore with {}", options::written(name, &value)));
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
    Remedies { settings, changes }
}

const AGAIN: &str = " (again to the restore)";

/// Whether a descriptor can be handed in at the restore.
fn can_hand_in(host: &Host) -> bool {
    matches!(host.runtime, Runtime::Cli | Runtime::None | Runtime::Rpc)
}

/// One clause for all settings, any of which is enough; `None`: not one of them can be given.
fn reach(settings: &[Setting], host: &Host, blocked: &mut Vec<String>) -> Option<String> {
    let mut flags: (Vec<String>, &str) = (Vec::new(), "");
    let mut files: (Vec<String>, String) = (Vec::new(), String::new());
    let mut fields = Vec::new();
    // A file is read by the restore, too.
    let again = settings.iter().all(Setting::is_given_again);
    for setting in settings {
        let way = way(setting, host);
        let with = |text: String, read_again: bool| match setting.at_restore() {
            Some(_) if again || (read_again && setting.is_given_again()) => text,
            Some(_) if setting.is_given_again() => format!("{text}{AGAIN}"),
            Some(restore) => format!("{text} (restore with {restore})"),
            None => text,
        };
        if let Some(command) = way.flag {
            flags.0.push(with(setting.flag(), false));
            flags.1 = command;
        }
        if let Some(field) = way.field {
            fields.push(with(setting.field(field), false));
        }
        if let Some(file) = way.file {
            files.0.push(with(setting.config_lines(), true));
            files.1 = file;
        }
        if let Some(why) = way.blocked {
            blocked.push(why);
        }
    }
    let mut ways = Vec::new();
    let again = if again { AGAIN } else { "" };
    if !flags.0.is_empty() {
        let to = if flags.1.is_empty() { String::new() } else { format!(" to {}", flags.1) };
        ways.push(format!("pass {}{to}{again}", flags.0.join(" or ")));
    }
    if !fields.is_empty() {
        ways.push(format!("set {} in the RPC request{again}", fields.join(" or ")));
    }
    if !files.0.is_empty() {
        ways.push(format!("write {} in {}", files.0.join(" or "), files.1));
    }
    (!ways.is_empty()).then(|| ways.join(", or "))
}
