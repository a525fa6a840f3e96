//! Where the tree is in the hierarchies of cgroups: what CRIU reads of the root task from outside and from inside has to fit
//! together (`parse_thread_cgroup`, criu/proc_parse.c), and the others may not be above (`dump_thread_cgroup`,
//! criu/cgroup.c).

use crate::bytes::Bytes;
use crate::criu::{Cap, Gate, Host};
use crate::criu_model::cgroup_sets::{pairs, prefix};
use crate::parse::cgroup::Cgroup;
use crate::rules::{Ctx, Evidence, Finding, Other, Phase, Remedy, Rule, Value, Versions, When};
use crate::snapshot::Task;

/// `contents` of struct parasite_dump_cgroup_args (criu/include/parasite.h), which the text does not fill.
fn room(host: &Host) -> usize {
    if !host.has(Cap::ThreadCgroups) {
        4096
    } else {
        4064
    }
}

/// What `--cgroup-dump-controller` says of this hierarchy, and `--unprivileged` of all of them.
fn gate(ctx: &Ctx, line: &Cgroup) -> Gate {
    let options = &ctx.host.options;
    if options.unprivileged == Some(true) && ctx.host.has(Cap::Unprivileged) {
        return Gate::Waived;
    }
    match &options.dump_controllers {
        None => Gate::OPTION_UNKNOWN,
        Some(Some(kept)) if !kept.contains(&line.name()) => Gate::Waived,
        Some(_) => Gate::InForce,
    }
}

/// The root of the root task's cgroup namespace in this hierarchy, as a process of the tree inside of it shows it.
fn home(ctx: &Ctx, line: &Cgroup) -> Option<Bytes> {
    let all = ctx.snap.cgroups.places.iter().flat_map(pairs).filter(|(outside, inside)| {
        outside.controllers == line.controllers && !inside.path.starts_with(b"/..") && !outside.path.starts_with(b"/..")
    });
    let mut roots = all.filter_map(|(outside, inside)| match prefix(&outside.path, &inside.path)? {
        0 => Some(Bytes::from("/")),
        n => outside.path.get(..n).map(Bytes::from),
    });
    roots.next()
}

/// How far below which cgroup the root of a namespace is, in which the cgroup `outside` is `inside`.
fn around(outside: &[u8], inside: &[u8]) -> Option<(usize, Bytes)> {
    let (mut levels, mut rest) = (0usize, inside);
    while let Some(after) = rest.strip_prefix(b"/..").filter(|after| matches!(after.first(), None | Some(b'/'))) {
        (levels, rest) = (levels.saturating_add(1), after);
    }
    let ancestor = outside.strip_suffix(rest).filter(|_| levels > 0 && !outside.starts_with(b"/.."))?;
    Some((levels, if ancestor.is_empty() { "/".into() } else { ancestor.into() }))
}

/// A finding about a thread's place in one hierarchy, and what moves it back.
fn of_thread(rule: &Rule, ctx: &Ctx, task: &Task, tid: i32, line: &Cgroup) -> Finding {
    let thread = tid != task.pid;
    let f = Finding::on_task(rule, task).key(format!("cgroup:{tid}:{}", line.name()));
    let f = if thread { f.tid(tid) } else { f };
    let list = match (thread, line.is_v2()) {
        (false, _) => "cgroup.procs",
        (true, true) => "cgroup.threads",
        (true, false) => "tasks",
    };
    f.text("path", line.path.clone())
        .fact_opt("hierarchy", (!line.is_v2()).then(|| Value::Text(line.name())))
        .fact_opt("home", home(ctx, line).map(Value::Text))
        .num("id", tid)
        .num("root", ctx.snap.root)
        .term("list", list)
}

const MOVE: Remedy =
    Remedy::Workload("move it back before the dump (write {id} to {list} of {home} or of a cgroup below it)");
