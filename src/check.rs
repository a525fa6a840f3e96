//! The two looks at a dump, and what comes of them: look, judge, confirm, enrich.
//!
//! The early look is taken while the tree runs and refuses only what a second look, a moment later, sees again, and what
//! cannot be a coincidence of two moments (`rules::Evidence`). The frozen look is the last word. All I/O on the tree is
//! `scan/`'s, all words are `report/`'s.

use crate::config::Config;
use crate::criu::{Host, Stage};
use crate::engine::{confirm, judge};
use crate::enrich;
use crate::report::{answer, Report};
use crate::rules::{Finding, Proof, Verdict, WarnReason};
use crate::scan::{self, ScanError};
use crate::snapshot::{ScanPhase, Snapshot};
use std::time::Duration;

/// Between the two looks at a running tree: long enough for what is merely in passing to be gone.
const RECHECK_DELAY: Duration = Duration::from_millis(30);
/// Where there will be no frozen look: so many looks more, one right after the other, to meet the tree standing still.
const MORE_LOOKS: usize = 4;
/// What the search for the other ends of the findings may take. Only a refused dump pays it.
const HOLDER_SEARCH_BUDGET: Duration = Duration::from_millis(500);

/// How a tree is looked at; another one in tests.
pub struct Probes<'a> {
    /// One picture of the tree below a pid, or why there is none.
    pub scan: &'a dyn Fn(i32, ScanPhase, &Host) -> Result<Snapshot, ScanError>,
    /// Fills in the names of files that no rule had to know.
    pub paths: &'a dyn Fn(&mut [Finding], &Snapshot),
    /// Fills in who holds the other ends, as far as the time allows.
    pub holders: &'a dyn Fn(&mut [Finding], &Snapshot, Duration),
    /// Lets a moment pass and notes in each refusal whether it is about something that stayed the same all the while.
    pub watch: &'a dyn Fn(&mut [Finding], &Snapshot, Duration),
    /// Notes in each refusal about a path whether it holds when path and file are asked in one piece.
    pub paths_again: &'a dyn Fn(&mut [Finding], &Snapshot),
}

impl Probes<'static> {
    /// The real ones.
    pub fn live() -> Self {
        Probes {
            scan: &scan::collect_once,
            paths: &enrich::names::fill_in,
            holders: &enrich::holders::resolve,
            watch: &crate::enrich::recheck::watch,
            paths_again: &crate::enrich::recheck::paths,
        }
    }
}

/// Looks at a running tree. A finding refuses only if both of two looks saw the same object in the same state, and that
/// cannot be a coincidence.
pub fn early(probes: &Probes, root: i32, host: &Host, config: &Config) -> Result<Report, ScanError> {
    let mut first = (probes.scan)(root, ScanPhase::Early, host)?;
    let mut before = judge::judge(&first, host, config);
    // What only the restore fails for is left to a look at the frozen tree.
    let asked = if frozen_look_follows(host) { refuses } else { is_any_certain };
    if !asked(&before) {
        return Ok(enriched(probes, &first, before, host, config));
    }
    (probes.watch)(&mut before, &first, RECHECK_DELAY);
    for f in before.iter_mut().filter(|f| f.held == Some(false)) {
        f.demote(WarnReason::NotConfirmed);
    }
    let mut more_looks = if frozen_look_follows(host) { 0 } else { MORE_LOOKS };
    loop {
        let second = (probes.scan)(root, ScanPhase::Early, host)?;
        let mut found = judge::judge(&second, host, config);
        confirm::confirm((&first, &before), &second, &mut found);
        if asked(&found) {
            (probes.holders)(&mut found, &second, HOLDER_SEARCH_BUDGET);
            (probes.paths_again)(&mut found, &second);
            confirm::settle((&first, &before), &second, &mut found);
        }
        if more_looks == 0 || !found.iter().any(|f| f.proof == Proof::Lacking) {
            judge::sort(&mut found);
            (probes.paths)(&mut found, &second);
            return Ok(reported(&second, found, host, config));
        }
        more_looks -= 1;
        (first, before) = (second, found);
    }
}

/// Whether CRIU will call us again when the tree is frozen.
fn frozen_look_follows(host: &Host) -> bool {
    host.stage == Stage::Dump && host.caps.checkpoint_hook
}

