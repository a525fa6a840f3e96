//! Who else traces the tree, and whether CRIU may: what stops the seizing itself.

use crate::criu::{Gate, Stage};
use crate::parse::capability::{self, CAP_SYS_ADMIN, CAP_SYS_PTRACE};
use crate::rules::{Ctx, Evidence, Finding, Other, Phase, Remedy, Rule, Sink, Value, Versions, When};
use crate::snapshot::{Probe, Task};

/// PROC_USER_INIT_INO (include/linux/proc_ns.h): the initial user namespace.
pub(crate) const INIT_USER_NS: u64 = 0xEFFF_FFFD;

/// Whether the observer has a capability in its own user namespace; `None`: not known.
pub(crate) fn has_cap(ctx: &Ctx, cap: u32) -> Option<bool> {
    Some(capability::has(ctx.snap.criu.cap_eff?, cap))
}

/// Whether real, effective and saved ids of the task are all the observer's real one, as the kernel compares them before
/// it asks for a capability (`__ptrace_may_access`, kernel/ptrace.c; `check_prlimit_permission`, kernel/sys.c).
pub(crate) fn same_ids(ctx: &Ctx, task: &Task) -> bool {
    let criu = &ctx.snap.criu;
    let equal = |ids: &[u32; 4], own: &[u32; 4]| {
        let [real, ..] = own;
        ids.iter().take(3).all(|id| id == real)
    };
    equal(&task.uid, &criu.uid) && equal(&task.gid, &criu.gid)
}

pub(crate) static TASK_TRACED: Rule = Rule {
    id: "task-traced",
    summary: "A process that a debugger or strace is attached to.",
    group: "Tracers and access",
    condition: "A thread has a tracer already (a debugger, strace, another CRIU): a thread can have only one. The tracer may hold \
           any single thread, not only the first.",
    message: "traced by process {tracer}",
    criu: &["Unseizable non-zombie %d found, state %c, err %d/%d", "{for the root task, as a warning} Unable to interrupt task: %d (%s)"],
    source: "criu/seize.c:collect_pstree, compel/src/lib/infect.c:compel_wait_task",
    versions: Versions::All,
    remedies: &[Remedy::Workload("detach process {tracer} (or end it)")],
    phase: Phase::Freezing,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for task in ctx.live_tasks() {
            for thread in task.threads.iter().filter(|t| t.tracer > 0 && t.tracer != ctx.snap.criu.pid) {
                let mut f = Finding::on_task(rule, task)
                    .key(format!("traced:{}:{}", task.pid, thread.tracer))
                    .num("tracer", thread.tracer)
                    .other(Other::Process(thread.tracer));
                if thread.tid != task.pid {
                    f = f.tid(thread.tid);
                }
                sink.push(f);
            }
        }
    },
};

pub(crate) static SELF_IN_TREE: Rule = Rule {
    id: "self-in-tree",
    summary: "CRIU itself, which is below the process it is to dump.",
    group: "Tracers and access",
    condition: "CRIU itself is a process of the tree it is to dump. (A program that asks a CRIU service to dump it is no such case: \
           the service works outside of it.)",
    message: "this is the CRIU that makes the dump",
    criu: &["The criu itself is within dumped tree."],
    source: "compel/src/lib/infect.c:compel_wait_task",
    versions: Versions::All,
    remedies: &[Remedy::Workload("start criu from outside of the tree")],
    phase: Phase::Freezing,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        // The dry run looks from another process than CRIU will.
        if ctx.host.stage == Stage::DryRun {
            return;
        }
        if let Some(task) = ctx.index.task(ctx.snap.criu.pid) {
            sink.push(Finding::on_task(rule, task));
        }
    },
};

