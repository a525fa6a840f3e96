//! Runs the rules over a snapshot: what stands, what is only a warning, what is told once.

use crate::config::Config;
use crate::criu::{Host, Release, Stage};
use crate::rules::{registry, Ctx, Finding, Rule, Sink, Verdict, When};
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
        if config.is_disabled(rule.id) {
            continue;
        }
        let mut sink = Sink::default();
        (rule.check)(rule, &ctx, &mut sink);
        let blind = rule.evidence.needs_whole_tree() && !snap.whole;
        let demote = demoted(rule, snap.look, host) || blind;
        for mut f in sink.into_findings() {
            if demote || config.allows(&f) {
                f.verdict = Verdict::Warn;
            }
            found.push(f);
        }
    }
    // A stable order: refusals first, then as the table and the tree have them.
    found.sort_by_key(|f| f.verdict != Verdict::Refuse);
    found
}

/// A finding that may not stop this dump, whatever the rule says.
fn demoted(rule: &Rule, look: ScanPhase, host: &Host) -> bool {
    host.stage == Stage::PreDump
        || host.release == Release::Unknown
        || (look == ScanPhase::Early && rule.when != When::Early)
}
