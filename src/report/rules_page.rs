//! `docs/rules.md`: every rule for somebody who is in a hurry, with an index by what CRIU says and one by what it is about.

use crate::report::docs::sorted;
use crate::report::examples::Example;
use crate::report::markdown::{anchor, code, markdown, wrapped};
use crate::report::{criu_text, inspect, inventory_page, remedies};
use crate::rules::{Evidence, Phase, Rule, When};
use std::collections::BTreeMap;
use std::fmt::Write as _;

const HEAD: &str = "\
# What CRIU refuses

Made from the rules, and from what CRIU and the plugin print about the fixtures of the tests, by `make docs`: do not edit.

You have an error of CRIU: look for it [below](#by-what-criu-says), or ask `criu-preflight explain 'THE LINE OF THE LOG'`. You have a
line of criu-preflight: it begins with the name of a rule; `criu-preflight explain RULE` says what stands here. You want to know
what your program may not have: [by resource](#by-resource).

";

const LEGEND: &str = "\
## How to read this

Of each rule: the thing; the line as it is printed (broken here; the names of processes and directories are those of the tests);
how to look at it by hand; what to do, what that costs, and what the restore then needs; the exact condition.

Upper-case words stand for what the report names: PID, FD the process and its descriptor, INO an inode, TID a thread. In a
program's own pid namespace its numbers are others.

*CRIU finds it* tells how far CRIU gets by itself, and what is lost by then:

* **options**: at once, nothing is frozen yet.
* **freezing**: while it stops the processes.
* **collecting**: all processes are stopped, nothing is written yet.
* **before pages**: when it comes to the process. The memory of the processes before it is written.
* **pages**: while it writes the memory of the process.
* **after pages**: the memory of the process is written.
* **last**: all memory is written. The tree was frozen all that time.
* **restore**: the dump goes through, and its restore fails. Such a rule warns (*unrestorable*); with the setting
  `unrestorable refuse` it refuses.
* **never**: the dump goes through, and something is lost. Such a rule only warns, in `preflight.json` and in the answer of
  `criu-preflight check`.

*We know it* tells when criu-preflight is certain, so that it can refuse:

* **running**: before anything is frozen. With a condition: only if that holds, else when the tree is frozen.
* **frozen**: when CRIU has stopped the tree, before anything is written. CRIU before 4.0 gives no chance for that: there it is a
  warning.

";

/// The page.
pub(super) fn page(rules: &[&Rule], examples: &[Example]) -> String {
    let mut out = String::from(HEAD);
    symptoms(&mut out, rules);
    resources(&mut out, rules);
    out.push_str(LEGEND);
    let mut group = "";
    for rule in sorted(rules) {
        if rule.group != group {
            group = rule.group;
            let _ = write!(out, "## {group}\n\n");
        }
        section(&mut out, rule, &examples.iter().filter(|e| e.rule == rule.id).collect::<Vec<_>>());
    }
    for rule in rules {
        let _ = writeln!(out, "[{id}]: #{id}", id = rule.id);
    }
    out
}

/// What CRIU says, and the rules that say why.
fn symptoms(out: &mut String, rules: &[&Rule]) {
    out.push_str("## By what CRIU says\n\n`%d`, `%s` and the like stand for numbers and names.\n\n");
    let mut texts: BTreeMap<(String, &str), Vec<String>> = BTreeMap::new();
    let mut silent = Vec::new();
    for rule in sorted(rules) {
        let link = format!("[{}]", rule.id);
        let mut says_nothing = true;
        for said in criu_text::of(rule) {
            let Some(text) = said.text else { continue };
            says_nothing = false;
            let note = said.note.map(|note| format!(" ({note})")).unwrap_or_default();
            texts.entry((text.to_lowercase(), text)).or_default().push(format!("{link}{note}"));
        }
        if says_nothing {
            silent.push(link);
        }
    }
    for ((_, text), links) in texts {
        wrapped(out, "* ", &format!("{}: {}", code(text), links.join(", ")));
    }
    wrapped(out, "* No text of its own: ", &silent.join(", "));
    out.push('\n');
}

fn resources(out: &mut String, rules: &[&Rule]) {
    out.push_str("## By resource\n\n");
    let mut group = "";
    for rule in sorted(rules) {
        if rule.group != group {
            let gap = if group.is_empty() { "" } else { "\n" };
            group = rule.group;
            let _ = write!(out, "{gap}**[{group}](#{})**\n\n", anchor(group));
        }
        wrapped(out, "* ", &format!("[{}]: {}", rule.id, markdown(rule.summary)));
    }
    out.push('\n');
}

fn section(out: &mut String, rule: &Rule, examples: &[&Example]) {
    let _ = write!(out, "### {}\n\n", rule.id);
    wrapped(out, "", &markdown(rule.summary));
    if examples.is_empty() {
        let why = inventory_page::not_shown(rule).unwrap_or("no fixture shows it");
        wrapped(out, "\nNo example: ", &format!("{}.", markdown(why.trim_end_matches('.'))));
    } else {
        out.push_str("\n```text\n");
        for example in examples {
            wrapped(out, "", &example.line);
        }
        out.push_str("```\n");
    }
    out.push_str("\nBy hand:\n\n```sh\n");
    for command in inspect::commands(rule) {
        let _ = writeln!(out, "{command}");
    }
    out.push_str("```\n\nWhat to do:\n\n");
    let remedies = remedies::of(rule, examples);
    if remedies.is_empty() {
        out.push_str("* Nothing lifts it.\n");
    }
    for remedy in remedies {
        wrapped(out, "* ", &remedy.sentence(code, markdown));
    }
    wrapped(out, "\nExactly: ", &markdown(rule.condition));
    let said: Vec<String> = criu_text::of(rule).map(|t| t.wording(code)).collect();
    wrapped(out, "\nCRIU says: ", &if said.is_empty() { "nothing".into() } else { said.join("; ") });
    let facts = format!(
        "CRIU versions: {}. CRIU finds it: *{}*. We know it: *{}*. In the sources: {}.",
        rule.versions,
        phase(rule.phase),
        known(rule),
        code(rule.source),
    );
    wrapped(out, "\n", &facts);
    out.push('\n');
}

/// See the legend.
pub(super) fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::BeforeFreeze => "options",
        Phase::Freezing => "freezing",
        Phase::Collecting => "collecting",
        Phase::BeforePages => "before pages",
        Phase::Pages => "pages",
        Phase::AfterPages => "after pages",
        Phase::AfterTasks => "last",
        Phase::Restore => "restore",
        Phase::Never => "never",
    }
}