/// No process of the tree is where the namespace was made.
const MOVE_SOMEWHERE: Remedy = Remedy::Workload(
    "move it back before the dump, to where its cgroup namespace was made, {levels?1=one level|n={count} levels} below {ancestor} (write {id} to {list} there)",
);
const ENTER: Remedy = Remedy::Workload(
    "run criu in the root process's cgroup namespace (nsenter --cgroup --target {root}), with --manage-cgroups=ignore",
);
const LEAVE_OUT: Remedy =
    Remedy::Workload("leave the hierarchy out of the images: name others only to --cgroup-dump-controller");

pub(crate) static CG_SUFFIX: Rule = Rule {
    id: "cg-suffix",
    summary: "A process that was moved out of the cgroup in which its cgroup namespace was made.",
    group: "Cgroups",
    condition: "CRIU sees the cgroup of a thread of the root process by a path that does not end with the one that the process \
           itself sees: the process has a cgroup namespace and was moved to a cgroup above or beside the one in which the \
           namespace was made, or CRIU runs in a cgroup namespace below (in a container that sees the host's processes). \
           CRIU before 3.18 looks at the first thread only. --manage-cgroups=ignore does not help.",
    message: "its cgroup[ of the hierarchy {hierarchy}] is {path} for CRIU and {inside} in its own cgroup namespace[, whose root is \
           {home}]",
    criu: &["invalid cgroup configuration, %s is not a suffix of %s"],
    source: "criu/proc_parse.c:parse_thread_cgroup",
    versions: Versions::All,
    remedies: &[MOVE, MOVE_SOMEWHERE, ENTER, LEAVE_OUT],
    phase: Phase::AfterPages,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        let Some(root) = ctx.snap.root_task() else { return };
        let cgroups = &ctx.snap.cgroups;
        for member in cgroups.members.iter().filter(|m| m.pid == root.pid) {
            for (line, inside) in cgroups.places.get(member.places).into_iter().flat_map(pairs) {
                if prefix(&line.path, &inside.path).is_none() {
                    let f = of_thread(rule, ctx, root, member.tid, line).text("inside", inside.path.clone());
                    let around = around(&line.path, &inside.path).filter(|_| f.get("home").is_none());
                    let f = match around {
                        Some((1, ancestor)) => f.term("levels", "1").text("ancestor", ancestor),
                        Some((n, ancestor)) => f.term("levels", "n").count("count", n).text("ancestor", ancestor),
                        None => f,
                    };
                    sink.push_unless(gate(ctx, line), f);
                }
            }
        }
    },
};

pub(crate) static CG_SHORT: Rule = Rule {
    id: "cg-short",
    summary: "A process in a cgroup outside of the root process's cgroup namespace.",
    group: "Cgroups",
    condition: "The root process has a cgroup namespace, and another process of the tree, or (CRIU 3.18 and newer) a thread of one, is \
           in a cgroup whose path is shorter than that of the namespace's root: it is above it or beside it. What is outside of \
           the namespace with a longer path is dumped. --manage-cgroups=ignore does not help.",
    message: "its cgroup {path}[ of the hierarchy {hierarchy}] is outside of the root process's cgroup namespace, whose root is {home}",
    criu: &["cg %s shorter than path prefix %d?"],
    source: "criu/cgroup.c:dump_thread_cgroup",
    versions: Versions::All,
    remedies: &[MOVE, ENTER, LEAVE_OUT],
    phase: Phase::AfterPages,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        let Some(root) = ctx.snap.root_task() else { return };
        let cgroups = &ctx.snap.cgroups;
        let of_root = cgroups.members.iter().find(|m| m.tid == root.pid).and_then(|m| cgroups.places.get(m.places));
        // The first thread's; where it does not fit CRIU does not come so far.
        let prefixes = of_root.into_iter().flat_map(pairs);
        let prefixes: Vec<_> =
            prefixes.filter_map(|(line, inside)| Some((line, prefix(&line.path, &inside.path)?))).collect();
        for member in cgroups.members.iter().filter(|m| m.pid != root.pid) {
            let Some(task) = ctx.index.task(member.pid) else { continue };
            for line in cgroups.places.get(member.places).into_iter().flat_map(|p| &p.lines) {
                let of_root = prefixes.iter().find(|(root, _)| root.controllers == line.controllers);
                if of_root.is_some_and(|(_, prefix)| line.path.len() < *prefix) {
                    sink.push_unless(gate(ctx, line), of_thread(rule, ctx, task, member.tid, line));
                }
            }
        }
    },
};

