use super::*;
use crate::criu_model::epoll::{unresolved, UnresolvedEpollTarget, UnresolvedReason};
use crate::criu_model::queued::met_in_queues;
use crate::parse::fdinfo::{EpollTarget, FdInfo};
use crate::rules::testkit::{file, snap, task, with_attr};
use crate::snapshot::{Dev, Origin, Queued};
use std::cell::Cell;

/// The device of anonymous inodes: small enough for CRIU to read it right.
const DEV: Dev = Dev { major: 0, minor: 15 };
const INO: u64 = 77;
const EPOLL: i32 = 3;

/// A descriptor of the one inode of all eventfds.
fn event(fd: i32) -> OpenFile {
    with_attr(file(fd, 0, INO), |a| a.dev = DEV)
}

/// An epoll descriptor with these numbers in it.
fn epoll(watched: impl IntoIterator<Item = i32>) -> OpenFile {
    let target = Some(EpollTarget { pos: 0, ino: INO, sdev: 15 });
    let item = |tfd| EpollItem { tfd, events: 1, data: 0, target: target.clone() };
    let info = FdInfo { epoll: watched.into_iter().map(item).collect(), ..FdInfo::default() };
    OpenFile { link: Some("anon_inode:[eventpoll]".into()), info: Some(Box::new(info)), ..event(EPOLL) }
}

/// A made-up kernel: what file a descriptor is, what file an entry watches.
struct Fake<'a> {
    file: &'a dyn Fn(Fd) -> Seen<u64>,
    watched: &'a dyn Fn(u32, u32) -> Seen<u64>,
}

/// What CRIU does not find, how many questions of both kinds it took, and what could not be asked.
fn ask(snap: &Snapshot, fake: &Fake) -> (Vec<(Place, Vec<UnresolvedEpollTarget>)>, usize, usize, usize) {
    let (compared, targets) = (Cell::new(0), Cell::new(0));
    let pair = |a: Seen<u64>, b: Seen<u64>| match (a, b) {
        (Seen::Seen(a), Seen::Seen(b)) => Seen::Seen(a.cmp(&b)),
        (Seen::Seen(_), failed) | (failed, _) => failed.map(|_| Ordering::Equal),
    };
    let files = |a: Fd, b: Fd| {
        compared.set(compared.get() + 1);
        pair((fake.file)(a), (fake.file)(b))
    };
    let target = |fd: Fd, _: Fd, tfd: u32, toff: u32| {
        targets.set(targets.get() + 1);
        pair((fake.file)(fd), (fake.watched)(tfd, toff))
    };
    let mut log = UncheckedList::default();
    let found = all(snap, &Kernel { files: &files, target: &target }, &mut log).into_iter();
    let queued = met_in_queues(snap);
    let lost = found.map(|((t, f), entries)| {
        let file = &snap.tasks[t].files[f];
        let detail = Some(Box::new(Detail::Epoll(EpollFacts { entries })));
        ((t, f), unresolved(&snap.tasks[t], &OpenFile { detail, ..file.clone() }, &queued))
    });
    let lost: Vec<_> = lost.filter(|(_, lost)| !lost.is_empty()).collect();
    (lost, compared.get(), targets.get(), log.0.len())
}

/// Every number means the file of that number, but for those given.
fn plain(fd: Fd) -> Seen<u64> {
    Seen::Seen(u64::from(fd.1.unsigned_abs()) * 1000)
}

fn watched(tfd: u32, _: u32) -> Seen<u64> {
    Seen::Seen(u64::from(tfd) * 1000)
}

fn escape(tfd: u32, moved: Option<u32>, reason: UnresolvedReason) -> UnresolvedEpollTarget {
    UnresolvedEpollTarget { tfd, moved, reason }
}

