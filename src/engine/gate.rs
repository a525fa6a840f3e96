//! Whether the options at hand allow what a rule has found: derived from the remedies that the rule names, so that what is
//! printed as a remedy and what the verdict takes into account cannot differ.

use crate::criu::{Gate, Host};
use crate::finding::{Finding, Value};
use crate::rules::{Remedy, Rule};
use std::io::Write as _;

/// What the remedies say about a finding that its rule has made.
pub(crate) fn of(rule: &Rule, finding: &Finding, host: &Host) -> Gate {
    any(rule.remedies.iter().map(|remedy| of_remedy(remedy, Some(finding), host)))
}

/// Whether an option or a hook that allows everything of the rule is known to be given: nothing need be looked for.
pub(crate) fn waives_all(rule: &Rule, host: &Host) -> bool {
    rule.remedies.iter().any(|remedy| of_remedy(remedy, None, host) == Gate::Waived)
}

/// Any one of them is enough.
fn any(gates: impl Iterator<Item = Gate>) -> Gate {
    gates.fold(Gate::InForce, Gate::or)
}

/// Without a finding: what the remedy says of every finding, as far as that does not depend on it.
fn of_remedy(remedy: &Remedy, finding: Option<&Finding>, host: &Host) -> Gate {
    match remedy {
        Remedy::Option(opt) if !opt.is_known_to(host) => Gate::InForce,
        Remedy::Option(opt) => host.gate(&[*opt]),
        Remedy::OptionFor(opt, fact) => match finding.and_then(|f| f.get(fact)) {
            Some(_) => host.gate(&[*opt]),
            None => Gate::InForce,
        },
        Remedy::External(template) | Remedy::ExternalInVain(template) => match finding.and_then(|f| key(template, f)) {
            Some(key) => host.gate_external(&key),
            None => Gate::InForce,
        },
        Remedy::Hook(hook) => host.gate_hook(*hook),
        Remedy::Modelled(..) | Remedy::AtRestore(..) | Remedy::Release(_) | Remedy::Workload(_) => Gate::InForce,
    }
}

/// The exact `--external` string that a template makes of a finding's facts. `None`: it lacks one of them.
fn key(template: &str, finding: &Finding) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = template;
    while let Some((text, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}')?;
        out.extend_from_slice(text.as_bytes());
        match finding.get(name)? {
            Value::Text(bytes) => out.extend_from_slice(bytes),
            Value::Term(text) => out.extend_from_slice(text.as_bytes()),
            Value::Num(number) => write!(out, "{number}").ok()?,
            _ => return None,
        }
        rest = after;
    }
    out.extend_from_slice(rest.as_bytes());
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::criu::{options, Hook, Opt};
    use crate::rules::testkit::{host, task, unknown, with};
    use crate::rules::{registry, Versions};

    fn rule(remedies: &'static [Remedy]) -> Rule {
        let first = registry::RULES.first().unwrap();
        Rule { remedies, versions: Versions::All, ..**first }
    }

    #[test]
    fn the_gate_is_that_of_the_remedies() {
        let locks = rule(&[Remedy::Workload("close it"), Remedy::Option(Opt::FileLocks)]);
        let f = Finding::on_task(&locks, &task(100));
        assert_eq!(of(&locks, &f, &host()), Gate::InForce);
        assert_eq!(of(&locks, &f, &with(Opt::FileLocks)), Gate::Waived);
        assert_eq!(of(&locks, &f, &unknown(Opt::FileLocks)), Gate::OPTION_UNKNOWN);
        assert!(waives_all(&locks, &with(Opt::FileLocks)) && !waives_all(&locks, &unknown(Opt::FileLocks)));
    }

    #[test]
    fn a_remedy_with_a_fact_is_one_only_for_a_finding_that_has_it() {
        let tty = rule(&[Remedy::OptionFor(Opt::ShellJob, "tty")]);
        let f = Finding::on_task(&tty, &task(100));
        assert_eq!(of(&tty, &f, &with(Opt::ShellJob)), Gate::InForce);
        assert_eq!(of(&tty, &f.num("tty", 5), &with(Opt::ShellJob)), Gate::Waived);
        assert!(!waives_all(&tty, &with(Opt::ShellJob)));
    }

    #[test]
    fn an_external_key_is_made_of_the_facts() {
        let unix = rule(&[Remedy::External("unix[{ino}]")]);
        let f = |ino: i64| Finding::on_task(&unix, &task(100)).num("ino", ino);
        let mut host = host();
        host.externals = Some(vec!["unix[77]".into()]);
        assert_eq!(of(&unix, &f(77), &host), Gate::Waived);
        assert_eq!(of(&unix, &f(7), &host), Gate::InForce);
        assert_eq!(of(&unix, &Finding::on_task(&unix, &task(100)), &host), Gate::InForce);
        host.externals = None;
        assert_eq!(of(&unix, &f(7), &host), Gate::OPTION_UNKNOWN);
    }

    #[test]
    fn what_other_plugins_could_take_is_not_refused_while_they_are_not_known() {
        let device = rule(&[Remedy::Hook(Hook::DumpExtFile)]);
        let f = Finding::on_task(&device, &task(100));
        let mut host = host();
        host.siblings.pending = true;
        assert_eq!(of(&device, &f, &host), Gate::PLUGINS_UNKNOWN);
    }

    /// Every key that the engine is to look for can be made of what the rule's findings have.
    #[test]
    fn every_remedy_of_every_rule_can_be_applied() {
        for rule in registry::RULES {
            for remedy in rule.remedies {
                if let Remedy::External(template) | Remedy::ExternalInVain(template) = remedy {
                    assert_eq!(template.matches('{').count(), template.matches('}').count(), "{}", rule.id);
                    assert!(!template.contains("NAME"), "{}: no exact key: {template}", rule.id);
                }
                if let Remedy::Modelled(name, _) = remedy {
                    assert!(options::named(name).is_some(), "{}: no model knows --{name}", rule.id);
                }
            }
        }
    }
}
