//! The state a process is in: dead, dying, stopped, out of descriptors.

use crate::criu::Cap;
use crate::rules::{Ctx, Evidence, Finding, Other, Phase, Remedy, Rule, Value, Versions, When};
use crate::snapshot::{Task, Thread};
use std::collections::HashMap;

/// SIGTRAP in a signal set of status: bit n-1 is signal n.
const SIGTRAP_BIT: u64 = 1 << (libc::SIGTRAP - 1);
/// SIGTSTP in the same.
const SIGTSTP_BIT: u64 = 1 << (libc::SIGTSTP - 1);
/// Free descriptors of the task that CRIU needs (measured on 4.1.1 to 4.3: with one it fails at the infection, with two
/// at the page dump). Of the root task it also reads the cgroup from inside (`parasite_dump_cgroup`): with three it fails there.
fn fds_needed(ctx: &Ctx, task: &Task) -> u64 {
    3 + u64::from(ctx.snap.root_task().is_some_and(|root| root.pid == task.pid))
}

/// The living threads of a process besides its first.
fn other_threads(task: &Task) -> impl Iterator<Item = &Thread> {
    task.threads.iter().filter(|t| t.tid != task.pid)
}

fn is_dead(thread: &Thread) -> bool {
    matches!(thread.state, 'Z' | 'X')
}

pub(crate) static ROOT_IS_DEAD: Rule = Rule {
    id: "root-is-dead",
    summary: "The process to be dumped has ended.",
    group: "Processes",
    condition: "The root of the tree has exited and is a zombie. (Zombies further down are dumped.)",
    message: "the root process has exited and its parent[, process {parent},] has not waited for it",
    criu: &["Unable to interrupt task: %d (%s)", "{with --freeze-cgroup} A root task is dead"],
    source: "criu/seize.c:collect_pstree, criu/cr-dump.c:dump_zombies",
    versions: Versions::All,
    remedies: &[Remedy::Workload(
        "name a process that is alive (see ps -ef: its children now have another parent), or start the program again",
    )],
    phase: Phase::Freezing,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        // With living threads it is the rule below.
        if let Some(root) = ctx.snap.root_task().filter(|t| t.is_zombie() && other_threads(t).all(is_dead)) {
            let parent = Some(root.ppid).filter(|ppid| *ppid > 0);
            let f = Finding::on_task(rule, root).fact_opt("parent", parent.map(|ppid| Value::Num(ppid.into())));
            sink.push(Finding { other: parent.map(Other::Process), ..f });
        }
    },
};

pub(crate) static LEADER_ZOMBIE_THREADS: Rule = Rule {
    id: "leader-zombie-threads",
    summary: "A process whose first thread has ended while others run.",
    group: "Processes",
    condition: "The first thread of a process has ended (pthread_exit in main) while others run on.",
    message: "its first thread has exited while {count} other(s) run",
    criu: &[
        "Zombies with threads are not supported",
        "{for the root task, as a warning} Unable to interrupt task: %d (%s)",
    ],
    source: "criu/seize.c:collect_threads",
    versions: Versions::All,
    remedies: &[Remedy::Workload(
        "have the program keep its first thread (join the others instead of pthread_exit in main)",
    )],
    phase: Phase::Freezing,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for task in ctx.snap.tasks.iter().filter(|t| t.is_zombie()) {
            let count = other_threads(task).filter(|t| !is_dead(t)).count();
            if count > 0 {
                sink.push(Finding::on_task(rule, task).fact("count", Value::Num(count as i64)));
            }
        }
    },
};

pub(crate) static THREAD_ZOMBIE: Rule = Rule {
    id: "thread-zombie",
    summary: "A thread that is just ending.",
    group: "Processes",
    condition: "A thread other than the first is dead at the moment CRIU seizes it. Threads that exit pass through that state; it \
           lasts where a tracer has not yet taken note.",
    message: "a thread has exited and is not gone yet",
    criu: &["Zombie thread not supported"],
    source: "criu/seize.c:collect_threads",
    versions: Versions::All,
    remedies: &[Remedy::Workload("dump again")],
    phase: Phase::Freezing,
    when: When::Volatile,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for task in ctx.live_tasks() {
            for thread in other_threads(task).filter(|t| is_dead(t)) {
                let f = Finding::on_task(rule, task).key(format!("thread:{}", thread.tid)).tid(thread.tid);
                sink.push(f);
            }
        }
    },
};

