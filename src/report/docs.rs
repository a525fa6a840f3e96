//! What is shown of a rule wherever one is looked up: phases, times and remedies in words.

use crate::criu::options;
use crate::report::template;
use crate::rules::{Evidence, Phase, Remedy, Rule, When};

/// By group in the table's order of groups, then as the table has them.
pub(super) fn sorted<'a>(rules: &[&'a Rule]) -> Vec<&'a Rule> {
    let mut groups: Vec<&str> = Vec::new();
    for rule in rules {
        if !groups.contains(&rule.group) {
            groups.push(rule.group);
        }
    }
    let mut rules = rules.to_vec();
    rules.sort_by_key(|r| groups.iter().position(|g| *g == r.group));
    rules
}

pub(super) fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::BeforeFreeze => "before it freezes anything",
        Phase::Freezing => "while it freezes the tree",
        Phase::Collecting => "with the tree frozen, before any memory is written",
        Phase::BeforePages => "before the task's own memory is written, after that of all tasks before it",
        Phase::Pages => "while it writes the task's memory",
        Phase::AfterPages => "after the task's memory is written",
        Phase::AfterTasks => "after the memory of the whole tree is written",
        Phase::Restore => "at the restore, which fails: the dump goes through",
        Phase::Never => "never: the dump goes through",
    }
}

pub(super) fn when(rule: &Rule) -> String {
    let when = match (rule.when, rule.phase) {
        (When::Early, Phase::Never | Phase::Restore) => "before anything is frozen",
        (When::Early, _) => return format!("before anything is frozen{}", certainty(rule.evidence)),
        (When::Volatile, Phase::BeforeFreeze | Phase::Freezing) => {
            "before anything is frozen, as a warning, which is given when CRIU has failed: it mostly passes before CRIU gets there"
        }
        (When::Volatile, _) => "with the tree frozen, before anything is written; before CRIU 4.0 only a warning",
        (When::Frozen, _) => "with the tree frozen, before anything is written (CRIU 4.0 and newer)",
    };
    when.to_string()
}

/// What has to be so for an early refusal.
fn certainty(evidence: Evidence) -> String {
    let condition = match evidence {
        Evidence::Object => return String::new(),
        Evidence::Process => "the process does not run meanwhile",
        Evidence::Path => "file and path stay what they are meanwhile",
        Evidence::Mounts => "no mount comes or goes meanwhile",
        Evidence::Peer | Evidence::Outsider => {
            "the other end is found outside of the tree, or the tree does not run meanwhile"
        }
        Evidence::Tree => "the tree does not run meanwhile",
    };
    format!(" if {condition}, else with the tree frozen (before CRIU 4.0 only a warning)")
}

pub(super) fn long_lift(lift: &Remedy) -> String {
    match lift {
        Remedy::Option(opt) | Remedy::OptionFor(opt, _) => match opt.name() {
            Some(name) => format!("option --{name} ('{name}' in a configuration file)"),
            None => "orphan_pts_master in the RPC request (no command line option)".to_string(),
        },
        Remedy::ExternalInVain(value) => {
            format!("option --external {} lets the dump pass, and no restore succeeds", value_wording(value))
        }
        Remedy::External(value) => format!("option --external {}", value_wording(value)),
        Remedy::Modelled(name, value) => format!("option --{name} {}", value_wording(value)),
        Remedy::AtRestore(name, value) => {
            format!("at the restore, option {}", options::written(name, &value_wording(value)))
        }
        Remedy::Hook(hook) => format!("another plugin with the {} hook that accepts it", hook.name()),
        Remedy::Release(release) => format!("CRIU {} or newer", release.first()),
        Remedy::Workload(words) => wording(words),
    }
}

/// A template as a reader knows it.
pub(super) fn wording(text: &str) -> String {
    template::with_names(text, template::Style::Sentence)
}

fn value_wording(text: &str) -> String {
    template::with_names(text, template::Style::OptionValue)
}
