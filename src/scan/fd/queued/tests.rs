use super::*;
use crate::rules::testkit::host;
use crate::snapshot::ScanPhase;
use std::os::fd::RawFd;

/// A datagram with this descriptor.
fn give(via: &OwnedFd, fd: RawFd) {
    use nix::sys::socket::{sendmsg, ControlMessage, MsgFlags};
    let rights = [fd];
    let text = [std::io::IoSlice::new(b"x")];
    let rights = [ControlMessage::ScmRights(&rights)];
    sendmsg::<()>(via.as_raw_fd(), &text, &rights, MsgFlags::MSG_DONTWAIT, None).unwrap();
}

fn pair() -> (OwnedFd, OwnedFd) {
    use nix::sys::socket::{socketpair, AddressFamily, SockFlag, SockType};
    socketpair(AddressFamily::Unix, SockType::Datagram, None, SockFlag::SOCK_CLOEXEC).unwrap()
}

/// A socket in whose queue lies one in whose queue lies one, and so on; behind each an eventfd. In the last two of these.
fn chain(length: usize) -> OwnedFd {
    let event = sys::eventfd().unwrap();
    let mut inner = event.try_clone().unwrap();
    for _ in 0..length {
        let (near, far) = pair();
        give(&near, inner.as_raw_fd());
        give(&near, event.as_raw_fd());
        // The other end too, or the queue ends with an error.
        give(&near, near.as_raw_fd());
        inner = far;
    }
    inner
}

#[test]
fn queues_in_queues_without_recursion_and_not_for_ever() {
    let whole = chain(10);
    let deep = chain(DEEPEST + 20);
    let me = std::process::id().cast_signed();
    let snap = crate::scan::collect_once(me, ScanPhase::Frozen, &host()).unwrap();
    let files = &snap.tasks[0].files;
    let of = |socket: &OwnedFd| {
        let number = socket.as_raw_fd();
        files.iter().filter(move |f| f.queued().is_some_and(|q| q.fd == number))
    };
    let paths = |socket| of(socket).map(|f| f.queued().unwrap().path.clone()).collect::<Vec<_>>();
    // In each queue another socket and the near end; the eventfd, which is one, was met in the innermost.
    let found = paths(&whole);
    assert_eq!(found.len(), 2 * 10, "{found:?}");
    assert_eq!(found[..3], [vec![1], vec![1, 1], vec![1, 1, 1]], "first what lies within");
    assert_eq!(found[10..12], [[[1; 9].as_slice(), &[3]].concat(), [[1; 8].as_slice(), &[3]].concat()]);
    assert_eq!(found.last(), Some(&vec![3]));
    let examined = |path: &[u32]| {
        let at = of(&deep).find(|f| f.queued().unwrap().path == path);
        at.and_then(|f| f.socket()).and_then(|s| s.unix.queue.as_deref()).map(|q| (q.examined, q.scm_fds))
    };
    assert_eq!(paths(&deep).iter().map(Vec::len).max(), Some(DEEPEST));
    assert_eq!(examined(&[1; DEEPEST - 1]).map(|(seen, _)| seen), Some(true));
    assert_eq!(examined(&[1; DEEPEST]), Some((false, Some(3))), "that it holds something is known, what it is is not");
}
