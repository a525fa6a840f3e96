//! What lifts a rule, in words: how it is written, what it costs, and what the restore then needs.

use crate::criu::externals;
use crate::criu::options::{self, Note};
use crate::report::examples::Example;
use crate::report::setting::quoted;
use crate::report::template::{self, Style};
use crate::rules::{Remedy, Rule};

const PLUGIN: Note = Note { value: "", costs: "The plugin decides.", restore: "the same plugin." };
const RELEASE: Note = Note { value: "", costs: "None.", restore: "that CRIU, too." };

/// A remedy as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    /// An option, or words.
    pub written: String,
    /// It goes on a command line.
    pub is_code: bool,
    pub costs: Option<&'static str>,
    pub restore: Option<&'static str>,
}

/// All remedies of a rule that are advised, with what the examples tell in the place of facts.
pub(crate) fn of(rule: &Rule, examples: &[&Example]) -> Vec<Shown> {
    let advised = rule.remedies.iter().filter(|remedy| !matches!(remedy, Remedy::ExternalInVain(_)));
    advised.map(|remedy| shown(remedy, examples)).collect()
}

fn shown(remedy: &Remedy, examples: &[&Example]) -> Shown {
    let (written, is_code, note) = match remedy {
        Remedy::Option(opt) | Remedy::OptionFor(opt, _) => {
            let note = opt.row().and_then(|option| option.note(""));
            match opt.name() {
                Some(name) => (format!("--{name}"), true, note),
                None => ("orphan_pts_master in an RPC request".to_string(), false, note),
            }
        }
        Remedy::External(value) | Remedy::ExternalInVain(value) => option("external", value, examples),
        Remedy::Modelled(name, value) => option(name, value, examples),
        Remedy::AtRestore(name, value) => {
            let filled = || quoted(&fill(value, Style::OptionValue, examples));
            let value = if value.is_empty() { String::new() } else { filled() };
            (format!("at the restore: {}", options::written(name, &value)), false, None)
        }
        Remedy::Hook(hook) => (format!("plugin hook {}", hook.name()), false, Some(PLUGIN)),
        Remedy::Release(release) => (format!("CRIU {} or newer", release.first()), false, Some(RELEASE)),
        Remedy::Workload(words) => (fill(words, Style::Sentence, examples), false, None),
    };
    Shown { written, is_code, costs: note.map(|n| n.costs), restore: note.map(|n| n.restore) }
}

/// An option with a value, which stands on a command line.
fn option(name: &str, value: &str, examples: &[&Example]) -> (String, bool, Option<Note>) {
    let value = fill(value, Style::OptionValue, examples);
    let note = match name {
        "external" => externals::note_of(&value),
        _ => options::named(name).and_then(|option| option.note(&value)),
    };
    (format!("--{name} {}", quoted(&value)), true, note)
}

/// Facts that are there to say that a remedy applies, and the only value they have.
const ONE_VALUE: &[(&str, &str)] = &[("apart", "criu"), ("right", "CAP_NET_ADMIN")];

/// The template with the facts of the first example that has them all; else what is lacking stands there by its name.
fn fill(text: &str, style: Style, examples: &[&Example]) -> String {
    let filled = examples.iter().map(|e| template::render(text, style, &|name| e.facts.get(name).cloned()));
    if let Some(full) = filled.into_iter().find(|r| r.complete) {
        return full.text;
    }
    let needed = template::needed(text, style);
    let fact = |name: &str| {
        let example = examples.first().and_then(|e| e.facts.get(name).cloned());
        let only = ONE_VALUE.iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_string());
        example.or(only).or_else(|| needed.contains(&name).then(|| name.to_uppercase()))
    };
    template::render(text, style, &fact).text
}

impl Shown {
    /// `WRITTEN. COSTS For the restore: RESTORE`.
    pub(crate) fn sentence(&self, code: impl Fn(&str) -> String, plain: impl Fn(&str) -> String) -> String {
        let mut out = if self.is_code { code(&self.written) } else { plain(&self.written) };
        if let Some(costs) = self.costs {
            out.push_str(". ");
            out.push_str(&plain(costs));
        }
        if let Some(restore) = self.restore {
            out.push_str(" The restore needs ");
            out.push_str(&plain(restore));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::examples;
    use crate::rules::registry::RULES;

    /// Of a rule, what is shown on its page.
    fn shown_of(rule: &'static Rule) -> Vec<Shown> {
        let all = examples::all();
        let of_rule: Vec<&Example> = all.iter().filter(|e| e.rule == rule.id).collect();
        of(rule, &of_rule)
    }

    #[test]
    fn every_option_says_what_it_costs_and_every_note_is_of_use() {
        let all: Vec<(&str, Shown)> = RULES.iter().flat_map(|r| shown_of(r).into_iter().map(|s| (r.id, s))).collect();
        for (id, s) in &all {
            assert!(!s.is_code || s.costs.is_some(), "{id}: {}", s.written);
        }
        let of_keys = externals::KINDS.iter().filter_map(|kind| kind.note);
        let of_options = options::OPTIONS.iter().flat_map(|option| option.notes).copied();
        for note in of_options.chain(of_keys).chain([PLUGIN, RELEASE]) {
            let used = |s: &Shown| (s.costs, s.restore) == (Some(note.costs), Some(note.restore));
            assert!(all.iter().any(|(_, s)| used(s)), "{note:?}");
            assert!(note.costs.ends_with('.') && note.restore.ends_with('.'), "{note:?}");
        }
    }

    /// Names of facts that say what they stand for.
    const PLAIN: &[&str] = &["DIR", "HOME", "INO", "KEY", "NAME", "PATH", "PID"];

    #[test]
    fn what_a_remedy_names_is_from_an_example() {
        let mut unfilled = Vec::new();
        for rule in RULES {
            for shown in shown_of(rule) {
                let words = shown.written.split(|c: char| !c.is_ascii_uppercase() && c != '_');
                let templates = || rule.remedies.iter().filter_map(examples::remedy_template);
                let names: Vec<String> =
                    templates().flat_map(|(text, style)| template::names(text, style)).map(str::to_uppercase).collect();
                let own = |word: &str| templates().any(|(text, _)| text.contains(word));
                let open = |word: &&str| names.contains(&word.to_string()) && !PLAIN.contains(word) && !own(word);
                unfilled.extend(words.filter(open).map(|word| format!("{}: {word} in {}", rule.id, shown.written)));
            }
        }
        assert_eq!(unfilled, Vec::<String>::new());
    }
}
