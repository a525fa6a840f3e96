//! The option `--lsm-profile`, which the dump reads too.

use crate::rules::{Evidence, Finding, Phase, Remedy, Rule, Versions, When};

/// The types that CRIU knows (`lsm_check_opts`, criu/lsm.c).
const TYPES: [&[u8]; 3] = [b"apparmor", b"selinux", b"none"];

pub(crate) static LSM_PROFILE_MALFORMED: Rule = Rule {
    id: "lsm-profile-malformed",
    summary: "The value of --lsm-profile is not TYPE:NAME with a type that CRIU knows.",
    group: "Users and privileges",
    condition: "--lsm-profile (also from a configuration file or an RPC request) has no colon, or another type before it than \
           apparmor, selinux or none. The dump checks it, though the restore alone makes use of it.",
    message: "--lsm-profile {profile} {why?colon=has no colon: TYPE:NAME is wanted|type=names no LSM that CRIU knows: apparmor, selinux \
           or none is wanted before the colon}",
    criu: &["invalid argument %s for --lsm-profile", "unknown lsm %s"],
    source: "criu/lsm.c:lsm_check_opts",
    versions: Versions::All,
    remedies: &[Remedy::Workload("leave --lsm-profile out of the dump, or write it as selinux:LABEL or apparmor:PROFILE")],
    phase: Phase::BeforeFreeze,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let Some(Some(profile)) = &ctx.host.options.lsm_profile else { return };
        let Some(root) = ctx.snap.root_task() else { return };
        let why = match profile.iter().position(|b| *b == b':').and_then(|colon| profile.get(..colon)) {
            None => "colon",
            Some(kind) if !TYPES.contains(&kind) => "type",
            Some(_) => return,
        };
        sink.push(Finding::on_task(rule, root).text("profile", profile.clone()).term("why", why));
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;

    #[test]
    fn a_type_that_criu_knows_and_a_colon() {
        let look = |profile: Option<Option<&str>>| {
            let mut h = host();
            h.options.lsm_profile = profile.map(|p| p.map(Into::into));
            verdict(&LSM_PROFILE_MALFORMED, &snap(vec![]), &h)
        };
        for bad in ["", "selinux", "none", "foo:bar", ":x", "SELINUX:x"] {
            assert_eq!(look(Some(Some(bad))), Some(Verdict::Refuse), "{bad}");
        }
        for good in ["selinux:system_u:system_r:x_t:s0", "apparmor:docker-default", "none:", "none:x"] {
            assert_eq!(look(Some(Some(good))), None, "{good}");
        }
        assert_eq!(look(Some(None)), None);
        assert_eq!(look(None), None, "not known");
    }
}
