//! `docs/inventory.md`: the rows of `inventory.txt`, and what the rules say of theirs.

use crate::report::inventory::{rows, Answer, Row, ROWS};
use crate::report::markdown::cell;
use crate::report::rules_page::{known, phase};
use crate::rules::{Rule, When};
use std::fmt::Write as _;

/// The rules that a `by` row names first, and the words behind them.
fn rules_named<'a, 'r>(words: &'a str, rules: &[&'r Rule]) -> (Vec<&'r Rule>, &'a str) {
    let mut named = Vec::new();
    let mut rest = words;
    while let Some(rule) = rest.split(' ').next().and_then(|w| rules.iter().find(|r| r.id == w)) {
        named.push(*rule);
        rest = rest.get(rule.id.len()..).unwrap_or_default().trim_start();
    }
    (named, rest)
}

/// What keeps the rows and the rules from agreeing.
fn problems(rows: &[Row], rules: &[&Rule]) -> Vec<String> {
    let mut out = Vec::new();
    for (i, row) in rows.iter().enumerate() {
        let id = row.id;
        let has_rule = rules.iter().any(|r| r.id == id);
        if rows.iter().take(i).any(|r| r.id == id) {
            out.push(format!("{id} has two rows"));
        }
        match row.answer {
            Answer::Rule if !has_rule => out.push(format!("{id}: no rule of that id is registered")),
            Answer::Rule => {}
            _ if has_rule => out.push(format!("{id}: a rule is registered, so the answer is `rule`")),
            Answer::By if rules_named(row.words, rules).0.is_empty() => out.push(format!("{id}: names no rule")),
            _ => {}
        }
    }
    for (i, rule) in rules.iter().enumerate() {
        if !rows.iter().any(|r| r.id == rule.id) {
            out.push(format!("{}: the rule has no row", rule.id));
        }
        if rules.iter().take(i).any(|r| r.id == rule.id) {
            out.push(format!("{}: two rules have that id", rule.id));
        }
    }
    out
}

/// `docs/inventory.md`.
pub(super) fn page(rules: &[&Rule]) -> String {
    let mut out = String::from(
        "# Every refusal of CRIU, and its answer\n\n\
         Made from the rules and `src/report/inventory.txt` by `make docs`: do not edit.\n\n\
         What CRIU 3.17.1 to 4.3 can refuse about the dumped processes, by its sources. *Answer*:\n\n\
         * **rule**: criu-preflight names it. **rule, frozen only**: with the tree frozen, since only a tracer can see it.\n\
         * **other rules**: criu-preflight names it under other ids.\n\
         * **not predictable**: the kernel, or a program of the host, decides at the moment of the operation. What will be \
           seen is stated.\n\
         * **no rule**: it cannot be met, or knowing it costs more than it is worth.\n\
         * **lost**: CRIU accepts it, with a warning or in silence, and it is lost.\n\
         * **no refusal**: CRIU accepts it.\n\n\
         *Seen*: the differential tests have shown it on real CRIU, and that the rule names the right process and \
         descriptor; else why they cannot. The last two columns: see [rules.md](rules.md#how-to-read-this).\n",
    );
    let rows = rows(ROWS).unwrap_or_default();
    let mut section = "";
    for row in &rows {
        if row.section != section {
            section = row.section;
            let _ = write!(
                out,
                "\n## {section}\n\n| Id | Answer | Seen, or why not | CRIU versions | CRIU finds it | We know it |\n\
                 |---|---|---|---|---|---|\n"
            );
        }
        match rules.iter().find(|r| r.id == row.id) {
            Some(rule) if row.answer == Answer::Rule => {
                let _ = writeln!(
                    out,
                    "| [{id}](rules.md#{id}) | {} | {} | {} | {} | {} |",
                    if rule.when == When::Frozen { "rule, frozen only" } else { "rule" },
                    match (row.words, row.words.strip_prefix("seen: ")) {
                        ("", _) => "seen".into(),
                        (_, Some(elsewhere)) => format!("seen {}", cell(elsewhere)),
                        (why, None) => format!("not seen: {}", cell(why)),
                    },
                    rule.versions,
                    phase(rule.phase),
                    known(rule),
                    id = row.id,
                );
            }
            _ => {
                let (answer, words) = match row.answer {
                    Answer::Rule => ("rule", String::new()),
                    Answer::By => ("other rules", by(row.words, rules)),
                    Answer::Kernel => ("not predictable", cell(row.words)),
                    Answer::Unprovoked => ("no rule", cell(row.words)),
                    Answer::Lost => ("lost", cell(row.words)),
                    Answer::Accepted => ("no refusal", cell(row.words)),
                };
                let _ = writeln!(out, "| {} | {answer} | {words} | | | |", cell(row.id));
            }
        }
    }
    out
}

/// Why no fixture shows the rule, or where else it was seen.
pub(super) fn not_shown(rule: &Rule) -> Option<&'static str> {
    let rows = rows(ROWS).unwrap_or_default();
    rows.into_iter().find(|r| r.id == rule.id && !r.words.is_empty()).map(|r| r.words)
}

/// The rules that the fixtures show on real CRIU.
pub(super) fn seen_in_fixtures() -> Vec<&'static str> {
    let rows = rows(ROWS).unwrap_or_default();
    rows.into_iter().filter(|r| r.answer == Answer::Rule && r.words.is_empty()).map(|r| r.id).collect()
}

fn by(words: &str, rules: &[&Rule]) -> String {
    let (named, words) = rules_named(words, rules);
    let links: Vec<String> = named.iter().map(|r| format!("[{id}](rules.md#{id})", id = r.id)).collect();
    match words {
        "" => links.join(", "),
        words => format!("{}: {}", links.join(", "), cell(words)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::registry::RULES;

    /// A new rule needs its row in `inventory.txt`, and every row its answer.
    #[test]
    fn every_row_has_its_answer() {
        let rows = rows(ROWS).unwrap();
        assert_eq!(problems(&rows, RULES), Vec::<String>::new());
    }

    #[test]
    fn disagreement_is_seen() {
        let known = RULES.first().unwrap().id;
        let of = |text: &str| problems(&rows(text).unwrap(), RULES.get(..1).unwrap());
        assert_eq!(of(&format!("{known} | rule |")), Vec::<String>::new());
        assert_eq!(of(""), [format!("{known}: the rule has no row")]);
        assert_eq!(of(&format!("{known} | rule |\n{known} | rule |")), [format!("{known} has two rows")]);
        assert_eq!(
            of(&format!("{known} | lost | words")),
            [format!("{known}: a rule is registered, so the answer is `rule`")]
        );
        assert_eq!(
            of(&format!("{known} | rule |\nno-such | rule |")),
            ["no-such: no rule of that id is registered".to_string()]
        );
        assert_eq!(of(&format!("{known} | rule |\nx | by | nobody")), ["x: names no rule".to_string()]);
        assert_eq!(of(&format!("{known} | rule |\nx | by | {known} too")), Vec::<String>::new());
        for bad in ["x", "x | rule", "x | maybe | words", "x | kernel |"] {
            assert!(rows(bad).is_err(), "{bad}");
        }
    }
}
