//! What two looks at a running tree agree on, and which of that was seen in one piece.

use crate::rules::{registry, Evidence, Finding, Other, Proof, Value, WarnReason};
use crate::snapshot::still::Still;
use crate::snapshot::{MountTable, Snapshot};
use std::borrow::Cow;
use std::collections::HashMap;

/// Facts that say how much, not what: they may change while the thing stays the same.
const MEASURES: [&str; 8] = ["size", "used", "enough", "count", "length", "record", "waiting", "backlog"];

/// What both looks saw: the refusals of `second` that `first` had too, with the same facts; everything else only warns.
pub(crate) fn confirm(first: (&Snapshot, &[Finding]), second: &Snapshot, findings: &mut [Finding]) {
    let earlier = Earlier::of(first);
    for f in findings.iter_mut().filter(|f| f.verdict.is_certain()) {
        if earlier.find(second, f).is_none() {
            f.demote(WarnReason::NotConfirmed);
        }
    }
}

/// The findings of an earlier look that two looks have not contradicted.
struct Earlier<'a> {
    snap: &'a Snapshot,
    by_key: HashMap<(&'a str, i32, u64, &'a str), Vec<&'a Finding>>,
}

impl<'a> Earlier<'a> {
    fn of((snap, findings): (&'a Snapshot, &'a [Finding])) -> Self {
        let mut by_key: HashMap<_, Vec<&Finding>> = HashMap::new();
        for f in findings.iter().filter(|f| f.verdict.is_certain() || f.proof == Proof::Lacking) {
            by_key.entry(key(f)).or_default().push(f);
        }
        Earlier { snap, by_key }
    }

    /// The same finding.
    fn find(&self, second: &Snapshot, f: &Finding) -> Option<&'a Finding> {
        let agrees = |was: &&&Finding| same(was, f) && other_start(self.snap, was) == other_start(second, f);
        self.by_key.get(&key(f))?.iter().find(agrees).copied()
    }
}

fn key(f: &Finding) -> (&str, i32, u64, &str) {
    (&f.rule, f.pid, f.start_time, &f.key)
}

/// The same thing in the same place, by all that is known of it.
fn same(a: &Finding, b: &Finding) -> bool {
    (a.place(), a.tid, a.addr, &a.other, a.link) == (b.place(), b.tid, b.addr, &b.other, b.link)
        && facts(a).eq(facts(b))
}

fn facts(f: &Finding) -> impl Iterator<Item = &(Cow<'static, str>, Value)> {
    f.facts.iter().filter(|(name, _)| !MEASURES.contains(&name.as_ref()))
}

/// When the other process of the tree was started: its pid alone may be used again.
fn other_start(snap: &Snapshot, f: &Finding) -> Option<u64> {
    match f.other {
        Some(Other::Process(pid)) => snap.task(pid).map(|t| t.start_time),
        _ => None,
    }
}

/// Marks the refusals that two looks agree on but that could be a coincidence of two moments, and lets them only warn. What two
/// looks before these have settled stays so.
pub(crate) fn settle(first: (&Snapshot, &[Finding]), second: &Snapshot, findings: &mut [Finding]) {
    let earlier = Earlier::of(first);
    let first = first.0;
    let still = Still::between(first, second);
    let same_mounts = same_mounts(first, second);
    let whole = first.whole && second.whole;
    for f in findings.iter_mut().filter(|f| f.verdict.is_certain()) {
        let Some(rule) = registry::by_id(&f.rule) else { continue };
        let before = earlier.find(second, f).is_some_and(|was| was.proof == Proof::Given);
        let certain = match rule.evidence {
            Evidence::Object => true,
            Evidence::Process => still.task(f.pid, f.start_time),
            Evidence::Path => f.held == Some(true),
            Evidence::Mounts => same_mounts,
            Evidence::Peer => match f.outside {
                Some(outside) => outside && whole && still.same_tasks(),
                None => whole && still.tree(),
            },
            Evidence::Outsider => f.outside.unwrap_or_else(|| whole && still.tree()),
            Evidence::Tree => whole && still.tree(),
        };
        if certain || before {
            f.proof = Proof::Given;
        } else {
            f.proof = Proof::Lacking;
            f.demote(WarnReason::Unproved);
        }
    }
}