#[test]
fn thousands_of_files_are_sorted_once() {
    const FILES: i32 = 5000;
    let numbers = 10..10 + FILES;
    let mut s = snap(vec![epoll(numbers.clone().step_by(5))]);
    s.tasks[0].files.extend(numbers.map(event));
    // 100 of the 1,000 watched ones have numbers from 100,000 on now.
    let moved: Vec<i32> = (10..10 + FILES).step_by(50).collect();
    s.tasks[0].files.retain(|f| !f.fd().is_some_and(|fd| moved.contains(&fd)));
    s.tasks[0].files.extend(moved.iter().map(|fd| event(fd + 100_000)));
    let file = |fd: Fd| match moved.contains(&fd.1) {
        true => Seen::Gone,
        false => plain((fd.0, fd.1 % 100_000)),
    };
    let (found, compared, targets, denied) = ask(&s, &Fake { file: &file, watched: &watched });
    assert_eq!((found, denied), (Vec::new(), 0), "all have another number, none is lost");
    assert!(compared <= 5000 * 13 + 1, "{compared}");
    // One for each entry, one more for each closed number, and thirteen to find each of these.
    assert!(targets <= 1000 + 100 + 100 * 13, "{targets}");
}

#[test]
fn what_has_kept_its_number_is_not_sought() {
    let mut s = snap(vec![epoll([10, 11, 12]), event(10), event(11), event(12)]);
    let (found, compared, targets, _) = ask(&s, &Fake { file: &plain, watched: &watched });
    assert_eq!((found, targets), (vec![], 3));
    assert_eq!(compared, 1, "the epoll file itself");
    // 10 was closed.
    s.tasks[0].files.remove(1);
    let file = |fd: Fd| if fd.1 == 10 { Seen::Gone } else { plain(fd) };
    let (found, ..) = ask(&s, &Fake { file: &file, watched: &watched });
    assert_eq!(found, [((0, 0), vec![escape(10, None, UnresolvedReason::Closed)])]);
}

#[test]
fn why_it_is_not_found() {
    // 10 has number 20 now; 11 is 11.
    let file = |fd: Fd| match fd.1 {
        10 => Seen::Gone,
        20 => plain((fd.0, 10)),
        _ => plain(fd),
    };
    let fake = Fake { file: &file, watched: &watched };
    let one = |files: Vec<OpenFile>| snap([vec![epoll([10, 11]), event(11)], files].concat());
    assert_eq!(ask(&one(vec![event(20)]), &fake).0, []);
    // The same number in another process is the same open file.
    let earlier = |fd: i32| {
        let mut s = one(vec![event(20)]);
        let mut first = task(99);
        first.files = vec![event(fd)];
        s.tasks.insert(0, first);
        s
    };
    assert_eq!(ask(&earlier(30), &fake).0, []);
    assert_eq!(ask(&earlier(20), &fake).0, [((1, 0), vec![escape(10, None, UnresolvedReason::Earlier)])]);
    assert_eq!(ask(&earlier(11), &fake).0, [((1, 0), vec![escape(11, Some(10), UnresolvedReason::Earlier)])]);
    let mut later = earlier(20);
    later.tasks.swap(0, 1);
    assert_eq!(ask(&later, &fake).0, []);
    // In a queue that is dumped before.
    let queued = Queued { fd: 5, path: vec![1], later: vec![(100, 20)], nth: 0 };
    let in_queue = OpenFile { origin: Origin::Queued(Box::new(queued)), ..event(0) };
    let found = ask(&one(vec![in_queue, event(20)]), &fake).0;
    assert_eq!(found, [((0, 0), vec![escape(10, None, UnresolvedReason::Queued)])]);
    // A device number with a major part.
    let mut s = one(vec![event(20)]);
    for f in &mut s.tasks[0].files {
        f.attr.dev = Dev { major: 8, minor: 15 };
        for target in f.info.iter_mut().flat_map(|i| &mut i.epoll).filter_map(|e| e.target.as_mut()) {
            target.sdev = 8 << 20 | 15;
        }
    }
    let found = ask(&s, &fake).0;
    assert_eq!(
        found,
        [((0, 0), vec![escape(10, None, UnresolvedReason::Device), escape(11, Some(10), UnresolvedReason::Device)])]
    );
}

