//! Things of the kernel that two processes share and CRIU would have to restore as shared.

use crate::rules::{number, Ctx, Evidence, Finding, Other, Phase, Remedy, Rule, Sink, Versions, When};
use crate::snapshot::{Shares, Task};

const GROUP: &str = "Shared between processes";
const NO_CURE: &[Remedy] = &[Remedy::Workload("end one of the processes before the dump")];

/// USER_HZ of all architectures that CRIU knows.
const TICKS: u64 = 100;

/// Every process that shares with an earlier one, but for what [`VFORK_IN_FLIGHT`] tells.
fn sharing(rule: &Rule, ctx: &Ctx, sink: &mut Sink, pick: fn(&Shares) -> Option<i32>) {
    for task in ctx.live_tasks() {
        let Some(with) = pick(&task.shares) else { continue };
        if vfork_parent(ctx, task).is_none() {
            sink.push(finding(rule, task, with));
        }
    }
}

fn finding(rule: &Rule, task: &Task, with: i32) -> Finding {
    Finding::on_task(rule, task).num("with", with).other(Other::Process(with))
}

/// The parent that waits, beyond any signal but SIGKILL (`wait_for_vfork_done`, kernel/fork.c), for this child to run a
/// program or end. A parent that sleeps so for another reason is taken for one, which costs no more than a refusal.
fn vfork_parent<'a>(ctx: &Ctx<'a>, task: &Task) -> Option<&'a Task> {
    let mm = task.shares.mm?;
    let parent = ctx.index.task(task.ppid)?;
    let shared = parent.pid == mm || parent.shares.mm == Some(mm);
    (shared && parent.threads.iter().any(|t| t.state == 'D')).then_some(parent)
}

pub(crate) static SHARED_MM: Rule = Rule {
    id: "shared-mm",
    summary: "Two processes that share their memory (clone with CLONE_VM).",
    group: GROUP,
    condition: "Two processes share one address space (clone with CLONE_VM and without CLONE_THREAD). Threads do, and that is fine.",
    message: "shares its address space with process {with}",
    criu: &["Can't make VM id for %d"],
    source: "criu/cr-dump.c:dump_task_kobj_ids",
    versions: Versions::All,
    remedies: NO_CURE,
    phase: Phase::Collecting,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| sharing(rule, ctx, sink, |s| s.mm),
};

pub(crate) static SHARED_FS: Rule = Rule {
    id: "shared-fs",
    summary: "Two processes that share their working directory (clone with CLONE_FS).",
    group: GROUP,
    condition: "Two processes share root, working directory and umask (clone with CLONE_FS and without CLONE_THREAD).",
    message: "shares its root, working directory and umask with process {with}",
    criu: &["Can't make FS id for %d"],
    source: "criu/cr-dump.c:dump_task_kobj_ids",
    versions: Versions::All,
    remedies: NO_CURE,
    phase: Phase::Collecting,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| sharing(rule, ctx, sink, |s| s.fs),
};

pub(crate) static SHARED_SIGHAND: Rule = Rule {
    id: "shared-sighand",
    summary: "Two processes that share their signal handlers (clone with CLONE_SIGHAND).",
    group: GROUP,
    condition: "Two processes share their signal handlers (clone with CLONE_SIGHAND and without CLONE_THREAD).",
    message: "shares its signal handlers with process {with}",
    criu: &["Can't make IO id for %d", "{before it, for they share their memory as well} Can't make VM id for %d"],
    source: "criu/cr-dump.c:dump_task_kobj_ids",
    versions: Versions::All,
    remedies: NO_CURE,
    phase: Phase::Collecting,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| sharing(rule, ctx, sink, |s| s.sighand),
};

pub(crate) static SHARED_FILES_NOT_PARENT: Rule = Rule {
    id: "shared-files-not-parent",
    summary: "Two processes that share their descriptors and are not parent and child.",
    group: GROUP,
    condition: "Two processes share one descriptor table, and the later one is not the child of one that has it too. (Between a \
           parent and its child that is restored.)",
    message: "shares its descriptor table with process {with}, but not with its parent {parent}",
    criu: &["Can't make FILES id for %d"],
    source: "criu/cr-dump.c:dump_task_kobj_ids",
    versions: Versions::All,
    remedies: NO_CURE,
    phase: Phase::Collecting,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for task in ctx.live_tasks() {
            if let Some(with) = task.shares.files.filter(|_| vfork_parent(ctx, task).is_none()) {
                sink.push(finding(rule, task, with).num("parent", task.ppid));
            }
        }
    },
};

