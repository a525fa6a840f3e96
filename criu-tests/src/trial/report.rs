//! The plugin's preflight.json, held against what is expected.

use super::Wanted;
use crate::dry::Refused;
use crate::fixtures::ExpectedFinding;
use crate::tree::Tree;
use criu_preflight::report::explain::explain;
use criu_preflight::rules::{registry::by_id, Rule};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// The plugin's preflight.json.
pub struct Report(Value);

/// What the report says to give at once.
pub(super) struct Answer {
    pub options: Vec<String>,
    /// Rules that would refuse still.
    pub remain: Vec<String>,
    pub certain: bool,
}

impl Report {
    /// The answer that settles it, if an option helps.
    pub(super) fn answer(&self) -> Option<Answer> {
        let answer = self.0.get("answer")?;
        let texts = |list: &Value, pick: fn(&Value) -> &Value| {
            list.as_array().into_iter().flatten().filter_map(|v| pick(v).as_str()).map(String::from).collect()
        };
        Some(Answer {
            options: texts(&answer["options"], |v| v),
            remain: texts(&answer["remain"], |v| &v["rule"]),
            certain: answer["certain"] == true,
        })
    }

    /// Without anything to say the plugin writes no file; that it has looked then stands in CRIU's log.
    pub fn of(path: &Path, log: &str) -> Result<Report, String> {
        let looked = |l: &str| l.contains("preflight: ") && l.contains(" look at ");
        if !path.exists() && log.lines().any(looked) {
            return Ok(Report(serde_json::json!({ "findings": [] })));
        }
        let text = std::fs::read_to_string(path).map_err(|e| format!("no {}: {e}", path.display()))?;
        serde_json::from_str(&text).map(Report).map_err(|e| format!("preflight.json: {e}: {text}"))
    }

    /// Whether it was made before the tree was frozen.
    pub fn is_early(&self) -> bool {
        self.0["look"] == "early"
    }

    pub fn findings(&self) -> impl Iterator<Item = &Value> {
        self.0["findings"].as_array().into_iter().flatten()
    }

    pub(crate) fn refusals(&self) -> impl Iterator<Item = &Value> {
        self.findings().filter(|f| f["verdict"] == "refuse")
    }

    pub fn refused_rules(&self) -> BTreeSet<&str> {
        self.refusals().filter_map(|f| f["rule"].as_str()).collect()
    }

    /// `in_queue`: what else is refused follows from what lies there.
    pub(super) fn refused_where(&self, in_queue: bool) -> Refused<'_> {
        let lies_outside = |f: &&Value| !in_queue && f["queued"].as_array().is_none_or(Vec::is_empty);
        let outside = self.refusals().filter(lies_outside);
        Refused { all: self.refused_rules(), outside_queues: outside.filter_map(|f| f["rule"].as_str()).collect() }
    }

    pub(crate) fn rules(&self) -> BTreeSet<&str> {
        self.findings().filter_map(|f| f["rule"].as_str()).collect()
    }

    /// The refusing findings, in the words of the log.
    pub(crate) fn messages(&self) -> Vec<String> {
        let line = |f: &Value| Some(format!("{}: {}", f["rule"].as_str()?, f["message"].as_str()?));
        self.refusals().filter_map(line).collect()
    }

    /// The rules that say that the dump cannot be restored.
    pub(crate) fn unrestorable(&self) -> Vec<String> {
        let all = self.findings().filter(|f| f["verdict"] == "unrestorable");
        all.filter_map(|f| f["rule"].as_str()).map(String::from).collect()
    }

    /// Whether it warns, uncertain, of a restore that fails with one of these errors.
    pub(crate) fn doubts_restore(&self, errors: &[&str]) -> bool {
        let warned = self.findings().filter(|f| f["verdict"] == "warn").filter_map(|f| by_id(f["rule"].as_str()?));
        let mut of_restores = warned.filter(|rule| rule.group == "Dumped, but not restored");
        let says = |rule: &Rule, error: &str| explain(&[rule], error).is_ok_and(|text| text.contains(rule.id));
        of_restores.any(|rule| errors.iter().any(|error| says(rule, error)))
    }

    /// The rules that say that its restore fails unless it is given an option.
    pub(crate) fn restore_options(&self) -> BTreeSet<&str> {
        self.findings().filter(|f| f["reason"] == "restore-option").filter_map(|f| f["rule"].as_str()).collect()
    }

    /// Whether it says so by this rule, at one of these places.
    pub(super) fn announces(&self, rule: &str, places: &[(i32, Option<i32>)]) -> bool {
        let says = |f: &&Value| f["rule"] == rule && f["verdict"] == "unrestorable";
        self.findings().filter(says).any(|f| places.iter().any(|(pid, fd)| names(f, *pid, *fd)))
    }

    /// Warnings that are not there.
    pub(super) fn silent(&self, wanted: &[ExpectedFinding], tree: &Tree) -> Vec<String> {
        let all = self.0["findings"].as_array().map(Vec::as_slice).unwrap_or_default();
        let warns = |b: &&ExpectedFinding| {
            let place = tree.place(b.place);
            let of_rule =
                |f: &&Value| f["rule"] == b.rule && (f["verdict"] == "warn" || f["verdict"] == "unrestorable");
            place.is_some_and(|(pid, fd)| all.iter().filter(of_rule).any(|f| names(f, pid, fd)))
        };
        wanted.iter().filter(|b| !warns(b)).map(|b| format!("{} does not warn of {}", b.rule, b.place)).collect()
    }

    /// What is missing, and what is too much.
    pub(super) fn differs(&self, w: &Wanted, tree: &Tree) -> Vec<String> {
        let mut wrong = Vec::new();
        let named = self.refused_rules();
        // What may change by itself only warns before the freeze; beside a refusal that ends the dump there, it stays so.
        let early = self.is_early() && !named.is_empty();
        let counts = |f: &&Value| f["verdict"] == "refuse" || (early && f["verdict"] == "warn");
        let reported = || self.findings().filter(counts);
        for b in &w.blames {
            let places: Vec<_> = b.place.split('|').map(|p| tree.place(p)).collect();
            if places.contains(&None) {
                wrong.push(format!("the fixture names {}, mkres made no such thing", b.place));
            } else if !reported().any(|f| f["rule"] == b.rule) {
                wrong.push(format!("{} is not reported", b.rule));
            } else {
                let mut of_rule = reported().filter(|f| f["rule"] == b.rule);
                if !of_rule.any(|f| places.iter().flatten().any(|(pid, fd)| names(f, *pid, *fd))) {
                    wrong.push(format!("{} does not name {:?} (pid, fd of “{}”)", b.rule, places, b.place));
                }
            }
        }
        let expected: BTreeSet<&str> = w.blames.iter().map(|b| b.rule).collect();
        for extra in named.difference(&expected) {
            let which = self.refusals().find(|f| f["rule"] == *extra).map(Value::to_string).unwrap_or_default();
            wrong.push(format!("not expected: {which}"));
        }
        wrong
    }
}

