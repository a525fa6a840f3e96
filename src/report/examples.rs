//! What CRIU and the plugin have printed about the fixtures, for those who read of a rule. `make examples` writes the file; nothing
//! in it is made up, but for the numbers of processes and the names of directories, which differ in each run.
//!
//! ```text
//! [RULE]
//! from: CRIU VERSION::FIXTURE
//! criu: what CRIU says in its log without the plugin, if it refuses
//! line: the plugin's line
//! facts: the finding's, a JSON object
//! ```

use crate::report::template::{self, Style};
use crate::rules::{Remedy, Rule};
use std::collections::BTreeMap;
use std::fmt;

const FILE: &str = include_str!("examples.txt");

/// One finding of a fixture.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Example {
    pub rule: String,
    pub from: String,
    pub criu: Option<String>,
    pub line: String,
    pub facts: BTreeMap<String, String>,
}

/// All of the file; a part that is none is left out, which a test would see.
pub(crate) fn all() -> Vec<Example> {
    parse(FILE).unwrap_or_default()
}

/// The text of a file; an `Err` is the line that does not belong there.
pub fn parse(text: &str) -> Result<Vec<Example>, String> {
    let mut all: Vec<Example> = Vec::new();
    for line in text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        if let Some(rule) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            all.push(Example { rule: rule.to_string(), ..Example::default() });
            continue;
        }
        let (Some(example), Some((key, value))) = (all.last_mut(), line.split_once(": ")) else {
            return Err(line.to_string());
        };
        match key {
            "from" => example.from = value.to_string(),
            "criu" => example.criu = Some(value.to_string()),
            "line" => example.line = value.to_string(),
            "facts" => example.facts = serde_json::from_str(value).map_err(|e| format!("{e}: {line}"))?,
            _ => return Err(line.to_string()),
        }
    }
    Ok(all)
}

impl fmt::Display for Example {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[{}]\nfrom: {}", self.rule, self.from)?;
        if let Some(criu) = &self.criu {
            writeln!(f, "criu: {criu}")?;
        }
        let facts = serde_json::to_string(&self.facts).map_err(|_| fmt::Error)?;
        writeln!(f, "line: {}\nfacts: {facts}", self.line)
    }
}

/// A remedy's template and how it is read.
pub(super) fn remedy_template(remedy: &Remedy) -> Option<(&'static str, Style)> {
    match remedy {
        Remedy::External(value)
        | Remedy::ExternalInVain(value)
        | Remedy::Modelled(_, value)
        | Remedy::AtRestore(_, value) => Some((value, Style::OptionValue)),
        Remedy::Workload(words) => Some((words, Style::Sentence)),
        _ => None,
    }
}

/// For each remedy of the rule: whether the facts of this example fill it.
pub fn fills(rule: &Rule, example: &Example) -> Vec<bool> {
    let fact = |name: &str| example.facts.get(name).cloned();
    let full =
        |remedy| remedy_template(remedy).is_none_or(|(text, style)| template::render(text, style, &fact).complete);
    rule.remedies.iter().map(full).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{criu_text, hints, inventory_page, remedies, symptom};
    use crate::rules::registry::RULES;

    fn rule_of(example: &Example) -> &'static Rule {
        RULES.iter().find(|r| r.id == example.rule).unwrap_or_else(|| panic!("no rule {}", example.rule))
    }

    #[test]
    fn the_file_is_read_back_as_it_is_written() {
        let all = parse(FILE).unwrap();
        let written: String = all.iter().map(|e| format!("\n{e}")).collect();
        assert_eq!(parse(&written).unwrap(), all);
        assert!(FILE.ends_with(&written), "not as it would be written");
        for bad in ["from: x", "[a]\nfrom", "[a]\nwhat: x", "[a]\nfacts: x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_rule_that_a_fixture_shows_has_an_example() {
        let all = all();
        for id in inventory_page::seen_in_fixtures() {
            assert!(all.iter().any(|e| e.rule == id), "{id}: `make examples` writes one");
        }
    }

    /// A line that no finding of the rule can have made is of another version of it.
    #[test]
    fn every_line_is_one_that_the_rule_can_have_made() {
        for example in all() {
            let rule = rule_of(&example);
            let head = format!("{}: pid {} (", rule.id, example.facts.get("pid").unwrap());
            let (_, rest) = example.line.split_once(&head).unwrap_or_else(|| panic!("{}: {head}", example.line));
            let (place, message) = rest.split_once(": ").unwrap();
            assert!(place.contains(')'), "{}", example.line);
            let ends = message.match_indices("; ").map(|(at, _)| at).chain([message.len()]);
            let mut sentences = ends.filter_map(|end| message.get(..end));
            assert!(sentences.any(|s| template::can_make(rule.message, s)), "{}: {}", rule.message, example.line);
            // What is not there is of another version of the rule.
            let fact = |name: &str| example.facts.get(name).cloned();
            assert!(
                template::render(rule.message, Style::Sentence, &fact).complete,
                "{}: {:?}",
                rule.id,
                example.facts
            );
        }
    }

    /// One whose remedies have changed since is of another version, too.
    #[test]
    fn every_line_ends_with_a_remedy_of_the_rule() {
        for example in all() {
            let remedies = remedies::of(rule_of(&example), &[&example]);
            let core = |s: &remedies::Shown| match s.written.strip_prefix("plugin hook ") {
                Some(hook) => format!("({hook} hook)"),
                None => {
                    s.written.trim_start_matches("at the restore: ").trim_end_matches(" in an RPC request").to_string()
                }
            };
            let there = remedies.iter().map(core).any(|words| example.line.contains(&words));
            let none = remedies.is_empty() && example.line.ends_with(hints::NO_REMEDY);
            assert!(there || none, "{}: {}", example.rule, example.line);
        }
    }

    #[test]
    fn what_criu_said_of_it_finds_the_rule() {
        let mut lost = Vec::new();
        for example in all() {
            let Some(line) = &example.criu else { continue };
            // Of some things CRIU has no text.
            let has_text = criu_text::of(rule_of(&example)).any(|t| t.text.is_some());
            let found = match symptom::meaning(RULES, line) {
                symptom::Meaning::Rules(found) => found.iter().any(|r| r.id == example.rule),
                symptom::Meaning::Unknown(_) => false,
            };
            if has_text && !found {
                lost.push(format!("{} ({}): {line}", example.rule, example.from));
            }
        }
        assert_eq!(lost, Vec::<String>::new());
    }
}
