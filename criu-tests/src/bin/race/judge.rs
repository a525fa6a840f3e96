//! Counting, and what the counts prove.
//!
//! A tree that moves may be one that CRIU refuses at the one moment and dumps at the other, so a refusal of ours proves
//! nothing by itself. It is right if CRIU alone fails as often for the reason that the rule tells (the kind's `Claim`):
//!
//! * a refusal by a rule that the kind has no claim for is a disagreement at once;
//! * a refusal by a rule with a claim is one if CRIU alone, asked up to [`MORE`] times more, is never seen to fail so;
//! * or if the share of dumps refused by that rule and no other is larger than that of those that CRIU alone fails at for the
//!   rule's reason, by more than chance explains. (CRIU stops at the first reason, the plugin tells all; so a dump with two is
//!   no proof for either.) That is, the probability that, the two sides being alike, so many of the failures are with
//!   the plugin (Fisher's exact test, one-sided) is below [`CHANCE`];
//! * and so if all dumps that are not made, for whatever reason and by whomever, are more with the plugin than chance explains.
//!
//! And over all kinds that agree by themselves: of the pairs of which one dump was made and the other not, those that failed with the
//! plugin are as many as those that failed alone (the sign test, the same bound).
//!
//! What CRIU fails at and only the early look lets pass is no disagreement: the tree was another when it was looked at.

use crate::dump::{Dump, End};
use crate::kinds::Kind;
use std::collections::BTreeMap;

/// How often CRIU alone is asked again when it was not seen to refuse what was refused with the plugin.
pub const MORE: usize = 200;

/// One false alarm in some ten runs of thirty kinds on three CRIUs.
pub const CHANCE: f64 = 0.001;

/// What dumps of one kind, on one CRIU, on one side came to.
#[derive(Default)]
pub struct Side {
    pub dumps: usize,
    pub made: usize,
    /// CRIU's reasons.
    pub failed: BTreeMap<String, usize>,
    pub refused: usize,
    /// Dumps in whose frozen look something could not be seen.
    pub unseen: usize,
    /// Early and frozen refusals, by rule.
    pub rules: BTreeMap<String, [usize; 2]>,
    /// Refusals by one rule and no other.
    pub sole: BTreeMap<String, usize>,
    /// In the order of the kind's claims: dumps in whose log CRIU gives that reason.
    pub claimed: Vec<usize>,
    /// By class, with an example.
    pub harm: BTreeMap<String, (usize, String)>,
    /// A line of ours for each rule.
    pub lines: BTreeMap<String, String>,
}

impl Side {
    pub fn of(kind: &Kind) -> Side {
        Side { claimed: vec![0; kind.claims.len()], ..Side::default() }
    }

    pub fn add(&mut self, kind: &Kind, dump: &Dump) {
        self.dumps += 1;
        self.unseen += usize::from(dump.unseen);
        match &dump.end {
            End::Made => self.made += 1,
            End::Failed(why) => *self.failed.entry(why.clone()).or_default() += 1,
            End::Refused { early, rules } => {
                self.refused += 1;
                if let (Some(rule), 1) = (rules.first(), rules.len()) {
                    *self.sole.entry(rule.clone()).or_default() += 1;
                }
                for rule in rules {
                    self.rules.entry(rule.clone()).or_default()[usize::from(!early)] += 1;
                    let line = dump.lines.iter().find(|l| l.contains(&format!("{rule}: ")));
                    self.lines.entry(rule.clone()).or_insert_with(|| line.cloned().unwrap_or_default());
                }
            }
        }
        if matches!(dump.end, End::Failed(_)) {
            for (n, claim) in kind.claims.iter().enumerate() {
                self.claimed[n] += usize::from(dump.log.contains(claim.text));
            }
        }
        for harm in &dump.harm {
            let class = harm.split(':').next().unwrap_or_default();
            self.harm.entry(class.into()).or_insert((0, harm.clone())).0 += 1;
        }
    }

    fn failures(&self) -> usize {
        self.dumps - self.made
    }

    /// The counts in words.
    pub fn summary(&self) -> String {
        let mut parts = vec![format!("{} made", self.made)];
        let rules: Vec<String> = self.rules.iter().map(|(r, [e, f])| format!("{r} {e} early {f} frozen")).collect();
        if self.refused > 0 {
            parts.push(format!("{} refused ({})", self.refused, rules.join(", ")));
        }
        parts.extend(self.failed.iter().map(|(why, n)| format!("{n} failed: {why}")));
        if self.unseen > 0 {
            parts.push(format!("{} frozen looks did not see all", self.unseen));
        }
        parts.join(", ")
    }
}

/// All pairs of one kind on one CRIU.
pub struct Sides {
    pub alone: Side,
    pub with: Side,
    /// Pairs of which only the dump alone, and only the one with the plugin, was not made.
    pub one_failed: [usize; 2],
}

/// Whether CRIU alone has to be asked again before anything can be said.
pub fn undecided(kind: &Kind, alone: &Side, with: &Side) -> bool {
    let unseen = |n: usize| alone.claimed[n] == 0 && with.rules.contains_key(kind.claims[n].rule);
    let foreseen = with.rules.keys().all(|rule| kind.claims.iter().any(|c| c.rule == rule));
    foreseen && ((0..kind.claims.len()).any(unseen) || (with.failures() > 0 && alone.failures() == 0))
}

