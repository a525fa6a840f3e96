//! The `criu-preflight` command on the tree of a fixture: its answer against the plugin's.

use crate::criu::Criu;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The command, and the rules that can refuse without a frozen tree.
pub struct DryRun {
    command: PathBuf,
    early: BTreeSet<String>,
}

/// What it said of a tree.
pub struct Answer {
    status: i32,
    refused: BTreeSet<String>,
    unrestorable: BTreeSet<String>,
    warned: BTreeSet<String>,
    unchecked: String,
}

/// By which rules the plugin refused.
#[derive(Debug, Default)]
pub struct Refused<'a> {
    pub all: BTreeSet<&'a str>,
    /// Of those: for something else, too, than what lies in a socket's queue, which is looked into only in a frozen tree.
    pub outside_queues: BTreeSet<&'a str>,
}

impl DryRun {
    pub fn of(command: &Path) -> Result<DryRun, String> {
        let is_reported = |e: &dyn std::fmt::Display| format!("{} rules --json: {e}", command.display());
        let out = Command::new(command).args(["rules", "--json"]).output().map_err(|e| is_reported(&e))?;
        let rules: Value = serde_json::from_slice(&out.stdout).map_err(|e| is_reported(&e))?;
        let early = rules.as_array().into_iter().flatten().filter(|r| r["certain"] == "early");
        let early = early.filter_map(|r| r["id"].as_str()).map(String::from).collect();
        Ok(DryRun { command: command.into(), early })
    }

    /// Looks at the running tree as this CRIU, given the options that the dump will be given.
    pub fn look(&self, pid: i32, options: &[String], criu: &Criu) -> Result<Answer, String> {
        let (status, out) = self.ask(pid, options, criu)?;
        let said = String::from_utf8_lossy(&out.stderr);
        let report: Value =
            serde_json::from_slice(&out.stdout).map_err(|e| format!("the dry run's report: {e}: {said}"))?;
        let findings = report["findings"].as_array().into_iter().flatten();
        let of = |verdict: &str| -> BTreeSet<String> {
            let found = findings.clone().filter(|f| f["verdict"] == verdict);
            found.filter_map(|f| f["rule"].as_str()).map(String::from).collect()
        };
        let unchecked = match report["unchecked"].as_array() {
            Some(list) if !list.is_empty() => report["unchecked"].to_string(),
            _ => String::new(),
        };
        Ok(Answer { status, refused: of("refuse"), unrestorable: of("unrestorable"), warned: of("warn"), unchecked })
    }

