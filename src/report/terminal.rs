//! The answer of the `criu-preflight` command, for a person at a terminal.

use crate::criu::{Host, Release};
use crate::report::lines::{body, kinds, one_line, root, summary, unchecked};
use crate::report::{Outcome, Report};
use crate::rules::{Proof, Verdict, When};

/// What a dry run has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing stands against a dump; what may fail is a warning.
    Can,
    /// It can be dumped, and that dump cannot be restored.
    CannotBeRestored,
    Cannot,
    /// Nothing is known to stand against it, but not everything could be looked at, or this CRIU is not known.
    CouldNotTell,
}

/// The answer in one word.
pub fn answer(report: &Report, host: &Host) -> Answer {
    let unknown = host.release == Release::Unknown && !report.findings.is_empty();
    let unsettled = report.findings.iter().any(|f| f.proof == Proof::Lacking);
    match report.verdict() {
        Outcome::Refuse => Answer::Cannot,
        Outcome::Unrestorable => Answer::CannotBeRestored,
        _ if unknown || unsettled || !report.unchecked.is_empty() => Answer::CouldNotTell,
        _ => Answer::Can,
    }
}

/// The answer and its reasons, one a line, ready for a terminal.
pub fn text(report: &Report, host: &Host) -> String {
    let (root, criu) = (root(report), format!("CRIU {}", host.release.name()));
    let tasks = if report.tasks == 1 { "1 task was".to_owned() } else { format!("{} tasks were", report.tasks) };
    let refused = kinds(report, host, Verdict::Refuse);
    let unrestorable = kinds(report, host, Verdict::Unrestorable);
    let mut out = Vec::new();
    match answer(report, host) {
        Answer::Cannot => {
            out.push(summary(&format!("{root} cannot be dumped by {criu}"), report, &refused));
            body(&mut out, "  ", usize::MAX, report, &refused);
            if let Some(answer) = &report.answer {
                out.push(format!("with these options {}:", answer.remaining()));
                out.push(format!("  {}", answer.flags().join(" ")));
                let restore = answer.at_restore();
                if !restore.is_empty() {
                    out.push("and at the restore:".to_owned());
                    out.push(format!("  {}", restore.join(" ")));
                }
            }
        }
        Answer::Can => out.push(format!("{root} can be dumped by {criu}: {tasks} looked at")),
        Answer::CannotBeRestored => {
            let head = format!("{root} can be dumped by {criu}, but that dump cannot be restored");
            out.push(summary(&head, report, &unrestorable));
        }
        Answer::CouldNotTell => {
            let denied = |u: &crate::snapshot::Unchecked| matches!(u.errno, libc::EACCES | libc::EPERM);
            let why = if report.unchecked.iter().any(denied) { "; root may look at more" } else { "" };
            out.push(format!("it is not known whether {root} can be dumped by {criu}{why}"));
        }
    }
    let prefix = if answer(report, host) == Answer::CannotBeRestored { "  " } else { "cannot be restored: " };
    body(&mut out, prefix, usize::MAX, report, &unrestorable);
    let mut warned = kinds(report, host, Verdict::Warn);
    for kind in &mut warned {
        for (finding, cure) in &mut kind.found {
            if report.rule_of(finding).is_some_and(|rule| rule.when == When::Volatile) {
                cure.text.push_str("; it changes by itself, so only the frozen tree decides");
            }
        }
    }
    body(&mut out, "warning: ", usize::MAX, report, &warned);
    out.extend(unchecked(report, "warning: "));
    out.into_iter().map(one_line).flat_map(|line| [line, "\n".to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::engine::judge;
    use crate::rules::testkit;
    use crate::rules::Finding;
    use crate::snapshot::{Dev, Probe, ScanPhase, Snapshot, Unchecked};
    use expect_test::expect;

    fn report(release: Release, unchecked: Vec<Unchecked>) -> (Report, Host) {
        let mut file = testkit::file(3, libc::S_IFCHR, 9);
        file.attr.rdev = Dev { major: 10, minor: 237 };
        file.link = Some("/dev/\x1b[31mloop\nError".into());
        let snap = Snapshot { look: ScanPhase::Early, unchecked, ..testkit::snap(vec![file]) };
        let host = Host { release, ..Host::dry_run(Release::NEWEST) };
        let findings = judge::judge(&snap, &host, &Config::default());
        (Report::new(&snap, findings, &Config::default()), host)
    }

    #[test]
    fn it_cannot() {
        let (report, host) = report(Release::V4_2, Vec::new());
        assert_eq!(answer(&report, &host), Answer::Cannot);
        expect![[r#"
            pid 100 (app) cannot be dumped by CRIU 4.2: 1 blocker in 1 of 1 task: fd-chrdev x1
              fd-chrdev: pid 100 (app) fd 3: character device 10:237, /dev/\x1b[31mloop\nError; close /dev/\x1b[31mloop\nError before the dump; or load a CRIU plugin that accepts it (DUMP_EXT_FILE hook)
        "#]].assert_eq(&text(&report, &host));
    }

    #[test]
    fn what_changes_by_itself_is_a_warning_that_says_so() {
        let (mut report, host) = report(Release::V4_2, Vec::new());
        let volatile = crate::rules::registry::RULES.iter().find(|r| r.when == When::Volatile).unwrap();
        report.findings = vec![Finding::on_task(volatile, &testkit::task(100)).doubt()];
        assert_eq!(answer(&report, &host), Answer::Can);
        assert!(text(&report, &host).ends_with("; it changes by itself, so only the frozen tree decides\n"));
    }

    #[test]
    fn what_only_a_stopped_tree_decides_is_no_answer() {
        let (mut report, host) = report(Release::V4_2, Vec::new());
        (report.findings[0].verdict, report.findings[0].proof) = (Verdict::Warn, Proof::Lacking);
        assert_eq!(answer(&report, &host), Answer::CouldNotTell);
        let text = text(&report, &host);
        assert!(text.ends_with("; the tree did not stand still meanwhile, so only a stopped tree decides\n"), "{text}");
    }

    #[test]
    fn what_is_not_known_is_not_guessed() {
        let (unknown, host) = report(Release::Unknown, Vec::new());
        assert_eq!(answer(&unknown, &host), Answer::CouldNotTell);
        let denied = Unchecked { pid: 100, fd: None, probe: Probe::Maps, errno: libc::EACCES };
        let (mut partly, host) = report(Release::V4_2, vec![denied]);
        assert_eq!(answer(&partly, &host), Answer::Cannot);
        partly.findings.clear();
        assert_eq!(answer(&partly, &host), Answer::CouldNotTell);
        expect![[r#"
            it is not known whether pid 100 (app) can be dumped by CRIU 4.2; root may look at more
            warning: 1 thing could not be looked at: maps EACCES (pid 100)
        "#]]
        .assert_eq(&text(&partly, &host));
        partly.unchecked.clear();
        expect![[r#"
            pid 100 (app) can be dumped by CRIU 4.2: 1 task was looked at
        "#]]
        .assert_eq(&text(&partly, &host));
    }
}
