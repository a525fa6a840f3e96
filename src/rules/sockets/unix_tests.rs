//! The UNIX socket rules, each on a snapshot where it fires and on the nearest one where it does not.

use crate::bytes::Bytes;
use crate::criu::{Hook, Host, Opt, Release};
use crate::parse::diag::{Queues, UnixDiag, UnixVfs};
use crate::rules::sockets::unix::*;
use crate::rules::sockets::unix_accept::*;
use crate::rules::sockets::unix_name::*;
use crate::rules::sockets::unix_queue::*;
use crate::rules::testkit::*;
use crate::rules::Verdict::{Refuse, Warn};
use crate::rules::{Other, Rule, Verdict};
use crate::snapshot::{Answer, Snapshot, SocketFacts, UnixFacts, UnixQueueFacts};

const DGRAM: u8 = 2;

/// The root process with the sockets 1.. of `held` behind descriptors 3.., and these sockets in its network namespace.
fn tree(held: &[u64], listed: Vec<UnixDiag>) -> Snapshot {
    let mut s = snap(held.iter().zip(3..).map(|(ino, fd)| socket(fd, *ino)).collect());
    s.sockets = vec![crate::snapshot::SocketTable { unix: listed, ..table() }];
    s
}

fn named(name: &str, u: UnixDiag) -> UnixDiag {
    UnixDiag { name: Some(Bytes::from(name)), vfs: Some(UnixVfs { ino: 1, dev: 1 }), ..u }
}

fn dgram(ino: u32, peer: u32) -> UnixDiag {
    UnixDiag { type_: DGRAM, ..unix(ino, peer) }
}

fn facts(s: &mut Snapshot, facts: SocketFacts) {
    let file = &mut s.tasks[0].files[0];
    *file = socket_with(file.fd().unwrap(), file.attr.ino, facts);
}

fn queue(s: &mut Snapshot, queue: UnixQueueFacts) {
    facts(s, with_queue(queue));
}

fn bound_file(s: &mut Snapshot, file: Answer<Bytes>) {
    let unix = UnixFacts { file, ..UnixFacts::default() };
    facts(s, SocketFacts { unix, ..SocketFacts::default() });
}

fn on(rule: &Rule, s: &Snapshot) -> Option<Verdict> {
    verdict(rule, s, &host())
}

#[test]
fn a_peer_is_inside_if_any_task_holds_it() {
    let pair = || vec![unix(1, 2), unix(2, 1)];
    for rule in [
        &UNIX_EXTERNAL_PEER,
        &UNIX_EXTERNAL_STREAM,
        &UNIX_EXTERNAL_NAMELESS,
        &UNIX_PEER_UNCOLLECTED,
        &UNIX_UNREACHABLE_PEER,
        &UNIX_DANGLING,
    ] {
        assert_eq!(on(rule, &tree(&[1, 2], pair())), None);
    }
    let mut two = tree(&[1], pair());
    two.tasks.push(crate::snapshot::Task { files: vec![socket(9, 2)], ..task(101) });
    assert_eq!(on(&UNIX_EXTERNAL_STREAM, &two), None);
}

#[test]
fn half_of_a_stream_needs_a_key_or_a_plugin() {
    let s = tree(&[1], vec![unix(1, 2), named("/run/bus", unix(2, 1))]);
    let found = found(&UNIX_EXTERNAL_STREAM, &s, &host());
    let [f] = found.as_slice() else { panic!("{found:#?}") };
    assert_eq!((f.verdict, f.pid, f.fd, f.other.clone()), (Refuse, 100, Some(3), Some(Other::Socket(2))));
    assert_eq!(f.get("peer_name"), Some(&crate::rules::Value::Text(Bytes::from("/run/bus"))));
    let lifted = |h: &Host| verdict(&UNIX_EXTERNAL_STREAM, &s, h);
    assert_eq!(lifted(&with(Opt::ExtUnixSk)), Some(Refuse));
    assert_eq!(lifted(&unknown(Opt::ExtUnixSk)), Some(Refuse));
    assert_eq!(lifted(&with_external("unix[1]")), None);
    assert_eq!(lifted(&with_external("unix[2]")), Some(Refuse));
    assert_eq!(lifted(&Host { externals: None, ..host() }), Some(Warn));
    assert_eq!(lifted(&with_hook(Hook::DumpUnixSk)), None);
    assert_eq!(lifted(&with_hook(Hook::DumpExtFile)), Some(Refuse));
    assert_eq!(lifted(&Host { service_sk_ino: Some(2), ..host() }), None);
    for other in [&UNIX_EXTERNAL_PEER, &UNIX_EXTERNAL_NAMELESS] {
        assert_eq!(on(other, &s), None);
    }
}

