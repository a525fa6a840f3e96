//! The /proc that CRIU's code in the root process needs: to find the threads of a pid namespace, and to read the cgroups.

use crate::criu_model::mounts::type_of;
use crate::criu_model::own_proc::{own_proc, OwnProc};
use crate::parse::capability::{self, CAP_SYS_ADMIN};
use crate::rules::{Ctx, Evidence, Finding, Phase, Remedy, Rule, Value, Versions, When};
use crate::snapshot::Task;

/// Why the process cannot mount a /proc for CRIU on a directory that it makes in its current one, if that is certain.
fn no_mount(ctx: &Ctx, task: &Task) -> Option<&'static str> {
    let cwd = task.cwd.as_ref().and_then(|l| l.file.as_ref())?;
    if cwd.attr.nlink == 0 {
        return Some("cwd-removed");
    }
    let model = &ctx.mounts;
    if let Some(node) = cwd.attr.mnt_id.and_then(|id| model.by_id(id)) {
        let info = node.info;
        if info.has_option(b"ro") || info.super_option(b"ro").is_some() {
            return Some("cwd-read-only");
        }
        if matches!(type_of(info), b"proc" | b"sysfs") {
            return Some("cwd-virtual");
        }
    }
    // The capability counts in the user namespace that owns the mounts, and in that of the pid namespace.
    let user = task.ns.user?;
    if Some(user) != ctx.snap.criu.ns.user {
        let mounts = task.userns.as_ref()?.owners.mnt?;
        if mounts != user || ctx.snap.root_shares(|n| n.pid) == Some(true) {
            return Some("owner");
        }
    }
    (!capability::has(task.cap_eff?, CAP_SYS_ADMIN)).then_some("capability")
}

pub(crate) static PROC_FD_DENIED: Rule = Rule {
    id: "proc-fd-denied",
    summary: "A root process that does not find itself in its /proc, as in a chroot or a new pid namespace.",
    group: "Processes",
    condition: "The root process does not see itself in /proc (in a chroot() without it, or in a new pid namespace with the old \
           /proc), and cannot mount one in its current directory: it has no CAP_SYS_ADMIN over its mounts, or no directory can \
           be made there.",
    message: "the process does not find itself in its /proc ({found?missing=there is none|other=it is of another pid namespace\
           |no-link=/proc/self is no link}), and CRIU cannot mount another: {why?cwd-removed=its current directory has been removed\
           |cwd-read-only=its current directory is on a read-only mount|cwd-virtual=no directory can be made in its current one\
           |owner=its user namespace does not own its mount or pid namespace|capability=the process has no CAP_SYS_ADMIN\
           |errno=it does not try after errno {errno}}",
    criu: &["can't dump unprivileged task whose /proc doesn't belong to it", "Can't create a directory", "Can't readlink /proc/self"],
    source: "criu/pie/parasite.c:get_proc_fd",
    versions: Versions::All,
    remedies: &[Remedy::Workload("mount a /proc of its pid namespace where the process sees it (unshare --mount-proc)")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let Some(task) = ctx.snap.root_task().filter(|t| !t.is_zombie()) else { return };
        let own = own_proc(ctx.snap);
        let found = match own {
            None | Some(OwnProc::Own) => return,
            Some(OwnProc::Missing) => "missing",
            Some(OwnProc::Other) => "other",
            Some(OwnProc::Errno(_)) => "no-link",
        };
        let (why, errno) = match own {
            Some(OwnProc::Errno(errno)) => (Some("errno"), Some(errno)),
            _ => (no_mount(ctx, task), None),
        };
        if let Some(why) = why {
            let f = Finding::on_task(rule, task).term("found", found).term("why", why);
            sink.push(f.fact_opt("errno", errno.map(|n| Value::Num(n.into()))));
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::{Link, Namespaces, ProcSelf, Snapshot, UserNs};

    const TABLE: &str = "40 39 0:50 / / rw - overlay overlay rw\n41 40 0:50 /r /r ro - overlay overlay rw\n\
                         42 40 0:51 / /s rw - tmpfs t ro\n43 40 0:52 / /proc rw - proc p rw";

    fn with_cwd(mnt_id: u64, nlink: u32) -> Snapshot {
        let mut s = in_mntns(TABLE);
        let root = &mut s.tasks[0];
        let file = with_attr(linked(libc::S_IFDIR, 7), |a| (a.mnt_id, a.nlink) = (Some(mnt_id), nlink));
        root.cwd = Some(Link { text: "/".into(), file: Some(file) });
        root.cap_eff = Some(u64::MAX);
        root.proc_self = Some(ProcSelf::Missing);
        s
    }

    #[test]
    fn where_another_can_be_mounted() {
        let refuse = Some(Verdict::Refuse);
        for (mnt_id, nlink, expect) in
            [(40, 2, None), (40, 0, refuse), (41, 2, refuse), (42, 2, refuse), (43, 2, refuse)]
        {
            let mut s = with_cwd(mnt_id, nlink);
            assert_eq!(verdict(&PROC_FD_DENIED, &s, &host()), expect, "{mnt_id}");
            // The root task is in CRIU's pid namespace.
            s.tasks[0].proc_self = Some(ProcSelf::NoNumber);
            assert_eq!(verdict(&PROC_FD_DENIED, &s, &host()), expect, "{mnt_id}");
            for fine in [Some(ProcSelf::Reader), None] {
                s.tasks[0].proc_self = fine;
                assert_eq!(verdict(&PROC_FD_DENIED, &s, &host()), None);
            }
            s.tasks[0].proc_self = Some(ProcSelf::Errno(libc::EINVAL));
            assert_eq!(verdict(&PROC_FD_DENIED, &s, &host()), refuse);
        }
    }

    #[test]
    fn by_whom() {
        let mut s = with_cwd(40, 2);
        s.tasks[0].cap_eff = None;
        assert_eq!(verdict(&PROC_FD_DENIED, &s, &host()), None);
        s.tasks[0].cap_eff = Some(!(1 << CAP_SYS_ADMIN));
        assert_eq!(verdict(&PROC_FD_DENIED, &s, &host()), Some(Verdict::Refuse));
        // In a user namespace: over its own mounts and pids only.
        for (owner, own_pid, expect) in [
            (Some(9), true, None),
            (Some(9), false, Some(Verdict::Refuse)),
            (Some(CRIU_NS), true, Some(Verdict::Refuse)),
            (None, true, None),
        ] {
            let mut s = with_cwd(40, 2);
            let owners = Namespaces { mnt: owner, ..Namespaces::default() };
            let root = &mut s.tasks[0];
            root.ns.user = Some(9);
            root.ns.pid = if own_pid { Some(8) } else { root.ns.pid };
            root.userns = Some(Box::new(UserNs { owners, ..UserNs::default() }));
            assert_eq!(verdict(&PROC_FD_DENIED, &s, &host()), expect, "{owner:?}");
        }
    }
}
