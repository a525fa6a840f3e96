//! Findings to words: log lines, JSON, hints, documentation. The only room that owns words.
//!
//! * [`lines`] for CRIU's log and the system log, short and folded;
//! * [`json`] for programs, complete and unfolded;
//! * [`terminal`] for a person who asks the `criu-preflight` command;
//! * [`explain`], [`catalogue`] for people and programs that look a rule up, `documents` for readers;
//! * [`hints`]: what remedies a finding, and where this user can write it;
//! * [`template`]: how a rule's item says its sentence.

pub(crate) mod answer;
pub mod catalogue;
mod criu_text;
mod docs;
#[cfg(test)]
mod documents;
pub mod examples;
pub mod explain;
mod folded;
pub(crate) mod hints;
mod inspect;
mod inventory;
#[cfg(test)]
mod inventory_page;
pub mod json;
pub mod lines;
#[cfg(test)]
mod markdown;
mod remedies;
mod route;
#[cfg(test)]
mod rules_page;
mod setting;
mod symptom;
pub(crate) mod template;
pub mod terminal;
#[cfg(test)]
mod tests;
pub mod trace;

use crate::bytes::Bytes;
use crate::config::{Config, Mode};
use crate::rules::{registry, Finding, Rule, Value, Verdict};
use crate::snapshot::{Probe, ScanPhase, Snapshot, Task, Unchecked};
use serde::Serialize;
use std::borrow::Cow;
use template::Style;

/// What the whole report means for the dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// Nothing was found and everything could be looked at.
    Pass,
    /// Something may fail, is lost silently, or could not be looked at. With `mode warn` also what CRIU will refuse.
    Warn,
    /// The dump goes through, and its restore fails for certain.
    Unrestorable,
    /// CRIU would refuse, so we do.
    Refuse,
}

/// What one look over the tree came to.
#[derive(Clone)]
pub struct Report {
    pub look: ScanPhase,
    pub mode: Mode,
    /// Pid and comm of the tree's root.
    pub root: (i32, Bytes),
    /// Processes in the tree.
    pub tasks: usize,
    pub looked_at: LookedAt,
    /// Refusals first.
    pub findings: Vec<Finding>,
    pub unchecked: Vec<Unchecked>,
    /// What to give so that fewer are left.
    pub answer: Option<answer::Answer>,
    /// Where `preflight.json` has been written, to be named where lines are left out; `None`: not (yet) written.
    pub written: Option<Bytes>,
    /// The table that the findings' rule ids refer to.
    pub rules: &'static [&'static Rule],
}

/// How much of the tree was looked at. What processes share counts once.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct LookedAt {
    threads: usize,
    descriptors: usize,
    mappings: usize,
    mounts: usize,
    sockets: usize,
}

impl LookedAt {
    fn of(snap: &Snapshot) -> Self {
        let sum = |count: fn(&Task) -> usize| snap.tasks.iter().map(count).sum();
        LookedAt {
            threads: sum(|t| t.threads.len()),
            descriptors: sum(|t| t.files.len()),
            mappings: sum(|t| t.maps.len()),
            mounts: snap.mounts.iter().map(|t| t.mounts.len()).sum(),
            sockets: snap.tasks.iter().flat_map(|t| &t.files).filter(|f| f.is_socket()).count(),
        }
    }
}

impl Report {
    pub(crate) fn new(snap: &Snapshot, findings: Vec<Finding>, config: &Config) -> Self {
        Report {
            look: snap.look,
            mode: config.mode,
            root: (snap.root, snap.root_task().map(|t| t.comm.clone()).unwrap_or_default()),
            tasks: snap.tasks.len(),
            looked_at: LookedAt::of(snap),
            findings,
            unchecked: snap.unchecked.clone(),
            answer: None,
            written: None,
            rules: registry::RULES,
        }
    }

    pub(crate) fn verdict(&self) -> Outcome {
        if self.findings.iter().any(|f| f.verdict == Verdict::Refuse) {
            match self.mode {
                Mode::Enforce => Outcome::Refuse,
                Mode::Warn | Mode::Off => Outcome::Warn,
            }
        } else if self.findings.iter().any(|f| f.verdict == Verdict::Unrestorable) {
            Outcome::Unrestorable
        } else if self.findings.is_empty() && self.unchecked.is_empty() {
            Outcome::Pass
        } else {
            Outcome::Warn
        }
    }

