//! Namespaces other than those for mounts and networks.

use crate::criu::{externals, Cap};
use crate::parse::idmap::IdRange;
use crate::rules::tasks::tracer::INIT_USER_NS;
use crate::rules::{Evidence, Finding, Phase, Remedy, Rule, Value, Versions, When};
use crate::snapshot::Namespaces;

type Pick = fn(&Namespaces) -> Option<u64>;

/// The kinds of which CRIU restores one for the whole tree. mnt and net may differ between processes.
const KINDS: [(&str, Pick); 6] = [
    ("pid", |n| n.pid),
    ("ipc", |n| n.ipc),
    ("uts", |n| n.uts),
    ("user", |n| n.user),
    ("cgroup", |n| n.cgroup),
    ("time", |n| n.time),
];

pub(crate) static NS_NESTED: Rule = Rule {
    id: "ns-nested",
    summary: "A process with namespaces of its own inside of the tree: a sandbox, a browser, a nested container.",
    group: "Namespaces",
    condition: "A process of the tree lives in a pid, ipc, uts, user, cgroup or time namespace that is neither the root task's nor \
           CRIU's own. CRIU restores one of each for the whole tree. Only first threads are looked at.",
    message: "{kind} namespace {ino} of its own, other than the root task's",
    criu: &["Can't dump nested %s namespace for %d"],
    source: "criu/namespaces.c:generate_ns_id",
    versions: Versions::All,
    remedies: &[Remedy::Workload(
        "run the program without that namespace (sandboxes have a switch for it), or dump the process in it by itself",
    )],
    phase: Phase::Collecting,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let Some(root) = ctx.snap.root_task() else { return };
        for task in ctx.live_tasks().filter(|t| t.pid != root.pid) {
            for (kind, pick) in KINDS {
                let (Some(ino), Some(of_root), Some(of_criu)) =
                    (pick(&task.ns), pick(&root.ns), pick(&ctx.snap.criu.ns))
                else {
                    continue;
                };
                if ino != of_root && ino != of_criu {
                    let f = Finding::on_task(rule, task).key(format!("{kind}:{ino}")).term("kind", kind);
                    sink.push(f.fact("ino", inode(ino)));
                }
            }
        }
    },
};

fn inode(ino: u64) -> Value {
    Value::Num(i64::try_from(ino).unwrap_or(i64::MAX))
}

pub(crate) static NS_TIME_CHILDREN: Rule = Rule {
    id: "ns-time-children",
    summary: "A process that has made a time namespace for its children.",
    group: "Namespaces",
    condition: "A process has made a time namespace for its children (unshare with CLONE_NEWTIME) and does not live in it itself.",
    message: "has made time namespace {ino} for its children",
    criu: &["Can't dump nested time_for_children namespace for %d", "Can't dump nested time namespace for %d"],
    source: "criu/namespaces.c:dump_task_ns_ids",
    versions: Versions::All,
    remedies: &[Remedy::Workload("dump the tree from the first process inside of the namespace")],
    phase: Phase::Collecting,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for task in ctx.live_tasks() {
            let (Some(own), Some(children)) = (task.ns.time, task.ns.time_for_children) else { continue };
            if own != children {
                sink.push(Finding::on_task(rule, task).fact("ino", inode(children)));
            }
        }
    },
};

pub(crate) static PIDNS_WITHOUT_INIT: Rule = Rule {
    id: "pidns-without-init",
    summary: "A process inside of a container that is not the container's first one.",
    group: "Namespaces",
    condition: "The root task lives in another pid namespace than CRIU and is not its process 1 (a process inside of a container is \
           dumped from the host).",
    message: "process {own} of pid namespace {ino}, which cannot be restored without its process 1",
    criu: &["Can't dump a pid namespace without the process init"],
    source: "criu/namespaces.c:dump_namespaces",
    versions: Versions::All,
    remedies: &[
        Remedy::Workload("dump the whole container, or run criu inside of it"),
        Remedy::Modelled("external", "pid[{ino}]:pidns"),
    ],
    phase: Phase::AfterTasks,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let Some(root) = ctx.snap.root_task().filter(|t| !t.is_zombie()) else { return };
        let (Some(ino), Some(false)) = (root.ns.pid, ctx.snap.root_shares(|n| n.pid)) else { return };
        match root.ns_pid.last() {
            Some(own) if *own != 1 => {
                let f = Finding::on_task(rule, root).num("own", *own).fact("ino", inode(ino));
                sink.push_unless(ctx.host.gate_named_external(externals::pid(ino).as_bytes()), f);
            }
            _ => {}
        }
    },
};

/// Whether id 0 of the namespace has a number outside (`host_uid`, `host_gid`, criu/namespaces.c).
fn maps_root(map: &[IdRange]) -> bool {
    map.iter().any(|r| r.inside == 0 && r.count > 0 && r.outside != u32::MAX)
}