#[test]
fn half_of_a_datagram_pair() {
    let with_name = tree(&[1], vec![dgram(1, 2), named("\0bus", dgram(2, 0))]);
    assert_eq!(on(&UNIX_EXTERNAL_PEER, &with_name), Some(Refuse));
    assert_eq!(verdict(&UNIX_EXTERNAL_PEER, &with_name, &with(Opt::ExtUnixSk)), None);
    assert_eq!(verdict(&UNIX_EXTERNAL_PEER, &with_name, &unknown(Opt::ExtUnixSk)), Some(Warn));
    assert_eq!(verdict(&UNIX_EXTERNAL_PEER, &with_name, &with_external("unix[1]")), None);
    let nameless = tree(&[1], vec![dgram(1, 2), dgram(2, 1)]);
    assert_eq!(on(&UNIX_EXTERNAL_NAMELESS, &nameless), Some(Refuse));
    assert_eq!(verdict(&UNIX_EXTERNAL_NAMELESS, &nameless, &with(Opt::ExtUnixSk)), Some(Refuse));
    assert_eq!(verdict(&UNIX_EXTERNAL_NAMELESS, &nameless, &with_hook(Hook::DumpUnixSk)), None);
}

#[test]
fn a_peer_may_lie_in_a_queue_of_the_tree() {
    let unread = UnixDiag { rqlen: Some(Queues { rqueue: 1, wqueue: 0 }), ..unix(3, 4) };
    let mut s = tree(&[3, 4, 1], vec![unix(1, 2), unix(2, 1), unread, unix(4, 3)]);
    for (scm_fds, expected) in [(Some(0), Refuse), (Some(1), Warn), (None, Warn)] {
        queue(&mut s, UnixQueueFacts { scm_fds, ..UnixQueueFacts::default() });
        assert_eq!(on(&UNIX_EXTERNAL_STREAM, &s), Some(expected), "{scm_fds:?}");
        assert_eq!(on(&UNIX_QUEUE_SCM_FD, &s), (scm_fds == Some(1)).then_some(Warn));
    }
}

#[test]
fn a_socket_held_twice_is_told_once() {
    let mut s = tree(&[1], vec![unix(1, 2), unix(2, 1)]);
    s.tasks.push(crate::snapshot::Task { files: vec![socket(7, 1), socket(8, 1)], ..task(101) });
    let found = found(&UNIX_EXTERNAL_STREAM, &s, &host());
    let places: Vec<_> = found.iter().flat_map(|f| &f.also).map(|p| (p.pid, p.fd)).collect();
    assert_eq!((found.len(), places), (1, vec![(101, Some(7)), (101, Some(8))]));
}

#[test]
fn a_peer_that_is_not_connected_back() {
    let third = |name| UnixDiag { name, ..dgram(2, 3) };
    let s = |name| tree(&[1, 2, 3], vec![dgram(1, 2), third(name), dgram(3, 2)]);
    assert_eq!(on(&UNIX_UNREACHABLE_PEER, &s(None)), Some(Refuse));
    assert_eq!(on(&UNIX_UNREACHABLE_PEER, &s(Some(Bytes::from("\0x")))), None);
    assert_eq!(verdict(&UNIX_UNREACHABLE_PEER, &s(None), &Host { service_sk_ino: Some(2), ..host() }), None);
}

#[test]
fn a_peer_in_a_namespace_that_is_not_dumped() {
    let mut s = tree(&[1], vec![unix(1, 2)]);
    assert_eq!(on(&UNIX_PEER_UNCOLLECTED, &s), Some(Refuse));
    s.sockets[0].failed.push((2, 6, libc::ENOENT));
    assert_eq!(on(&UNIX_PEER_UNCOLLECTED, &s), Some(Refuse));
    // A second namespace whose list we lack could have it.
    s.tasks.push(crate::snapshot::Task { ns: namespaces(7), ..task(101) });
    assert_eq!(on(&UNIX_PEER_UNCOLLECTED, &s), Some(Warn));
    s.sockets.push(crate::snapshot::SocketTable { netns: 7, unix: vec![unix(2, 1)], ..table() });
    assert_eq!(on(&UNIX_PEER_UNCOLLECTED, &s), None);
    assert_eq!(on(&UNIX_EXTERNAL_STREAM, &s), Some(Refuse));
}

