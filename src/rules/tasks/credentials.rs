//! Whose the processes are, and what CRIU may do with those of others.

use crate::criu::{Opt, Release};
use crate::parse::capability::{CAP_CHECKPOINT_RESTORE, CAP_SYS_ADMIN, CAP_SYS_RESOURCE};
use crate::rules::tasks::tracer::{has_cap, same_ids};
use crate::rules::{Ctx, Evidence, Finding, Phase, Remedy, Rule, Value, Versions, When};
use crate::snapshot::Task;

/// Whether CRIU is without CAP_SYS_RESOURCE in the user namespace of a task; `None`: not known.
///
/// A capability counts in all namespaces below the own one, and the maker of a namespace has all of them in it
/// (`cap_capable`, security/commoncap.c).
fn lacks_resource(ctx: &Ctx, task: &Task) -> Option<bool> {
    let criu = &ctx.snap.criu;
    if has_cap(ctx, CAP_SYS_RESOURCE)? {
        return Some(false);
    }
    if task.ns.user? == criu.ns.user? {
        return Some(true);
    }
    let [_, euid, ..] = criu.uid;
    Some(task.userns.as_ref()?.owner_uid? != euid)
}

pub(crate) static RLIMIT_DENIED: Rule = Rule {
    id: "rlimit-denied",
    summary: "A process of another user, whose limits CRIU has no right to read.",
    group: "Users and privileges",
    condition: "CRIU has no CAP_SYS_RESOURCE in the task's user namespace (it did not make that namespace either), and the task's \
           real, effective and saved ids are not all its own: the kernel does not tell it the resource limits.",
    message: "process of user {uid}, group {gid}, whose resource limits CRIU may not read without CAP_SYS_RESOURCE",
    criu: &["Can't get rlimit %d: Operation not permitted"],
    source: "criu/cr-dump.c:dump_task_rlimits",
    versions: Versions::All,
    remedies: &[Remedy::Workload("give criu CAP_SYS_RESOURCE (a container or sandbox may have dropped it)")],
    phase: Phase::AfterPages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for task in ctx.live_tasks().filter(|t| !same_ids(ctx, t)) {
            if lacks_resource(ctx, task) == Some(true) {
                let ([uid, ..], [gid, ..]) = (task.uid, task.gid);
                let f = Finding::on_task(rule, task);
                sink.push(f.fact("uid", Value::Num(uid.into())).fact("gid", Value::Num(gid.into())));
            }
        }
    },
};

pub(crate) static UNPRIVILEGED_NEEDS_OPTION: Rule = Rule {
    id: "unprivileged-needs-option",
    summary: "CRIU started by a user who is not root, without the option for that.",
    group: "Users and privileges",
    condition: "CRIU does not run as root, and --unprivileged is not given.",
    message: "CRIU would run as user {euid}, not as root",
    criu: &["Running as non-root requires '--unprivileged'"],
    source: "criu/cr-check.c:check_caps",
    versions: Versions::Since(Release::V3_18),
    remedies: &[Remedy::Option(Opt::Unprivileged), Remedy::Workload("run criu as root")],
    phase: Phase::BeforeFreeze,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let [_, euid, ..] = ctx.snap.criu.uid;
        let (Some(root), true) = (ctx.snap.root_task(), euid != 0) else {
            return;
        };
        let f = Finding::on_task(rule, root).fact("euid", Value::Num(euid.into()));
        sink.push(f);
    },
};

pub(crate) static UNPRIVILEGED_NO_CAP: Rule = Rule {
    id: "unprivileged-no-cap",
    summary: "CRIU started without the capabilities it cannot do without.",
    group: "Users and privileges",
    condition: "CRIU has neither CAP_SYS_ADMIN nor CAP_CHECKPOINT_RESTORE, as root or not.",
    message: "CRIU would have neither CAP_SYS_ADMIN nor CAP_CHECKPOINT_RESTORE",
    criu: &["CRIU needs to have the CAP_SYS_ADMIN or the CAP_CHECKPOINT_RESTORE capability:"],
    source: "criu/cr-check.c:check_caps",
    versions: Versions::Since(Release::V3_18),
    remedies: &[Remedy::Workload(
        "run criu as root, or give its file the capability: setcap cap_checkpoint_restore+eip",
    )],
    phase: Phase::BeforeFreeze,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let enough = |cap| has_cap(ctx, cap) != Some(false);
        if enough(CAP_SYS_ADMIN) || enough(CAP_CHECKPOINT_RESTORE) {
            return;
        }
        if let Some(root) = ctx.snap.root_task() {
            sink.push(Finding::on_task(rule, root));
        }
    },
};

