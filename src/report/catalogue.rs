//! All rules as a list: for a terminal, and for programs.

use crate::report::docs::{long_lift, phase, sorted, when, wording};
use crate::rules::{Rule, When};
use serde::Serialize;
use std::fmt::Write as _;

/// A rule for programs.
#[derive(Serialize)]
struct Entry<'a> {
    id: &'a str,
    summary: &'a str,
    group: &'a str,
    what: &'a str,
    says: String,
    criu: String,
    source: &'a str,
    versions: String,
    criu_finds_it: &'static str,
    we_find_it: String,
    /// `early`, `volatile` or `frozen`: only the first can refuse in a dry run.
    certain: &'static str,
    lifted_by: Vec<String>,
}

/// A line for each rule below its kind of resource.
pub fn text(rules: &[&Rule]) -> String {
    let mut out = String::new();
    let mut group = "";
    for rule in sorted(rules) {
        if rule.group != group {
            let gap = if group.is_empty() { "" } else { "\n" };
            group = rule.group;
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(out, "{gap}{group}");
        }
        let _ = writeln!(out, "  {:<24} {}", rule.id, rule.summary);
    }
    out
}

/// An array with an object for each rule. Fails only as `serde_json` does, which for these types means never.
pub fn json(rules: &[&Rule]) -> serde_json::Result<String> {
    let entries: Vec<Entry> = sorted(rules)
        .into_iter()
        .map(|rule| Entry {
            id: rule.id,
            summary: rule.summary,
            group: rule.group,
            what: rule.condition,
            says: wording(rule.message),
            criu: crate::report::criu_text::line(rule),
            source: rule.source,
            versions: rule.versions.to_string(),
            criu_finds_it: phase(rule.phase),
            we_find_it: when(rule),
            certain: match rule.when {
                When::Early => "early",
                When::Volatile => "volatile",
                When::Frozen => "frozen",
            },
            lifted_by: rule.remedies.iter().map(long_lift).collect(),
        })
        .collect();
    Ok(serde_json::to_string_pretty(&entries)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::{DEVICE, PTS, UNIX};
    use expect_test::expect;

    #[test]
    fn the_list_and_the_array() {
        expect![[r#"
            Made up
              unix-external-stream     A thing of the tests.
              tty-orphan-master        A thing of the tests.
        "#]]
        .assert_eq(&text(&[&UNIX, &PTS]));
        expect![[r#"
            [
              {
                "id": "fd-chrdev",
                "summary": "A thing of the tests.",
                "group": "Made up",
                "what": "What `it` is <not>. More of it.",
                "says": "character device DEV (DRIVER) PATH",
                "criu": "No way|back",
                "source": "criu/none.c:none",
                "versions": "all",
                "criu_finds_it": "before the task's own memory is written, after that of all tasks before it",
                "we_find_it": "before anything is frozen",
                "certain": "early",
                "lifted_by": [
                  "close PATH",
                  "CRIU 4.3 or newer"
                ]
              }
            ]
        "#]]
        .assert_eq(&json(&[&DEVICE]).unwrap());
    }
}