pub(crate) static NS_USER_OWNER: Rule = Rule {
    id: "ns-user-owner",
    summary: "A user namespace without root, or one that does not own the other namespaces of the tree.",
    group: "Namespaces",
    condition: "The root task has a user namespace of its own, and in it no user is root (id 0 is not mapped), or one of its net, \
           uts, time, ipc and mnt namespaces that are dumped too was not made in that user namespace.",
    message: "user namespace {ino}: {why?no-root=no user or no group id 0 in it|owner=it does not own the task's {kind} namespace {other}}",
    criu: &["Unable to convert uid or gid", "One or more namespaces doesn't belong to the target user namespace"],
    source: "criu/namespaces.c:check_user_ns",
    versions: Versions::All,
    remedies: &[Remedy::Workload(
        "map id 0 in the user namespace, and make the other namespaces in it (unshare them together with it or after it)",
    )],
    phase: Phase::Collecting,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let Some(root) = ctx.snap.root_task() else { return };
        let (Some(user), Some(false)) = (root.ns.user, ctx.snap.root_shares(|n| n.user)) else { return };
        let Some(facts) = &root.userns else { return };
        if !maps_root(&facts.uid_map) || !maps_root(&facts.gid_map) {
            let f = Finding::on_task(rule, root).key("map".into()).fact("ino", inode(user));
            sink.push(f.term("why", "no-root"));
            return;
        }
        let joined: [(&str, Pick); 5] =
            [("net", |n| n.net), ("uts", |n| n.uts), ("time", |n| n.time), ("ipc", |n| n.ipc), ("mnt", |n| n.mnt)];
        for (kind, pick) in joined {
            let (Some(ino), Some(owner)) = (pick(&root.ns), pick(&facts.owners)) else { continue };
            if ctx.snap.root_shares(pick) != Some(false) || owner == user {
                continue;
            }
            // It may still belong to a namespace below.
            let above = Some(owner) == ctx.snap.criu.ns.user || owner == INIT_USER_NS;
            let f = Finding::on_task(rule, root)
                .key(format!("{kind}:{ino}"))
                .fact("ino", inode(user))
                .term("why", "owner")
                .term("kind", kind)
                .fact("other", inode(ino));
            sink.push(if above { f } else { f.doubt() });
        }
    },
};