pub(crate) static VFORK_IN_FLIGHT: Rule = Rule {
    id: "vfork-in-flight",
    summary: "A process that waits in vfork for its child and cannot be interrupted.",
    group: GROUP,
    condition: "A process waits in vfork (or posix_spawn) for its child to run a program: it cannot be interrupted, and CRIU gives \
           up when its timeout ends, with the tree frozen all that time. It mostly lasts for milliseconds only, and nothing tells \
           when it will end: a warning, given before CRIU tries if it has lasted for a second, else when CRIU has failed.",
    message: "waits in vfork for its child {child}[, for {seconds} s now], and cannot be interrupted until that runs a program",
    criu: &["Timeout reached. Try to interrupt: %d"],
    source: "criu/seize.c:collect_pstree, compel/src/lib/infect.c:compel_wait_task",
    versions: Versions::All,
    remedies: &[Remedy::Workload("dump again; if it lasts, end process {child}")],
    phase: Phase::Freezing,
    when: When::Volatile,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for task in ctx.live_tasks() {
            if let Some(parent) = vfork_parent(ctx, task) {
                let f = Finding::on_task(rule, parent).num("child", task.pid).other(Other::Process(task.pid));
                let lasted = ctx.snap.uptime.saturating_sub(task.start_time) / TICKS;
                let lasts = lasted > 0 && ctx.snap.uptime > 0;
                let f = Finding { lasts, ..f.fact_opt("seconds", lasts.then(|| number(lasted))) };
                sink.push(f);
            }
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit::*;
    use crate::rules::{Value, Verdict};
    use crate::snapshot::{ScanPhase, Snapshot};

    type Change = fn(&mut Shares);

    const ALL: [&Rule; 5] = [&SHARED_MM, &SHARED_FS, &SHARED_SIGHAND, &SHARED_FILES_NOT_PARENT, &VFORK_IN_FLIGHT];

    /// 100 and its children 101 and 102.
    fn family() -> Snapshot {
        let mut s = Snapshot { look: ScanPhase::Early, ..snap(vec![]) };
        for pid in [101, 102] {
            let mut child = task(pid);
            child.ppid = 100;
            s.tasks.push(child);
        }
        s
    }

    #[test]
    fn each_kind_by_its_rule() {
        let s = family();
        assert!(ALL.iter().all(|rule| verdict(rule, &s, &host()).is_none()));
        let set: [(Change, &Rule); 4] = [
            (|s| s.mm = Some(100), &SHARED_MM),
            (|s| s.fs = Some(100), &SHARED_FS),
            (|s| s.sighand = Some(100), &SHARED_SIGHAND),
            (|s| s.files = Some(101), &SHARED_FILES_NOT_PARENT),
        ];
        for (change, rule) in set {
            let mut s = family();
            change(&mut s.tasks[2].shares);
            for other in ALL {
                let expect = (other.id == rule.id).then_some(Verdict::Refuse);
                assert_eq!(verdict(other, &s, &host()), expect, "{} {}", rule.id, other.id);
            }
        }
    }

    #[test]
    fn a_descriptor_table_of_parent_and_child() {
        let mut s = family();
        s.tasks[1].files_of = Some(100);
        assert_eq!(verdict(&SHARED_FILES_NOT_PARENT, &s, &host()), None);
    }

    #[test]
    fn vfork_is_not_a_shared_address_space() {
        let mut s = family();
        s.tasks[1].shares.mm = Some(100);
        s.tasks[0].threads[0].state = 'D';
        assert_eq!(verdict(&SHARED_MM, &s, &host()), None);
        let f = found(&VFORK_IN_FLIGHT, &s, &host());
        assert_eq!((f[0].pid, f[0].verdict, f[0].other.clone()), (100, Verdict::Warn, Some(Other::Process(101))));
        assert_eq!((f[0].lasts, f[0].get("seconds")), (true, Some(&Value::Num(10))));
        s.uptime = 1099;
        let f = found(&VFORK_IN_FLIGHT, &s, &host());
        assert_eq!((f[0].lasts, f[0].get("seconds")), (false, None));
        // Another process of the tree in a disk wait has nothing to do with it.
        s.tasks[0].threads[0].state = 'S';
        s.tasks[2].threads[0].state = 'D';
        assert_eq!(verdict(&SHARED_MM, &s, &host()), Some(Verdict::Refuse));
        assert_eq!(verdict(&VFORK_IN_FLIGHT, &s, &host()), None);
    }
}