/// Where the two sides disagree.
pub fn disagreements(kind: &Kind, alone: &Side, with: &Side) -> Vec<String> {
    let mut wrong = Vec::new();
    for (rule, counts) in &with.rules {
        let refused: usize = counts.iter().sum();
        let line = with.lines.get(rule).map(String::as_str).unwrap_or_default();
        let claim = kind.claims.iter().position(|c| c.rule == rule);
        let Some(n) = claim else {
            let (made, dumps) = (alone.made, alone.dumps);
            wrong.push(format!(
                "{rule} refuses {refused} of {}, CRIU alone makes {made} of {dumps}: {line}",
                with.dumps
            ));
            continue;
        };
        let sole = with.sole.get(rule).copied().unwrap_or_default();
        let (theirs, ours) = (alone.claimed[n], sole + with.claimed[n]);
        let why = format!("“{}”", kind.claims[n].text);
        wrong.extend(more_often(rule, ours, with.dumps, theirs, alone.dumps, &why).map(|w| format!("{w}: {line}")));
    }
    let (ours, theirs) = (with.failures(), alone.failures());
    if ours > 0 && wrong.is_empty() {
        wrong.extend(more_often("CRIU or the plugin", ours, with.dumps, theirs, alone.dumps, "any reason"));
    }
    for (class, (count, example)) in &with.harm {
        if !alone.harm.contains_key(class) {
            wrong.push(format!("{count} times, never without the plugin: {example}"));
        }
    }
    wrong
}

fn more_often(
    what: &str,
    ours: usize,
    our_dumps: usize,
    theirs: usize,
    their_dumps: usize,
    why: &str,
) -> Option<String> {
    let chance = fisher(ours, our_dumps, theirs, their_dumps);
    if theirs > 0 && chance >= CHANCE {
        return None;
    }
    Some(format!(
        "{what} refuses {ours} of {our_dumps} with the plugin, CRIU alone {theirs} of {their_dumps} with {why} (p = {chance:.2e})"
    ))
}

/// The probability that of `a + b` failures in `m + n` dumps `a` or more are among the `m`.
fn fisher(a: usize, m: usize, b: usize, n: usize) -> f64 {
    let all = m + n;
    let mut ln = vec![0.0; all + 1];
    for i in 1..=all {
        ln[i] = ln[i - 1] + (i as f64).ln();
    }
    let choose = |n: usize, k: usize| ln[n] - ln[k] - ln[n - k];
    let failures = a + b;
    let share = |k: usize| (choose(m, k) + choose(n, failures - k) - choose(all, failures)).exp();
    (a.max(failures.saturating_sub(n))..=failures.min(m)).map(share).sum()
}

/// The probability that of `a + b` tosses of a coin `a` or more are heads.
pub fn sign_test(a: usize, b: usize) -> f64 {
    let ln = |n: usize| (1..=n).map(|i| (i as f64).ln()).sum::<f64>();
    let all = a + b;
    (a..=all).map(|k| (ln(all) - ln(k) - ln(all - k) - all as f64 * 2_f64.ln()).exp()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-9
    }

    #[test]
    fn the_exact_test_is_exact() {
        // The lady tasting tea: 4 of 4, and 3 of 4.
        assert!(near(fisher(4, 4, 0, 4), 1.0 / 70.0));
        assert!(near(fisher(3, 4, 1, 4), 17.0 / 70.0));
        assert!(near(fisher(0, 10, 3, 10), 1.0));
        assert!(near(fisher(1, 1, 0, 1), 0.5));
    }

    #[test]
    fn coins() {
        assert!(near(sign_test(3, 0), 0.125));
        assert!(near(sign_test(2, 1), 0.5));
        assert!(near(sign_test(0, 5), 1.0));
    }

    fn side(dumps: usize, refused: usize, claimed: usize) -> Side {
        let rules = BTreeMap::from([("a-rule".to_string(), [0, refused])]);
        let rules = if refused > 0 { rules } else { BTreeMap::new() };
        let (made, sole) = (dumps - refused - claimed, BTreeMap::from([("a-rule".to_string(), refused)]));
        Side { dumps, made, refused, rules, sole, claimed: vec![claimed], ..Side::default() }
    }

    #[test]
    fn a_refusal_has_to_be_criu_s_as_often() {
        let claims = &[crate::kinds::Claim { rule: "a-rule", text: "a text", who: "" }];
        let with_claim = Kind { claims, ..*crate::kinds::all().next().unwrap() };
        let without = Kind { claims: &[], ..with_claim };
        let wrong = |kind: &Kind, alone: Side, with: Side| disagreements(kind, &alone, &with).len();
        // Alone never.
        assert!(undecided(&with_claim, &side(20, 0, 0), &side(20, 1, 0)));
        assert_eq!(wrong(&with_claim, side(220, 0, 0), side(20, 1, 0)), 1);
        // As often, and a little oftener.
        assert!(!undecided(&with_claim, &side(60, 0, 14), &side(60, 16, 0)));
        assert_eq!(wrong(&with_claim, side(60, 0, 14), side(60, 16, 0)), 0);
        assert_eq!(wrong(&with_claim, side(60, 0, 14), side(60, 45, 0)), 1);
        assert_eq!(wrong(&with_claim, side(60, 0, 14), side(60, 0, 0)), 0);
        // Another reason than any that the kind knows.
        assert_eq!(wrong(&without, side(60, 0, 14), side(60, 1, 0)), 1);
        // CRIU's own failures, with the plugin only.
        assert_eq!(wrong(&without, side(60, 0, 0), side(60, 0, 1)), 1);
        assert_eq!(wrong(&without, side(60, 0, 3), side(60, 0, 5)), 0);
    }
}