/// Looks at a tree that CRIU has seized.
pub fn frozen(probes: &Probes, root: i32, host: &Host, config: &Config) -> Result<Report, ScanError> {
    let snap = (probes.scan)(root, ScanPhase::Frozen, host)?;
    let findings = judge::judge(&snap, host, config);
    Ok(enriched(probes, &snap, findings, host, config))
}

fn refuses(findings: &[Finding]) -> bool {
    findings.iter().any(|f| f.verdict == Verdict::Refuse)
}

fn is_any_certain(findings: &[Finding]) -> bool {
    findings.iter().any(|f| f.verdict.is_certain())
}

/// The report, with what would remain if all that is advised were given.
fn reported(snap: &Snapshot, findings: Vec<Finding>, host: &Host, config: &Config) -> Report {
    let answer = if refuses(&findings) { answer::of(snap, host, config, &findings) } else { None };
    Report { answer, ..Report::new(snap, findings, config) }
}

fn enriched(probes: &Probes, snap: &Snapshot, mut findings: Vec<Finding>, host: &Host, config: &Config) -> Report {
    (probes.paths)(&mut findings, snap);
    if is_any_certain(&findings) {
        (probes.holders)(&mut findings, snap, HOLDER_SEARCH_BUDGET);
    }
    reported(snap, findings, host, config)
}

/// Scans by this alone: what is asked again is as it was, no holder is searched.
#[cfg(test)]
pub(crate) fn probes(scan: &dyn Fn(i32, ScanPhase, &Host) -> Result<Snapshot, ScanError>) -> Probes<'_> {
    Probes {
        scan,
        paths: &|_, _| (),
        holders: &|_, _, _| (),
        watch: &|findings, _, _| hold(findings, true),
        paths_again: &|findings, _| hold(findings, true),
    }
}

