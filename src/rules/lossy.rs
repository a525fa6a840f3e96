//! What CRIU accepts and loses without a word, or writes in a way that it cannot restore. Never a refusal.

use crate::parse::proc_net::SocketQueues;
use crate::rules::sockets::tcp::local;
use crate::rules::{Ctx, Evidence, Finding, Other, Phase, Remedy, Rule, Versions, When};
use crate::snapshot::{Namespaces, Task, Thread, UnsavedThreadState};
use std::collections::HashSet;

/// linux/sched.h
const SCHED_DEADLINE: i32 = 6;
const SCHED_RESET_ON_FORK: i32 = 0x4000_0000;

pub(crate) static LOST_RECEIVE_QUEUE: Rule = Rule {
    id: "lost-receive-queue",
    summary: "Datagrams that were received and not read: they are lost.",
    group: "Dumped, and lost",
    condition: "A UDP, UDP-Lite, raw or ICMP socket has received what was not read: it is not in the images.",
    message: "{protocol} socket[ {local}] (inode {ino}) with unread datagrams ({bytes} bytes of the kernel's memory), which are lost",
    criu: &[],
    source: "criu/sk-inet.c:do_dump_one_inet_fd",
    versions: Versions::All,
    remedies: &[Remedy::Workload("let the program read them before the dump")],
    phase: Phase::Never,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| queue(rule, ctx, |s| s.unread, |f| sink.push(f)),
};

pub(crate) static LOST_SEND_QUEUE: Rule = Rule {
    id: "lost-send-queue",
    summary: "Datagrams that were held back and not sent: they are lost.",
    group: "Dumped, and lost",
    condition: "A UDP, UDP-Lite, raw or ICMP socket has something to send still: data held back by MSG_MORE, mostly. (With UDP_CORK the dump \
           is refused instead: udp-corked.)",
    message: "{protocol} socket[ {local}] (inode {ino}) with unsent data ({bytes} bytes of the kernel's memory), which is lost",
    criu: &[],
    source: "criu/sk-inet.c:do_dump_one_inet_fd",
    versions: Versions::All,
    remedies: &[Remedy::Workload("let the program send it before the dump (a send without MSG_MORE)")],
    phase: Phase::Never,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| queue(rule, ctx, |s| s.unsent, |f| sink.push(f)),
};

fn queue(rule: &Rule, ctx: &Ctx, bytes: impl Fn(&SocketQueues) -> u32, mut push: impl FnMut(Finding)) {
    for s in ctx.socks.all.iter().filter(|s| s.is_ip()) {
        let Some(queues) = s.queues() else { continue };
        let protocol = match (s.ip_type(), s.ip_protocol()) {
            (Some(libc::SOCK_RAW), _) => "raw",
            (_, Some(libc::IPPROTO_UDP)) => "UDP",
            (_, Some(libc::IPPROTO_UDPLITE)) => "UDP-Lite",
            (_, Some(libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6)) => "ICMP",
            _ => continue,
        };
        let bytes = bytes(&queues);
        if bytes != 0 && s.fact(|f| f.udp_cork) != Some(true) {
            let f = s.finding(rule, &ctx.index).term("protocol", protocol).fact_opt("local", s.inet().map(local));
            push(f.num("bytes", bytes));
        }
    }
}

pub(crate) static LOST_WATCH_EVENTS: Rule = Rule {
    id: "lost-watch-events",
    summary: "Events of inotify or fanotify that were not read: they are lost.",
    group: "Dumped, and lost",
    condition: "An inotify or fanotify descriptor has unread events: CRIU drops them.",
    message: "{bytes} bytes of unread events, which are lost",
    criu: &["{as a warning} The %#08x inotify events will be dropped"],
    source: "criu/fsnotify.c:dump_one_inotify, dump_one_fanotify",
    versions: Versions::All,
    remedies: &[Remedy::Workload("let the program read them before the dump")],
    phase: Phase::Never,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (task, file) in ctx.files() {
            if let Some(bytes) = file.watches().and_then(|w| w.unread).filter(|n| *n > 0) {
                // All of a class share one inode: the descriptor tells them apart.
                let key = format!("fd:{}:{}", task.pid, file.origin);
                sink.push(Finding::on_file(rule, task, file).key(key).num("bytes", bytes));
            }
        }
    },
};

