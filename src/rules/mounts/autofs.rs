//! autofs mounts, whose automounters CRIU wants to find in the tree.

use crate::criu::Gate;
use crate::rules::mounts::content::each_looked_into;
use crate::rules::mounts::table::finding;
use crate::rules::{Evidence, Other, Phase, Remedy, Rule, Versions, When};
use crate::snapshot::MasterPipe;

pub(crate) static MNT_AUTOFS: Rule = Rule {
    id: "mnt-autofs",
    summary: "An automount point whose automounter is not in the tree.",
    group: "Mounts",
    condition: "An autofs is mounted in a dumped namespace, is not external, and its automounter is a process outside of the tree or \
           is gone; or the automounter has closed the end of the pipe that it reads from and there is no /dev/autofs in that \
           namespace. With /dev/autofs CRIU asks the kernel whether a daemon serves the mount, and passes if none does: that is \
           a warning. A mount that the kernel knows to be served by none (fd=-1) passes.",
    message: "autofs {source} on {mountpoint}: its automounter {fault?outside=is outside of the tree|ended=has ended\
           |unasked=does not read its pipe, and /dev/autofs is not there to ask|silent=does not read its pipe}",
    criu: &["failed to find pstree item with pid %d", "Failed to find read pipe fd (ino %ld) in process %d", "failed to open /dev/autofs"],
    source: "criu/autofs.c:autofs_create_entry",
    versions: Versions::All,
    remedies: &[Remedy::Modelled("external", "mnt[{path}]:NAME"), Remedy::Workload("unmount it before the dump")],
    phase: Phase::AfterTasks,
    when: When::Early,
    evidence: Evidence::Mounts,
    find: |rule, ctx, sink| {
        each_looked_into(ctx, &[b"autofs"], |model, node| {
            // Without a mount of the whole CRIU does not look: mnt-unreachable.
            if model.wholes(node).next().is_none() {
                return;
            }
            let Some(master) = node.table.masters.iter().find(|m| m.mnt_id == node.info.mnt_id) else { return };
            let (fault, gate) = match master.pipe {
                MasterPipe::Open if ctx.index.task(master.pid).is_some() => return,
                MasterPipe::Open => ("outside", Gate::InForce),
                MasterPipe::Gone => ("ended", Gate::InForce),
                MasterPipe::Closed { device: false } => ("unasked", Gate::InForce),
                MasterPipe::Closed { device: true } => ("silent", Gate::FACT_UNKNOWN),
            };
            let Some(f) = finding(rule, ctx, node) else { return };
            let f = f.key(format!("sb:{}:{}", node.info.major, node.info.minor)).term("fault", fault);
            let f = if master.pipe == MasterPipe::Open { f.other(Other::Process(master.pid)) } else { f };
            sink.push_unless(model.gate().or(gate), f);
        });
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::AutofsMaster;

    #[test]
    fn automounters() {
        let of = |pid: i32, pipe| {
            let line = "40 39 0:50 / / rw - overlay o rw\n41 40 0:60 / /net rw - autofs auto rw,fd=5,pgrp=7,pipe_ino=9";
            let mut s = in_mntns(line);
            s.mounts[0].masters = vec![AutofsMaster { mnt_id: 41, pid, pipe }];
            s
        };
        let refuse = Some(Verdict::Refuse);
        for (pid, pipe, expect) in [
            (100, MasterPipe::Open, None),
            (7, MasterPipe::Open, refuse),
            (7, MasterPipe::Gone, refuse),
            (100, MasterPipe::Closed { device: false }, refuse),
            (100, MasterPipe::Closed { device: true }, Some(Verdict::Warn)),
        ] {
            assert_eq!(verdict(&MNT_AUTOFS, &of(pid, pipe), &host()), expect, "{pid} {pipe:?}");
            assert_eq!(verdict(&MNT_AUTOFS, &of(pid, pipe), &with_external("mnt[/net]:n")), None);
        }
        let mut s = of(7, MasterPipe::Gone);
        s.mounts[0].masters.clear();
        assert_eq!(verdict(&MNT_AUTOFS, &s, &host()), None, "catatonic, or not seen");
    }
}