pub(crate) static ZOMBIE_WITH_CHILDREN: Rule = Rule {
    id: "zombie-with-children",
    summary: "A process that has ended and still has children.",
    group: "Processes",
    condition: "A process has exited and still has children. The kernel gives children away when the last thread ends, so that this \
           is seen only together with leader-zombie-threads or while a process is ending.",
    message: "has exited, but process {child} is still its child",
    criu: &["Zombie with children?! O_o Run, run, run!"],
    source: "criu/seize.c:collect_task",
    versions: Versions::All,
    remedies: &[Remedy::Workload("dump again")],
    phase: Phase::Freezing,
    when: When::Volatile,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        let others = ctx.snap.tasks.iter().rev().filter(|c| c.ppid != c.pid);
        let children: HashMap<i32, i32> = others.map(|child| (child.ppid, child.pid)).collect();
        for task in ctx.snap.tasks.iter().filter(|t| t.is_zombie() && other_threads(t).all(is_dead)) {
            if let Some(child) = children.get(&task.pid) {
                sink.push(Finding::on_task(rule, task).num("child", *child));
            }
        }
    },
};

pub(crate) static PENDING_SIGTRAP: Rule = Rule {
    id: "pending-sigtrap",
    summary: "A process with a pending SIGTRAP, which CRIU needs for itself.",
    group: "Processes",
    condition: "SIGTRAP is pending for a thread or its process (blocked, mostly): the parasite's could not be distinguished \
           from it. While the tree runs, only a signal that is blocked, or that of a stopped process, is sure to stay: another is a \
           warning then.",
    message: "SIGTRAP is pending[, {doubt?taken=and not blocked: it is about to be taken}]",
    criu: &["Can't dump the %d thread with a pending SIGTRAP."],
    source: "compel/src/lib/infect.c:compel_wait_task",
    versions: Versions::All,
    remedies: &[Remedy::Workload("have the program take the signal (unblock SIGTRAP)")],
    phase: Phase::Freezing,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for task in ctx.live_tasks() {
            let shared = task.shd_pnd & SIGTRAP_BIT != 0;
            if let Some(thread) = task.threads.iter().find(|t| shared || t.sig_pnd & SIGTRAP_BIT != 0) {
                let mut f = Finding::on_task(rule, task);
                if thread.tid != task.pid {
                    f = f.tid(thread.tid);
                }
                if !ctx.frozen() && !stays_pending(task, thread, shared) {
                    sink.push(f.term("doubt", "taken").doubt());
                } else {
                    sink.push(f);
                }
            }
        }
    },
};

/// Whether a running process will not take the signal: a stopped one takes none, and one of all threads is taken by any that does
/// not block it (`complete_signal`, kernel/signal.c).
fn stays_pending(task: &Task, thread: &Thread, shared: bool) -> bool {
    let blocks = |t: &Thread| t.sig_blk & SIGTRAP_BIT != 0;
    let own = thread.sig_pnd & SIGTRAP_BIT != 0 && blocks(thread);
    task.state == 'T' || own || (shared && task.threads.iter().filter(|t| !is_dead(t)).all(blocks))
}

