//! On live sockets and files held by own children.
use super::*;
use crate::rules::{Place, Verdict};
use crate::snapshot::{Detail, FileAttr, Kernel, Observer, OpenFile, Origin, ScanPhase, SocketFacts, Task, UnixFacts};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

fn finding(pid: i32, fd: i32, other: Other) -> Finding {
    Finding {
        rule: "test".into(),
        verdict: Verdict::Refuse,
        warns: None,
        pid,
        start_time: 0,
        comm: Bytes::default(),
        tid: None,
        fd: Some(fd),
        queued: Vec::new(),
        addr: None,
        facts: Vec::new(),
        key: String::new(),
        also: Vec::new(),
        other: Some(other),
        holders: Vec::new(),
        outside: None,
        link: None,
        lasts: false,
        proof: Default::default(),
        held: None,
    }
}

fn snapshot(tasks: Vec<Task>) -> Snapshot {
    Snapshot {
        look: ScanPhase::Early,
        root: tasks.first().map(|t| t.pid).unwrap_or_default(),
        criu: Observer::default(),
        kernel: Kernel::default(),
        tasks,
        mounts: Vec::new(),
        sockets: Vec::new(),
        links: Vec::new(),
        cgroups: Default::default(),
        unchecked: Vec::new(),
        uptime: 0,
        whole: true,
    }
}

fn socket(fd: i32, ino: u64) -> OpenFile {
    let attr = FileAttr { ino, mode: libc::S_IFSOCK, ..FileAttr::default() };
    OpenFile { origin: Origin::Fd(fd), ..OpenFile::linked(attr) }
}

fn inode(fd: &impl AsFd) -> u64 {
    nix::sys::stat::fstat(fd).unwrap().st_ino
}

fn sleeper(stdin: impl Into<Stdio>) -> Child {
    let child = Command::new("sleep").arg("60").stdin(stdin).stdout(Stdio::null()).spawn().unwrap();
    // spawn() returns in the middle of exec.
    while std::fs::read(format!("/proc/{}/comm", child.id())).unwrap() != b"sleep\n" {
        std::thread::yield_now();
    }
    child
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

const LONG: Duration = Duration::from_secs(20);

#[test]
fn a_socket_held_outside_is_found_and_a_closed_one_not() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (closed, ours_of_closed) = UnixStream::pair().unwrap();
    let (ino, closed_ino) = (inode(&theirs), inode(&closed));
    let child = sleeper(std::os::fd::OwnedFd::from(theirs));
    drop(closed);
    let pid = child.id().cast_signed();
    let me = std::process::id().cast_signed();
    let mut named = socket(ours_of_closed.as_raw_fd(), 1);
    named.detail = Some(Box::new(Detail::Socket(SocketFacts {
        unix: UnixFacts { peer_pid: Some(pid), ..UnixFacts::default() },
        ..SocketFacts::default()
    })));
    let snap = snapshot(vec![Task { pid: me, comm: "me".into(), files: vec![named], ..Task::default() }]);
    let asked = [
        finding(me, ours.as_raw_fd(), Other::Socket(ino)),
        finding(me, ours_of_closed.as_raw_fd(), Other::Socket(closed_ino)),
        finding(me, 99, Other::Socket(closed_ino)),
        finding(me, 0, Other::Process(pid)),
    ];
    // The second is nowhere, so the walk is whole: all the same it is over long before its budget.
    let sleep = |fd| Holder { pid, comm: "sleep".into(), fd };
    let mut findings = asked.clone();
    for _ in 0..100 {
        findings = asked.clone();
        resolve(&mut findings, &snap, LONG);
        // A child of another test has copies of our descriptors until its exec: then it was the holder.
        if findings[1].holders == [sleep(None)] && findings[2].holders.is_empty() {
            break;
        }
    }
    assert_eq!(findings[0].holders, [sleep(Some(0))]);
    // It is a child of the root that has come since the look.
    assert_eq!((findings[0].outside, findings[3].outside), (Some(false), Some(false)));
    assert_eq!((findings[1].outside, findings[2].outside), (None, None), "none was found");
    assert_eq!(findings[1].holders, [sleep(None)], "SO_PEERCRED is the fallback");
    assert_eq!(findings[2].holders, []);
    assert_eq!(findings[3].holders, [sleep(None)]);

    let mut spent = [finding(me, ours.as_raw_fd(), Other::Socket(ino))];
    resolve(&mut spent, &snap, Duration::ZERO);
    assert_eq!(spent[0].holders, [], "no budget, no walk");
    end(child);
}