pub(crate) static LOST_SIGNAL_OWNER: Rule = Rule {
    id: "lost-signal-owner",
    summary: "A descriptor that signals a process outside of the tree: after the restore, somebody else.",
    group: "Dumped, and lost",
    condition: "A descriptor with O_ASYNC sends its signals to a process outside of the tree (F_SETOWN). CRIU writes the number down, \
           and after the restore that number is another process's, or free: then the restore fails.",
    message: "its signals (O_ASYNC) go to {kind?process=process|group=process group} {owner}, which is not in the tree",
    criu: &["{at the restore, if that number is free} Can't setup %d file owner pid"],
    source: "criu/files.c:fill_fd_params, restore_fown",
    versions: Versions::All,
    remedies: &[Remedy::Workload("have the program give the descriptor another owner (F_SETOWN), or clear O_ASYNC")],
    phase: Phase::Never,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let mut inside = None;
        for (task, file) in ctx.files() {
            let Some(owner) = file.owner.filter(|owner| *owner != 0) else { continue };
            if !inside.get_or_insert_with(|| possible_owners(ctx)).contains(&owner) {
                let f = Finding::on_file(rule, task, file).key(format!("fd:{}:{}", task.pid, file.origin));
                let f = f.term("kind", if owner > 0 { "process" } else { "group" }).num("owner", owner.saturating_abs());
                sink.push(if owner > 0 { f.other(Other::Process(owner)) } else { f });
            }
        }
    },
};

/// Threads, processes and (negative) process groups of the tree.
fn possible_owners(ctx: &Ctx) -> HashSet<i32> {
    let of = |t: &Task| [t.pid, t.pgid.saturating_neg()];
    let threads = ctx.snap.tasks.iter().flat_map(|t| t.threads.iter().map(|th| th.tid));
    ctx.snap.tasks.iter().flat_map(of).chain(threads).collect()
}

/// Every thread of the tree with a property that is lost.
fn threads<'a>(ctx: &'a Ctx<'a>) -> impl Iterator<Item = (&'a Task, &'a Thread, UnsavedThreadState)> + 'a {
    ctx.live_tasks().flat_map(|t| t.threads.iter().filter_map(move |th| Some((t, th, th.unasked?))))
}

fn on_thread(rule: &Rule, task: &Task, thread: &Thread) -> Finding {
    let f = Finding::on_task(rule, task).key(format!("thread:{}", thread.tid));
    if thread.tid == task.pid {
        f
    } else {
        f.tid(thread.tid)
    }
}

pub(crate) static LOST_DEADLINE: Rule = Rule {
    id: "lost-deadline",
    summary: "A real-time process (SCHED_DEADLINE), which cannot be restored.",
    group: "Dumped, but not restored",
    condition: "A thread is scheduled by SCHED_DEADLINE. CRIU writes down the policy and not its runtime, deadline and period: the \
           restore fails.",
    message: "scheduled by SCHED_DEADLINE, whose parameters CRIU does not write down: it cannot be restored",
    criu: &["{at the restore} Inconsistent sched params received (%d.%d.%d)"],
    source: "criu/cr-dump.c:dump_sched_info",
    versions: Versions::All,
    remedies: &[Remedy::Workload("give it another policy for the dump (chrt)")],
    phase: Phase::Restore,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (task, thread, _) in threads(ctx).filter(|(.., u)| u.policy & !SCHED_RESET_ON_FORK == SCHED_DEADLINE) {
            sink.push(on_thread(rule, task, thread));
        }
    },
};

