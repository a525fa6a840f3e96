//! Cgroups that a restore cannot bring back (`restore_task_cgroup`, criu/cgroup.c), and cgroup namespaces that it does not.

use crate::criu::Cap;
use crate::criu_model::cgroup_sets::{sets, CRIU_SET};
use crate::rules::{number, Ctx, Evidence, Finding, Phase, Remedy, Rule, Versions, When};
use crate::snapshot::{Member, Task};
use std::collections::HashMap;

/// Nothing of cgroups is dumped.
fn is_unprivileged(ctx: &Ctx) -> bool {
    ctx.host.options.unprivileged != Some(false) && ctx.host.has(Cap::Unprivileged)
}

/// The set in which this thread is before CRIU moves it: that of the process's first thread, or of its parent.
fn inherited(ctx: &Ctx, first: &HashMap<i32, usize>, member: &Member, task: &Task) -> Option<usize> {
    let of = |pid: i32| first.get(&pid).copied();
    if member.tid != member.pid {
        return of(member.pid);
    }
    if member.pid == ctx.snap.root {
        return Some(CRIU_SET);
    }
    // A dead one has none, and is passed over.
    let mut above = ctx.index.task(task.ppid);
    while let Some(parent) = above.filter(|t| t.is_zombie()) {
        above = ctx.index.task(parent.ppid);
    }
    of(above?.pid)
}

pub(crate) static CG_CRIU_SET: Rule = Rule {
    id: "cg-criu-set",
    summary: "A process in CRIU's own cgroups whose parent is in others.",
    group: "Dumped, but not restored",
    condition: "A process is in the cgroup that CRIU itself is in, in every hierarchy that is dumped, and its parent is not; or (CRIU \
           3.18 and newer) so is a thread, and the first thread of its process is not. CRIU leaves its own set of cgroups out \
           of the images. With --manage-cgroups=ignore at the restore no process is moved: all come back in the cgroups of \
           the process that restores them. If the root process has a cgroup namespace and is in CRIU's cgroups, it is the \
           first process outside of that namespace.",
    message: "in the cgroups that CRIU itself is in, which are not in the images, while {where?parent=its parent, process {parent}, is|thread=the first thread of its process is} in \
           others: the restore cannot move it",
    criu: &["{at the restore} No set %d found", "{at the restore} No set found %d"],
    source: "criu/cgroup.c:restore_task_cgroup",
    versions: Versions::All,
    remedies: &[
        Remedy::Workload("run criu in a cgroup in which no process of the tree is"),
        Remedy::AtRestore("manage-cgroups", "ignore"),
    ],
    phase: Phase::Restore,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        if is_unprivileged(ctx) {
            return;
        }
        let Some(sets) = sets(ctx.snap, ctx.host) else { return };
        let leaders = sets.of.iter().filter(|(m, _)| m.tid == m.pid);
        let first = leaders.map(|(m, set)| (m.pid, *set)).collect();
        for (member, _) in sets.of.iter().filter(|(_, set)| *set == CRIU_SET) {
            let Some(task) = ctx.index.task(member.pid).filter(|t| !t.is_zombie()) else { continue };
            if inherited(ctx, &first, member, task).is_none_or(|set| set == CRIU_SET) {
                continue;
            }
            // One reason for all.
            let f = Finding::on_task(rule, task).key("criu".into());
            sink.push(match member.tid == member.pid {
                true => f.term("where", "parent").num("parent", task.ppid),
                false => f.tid(member.tid).term("where", "thread"),
            });
        }
    },
};

