//! Descriptors that are nowhere but in the queue of a UNIX socket, and whose restore goes on under a number that is closed by then.
//!
//! CRIU opens such a file in the process that has the socket, under a free number, sends it, and closes it. Timers are set, events
//! read, and watches added by number later (criu/pie/restorer.c, criu/eventpoll.c).

use crate::rules::{Evidence, Finding, Phase, Remedy, Rule, Versions, When};
use crate::snapshot::{OpenFile, Task};

pub(crate) static QUEUE_ONLY_FD: Rule = Rule {
    id: "queue-only-fd",
    summary: "A timerfd, inotify or epoll descriptor that is in the queue of a UNIX socket and nowhere else.",
    group: "Dumped, but not restored",
    condition: "A timerfd, inotify or epoll descriptor was sent over a UNIX socket (SCM_RIGHTS) and not received, and no process of the tree has \
           it any more. Of an epoll descriptor that is so if a number that it watches is closed in the process that has the socket, \
           and smaller than one that is open there (CRIU takes larger ones for what it closes again).",
    message: "{kind} descriptor in the queue of a socket, which no process has open: the restore \
           {kind?timerfd=sets the timer|inotify=reads its events|epoll=adds what was descriptor {tfd} to it} by a number that is closed by then",
    criu: &[
        "{at the restore} Can't restore ticks/time for timerfd - %d",
        "{at the restore} Failed to read inotify events",
        "{at the restore} Can't add event on %#08x: Bad file descriptor",
    ],
    source: "criu/pie/restorer.c:timerfd_arm, cleanup_inotify_events, criu/eventpoll.c:eventpoll_retore_tfd",
    versions: Versions::All,
    remedies: &[Remedy::Workload("let the program receive it before the dump")],
    phase: Phase::Restore,
    when: When::Frozen,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        for (task, file) in ctx.files() {
            if !file.queued().is_some_and(|queued| queued.later.is_empty()) {
                continue;
            }
            let f = || Finding::on_file(rule, task, file).key(format!("queued:{}:{}", task.pid, file.origin));
            match file.link.as_deref() {
                Some(b"anon_inode:[timerfd]") => sink.push(f().term("kind", "timerfd")),
                Some(b"anon_inode:inotify") => sink.push(f().term("kind", "inotify")),
                Some(b"anon_inode:[eventpoll]") => {
                    // Who has the socket opens it.
                    let at = file.queued().filter(|q| q.path.len() == 1);
                    let socket = at.and_then(|q| task.files.iter().find(|f| f.fd() == Some(q.fd)));
                    let alone = socket.is_some_and(|s| ctx.index.socket_holders(s.attr.ino).all(|(t, _)| t.pid == task.pid));
                    if let Some(tfd) = closed(task, file).filter(|_| alone) {
                        sink.push(f().term("kind", "epoll").num("tfd", tfd));
                    }
                }
                _ => {}
            }
        }
    },
};

/// A watched number below the process's largest that is not open in it.
fn closed(task: &Task, epoll: &OpenFile) -> Option<i32> {
    let most = task.files.iter().filter_map(OpenFile::fd).max()?;
    let open = |n: i32| task.files.iter().any(|f| f.fd() == Some(n));
    let watched = epoll.info.iter().flat_map(|info| &info.epoll).map(|item| item.tfd);
    watched.into_iter().find(|tfd| *tfd < most && !open(*tfd))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::fdinfo::{EpollItem, FdInfo};
    use crate::rules::testkit::{file, host, snap, socket, verdict};
    use crate::rules::Verdict;
    use crate::snapshot::{Origin, Queued};

    fn queued(link: &str, later: Vec<(i32, i32)>) -> OpenFile {
        let at = Queued { fd: 5, path: vec![1], later, nth: 0 };
        OpenFile { origin: Origin::Queued(Box::new(at)), link: Some(link.into()), ..file(0, 0, 9) }
    }

    #[test]
    fn what_is_in_a_queue_alone() {
        let unrestorable = Some(Verdict::Unrestorable);
        for (link, expect) in [
            ("anon_inode:[timerfd]", unrestorable),
            ("anon_inode:inotify", unrestorable),
            ("anon_inode:[eventfd]", None),
            ("/etc/passwd", None),
        ] {
            let s = snap(vec![socket(5, 7), queued(link, vec![])]);
            assert_eq!(verdict(&QUEUE_ONLY_FD, &s, &host()), expect, "{link}");
            let s = snap(vec![socket(5, 7), queued(link, vec![(100, 3)])]);
            assert_eq!(verdict(&QUEUE_ONLY_FD, &s, &host()), None, "{link}");
        }
        let mut plain = file(3, 0, 9);
        plain.link = Some("anon_inode:[timerfd]".into());
        assert_eq!(verdict(&QUEUE_ONLY_FD, &snap(vec![plain]), &host()), None);
    }

    #[test]
    fn an_epoll_whose_target_is_closed() {
        for (tfd, expect) in [(4, Some(Verdict::Unrestorable)), (5, None), (6, None)] {
            let mut epoll = queued("anon_inode:[eventpoll]", vec![]);
            let item = EpollItem { tfd, events: 1, data: 0, target: None };
            epoll.info = Some(Box::new(FdInfo { epoll: vec![item], ..FdInfo::default() }));
            assert_eq!(verdict(&QUEUE_ONLY_FD, &snap(vec![socket(5, 7), epoll]), &host()), expect, "{tfd}");
        }
    }
}
