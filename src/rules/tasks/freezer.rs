//! The cgroup of `--freeze-cgroup` itself, and who in it cannot be attached to while it is frozen.

use crate::bytes::Bytes;
use crate::criu::Stage;
use crate::rules::tasks::cgroup::freezer_gate;
use crate::rules::{Ctx, Evidence, Finding, Other, Phase, Remedy, Rule, Versions, When};
use crate::snapshot::{Freezer, Task};

/// The option's value, and the root task of the tree that it shall freeze.
fn given<'a>(ctx: &Ctx<'a>) -> Option<(&'a Bytes, &'a Task)> {
    Some((ctx.host.options.freeze_cgroup.as_ref()?.as_ref()?, ctx.snap.root_task()?))
}

pub(crate) static FREEZE_CGROUP_MISSING: Rule = Rule {
    id: "freeze-cgroup-missing",
    summary: "The cgroup given to --freeze-cgroup is not there, or cannot be frozen by CRIU.",
    group: "Cgroups",
    condition: "The directory given to --freeze-cgroup has neither freezer.state (cgroup v1) nor cgroup.freeze (cgroup v2; the root of \
           the hierarchy has none), or that file cannot be opened for writing, as on a read-only mount.",
    message: "--freeze-cgroup {dir} {why?missing=has neither freezer.state nor cgroup.freeze: it is not there, is no cgroup, or is the \
           root of its hierarchy|readonly=is on a read-only mount|denied=has a file for freezing that may not be written}",
    criu: &[
        "Neither a cgroupv1 (freezer.state) or cgroupv2 (cgroup.freeze) control file found.",
        "Unable to open %s",
    ],
    source: "criu/seize.c:cgroup_version, freezer_open",
    versions: Versions::All,
    remedies: &[Remedy::Workload(
        "name the directory of the tree's own cgroup (the path in /proc/{pid}/cgroup below the hierarchy's mount), or leave out --freeze-cgroup",
    )],
    phase: Phase::Freezing,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let Some((dir, root)) = given(ctx) else { return };
        let why = match ctx.snap.cgroups.freezer {
            Some(Freezer::Missing) => "missing",
            Some(Freezer::Unwritable(libc::EROFS)) => "readonly",
            // The command may have other rights than CRIU will have.
            Some(Freezer::Unwritable(libc::EACCES)) if ctx.host.stage != Stage::DryRun => "denied",
            _ => return,
        };
        sink.push(Finding::on_task(rule, root).text("dir", dir.clone()).term("why", why));
    },
};