pub(crate) static PTRACE_DENIED: Rule = Rule {
    id: "ptrace-denied",
    summary: "A process that CRIU may not trace.",
    group: "Tracers and access",
    condition: "The kernel does not let CRIU trace a process: CRIU has no CAP_SYS_PTRACE in the task's user namespace, and the \
           task's real, effective and saved ids are not all its own, or it is not dumpable or has more capabilities; or a \
           security module (Yama, AppArmor, SELinux) forbids it. On kernels before 5.6, where that cannot be asked, a task \
           of the same ids that /proc does not show either is only a warning.",
    message: "CRIU may not trace this process[ of user {uid}, group {gid}, without CAP_SYS_PTRACE][: {why?security-module=a security module forbids it (Yama, AppArmor, SELinux)\
           |dumpable=it is not dumpable or has more capabilities, or a security module forbids it}]",
    criu: &["Unseizable non-zombie %d found, state %c, err -1/1", "{for the root task, as a warning} Unable to interrupt task: %d (%s)"],
    source: "compel/src/lib/infect.c:compel_interrupt_task",
    versions: Versions::All,
    remedies: &[Remedy::Workload("run criu as root, or with CAP_SYS_PTRACE")],
    phase: Phase::Freezing,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink: &mut Sink| {
        // Seized already.
        if ctx.frozen() {
            return;
        }
        // Where the capabilities are not known, nothing is known of the ids.
        let able = has_cap(ctx, CAP_SYS_PTRACE) != Some(false);
        for task in ctx.live_tasks() {
            // What the `ns` directory shows is subject to the same check, in its milder form (PTRACE_MODE_READ). In another
            // user namespace CRIU may be the maker, who has every capability there, whatever CapEff says.
            let denied = || denied(ctx, task, Probe::Namespaces);
            let same_ns = || task.ns.user.is_some() && task.ns.user == ctx.snap.criu.ns.user;
            let gate = match task.attach {
                Some(true) => continue,
                Some(false) => Gate::InForce,
                None if able => continue,
                None if same_ids(ctx, task) && denied() => Gate::FACT_UNKNOWN,
                None if !same_ids(ctx, task) && (same_ns() || denied()) => Gate::InForce,
                None => continue,
            };
            let f = Finding::on_task(rule, task);
            let f = if able {
                f.term("why", "security-module")
            } else if same_ids(ctx, task) {
                f.term("why", "dumpable")
            } else {
                let ([uid, ..], [gid, ..]) = (task.uid, task.gid);
                f.fact("uid", Value::Num(uid.into())).fact("gid", Value::Num(gid.into()))
            };
            sink.push_unless(gate, f);
        }
    },
};

/// Whether the kernel denied this of the process itself.
fn denied(ctx: &Ctx, task: &Task, probe: Probe) -> bool {
    let refused = |errno| matches!(errno, libc::EACCES | libc::EPERM);
    ctx.index.unchecked(task.pid).any(|u| u.fd.is_none() && u.probe == probe && refused(u.errno))
}