pub(crate) static STOP_SIGNAL_UNSUPPORTED: Rule = Rule {
    id: "stop-signal-unsupported",
    summary: "A process stopped by another signal than CRIU knows: a background job of a terminal.",
    group: "Processes",
    condition: "A process is stopped by SIGTTIN or SIGTTOU (a background job that asked for its terminal), with 3.17 also by \
           SIGTSTP (Ctrl-Z). CRIU knows SIGSTOP and, since 3.18, SIGTSTP. Which signal it was the kernel tells until the \
           parent has waited for the stop, as shells do; then it is only a warning, for stopped jobs in the background of a \
           terminal.",
    message: "stopped [by {signal}][in the background of its {terminal}]: CRIU accepts only {accepted}",
    criu: &["SEIZE %d: unsupported stop signal %d"],
    source: "compel/src/lib/infect.c:compel_wait_task",
    versions: Versions::All,
    remedies: &[Remedy::Workload("bring the job to the foreground (fg), or continue it if it does not want the terminal any more (kill -CONT {pid})")],
    phase: Phase::Freezing,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        // Seized already: the signal was one that CRIU knows.
        if ctx.frozen() {
            return;
        }
        let newer = ctx.host.has(Cap::StopSignals);
        let accepted = if newer { "SIGSTOP and SIGTSTP" } else { "SIGSTOP" };
        for task in ctx.live_tasks().filter(|t| t.state == 'T') {
            let f = Finding::on_task(rule, task).term("accepted", accepted);
            let signal = match task.stop_signal {
                libc::SIGTTIN => "SIGTTIN",
                libc::SIGTTOU => "SIGTTOU",
                libc::SIGTSTP if !newer => "SIGTSTP",
                0 if task.tty_nr != 0 && task.pgid != task.tpgid => {
                    sink.push(f.term("terminal", "terminal").doubt());
                    continue;
                }
                _ => continue,
            };
            // CRIU then takes it for stopped by that one.
            let other = task.threads.iter().fold(task.shd_pnd, |all, t| all | t.sig_pnd) & SIGTSTP_BIT != 0;
            let f = f.term("signal", signal);
            sink.push(if other { f.doubt() } else { f });
        }
    },
};