pub(crate) static FREEZE_STOPPED: Rule = Rule {
    id: "freeze-stopped",
    summary: "A stopped process in the cgroup v1 given to --freeze-cgroup: CRIU would hang there for ever.",
    group: "Cgroups",
    condition: "With --freeze-cgroup of cgroup v1 CRIU attaches to each thread in that cgroup and below while it is frozen. To attach to \
           a stopped one (SIGSTOP, state T) the kernel waits until that has woken, which it cannot: CRIU hangs without an end, \
           --timeout does not apply, and the cgroup stays frozen. With CRIU's CUDA plugin at work it is a warning.",
    message: "stopped, in the cgroup of --freeze-cgroup, {dir}, which is of cgroup v1[: thread {foreign}, which is not of the tree]: \
           CRIU would hang, and leave it frozen",
    criu: &["{hangs after} freezing processes: %lu attempts done"],
    source: "criu/seize.c:seize_cgroup_tree",
    versions: Versions::All,
    remedies: &[
        Remedy::Workload("leave out --freeze-cgroup, or freeze a cgroup v2"),
        Remedy::Workload("continue it before the dump (kill -CONT {id})"),
    ],
    phase: Phase::Freezing,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let Some((dir, root)) = given(ctx) else { return };
        if ctx.frozen() || ctx.snap.cgroups.freezer != Some(Freezer::V1) {
            return;
        }
        let cgroups = &ctx.snap.cgroups;
        for task in ctx.live_tasks() {
            // A stop signal stops all of them.
            let stopped = task.threads.iter().filter(|t| t.state == 'T').map(|t| t.tid);
            let Some(tid) = stopped.filter(|tid| !cgroups.not_frozen.contains(&(task.pid, *tid))).min() else { continue };
            let f = Finding::on_task(rule, task).key(format!("stopped:{}", task.pid)).text("dir", dir.clone());
            let f = if tid == task.pid { f } else { f.tid(tid) };
            sink.push_unless(freezer_gate(ctx), f.num("id", task.pid));
        }
        for foreign in &cgroups.frozen_stopped {
            let f = Finding::on_task(rule, root).key(format!("stopped:{foreign}")).text("dir", dir.clone());
            let f = f.num("foreign", *foreign).num("id", *foreign).other(Other::Process(*foreign));
            sink.push_unless(freezer_gate(ctx), f);
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::criu::{Host, Siblings};
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::{ScanPhase, Snapshot};

    fn freezing() -> Host {
        let mut h = host();
        h.options.freeze_cgroup = Some(Some("/cg/a".into()));
        h
    }

    fn early(freezer: Option<Freezer>) -> Snapshot {
        let mut s = Snapshot { look: ScanPhase::Early, ..snap(vec![]) };
        s.cgroups.freezer = freezer;
        s
    }

    #[test]
    fn a_cgroup_that_cannot_be_frozen() {
        let look = |freezer, host: &Host| verdict(&FREEZE_CGROUP_MISSING, &early(freezer), host);
        let refuse = Some(Verdict::Refuse);
        assert_eq!(look(Some(Freezer::Missing), &freezing()), refuse);
        assert_eq!(look(Some(Freezer::Missing), &host()), None, "not given");
        assert_eq!(look(Some(Freezer::Unwritable(libc::EROFS)), &freezing()), refuse);
        assert_eq!(look(Some(Freezer::Unwritable(libc::EACCES)), &freezing()), refuse);
        let dry = Host { stage: Stage::DryRun, ..freezing() };
        assert_eq!(look(Some(Freezer::Unwritable(libc::EACCES)), &dry), None, "other rights");
        assert_eq!(look(Some(Freezer::V1), &freezing()), None);
        assert_eq!(look(Some(Freezer::V2), &freezing()), None);
        assert_eq!(look(None, &freezing()), None);
    }

    #[test]
    fn who_is_stopped_while_version_1_freezes() {
        let stopped = |freezer| {
            let mut s = early(freezer);
            s.tasks[0].state = 'T';
            s.tasks[0].threads[0].state = 'T';
            s
        };
        let look = |s: &Snapshot| verdict(&FREEZE_STOPPED, s, &freezing());
        let v1 = stopped(Some(Freezer::V1));
        assert_eq!(look(&v1), Some(Verdict::Refuse));
        assert_eq!(verdict(&FREEZE_STOPPED, &v1, &host()), None);
        assert_eq!(look(&stopped(Some(Freezer::V2))), None);
        assert_eq!(look(&stopped(None)), None);
        assert_eq!(look(&early(Some(Freezer::V1))), None, "it runs");
        let mut outside = v1.clone();
        outside.cgroups.not_frozen = vec![(100, 100)];
        assert_eq!(look(&outside), None, "freeze-outside says it");
        let mut foreign = early(Some(Freezer::V1));
        foreign.cgroups.frozen_stopped = vec![77];
        let f = found(&FREEZE_STOPPED, &foreign, &freezing());
        assert_eq!((f.len(), &f[0].other), (1, &Some(Other::Process(77))));
        let cuda =
            Host { siblings: Siblings { pending: true, cuda_checkpoint: true, ..Siblings::default() }, ..freezing() };
        assert_eq!(verdict(&FREEZE_STOPPED, &v1, &cuda), Some(Verdict::Warn));
    }
}