#[test]
fn a_socket_of_a_namespace_that_is_not_dumped() {
    let unix_of = |netns| SocketFacts { domain: Some(1), netns, ..SocketFacts::default() };
    let mut s = tree(&[1], vec![]);
    for (netns, expected) in [(Some(9), Some(Refuse)), (None, Some(Warn)), (Some(CRIU_NS), Some(Refuse))] {
        facts(&mut s, unix_of(netns));
        assert_eq!(on(&UNIX_NOT_COLLECTED, &s), expected, "{netns:?}");
    }
    // With others in the list it may have come while we looked; none is there before it if the list is empty.
    s.sockets[0].unix = vec![unix(2, 0)];
    assert_eq!(on(&UNIX_NOT_COLLECTED, &s), Some(Warn));
    s.sockets[0].unix.clear();
    s.sockets[0].failed.push((1, 0, libc::ETIMEDOUT));
    assert_eq!(on(&UNIX_NOT_COLLECTED, &s), None);
    s.sockets[0].failed[0].2 = libc::ENOENT;
    assert_eq!(on(&UNIX_NOT_COLLECTED, &s), Some(Refuse));
    // CRIU's own namespace is not listed while the root process has another.
    let mut own = tree(&[1, 2], vec![unix(1, 2), unix(2, 1)]);
    own.tasks[0].ns = namespaces(7);
    own.tasks.push(task(101));
    assert_eq!(found(&UNIX_NOT_COLLECTED, &own, &host()).len(), 2);
    own.tasks[0].ns = namespaces(CRIU_NS);
    assert_eq!(found(&UNIX_NOT_COLLECTED, &own, &host()).len(), 0);
}

#[test]
fn the_list_ends_before_a_socket() {
    let long = UnixDiag { length: 16388, ..named("\0srv", unix(7, 0)) };
    let pair = |first| [first, vec![unix(1, 2), unix(2, 1)]].concat();
    let case = |listed| {
        let s = tree(&[1], listed);
        (on(&UNIX_NOT_COLLECTED, &s), on(&UNIX_EXTERNAL_STREAM, &s), on(&UNIX_PEER_UNCOLLECTED, &s))
    };
    assert_eq!(case(pair(vec![])), (None, Some(Refuse), None));
    assert_eq!(case(pair(vec![UnixDiag { length: 16384, ..long.clone() }])), (None, Some(Refuse), None));
    assert_eq!(case(pair(vec![long.clone()])), (Some(Refuse), None, None));
    assert_eq!(case(vec![unix(1, 2), long.clone(), unix(2, 1)]), (None, None, Some(Refuse)));
    // A connection that waits there.
    let waits = |length| {
        let listener = UnixDiag { length, state: 10, icons: Some(vec![1]), ..long.clone() };
        on(&UNIX_DANGLING, &tree(&[1], vec![unix(1, 0), listener]))
    };
    assert_eq!((waits(16384), waits(16388)), (None, Some(Refuse)));
}

#[test]
fn a_path_without_an_inode() {
    let lost = |u: UnixDiag| UnixDiag { vfs: None, ..u };
    assert_eq!(on(&UNIX_NOT_COLLECTED, &tree(&[1], vec![lost(named("/x", dgram(1, 0)))])), Some(Refuse));
    assert_eq!(on(&UNIX_NOT_COLLECTED, &tree(&[1], vec![lost(named("\0x", dgram(1, 0)))])), None);
}

#[test]
fn connected_to_nothing() {
    let s = |u: UnixDiag| tree(&[1], vec![UnixDiag { peer: None, ..u }]);
    assert_eq!(on(&UNIX_DANGLING, &s(unix(1, 0))), Some(Refuse));
    assert_eq!(on(&UNIX_DANGLING, &s(UnixDiag { shutdown: Some(1), ..unix(1, 0) })), Some(Refuse));
    assert_eq!(on(&UNIX_DANGLING, &s(UnixDiag { shutdown: Some(3), ..unix(1, 0) })), None);
    assert_eq!(on(&UNIX_DANGLING, &s(UnixDiag { shutdown: None, ..unix(1, 0) })), None);
    assert_eq!(on(&UNIX_DANGLING, &s(UnixDiag { state: 7, ..unix(1, 0) })), None);
    assert_eq!(on(&UNIX_DANGLING, &s(dgram(1, 0))), None);
}

#[test]
fn odd_types_and_states() {
    for (type_, expected) in [(1, None), (2, None), (5, None), (3, Some(Refuse))] {
        assert_eq!(on(&UNIX_TYPE, &tree(&[1, 2], vec![UnixDiag { type_, ..unix(1, 2) }, unix(2, 1)])), expected);
    }
    for (state, expected) in [(1, None), (7, None), (10, None), (2, Some(Refuse))] {
        assert_eq!(on(&UNIX_STATE, &tree(&[1, 2], vec![UnixDiag { state, ..unix(1, 2) }, unix(2, 1)])), expected);
    }
}

