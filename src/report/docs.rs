//! The documentation of the rules, made from the items that check them: `docs/rules.md`, and the table in
//! the README.

use crate::report::{criu_text, template};
use crate::rules::{Evidence, Phase, Remedy, Rule, When};
use std::fmt::Write as _;

/// Start and end of the part of the README that is made here.
pub const README_MARKS: (&str, &str) = ("<!-- rules: made by UPDATE_DOCS=1 -->\n", "<!-- /rules -->");

/// `docs/rules.md`.
pub fn rules_page(rules: &[&Rule]) -> String {
    let mut out = String::from(
        "# What CRIU refuses, and how criu-preflight names it\n\n\
         Made from the rules themselves by `UPDATE_DOCS=1 cargo test --lib docs_are_current`: do not edit.\n\n\
         *CRIU finds it*: how far CRIU itself gets before it refuses. *We find it*: when criu-preflight knows for certain.\n\n\
         | Rule | CRIU refuses | CRIU versions | CRIU finds it | We find it | Lifted by |\n\
         |---|---|---|---|---|---|\n",
    );
    for rule in sorted(rules) {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(
            out,
            "| [{id}](#{id}) | {} | {} | {} | {} | {} |",
            cell(rule.summary),
            rule.versions,
            phase(rule.phase),
            when(rule),
            lifted_by(rule),
            id = rule.id,
        );
    }
    let mut group = "";
    for rule in sorted(rules) {
        if rule.group != group {
            group = rule.group;
            let _ = write!(out, "\n## {group}\n");
        }
        let _ = write!(out, "\n### {}\n\n{}\n\n{}\n\n", rule.id, markdown(rule.summary), markdown(rule.condition));
        let _ = writeln!(out, "* We say: {}", code(&wording(rule.message)));
        let said: Vec<String> = criu_text::of(rule).map(|t| t.wording(code)).collect();
        let _ = writeln!(out, "* CRIU says: {}", if said.is_empty() { "nothing".into() } else { said.join("; ") });
        let _ = writeln!(out, "* Where: {}", code(rule.source));
        let _ = writeln!(out, "* CRIU versions: {}", rule.versions);
        let _ = writeln!(out, "* CRIU finds it {}", phase(rule.phase));
        let _ = writeln!(out, "* We find it {}", when(rule));
        if rule.remedies.is_empty() {
            out.push_str("* Nothing lifts it\n");
        } else {
            out.push_str("* Lifted by:\n");
            for lift in rule.remedies {
                let _ = writeln!(out, "  * {}", markdown(&long_lift(lift)));
            }
        }
    }
    out
}

/// The table of the README: the kinds of resources and their rules.
pub fn readme_table(rules: &[&Rule]) -> String {
    let mut out = String::from("| Kind of resource | Rules |\n|---|---|\n");
    let sorted = sorted(rules);
    let mut groups: Vec<&str> = sorted.iter().map(|r| r.group).collect();
    groups.dedup();
    for group in groups {
        let links: Vec<String> = sorted
            .iter()
            .filter(|r| r.group == group)
            .map(|r| format!("[{id}](docs/rules.md#{id})", id = r.id))
            .collect();
        let _ = writeln!(out, "| {} | {} |", cell(group), links.join(", "));
    }
    out
}

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
        Phase::Never => "never: the dump goes through",
    }
}

pub(super) fn when(rule: &Rule) -> String {
    let when = match (rule.when, rule.phase) {
        (When::Early, Phase::Never) => "before anything is frozen",
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

/// What remedies a rule, in few words, as a table's cell.
pub(super) fn lifted_by(rule: &Rule) -> String {
    if rule.remedies.is_empty() {
        return "nothing".to_string();
    }
    let remedies: Vec<String> = rule.remedies.iter().map(short_lift).collect();
    cell(&remedies.join(", "))
}

fn short_lift(lift: &Remedy) -> String {
    match lift {
        Remedy::Option(opt) | Remedy::OptionFor(opt, _) => match opt.name() {
            Some(name) => code(&format!("--{name}")),
            None => "`orphan_pts_master` (RPC)".to_string(),
        },
        Remedy::External(value) => code(&format!("--external {}", value_wording(value))),
        Remedy::Modelled(name, value) => code(&format!("--{name} {}", value_wording(value))),
        Remedy::Hook(hook) => format!("plugin hook `{}`", hook.name()),
        Remedy::Release(release) => format!("CRIU {}", release.trim_end_matches('+')),
        Remedy::Workload(_) => "the workload".to_string(),
    }
}

pub(super) fn long_lift(lift: &Remedy) -> String {
    match lift {
        Remedy::Option(opt) | Remedy::OptionFor(opt, _) => match opt.name() {
            Some(name) => format!("option --{name} ('{name}' in a configuration file)"),
            None => "orphan_pts_master in the RPC request (no command line option)".to_string(),
        },
        Remedy::External(value) => format!("option --external {}", value_wording(value)),
        Remedy::Modelled(name, value) => format!("option --{name} {}", value_wording(value)),
        Remedy::Hook(hook) => format!("another plugin with the {} hook that accepts it", hook.name()),
        Remedy::Release(release) => format!("CRIU {} or newer", release.trim_end_matches('+')),
        Remedy::Workload(words) => wording(words),
    }
}

/// A template as a reader knows it: facts as upper-case words, optional parts in brackets.
pub(super) fn wording(template: &str) -> String {
    show(template, template::Style::Sentence)
}

fn value_wording(template: &str) -> String {
    show(template, template::Style::OptionValue)
}

fn show(template: &str, style: template::Style) -> String {
    fn put(parts: &[template::Part], out: &mut String) {
        for part in parts {
            match part {
                template::Part::Text(text) => out.push_str(text),
                template::Part::Fact(name) => out.push_str(&name.to_uppercase()),
                template::Part::Optional(inner) => {
                    out.push('[');
                    put(inner, out);
                    out.push(']');
                }
            }
        }
    }
    let mut out = String::new();
    put(&template::parse(template, style).unwrap_or_default(), &mut out);
    out
}

/// Plain text within a table's cell.
pub(super) fn cell(text: &str) -> String {
    markdown(text).replace('|', "\\|").replace('\n', " ")
}

/// Plain text outside of code: what markdown would take for markup is escaped.
fn markdown(text: &str) -> String {
    let mut code = false;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '`' => code = !code,
            '<' | '*' | '_' | '[' | ']' if !code => out.push('\\'),
            _ => {}
        }
        out.push(c);
    }
    out
}

