//! Both directions of the rules for watches and for what an epoll waits on, on hand-made snapshots.

use super::path_tests::{at, REFUSE, TABLE, WARN};
use crate::criu::{Opt, Release};
use crate::parse::diag::Queues;
use crate::parse::fdinfo;
use crate::rules::files::epoll::EPOLL_ESCAPED;
use crate::rules::files::fsnotify::{FANOTIFY_MOUNT, INOTIFY_FORCE_IRMAP, INOTIFY_HANDLE, INOTIFY_TMPFS};
use crate::rules::testkit::*;
use crate::snapshot::{
    Detail, Dev, EpollEntry, EpollFacts, HandleAnswers, SearchAnswer, TargetHolders, UnixQueueFacts, Watch, WatchFacts,
};

#[test]
fn escaped_epoll_targets() {
    let epoll = |first, own| {
        let mut f = file(3, 0, 9);
        let holders = Some(TargetHolders { first, own });
        let entries = vec![EpollEntry { tfd: 7, sdev: 15, kept: false, holders }];
        f.detail = Some(Box::new(Detail::Epoll(EpollFacts { entries })));
        snap(vec![f])
    };
    assert_eq!(verdict(&EPOLL_ESCAPED, &epoll(None, None), &host()), REFUSE);
    assert_eq!(verdict(&EPOLL_ESCAPED, &epoll(Some((99, 5)), Some(8)), &host()), REFUSE);
    assert_eq!(verdict(&EPOLL_ESCAPED, &epoll(Some((100, 8)), Some(8)), &host()), None);
    // What is met in a queue first is not verified.
    let mut queue = epoll(None, None);
    let mut unread = unix(1, 2);
    unread.rqlen = Some(Queues { rqueue: 1, wqueue: 0 });
    queue.sockets = vec![crate::snapshot::SocketTable { unix: vec![unread], ..table() }];
    for (scm_fds, expected) in [(Some(0), REFUSE), (Some(1), WARN)] {
        queue.tasks[0].files.truncate(1);
        queue.tasks[0].files.push(socket_with(
            4,
            1,
            with_queue(UnixQueueFacts { scm_fds, ..UnixQueueFacts::default() }),
        ));
        assert_eq!(verdict(&EPOLL_ESCAPED, &queue, &host()), expected);
    }
}

#[test]
fn watches() {
    type Answers = (HandleAnswers, Option<SearchAnswer>);
    const NONE: HandleAnswers = HandleAnswers { path: false, no_path: false, unknown: false, deferred: false };
    const MISSED: SearchAnswer = SearchAnswer { found: false, partial: false, deferred: false };
    const PATH: Answers = (HandleAnswers { path: true, ..NONE }, None);
    const NO_PATH: Answers = (HandleAnswers { no_path: true, ..NONE }, None);
    const LOST: Answers = (HandleAnswers { no_path: true, ..NONE }, Some(MISSED));
    const NOWHERE: Answers = (NONE, Some(MISSED));
    const FOUND: Answers = (NONE, Some(SearchAnswer { found: true, ..MISSED }));
    const UNKNOWN: Answers = (HandleAnswers { unknown: true, ..NONE }, None);
    const LATER: Answers = (HandleAnswers { deferred: true, ..NONE }, None);
    let watch = |sdev: &str, (handle, search): Answers| {
        let line = format!(
            "inotify wd:1 ino:2b sdev:{sdev} mask:2 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:0011223344556677\n"
        );
        let mut f = file(3, 0, 9);
        f.info = Some(Box::new(fdinfo::parse(line.as_bytes())));
        let dev = Dev::from_sdev(u32::from_str_radix(sdev, 16).unwrap());
        let watches = vec![Watch { dev, ino: 0x2b, handle: Some(handle), search }];
        f.detail = Some(Box::new(Detail::Watch(WatchFacts { watches, unread: None })));
        at(snap(vec![f]), TABLE)
    };
    let (ext4, proc, tmpfs, overlay) = ("fe00000", "14", "15", "19");
    for (sdev, answers, by_handle, by_path) in [
        (ext4, PATH, None, None),
        (ext4, NO_PATH, None, None),
        (ext4, FOUND, None, None),
        (ext4, NOWHERE, REFUSE, None),
        (ext4, UNKNOWN, WARN, None),
        (ext4, LATER, None, None),
        (proc, NOWHERE, REFUSE, None),
        (overlay, NOWHERE, REFUSE, None),
        (tmpfs, PATH, None, None),
        (tmpfs, NO_PATH, None, REFUSE),
    ] {
        let s = watch(sdev, answers);
        assert_eq!(verdict(&INOTIFY_HANDLE, &s, &host()), by_handle, "{sdev} {answers:?}");
        assert_eq!(verdict(&INOTIFY_TMPFS, &s, &host()), by_path, "{sdev} {answers:?}");
    }
    assert_eq!(verdict(&INOTIFY_HANDLE, &watch(overlay, NOWHERE), &at_release(Release::V4_3)), None);
    assert_eq!(verdict(&INOTIFY_HANDLE, &watch(proc, NOWHERE), &at_release(Release::V4_3)), REFUSE);
    assert_eq!(verdict(&INOTIFY_HANDLE, &watch(ext4, NO_PATH), &unknown(Opt::ForceIrmap)), WARN);
    let force = with(Opt::ForceIrmap);
    for (sdev, forced, by_path) in [(ext4, REFUSE, None), (tmpfs, None, REFUSE)] {
        let lost = watch(sdev, LOST);
        assert_eq!(verdict(&INOTIFY_FORCE_IRMAP, &lost, &force), forced);
        assert_eq!(verdict(&INOTIFY_TMPFS, &lost, &force), by_path);
        assert_eq!(verdict(&INOTIFY_HANDLE, &lost, &force), None);
    }
    assert_eq!(verdict(&INOTIFY_FORCE_IRMAP, &watch(ext4, NO_PATH), &host()), None);
}

#[test]
fn mount_marks() {
    let mark = |mnt_id: u32| {
        let line = format!("fanotify mnt_id:{mnt_id:x} mflags:0 mask:2 ignored_mask:0\n");
        let mut f = file(3, 0, 9);
        f.info = Some(Box::new(fdinfo::parse(line.as_bytes())));
        at(snap(vec![f]), TABLE)
    };
    assert_eq!(verdict(&FANOTIFY_MOUNT, &mark(15), &host()), None);
    assert_eq!(verdict(&FANOTIFY_MOUNT, &mark(99), &host()), REFUSE);
}