/// Socket 1 waits at socket 5, which is outside.
fn waiting(sent: u32, icons: Vec<u32>, state: u8) -> Snapshot {
    let client = UnixDiag { rqlen: Some(Queues { rqueue: 0, wqueue: sent }), ..unix(1, 0) };
    let listener = UnixDiag { state, peer: None, icons: Some(icons), ..named("/srv", unix(5, 0)) };
    tree(&[1], vec![client, listener])
}

#[test]
fn a_connection_that_waits_for_accept() {
    let old = at_release(Release::V3_17);
    let quiet = waiting(0, vec![9, 1], 10);
    for rule in [&UNIX_DANGLING, &UNIX_ICON_DATA, &UNIX_ICON_NOT_LISTENING, &UNIX_ICON_CLOSED, &UNIX_EXTERNAL_STREAM] {
        assert_eq!(on(rule, &quiet), None);
    }
    let talking = waiting(5, vec![1], 10);
    assert_eq!((on(&UNIX_ICON_DATA, &talking), verdict(&UNIX_ICON_DATA, &talking, &old)), (Some(Refuse), None));
    let lost = waiting(5, vec![1], 7);
    assert_eq!((on(&UNIX_ICON_NOT_LISTENING, &lost), on(&UNIX_ICON_DATA, &lost)), (Some(Refuse), None));
    let mut gone = waiting(0, vec![0, 1], 10);
    assert_eq!(on(&UNIX_ICON_CLOSED, &gone), None);
    gone.tasks[0].files.push(socket(4, 5));
    assert_eq!((on(&UNIX_ICON_CLOSED, &gone), verdict(&UNIX_ICON_CLOSED, &gone, &old)), (Some(Refuse), None));
    gone.look = crate::snapshot::ScanPhase::Early;
    assert_eq!(on(&UNIX_ICON_CLOSED, &gone), Some(Warn));
}

#[test]
fn unread_messages_with_more_than_descriptors() {
    type Facts = UnixQueueFacts;
    let unread = UnixDiag { rqlen: Some(Queues { rqueue: 3, wqueue: 0 }), ..unix(1, 2) };
    let mut s = tree(&[1, 2], vec![unread.clone(), unix(2, 1)]);
    let new = at_release(Release::V4_3);
    let on_flag = Some(true);
    let comes = |kinds: &[i32]| Some(kinds.to_vec());
    for (flags, now, then) in [
        (Facts { passcred: on_flag, ..Facts::default() }, Some(Refuse), None),
        (Facts { passpidfd: on_flag, ..Facts::default() }, Some(Warn), Some(Warn)),
        (Facts { passpidfd: on_flag, control: comes(&[4]), ..Facts::default() }, Some(Refuse), Some(Refuse)),
        (Facts { passpidfd: on_flag, control: comes(&[]), ..Facts::default() }, Some(Warn), Some(Warn)),
        (Facts { passsec: on_flag, ..Facts::default() }, Some(Warn), Some(Warn)),
        (Facts { passsec: on_flag, control: comes(&[3]), ..Facts::default() }, Some(Refuse), Some(Refuse)),
        (Facts { passsec: on_flag, control: comes(&[]), ..Facts::default() }, None, None),
        (Facts { passcred: on_flag, passpidfd: on_flag, ..Facts::default() }, Some(Refuse), Some(Warn)),
        (Facts { control: comes(&[84]), ..Facts::default() }, Some(Refuse), Some(Refuse)),
        (Facts { control: comes(&[1]), ..Facts::default() }, None, None),
        (Facts { timestamps: on_flag, timestamps64: on_flag, ..Facts::default() }, None, None),
        (Facts { passcred: Some(false), ..Facts::default() }, None, None),
        (Facts::default(), None, None),
    ] {
        queue(&mut s, flags.clone());
        assert_eq!((on(&UNIX_QUEUE_CMSG, &s), verdict(&UNIX_QUEUE_CMSG, &s, &new)), (now, then), "{flags:?}");
    }
    queue(&mut s, Facts { passcred: on_flag, ..Facts::default() });
    s.sockets[0].unix[0] = unix(1, 2);
    assert_eq!(on(&UNIX_QUEUE_CMSG, &s), None);
    s.sockets[0].unix[0] = UnixDiag { state: 10, ..unread.clone() };
    assert_eq!(on(&UNIX_QUEUE_CMSG, &s), None);
    s.sockets[0].unix[0] = UnixDiag { type_: DGRAM, ..unread };
    for (flags, now, then) in [
        (Facts { timestamps: on_flag, ..Facts::default() }, Some(Refuse), None),
        (Facts { timestamps64: on_flag, ..Facts::default() }, Some(Refuse), Some(Refuse)),
    ] {
        queue(&mut s, flags);
        assert_eq!((on(&UNIX_QUEUE_CMSG, &s), verdict(&UNIX_QUEUE_CMSG, &s, &new)), (now, then));
    }
}

