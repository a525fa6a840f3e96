//! The answer to `criu-preflight explain`: a rule by its id, or by what CRIU says, as plain text for a terminal.

use crate::bytes::escape;
use crate::report::criu_text;
use crate::report::docs::{long_lift, phase, when};
use crate::report::symptom::{meaning, Meaning};
use crate::rules::Rule;
use std::fmt::Write as _;

/// What is known of a rule's id, or of a line of CRIU's log; `Err`: nothing, in words.
pub fn explain(rules: &[&Rule], asked: &str) -> Result<String, String> {
    if let Some(rule) = rules.iter().find(|r| r.id == asked) {
        return Ok(whole(rule));
    }
    match meaning(rules, asked) {
        Meaning::Rules(found) => Ok(match found.as_slice() {
            [rule] => whole(rule),
            several => format!(
                "CRIU says so of {} things. criu-preflight explain RULE tells them apart:\n\n{}",
                several.len(),
                list(several)
            ),
        }),
        Meaning::Unknown(nearest) => {
            let asked = escape(asked.as_bytes());
            let rest = if nearest.is_empty() {
                "; criu-preflight rules lists them".to_string()
            } else {
                format!(". The nearest:\n\n{}", list(&nearest).trim_end())
            };
            // An id has no blank.
            let what = if asked.contains(' ') { "no rule has this text of CRIU:" } else { "there is no rule" };
            Err(format!("{what} '{asked}'{rest}"))
        }
    }
}

/// A line for each.
fn list(rules: &[&Rule]) -> String {
    rules.iter().map(|r| format!("  {:<24} {}\n", r.id, r.summary)).collect()
}

/// All that is known about a rule.
fn whole(rule: &Rule) -> String {
    let mut out = format!("{} ({})\n\n{}\n\n{}\n\n", rule.id, rule.group, rule.summary, rule.condition);
    let _ = writeln!(out, "CRIU says:      {}", criu_text::line(rule));
    let _ = writeln!(out, "where:          {}", rule.source);
    let _ = writeln!(out, "CRIU versions:  {}", rule.versions);
    let _ = writeln!(out, "CRIU finds it:  {}", phase(rule.phase));
    let _ = writeln!(out, "we find it:     {}", when(rule));
    if rule.remedies.is_empty() {
        out.push_str("lifted by:      nothing\n");
    }
    for (i, remedy) in rule.remedies.iter().enumerate() {
        let _ = writeln!(out, "{}{}", if i == 0 { "lifted by:      " } else { "                " }, long_lift(remedy));
    }
    out
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

            What `it` is <not>. More of it.

            CRIU says:      No way|back
            where:          criu/none.c:none
            CRIU versions:  all
            CRIU finds it:  before the task's own memory is written, after that of all tasks before it
            we find it:     before anything is frozen
            lifted by:      close PATH
                            CRIU 4.3 or newer
        "#]]
        .assert_eq(&explain(&[&UNIX, &DEVICE], "fd-chrdev").unwrap());
        expect![[r#"
            vma-device (Made up)

            A thing of the tests.

            What `it` is <not>. More of it.

            CRIU says:      No way|back
            where:          criu/none.c:none
            CRIU versions:  all
            CRIU finds it:  before the task's own memory is written, after that of all tasks before it
            we find it:     before anything is frozen
            lifted by:      nothing
        "#]]
        .assert_eq(&explain(&[&MAPPING], "No way|back").unwrap());
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
        expect!["no rule has this text of CRIU: 'Dumping FAILED.'; criu-preflight rules lists them"]
            .assert_eq(&explain(rules, "Dumping FAILED.").unwrap_err());
        expect!["there is no rule 'no-such'; criu-preflight rules lists them"]
            .assert_eq(&explain(rules, "no-such").unwrap_err());
    }
}