pub(crate) static LOST_CGROUP_NS: Rule = Rule {
    id: "lost-cgroup-ns",
    summary: "A cgroup namespace that comes back as another.",
    group: "Dumped, and lost",
    condition: "The root process has a cgroup namespace that was made in the root cgroup of every hierarchy that is dumped: it is not \
           made anew. Where it is, a process in CRIU's own cgroup namespace comes back in it.",
    message: "in cgroup namespace {ino}, and comes back in {where?root=that of the process that restores it, for its root is that of every hierarchy\
           |child=the root process's}",
    criu: &[],
    source: "criu/cgroup.c:prepare_cgns",
    versions: Versions::All,
    remedies: &[Remedy::Workload("make the cgroup namespace in a cgroup of its own, and start all processes in it")],
    phase: Phase::Never,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        if is_unprivileged(ctx) || ctx.snap.root_shares(|n| n.cgroup) != Some(false) {
            return;
        }
        let (Some(root), Some(sets)) = (ctx.snap.root_task(), sets(ctx.snap, ctx.host)) else { return };
        let found = |task: &Task, at: &'static str| {
            let f = Finding::on_task(rule, task).key(format!("cgroup:{at}")).term("where", at);
            f.fact_opt("ino", task.ns.cgroup.map(number))
        };
        if !sets.with_namespace {
            sink.push(found(root, "root"));
            return;
        }
        for task in ctx.live_tasks().filter(|t| t.ns.cgroup.is_some() && t.ns.cgroup == ctx.snap.criu.ns.cgroup) {
            sink.push(found(task, "child"));
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::criu::Opt;
    use crate::parse::cgroup;
    use crate::rules::testkit::{found, host, snap, task, unknown, verdict, with};
    use crate::rules::{Verdict, WarnReason};
    use crate::snapshot::{Inside, Places, Snapshot};

    /// CRIU in `/c`, the root process and a chain of children of one another in these cgroups.
    fn chain(paths: &[&str]) -> Snapshot {
        let mut s = snap(vec![]);
        let lines = |path: &str| cgroup::parse(format!("0::{path}").as_bytes()).items;
        s.cgroups.criu = Some(lines("/c"));
        for (n, path) in paths.iter().enumerate() {
            let pid = 100 + n as i32;
            if n > 0 {
                s.tasks.push(Task { ppid: pid - 1, ..task(pid) });
            }
            s.cgroups.places.push(Places { lines: lines(path), inside: None });
            s.cgroups.members.push(Member { pid, tid: pid, places: n });
        }
        s
    }

    #[test]
    fn a_process_in_the_cgroup_of_criu() {
        let warn = Some(Verdict::Warn);
        for (paths, expect) in [
            (&["/c"][..], None),
            (&["/c", "/c"], None),
            (&["/c", "/a"], None),
            (&["/a", "/b"], None),
            (&["/a", "/c"], warn),
            (&["/c", "/a", "/c"], warn),
        ] {
            assert_eq!(verdict(&CG_CRIU_SET, &chain(paths), &host()), expect, "{paths:?}");
        }
        let s = chain(&["/a", "/c"]);
        let f = &found(&CG_CRIU_SET, &s, &host())[0];
        assert_eq!((f.pid, f.warns), (101, Some(WarnReason::RestoreOption)));
        // Nothing of cgroups is dumped then.
        for h in [with(Opt::Unprivileged), unknown(Opt::Unprivileged)] {
            assert_eq!(verdict(&CG_CRIU_SET, &s, &h), None);
        }
        let mut dead = chain(&["/a", "/a", "/c"]);
        dead.tasks[1].state = 'Z';
        dead.cgroups.members.remove(1);
        assert_eq!(verdict(&CG_CRIU_SET, &dead, &host()), warn);
        dead.cgroups.criu = None;
        assert_eq!(verdict(&CG_CRIU_SET, &dead, &host()), None);
    }

    #[test]
    fn a_thread_in_the_cgroup_of_criu() {
        let mut s = chain(&["/a", "/c"]);
        s.tasks.pop();
        s.cgroups.members[1] = Member { pid: 100, tid: 107, places: 1 };
        assert_eq!(verdict(&CG_CRIU_SET, &s, &host()), Some(Verdict::Warn));
        assert_eq!(found(&CG_CRIU_SET, &s, &host())[0].tid, Some(107));
        let mut s = chain(&["/c", "/a"]);
        s.tasks.pop();
        s.cgroups.members[1] = Member { pid: 100, tid: 107, places: 1 };
        assert_eq!(verdict(&CG_CRIU_SET, &s, &host()), None);
    }

    #[test]
    fn a_cgroup_namespace_that_is_not_restored() {
        let mut s = chain(&["/c/a", "/c"]);
        assert_eq!(verdict(&LOST_CGROUP_NS, &s, &host()), None);
        s.tasks[0].ns.cgroup = Some(9);
        assert_eq!(verdict(&LOST_CGROUP_NS, &s, &host()), None, "what it sees is not known");
        let inside = |path: &str| {
            let lines = cgroup::parse(format!("0::{path}").as_bytes()).items;
            Some(Inside { lines, size: 0 })
        };
        s.cgroups.places[0].inside = inside("/c/a");
        assert_eq!(found(&LOST_CGROUP_NS, &s, &host())[0].pid, 100);
        s.cgroups.places[0].inside = inside("/");
        assert_eq!(found(&LOST_CGROUP_NS, &s, &host())[0].pid, 101);
        s.tasks[1].ns.cgroup = Some(9);
        assert_eq!(verdict(&LOST_CGROUP_NS, &s, &host()), None);
    }
}