#[test]
fn unread_messages_that_cannot_be_peeked_at() {
    type Facts = UnixQueueFacts;
    let unread = UnixDiag { rqlen: Some(Queues { rqueue: 3, wqueue: 0 }), ..unix(1, 0) };
    let mut s = tree(&[1], vec![unread.clone()]);
    for (error, expected) in [(None, None), (Some(false), None), (Some(true), Some(Refuse))] {
        queue(&mut s, Facts { error, ..Facts::default() });
        assert_eq!(on(&UNIX_QUEUE_RESET, &s), expected);
    }
    s.sockets[0].unix[0] = unix(1, 0);
    assert_eq!(on(&UNIX_QUEUE_RESET, &s), None);
    for (type_, length, expected) in
        [(DGRAM, 4576, None), (DGRAM, 4577, Some(Refuse)), (5, 4577, Some(Refuse)), (1, 4577, None)]
    {
        s.sockets[0].unix[0] = UnixDiag { type_, ..unread.clone() };
        queue(&mut s, Facts { longest: Some(length), sndbuf: Some(4608), ..Facts::default() });
        assert_eq!(on(&UNIX_QUEUE_TRUNC, &s), expected);
    }
    queue(&mut s, Facts { sndbuf: Some(4608), ..Facts::default() });
    assert_eq!(on(&UNIX_QUEUE_TRUNC, &s), None);
}

#[test]
fn names_that_are_not_absolute() {
    let bound = |name: &str, file: &str| {
        let mut s = tree(&[1], vec![named(name, dgram(1, 0))]);
        bound_file(&mut s, Answer::Is(Bytes::from(file)));
        on(&UNIX_PATH_NOT_SUFFIX, &s)
    };
    for (name, file, expected) in [
        ("rs", "/srv/rs", None),
        ("./rs", "/srv/rs", None),
        ("a/rs", "/srv/a/rs", None),
        ("rs", "/rs", None),
        ("rs", "/srv/rs (deleted)", None),
        ("/any", "/other", None),
        ("\0rs", "/other", None),
        ("../rs", "/srv/rs", Some(Refuse)),
        ("a/./rs", "/srv/a/rs", Some(Refuse)),
        ("rs", "/srv/moved", Some(Refuse)),
        ("rs", "/srv/xrs", Some(Refuse)),
        ("././rs", "/srv/rs", Some(Refuse)),
    ] {
        assert_eq!(bound(name, file), expected, "{name} {file}");
    }
}

#[test]
fn a_kernel_that_does_not_open_socket_files() {
    let mut s = tree(&[1], vec![named("rs", dgram(1, 0))]);
    assert_eq!((on(&UNIX_NAME_UNRESOLVED, &s), on(&UNIX_SIOCUNIXFILE, &s)), (None, None));
    bound_file(&mut s, Answer::Errno(libc::EPERM));
    assert_eq!(on(&UNIX_SIOCUNIXFILE, &s), Some(Refuse));
    assert_eq!(verdict(&UNIX_SIOCUNIXFILE, &s, &at_release(Release::V3_17)), Some(Warn));
    // Such a CRIU does not ask.
    let unprivileged = with(Opt::Unprivileged);
    assert_eq!(verdict(&UNIX_SIOCUNIXFILE, &s, &unprivileged), None);
    assert_eq!(verdict(&UNIX_NAME_UNRESOLVED, &s, &unprivileged), Some(Warn));
    assert_eq!(verdict(&UNIX_SIOCUNIXFILE, &s, &unknown(Opt::Unprivileged)), Some(Warn));
    s.kernel.siocunixfile = Some(false);
    assert_eq!(
        (on(&UNIX_NAME_UNRESOLVED, &s), on(&UNIX_SIOCUNIXFILE, &s), on(&UNIX_PATH_NOT_SUFFIX, &s)),
        (Some(Warn), None, None)
    );
    s.sockets[0].unix[0].name = Some(Bytes::from("/srv/rs"));
    assert_eq!(on(&UNIX_NAME_UNRESOLVED, &s), None);
}
