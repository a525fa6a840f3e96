//! The answer to `criu-preflight explain`: a rule by its id, or by what CRIU says, as plain text for a terminal.

use crate::bytes::escape;
use crate::report::criu_text::Pattern;
use crate::report::docs::{phase, when};
use crate::report::examples::{self, Example};
use crate::report::inventory::Answer;
use crate::report::symptom::{meaning, Meaning};
use crate::report::{criu_text, hints, inspect, inventory, remedies};
use crate::rules::Rule;
use std::fmt::Write as _;

/// What is known of a rule's id, or of a line of CRIU's log; `Err`: nothing, in words.
pub fn explain(rules: &[&Rule], asked: &str) -> Result<String, String> {
    if let Some(rule) = rules.iter().find(|r| r.id == asked) {
        return Ok(whole(rule, &examples::all()));
    }
    match meaning(rules, asked) {
        Meaning::Rules(found) => {
            let mut out = match found.as_slice() {
                [rule] => whole(rule, &examples::all()),
                several => format!(
                    "CRIU says so of {} things. criu-preflight explain RULE tells them apart:\n\n{}",
                    several.len(),
                    list(several)
                ),
            };
            if let Some(row) = inventory::of_no_rule(asked) {
                let _ = write!(
                    out,
                    "\nCRIU may say so of something that has no rule, too ({}):\n\n{}\n",
                    row.id, row.words
                );
            }
            Ok(out)
        }
        Meaning::Unknown(nearest) => unknown(asked, &nearest),
    }
}

/// What CRIU says at the end, whatever has failed.
const LAST_WORDS: &[&str] = &["Dumping FAILED", "Dump files (pid: %d) failed with %d", "Dumping failed"];

/// What no rule says.
fn unknown(asked: &str, nearest: &[&Rule]) -> Result<String, String> {
    if LAST_WORDS.iter().any(|words| Pattern::new(words).is_in(asked)) {
        return Err(
            "CRIU says so whenever a dump has failed: the reason is in the first line of its log with Error in it"
                .into(),
        );
    }
    if let Some(row) = inventory::of_no_rule(asked) {
        let why = match row.answer {
            Answer::Kernel => "the kernel, or a program of the host, decides when CRIU tries",
            _ => "it cannot be met, or knowing it costs more than it is worth",
        };
        return Ok(format!("{} has no rule: {why}.\n\n{}\n", row.id, row.words));
    }
    let asked = escape(asked.as_bytes());
    let rest = match nearest {
        [] => "; criu-preflight rules lists them".to_string(),
        _ => format!(". The nearest:\n\n{}", list(nearest).trim_end()),
    };
    // An id has no blank.
    let what = if asked.contains(' ') { "no rule has this text of CRIU:" } else { "there is no rule" };
    Err(format!("{what} '{asked}'{rest}"))
}

/// A line for each.
fn list(rules: &[&Rule]) -> String {
    rules.iter().map(|r| format!("  {:<24} {}\n", r.id, r.summary)).collect()
}

/// All that is known about a rule.
fn whole(rule: &Rule, examples: &[Example]) -> String {
    let examples: Vec<&Example> = examples.iter().filter(|e| e.rule == rule.id).collect();
    let mut out = format!("{} ({})\n\n{}\n", rule.id, rule.group, rule.summary);
    let printed: Vec<&str> = examples.iter().map(|e| e.line.as_str()).collect();
    part(&mut out, "as it is printed", &printed);
    part(&mut out, "by hand", inspect::commands(rule));
    let remedies: Vec<String> =
        remedies::of(rule, &examples).iter().map(|r| r.sentence(str::to_string, str::to_string)).collect();
    match remedies.as_slice() {
        [] => part(&mut out, "what to do", &[hints::NO_REMEDY]),
        _ => part(&mut out, "what to do", &remedies),
    }
    part(&mut out, "exactly", &[rule.condition]);
    let _ = write!(out, "\nCRIU says:      {}\n", criu_text::line(rule));
    let _ = writeln!(out, "where:          {}", rule.source);
    let _ = writeln!(out, "CRIU versions:  {}", rule.versions);
    let _ = writeln!(out, "CRIU finds it:  {}", phase(rule.phase));
    let _ = writeln!(out, "we find it:     {}", when(rule));
    out
}

/// A heading and its lines; nothing, if there are none.
fn part(out: &mut String, heading: &str, lines: &[impl AsRef<str>]) {
    if !lines.is_empty() {
        let _ = write!(out, "\n{heading}:\n");
    }
    for line in lines {
        let _ = writeln!(out, "  {}", line.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{DEVICE, MAPPING, UNIX};
    use expect_test::expect;

    #[test]
    fn a_rule_in_full() {
        expect![[r#"
            fd-chrdev (Made up)

            A thing of the tests.

            what to do:
              close PATH
              CRIU 4.3 or newer. None. The restore needs that CRIU, too.

            exactly:
              What `it` is <not>. More of it.

            CRIU says:      No way|back
            where:          criu/none.c:none
            CRIU versions:  all
            CRIU finds it:  before the task's own memory is written, after that of all tasks before it
            we find it:     before anything is frozen
        "#]]
        .assert_eq(&whole(&DEVICE, &[]));
        expect![[r#"
            vma-device (Made up)

            A thing of the tests.

            what to do:
              no workaround known

            exactly:
              What `it` is <not>. More of it.

            CRIU says:      No way|back
            where:          criu/none.c:none
            CRIU versions:  all
            CRIU finds it:  before the task's own memory is written, after that of all tasks before it
            we find it:     before anything is frozen
        "#]]
        .assert_eq(&whole(&MAPPING, &[]));
    }

    #[test]
    fn several_rules_and_none() {
        expect![[r#"
            CRIU says so of 2 things. criu-preflight explain RULE tells them apart:

              unix-external-stream     A thing of the tests.
              fd-chrdev                A thing of the tests.
        "#]]
        .assert_eq(&explain(&[&UNIX, &DEVICE], "(00.1) Error (criu/none.c:1): No way|back").unwrap());
        let rules = crate::rules::registry::RULES;
        expect![[r#"
            no rule has this text of CRIU: 'Unix socket\x1b without a peer'. The nearest:

              unix-peer-uncollected    A UNIX socket connected to one that the kernel did not list to CRIU.
              unix-not-collected       A UNIX socket that the kernel did not list to CRIU, mostly one of another network namespace."#]].assert_eq(&explain(rules, "Unix socket\x1b without a peer").unwrap_err());
        expect!["CRIU says so whenever a dump has failed: the reason is in the first line of its log with Error in it"]
            .assert_eq(&explain(rules, "Dumping FAILED.").unwrap_err());
        expect!["there is no rule 'no-such'; criu-preflight rules lists them"]
            .assert_eq(&explain(rules, "no-such").unwrap_err());
        let both = explain(rules, "Can't infect (pid: 12) with parasite").unwrap();
        assert!(both.starts_with("fd-table-full (") && both.contains("no rule, too (infect-failed)"), "{both}");
        expect![[r#"
            infect-failed has no rule: the kernel, or a program of the host, decides when CRIU tries.

            "Can't infect": the kernel refuses a system call that CRIU makes inside the process
        "#]]
        .assert_eq(&explain(rules, "Error (criu/cr-dump.c:1484): Can't infect a thing").unwrap());
    }
}
