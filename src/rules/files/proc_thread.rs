//! Files of /proc that are a thread's.

use crate::criu_model::own_proc::{own_proc, OwnProc};
use crate::criu_model::paths::external_key;
use crate::rules::{Ctx, Evidence, Finding, Phase, Remedy, Rule, TaskLink, Value, Versions, When};
use crate::snapshot::{OpenFile, Task};
use std::collections::HashMap;

pub(crate) static PROC_THREAD_FD: Rule = Rule {
    id: "proc-thread-fd",
    summary: "An open file or directory of a thread in /proc: the dump is made and cannot be restored.",
    group: "Dumped, but not restored",
    condition: "A file or directory below /proc/PID/task/TID, or below /proc/TID, of a thread that is not the leader of its process, \
           is open or is the current directory of a process. CRIU opens files before it makes the threads of their process; a \
           thread that has ended is not made at all. A file of a thread of another process is only a warning, for that process \
           may have its threads by then, and so is one below /proc/TID in a pid namespace of the tree's own, where a process \
           of CRIU's may have the number at that moment. The directory of a dead process whose number a thread has now makes \
           CRIU abort at the restore. A restore that is handed an open file for that path (--inherit-fd) does not open it.",
    message: "{what?cwd=current directory|dir=open directory|file=open file} {path} of {why?alive=thread {number}, which does not exist \
           yet when it is opened at the restore|ended=a thread that has ended, and is not there at the restore|reused=a dead \
           process, whose number a thread has now}",
    criu: &[
        "{at the restore} Can't open file %s on restore: No such file or directory",
        "{at the restore} Can't open cwd",
        "{at the restore, where a thread has the number of a dead process} BUG at criu/pstree.c:%d",
    ],
    source: "criu/cr-restore.c:restore_one_alive_task, criu/files-reg.c:open_path, collect_remap_dead_process",
    versions: Versions::All,
    remedies: &[
        Remedy::External("{key}"),
        Remedy::Workload("have the program close it, or leave the directory, before the dump"),
    ],
    phase: Phase::Restore,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        let mut known = None;
        let judge = |task: &Task, file: &OpenFile, path: &[u8], cwd: bool| {
            if !is_in_own_proc(ctx, file) {
                return;
            }
            let numbers = known.get_or_insert_with(|| numbers(ctx));
            let Some(of) = of_thread(numbers, path) else { return };
            let mut f = Finding::on_file(rule, task, file)
                .key(format!("thread-file:{}:{}", of.process.pid, file.attr.ino))
                .num("number", of.number)
                .fact_opt("key", external_key(file).map(|k| Value::Term(k.into())));
            f = of_file(f, file, path, cwd);
            let (why, certain) = match of.why {
                // CRIU itself has processes for a moment, with small numbers, in a pid namespace that it makes.
                Why::Alive { as_process } => {
                    let own = as_process && ctx.snap.root_shares(|n| n.pid) != Some(true);
                    ("alive", task.pid == of.process.pid && !own)
                }
                Why::Ended => ("ended", true),
                Why::Reused => ("reused", true),
            };
            f = f.term("why", why);
            sink.push(if certain { f } else { f.doubt() });
        };
        each_file(ctx, judge);
    },
};

/// Calls it for each open file and each current directory: the path, and whether it is a directory that a process is in.
pub(super) fn each_file(ctx: &Ctx, mut judge: impl FnMut(&Task, &OpenFile, &[u8], bool)) {
    for (task, file) in ctx.files() {
        if let Some(path) = &file.link {
            judge(task, file, path, false);
        }
    }
    for task in ctx.live_tasks() {
        if let Some((link, file)) = task.cwd.as_ref().and_then(|l| Some((l, l.file.as_ref()?))) {
            judge(task, file, &link.text, true);
        }
    }
}

/// The finding with its `what`: cwd, dir or file.
pub(super) fn of_file(mut f: Finding, file: &OpenFile, path: &[u8], cwd: bool) -> Finding {
    if cwd {
        f = f.text("path", path);
        f.link = Some(TaskLink::Cwd);
    }
    let what = match (cwd, file.kind()) {
        (true, _) => "cwd",
        (_, libc::S_IFDIR) => "dir",
        _ => "file",
    };
    f.term("what", what)
}

