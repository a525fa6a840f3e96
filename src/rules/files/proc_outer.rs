//! Files of /proc whose numbers are those of a pid namespace above the tree's.

use crate::criu_model::own_proc::{own_proc, process_number, OwnProc};
use crate::criu_model::paths::external_key;
use crate::rules::files::proc_thread::{each_file, of_file};
use crate::rules::{Ctx, Evidence, Finding, Phase, Remedy, Rule, Value, Versions, When};
use crate::snapshot::{OpenFile, Task};

/// How many numbers behind the greatest of the tree processes of CRIU's may have for a moment, while it restores the namespace.
const OF_CRIU: i32 = 100;

pub(crate) static PROC_OUTER_FD: Rule = Rule {
    id: "proc-outer-fd",
    summary: "An open file of a process in a /proc that shows the pid namespace above the tree's: it cannot be restored.",
    group: "Dumped, but not restored",
    condition: "The root process has a pid and a mount namespace of its own, and /proc there is still that of a pid namespace above (unshare \
           --pid without --mount-proc). A file or directory below /proc/PID of a living process is open, or is the current directory of \
           a process. The /proc that the restore mounts shows the new pid namespace, in which nothing has that number. (If the process \
           had ended, CRIU would make one with its number for a moment.) Numbers that are as small as the tree's own in its namespace are \
           only a warning: another process may have them.",
    message: "{what?cwd=current directory|dir=open directory|file=open file} {path}, of the pid namespace above: the /proc that the \
           restore mounts shows the tree's own, in which {number} is no process",
    criu: &["{at the restore} Can't open file %s on restore: No such file or directory", "{at the restore} Can't open cwd"],
    source: "criu/files-reg.c:check_path_remap, open_path",
    versions: Versions::All,
    remedies: &[
        Remedy::External("{key}"),
        Remedy::Workload("have the program close it, or leave the directory, before the dump"),
        Remedy::Workload("start the program with a /proc of its own pid namespace (unshare --mount-proc)"),
    ],
    phase: Phase::Restore,
    when: When::Early,
    evidence: Evidence::Outsider,
    find: |rule, ctx, sink| {
        let Some(root) = ctx.snap.root_task() else { return };
        if own_proc(ctx.snap) != Some(OwnProc::Other) || root.proc_alive.is_empty() {
            return;
        }
        let last = last_number(ctx);
        let judge = |task: &Task, file: &OpenFile, path: &[u8], cwd: bool| {
            let Some(number) = process_number(path).filter(|n| root.proc_alive.contains(n)) else { return };
            if !is_mounted_anew(ctx, root, file) || path.ends_with(b" (deleted)") {
                return;
            }
            let f = Finding::on_file(rule, task, file)
                .num("number", number)
                .fact_opt("key", external_key(file).map(|k| Value::Term(k.into())));
            let f = of_file(f, file, path, cwd);
            sink.push(if number > last.saturating_add(OF_CRIU) { f } else { f.doubt() });
        };
        each_file(ctx, judge);
    },
};

/// The greatest number that a process or thread of the tree has in the pid namespaces of the tree.
fn last_number(ctx: &Ctx) -> i32 {
    let of = |t: &Task| {
        let processes = t.ns_pid.iter().skip(1).copied();
        processes.chain(t.threads.iter().filter_map(|t| t.ns_tid)).max()
    };
    ctx.snap.tasks.iter().filter_map(of).max().unwrap_or(i32::MAX)
}

/// Whether the file is in the /proc that the root task sees, and the restore mounts one in its place.
fn is_mounted_anew(ctx: &Ctx, root: &Task, file: &OpenFile) -> bool {
    let model = &ctx.mounts;
    let Some(node) = file.attr.mnt_id.and_then(|id| model.by_id(id)) else { return false };
    model.dumped
        && *node.info.fstype == *b"proc"
        && *node.info.mountpoint == *b"/proc"
        && node.root == b"/"
        && root.ns.mnt == Some(node.table.ns)
        && root.root.as_ref().is_some_and(|r| *r.text == *b"/")
        && !model.is_external_bind(node)
        && !model.is_root_bind(node)
        && !model.is_overmounted(node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::{Link, ProcSelf, Snapshot};

    /// Process 100 is 1 in its namespaces, and sees the /proc of the namespace above.
    fn open(path: &str) -> Snapshot {
        let mut f = with_attr(file(3, libc::S_IFREG, 9), |a| a.mnt_id = Some(42));
        f.link = Some(path.into());
        let mut s = snap(vec![f]);
        let table = "40 39 8:1 / / rw - ext4 /dev/sda1 rw\n42 40 0:51 / /proc rw - proc proc rw";
        s.mounts.push(mount_table(8, 100, table));
        let root = &mut s.tasks[0];
        (root.ns.mnt, root.ns.pid, root.ns_pid) = (Some(8), Some(9), vec![100, 1]);
        root.root = Some(Link { text: "/".into(), file: None });
        root.proc_self = Some(ProcSelf::Reader);
        root.proc_alive = vec![2, 100, 500];
        s
    }

    fn judged(path: &str) -> Option<Verdict> {
        verdict(&PROC_OUTER_FD, &open(path), &host())
    }

    #[test]
    fn of_the_namespace_above() {
        assert_eq!(judged("/proc/500/stat"), Some(Verdict::Unrestorable));
        assert_eq!(judged("/proc/100/stat"), Some(Verdict::Warn), "CRIU's own may have it");
        assert_eq!(judged("/proc/2/stat"), Some(Verdict::Warn));
        for other in ["/proc/600/stat", "/proc/stat", "/proc/500/fd (deleted)", "/proc/5000", "/x/500"] {
            assert_eq!(judged(other), None, "{other}");
        }
    }

    #[test]
    fn where_the_restore_mounts_none() {
        let mut s = open("/proc/500/stat");
        s.tasks[0].proc_self = Some(ProcSelf::NoNumber);
        assert_eq!(verdict(&PROC_OUTER_FD, &s, &host()), None, "its own");
        let s = open("/proc/500/stat");
        assert_eq!(verdict(&PROC_OUTER_FD, &s, &with_external("mnt[/proc]:proc")), None);
        assert_eq!(verdict(&PROC_OUTER_FD, &s, &with_external("file[2a:9]")), None);
    }
}
