//! Descriptors opened with O_PATH of what has no path: CRIU takes them for the thing itself.

use crate::criu::Cap;
use crate::parse::nslink::{self, LinkTarget};
use crate::rules::{Evidence, Finding, Phase, Remedy, Rule, Versions, When};
use crate::snapshot::OpenFile;
use std::collections::HashSet;

fn is_o_path(file: &OpenFile) -> bool {
    file.flags.or_else(|| file.info.as_ref()?.flags).is_some_and(|f| f & libc::O_PATH as u32 != 0)
}

const INOTIFY: &str = "inotify instance";

pub(crate) static FD_O_PATH: Rule = Rule {
    id: "fd-o-path",
    summary: "A pipe, pidfd, eventfd or the like that was opened as a mere path (O_PATH).",
    group: "Pipes",
    condition: "A FIFO, a pipe, a pidfd, an eventfd, a signalfd, a timerfd, a fanotify group or (in a tree with a network namespace of \
           its own) /dev/net/tun was opened with O_PATH (all but the first and the last through /proc/PID/fd). CRIU takes the \
           descriptor for an ordinary one and asks it for what only such a one can tell. A FIFO or pipe passes if an ordinary \
           descriptor of it that reads comes first in the tree. An epoll instance is saved as an empty one; an inotify \
           instance too, but that cannot be restored, which is a warning.",
    message: "{what}[ {path}] opened with O_PATH, which CRIU takes for an ordinary descriptor of it[, {outcome?unrestorable=dumps it, and cannot restore it}]",
    criu: &["Can't obtain piped data size", "pidfd pid 0 is not a part of process tree..", "No records of type 12 found in fdinfo file", "Can't dump tun-file device: Bad file descriptor"],
    source: "criu/pipes.c:dump_one_pipe_data, criu/pidfd.c:dump_one_pidfd, criu/proc_parse.c:parse_fdinfo_pid_s, \
             criu/tun.c:dump_tunfile",
    versions: Versions::All,
    remedies: &[Remedy::Workload("close the descriptor before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        // Pipes whose content CRIU has by then.
        let mut dumped = HashSet::new();
        for (task, file) in ctx.files() {
            let what = if file.is_fifo() {
                let Some(flags) = file.flags.or_else(|| file.info.as_ref()?.flags) else { continue };
                if !is_o_path(file) {
                    if flags & libc::O_WRONLY as u32 == 0 {
                        dumped.insert((file.attr.dev, file.attr.ino));
                    }
                    continue;
                }
                if dumped.contains(&(file.attr.dev, file.attr.ino)) {
                    continue;
                }
                "pipe or FIFO"
            } else if is_o_path(file) && crate::rules::files::device::is_tun(file) {
                // Elsewhere it is tun-host-netns.
                if ctx.snap.root_shares(|ns| ns.net) != Some(false) {
                    continue;
                }
                "tun device"
            } else if is_o_path(file) {
                match file.link.as_ref().map(|l| nslink::parse(l)) {
                    Some(LinkTarget::PidFd(_)) if ctx.host.has(Cap::Pidfds) => "pidfd",
                    Some(LinkTarget::AnonInode(name)) if *name == *b"[pidfd]" && ctx.host.has(Cap::Pidfds) => "pidfd",
                    Some(LinkTarget::AnonInode(name)) if *name == *b"[fanotify]" => "fanotify group",
                    Some(LinkTarget::AnonInode(name)) if *name == *b"[eventfd]" => "eventfd",
                    Some(LinkTarget::AnonInode(name)) if *name == *b"[signalfd]" => "signalfd",
                    Some(LinkTarget::AnonInode(name)) if *name == *b"[timerfd]" => "timerfd",
                    Some(LinkTarget::AnonInode(name)) if *name == *b"inotify" => INOTIFY,
                    _ => continue,
                }
            } else {
                continue;
            };
            let mut f = Finding::on_file(rule, task, file).key(format!("fd:{}:{}", task.pid, file.origin)).term("what", what);
            if what == INOTIFY {
                f = f.unrestorable().term("outcome", "unrestorable");
            }
            sink.push(f);
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::Snapshot;

    fn opened(kind: u32, link: &str, flags: i32) -> OpenFile {
        let mut f = file(3, kind, 9);
        f.link = Some(link.into());
        f.flags = Some(flags as u32);
        f
    }

    fn judged(files: Vec<OpenFile>) -> Option<Verdict> {
        let s: Snapshot = snap(files);
        verdict(&FD_O_PATH, &s, &host())
    }

    #[test]
    fn of_what_has_no_path() {
        for (kind, link) in [
            (libc::S_IFIFO, "pipe:[9]"),
            (libc::S_IFIFO, "/run/fifo"),
            (libc::S_IFREG, "pidfd:[9]"),
            (0, "anon_inode:[pidfd]"),
            (0, "anon_inode:[fanotify]"),
            (0, "anon_inode:[timerfd]"),
            (0, "anon_inode:[eventfd]"),
            (0, "anon_inode:[signalfd]"),
        ] {
            assert_eq!(judged(vec![opened(kind, link, libc::O_PATH)]), Some(Verdict::Refuse), "{link}");
            assert_eq!(judged(vec![opened(kind, link, libc::O_RDWR)]), None, "{link}");
        }
        for (kind, link) in [(libc::S_IFREG, "/etc/passwd"), (libc::S_IFDIR, "/etc"), (0, "anon_inode:[eventpoll]")] {
            assert_eq!(judged(vec![opened(kind, link, libc::O_PATH)]), None, "{link}");
        }
        assert_eq!(judged(vec![opened(0, "anon_inode:inotify", libc::O_PATH)]), Some(Verdict::Unrestorable));
        assert_eq!(judged(vec![opened(0, "anon_inode:inotify", libc::O_RDONLY)]), None);
        let old = at_release(crate::criu::Release::V4_0);
        let pidfd = snap(vec![opened(0, "anon_inode:[pidfd]", libc::O_PATH)]);
        assert_eq!(verdict(&FD_O_PATH, &pidfd, &old), None);
    }

    #[test]
    fn of_a_tun_device() {
        let mut f = opened(libc::S_IFCHR, "/dev/net/tun", libc::O_PATH);
        f.attr.rdev = crate::snapshot::Dev { major: 10, minor: 200 };
        let mut s = snap(vec![f]);
        assert_eq!(verdict(&FD_O_PATH, &s, &host()), None, "that is tun-host-netns");
        s.tasks[0].ns.net = Some(9);
        assert_eq!(verdict(&FD_O_PATH, &s, &host()), Some(Verdict::Refuse));
        s.tasks[0].files[0].flags = Some(libc::O_RDWR as u32);
        assert_eq!(verdict(&FD_O_PATH, &s, &host()), None);
    }

    #[test]
    fn of_a_pipe_that_was_read_before() {
        let (o_path, pipe) = (libc::O_PATH, "pipe:[9]");
        let fd = |flags| opened(libc::S_IFIFO, pipe, flags);
        assert_eq!(judged(vec![fd(libc::O_RDONLY), fd(o_path)]), None);
        assert_eq!(judged(vec![fd(o_path), fd(libc::O_RDONLY)]), Some(Verdict::Refuse));
        assert_eq!(judged(vec![fd(libc::O_WRONLY), fd(o_path)]), Some(Verdict::Refuse));
    }
}