    /// What a person would read.
    pub fn text(&self, pid: i32, options: &[String], criu: &Criu) -> Result<String, String> {
        let out = self.command(pid, options, criu).output().map_err(|e| format!("{}: {e}", self.command.display()))?;
        Ok(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    /// What it says of a tree that it cannot look at.
    pub fn blind(&self, pid: i32, options: &[String], criu: &Criu) -> Result<String, String> {
        let (status, out) = self.ask(pid, options, criu)?;
        match (status, out.stdout.is_empty()) {
            (2, true) => Ok(String::from_utf8_lossy(&out.stderr).into_owned()),
            _ => Err(format!("the dry run has looked, and ended with status {status}")),
        }
    }

    fn command(&self, pid: i32, options: &[String], criu: &Criu) -> Command {
        let mut cmd = Command::new(&self.command);
        cmd.arg("check").arg(pid.to_string()).args(options).arg("--criu").arg(binary(criu)).stdin(Stdio::null());
        cmd
    }

    fn ask(&self, pid: i32, options: &[String], criu: &Criu) -> Result<(i32, Output), String> {
        let out = self
            .command(pid, options, criu)
            .arg("--json")
            .output()
            .map_err(|e| format!("{}: {e}", self.command.display()))?;
        let status = out.status.code().ok_or_else(|| format!("the dry run ended by {}", out.status))?;
        Ok((status, out))
    }

    /// Where it differs from the rules by which the plugin refused: those that need a frozen tree are not the dry run's.
    /// While descriptors lie in queues, which it says by unix-queue-scm-fd, it only warns of what may depend on them.
    pub fn differs(&self, answer: &Answer, plugin: &Refused) -> Option<String> {
        let early = |rules: &BTreeSet<&str>| -> BTreeSet<String> {
            rules.iter().map(|r| r.to_string()).filter(|r| self.early.contains(r)).collect()
        };
        let (most, least) = (early(&plugin.all), early(&plugin.outside_queues));
        let doubt = answer.warned.contains("unix-queue-scm-fd");
        let is_reported = |r: &String| answer.refused.contains(r) || (doubt && answer.warned.contains(r));
        let status = match (answer.refused.is_empty(), answer.unchecked.is_empty()) {
            (false, _) => 1,
            _ if !answer.unrestorable.is_empty() => 3,
            (true, true) => 0,
            (true, false) => 2,
        };
        if !answer.refused.is_subset(&most) || !least.iter().all(is_reported) {
            return Some(format!("the dry run refuses {:?}, the plugin {most:?}", answer.refused));
        }
        if answer.status != status {
            return Some(format!("the dry run ended with status {} and not {status}", answer.status));
        }
        (status == 2).then(|| format!("the dry run could not look at everything: {}", answer.unchecked))
    }
}

/// The executable: what `scripts/provision-criu` makes is a script that runs one below its own directory.
fn binary(criu: &Criu) -> PathBuf {
    let unpacked = criu.path.with_file_name("root/usr/sbin/criu");
    if unpacked.exists() {
        unpacked
    } else {
        criu.path.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_answers_are_held_against_each_other() {
        let dry = DryRun { command: PathBuf::new(), early: ["a".to_string(), "b".to_string()].into() };
        let differs = |status, refused: &[&str], unchecked: &str, plugin: &[&str]| {
            let refused = refused.iter().map(|r| r.to_string()).collect();
            let answer = Answer {
                status,
                refused,
                unrestorable: BTreeSet::new(),
                warned: BTreeSet::new(),
                unchecked: unchecked.into(),
            };
            let all: BTreeSet<&str> = plugin.iter().copied().collect();
            dry.differs(&answer, &Refused { outside_queues: all.clone(), all }).is_some()
        };
        assert!(!differs(0, &[], "", &[]));
        assert!(!differs(1, &["a"], "", &["a"]));
        assert!(!differs(1, &["a"], "maps", &["a"]));
        // Only the frozen look can know it.
        assert!(!differs(0, &[], "", &["frozen"]));
        assert!(differs(1, &["frozen"], "", &["frozen"]));
        assert!(differs(1, &["a"], "", &[]));
        assert!(differs(0, &[], "", &["a"]));
        assert!(differs(1, &["a"], "", &["a", "b"]));
        assert!(differs(0, &["a"], "", &["a"]));
        assert!(differs(2, &[], "", &[]));
        assert!(differs(2, &[], "maps", &[]));
        assert!(differs(0, &[], "maps", &[]));
    }

    #[test]
    fn what_lies_in_queues_is_not_the_dry_runs() {
        let dry = DryRun { command: PathBuf::new(), early: ["a".to_string(), "b".to_string()].into() };
        let differs = |warned: &[&str], outside: &[&'static str]| {
            let warned = warned.iter().map(|r| r.to_string()).collect();
            let answer = Answer {
                status: 0,
                refused: BTreeSet::new(),
                unrestorable: BTreeSet::new(),
                warned,
                unchecked: String::new(),
            };
            let outside_queues = outside.iter().copied().collect();
            dry.differs(&answer, &Refused { all: ["a", "b"].into(), outside_queues }).is_some()
        };
        assert!(!differs(&[], &[]));
        assert!(differs(&[], &["a"]));
        assert!(differs(&["a"], &["a"]), "a warning is no refusal");
        assert!(!differs(&["a", "unix-queue-scm-fd"], &["a"]));
        assert!(differs(&["b", "unix-queue-scm-fd"], &["a"]));
    }
}