pub(crate) static FD_TABLE_FULL: Rule = Rule {
    id: "fd-table-full",
    summary: "A process that has used up its descriptors, so that CRIU gets none.",
    group: "Processes",
    condition: "The process has fewer than three descriptors (the root task: four) free below its own RLIMIT_NOFILE: CRIU's code in \
           the process needs two to be put there at all, a third until all is handed over, and in the root task one more to \
           read its cgroup.",
    message: "{used} descriptors of at most {limit} (soft RLIMIT_NOFILE) are in use, CRIU needs {needed} free ones",
    criu: &["Can't create memfd in victim", "Can't infect (pid: %d) with parasite", "Command 66 for daemon failed with -1", "can't get /proc/self/cgroup fd"],
    source: "compel/src/lib/infect.c:parasite_memfd_exchange, criu/mem.c:__parasite_dump_pages_seized, \
             criu/pie/parasite.c:parasite_get_proc_fd",
    versions: Versions::All,
    remedies: &[Remedy::Workload("raise the limit of the running process: prlimit --pid {pid} --nofile={enough}:")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Process,
    find: |rule, ctx, sink| {
        for task in ctx.live_tasks() {
            let Some(limit) = task.nofile else { continue };
            let used = used_below(ctx, task, limit);
            let needed = fds_needed(ctx, task);
            if limit.saturating_sub(used) < needed {
                let number = |n: u64| Value::Num(i64::try_from(n).unwrap_or(i64::MAX));
                let f = Finding::on_task(rule, task)
                    .fact("used", number(used))
                    .fact("limit", number(limit))
                    .fact("needed", number(needed))
                    .fact("enough", number(limit.max(used).saturating_add(64)));
                sink.push(f);
            }
        }
    },
};

/// Descriptors in use that count against the limit: a lowered limit leaves higher ones open.
fn used_below(ctx: &Ctx, task: &Task, limit: u64) -> u64 {
    let owner = task.files_of.and_then(|pid| ctx.index.task(pid)).unwrap_or(task);
    owner.files.iter().filter_map(|f| u64::try_from(f.fd()?).ok()).filter(|fd| *fd < limit).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::criu::Release;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::{Origin, ScanPhase, Snapshot};

    fn early() -> Snapshot {
        Snapshot { look: ScanPhase::Early, ..snap(vec![]) }
    }

    fn thread(tid: i32, state: char) -> Thread {
        Thread { tid, state, ..Thread::default() }
    }

    #[test]
    fn zombies() {
        let mut s = early();
        let mut child = task(101);
        child.ppid = 100;
        child.state = 'Z';
        child.threads[0].state = 'Z';
        s.tasks.push(child);
        for rule in [&ROOT_IS_DEAD, &LEADER_ZOMBIE_THREADS, &THREAD_ZOMBIE, &ZOMBIE_WITH_CHILDREN] {
            assert_eq!(verdict(rule, &s, &host()), None, "a zombie in the tree is fine");
        }
        // Threads of its that are dying too.
        s.tasks[1].threads.push(thread(102, 'X'));
        assert_eq!(verdict(&LEADER_ZOMBIE_THREADS, &s, &host()), None);
        s.tasks[1].threads.push(thread(103, 'S'));
        assert_eq!(verdict(&LEADER_ZOMBIE_THREADS, &s, &host()), Some(Verdict::Refuse));
        s.tasks[0].state = 'Z';
        assert_eq!(verdict(&ROOT_IS_DEAD, &s, &host()), Some(Verdict::Refuse));
        assert_eq!(verdict(&ZOMBIE_WITH_CHILDREN, &s, &host()), Some(Verdict::Warn), "volatile");
        s.tasks[0].threads.push(thread(104, 'S'));
        assert_eq!(verdict(&ROOT_IS_DEAD, &s, &host()), None, "leader-zombie-threads says it");
        assert_eq!(verdict(&ZOMBIE_WITH_CHILDREN, &s, &host()), None);
    }

    #[test]
    fn a_dead_thread_is_for_the_frozen_look() {
        let mut s = early();
        s.tasks[0].threads.push(thread(101, 'S'));
        assert_eq!(verdict(&THREAD_ZOMBIE, &s, &host()), None);
        s.tasks[0].threads.push(thread(102, 'Z'));
        assert_eq!(verdict(&THREAD_ZOMBIE, &s, &host()), Some(Verdict::Warn));
        s.look = ScanPhase::Frozen;
        let f = found(&THREAD_ZOMBIE, &s, &host());
        assert_eq!((f[0].verdict, f[0].tid), (Verdict::Refuse, Some(102)));
    }

    #[test]
    fn sigtrap_of_a_thread_or_of_all() {
        let mut s = early();
        s.tasks[0].threads.push(thread(101, 'S'));
        s.tasks[0].shd_pnd = !SIGTRAP_BIT;
        assert_eq!(verdict(&PENDING_SIGTRAP, &s, &host()), None);
        s.tasks[0].threads[1].sig_pnd = 1 << 4;
        assert_eq!(found(&PENDING_SIGTRAP, &s, &host())[0].tid, Some(101));
        s.tasks[0].shd_pnd = 1 << 4;
        s.tasks[0].threads.iter_mut().for_each(|t| t.sig_blk = 1 << 4);
        let f = found(&PENDING_SIGTRAP, &s, &host());
        assert_eq!((f.len(), f[0].tid, f[0].verdict), (1, None, Verdict::Refuse));
    }

    #[test]
    fn a_signal_that_is_about_to_be_taken_is_for_the_frozen_look() {
        let mut s = early();
        s.tasks[0].threads.push(thread(101, 'S'));
        let blocked = |s: &mut Snapshot, by: [bool; 2]| {
            s.tasks[0].threads.iter_mut().zip(by).for_each(|(t, by)| t.sig_blk = u64::from(by) << 4);
        };
        let verdict = |s: &Snapshot| verdict(&PENDING_SIGTRAP, s, &host());
        s.tasks[0].threads[1].sig_pnd = SIGTRAP_BIT;
        assert_eq!(verdict(&s), Some(Verdict::Warn));
        blocked(&mut s, [true, false]);
        assert_eq!(verdict(&s), Some(Verdict::Warn), "by another thread");
        blocked(&mut s, [false, true]);
        assert_eq!(verdict(&s), Some(Verdict::Refuse));
        (s.tasks[0].shd_pnd, s.tasks[0].threads[1].sig_pnd) = (SIGTRAP_BIT, 0);
        assert_eq!(verdict(&s), Some(Verdict::Warn), "the first thread takes it");
        s.tasks[0].threads[0].state = 'Z';
        assert_eq!(verdict(&s), Some(Verdict::Refuse));
        blocked(&mut s, [false, false]);
        assert_eq!(verdict(&s), Some(Verdict::Warn));
        s.tasks[0].state = 'T';
        assert_eq!(verdict(&s), Some(Verdict::Refuse));
        s.tasks[0].state = 'S';
        s.look = ScanPhase::Frozen;
        assert_eq!(verdict(&s), Some(Verdict::Refuse));
    }

    #[test]
    fn stopped_jobs_of_the_background() {
        let mut s = early();
        s.tasks[0].state = 'T';
        assert_eq!(verdict(&STOP_SIGNAL_UNSUPPORTED, &s, &host()), None, "no terminal: it was SIGSTOP");
        s.tasks[0].tty_nr = 0x8800;
        s.tasks[0].tpgid = 7;
        assert_eq!(verdict(&STOP_SIGNAL_UNSUPPORTED, &s, &host()), Some(Verdict::Warn));
        s.tasks[0].tpgid = s.tasks[0].pgid;
        assert_eq!(verdict(&STOP_SIGNAL_UNSUPPORTED, &s, &host()), None);
        s.tasks[0].tpgid = 7;
        s.look = ScanPhase::Frozen;
        assert_eq!(verdict(&STOP_SIGNAL_UNSUPPORTED, &s, &host()), None);
    }

    #[test]
    fn stopped_by_a_signal_that_the_kernel_tells() {
        let mut s = early();
        s.tasks[0].state = 'T';
        // In the background of a terminal, which says nothing where the signal does.
        (s.tasks[0].tty_nr, s.tasks[0].tpgid) = (0x8800, 7);
        let old = at_release(Release::V3_17);
        for (signal, newer, older) in [
            (libc::SIGSTOP, None, None),
            (libc::SIGTSTP, None, Some(Verdict::Refuse)),
            (libc::SIGTTIN, Some(Verdict::Refuse), Some(Verdict::Refuse)),
            (libc::SIGTTOU, Some(Verdict::Refuse), Some(Verdict::Refuse)),
        ] {
            s.tasks[0].stop_signal = signal;
            let verdicts =
                (verdict(&STOP_SIGNAL_UNSUPPORTED, &s, &host()), verdict(&STOP_SIGNAL_UNSUPPORTED, &s, &old));
            assert_eq!(verdicts, (newer, older), "{signal}");
        }
        s.tasks[0].shd_pnd = SIGTSTP_BIT;
        assert_eq!(verdict(&STOP_SIGNAL_UNSUPPORTED, &s, &host()), Some(Verdict::Warn), "CRIU sees the other one");
    }

    #[test]
    fn free_descriptors_below_the_limit() {
        let mut s = snap((0..8).map(|fd| file(fd, libc::S_IFREG, 5)).collect());
        for (limit, refused) in [(None, false), (Some(12), false), (Some(11), true), (Some(8), true), (Some(4), true)] {
            s.tasks[0].nofile = limit;
            assert_eq!(verdict(&FD_TABLE_FULL, &s, &host()).is_some(), refused, "{limit:?}");
        }
        // Descriptors above a lowered limit take no room below it.
        for (fd, f) in s.tasks[0].files.iter_mut().enumerate() {
            f.origin = Origin::Fd(100 + fd as i32);
        }
        s.tasks[0].nofile = Some(4);
        assert_eq!(verdict(&FD_TABLE_FULL, &s, &host()), None);
        // A shared table is listed with the first of its owners; each has a limit of its own.
        let mut s = snap((0..8).map(|fd| file(fd, libc::S_IFREG, 5)).collect());
        let mut sharer = task(101);
        (sharer.files_of, sharer.nofile) = (Some(100), Some(10));
        s.tasks.push(sharer);
        assert_eq!(found(&FD_TABLE_FULL, &s, &host())[0].pid, 101);
    }
}