#[test]
fn the_tree_comes_first_and_a_finding_is_not_its_own_other_end() {
    let task = |pid, comm: &str, files| Task { pid, comm: comm.into(), files, ..Task::default() };
    // Numbers no process has.
    let (a, b) = (1 << 28, (1 << 28) + 1);
    let snap = snapshot(vec![task(a, "a", vec![socket(3, 70), socket(4, 70)]), task(b, "b\n", vec![socket(5, 70)])]);
    let mut findings = [finding(a, 3, Other::Socket(70)), finding(a, 3, Other::Process(b))];
    findings[0].also.push(Place { pid: a, fd: Some(4), ..Place::default() });
    resolve(&mut findings, &snap, LONG);
    assert_eq!(findings[0].holders, [Holder { pid: b, comm: "b\n".into(), fd: Some(5) }]);
    assert_eq!(findings[1].holders, [Holder { pid: b, comm: "b\n".into(), fd: None }]);
}

#[test]
fn both_ends_of_one_finding_are_told_apart() {
    let a = 1 << 28;
    let files = vec![socket(3, 70), socket(4, 71)];
    let snap = snapshot(vec![Task { pid: a, comm: "a".into(), files, ..Task::default() }]);
    let mut findings = [finding(a, 3, Other::Socket(71))];
    findings[0].also.push(Place { pid: a, fd: Some(4), ..Place::default() });
    resolve(&mut findings, &snap, LONG);
    assert_eq!(findings[0].holders, [Holder { pid: a, comm: "a".into(), fd: Some(4) }]);
}

#[test]
fn who_is_not_below_the_root_is_outside() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let ino = inode(&theirs);
    let (holder, root) = (sleeper(std::os::fd::OwnedFd::from(theirs)), sleeper(Stdio::null()));
    let (pid, root_pid) = (holder.id().cast_signed(), root.id().cast_signed());
    let snap = snapshot(vec![Task { pid: root_pid, ..Task::default() }]);
    let asked = [
        finding(root_pid, ours.as_raw_fd(), Other::Socket(ino)),
        finding(root_pid, 0, Other::Process(pid)),
        finding(root_pid, 0, Other::Process(root_pid)),
        finding(root_pid, 0, Other::Process(1 << 28)),
    ];
    let mut findings = asked.clone();
    resolve(&mut findings, &snap, LONG);
    assert_eq!(findings.map(|f| f.outside), [Some(true), Some(true), Some(false), None]);
    end(holder);
    end(root);
}

#[test]
fn who_else_has_an_epoll_file() {
    use std::os::fd::{FromRawFd, OwnedFd};
    let [shared, alone] = [(); 2].map(|()| {
        // SAFETY: a new descriptor, which nothing else owns.
        unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) }
    });
    let number = shared.as_raw_fd();
    let root = sleeper(shared.try_clone().unwrap());
    let lone = sleeper(alone);
    let [root_pid, lone_pid] = [&root, &lone].map(|child| child.id().cast_signed());
    let epoll = |fd| OpenFile { link: Some("anon_inode:[eventpoll]".into()), ..socket(fd, 9) };
    let task = |pid| Task { pid, comm: "sleep".into(), files: vec![epoll(0)], ..Task::default() };
    let snap = snapshot(vec![task(root_pid), task(lone_pid)]);
    let mut findings = [root_pid, lone_pid].map(|pid| finding(pid, 0, Other::OpenFile));
    resolve(&mut findings, &snap, LONG);
    let me = std::process::id().cast_signed();
    let held: Vec<_> = findings[0].holders.iter().map(|h| (h.pid, h.fd)).collect();
    assert_eq!(held, [(me, Some(number))]);
    assert_eq!(findings[1].holders, []);
    // One of the tree is not searched for.
    let third = sleeper(shared);
    let third_pid = third.id().cast_signed();
    let snap = snapshot(vec![task(root_pid), task(third_pid)]);
    let mut findings = [finding(root_pid, 0, Other::OpenFile)];
    resolve(&mut findings, &snap, Duration::ZERO);
    assert_eq!(findings[0].holders, [Holder { pid: third_pid, comm: "sleep".into(), fd: Some(0) }]);
    [root, lone, third].into_iter().for_each(end);
}
