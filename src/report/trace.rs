//! `--trace RULE`: every candidate of one rule, and why it is or is not a finding.

use super::lines::{one_line, place};
use super::message;
use crate::engine::judge::{Trace, TraceVerdict};
use crate::engine::sink::Decision;
use crate::rules::{Verdict, WarnReason};

/// One line for each candidate, in the order they were met.
pub fn text(trace: &Trace) -> String {
    let id = trace.rule.id;
    match &trace.verdict {
        TraceVerdict::Disabled => format!("{id}: switched off by the setting 'disable'\n"),
        TraceVerdict::OtherRelease => {
            format!("{id}: not a rule for this CRIU, only for: {}\n", trace.rule.versions)
        }
        TraceVerdict::Candidates(found) if found.is_empty() => {
            format!("{id}: no candidate: nothing in the tree is what the rule is about\n{}\n", trace.rule.condition)
        }
        TraceVerdict::Candidates(found) => {
            let lines = found.iter().map(|decision| {
                let f = &decision.finding;
                let at = place(f, trace.rule.message);
                let sentence = message(Some(trace.rule), f);
                one_line(format!("{id}: {at}: {sentence}: {}", outcome(decision))) + "\n"
            });
            lines.collect()
        }
    }
}

fn outcome(decision: &Decision) -> &'static str {
    match (decision.waived, decision.finding.verdict, decision.finding.warns) {
        (true, ..) => "allowed by what is given",
        (false, Verdict::Refuse, _) => "refused",
        (false, Verdict::Unrestorable, _) => "cannot be restored",
        (false, Verdict::Warn, None) => "only a warning",
        (false, Verdict::Warn, Some(reason)) => reason_text(reason),
    }
}

/// Why it is only a warning.
fn reason_text(reason: WarnReason) -> &'static str {
    match reason {
        WarnReason::FactUnknown => "only a warning: something that decides could not be found out",
        WarnReason::OptionUnknown => "only a warning: it is not known whether an option that allows it is given",
        WarnReason::PluginsUnknown => "only a warning: other plugins, which could accept it, are not loaded yet",
        WarnReason::RestoreOption => "only a warning: the restore needs the option that is named",
        WarnReason::Lost => "only a warning: it is dumped, and lost or changed",
        WarnReason::UnknownRelease => "only a warning: this release of CRIU is not known",
        WarnReason::PreDump => "only a warning: a pre-dump refuses nothing",
        WarnReason::Allowed => "only a warning: allowed by the setting 'allow'",
        WarnReason::Incomplete => "only a warning: not all of the tree could be looked at",
        WarnReason::Volatile => "only a warning while the tree runs: it changes by itself",
        WarnReason::NotConfirmed => "only a warning: a second look differed",
        WarnReason::Unproved => "only a warning while the tree runs: it could be chance",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::criu::{Opt, Release};
    use crate::engine::judge::trace;
    use crate::rules::registry;
    use crate::rules::testkit::{at_release, file, host, snap, unknown, with};
    use crate::snapshot::{Dev, Snapshot};

    fn traced(id: &str, s: &Snapshot, host: &crate::criu::Host) -> String {
        text(&trace(registry::by_id(id).unwrap(), s, host, &Config::default()))
    }

    #[test]
    fn each_candidate_has_its_reason() {
        let mut device = file(3, libc::S_IFCHR, 9);
        device.attr.rdev = Dev { major: 10, minor: 237 };
        let s = snap(vec![device]);
        let line = traced("fd-chrdev", &s, &host());
        assert_eq!(line, "fd-chrdev: pid 100 (app) fd 3: character device 10:237: refused\n");
        let mut pending = host();
        pending.siblings.pending = true;
        assert!(
            traced("fd-chrdev", &s, &pending).ends_with("other plugins, which could accept it, are not loaded yet\n")
        );
        assert!(traced("fd-chrdev", &snap(Vec::new()), &host()).starts_with("fd-chrdev: no candidate"));
        assert!(traced("pidfd-old", &s, &host()).contains("only for: 3.17.1-4.0"));
        assert!(traced("pidfd-old", &s, &at_release(Release::V4_0)).contains("no candidate"));
        let off = Config { disabled: vec!["fd-chrdev".into()], ..Config::default() };
        let rule = registry::by_id("fd-chrdev").unwrap();
        assert_eq!(text(&trace(rule, &s, &host(), &off)), "fd-chrdev: switched off by the setting 'disable'\n");
    }

    #[test]
    fn an_option_that_is_given_or_not_known_is_named_as_the_reason() {
        let mut s = snap(Vec::new());
        (s.tasks[0].sid, s.tasks[0].ns_sid) = (7, vec![7]);
        let of = |host: &crate::criu::Host| traced("root-not-session-leader", &s, host);
        assert!(of(&host()).ends_with(": refused\n"), "{}", of(&host()));
        assert!(of(&with(Opt::ShellJob)).ends_with(": allowed by what is given\n"));
        assert!(of(&unknown(Opt::ShellJob)).ends_with("it is not known whether an option that allows it is given\n"));
    }
}