pub(crate) static PROC_DENIED: Rule = Rule {
    id: "proc-denied",
    summary: "A process whose files in /proc CRIU may not read.",
    group: "Tracers and access",
    condition: "The directories map_files and fd of a process in /proc belong to somebody else than CRIU (those of a process that \
           is not dumpable to root), and CRIU has neither CAP_DAC_READ_SEARCH nor CAP_DAC_OVERRIDE.",
    message: "CRIU may not list the map_files and fd directories of this process in /proc",
    criu: &["Can't open %d/map_files on procfs: Permission denied"],
    source: "criu/proc_parse.c:parse_smaps, criu/cr-dump.c:collect_fds",
    versions: Versions::All,
    remedies: &[Remedy::Workload("run criu as root, or with CAP_DAC_READ_SEARCH")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink: &mut Sink| {
        for task in ctx.live_tasks().filter(|t| denied(ctx, t, Probe::Descriptors)) {
            sink.push(Finding::on_task(rule, task));
        }
    },
};

pub(crate) static SECCOMP_SUSPEND: Rule = Rule {
    id: "seccomp-suspend",
    summary: "A process under seccomp, which CRIU has no right to suspend.",
    group: "Tracers and access",
    condition: "A thread is under seccomp, and CRIU may not suspend that: it has no CAP_SYS_ADMIN in the initial user namespace \
           (it runs in a container with a user namespace of its own), or is under seccomp itself.",
    message: "under seccomp, which CRIU may not suspend: CRIU {why?seccomp=is under seccomp itself|capability=lacks CAP_SYS_ADMIN\
           |user-namespace=runs in a user namespace, where its CAP_SYS_ADMIN does not count}",
    criu: &["suspending seccomp failed: Operation not permitted"],
    source: "compel/src/lib/ptrace.c:ptrace_suspend_seccomp",
    versions: Versions::All,
    remedies: &[Remedy::Workload("run criu on the host, or in a container without seccomp and user namespace")],
    phase: Phase::Freezing,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let criu = &ctx.snap.criu;
        // check_ptrace_options(), kernel/ptrace.c
        let why = if criu.seccomp.is_some_and(|mode| mode != 0) {
            "seccomp"
        } else if has_cap(ctx, CAP_SYS_ADMIN) == Some(false) {
            "capability"
        } else if criu.ns.user.is_some_and(|ns| ns != INIT_USER_NS) {
            "user-namespace"
        } else {
            return;
        };
        // Seized already: it was suspended.
        if ctx.frozen() {
            return;
        }
        for task in ctx.live_tasks() {
            if let Some(thread) = task.threads.iter().find(|t| t.seccomp != 0) {
                let mut f = Finding::on_task(rule, task).term("why", why);
                if thread.tid != task.pid {
                    f = f.tid(thread.tid);
                }
                sink.push(f);
            }
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::criu::Host;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::{ScanPhase, Snapshot, Thread, Unchecked};

    fn early() -> Snapshot {
        let mut s = Snapshot { look: ScanPhase::Early, ..snap(vec![]) };
        s.criu.ns.user = Some(INIT_USER_NS);
        s.tasks[0].ns.user = Some(INIT_USER_NS);
        s
    }

    #[test]
    fn any_thread_with_a_foreign_tracer() {
        let mut s = early();
        assert_eq!(verdict(&TASK_TRACED, &s, &host()), None);
        s.tasks[0].threads[0].tracer = s.criu.pid;
        assert_eq!(verdict(&TASK_TRACED, &s, &host()), None);
        for tid in 101..110 {
            s.tasks[0].threads.push(Thread { tid, state: 't', tracer: 77, ..Thread::default() });
        }
        let f = found(&TASK_TRACED, &s, &host());
        assert_eq!(f.len(), 1, "one tracer of one process is reported once");
        assert_eq!(
            (f[0].tid, f[0].other.clone(), f[0].verdict),
            (Some(101), Some(Other::Process(77)), Verdict::Refuse)
        );
        s.tasks[0].threads[0].tracer = 78;
        assert_eq!(found(&TASK_TRACED, &s, &host()).len(), 2);
    }

    #[test]
    fn criu_in_its_own_tree() {
        let mut s = early();
        assert_eq!(verdict(&SELF_IN_TREE, &s, &host()), None);
        s.tasks.push(task(50));
        assert_eq!(found(&SELF_IN_TREE, &s, &host())[0].pid, 50);
        let dry = Host { stage: Stage::DryRun, ..host() };
        assert_eq!(verdict(&SELF_IN_TREE, &s, &dry), None);
    }

    #[test]
    fn another_user_without_the_capability() {
        let mut s = early();
        s.tasks[0].uid = [1000; 4];
        assert_eq!(verdict(&PTRACE_DENIED, &s, &host()), None);
        s.criu.cap_eff = Some(!(1 << CAP_SYS_PTRACE));
        assert_eq!(verdict(&PTRACE_DENIED, &s, &host()), Some(Verdict::Refuse));
        s.criu.cap_eff = None;
        assert_eq!(verdict(&PTRACE_DENIED, &s, &host()), None, "not known");
        s.criu.cap_eff = Some(0);
        // The filesystem id is not compared.
        s.tasks[0].uid = [0, 0, 0, 1000];
        assert_eq!(verdict(&PTRACE_DENIED, &s, &host()), None);
        s.tasks[0].gid = [0, 0, 5, 0];
        assert_eq!(verdict(&PTRACE_DENIED, &s, &host()), Some(Verdict::Refuse));
        s.tasks[0].ns.user = Some(9);
        assert_eq!(verdict(&PTRACE_DENIED, &s, &host()), None);
        s.unchecked.push(Unchecked { pid: 100, fd: None, probe: Probe::Descriptors, errno: libc::EACCES });
        assert_eq!(verdict(&PTRACE_DENIED, &s, &host()), None);
        s.tasks[0].ns.user = None;
        s.unchecked.push(Unchecked { pid: 100, fd: None, probe: Probe::Namespaces, errno: libc::EACCES });
        assert_eq!(verdict(&PTRACE_DENIED, &s, &host()), Some(Verdict::Refuse));
        s.tasks[0].gid = [0; 4];
        assert_eq!(verdict(&PTRACE_DENIED, &s, &host()), Some(Verdict::Warn), "not dumpable, Yama, an LSM");
        s.look = ScanPhase::Frozen;
        assert_eq!(verdict(&PTRACE_DENIED, &s, &host()), None);
    }

    #[test]
    fn what_the_kernel_says_of_attaching_counts() {
        let mut s = early();
        for (attach, verdicts) in
            [(Some(false), [Some(Verdict::Refuse); 2]), (Some(true), [None; 2]), (None, [None; 2])]
        {
            s.tasks[0].attach = attach;
            s.criu.cap_eff = Some(u64::MAX);
            let able = verdict(&PTRACE_DENIED, &s, &host());
            s.criu.cap_eff = Some(0);
            assert_eq!([able, verdict(&PTRACE_DENIED, &s, &host())], verdicts, "{attach:?}");
        }
        s.tasks[0].uid = [1000; 4];
        assert_eq!(verdict(&PTRACE_DENIED, &s, &host()), Some(Verdict::Refuse));
        s.tasks[0].attach = Some(true);
        assert_eq!(verdict(&PTRACE_DENIED, &s, &host()), None);
    }

    #[test]
    fn directories_of_proc_that_belong_to_others() {
        let mut s = early();
        for (fd, probe, errno) in [
            (Some(3), Probe::Descriptors, libc::EACCES),
            (None, Probe::Descriptors, 0),
            (None, Probe::Namespaces, libc::EACCES),
        ] {
            s.unchecked.push(Unchecked { pid: 100, fd, probe, errno });
        }
        assert_eq!(verdict(&PROC_DENIED, &s, &host()), None);
        s.unchecked.push(Unchecked { pid: 100, fd: None, probe: Probe::Descriptors, errno: libc::EACCES });
        assert_eq!(verdict(&PROC_DENIED, &s, &host()), Some(Verdict::Refuse));
    }

    #[test]
    fn seccomp_by_what_criu_is() {
        let mut s = early();
        s.tasks[0].threads.push(Thread { tid: 101, seccomp: 2, ..Thread::default() });
        assert_eq!(verdict(&SECCOMP_SUSPEND, &s, &host()), None);
        for change in [
            |s: &mut Snapshot| s.criu.seccomp = Some(2),
            |s: &mut Snapshot| s.criu.cap_eff = Some(!(1 << CAP_SYS_ADMIN)),
            |s: &mut Snapshot| s.criu.ns.user = Some(9),
        ] {
            let mut s = s.clone();
            change(&mut s);
            assert_eq!(verdict(&SECCOMP_SUSPEND, &s, &host()), Some(Verdict::Refuse));
            s.tasks[0].threads[1].seccomp = 0;
            assert_eq!(verdict(&SECCOMP_SUSPEND, &s, &host()), None);
        }
    }
}
