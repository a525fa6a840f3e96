//! The two looks at a dump, and what comes of them: look, judge, confirm, enrich.
//!
//! The early look is taken while the tree runs and refuses only what a second look, a moment later, sees again. The frozen
//! look is the last word. All I/O on the tree is `scan/`'s, all words are `report/`'s.

use crate::config::Config;
use crate::host::Host;
use crate::report::Report;
use crate::rules::{judge, Finding, Verdict};
use crate::scan::{self, ScanError};
use crate::snapshot::{Look, Snapshot};
use std::time::Duration;

/// Between the two looks at a running tree: long enough for what is merely in passing to be gone.
const MOMENT: Duration = Duration::from_millis(30);
/// What the search for the other ends of the findings may take. Only a refused dump pays it.
const SEARCH: Duration = Duration::from_millis(500);

/// How a tree is looked at; another one in tests.
pub struct Eyes<'a> {
    /// One picture of the tree below a pid, or why there is none.
    pub scan: &'a dyn Fn(i32, Look, &Host) -> Result<Snapshot, ScanError>,
    /// Fills in the names of files that no rule had to know.
    pub paths: &'a dyn Fn(&mut [Finding], &Snapshot),
    /// Fills in who holds the other ends, as far as the time allows.
    pub holders: &'a dyn Fn(&mut [Finding], &Snapshot, Duration),
}

impl Eyes<'static> {
    /// The real ones.
    pub fn open() -> Self {
        Eyes { scan: &scan::look_once, paths: &scan::names::fill_in, holders: &scan::holders::resolve }
    }
}

/// Looks at a running tree. A finding refuses only if both of two looks saw the same object in the same state.
pub fn early(eyes: &Eyes, root: i32, host: &Host, config: &Config) -> Result<Report, ScanError> {
    let mut snap = (eyes.scan)(root, Look::Early, host)?;
    let mut findings = judge::judge(&snap, host, config);
    if refuses(&findings) {
        std::thread::sleep(MOMENT);
        snap = (eyes.scan)(root, Look::Early, host)?;
        findings = judge::confirm(&findings, judge::judge(&snap, host, config));
    }
    Ok(enriched(eyes, &snap, findings, config))
}

/// Looks at a tree that CRIU has seized.
pub fn frozen(eyes: &Eyes, root: i32, host: &Host, config: &Config) -> Result<Report, ScanError> {
    let snap = (eyes.scan)(root, Look::Frozen, host)?;
    let findings = judge::judge(&snap, host, config);
    Ok(enriched(eyes, &snap, findings, config))
}

fn refuses(findings: &[Finding]) -> bool {
    findings.iter().any(|f| f.verdict == Verdict::Refuse)
}

fn enriched(eyes: &Eyes, snap: &Snapshot, mut findings: Vec<Finding>, config: &Config) -> Report {
    (eyes.paths)(&mut findings, snap);
    if refuses(&findings) {
        (eyes.holders)(&mut findings, snap, SEARCH);
    }
    Report::new(snap, findings, config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Outcome;
    use crate::rules::testkit;
    use crate::snapshot::Dev;
    use std::cell::{Cell, RefCell};

    /// A tree with or without a device in descriptor 3.
    fn tree(look: Look, device: bool) -> Snapshot {
        let mut file = testkit::file(3, libc::S_IFCHR, 9);
        file.rdev = Dev { major: 10, minor: 237 };
        file.link = Some("/dev/loop-control".into());
        Snapshot { look, ..testkit::snap(if device { vec![file] } else { Vec::new() }) }
    }

    /// Plays these trees one after another; the looks taken and the searches made.
    fn play(trees: &[bool], body: impl FnOnce(&Eyes) -> Result<Report, ScanError>) -> (Outcome, usize, usize) {
        let (left, searched) = (RefCell::new(trees.iter()), Cell::new(0));
        let eyes = Eyes {
            scan: &|_, look, _| left.borrow_mut().next().map(|d| tree(look, *d)).ok_or(ScanError::NoSuchTask),
            paths: &|_, _| (),
            holders: &|_, _, _| searched.set(searched.get() + 1),
        };
        let verdict = body(&eyes).unwrap().verdict();
        let looks = trees.len() - left.borrow().len();
        (verdict, looks, searched.get())
    }

    #[test]
    fn an_early_refusal_needs_two_looks_and_a_clean_tree_one() {
        let (host, config) = (testkit::host(), Config::default());
        let early = |trees: &[bool]| play(trees, |eyes| early(eyes, 100, &host, &config));
        assert_eq!(early(&[true, true, true]), (Outcome::Refuse, 2, 1));
        assert_eq!(early(&[false, true]), (Outcome::Pass, 1, 0));
        // It was only in passing.
        assert_eq!(early(&[true, false]), (Outcome::Pass, 2, 0));
    }

    #[test]
    fn the_frozen_look_is_the_last_word() {
        let (host, config) = (testkit::host(), Config::default());
        assert_eq!(play(&[true, true], |eyes| frozen(eyes, 100, &host, &config)), (Outcome::Refuse, 1, 1));
        assert_eq!(play(&[false, true], |eyes| frozen(eyes, 100, &host, &config)), (Outcome::Pass, 1, 0));
    }
}