/// Whether the file is in the /proc in which the root task finds itself, whose numbers are those of its pid namespace.
fn is_in_own_proc(ctx: &Ctx, file: &OpenFile) -> bool {
    let Some(node) = file.attr.mnt_id.and_then(|id| ctx.mounts.by_id(id)) else { return false };
    if *node.info.fstype != *b"proc" || *node.info.mountpoint != *b"/proc" || node.root != b"/" {
        return false;
    }
    let Some(root) = ctx.snap.root_task() else { return false };
    root.ns.mnt == Some(node.table.ns)
        && root.root.as_ref().is_some_and(|r| *r.text == *b"/")
        && own_proc(ctx.snap) == Some(OwnProc::Own)
        && !ctx.mounts.is_overmounted(node)
}

/// What a number in that /proc is.
enum Numbered<'a> {
    /// Whether all its threads are known by their numbers.
    Process(&'a Task, bool),
    /// The process that it is of.
    Thread(&'a Task),
}

fn numbers<'a>(ctx: &Ctx<'a>) -> HashMap<i32, Numbered<'a>> {
    let own = ctx.snap.root_task().and_then(|t| t.ns.pid);
    let mut numbers = HashMap::new();
    for task in ctx.live_tasks().filter(|t| t.ns.pid.is_some() && t.ns.pid == own) {
        let mut all = !task.threads.is_empty();
        for thread in task.threads.iter().filter(|t| t.tid != task.pid && !matches!(t.state, 'Z' | 'X')) {
            let same = (task.ns_pid.len() == 1).then_some(thread.tid);
            match thread.ns_tid.or(same) {
                Some(number) => drop(numbers.insert(number, Numbered::Thread(task))),
                None => all = false,
            }
        }
        numbers.insert(task.own_pid(), Numbered::Process(task, all));
    }
    numbers
}

/// A thread's file.
struct OfThread<'a> {
    process: &'a Task,
    /// As /proc has it.
    number: i32,
    why: Why,
}

enum Why {
    /// `as_process`: below /proc/TID.
    Alive {
        as_process: bool,
    },
    Ended,
    /// It was a process with that number.
    Reused,
}