#[cfg(test)]
pub(crate) fn hold(findings: &mut [Finding], held: bool) {
    findings.iter_mut().for_each(|f| f.held = Some(held));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Outcome;
    use crate::rules::testkit;
    use crate::snapshot::Dev;
    use std::cell::{Cell, RefCell};

    /// A tree with or without a device in descriptor 3.
    fn tree(look: ScanPhase, device: bool) -> Snapshot {
        let mut file = testkit::file(3, libc::S_IFCHR, 9);
        file.attr.rdev = Dev { major: 10, minor: 237 };
        file.link = Some("/dev/loop-control".into());
        Snapshot { look, ..testkit::snap(if device { vec![file] } else { Vec::new() }) }
    }

    /// Plays these trees one after another; the looks taken and the searches made.
    fn play(trees: &[bool], body: impl FnOnce(&Probes) -> Result<Report, ScanError>) -> (Outcome, usize, usize) {
        let (left, searched) = (RefCell::new(trees.iter()), Cell::new(0));
        let scan = |_, look, _: &Host| left.borrow_mut().next().map(|d| tree(look, *d)).ok_or(ScanError::NoSuchTask);
        let probes = Probes { holders: &|_, _, _| searched.set(searched.get() + 1), ..probes(&scan) };
        let verdict = body(&probes).unwrap().verdict();
        let looks = trees.len() - left.borrow().len();
        (verdict, looks, searched.get())
    }

    #[test]
    fn an_early_refusal_needs_two_looks_and_a_clean_tree_one() {
        let (host, config) = (testkit::host(), Config::default());
        let early = |trees: &[bool]| play(trees, |probes| early(probes, 100, &host, &config));
        assert_eq!(early(&[true, true, true]), (Outcome::Refuse, 2, 1));
        assert_eq!(early(&[false, true]), (Outcome::Pass, 1, 0));
        // It was only in passing.
        assert_eq!(early(&[true, false]), (Outcome::Pass, 2, 0));
    }

    #[test]
    fn what_does_not_stay_the_same_between_the_looks_is_not_refused() {
        let (host, config) = (testkit::host(), Config::default());
        let scan = |_, look, _: &Host| Ok(tree(look, true));
        for (steady, outcome) in [(true, Outcome::Refuse), (false, Outcome::Warn)] {
            let probes = Probes { watch: &|findings, _, _| hold(findings, steady), ..probes(&scan) };
            assert_eq!(early(&probes, 100, &host, &config).unwrap().verdict(), outcome);
        }
    }

    /// A namespace file that no process lives in, of a process that has gone to sleep so often.
    fn joined(ran: u64) -> Snapshot {
        let mut file = testkit::file(3, libc::S_IFREG, 77);
        file.link = Some("net:[77]".into());
        let mut s = Snapshot { look: ScanPhase::Early, ..testkit::snap(vec![file]) };
        s.tasks[0].threads[0].switches = Some(ran);
        s
    }

    #[test]
    fn a_join_of_two_observations_refuses_early_only_if_the_tree_stood_still() {
        let config = Config::default();
        let (mut host, dry) = (testkit::host(), Host { stage: Stage::DryRun, ..testkit::host() });
        host.caps.checkpoint_hook = true;
        let old = testkit::at_release(crate::criu::Release::V3_17);
        let looks = |host: &Host, ran: &[u64]| {
            let left = RefCell::new(ran.iter());
            let scan = |_, _, _: &Host| left.borrow_mut().next().map(|n| joined(*n)).ok_or(ScanError::NoSuchTask);
            let report = early(&probes(&scan), 100, host, &config).unwrap();
            let lacking = report.findings.iter().any(|f| f.proof == Proof::Lacking);
            let taken = ran.len() - left.borrow().len();
            (report.verdict(), lacking, taken)
        };
        for host in [&host, &dry, &old] {
            assert_eq!(looks(host, &[5, 5, 6, 7, 8, 9]), (Outcome::Refuse, false, 2));
        }
        // The frozen look decides.
        assert_eq!(looks(&host, &[5, 6, 7, 8, 9, 10]), (Outcome::Warn, true, 2));
        for host in [&dry, &old] {
            assert_eq!(looks(host, &[5, 6, 7, 7, 8, 9]), (Outcome::Refuse, false, 4), "it stood still for a while");
            assert_eq!(looks(host, &[5, 6, 7, 8, 9, 10]), (Outcome::Warn, true, 6));
        }
    }

    #[test]
    fn what_was_settled_once_stays_so_while_the_rest_is_waited_for() {
        let (config, dry) = (Config::default(), Host { stage: Stage::DryRun, ..testkit::host() });
        // The path is seen to be wrong once, the tree stands still only later.
        let asked = Cell::new(0);
        let tree = |ran| {
            let mut s = joined(ran);
            let mut gone = testkit::file(4, libc::S_IFREG, 9);
            (gone.link, gone.mismatch) =
                (Some("/a".into()), Some(crate::snapshot::PathMismatch::NoEntry { above: None }));
            s.tasks[0].files.push(gone);
            s.mounts = vec![testkit::mount_table(testkit::CRIU_NS, 50, "15 1 8:1 / / rw - ext4 /dev/sda1 rw")];
            s
        };
        let trees = RefCell::new([5, 6, 7, 7, 8].into_iter());
        let scan = |_, _, _: &Host| trees.borrow_mut().next().map(tree).ok_or(ScanError::NoSuchTask);
        let paths_again = |findings: &mut [Finding], _: &Snapshot| {
            asked.set(asked.get() + 1);
            hold(findings, asked.get() == 1);
        };
        let probes = Probes { paths_again: &paths_again, ..probes(&scan) };
        let report = early(&probes, 100, &dry, &config).unwrap();
        let refused: Vec<_> =
            report.findings.iter().filter(|f| f.verdict == Verdict::Refuse).map(|f| &*f.rule).collect();
        assert_eq!(refused, ["link-remap-needed", "nsfd-outside"]);
        assert_eq!((asked.get(), trees.borrow().len()), (3, 1));
    }

    #[test]
    fn the_frozen_look_is_the_last_word() {
        let (host, config) = (testkit::host(), Config::default());
        assert_eq!(play(&[true, true], |probes| frozen(probes, 100, &host, &config)), (Outcome::Refuse, 1, 1));
        assert_eq!(play(&[false, true], |probes| frozen(probes, 100, &host, &config)), (Outcome::Pass, 1, 0));
    }
}