/// The mounts of every namespace were the same, in the same order.
fn same_mounts(first: &Snapshot, second: &Snapshot) -> bool {
    let of = |t: &MountTable| (t.ns, t.bad);
    let same = |(a, b): (&MountTable, &MountTable)| of(a) == of(b) && a.mounts == b.mounts;
    first.mounts.len() == second.mounts.len() && first.mounts.iter().zip(&second.mounts).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::sockets::unix;
    use crate::rules::tasks::state as tasks;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::Thread;

    /// A tree whose threads all sleep.
    fn asleep() -> Snapshot {
        let mut s = Snapshot { look: crate::snapshot::ScanPhase::Early, ..snap(vec![]) };
        s.tasks.push(task(101));
        s.tasks.iter_mut().flat_map(|t| &mut t.threads).for_each(|t: &mut Thread| t.switches = Some(5));
        s
    }

    fn run(s: &mut Snapshot) {
        s.tasks[1].threads[0].switches = Some(6);
    }

    fn confirmed(was: &Finding, is: &Finding) -> bool {
        let s = asleep();
        let mut found = [is.clone()];
        confirm((&s, std::slice::from_ref(was)), &s, &mut found);
        found[0].verdict == Verdict::Refuse
    }

    #[test]
    fn two_looks_agree_on_all_facts() {
        let s = asleep();
        let was =
            Finding::on_task(&unix::UNIX_EXTERNAL_STREAM, &s.tasks[0]).num("ino", 5).peer_socket(6).num("size", 10);
        assert!(confirmed(&was, &was));
        assert!(!confirmed(&was.clone().doubt(), &was));
        let change: [fn(&mut Finding); 7] = [
            |f| f.start_time = 1001,
            |f| f.fd = Some(3),
            |f| f.addr = Some(3),
            |f| f.tid = Some(3),
            |f| f.other = Some(Other::Socket(7)),
            |f| f.facts[0].1 = Value::Num(7),
            |f| f.facts.truncate(1),
        ];
        for (nth, change) in change.into_iter().enumerate() {
            let mut is = was.clone();
            change(&mut is);
            assert!(!confirmed(&was, &is), "{nth}");
        }
        let mut grown = was.clone();
        grown.facts.retain(|(name, _)| name != "size");
        assert!(confirmed(&was, &grown.num("size", 11)), "a measure may change");
    }

    #[test]
    fn the_other_process_is_the_same_one() {
        let (first, mut second) = (asleep(), asleep());
        let was = Finding::on_task(&unix::UNIX_EXTERNAL_STREAM, &first.tasks[0]).other(Other::Process(101));
        let mut confirmed = |start| {
            second.tasks[1].start_time = start;
            let mut found = [was.clone()];
            confirm((&first, std::slice::from_ref(&was)), &second, &mut found);
            found[0].verdict == Verdict::Refuse
        };
        assert!(confirmed(1000));
        assert!(!confirmed(1001));
    }

    /// Whether a refusal of this rule stays one.
    fn stays(rule: &crate::rules::Rule, change: fn(&mut Snapshot, &mut Finding), path: bool) -> bool {
        let (first, mut second) = (asleep(), asleep());
        let mut f = Finding::on_task(rule, &first.tasks[0]);
        change(&mut second, &mut f);
        let mut found = [f];
        let was = found.clone();
        found.iter_mut().for_each(|f| f.held = Some(path));
        settle((&first, &was), &second, &mut found);
        assert_eq!(found[0].proof == Proof::Lacking, found[0].verdict == Verdict::Warn);
        found[0].verdict == Verdict::Refuse
    }

    #[test]
    fn each_kind_of_evidence_has_its_proof() {
        let run = |s: &mut Snapshot, _: &mut Finding| run(s);
        let object = registry::by_id("fd-chrdev").unwrap();
        assert!(stays(object, run, false));
        let process = &tasks::FD_TABLE_FULL;
        assert!(stays(process, run, false), "another one ran");
        assert!(!stays(process, |s, _| s.tasks[0].threads[0].switches = Some(6), false));
        let path = registry::by_id("path-reused").unwrap();
        assert!(stays(path, run, true));
        assert!(!stays(path, |_, _| (), false));
        let mounts = registry::by_id("mnt-tree").unwrap();
        assert!(stays(mounts, run, false));
        assert!(!stays(mounts, |s, _| s.mounts.push(mount_table(7, 100, "21 1 8:1 / / rw - ext4 a rw")), false));
    }

    #[test]
    fn a_peer_is_outside_if_somebody_outside_has_it() {
        let peer = &unix::UNIX_EXTERNAL_STREAM;
        assert!(stays(peer, |_, _| (), false), "the tree stood still");
        assert!(!stays(peer, |s, _| run(s), false));
        assert!(stays(
            peer,
            |s, f| {
                run(s);
                f.outside = Some(true)
            },
            false
        ));
        assert!(!stays(peer, |_, f| f.outside = Some(false), false));
        assert!(!stays(
            peer,
            |s, f| {
                s.whole = false;
                f.outside = Some(true)
            },
            false
        ));
        assert!(
            !stays(
                peer,
                |s, f| {
                    s.tasks.pop();
                    f.outside = Some(true)
                },
                false
            ),
            "a task has gone"
        );
        assert!(!stays(peer, |s, _| s.whole = false, false));
    }

    #[test]
    fn what_holds_of_the_whole_tree_is_certain_only_while_it_stands_still() {
        let (tree, outsider) = (registry::by_id("nsfd-outside").unwrap(), registry::by_id("pidfd-outside").unwrap());
        for (rule, by_outsider) in [(tree, false), (outsider, true)] {
            assert!(stays(rule, |_, _| (), false));
            assert!(!stays(rule, |s, _| run(s), false));
            assert_eq!(
                stays(
                    rule,
                    |s, f| {
                        run(s);
                        f.outside = Some(true)
                    },
                    false
                ),
                by_outsider
            );
        }
        assert!(!stays(outsider, |_, f| f.outside = Some(false), false));
    }

    #[test]
    fn with_a_list_that_is_not_complete_nobody_is_known_to_be_outside() {
        let mut file = file(3, libc::S_IFREG, 77);
        file.link = Some("net:[77]".into());
        let mut s = snap(vec![file]);
        let rule = registry::by_id("nsfd-outside").unwrap();
        assert_eq!(verdict(rule, &s, &host()), Some(Verdict::Refuse));
        // In the frozen look as well.
        s.whole = false;
        assert_eq!(verdict(rule, &s, &host()), Some(Verdict::Warn));
    }
}