/// CRIU's buffer for one line of a /proc file is a page (`BUFSIZE`, criu/bfd.c), the newline counts.
const LINE_MAX: usize = 4096;
/// `Groups:` and a tab.
const GROUPS_LABEL: usize = 8;

/// `PARASITE_MAX_GROUPS` (criu/include/parasite.h) on x86-64: a page, less `struct parasite_dump_thread` (112 bytes) and
/// what stands before the groups in `struct parasite_dump_creds`, which has grown now and then (4.3: measured, 971 groups pass and 972 do not).
fn max_groups(release: Release) -> usize {
    let before = match release {
        Release::V3_17 => 76,
        Release::V3_18 | Release::V4_0 => 80,
        Release::V4_1 | Release::V4_2 => 88,
        Release::V4_3 | Release::Unknown => 96,
    };
    (4096usize - 112).saturating_sub(before) / 4
}

fn groups_finding(rule: &Rule, task: &Task) -> Finding {
    Finding::on_task(rule, task).count("count", task.groups.0)
}

pub(crate) static STATUS_PARSE: Rule = Rule {
    id: "status-parse",
    summary: "A process in so many groups that CRIU before 4.3 cannot read the line.",
    group: "Users and privileges",
    condition: "The list of supplementary groups in the process's status file is longer than the 4095 bytes CRIU can read of a line \
           (372 groups of ten digits).",
    message: "{count} supplementary groups, whose line in /proc/PID/status is longer than the 4095 bytes CRIU can read",
    criu: &["The bfd buffer is too small", "Error parsing proc status file"],
    source: "criu/proc_parse.c:parse_pid_status, criu/bfd.c:breadchr",
    versions: Versions::Before(Release::V4_3),
    remedies: &[Remedy::Release(Release::V4_3), Remedy::Workload("run the program with fewer supplementary groups")],
    phase: Phase::Freezing,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for task in ctx.live_tasks().filter(|t| t.groups.1.saturating_add(GROUPS_LABEL) >= LINE_MAX) {
            sink.push(groups_finding(rule, task));
        }
    },
};

