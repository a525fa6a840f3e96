//! Runs the rules over a snapshot: what stands, what is only a warning, what is told once.

use super::{registry, Ctx, Finding, Rule, Sink, Verdict, When};
use crate::config::Config;
use crate::host::{Host, Release, Stage};
use crate::snapshot::{Look, Snapshot};
use std::collections::HashMap;

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
        let demote = demoted(rule, snap.look, host);
        for mut f in merge(sink.found) {
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
fn demoted(rule: &Rule, look: Look, host: &Host) -> bool {
    host.stage == Stage::PreDump
        || host.release == Release::Unknown
        || (look == Look::Early && rule.when != When::Early)
}

/// The same resource met through several descriptors is told once.
fn merge(found: Vec<Finding>) -> Vec<Finding> {
    let mut out: Vec<Finding> = Vec::with_capacity(found.len());
    let mut seen: HashMap<String, usize> = HashMap::new();
    for f in found {
        match seen.get(&f.key).and_then(|i| out.get_mut(*i)) {
            Some(first) => {
                let place = f.place();
                if place != first.place() && !first.also.contains(&place) {
                    first.also.push(place);
                }
                first.verdict = first.verdict.max(f.verdict);
            }
            None => {
                seen.insert(f.key.clone(), out.len());
                out.push(f);
            }
        }
    }
    out
}

/// What both looks saw: the refusals of `second` that `first` had too; everything else of `second` only warns.
pub fn confirm(first: &[Finding], mut second: Vec<Finding>) -> Vec<Finding> {
    let before: std::collections::HashSet<(&str, i32, u64, &str)> = first
        .iter()
        .filter(|f| f.verdict == Verdict::Refuse)
        .map(|f| (f.rule.as_ref(), f.pid, f.start_time, f.key.as_str()))
        .collect();
    for f in &mut second {
        if !before.contains(&(f.rule.as_ref(), f.pid, f.start_time, f.key.as_str())) {
            f.verdict = Verdict::Warn;
        }
    }
    second.sort_by_key(|f| f.verdict != Verdict::Refuse);
    second
}
