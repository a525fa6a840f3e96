//! File locks and leases.

use crate::criu::Opt;
use crate::criu_model::queued::met_in_queues;
use crate::parse::locks::{Lock, LockAccess, LockKind};
use crate::rules::sockets::unix_queue;
use crate::rules::{Evidence, Finding, Other, Phase, Remedy, Rule, Sink, Value, Versions, When};
use crate::snapshot::{OpenFile, Task};

/// The locks that fdinfo shows for a descriptor: those the kernel holds against this very open file (or, for POSIX
/// locks, against this descriptor table): fs/locks.c:show_fd_locks.
fn held(file: &OpenFile) -> impl Iterator<Item = &Lock> {
    file.info.iter().flat_map(|i| &i.locks).filter(|l| !l.blocked)
}

fn kind(lock: &Lock) -> Option<&'static str> {
    Some(match lock.kind {
        LockKind::Posix => "POSIX",
        LockKind::Flock => "flock",
        LockKind::Ofd => "OFD",
        LockKind::Lease => "lease",
        _ => return None,
    })
}

fn access(lock: &Lock) -> &'static str {
    match lock.access {
        LockAccess::Read => "read",
        LockAccess::Write => "write",
        LockAccess::Unlock | LockAccess::Other(_) => "breaking",
    }
}

fn finding(rule: &Rule, task: &Task, file: &OpenFile, lock: &Lock) -> Finding {
    let range = match (lock.start, lock.end) {
        (0, None) => None,
        (start, None) => Some(format!("{start}-EOF")),
        (start, Some(end)) => Some(format!("{start}-{end}")),
    };
    let mut f = Finding::on_file(rule, task, file)
        .key(format!(
            "lock:{}:{}:{}:{:?}:{}",
            file.attr.dev.major, file.attr.dev.minor, file.attr.ino, lock.kind, lock.start
        ))
        .term("access", access(lock))
        .fact_opt("bytes", range.map(|r| Value::Term(r.into())));
    if let Some(pid) = lock.pid.and_then(|p| i32::try_from(p).ok()).filter(|p| *p > 0 && *p != task.pid) {
        f = f.num("owner", pid).other(Other::Process(pid));
    }
    f
}

pub(crate) static LOCK_NOT_ALLOWED: Rule = Rule {
    id: "lock-not-allowed",
    summary: "A file lock, which CRIU saves only with an option.",
    group: "File locks",
    condition: "A file lock or lease is held through a descriptor of the tree (a `lock:` line in its fdinfo) and --file-locks is \
           not given. A lock that an outsider holds through an open file of its own does not count; one on an open file \
           that the tree shares with an outsider does, and a POSIX lock does not count if a process that is dumped before has the \
           same open file (a child has taken it on what it inherited: CRIU loses it). CRIU forgets the locks of an open file that it meets first in a socket's \
           queue: while queues have not been looked into, this is a warning.",
    message: "{access} {kind} lock[ of bytes {bytes}] on {path}[, taken by process {owner}]",
    criu: &["Some file locks are hold by dumping tasks! You can try --file-locks to dump them."],
    source: "criu/file-lock.c:dump_file_locks (kernels before 4.1: note_file_lock)",
    versions: Versions::All,
    remedies: &[Remedy::Option(Opt::FileLocks), Remedy::Workload("release the lock before the dump")],
    phase: Phase::AfterTasks,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink: &mut Sink| {
        let queued = met_in_queues(ctx.snap);
        let mut hidden = None;
        for (task, file) in ctx.files().filter(|(t, f)| f.fd().is_some_and(|fd| !queued.contains(&(t.pid, fd)))) {
            for lock in held(file).filter(|l| !(file.earlier_holder.is_some() && l.kind == LockKind::Posix)) {
                if let Some(kind) = kind(lock) {
                    let hidden = *hidden.get_or_insert_with(|| unix_queue::may_hold_descriptors(ctx));
                    let f = finding(rule, task, file, lock).term("kind", kind);
                    sink.push(if hidden { f.doubt() } else { f });
                }
            }
        }
    },
};

pub(crate) static LOST_FILE_LOCK: Rule = Rule {
    id: "lost-file-lock",
    summary: "A file lock on a file that is shared with a parent, or lies in a socket's queue: it is lost.",
    group: "Dumped, and lost",
    condition: "A POSIX lock that a process has taken on an open file it shares with one that is dumped before (a child, on what it \
           inherited), or any lock on an open file that CRIU meets in a socket's queue first: with --file-locks or without, the lock \
           is not in the images.",
    message: "{access} {kind} lock[ of bytes {bytes}] on {path}, which is lost: CRIU meets the open file in {where?queue=a socket's queue|process=another process} first",
    criu: &[],
    source: "criu/file-lock.c:discard_dup_locks_tail",
    versions: Versions::All,
    remedies: &[Remedy::Workload("release the lock before the dump, or have the process open the file itself and take it there")],
    phase: Phase::Never,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        let queued = met_in_queues(ctx.snap);
        for (task, file, fd) in ctx.files().filter_map(|(t, f)| Some((t, f, f.fd()?))) {
            let in_queue = queued.contains(&(task.pid, fd));
            for lock in held(file).filter(|l| in_queue || (file.earlier_holder.is_some() && l.kind == LockKind::Posix)) {
                let place = if in_queue { "queue" } else { "process" };
                if let Some(kind) = kind(lock) {
                    sink.push(finding(rule, task, file, lock).term("kind", kind).term("where", place));
                }
            }
        }
    },
};