pub(crate) static LOST_IO_PRIORITY: Rule = Rule {
    id: "lost-io-priority",
    summary: "An I/O priority (ionice): it is lost.",
    group: "Dumped, and lost",
    condition: "A thread has an I/O priority of its own (ionice): it is not in the images.",
    message: "I/O priority of class {class}, level {level}, which is lost",
    criu: &[],
    source: "criu/cr-dump.c:dump_sched_info",
    versions: Versions::All,
    remedies: &[Remedy::Workload("set it again after the restore (ionice)")],
    phase: Phase::Never,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (task, thread, unasked) in threads(ctx) {
            // IOPRIO_PRIO_CLASS and IOPRIO_PRIO_LEVEL (linux/ioprio.h).
            let class = match (unasked.ioprio >> 13) & 7 {
                0 => continue,
                1 => "realtime",
                2 => "best-effort",
                3 => "idle",
                _ => "unknown",
            };
            sink.push(on_thread(rule, task, thread).term("class", class).num("level", unasked.ioprio & 7));
        }
    },
};

pub(crate) static LOST_THREAD_OWN: Rule = Rule {
    id: "lost-thread-own",
    summary: "A thread with descriptors or a working directory of its own: they are lost.",
    group: "Dumped, and lost",
    condition: "A thread has a descriptor table, or a root and working directory, of its own (unshare or clone without CLONE_FILES, \
           CLONE_FS). CRIU looks at the first thread's only, and gives them to all threads of the process at the restore.",
    message: "the thread has {what?files-and-fs=a descriptor table, a root and a working directory|files=a descriptor table\
           |fs=a root and a working directory} of its own, which CRIU does not look at",
    criu: &[],
    source: "criu/cr-dump.c:dump_one_task",
    versions: Versions::All,
    remedies: &[Remedy::Workload("have the program share them between its threads")],
    phase: Phase::Never,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (task, thread, unasked) in threads(ctx) {
            let what = match (unasked.own_files, unasked.own_fs) {
                (true, true) => "files-and-fs",
                (true, false) => "files",
                (false, true) => "fs",
                (false, false) => continue,
            };
            sink.push(on_thread(rule, task, thread).term("what", what));
        }
    },
};

