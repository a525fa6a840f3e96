//! The /proc that a restore mounts for itself.

use crate::rules::{Evidence, Finding, Phase, Remedy, Rule, Versions, When};

pub(crate) static USERNS_PROC: Rule = Rule {
    id: "userns-proc",
    summary: "A user namespace without a pid and a mount namespace of its own: the dump is made and cannot be restored.",
    group: "Dumped, but not restored",
    condition: "The root process is in a user namespace other than CRIU's, and in CRIU's pid namespace or in CRIU's mount namespace. \
           The restored root process mounts a /proc before anything else, as root of the new user namespace: the kernel lets it \
           only in a mount namespace, and of a pid namespace, that are that user namespace's.",
    message: "in a user namespace of its own, but in CRIU's {shared?pid=pid namespace|mnt=mount namespace|both=pid and mount \
           namespaces}, where the restore may not mount a /proc",
    criu: &[
        "{at the restore} Unable to open the proc file system: Operation not permitted",
        "{at the restore} Unable to create the proc file system: Operation not permitted",
    ],
    source: "criu/cr-restore.c:mount_proc",
    versions: Versions::All,
    remedies: &[Remedy::Workload("start it with a pid and a mount namespace of its own, too (unshare --pid --mount --fork)")],
    phase: Phase::Restore,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let Some(root) = ctx.snap.root_task() else { return };
        if ctx.snap.root_shares(|n| n.user) != Some(false) {
            return;
        }
        let shares = [ctx.snap.root_shares(|n| n.pid), ctx.snap.root_shares(|n| n.mnt)];
        let shared = match shares.map(|s| s == Some(true)) {
            [true, true] => "both",
            [true, false] => "pid",
            [false, true] => "mnt",
            [false, false] => return,
        };
        sink.push(Finding::on_task(rule, root).term("shared", shared));
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::Namespaces;

    fn judged(change: impl FnOnce(&mut Namespaces)) -> Option<Verdict> {
        let mut s = snap(vec![]);
        s.criu.ns = Namespaces { user: Some(1), pid: Some(2), mnt: Some(3), ..s.criu.ns };
        s.tasks[0].ns = s.criu.ns;
        change(&mut s.tasks[0].ns);
        verdict(&USERNS_PROC, &s, &host())
    }

    #[test]
    fn a_user_namespace_alone() {
        let unrestorable = Some(Verdict::Unrestorable);
        assert_eq!(judged(|_| {}), None);
        assert_eq!(judged(|ns| ns.user = Some(9)), unrestorable);
        assert_eq!(judged(|ns| (ns.user, ns.pid) = (Some(9), Some(8))), unrestorable);
        assert_eq!(judged(|ns| (ns.user, ns.mnt) = (Some(9), Some(8))), unrestorable);
        assert_eq!(judged(|ns| (ns.user, ns.pid, ns.mnt) = (Some(9), Some(8), Some(7))), None);
        assert_eq!(judged(|ns| (ns.pid, ns.mnt) = (Some(8), Some(7))), None);
        assert_eq!(judged(|ns| ns.user = None), None);
        assert_eq!(judged(|ns| (ns.user, ns.pid, ns.mnt) = (Some(9), None, None)), None);
    }
}