pub(crate) static LOCK_KIND: Rule = Rule {
    id: "lock-kind",
    summary: "A file lock of a kind CRIU does not know, as NFS servers take.",
    group: "File locks",
    condition:
        "A lock of another class than POSIX, flock, OFD or lease (a delegation or a layout of an NFS server, an access \
           lock) is held through a descriptor of the tree.",
    message: "{access} lock of class {class} on {path}",
    criu: &["Unknown file lock!"],
    source: "criu/proc_parse.c:parse_file_lock_buf",
    versions: Versions::All,
    remedies: &[Remedy::Workload("close the file before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (task, file) in ctx.files() {
            for lock in held(file) {
                let class = match &lock.kind {
                    LockKind::Deleg => "DELEG".into(),
                    LockKind::Layout => "LAYOUT".into(),
                    LockKind::Access => "ACCESS".into(),
                    LockKind::Other(text) => text.clone(),
                    _ => continue,
                };
                sink.push(finding(rule, task, file, lock).fact("class", Value::Text(class)));
            }
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::{fdinfo::FdInfo, locks};
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::Snapshot;

    fn locked(lines: &[&str]) -> Snapshot {
        let mut f = file(3, libc::S_IFREG, 12);
        f.link = Some("/var/run/x.pid".into());
        let locks = lines.iter().map(|l| locks::line(l.as_bytes()).unwrap()).collect();
        f.info = Some(Box::new(FdInfo { locks, ..FdInfo::default() }));
        snap(vec![f])
    }

    #[test]
    fn every_kind_needs_the_option() {
        for line in [
            "1: POSIX  ADVISORY  WRITE 100 08:01:12 0 EOF",
            "1: FLOCK  ADVISORY  READ 100 08:01:12 0 EOF",
            "1: OFDLCK ADVISORY  WRITE -1 08:01:12 4 9",
            "1: LEASE  ACTIVE    READ 100 08:01:12 0 EOF",
        ] {
            let s = locked(&[line]);
            assert_eq!(verdict(&LOCK_NOT_ALLOWED, &s, &host()), Some(Verdict::Refuse), "{line}");
            assert_eq!(verdict(&LOCK_NOT_ALLOWED, &s, &with(Opt::FileLocks)), None, "{line}");
            assert_eq!(verdict(&LOCK_NOT_ALLOWED, &s, &unknown(Opt::FileLocks)), Some(Verdict::Warn), "{line}");
            assert_eq!(verdict(&LOCK_KIND, &s, &host()), None, "{line}");
        }
        assert_eq!(
            verdict(&LOCK_NOT_ALLOWED, &locked(&["1: -> FLOCK  ADVISORY  WRITE 100 08:01:12 0 EOF"]), &host()),
            None
        );
        assert_eq!(verdict(&LOCK_NOT_ALLOWED, &locked(&[]), &host()), None);
    }

    #[test]
    fn what_a_child_took_on_an_inherited_file_is_forgotten() {
        for (line, expect) in [
            ("1: POSIX  ADVISORY  WRITE 100 08:01:12 0 EOF", None),
            ("1: FLOCK  ADVISORY  READ 100 08:01:12 0 EOF", Some(Verdict::Refuse)),
        ] {
            let mut s = locked(&[line]);
            s.tasks[0].files[0].earlier_holder = Some(99);
            assert_eq!(verdict(&LOCK_NOT_ALLOWED, &s, &host()), expect, "{line}");
            let lost = expect.is_none().then_some(Verdict::Warn);
            for host in [&host(), &with(Opt::FileLocks)] {
                assert_eq!(verdict(&LOST_FILE_LOCK, &s, host), lost, "{line}");
            }
        }
    }

    #[test]
    fn other_classes_are_not_lifted() {
        let s = locked(&["1: DELEG  ACTIVE    READ 100 08:01:12 0 EOF"]);
        assert!(verdict(&LOCK_KIND, &s, &with(Opt::FileLocks)).is_some());
        assert_eq!(verdict(&LOCK_NOT_ALLOWED, &s, &host()), None);
    }

    #[test]
    fn who_took_it() {
        let f = found(&LOCK_NOT_ALLOWED, &locked(&["1: FLOCK  ADVISORY  WRITE 77 08:01:12 0 EOF"]), &host());
        assert_eq!(f.first().and_then(|f| f.other.clone()), Some(Other::Process(77)));
    }
}
