//! What lies unread in sockets.

use super::*;

/// All that the queue shows, each message's length, kinds and number of descriptors.
fn shown(file: &impl AsFd, kind: i32) -> Vec<(u64, Vec<i32>, usize)> {
    shown_in(file, kind, None)
}

fn shown_in(file: &impl AsFd, kind: i32, room: Option<usize>) -> Vec<(u64, Vec<i32>, usize)> {
    let file = file.as_fd().try_clone_to_owned().unwrap();
    let mut queue = peek::Queue::open(&file, kind, room).unwrap();
    let mut shown = Vec::new();
    while let Some(mut message) = queue.message().unwrap() {
        message.kinds.sort_unstable();
        assert!(!message.cut);
        shown.push((message.length, message.kinds, message.fds.len()));
        message.fds.into_iter().for_each(peek::ReceivedFd::close);
    }
    shown
}

fn send_fds(to: &impl AsRawFd, text: &[u8], fds: &[i32]) {
    let data = [std::io::IoSlice::new(text)];
    let none = sk::MsgFlags::empty();
    sk::sendmsg::<()>(to.as_raw_fd(), &data, &[sk::ControlMessage::ScmRights(fds)], none, None).unwrap();
}

#[test]
fn unread_messages_are_looked_at_and_stay() {
    let on = 1i32.to_ne_bytes();
    let (a, b) = UnixDatagram::pair().unwrap();
    assert_eq!(set(&a, libc::SOL_SOCKET, libc::SO_TIMESTAMP, &on), 0);
    // Linux 6.5
    let pidfds = set(&a, libc::SOL_SOCKET, 76, &on) == 0;
    b.send(b"four").unwrap();
    let s = ask(&a, SocketQuery { queue: true, ..SocketQuery::default() }).unix.queue.unwrap();
    assert_eq!((s.timestamps, s.timestamps64, s.error), (Some(true), Some(false), Some(false)));
    send_fds(&b, b"three", &[0, 0]);
    b.send(b"").unwrap();
    send_fds(&b, b"last", &[0]);
    let kinds = |mut kinds: Vec<i32>| {
        kinds.extend(pidfds.then_some(4));
        kinds.sort_unstable();
        kinds
    };
    let expected = |length, more: Vec<i32>, fds| (length, kinds([more, vec![29]].concat()), fds);
    let all = [expected(4, vec![], 0), expected(5, vec![1], 2), expected(0, vec![], 0), expected(4, vec![1], 1)];
    let fds = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = fds();
    assert_eq!(shown(&a, libc::SOCK_DGRAM), all);
    // The kernel remembers that the empty one was looked at.
    let again: Vec<_> = all.iter().filter(|m| m.0 > 0).cloned().collect();
    (0..100).for_each(|_| assert_eq!(shown(&a, libc::SOCK_DGRAM), again));
    // Other tests open and close descriptors meanwhile, but not a hundred.
    assert!(fds() < before + 100, "the pidfds that came with it are closed");
    // All is still there, and the offset is what it was.
    assert_eq!(a.recv(&mut [0; 9]).unwrap(), 4);
    assert_eq!(set(&a, libc::SOL_SOCKET, libc::SO_PEEK_OFF, &3i32.to_ne_bytes()), 0);
    assert_eq!(shown(&a, libc::SOCK_DGRAM).len(), 2);
    let mut rest = [0; 9];
    assert_eq!((sk::recv(a.as_raw_fd(), &mut rest, sk::MsgFlags::MSG_PEEK).unwrap(), rest[0]), (2, b'e'));
}

#[test]
fn the_messages_of_streams_and_packets() {
    let (a, b) = UnixStream::pair().unwrap();
    (&b).write_all(&[0; 1000]).unwrap();
    send_fds(&b, b"first", &[0]);
    send_fds(&b, b"second", &[0, 0]);
    (&b).write_all(b"end").unwrap();
    let seen = shown(&a, libc::SOCK_STREAM);
    assert_eq!(seen.iter().map(|m| m.0).sum::<u64>(), 1014);
    assert_eq!(seen.iter().map(|m| m.2).sum::<usize>(), 3, "{seen:?}");
    drop(b);
    assert_eq!(shown(&a, libc::SOCK_STREAM), seen, "its end does not matter");

    let flags = sk::SockFlag::empty();
    let (a, b) = sk::socketpair(sk::AddressFamily::Unix, sk::SockType::SeqPacket, None, flags).unwrap();
    assert_eq!(shown(&a, libc::SOCK_SEQPACKET), []);
    send_fds(&b, b"one", &[0]);
    send_fds(&b, b"three", &[0; 253]);
    drop(b);
    assert_eq!(shown(&a, libc::SOCK_SEQPACKET), [(3, vec![1], 1), (5, vec![1], 253)]);
    let old = shown_in(&a, libc::SOCK_SEQPACKET, Some(crate::criu_model::queued::OLD_CONTROL));
    assert_eq!(old, [(3, vec![1], 1), (5, vec![1], 252)], "there is room for one less");
}

#[test]
fn an_error_waits_behind_what_is_unread() {
    let what = SocketQuery { queue: true, ..SocketQuery::default() };
    let (a, b) = UnixStream::pair().unwrap();
    (&a).write_all(b"never read").unwrap();
    (&b).write_all(b"unread").unwrap();
    assert_eq!(ask(&a, what).unix.queue.unwrap().error, Some(false));
    drop(b);
    for _ in 0..2 {
        assert_eq!(ask(&a, what).unix.queue.unwrap().error, Some(true), "the error stays pending");
    }
}