pub(crate) static USERNS_BINFMT: Rule = Rule {
    id: "userns-binfmt",
    summary: "A user namespace without a mount namespace, on CRIU 4.3.",
    group: "Namespaces",
    condition:
        "The root task has a user namespace of its own, but shares CRIU's mount namespace: 4.3 looks for that user \
           namespace's binfmt_misc and cannot mount it.",
    message: "user namespace {ino} without a mount namespace of its own",
    criu: &["Failed to dump binfmt_misc contents"],
    source: "criu 4.3 (seen by running it; its source was not at hand)",
    versions: Versions::With(Cap::PluginOptions),
    remedies: &[Remedy::Workload("start the program with a mount namespace too (unshare --user --mount)")],
    phase: Phase::Collecting,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let Some(root) = ctx.snap.root_task() else { return };
        let own_user = ctx.snap.root_shares(|n| n.user) == Some(false);
        if own_user && ctx.snap.root_shares(|n| n.mnt) == Some(true) {
            sink.push(Finding::on_task(rule, root).fact_opt("ino", root.ns.user.map(inode)));
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::criu::{Host, Release};
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::{Snapshot, UserNs};

    type Change = fn(&mut Namespaces);

    fn family() -> Snapshot {
        let mut s = snap(vec![]);
        for pid in [101, 102] {
            let mut child = task(pid);
            child.ppid = 100;
            s.tasks.push(child);
        }
        s
    }

    #[test]
    fn one_of_each_for_the_whole_tree() {
        let set: [(&str, Change); 8] = [
            ("pid", |n| n.pid = Some(9)),
            ("ipc", |n| n.ipc = Some(9)),
            ("uts", |n| n.uts = Some(9)),
            ("user", |n| n.user = Some(9)),
            ("cgroup", |n| n.cgroup = Some(9)),
            ("time", |n| n.time = Some(9)),
            ("", |n| n.mnt = Some(9)),
            ("", |n| n.net = Some(9)),
        ];
        for (kind, change) in set {
            // Two processes in the same one are one finding.
            let mut s = family();
            change(&mut s.tasks[1].ns);
            change(&mut s.tasks[2].ns);
            let f = found(&NS_NESTED, &s, &host());
            assert_eq!(f.len(), usize::from(!kind.is_empty()), "{kind}");
            if let Some(f) = f.first() {
                assert_eq!((f.verdict, f.also.len()), (Verdict::Refuse, 1));
                assert_eq!(f.get("kind"), Some(&Value::Term(kind.into())));
            }
            // The root's own, shared by its children, and a child left behind in CRIU's.
            let mut s = family();
            change(&mut s.tasks[0].ns);
            change(&mut s.tasks[1].ns);
            assert_eq!(verdict(&NS_NESTED, &s, &host()), None, "{kind}");
            // A zombie is in none that counts.
            let mut s = family();
            change(&mut s.tasks[1].ns);
            s.tasks[1].state = 'Z';
            assert_eq!(verdict(&NS_NESTED, &s, &host()), None, "{kind}");
        }
        let mut s = family();
        s.tasks[1].ns.ipc = Some(9);
        s.tasks[0].ns.ipc = None;
        assert_eq!(verdict(&NS_NESTED, &s, &host()), None, "unknown is no finding");
    }

    #[test]
    fn time_for_children() {
        let mut s = family();
        assert_eq!(verdict(&NS_TIME_CHILDREN, &s, &host()), None);
        s.tasks[1].ns.time_for_children = Some(9);
        assert_eq!(verdict(&NS_TIME_CHILDREN, &s, &host()), Some(Verdict::Refuse));
        s.tasks[1].ns.time = Some(9);
        assert_eq!(verdict(&NS_TIME_CHILDREN, &s, &host()), None);
        s.tasks[1].ns.time = None;
        assert_eq!(verdict(&NS_TIME_CHILDREN, &s, &host()), None);
    }

    #[test]
    fn a_pid_namespace_without_its_init() {
        let mut s = snap(vec![]);
        s.tasks[0].ns_pid = vec![100, 7];
        assert_eq!(verdict(&PIDNS_WITHOUT_INIT, &s, &host()), None);
        s.tasks[0].ns.pid = Some(9);
        assert_eq!(verdict(&PIDNS_WITHOUT_INIT, &s, &host()), Some(Verdict::Refuse));
        assert_eq!(verdict(&PIDNS_WITHOUT_INIT, &s, &with_external("pid[9]:x")), None);
        for other in ["pid[9]", "pid[10]:x", "net[9]:x"] {
            assert!(verdict(&PIDNS_WITHOUT_INIT, &s, &with_external(other)).is_some(), "{other}");
        }
        let unknown = Host { externals: None, ..host() };
        assert_eq!(verdict(&PIDNS_WITHOUT_INIT, &s, &unknown), Some(Verdict::Warn));
        s.tasks[0].ns_pid = vec![100, 1];
        assert_eq!(verdict(&PIDNS_WITHOUT_INIT, &s, &host()), None);
    }

    fn in_userns() -> Snapshot {
        let mut s = snap(vec![]);
        let map = vec![IdRange { inside: 0, outside: 1000, count: 1 }];
        s.tasks[0].ns.user = Some(9);
        s.tasks[0].ns.uts = Some(8);
        let owners = Namespaces { uts: Some(9), net: Some(CRIU_NS), ..Namespaces::default() };
        s.tasks[0].userns = Some(Box::new(UserNs { uid_map: map.clone(), gid_map: map, owner_uid: Some(0), owners }));
        s
    }

    #[test]
    fn who_owns_the_namespaces() {
        let s = in_userns();
        assert_eq!(verdict(&NS_USER_OWNER, &s, &host()), None, "net is CRIU's and not dumped");
        let change = |f: fn(&mut UserNs)| {
            let mut s = in_userns();
            f(s.tasks[0].userns.as_mut().unwrap());
            verdict(&NS_USER_OWNER, &s, &host())
        };
        assert_eq!(change(|u| u.owners.uts = Some(CRIU_NS)), Some(Verdict::Refuse));
        assert_eq!(change(|u| u.owners.uts = Some(77)), Some(Verdict::Warn));
        assert_eq!(change(|u| u.owners.uts = None), None);
        assert_eq!(change(|u| u.gid_map.clear()), Some(Verdict::Refuse));
        assert_eq!(change(|u| u.uid_map[0].inside = 1), Some(Verdict::Refuse));
        assert_eq!(change(|u| u.uid_map[0].outside = u32::MAX), Some(Verdict::Refuse));
        let mut s = in_userns();
        s.tasks[0].userns = None;
        assert_eq!(verdict(&NS_USER_OWNER, &s, &host()), None);
    }

    #[test]
    fn binfmt_of_a_user_namespace() {
        let new = at_release(Release::V4_3);
        let mut s = in_userns();
        assert_eq!(verdict(&USERNS_BINFMT, &s, &host()), None);
        assert_eq!(verdict(&USERNS_BINFMT, &s, &new), Some(Verdict::Refuse));
        s.tasks[0].ns.mnt = Some(7);
        assert_eq!(verdict(&USERNS_BINFMT, &s, &new), None);
        assert_eq!(verdict(&USERNS_BINFMT, &snap(vec![]), &new), None);
    }
}
