//! Runs the rules over a snapshot: which of them this CRIU has, what is refused, what is only a warning and why, what is
//! reported once.

use super::gate;
use super::sink::{Decision, Sink};
use crate::config::Config;
use crate::criu::{Host, Release, Stage};
use crate::rules::{registry, Ctx, Finding, Phase, Remedy, Rule, Verdict, WarnReason, When};
use crate::snapshot::{ScanPhase, Snapshot};

/// All findings of one look, merged by resource, refusals first.
pub(crate) fn judge(snap: &Snapshot, host: &Host, config: &Config) -> Vec<Finding> {
    judge_with(registry::RULES, snap, host, config)
}

/// [`judge`] over a given table (tests).
pub(crate) fn judge_with(rules: &[&Rule], snap: &Snapshot, host: &Host, config: &Config) -> Vec<Finding> {
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
    sort(&mut found);
    found
}

/// A stable order: refusals first, then what cannot be restored, each as the table and the tree have them.
pub(crate) fn sort(findings: &mut [Finding]) {
    findings.sort_by_key(|f| std::cmp::Reverse(f.verdict));
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
    match finding.verdict {
        Verdict::Refuse if rule.phase == Phase::Restore && !config.refuse_unrestorable => {
            finding.verdict = Verdict::Unrestorable
        }
        Verdict::Unrestorable if config.refuse_unrestorable => finding.verdict = Verdict::Refuse,
        _ => {}
    }
    let reasons = [
        (rule.phase == Phase::Never, WarnReason::Lost),
        (rule.phase == Phase::Restore && has_restore_option(rule), WarnReason::RestoreOption),
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

/// Whether the rule names an option with which the restore succeeds.
fn has_restore_option(rule: &Rule) -> bool {
    rule.remedies.iter().any(|remedy| matches!(remedy, Remedy::AtRestore(..)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::lossy::LOST_DEADLINE;
    use crate::rules::testkit::{found, host, snap, verdict};
    use crate::snapshot::UnsavedThreadState;

    /// A tree with a thread that CRIU cannot restore (SCHED_DEADLINE).
    fn deadline() -> Snapshot {
        let mut s = snap(vec![]);
        s.tasks[0].threads[0].unasked = Some(UnsavedThreadState { policy: 6, ..UnsavedThreadState::default() });
        s
    }

    #[test]
    fn what_cannot_be_restored_is_refused_only_if_asked_for() {
        let (s, host) = (deadline(), host());
        assert_eq!(verdict(&LOST_DEADLINE, &s, &host), Some(Verdict::Unrestorable));
        let refusing = Config { refuse_unrestorable: true, ..Config::default() };
        let found = |host: &Host| judge_with(&[&LOST_DEADLINE], &s, host, &refusing)[0].verdict;
        assert_eq!(found(&host), Verdict::Refuse);
        let pre_dump = Host { stage: Stage::PreDump, ..host.clone() };
        let unknown = Host { release: Release::Unknown, ..host };
        assert_eq!([found(&pre_dump), found(&unknown)], [Verdict::Warn; 2]);
    }

    #[test]
    fn with_an_option_the_restore_succeeds() {
        let (s, host) = (deadline(), host());
        let rule = Rule { remedies: &[Remedy::AtRestore("external", "x")], ..LOST_DEADLINE };
        let f = &found(&rule, &s, &host)[0];
        assert_eq!((f.verdict, f.warns), (Verdict::Warn, Some(WarnReason::RestoreOption)));
    }
}