pub(crate) static CG_TOO_LONG: Rule = Rule {
    id: "cg-too-long",
    summary: "A process whose cgroup has a path of about 4000 bytes.",
    group: "Cgroups",
    condition: "What the root process reads in /proc/self/cgroup is longer than the 4063 bytes (4095 before CRIU 3.18) that CRIU has room \
           for (all hierarchies together).",
    message: "its /proc/self/cgroup has {size} bytes",
    criu: &["Parasite failed to dump /proc/self/cgroup"],
    source: "criu/pie/parasite.c:parasite_dump_cgroup",
    versions: Versions::All,
    remedies: &[Remedy::Workload(
        "move it into a cgroup with a shorter path, or start it with a cgroup namespace made there (unshare --cgroup)",
    )],
    phase: Phase::AfterPages,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        let Some(root) = ctx.snap.root_task() else { return };
        let cgroups = &ctx.snap.cgroups;
        for member in cgroups.members.iter().filter(|m| m.pid == root.pid) {
            let inside = cgroups.places.get(member.places).and_then(|p| p.inside.as_ref());
            if let Some(inside) = inside.filter(|i| i.size >= room(ctx.host)) {
                let f = Finding::on_task(rule, root).key(format!("cgroup:{}", member.tid));
                let f = if member.tid == root.pid { f } else { f.tid(member.tid) };
                let size = i64::try_from(inside.size).unwrap_or(i64::MAX);
                sink.push(f.fact("size", Value::Num(size)));
            }
        }
    },
};

pub(crate) static FREEZE_OUTSIDE: Rule = Rule {
    id: "freeze-outside",
    summary: "A process that is not in the cgroup given to --freeze-cgroup.",
    group: "Cgroups",
    condition: "With --freeze-cgroup CRIU attaches to what is in that cgroup and below, and to nothing else: a thread of the tree that \
           is not there cannot be stopped. With CRIU's CUDA plugin at work it is a warning, for that makes CRIU do without the \
           freezer.",
    message: "it is not in the cgroup of --freeze-cgroup, {dir}, nor below it",
    criu: &["Unseizable non-zombie %d found, state %c, err -1/10"],
    source: "criu/seize.c:seize_cgroup_tree",
    versions: Versions::All,
    remedies: &[Remedy::Workload(
        "move it there before the dump[ (echo {id} > {dir}/{list})], or freeze a cgroup that has all of the tree, or none",
    )],
    phase: Phase::Freezing,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let Some(Some(dir)) = &ctx.host.options.freeze_cgroup else { return };
        for (pid, tid) in &ctx.snap.cgroups.not_frozen {
            let Some(task) = ctx.index.task(*pid) else { continue };
            let f = Finding::on_task(rule, task).key(format!("freeze:{tid}")).text("dir", dir.clone()).num("id", *tid);
            let f = if tid == pid { f.term("list", "cgroup.procs") } else { f.tid(*tid) };
            sink.push_unless(freezer_gate(ctx), f);
        }
    },
};

/// CRIU's CUDA plugin makes it do without the freezer.
pub(super) fn freezer_gate(ctx: &Ctx) -> Gate {
    let siblings = &ctx.host.siblings;
    let cuda = siblings.cuda() || (siblings.cuda_checkpoint && siblings.pending);
    if cuda {
        Gate::PLUGINS_UNKNOWN
    } else {
        Gate::InForce
    }
}