    /// The item of a finding's rule; `None` for a finding of another version's report.
    pub fn rule_of(&self, finding: &Finding) -> Option<&'static Rule> {
        self.rules.iter().copied().find(|r| r.id == finding.rule)
    }
}

/// A fact as text, escaped: never a control character, whatever the tree called its things.
pub(crate) fn render_value(value: &Value) -> String {
    match value {
        Value::Text(b) => b.escaped(),
        Value::Term(t) => t.to_string(),
        Value::Num(n) => n.to_string(),
        Value::Hex(n) => format!("{n:#x}"),
        Value::Octal(n) => format!("0{n:o}"),
        Value::Dev(d) => format!("{}:{}", d.major, d.minor),
        Value::Addr(a) => a.to_string(),
        Value::Range(a, b) => format!("{a:x}-{b:x}"),
        Value::Pids(p) => p.iter().map(i32::to_string).collect::<Vec<_>>().join(", "),
    }
}

/// What a template's `{name}` stands for in this finding, in full.
pub(crate) fn fact_text(finding: &Finding, name: &str) -> Option<String> {
    finding.get(name).map(render_value).or_else(|| match name {
        "pid" => Some(finding.pid.to_string()),
        "comm" => Some(finding.comm.escaped()),
        "tid" => finding.tid.map(|t| t.to_string()),
        "fd" => finding.fd.map(|fd| fd.to_string()),
        "addr" => finding.addr.map(|a| format!("{a:x}")),
        _ => None,
    })
}

/// The sentence of a finding, its facts as `fact` tells them.
fn sentence(rule: Option<&Rule>, finding: &Finding, fact: &dyn Fn(&str) -> Option<String>) -> String {
    match rule {
        Some(rule) => template::render(rule.message, Style::Sentence, fact).text,
        // A finding without its rule still has its facts.
        None => {
            let facts: Vec<String> =
                finding.facts.iter().map(|(n, _)| format!("{n} {}", fact(n).unwrap_or_default())).collect();
            facts.join(", ")
        }
    }
}

/// The sentence of a finding, complete.
pub fn message(rule: Option<&Rule>, finding: &Finding) -> String {
    sentence(rule, finding, &|name| fact_text(finding, name))
}

/// What could not be looked at.
pub fn probe_text(probe: Probe) -> Cow<'static, str> {
    Cow::Borrowed(match probe {
        Probe::Proc => "/proc",
        Probe::Process => "/proc/PID",
        Probe::Stat => "stat",
        Probe::Status => "status",
        Probe::Threads => "task",
        Probe::Children => "task/children",
        Probe::Descriptors => "fd",
        Probe::FdLink => "fd link",
        Probe::FdInfo => "fdinfo",
        Probe::OpenFile => "open file",
        Probe::Path => "path",
        Probe::UnreadMessage => "unread message",
        Probe::Namespaces => "ns",
        Probe::Limits => "limits",
        Probe::Maps => "maps",
        Probe::Smaps => "smaps",
        Probe::MapFiles => "map_files",
        Probe::Exe => "exe",
        Probe::Cwd => "cwd",
        Probe::Root => "root",
        Probe::Auxv => "auxv",
        Probe::Mountinfo => "mountinfo",
        Probe::UidMap => "uid_map",
        Probe::GidMap => "gid_map",
        Probe::Cgroup => "cgroup",
        Probe::CgroupInside => "cgroup in its cgroup namespace",
        Probe::CgroupTasks => "tasks",
        Probe::CgroupThreads => "cgroup.threads",
        Probe::Locks => "locks",
        Probe::Devices => "devices",
        Probe::OsRelease => "sys/kernel/osrelease",
        Probe::Autofs => "autofs",
        Probe::Kcmp => "kcmp",
        Probe::Registers => "registers",
        Probe::PidfdOpen => "pidfd_open",
        Probe::PidfdGetfd => "pidfd_getfd",
        Probe::ProcessVmReadv => "process_vm_readv",
        Probe::Eventfd => "eventfd",
        Probe::Pipe => "pipe",
        Probe::Socket => "socket",
        Probe::Sockets { net } => return Cow::Owned(format!("sockets of net:[{net}]")),
        Probe::Interfaces { net } => return Cow::Owned(format!("interfaces of net:[{net}]")),
        Probe::Routes { net } => return Cow::Owned(format!("routes of net:[{net}]")),
    })
}

/// Why something could not be looked at.
fn reason(errno: i32) -> String {
    match errno {
        0 => "not understood".to_string(),
        n => format!("{:?}", nix::errno::Errno::from_raw(n)),
    }
}