fn code(text: &str) -> String {
    if text.contains('`') {
        format!("`` {text} ``")
    } else {
        format!("`{text}`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{PTS, UNIX};
    use crate::rules::registry;
    use expect_test::expect;

    #[test]
    fn the_page_of_the_rules() {
        expect![[r#"
            # What CRIU refuses, and how criu-preflight names it

            Made from the rules themselves by `UPDATE_DOCS=1 cargo test --lib docs_are_current`: do not edit.

            *CRIU finds it*: how far CRIU itself gets before it refuses. *We find it*: when criu-preflight knows for certain.

            | Rule | CRIU refuses | CRIU versions | CRIU finds it | We find it | Lifted by |
            |---|---|---|---|---|---|
            | [unix-external-stream](#unix-external-stream) | A thing of the tests. | all | before the task's own memory is written, after that of all tasks before it | before anything is frozen | `--external unix[PEER]`, plugin hook `DUMP_UNIX_SK` |
            | [tty-orphan-master](#tty-orphan-master) | A thing of the tests. | all | before the task's own memory is written, after that of all tasks before it | before anything is frozen | `orphan_pts_master` (RPC) |

            ## Made up

            ### unix-external-stream

            A thing of the tests.

            What `it` is \<not>. More of it.

            * We say: `stream socket [PATH ]is connected to the outside`
            * CRIU says: `No way|back`
            * Where: `criu/none.c:none`
            * CRIU versions: all
            * CRIU finds it before the task's own memory is written, after that of all tasks before it
            * We find it before anything is frozen
            * Lifted by:
              * option --external unix\[PEER\]
              * another plugin with the DUMP\_UNIX\_SK hook that accepts it

            ### tty-orphan-master

            A thing of the tests.

            What `it` is \<not>. More of it.

            * We say: `the master of PATH is outside`
            * CRIU says: `No way|back`
            * Where: `criu/none.c:none`
            * CRIU versions: all
            * CRIU finds it before the task's own memory is written, after that of all tasks before it
            * We find it before anything is frozen
            * Lifted by:
              * orphan\_pts\_master in the RPC request (no command line option)
        "#]].assert_eq(&rules_page(&[&UNIX, &PTS]));
        expect![[r#"
            | Kind of resource | Rules |
            |---|---|
            | Made up | [unix-external-stream](docs/rules.md#unix-external-stream), [tty-orphan-master](docs/rules.md#tty-orphan-master) |
        "#]].assert_eq(&readme_table(&[&UNIX, &PTS]));
    }

    #[test]
    fn a_summary_is_one_short_sentence_of_its_own() {
        for (i, rule) in registry::RULES.iter().enumerate() {
            let s = rule.summary;
            assert!(
                s.len() <= 120 && s.ends_with('.') && !s.contains(". ") && !s.contains(['`', '\n']),
                "{}: {s}",
                rule.id
            );
            assert!(registry::RULES.iter().take(i).all(|r| r.summary != s), "{}: not its own", rule.id);
        }
    }

    /// The committed documentation is what the registered rules say. `UPDATE_DOCS=1` writes it.
    #[test]
    fn docs_are_current() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let update = std::env::var_os("UPDATE_DOCS").is_some();
        let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
        let (start, end) = README_MARKS;
        let (before, rest) = readme.split_once(start).expect("the README has the mark where the table of rules starts");
        let (_, after) = rest.split_once(end).expect("the README has the mark where the table of rules ends");
        let new_readme = format!("{before}{start}{}{end}{after}", readme_table(registry::RULES));
        let pages = [
            ("docs/rules.md", rules_page(registry::RULES)),
            ("docs/inventory.md", crate::report::inventory::page(registry::RULES)),
            ("README.md", new_readme),
        ];
        for (name, new) in pages {
            let path = root.join(name);
            if update {
                std::fs::write(&path, &new).unwrap();
            }
            let old = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                old == new,
                "{name} is not what the rules say: run `UPDATE_DOCS=1 cargo test --lib docs_are_current`"
            );
        }
    }
}