pub(crate) static FREEZE_TRACED: Rule = Rule {
    id: "freeze-traced",
    summary: "A process with a debugger in the cgroup given to --freeze-cgroup.",
    group: "Cgroups",
    condition: "With --freeze-cgroup CRIU attaches to every thread in that cgroup and below, those that are not of the tree as well: to \
           one that has a tracer already (a debugger, strace) it cannot, and tries until its --timeout is over. With CRIU's CUDA \
           plugin at work it is a warning.",
    message: "in the cgroup of --freeze-cgroup, {dir}, is thread {foreign} besides, traced by process {tracer}",
    criu: &["zombie %d (comm %s) found while seizing"],
    source: "criu/seize.c:seize_cgroup_tree",
    versions: Versions::All,
    remedies: &[Remedy::Workload("detach process {tracer} (or end it), or move {foreign} out of the cgroup, before the dump")],
    phase: Phase::Freezing,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let Some(Some(dir)) = &ctx.host.options.freeze_cgroup else { return };
        let Some(root) = ctx.snap.root_task() else { return };
        for (foreign, tracer) in &ctx.snap.cgroups.frozen_traced {
            let f = Finding::on_task(rule, root).key(format!("freeze:{foreign}:{tracer}")).text("dir", dir.clone());
            let f = f.num("foreign", *foreign).num("tracer", *tracer).other(Other::Process(*foreign));
            sink.push_unless(freezer_gate(ctx), f);
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::criu::{Host, Release, Sibling, Siblings};
    use crate::parse::cgroup;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::{Cgroups, Inside, Member, Places, Snapshot};

    fn places(outside: &str, inside: Option<&str>) -> Places {
        let lines = |text: &str| cgroup::parse(text.as_bytes()).items;
        Places { lines: lines(outside), inside: inside.map(|i| Inside { lines: lines(i), size: i.len() }) }
    }

    /// The root process in the first of these places, each other one in another.
    fn tree(all: Vec<Places>) -> Snapshot {
        let mut s = snap(vec![]);
        s.tasks[0].ns.cgroup = Some(9);
        let pid = |n: usize| 100 + n as i32;
        s.tasks.extend((1..all.len()).map(|n| task(pid(n))));
        let members = (0..all.len()).map(|n| Member { pid: pid(n), tid: pid(n), places: n }).collect();
        s.cgroups = Cgroups { places: all, members, ..Cgroups::default() };
        s
    }

    #[test]
    fn where_the_namespace_was_made() {
        assert_eq!(around(b"/a/x", b"/../x"), Some((1, "/a".into())));
        assert_eq!(around(b"/", b"/../.."), Some((2, "/".into())));
        assert_eq!(around(b"/x", b"/../../x"), Some((2, "/".into())));
        assert_eq!(around(b"/..", b"/a"), None);
        assert_eq!(around(b"/../x", b"/../x"), None);
        assert_eq!(around(b"/..x", b"/..x"), None);
    }

    #[test]
    fn a_root_process_outside_of_its_namespace() {
        let refuse = Some(Verdict::Refuse);
        let s = tree(vec![places("0::/a", Some("0::/.."))]);
        assert_eq!(verdict(&CG_SUFFIX, &s, &host()), refuse);
        let f = &found(&CG_SUFFIX, &s, &host())[0];
        assert_eq!((f.get("home"), f.get("ancestor")), (None, Some(&Value::Text("/a".into()))));
        // Another process is where it was made.
        let s = tree(vec![places("0::/a", Some("0::/..")), places("0::/a/b", Some("0::/"))]);
        let f = &found(&CG_SUFFIX, &s, &host())[0];
        assert_eq!((f.get("home"), f.get("ancestor")), (Some(&Value::Text("/a/b".into())), None));
        for fine in [places("0::/a/b", Some("0::/b")), places("0::/a", None), places("1:cpu:/a", Some("0::/.."))] {
            assert_eq!(verdict(&CG_SUFFIX, &tree(vec![fine]), &host()), None);
        }
        // One hierarchy of two, and a thread of it.
        let mut s = tree(vec![
            places("1:cpu,cpuacct:/a\n0::/", Some("1:cpu,cpuacct:/\n0::/")),
            places("1:cpu,cpuacct:/\n0::/", Some("1:cpu,cpuacct:/..\n0::/")),
        ]);
        s.cgroups.members[1] = Member { pid: 100, tid: 107, places: 1 };
        let all = found(&CG_SUFFIX, &s, &host());
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].tid, all[0].get("list")), (Some(107), Some(&Value::Term("tasks".into()))));
    }

    #[test]
    fn what_criu_does_not_look_at() {
        let s = tree(vec![places("0::/a", Some("0::/.."))]);
        let with = |given: Option<Option<Vec<Bytes>>>| {
            let mut h = host();
            h.options.dump_controllers = given;
            verdict(&CG_SUFFIX, &s, &h)
        };
        assert_eq!(with(Some(Some(vec!["".into()]))), Some(Verdict::Refuse));
        assert_eq!(with(Some(Some(vec!["cpu".into()]))), None);
        assert_eq!(with(None), Some(Verdict::Warn));
        assert_eq!(verdict(&CG_SUFFIX, &s, &crate::rules::testkit::with(crate::criu::Opt::Unprivileged)), None);
    }

    #[test]
    fn others_are_compared_by_length_alone() {
        let root = || places("0::/a/bc", Some("0::/"));
        for (path, expect) in [("0::/", Some(Verdict::Refuse)), ("0::/a/b", Some(Verdict::Refuse)), ("0::/long", None)]
        {
            assert_eq!(verdict(&CG_SHORT, &tree(vec![root(), places(path, None)]), &host()), expect, "{path}");
        }
        assert_eq!(
            verdict(&CG_SHORT, &tree(vec![places("0::/a", Some("0::/..")), places("0::/", None)]), &host()),
            None
        );
        assert_eq!(
            verdict(&CG_SHORT, &tree(vec![places("0::/a", Some("0::/a")), places("0::/", None)]), &host()),
            None
        );
    }

    #[test]
    fn the_room_that_criu_has() {
        let long = |n: usize| format!("0::/{}", "x".repeat(n - 4));
        for (size, expect) in [(4063, None), (4064, Some(Verdict::Refuse))] {
            let text = long(size);
            assert_eq!(verdict(&CG_TOO_LONG, &tree(vec![places(&text, Some(&text))]), &host()), expect, "{size}");
        }
        let old = Host { release: Release::V3_17, ..host() };
        for (size, expect) in [(4095, None), (4096, Some(Verdict::Refuse))] {
            let text = long(size);
            assert_eq!(verdict(&CG_TOO_LONG, &tree(vec![places(&text, Some(&text))]), &old), expect, "{size}");
        }
        // It is what the process itself reads.
        assert_eq!(verdict(&CG_TOO_LONG, &tree(vec![places(&long(4064), Some("0::/"))]), &host()), None);
    }

    #[test]
    fn outside_of_the_freezer() {
        let mut s = tree(vec![places("0::/", Some("0::/"))]);
        s.cgroups.not_frozen = vec![(100, 100)];
        assert_eq!(verdict(&FREEZE_OUTSIDE, &s, &host()), None);
        let mut h = host();
        h.options.freeze_cgroup = Some(Some("/cg/a".into()));
        assert_eq!(verdict(&FREEZE_OUTSIDE, &s, &h), Some(Verdict::Refuse));
        assert_eq!(verdict(&FREEZE_TRACED, &s, &h), None);
        s.cgroups.frozen_traced = vec![(300, 301)];
        assert_eq!(verdict(&FREEZE_TRACED, &s, &host()), None);
        assert_eq!(verdict(&FREEZE_TRACED, &s, &h), Some(Verdict::Refuse));
        let plugin = Sibling { name: "cuda_plugin".into(), hooks: vec![11] };
        let siblings = Siblings { loaded: vec![plugin], cuda_checkpoint: true, ..Siblings::default() };
        let h = Host { siblings, ..h };
        assert_eq!(verdict(&FREEZE_OUTSIDE, &s, &h), Some(Verdict::Warn));
        assert_eq!(verdict(&FREEZE_TRACED, &s, &h), Some(Verdict::Warn));
    }
}
