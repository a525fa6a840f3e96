//! The comparison of a tree with itself: nothing differs while nothing is done, and what is done is seen.

use criu_tests::compare::State;
use criu_tests::tree::{NoTree, Tree};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

fn tree(spec: &str) -> (Tree, std::path::PathBuf) {
    assert!(std::path::Path::new(env!("CARGO_BIN_EXE_mkres")).exists());
    // What the tree leaves comes to us, and is ended with it.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    let dir = std::env::temp_dir().join(format!("preflight-compare-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    match Tree::make(spec, &dir) {
        Ok(tree) => (tree, dir),
        Err(NoTree::Skip(why) | NoTree::Broken(why)) => panic!("{spec}: {why}"),
    }
}

/// A duplicate of what mkres reports by this name: what is set through it is the tree's.
fn duplicate(tree: &Tree, name: &str) -> OwnedFd {
    let (pid, fd) = tree.place(name).unwrap();
    unsafe {
        let pidfd = OwnedFd::from_raw_fd(libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32);
        OwnedFd::from_raw_fd(libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd.unwrap(), 0) as i32)
    }
}

#[test]
fn what_is_changed_is_seen_and_nothing_else() {
    let (tree, dir) = tree("udp pipe:data unix-pair:data memfd:map eventfd [ timerfd:armed ] [ epoll inherit ]");
    let before = State::of(tree.pid);
    let same = before.differences(&State::of(tree.pid));
    assert!(same.is_empty(), "{same:?}");
    let (udp, eventfd) = (duplicate(&tree, "udp"), duplicate(&tree, "eventfd"));
    let ttl = 77i32;
    let add = 5u64;
    unsafe {
        libc::setsockopt(udp.as_raw_fd(), libc::IPPROTO_IP, libc::IP_TTL, (&raw const ttl).cast(), 4);
        libc::write(eventfd.as_raw_fd(), (&raw const add).cast(), 8);
    }
    let mut seen: Vec<String> = before.differences(&State::of(tree.pid)).iter().map(|d| d.at.clone()).collect();
    seen.sort();
    let (_, udp) = tree.place("udp").unwrap();
    let (_, eventfd) = tree.place("eventfd").unwrap();
    let mut expected =
        vec![format!("0 fd {} IP_TTL", udp.unwrap()), format!("0 fd {} eventfd-count", eventfd.unwrap())];
    expected.sort();
    assert_eq!(seen, expected);
    drop(tree);
    std::fs::remove_dir_all(dir).unwrap();
}