#[test]
fn what_has_its_number_and_was_not_listed_is_not_lost() {
    // 10 is gone for good, and 11 was opened since the listing.
    let file = |fd: Fd| if fd.1 == 10 { Seen::Gone } else { plain(fd) };
    let fake = Fake { file: &file, watched: &watched };
    let lost = vec![escape(10, None, UnresolvedReason::Closed)];
    assert_eq!(ask(&snap(vec![epoll([10, 11])]), &fake).0, [((0, 0), lost.clone())]);
    // A file system whose files show another device than that of its superblock.
    let other = with_attr(event(11), |a| a.dev = Dev { major: 0, minor: 40 });
    let both = [lost, vec![escape(11, Some(10), UnresolvedReason::Closed)]].concat();
    assert_eq!(ask(&snap(vec![epoll([10, 11]), other]), &fake).0, [((0, 0), both)]);
}

#[test]
fn a_failed_call_is_no_escape() {
    let s = snap(vec![epoll([10]), event(20), event(21), event(22)]);
    let denied = |fd: Fd| match fd.1 {
        10 => Seen::Gone,
        EPOLL => plain(fd),
        _ => Seen::Denied(libc::ENOMEM),
    };
    let (found, .., unchecked) = ask(&s, &Fake { file: &denied, watched: &watched });
    assert_eq!((found, unchecked), (vec![], 1));
    // The entry has left the epoll file meanwhile.
    let gone = |_, _| Seen::Gone;
    assert_eq!(ask(&s, &Fake { file: &plain, watched: &gone }).0, []);
    // Only one of them could not be compared, and it may be the one.
    let one = |fd: Fd| match fd.1 {
        10 => Seen::Gone,
        21 => Seen::Denied(libc::EPERM),
        _ => plain(fd),
    };
    let (found, .., unchecked) = ask(&s, &Fake { file: &one, watched: &watched });
    assert_eq!((found, unchecked), (vec![], 1));
}

#[test]
fn one_number_may_stand_for_several_entries() {
    // 10 was added, closed while a duplicate kept the file, opened anew, and added again.
    let s = snap(vec![epoll([10, 10]), event(10), event(20)]);
    let file = |fd: Fd| if fd.1 == 20 { Seen::Seen(5) } else { plain(fd) };
    let watched = |tfd: u32, toff: u32| if toff == 0 { Seen::Seen(5) } else { plain((0, tfd.cast_signed())) };
    assert_eq!(ask(&s, &Fake { file: &file, watched: &watched }).0, []);
    let watched = |tfd: u32, toff: u32| if toff == 0 { Seen::Seen(6) } else { plain((0, tfd.cast_signed())) };
    let found = ask(&s, &Fake { file: &file, watched: &watched }).0;
    assert_eq!(found, [((0, 0), vec![escape(10, None, UnresolvedReason::Closed)])]);
}

#[test]
fn of_many_the_sockets_are_not_asked_for() {
    let socket = |fd: i32| with_attr(file(fd, libc::S_IFSOCK, fd.unsigned_abs().into()), |a| a.dev = DEV);
    let watching = |ino_of: &dyn Fn(i32) -> u64| {
        let item = |tfd: i32| {
            let target = Some(EpollTarget { pos: 0, ino: ino_of(tfd), sdev: 15 });
            EpollItem { tfd, events: 1, data: 0, target }
        };
        let info = FdInfo { epoll: (10..110).map(item).collect(), ..FdInfo::default() };
        snap([OpenFile { info: Some(Box::new(info)), ..epoll([]) }].into_iter().chain((10..110).map(socket)).collect())
    };
    let same = watching(&|tfd| tfd.unsigned_abs().into());
    assert_eq!(ask(&same, &Fake { file: &plain, watched: &watched }), (vec![], 1, 0, 0));
    // The number has become another socket.
    let other = watching(&|tfd| if tfd == 50 { 5000 } else { tfd.unsigned_abs().into() });
    let moved = |tfd: u32, _: u32| Seen::Seen(if tfd == 50 { 7 } else { u64::from(tfd) * 1000 });
    let (found, ..) = ask(&other, &Fake { file: &plain, watched: &moved });
    assert_eq!(found, [((0, 0), vec![escape(50, None, UnresolvedReason::Closed)])]);
}
