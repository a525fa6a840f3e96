//! Runs the rules over a snapshot: which of them this CRIU has, what is refused, what is only a warning and why, what is
//! reported once.

use super::gate;
use super::sink::{Decision, Sink};
use crate::config::Config;
use crate::criu::{Host, Release, Stage};
use crate::rules::{registry, Ctx, Finding, Phase, Rule, Verdict, WarnReason, When};
use crate::snapshot::{ScanPhase, Snapshot};

/// All findings of one look, merged by resource, refusals first.
pub fn judge(snap: &Snapshot, host: &Host, config: &Config) -> Vec<Finding> {
    judge_with(registry::RULES, snap, host, config)
}

/// [`judge`] over a given table (tests).
pub fn judge_with(rules: &[&Rule], snap: &Snapshot, host: &Host, config: &Config) -> Vec<Finding> {
    let ctx = Ctx::new(snap, host);
    let mut found = Vec::new();
    for rule in rules {
        if config.is_disabled(rule.id) || !rule.versions.cover(host) || gate::waives_all(rule, host) {
            continue;
        }
        let mut sink = Sink::new(rule, host);
        (rule.find)(rule, &ctx, &mut sink);
        for mut f in sink.into_findings() {
            demote(rule, &mut f, snap, host, config);
            found.push(f);
        }
    }
    // A stable order: refusals first, then as the table and the tree have them.
    found.sort_by_key(|f| f.verdict != Verdict::Refuse);
    found
}

/// Why one rule does or does not refuse: every candidate it had, and what became of it.
pub struct Trace {
    pub rule: &'static Rule,
    pub verdict: TraceVerdict,
}

/// How far a rule was followed.
pub enum TraceVerdict {
    /// The administrator switched it off.
    Disabled,
    /// This release of CRIU does not have it.
    OtherRelease,
    /// What was looked at, in the order it was met.
    Candidates(Vec<Decision>),
}

/// Follows one rule over a snapshot.
pub fn trace(rule: &'static Rule, snap: &Snapshot, host: &Host, config: &Config) -> Trace {
    if config.is_disabled(rule.id) {
        return Trace { rule, verdict: TraceVerdict::Disabled };
    }
    if !rule.versions.cover(host) {
        return Trace { rule, verdict: TraceVerdict::OtherRelease };
    }
    let ctx = Ctx::new(snap, host);
    let mut sink = Sink::traced(rule, host);
    (rule.find)(rule, &ctx, &mut sink);
    let (_, mut candidates) = sink.into_parts();
    for decision in &mut candidates {
        demote(rule, &mut decision.finding, snap, host, config);
    }
    Trace { rule, verdict: TraceVerdict::Candidates(candidates) }
}

/// Lets a finding only warn that may not stop this dump, whatever its rule says.
fn demote(rule: &Rule, finding: &mut Finding, snap: &Snapshot, host: &Host, config: &Config) {
    let reasons = [
        (rule.phase == Phase::Never, WarnReason::Lost),
        (host.release == Release::Unknown, WarnReason::UnknownRelease),
        (host.stage == Stage::PreDump, WarnReason::PreDump),
        (config.allows(finding), WarnReason::Allowed),
        (rule.evidence.needs_whole_tree() && !snap.whole, WarnReason::Incomplete),
        (snap.look == ScanPhase::Early && rule.when != When::Early, WarnReason::Volatile),
    ];
    for (_, reason) in reasons.into_iter().filter(|(holds, _)| *holds) {
        finding.demote(reason);
    }
}