pub(crate) static LOST_NS_NESTED: Rule = Rule {
    id: "lost-ns-nested",
    summary: "A process in other namespaces than the root process, in a way that cannot be restored.",
    group: "Dumped, but not restored",
    condition: "A process lives in another namespace than the root process, in a way that CRIU dumps and does not restore: in a mount or \
           network namespace of its own while the root is in CRIU's (whose contents are not dumped then), or in CRIU's IPC, UTS, \
           user or time namespace while the root has one of its own.",
    message: "in the {kind} namespace {ino}[, which is {owner},] while the root is in another: it cannot be restored",
    criu: &["{at the restore} Can't restore sub-task in NS (cflags %lx)"],
    source: "criu/pstree.c:prepare_pstree_kobj_ids",
    versions: Versions::All,
    remedies: &[Remedy::Workload("dump a tree whose root has all the namespaces that its processes are in")],
    phase: Phase::Restore,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        type Of = fn(&Namespaces) -> Option<u64>;
        // CLONE_SUBNS (criu/include/namespaces.h): these may be nested in the root's own.
        const SUB: [(&str, Of); 2] = [("mount", |n| n.mnt), ("network", |n| n.net)];
        // Not cgroup: what comes of that is in `tasks::cgroup_restore`.
        const ONE: [(&str, Of); 4] =
            [("IPC", |n| n.ipc), ("UTS", |n| n.uts), ("user", |n| n.user), ("time", |n| n.time)];
        let criu = &ctx.snap.criu.ns;
        let mut add = |task: &Task, kind: &'static str, ino: u64, criu_has: bool| {
            // One namespace is one reason.
            let f = Finding::on_task(rule, task).key(format!("{kind}:{ino}")).term("kind", kind);
            let f = if criu_has { f.term("owner", "CRIU's") } else { f };
            sink.push(f.count("ino", ino));
        };
        for task in ctx.live_tasks() {
            for (kind, of) in SUB.into_iter().filter(|(_, of)| ctx.snap.root_shares(of) == Some(true)) {
                if let Some(ino) = of(&task.ns).filter(|ino| Some(*ino) != of(criu)) {
                    add(task, kind, ino, false);
                }
            }
            for (kind, of) in ONE.into_iter().filter(|(_, of)| ctx.snap.root_shares(of) == Some(false)) {
                if let Some(ino) = of(&task.ns).filter(|ino| Some(*ino) == of(criu)) {
                    add(task, kind, ino, true);
                }
            }
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::{Detail, OpenFile, Origin, WatchFacts};

    #[test]
    fn threads_with_what_criu_does_not_ask_for() {
        let mut s = snap(vec![]);
        let all = [&LOST_DEADLINE, &LOST_IO_PRIORITY, &LOST_THREAD_OWN];
        s.tasks[0].threads.push(Thread { tid: 101, ..Thread::default() });
        let one = |s: &crate::snapshot::Snapshot| all.map(|rule| found(rule, s, &host()).len());
        assert_eq!(one(&s), [0, 0, 0], "not looked at");
        s.tasks[0].threads[1].unasked = Some(UnsavedThreadState::default());
        assert_eq!(one(&s), [0, 0, 0]);
        let odd = UnsavedThreadState {
            policy: SCHED_DEADLINE | SCHED_RESET_ON_FORK,
            ioprio: 3 << 13,
            own_files: true,
            own_fs: false,
        };
        s.tasks[0].threads[1].unasked = Some(odd);
        assert_eq!(one(&s), [1, 1, 1]);
        let f = &found(&LOST_IO_PRIORITY, &s, &host())[0];
        assert_eq!((f.tid, f.verdict), (Some(101), Verdict::Warn));
    }

    #[test]
    fn descriptors() {
        let watch = WatchFacts { unread: Some(16), ..WatchFacts::default() };
        let watch = OpenFile { detail: Some(Box::new(Detail::Watch(watch))), ..file(3, 0, 5) };
        let mut other = watch.clone();
        other.origin = Origin::Fd(4);
        assert_eq!(
            found(&LOST_WATCH_EVENTS, &snap(vec![watch, other]), &host()).len(),
            2,
            "they share an inode, not the events"
        );
        let owned = |owner| snap(vec![OpenFile { owner: Some(owner), ..file(3, libc::S_IFSOCK, 9) }]);
        for (owner, count) in [(0, 0), (100, 0), (-100, 0), (7, 1), (-7, 1)] {
            let mut s = owned(owner);
            s.tasks[0].pgid = 100;
            assert_eq!(found(&LOST_SIGNAL_OWNER, &s, &host()).len(), count, "{owner}");
        }
    }

    #[test]
    fn namespaces() {
        let mut s = snap(vec![]);
        let criu = s.criu.ns;
        s.tasks[0].ns = criu;
        s.tasks.push(crate::snapshot::Task { ns: criu, ..task(101) });
        assert_eq!(found(&LOST_NS_NESTED, &s, &host()), []);
        s.tasks[1].ns.net = Some(77);
        assert_eq!(found(&LOST_NS_NESTED, &s, &host())[0].pid, 101);
        s.tasks[0].ns.net = Some(78);
        assert_eq!(found(&LOST_NS_NESTED, &s, &host()), [], "nested in the root's own");
        s.tasks[0].ns.uts = Some(79);
        assert_eq!(found(&LOST_NS_NESTED, &s, &host())[0].pid, 101);
        s.tasks[1].ns.uts = Some(79);
        s.tasks[0].ns.cgroup = Some(80);
        assert_eq!(found(&LOST_NS_NESTED, &s, &host()), []);
    }
}