pub(crate) static GROUPS_TOO_MANY: Rule = Rule {
    id: "groups-too-many",
    summary: "A process in more groups than CRIU has room for (some 970).",
    group: "Users and privileges",
    condition: "The process has so many supplementary groups that they do not fit in the page CRIU's code in the process has for \
           them: between 971 (4.3) and 976 (3.17) fit.",
    message: "{count} supplementary groups, CRIU has room for fewer than {room}",
    criu: &["Too many groups in task %d"],
    source: "criu/pie/parasite.c:parasite_dump_creds",
    versions: Versions::All,
    remedies: &[Remedy::Workload("run the program with fewer supplementary groups")],
    phase: Phase::AfterPages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let room = max_groups(ctx.host.release);
        for task in ctx.live_tasks().filter(|t| t.groups.0 >= room) {
            sink.push(groups_finding(rule, task).fact("room", Value::Num(room as i64)));
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::{Observer, Snapshot, UserNs};

    fn of_user(uid: u32) -> Snapshot {
        let mut s = snap(vec![]);
        s.tasks[0].uid = [uid; 4];
        s.tasks[0].gid = [uid; 4];
        s
    }

    #[test]
    fn limits_of_others_need_the_capability() {
        let mut s = of_user(1000);
        assert_eq!(verdict(&RLIMIT_DENIED, &s, &host()), None);
        s.criu.cap_eff = Some(!(1 << CAP_SYS_RESOURCE));
        assert_eq!(verdict(&RLIMIT_DENIED, &s, &host()), Some(Verdict::Refuse));
        // In a namespace of its own: only its maker needs no capability.
        s.tasks[0].ns.user = Some(9);
        assert_eq!(verdict(&RLIMIT_DENIED, &s, &host()), None, "not known");
        for (owner, expect) in [(0, None), (1000, Some(Verdict::Refuse))] {
            s.tasks[0].userns = Some(Box::new(UserNs { owner_uid: Some(owner), ..UserNs::default() }));
            assert_eq!(verdict(&RLIMIT_DENIED, &s, &host()), expect);
        }
        let mut same = of_user(0);
        same.criu.cap_eff = Some(0);
        assert_eq!(verdict(&RLIMIT_DENIED, &same, &host()), None);
        same.tasks[0].state = 'Z';
        same.tasks[0].uid = [5; 4];
        assert_eq!(verdict(&RLIMIT_DENIED, &same, &host()), None);
    }

    #[test]
    fn who_criu_is() {
        let mut s = snap(vec![]);
        assert_eq!(verdict(&UNPRIVILEGED_NEEDS_OPTION, &s, &host()), None);
        assert_eq!(verdict(&UNPRIVILEGED_NO_CAP, &s, &host()), None);
        s.criu.uid = [0, 7, 0, 0];
        s.criu.cap_eff = Some(1 << CAP_CHECKPOINT_RESTORE);
        assert_eq!(verdict(&UNPRIVILEGED_NEEDS_OPTION, &s, &host()), Some(Verdict::Refuse));
        assert_eq!(verdict(&UNPRIVILEGED_NEEDS_OPTION, &s, &with(Opt::Unprivileged)), None);
        assert_eq!(verdict(&UNPRIVILEGED_NEEDS_OPTION, &s, &unknown(Opt::Unprivileged)), Some(Verdict::Warn));
        assert_eq!(verdict(&UNPRIVILEGED_NEEDS_OPTION, &s, &at_release(Release::V3_17)), None);
        assert_eq!(verdict(&UNPRIVILEGED_NO_CAP, &s, &host()), None);
        s.criu.cap_eff = Some(!(1 << CAP_CHECKPOINT_RESTORE | 1 << CAP_SYS_ADMIN));
        assert_eq!(verdict(&UNPRIVILEGED_NO_CAP, &s, &host()), Some(Verdict::Refuse));
        let unknown = Observer { cap_eff: None, ..s.criu.clone() };
        assert_eq!(verdict(&UNPRIVILEGED_NO_CAP, &Snapshot { criu: unknown, ..s.clone() }, &host()), None);
        assert_eq!(verdict(&UNPRIVILEGED_NO_CAP, &s, &at_release(Release::V3_17)), None);
    }

    #[test]
    fn groups_by_count_and_by_line() {
        let with_groups = |count, bytes| {
            let mut s = snap(vec![]);
            s.tasks[0].groups = (count, bytes);
            s
        };
        for (rule, count, bytes, release, refused) in [
            (&STATUS_PARSE, 300, 4087, Release::V4_2, false),
            (&STATUS_PARSE, 300, 4088, Release::V4_2, true),
            (&STATUS_PARSE, 300, 4088, Release::V4_3, false),
            (&GROUPS_TOO_MANY, 300, 4088, Release::V4_2, false),
            (&GROUPS_TOO_MANY, 971, 3000, Release::V4_3, false),
            (&GROUPS_TOO_MANY, 972, 3000, Release::V4_3, true),
            (&GROUPS_TOO_MANY, 973, 3000, Release::V4_2, false),
            (&GROUPS_TOO_MANY, 974, 3000, Release::V4_2, true),
            (&GROUPS_TOO_MANY, 976, 3000, Release::V3_17, false),
            (&GROUPS_TOO_MANY, 977, 3000, Release::V3_17, true),
        ] {
            let s = with_groups(count, bytes);
            let found = verdict(rule, &s, &at_release(release));
            assert_eq!(found.is_some(), refused, "{} {count} {bytes} {release:?}", rule.id);
        }
    }
}