fn of_thread<'a>(numbers: &HashMap<i32, Numbered<'a>>, path: &[u8]) -> Option<OfThread<'a>> {
    const DELETED: &[u8] = b" (deleted)";
    let (path, deleted) = path.strip_suffix(DELETED).map_or((path, false), |path| (path, true));
    let number = |part: &[u8]| std::str::from_utf8(part).ok()?.parse::<i32>().ok();
    let mut parts = path.strip_prefix(b"/proc/")?.split(|b| *b == b'/');
    let first = number(parts.next()?)?;
    let (process, all) = match numbers.get(&first)? {
        Numbered::Thread(process) => {
            let why = if deleted { Why::Reused } else { Why::Alive { as_process: true } };
            return Some(OfThread { process, number: first, why });
        }
        Numbered::Process(process, all) => (process, *all),
    };
    (parts.next()? == b"task").then_some(())?;
    let second = number(parts.next()?).filter(|second| *second != first)?;
    let alive = matches!(numbers.get(&second), Some(Numbered::Thread(of)) if of.pid == process.pid);
    let why = match alive {
        true => Why::Alive { as_process: false },
        // It may be one whose number is not known.
        false => all.then_some(Why::Ended)?,
    };
    Some(OfThread { process, number: second, why })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::{Link, ProcSelf, Snapshot, Thread};

    const UNRESTORABLE: Option<Verdict> = Some(Verdict::Unrestorable);

    /// Process 100 with the thread 101, and a file of /proc.
    fn open(path: &str) -> Snapshot {
        let mut f = with_attr(file(3, libc::S_IFREG, 9), |a| a.mnt_id = Some(42));
        f.link = Some(path.into());
        let mut s = snap(vec![f]);
        let table = "40 39 8:1 / / rw - ext4 /dev/sda1 rw\n42 40 0:51 / /proc rw - proc proc rw\n\
                     43 40 0:52 / /mnt/proc rw - proc proc rw\n44 40 0:53 / /run rw - tmpfs t rw";
        s.mounts.push(mount_table(CRIU_NS, 50, table));
        let root = &mut s.tasks[0];
        root.threads.push(Thread { tid: 101, state: 'S', ..Thread::default() });
        root.root = Some(Link { text: "/".into(), file: None });
        root.proc_self = Some(ProcSelf::Reader);
        s
    }

    fn judged(path: &str) -> Option<Verdict> {
        verdict(&PROC_THREAD_FD, &open(path), &host())
    }

    #[test]
    fn of_a_thread() {
        for path in ["/proc/100/task/101/schedstat", "/proc/100/task/101", "/proc/101/stat", "/proc/101/task/100/stat"]
        {
            assert_eq!(judged(path), UNRESTORABLE, "{path}");
        }
        for path in ["/proc/100/task/100/stat", "/proc/100/task", "/proc/100/stat", "/proc/102/stat", "/proc/stat"] {
            assert_eq!(judged(path), None, "{path}");
        }
        assert_eq!(judged("/proc/102/task/101/stat"), None, "no process of the tree");
        let key = with_external("file[2a:9]");
        assert_eq!(verdict(&PROC_THREAD_FD, &open("/proc/101/stat"), &key), None);
    }

    fn why(s: &Snapshot) -> Vec<(Option<Verdict>, Option<Value>)> {
        found(&PROC_THREAD_FD, s, &host()).iter().map(|f| (Some(f.verdict), f.get("why").cloned())).collect()
    }

    #[test]
    fn of_a_thread_that_has_ended() {
        for path in ["/proc/100/task/102/stat", "/proc/100/task/102 (deleted)"] {
            assert_eq!(why(&open(path)), [(UNRESTORABLE, Some(Value::Term("ended".into())))], "{path}");
        }
        assert_eq!(judged("/proc/102 (deleted)"), None, "a dead process comes back for a moment");
        let mut s = open("/proc/100/task/101/stat");
        s.tasks[0].threads[1].state = 'X';
        assert_eq!(why(&s), [(UNRESTORABLE, Some(Value::Term("ended".into())))]);
        s.tasks[0].threads.clear();
        assert_eq!(why(&s), [], "the threads are not known");
    }

    #[test]
    fn of_a_dead_process_whose_number_a_thread_has() {
        assert_eq!(why(&open("/proc/101 (deleted)")), [(UNRESTORABLE, Some(Value::Term("reused".into())))]);
    }

    #[test]
    fn as_the_current_directory() {
        let mut s = open("/proc/stat");
        let dir = with_attr(linked(libc::S_IFDIR, 8), |a| a.mnt_id = Some(42));
        s.tasks[0].cwd = Some(Link { text: "/proc/100/task/101".into(), file: Some(dir) });
        assert_eq!(verdict(&PROC_THREAD_FD, &s, &host()), UNRESTORABLE);
        s.tasks[0].cwd.as_mut().unwrap().text = "/proc/100/task/100".into();
        assert_eq!(verdict(&PROC_THREAD_FD, &s, &host()), None);
    }

    #[test]
    fn of_another_process() {
        let mut s = open("/proc/101/stat");
        let mut child = task(200);
        child.ppid = 100;
        child.files = std::mem::take(&mut s.tasks[0].files);
        s.tasks.push(child);
        assert_eq!(verdict(&PROC_THREAD_FD, &s, &host()), Some(Verdict::Warn));
        s.tasks[1].files[0].link = Some("/proc/100/task/102/stat".into());
        assert_eq!(verdict(&PROC_THREAD_FD, &s, &host()), UNRESTORABLE, "it has ended");
    }

    #[test]
    fn in_a_pid_namespace() {
        let mut s = open("/proc/1/task/2/stat");
        let root = &mut s.tasks[0];
        (root.ns.pid, root.ns_pid) = (Some(9), vec![100, 1]);
        root.proc_self = Some(ProcSelf::NoNumber);
        assert_eq!(verdict(&PROC_THREAD_FD, &s, &host()), None, "the thread's number there is not known");
        s.tasks[0].threads[1].ns_tid = Some(2);
        assert_eq!(verdict(&PROC_THREAD_FD, &s, &host()), UNRESTORABLE);
        s.tasks[0].files[0].link = Some("/proc/2/stat".into());
        assert_eq!(
            verdict(&PROC_THREAD_FD, &s, &host()),
            Some(Verdict::Warn),
            "CRIU may have a process of that number"
        );
        s.tasks[0].proc_self = Some(ProcSelf::Reader);
        assert_eq!(verdict(&PROC_THREAD_FD, &s, &host()), None, "a /proc with other numbers");
    }

    #[test]
    fn on_another_mount() {
        for mnt_id in [Some(43), Some(44), Some(99), None] {
            let mut s = open("/proc/101/stat");
            s.tasks[0].files[0].attr.mnt_id = mnt_id;
            assert_eq!(verdict(&PROC_THREAD_FD, &s, &host()), None, "{mnt_id:?}");
        }
        let mut s = open("/proc/101/stat");
        s.tasks[0].root.as_mut().unwrap().text = "/srv".into();
        assert_eq!(verdict(&PROC_THREAD_FD, &s, &host()), None);
    }
}
