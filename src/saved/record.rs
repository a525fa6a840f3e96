//! Notes what a check sees and is answered, while it runs.

use super::answers::{Name, OtherEnd, Subject};
use super::{Answers, SavedSnapshot};
use crate::check::Probes;
use crate::criu::Host;
use crate::report::Report;
use crate::rules::{registry, Evidence, Finding};
use crate::scan::ScanError;
use crate::snapshot::{ScanPhase, Snapshot};
use std::cell::RefCell;
use std::time::Duration;

/// Runs `check` with these probes; its report, and what it was made of.
pub fn record(
    probes: &Probes,
    check: impl FnOnce(&Probes) -> Result<Report, ScanError>,
) -> Result<(Report, Vec<SavedSnapshot>), ScanError> {
    let taken: RefCell<Vec<SavedSnapshot>> = RefCell::new(Vec::new());
    let note = |what: &mut dyn FnMut(&mut Answers)| {
        if let Some(last) = taken.borrow_mut().last_mut() {
            what(&mut last.answers);
        }
    };
    let scan = |root: i32, look: ScanPhase, host: &Host| {
        let snapshot = (probes.scan)(root, look, host)?;
        taken.borrow_mut().push(SavedSnapshot { snapshot: snapshot.clone(), answers: Answers::default() });
        Ok(snapshot)
    };
    let paths = |findings: &mut [Finding], snap: &Snapshot| {
        let unnamed: Vec<bool> = findings.iter().map(|f| f.get("path").is_none()).collect();
        (probes.paths)(findings, snap);
        note(&mut |answers| {
            answers.names.extend(findings.iter().zip(&unnamed).filter(|(_, is)| **is).filter_map(named))
        });
    };
    let holders = |findings: &mut [Finding], snap: &Snapshot, budget: Duration| {
        (probes.holders)(findings, snap, budget);
        note(&mut |answers| answers.other_ends.extend(findings.iter().filter_map(other_end)));
    };
    let watch = |findings: &mut [Finding], snap: &Snapshot, moment: Duration| {
        (probes.watch)(findings, snap, moment);
        let lost = findings.iter().filter(|f| f.held == Some(false));
        note(&mut |answers| answers.unsteady.extend(lost.clone().map(Subject::of)));
    };
    let paths_again = |findings: &mut [Finding], snap: &Snapshot| {
        (probes.paths_again)(findings, snap);
        let lost = findings.iter().filter(|f| f.held != Some(true) && rests_on_path(f));
        note(&mut |answers| answers.other_path.extend(lost.clone().map(Subject::of)));
    };
    let recording = Probes { scan: &scan, paths: &paths, holders: &holders, watch: &watch, paths_again: &paths_again };
    let report = check(&recording)?;
    Ok((report, taken.into_inner()))
}

/// The name that the finding was just given.
fn named((f, _): (&Finding, &bool)) -> Option<Name> {
    match (f.get("path")?, f.fd) {
        (crate::rules::Value::Text(path), Some(fd)) => Some(Name { pid: f.pid, fd, path: path.clone() }),
        _ => None,
    }
}

fn other_end(f: &Finding) -> Option<OtherEnd> {
    let known = f.other.is_some() && (!f.holders.is_empty() || f.outside.is_some());
    known.then(|| OtherEnd { subject: Subject::of(f), holders: f.holders.clone(), outside: f.outside })
}

/// Only of these a path was asked for.
fn rests_on_path(f: &Finding) -> bool {
    f.verdict.is_certain() && registry::by_id(&f.rule).is_some_and(|rule| rule.evidence == Evidence::Path)
}