/// The finding, or one of the places it says are of the same kind.
pub(crate) fn names(finding: &Value, pid: i32, fd: Option<i32>) -> bool {
    let fits = |v: &Value| (v["pid"] == pid || v["tid"] == pid) && fd.is_none_or(|fd| v["fd"] == fd);
    fits(finding) || finding["also"].as_array().into_iter().flatten().any(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{at, Expect};
    use serde_json::json;

    fn tree() -> Tree {
        let nodes = json!([
            {"node": 0, "pid": 10, "fds": {"pipe.r": 3}, "pids": {}, "outside": {}},
            {"node": 1, "pid": 11, "fds": {"pipe.r": 5}, "pids": {"traced.tid": 12}, "outside": {}},
        ]);
        Tree::reported(json!({"pid": 10, "nodes": nodes}))
    }

    fn differences(findings: Value, blames: &[ExpectedFinding]) -> Vec<String> {
        let report = Report(json!({ "findings": findings }));
        let wanted = Wanted::new(Expect::Refuse(""), blames.to_vec());
        report.differs(&wanted, &tree())
    }

    #[test]
    fn a_report_that_names_all_places_fits() {
        let findings = json!([
            {"rule": "a", "verdict": "refuse", "pid": 10, "fd": 3, "also": [{"pid": 11, "fd": 5}]},
            {"rule": "b", "verdict": "refuse", "pid": 12, "fd": null},
            {"rule": "c", "verdict": "warn", "pid": 10, "fd": 4},
        ]);
        let blames = [at("a", "pipe.r"), at("a", "1!pipe.r"), at("b", "traced.tid"), at("b", "|traced.tid")];
        assert_eq!(differences(findings, &blames), Vec::<String>::new());
    }

    #[test]
    fn every_lack_and_every_excess_is_told() {
        let wrong_fd = json!([{"rule": "a", "verdict": "refuse", "pid": 10, "fd": 4}]);
        assert_eq!(differences(wrong_fd.clone(), &[at("a", "pipe.r")]).len(), 1);
        assert_eq!(differences(wrong_fd.clone(), &[at("a", "")]).len(), 0);
        assert_eq!(differences(wrong_fd.clone(), &[at("a", "1!")]).len(), 1);
        assert_eq!(differences(wrong_fd.clone(), &[]).len(), 1);
        assert_eq!(differences(wrong_fd, &[at("a", ""), at("b", "")]).len(), 1);
        let warned = json!([{"rule": "a", "verdict": "warn", "pid": 10, "fd": 3}]);
        assert_eq!(differences(warned, &[at("a", "pipe.r")]).len(), 1);
        assert_eq!(differences(json!([]), &[at("a", "no-such")]).len(), 1);
    }

    #[test]
    fn a_warning_has_to_be_one_and_name_its_place() {
        let warned = |verdict: &str, fd: i32| {
            let report = Report(json!({ "findings": [{"rule": "a", "verdict": verdict, "pid": 10, "fd": fd}] }));
            report.silent(&[at("a", "pipe.r")], &tree()).is_empty()
        };
        assert!(warned("warn", 3));
        assert!(!warned("refuse", 3) && !warned("warn", 99));
    }
}
