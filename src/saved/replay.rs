//! Judges what was saved, with the answers that were given then in place of new ones.

use super::answers::{Lookup, Subject};
use super::{SavedCheck, SavedSnapshot};
use crate::check::{early, frozen, Probes};
use crate::criu::Host;
use crate::hash::Map;
use crate::report::Report;
use crate::rules::{Finding, Value};
use crate::scan::ScanError;
use crate::snapshot::ScanPhase;
use std::cell::Cell;

impl SavedCheck {
    /// The report, as this version makes it of what was seen then. Where this asks for more looks than were taken, the last
    /// one stands for them: the tree stood still.
    pub fn judge(&self) -> Result<Report, ScanError> {
        let Some((first, last)) = self.snapshots.first().zip(self.snapshots.len().checked_sub(1)) else {
            return Err(ScanError::NoSuchTask);
        };
        // How many looks were taken; the answers are those about the latest.
        let taken = Cell::new(0_usize);
        let current = || self.snapshots.get(taken.get().saturating_sub(1).min(last)).unwrap_or(first);
        let scan = |_, _, _: &Host| {
            taken.set(taken.get().saturating_add(1));
            Ok(current().snapshot.clone())
        };
        let probes = Probes {
            scan: &scan,
            paths: &|findings, _| name(findings, current()),
            holders: &|findings, _, _| hold(findings, current()),
            watch: &|findings, _, _| held_but(&current().answers.unsteady, findings),
            paths_again: &|findings, _| held_but(&current().answers.other_path, findings),
        };
        let root = first.snapshot.root;
        match first.snapshot.look {
            ScanPhase::Early => early(&probes, root, &self.host, &self.config()),
            ScanPhase::Frozen => frozen(&probes, root, &self.host, &self.config()),
        }
    }
}

/// All but these were the same.
fn held_but(lost: &[Subject], findings: &mut [Finding]) {
    let lost = Lookup::new(lost.iter().map(|subject| (subject, ())));
    findings.iter_mut().for_each(|f| f.held = Some(lost.of(f).is_none()));
}

fn name(findings: &mut [Finding], of: &SavedSnapshot) {
    let names: Map<(i32, i32), &crate::bytes::Bytes> =
        of.answers.names.iter().map(|n| ((n.pid, n.fd), &n.path)).collect();
    for f in findings.iter_mut().filter(|f| f.get("path").is_none() && f.queued.is_empty()) {
        if let Some(path) = f.fd.and_then(|fd| names.get(&(f.pid, fd))) {
            f.facts.push(("path".into(), Value::Text((*path).clone())));
        }
    }
}

fn hold(findings: &mut [Finding], of: &SavedSnapshot) {
    let ends = Lookup::new(of.answers.other_ends.iter().map(|end| (&end.subject, end)));
    for f in findings.iter_mut().filter(|f| f.other.is_some()) {
        if let Some(end) = ends.of(f) {
            f.holders = end.holders.clone();
            f.outside = end.outside;
        }
    }
}