/// See the legend.
pub(super) fn known(rule: &Rule) -> &'static str {
    match (rule.when, rule.phase, rule.evidence) {
        (When::Early, Phase::Never | Phase::Restore, _) | (When::Early, _, Evidence::Object) => "running",
        (When::Early, _, Evidence::Process) => "running, if the process stands still meanwhile",
        (When::Early, _, Evidence::Path) => "running, if file and path stay what they are",
        (When::Early, _, Evidence::Mounts) => "running, if no mount comes or goes",
        (When::Early, _, Evidence::Peer | Evidence::Outsider) => {
            "running, if the other end is found outside or the tree stands still"
        }
        (When::Early, _, Evidence::Tree) => "running, if the tree stands still",
        (When::Volatile, Phase::BeforeFreeze | Phase::Freezing, _) => {
            "running, as a warning: it mostly passes by itself"
        }
        (When::Volatile | When::Frozen, ..) => "frozen",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::examples;
    use crate::report::tests::{PTS, UNIX};
    use crate::rules::registry::RULES;
    use expect_test::expect;

    #[test]
    fn the_page_of_two_rules() {
        let example = Example {
            rule: UNIX.id.into(),
            line:
                "Error (preflight): unix-external-stream: pid 7 (a) fd 3: stream socket /x is connected to the outside"
                    .into(),
            facts: [("peer".into(), "4711".into())].into(),
            ..Example::default()
        };
        let page = page(&[&UNIX, &PTS], &[example]);
        let (_, indices) = page.split_once("## By what").unwrap();
        let (indices, sections) = indices.split_once("## How to read this").unwrap();
        let (_, sections) = sections.split_once("## Made up").unwrap();
        expect![[r#"
             CRIU says

            `%d`, `%s` and the like stand for numbers and names.

            * `No way|back`: [unix-external-stream], [tty-orphan-master]
            * No text of its own: 

            ## By resource

            **[Made up](#made-up)**

            * [unix-external-stream]: A thing of the tests.
            * [tty-orphan-master]: A thing of the tests.

        "#]]
        .assert_eq(indices);
        expect![[r#"


            ### unix-external-stream

            A thing of the tests.

            ```text
            Error (preflight): unix-external-stream: pid 7 (a) fd 3: stream socket /x is connected to the outside
            ```

            By hand:

            ```sh
            ```

            What to do:

            * `--external 'unix[4711]'`. The socket is saved without its other end. The restore needs --ext-unix-sk where its
              other end has a name and else --inherit-fd 'fd[N]:socket:[INO]', which connects it anew to that name or hands in a
              connected socket (the second colon is not in CRIU's manual; a datagram socket cannot be handed in, and with --ext-unix-sk
              CRIU crashes where there is no name).
            * plugin hook DUMP_UNIX_SK. The plugin decides. The restore needs the same plugin.

            Exactly: What `it` is \<not>. More of it.

            CRIU says: `No way|back`

            CRIU versions: all. CRIU finds it: *before pages*. We know it: *running*. In the sources: `criu/none.c:none`.

            ### tty-orphan-master

            A thing of the tests.

            No example: no fixture shows it.

            By hand:

            ```sh
            ```

            What to do:

            * orphan_pts_master in an RPC request. The other side of the terminal is not saved. The restore needs
              orphan_pts_master again: CRIU makes a new one, and hands it out with the notification orphan-pts-master.

            Exactly: What `it` is \<not>. More of it.

            CRIU says: `No way|back`

            CRIU versions: all. CRIU finds it: *before pages*. We know it: *running*. In the sources: `criu/none.c:none`.

            [unix-external-stream]: #unix-external-stream
            [tty-orphan-master]: #tty-orphan-master
        "#]].assert_eq(sections);
    }

    #[test]
    fn no_line_is_long_and_nothing_is_left_open() {
        let page = page(RULES, &examples::all());
        for line in page.lines() {
            let words = line.trim_start().split(' ').count();
            assert!(line.chars().count() <= 135 || words <= 3, "{line}");
            assert!(!line.starts_with('|'), "a table: {line}");
        }
        // Every rule is in both indices and has a section, and every link leads somewhere.
        for rule in RULES {
            assert_eq!(page.matches(&format!("\n[{id}]: #{id}\n", id = rule.id)).count(), 1, "{}", rule.id);
            assert_eq!(page.matches(&format!("\n### {}\n", rule.id)).count(), 1, "{}", rule.id);
        }
        assert!(!page.contains("?]") && !page.contains("{}"));
    }
}
