//! Sessions: who leads them, and from where.

use crate::criu::Opt;
use crate::rules::{Evidence, Finding, Other, Phase, Remedy, Rule, Versions, When};
use crate::snapshot::Task;

/// The session in the task's own pid namespace. `None`: not known (a kernel before 4.1 shows it only in ours).
fn own_sid(task: &Task, root_shares_pidns: Option<bool>) -> Option<i32> {
    task.ns_sid.last().copied().or_else(|| (root_shares_pidns == Some(true)).then_some(task.sid))
}

pub(crate) static ROOT_NOT_SESSION_LEADER: Rule = Rule {
    id: "root-not-session-leader",
    summary: "A program that was started from a shell, in the shell's session.",
    group: "Sessions",
    condition: "The root of the tree does not lead its session (its pid and its session's id differ) and --shell-job is not given. \
           A program started from a shell is in the shell's session, also when it leads a process group of its own.",
    message: "the root is not the leader of its session {sid}",
    criu: &["The root process %d is not a session leader. Consider using --shell-job option"],
    source: "criu/pstree.c:dump_pstree",
    versions: Versions::All,
    remedies: &[
        Remedy::Option(Opt::ShellJob),
        Remedy::Workload("start the program with setsid, as a service, or dump the tree from its session leader"),
    ],
    phase: Phase::AfterTasks,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let Some(root) = ctx.snap.root_task().filter(|t| !t.is_zombie()) else { return };
        let Some(sid) = own_sid(root, ctx.snap.root_shares(|n| n.pid)) else { return };
        // 0 is the rule below.
        if sid != 0 && sid != root.own_pid() {
            let mut f = Finding::on_task(rule, root).num("sid", sid);
            if root.sid > 0 {
                f = f.other(Other::Process(root.sid));
            }
            sink.push(f);
        }
    },
};

pub(crate) static SESSION_OUTSIDE_PIDNS: Rule = Rule {
    id: "session-outside-pidns",
    summary: "A process started into a container from a terminal outside (docker exec, nsenter).",
    group: "Sessions",
    condition: "The leader of a process's session is outside of the process's pid namespace (a program started into a container \
           from a terminal outside, as `docker exec` and `nsenter` do).",
    message: "the leader of its session[, process {leader},] is outside of its pid namespace",
    criu: &["A session leader of %d(%d) is outside of its pid namespace"],
    source: "criu/cr-dump.c:dump_one_task",
    versions: Versions::All,
    remedies: &[Remedy::Workload("start it with setsid inside of the container")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let shared = ctx.snap.root_shares(|n| n.pid);
        for task in ctx.live_tasks().filter(|t| own_sid(t, shared) == Some(0)) {
            sink.push(outside(rule, task));
        }
    },
};

pub(crate) static ZOMBIE_SESSION_OUTSIDE: Rule = Rule {
    id: "zombie-session-outside",
    summary: "A dead process that had been started into a container from outside.",
    group: "Sessions",
    condition: "A process that has exited belongs to a session whose leader is outside of the pid namespace.",
    message: "a zombie, and the leader of its session[, process {leader},] is outside of its pid namespace",
    criu: &["A session leader of zombie process %d(%d) is outside of its pid namespace"],
    source: "criu/cr-dump.c:dump_zombies",
    versions: Versions::All,
    remedies: &[Remedy::Workload(
        "have its parent {parent} wait for it, or start it with setsid inside of the container",
    )],
    phase: Phase::AfterTasks,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let shared = ctx.snap.root_shares(|n| n.pid);
        for task in ctx.snap.tasks.iter().filter(|t| t.is_zombie() && own_sid(t, shared) == Some(0)) {
            sink.push(outside(rule, task).num("parent", task.ppid));
        }
    },
};

fn outside(rule: &Rule, task: &Task) -> Finding {
    let f = Finding::on_task(rule, task);
    match task.sid {
        0 => f,
        leader => f.num("leader", leader).other(Other::Process(leader)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::Snapshot;

    /// The root 100 with this pid, group and session in its own namespace.
    fn root(own_pid: i32, own_sid: i32) -> Snapshot {
        let mut s = snap(vec![]);
        let t = &mut s.tasks[0];
        t.ns_pid = vec![100, own_pid];
        t.sid = 90;
        t.ns_sid = vec![90, own_sid];
        s
    }

    #[test]
    fn the_root_leads_its_session() {
        assert_eq!(verdict(&ROOT_NOT_SESSION_LEADER, &snap(vec![]), &host()), None);
        assert_eq!(verdict(&ROOT_NOT_SESSION_LEADER, &root(1, 1), &host()), None);
        let s = root(5, 4);
        assert_eq!(verdict(&ROOT_NOT_SESSION_LEADER, &s, &host()), Some(Verdict::Refuse));
        assert_eq!(verdict(&ROOT_NOT_SESSION_LEADER, &s, &with(Opt::ShellJob)), None);
        assert_eq!(verdict(&ROOT_NOT_SESSION_LEADER, &s, &unknown(Opt::ShellJob)), Some(Verdict::Warn));
        // Only the root has to.
        let mut s = snap(vec![]);
        let mut child = task(101);
        (child.sid, child.ns_sid) = (100, vec![100]);
        s.tasks.push(child);
        assert_eq!(verdict(&ROOT_NOT_SESSION_LEADER, &s, &host()), None);
    }

    #[test]
    fn leaders_outside() {
        let s = root(1, 0);
        assert_eq!(verdict(&SESSION_OUTSIDE_PIDNS, &s, &with(Opt::ShellJob)), Some(Verdict::Refuse));
        assert_eq!(verdict(&ROOT_NOT_SESSION_LEADER, &s, &host()), None);
        assert_eq!(verdict(&ZOMBIE_SESSION_OUTSIDE, &s, &host()), None);
        let mut z = s;
        z.tasks[0].state = 'Z';
        assert_eq!(verdict(&ZOMBIE_SESSION_OUTSIDE, &z, &host()), Some(Verdict::Refuse));
        assert_eq!(verdict(&SESSION_OUTSIDE_PIDNS, &z, &host()), None);
        assert_eq!(verdict(&SESSION_OUTSIDE_PIDNS, &root(1, 1), &host()), None);
    }

    #[test]
    fn an_old_kernel_shows_only_our_numbers() {
        let mut s = root(1, 0);
        (s.tasks[0].ns_pid, s.tasks[0].ns_sid) = (vec![], vec![]);
        assert_eq!(verdict(&ROOT_NOT_SESSION_LEADER, &s, &host()), Some(Verdict::Refuse));
        s.tasks[0].ns.pid = Some(9);
        assert_eq!(verdict(&ROOT_NOT_SESSION_LEADER, &s, &host()), None);
        s.tasks[0].sid = 0;
        assert_eq!(verdict(&SESSION_OUTSIDE_PIDNS, &s, &host()), None);
    }
}
