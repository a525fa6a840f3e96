//! Takes what a rule finds: applies the rule's remedies to it and puts the places of one resource together.

use super::gate;
use crate::criu::{Gate, Host};
use crate::finding::{Finding, Place};
use crate::rules::Rule;
use std::collections::{HashMap, HashSet};

/// What becomes of one finding: for `check --trace`.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub finding: Finding,
    /// Something that is given allows it: it is no finding.
    pub waived: bool,
}

/// Collects what one rule finds: the same resource, met through several descriptors, once.
pub struct Sink<'a> {
    rule: &'a Rule,
    host: &'a Host,
    found: Vec<Finding>,
    /// By [`Finding::key`]: which it is, and its places once there is more than one.
    known: HashMap<String, (usize, HashSet<Place>)>,
    /// Every candidate, if they are asked for.
    trace: Option<Vec<Decision>>,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(rule: &'a Rule, host: &'a Host) -> Self {
        Sink { rule, host, found: Vec::new(), known: HashMap::new(), trace: None }
    }

    /// The same, and remembers every candidate.
    pub(crate) fn traced(rule: &'a Rule, host: &'a Host) -> Self {
        Sink { trace: Some(Vec::new()), ..Sink::new(rule, host) }
    }

    /// A finding: refused unless one of the rule's remedies is given; a warning if that is not known.
    pub(crate) fn push(&mut self, finding: Finding) {
        self.push_unless(Gate::InForce, finding);
    }

    /// The same for what CRIU does not even look at under a condition that is no remedy of the rule and may not be known.
    pub(crate) fn push_unless(&mut self, condition: Gate, mut finding: Finding) {
        let gate = gate::of(self.rule, &finding, self.host).or(condition);
        if let Gate::Unknown(missing) = gate {
            finding.demote(missing.into());
        }
        if let Some(trace) = &mut self.trace {
            trace.push(Decision { finding: finding.clone(), waived: gate == Gate::Waived });
        }
        if gate != Gate::Waived {
            self.merge(finding);
        }
    }

    fn merge(&mut self, finding: Finding) {
        let Some((at, places)) = self.known.get_mut(&finding.key) else {
            self.known.insert(finding.key.clone(), (self.found.len(), HashSet::new()));
            self.found.push(finding);
            return;
        };
        let Some(first) = self.found.get_mut(*at) else { return };
        if places.is_empty() {
            places.insert(first.place());
            places.extend(first.also.iter().cloned());
        }
        let place = finding.place();
        if places.insert(place.clone()) {
            first.also.push(place);
        }
        // As bad as its worst place.
        if first.verdict < finding.verdict {
            (first.verdict, first.warns) = (finding.verdict, None);
        }
    }

    /// Each resource once, in the order they were met.
    pub(crate) fn into_findings(self) -> Vec<Finding> {
        self.found
    }

    /// The findings, and what became of each candidate.
    pub(crate) fn into_parts(self) -> (Vec<Finding>, Vec<Decision>) {
        (self.found, self.trace.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::{Verdict, WarnReason};
    use crate::rules::registry;
    use crate::rules::testkit::{file, host, task};
    use crate::snapshot::Task;

    #[test]
    fn one_thing_in_a_hundred_thousand_places() {
        const PLACES: usize = 100_000;
        let (rule, host) = (registry::RULES.first().unwrap(), host());
        let mut sink = Sink::new(rule, &host);
        let tasks: Vec<Task> = (0..5).map(|i| task(100 + i)).collect();
        // Every place twice.
        for nth in (0..PLACES).chain(0..PLACES) {
            let fd = i32::try_from(nth % (PLACES / tasks.len())).unwrap();
            let task = &tasks[nth / (PLACES / tasks.len())];
            sink.push(Finding::on_file(rule, task, &file(fd, libc::S_IFCHR, 9)));
        }
        sink.push(Finding::on_file(rule, &tasks[0], &file(3, libc::S_IFCHR, 10)));
        let found = sink.into_findings();
        assert_eq!(found.iter().map(|f| f.also.len()).collect::<Vec<_>>(), [PLACES - 1, 0]);
        let places: HashSet<Place> = found[0].also.iter().cloned().chain([found[0].place()]).collect();
        assert_eq!(places.len(), PLACES);
        assert_eq!(found[0].also.last().map(|p| (p.pid, p.fd)), Some((104, Some(19_999))));
    }

    #[test]
    fn the_same_thing_is_as_bad_as_its_worst_place() {
        let (rule, host) = (registry::RULES.first().unwrap(), host());
        let at = |fd| Finding::on_file(rule, &task(100), &file(fd, libc::S_IFCHR, 9));
        let found = |gates: &[Gate]| {
            let mut sink = Sink::new(rule, &host);
            gates.iter().zip(3..).for_each(|(gate, fd)| sink.push_unless(*gate, at(fd)));
            sink.into_findings().first().map(|f| (f.fd, f.verdict, f.warns, f.also.len()))
        };
        let unknown = Some(WarnReason::FactUnknown);
        assert_eq!(found(&[Gate::FACT_UNKNOWN, Gate::InForce]), Some((Some(3), Verdict::Refuse, None, 1)));
        assert_eq!(found(&[Gate::Waived, Gate::FACT_UNKNOWN]), Some((Some(4), Verdict::Warn, unknown, 0)));
        assert_eq!(found(&[Gate::Waived]), None);
        // Places that a rule names itself are no news.
        let mut sink = Sink::new(rule, &host);
        let also = vec![at(4).place(), at(5).place()];
        sink.push(Finding { also: also.clone(), ..at(3) });
        for fd in [5, 3, 6] {
            sink.push(at(fd));
        }
        assert_eq!(sink.into_findings()[0].also, [also, vec![at(6).place()]].concat());
    }

    #[test]
    fn a_trace_has_what_was_allowed_too() {
        let (rule, host) = (registry::RULES.first().unwrap(), host());
        let mut sink = Sink::traced(rule, &host);
        let at = |fd| Finding::on_file(rule, &task(100), &file(fd, libc::S_IFCHR, 9));
        sink.push_unless(Gate::Waived, at(3));
        sink.push(at(4));
        let (found, trace) = sink.into_parts();
        assert_eq!(found.len(), 1);
        assert_eq!(
            trace.iter().map(|d| (d.finding.fd, d.waived)).collect::<Vec<_>>(),
            [(Some(3), true), (Some(4), false)]
        );
    }
}
