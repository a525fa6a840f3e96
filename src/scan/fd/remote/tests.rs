//! On live resources of this process and of its own children.

mod devices;
mod options;
mod queues;
mod sockets;

use super::*;
use crate::bytes::Bytes;
use crate::snapshot::Answer;
use crate::snapshot::Dev;
use nix::fcntl::OFlag;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{self as sk, sockopt};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::RawFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn me() -> Process {
    let Seen::Seen(me) = Process::open(std::process::id().cast_signed()) else { panic!("pidfd_open") };
    me
}

fn ask(fd: &impl AsRawFd, what: SocketQuery) -> SocketFacts {
    match facts(&me(), fd.as_raw_fd(), FdQuery::Socket(what)) {
        Seen::Seen(Facts { detail: Some(Detail::Socket(s)), .. }) => s,
        other => panic!("{other:?}"),
    }
}

fn raw(domain: i32, kind: i32, protocol: i32) -> Option<OwnedFd> {
    // SAFETY: the result is a new descriptor, if it is one.
    unsafe {
        let fd = libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd))
    }
}

fn set(fd: &impl AsRawFd, level: i32, name: i32, value: &[u8]) -> i32 {
    // SAFETY: reads `value`.
    unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), value.len() as u32) }
}

const UNLISTED: fn() -> SocketQuery = || SocketQuery::about(None);

#[test]
fn flags_of_each_end_of_a_pipe() {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
    nix::fcntl::fcntl(&write, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_DIRECT)).unwrap();
    let flags = |fd: &OwnedFd| facts(&me(), fd.as_raw_fd(), FdQuery::Flags).ok().unwrap();
    let direct = libc::O_DIRECT.cast_unsigned();
    assert_eq!(flags(&read), Facts::default());
    assert_eq!(flags(&write).flags, libc::O_WRONLY.cast_unsigned() | direct);
}

#[test]
fn gone_and_denied() {
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let Seen::Seen(process) = Process::open(child.id().cast_signed()) else { panic!() };
    assert_eq!(facts(&process, 12345, FdQuery::Flags), Seen::Gone);
    assert!(matches!(facts(&process, 0, FdQuery::Flags), Seen::Seen(_)));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(facts(&process, 0, FdQuery::Flags), Seen::Gone);
    assert!(matches!(Process::open(child.id().cast_signed()), Seen::Gone));
    // SAFETY: geteuid has no preconditions.
    if unsafe { libc::geteuid() } != 0 {
        let Seen::Seen(init) = Process::open(1) else { panic!() };
        assert_eq!(facts(&init, 0, FdQuery::Flags), Seen::Denied(libc::EPERM));
    }
}

#[test]
fn nothing_stays_open() {
    let listing = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let (a, _b) = UnixDatagram::pair().unwrap();
    let pid = std::process::id();
    // Other tests open and close meanwhile: count in a process of its own.
    if std::env::var_os("BORROW_ALONE").is_none() {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--test-threads=1", "scan::borrow::tests::nothing_stays_open"])
            .env("BORROW_ALONE", "1")
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success());
        return;
    }
    let before = listing();
    for _ in 0..100 {
        ask(&a, SocketQuery { unix_file: true, netns: true, peer_pid: true, ..UNLISTED() });
    }
    assert_eq!((listing(), pid), (before, std::process::id()));
}

/// `cargo test --release -- --ignored --nocapture cost_of`
#[test]
#[ignore = "a measurement"]
fn cost_of_borrowing() {
    let me = me();
    let (udp, (pipe, _w)) = (UdpSocket::bind("127.0.0.1:0").unwrap(), nix::unistd::pipe().unwrap());
    let (unix, _b) = UnixDatagram::pair().unwrap();
    let mut out = std::io::stdout();
    for (name, fd, want) in [
        ("pipe flags", pipe.as_raw_fd(), FdQuery::Flags),
        (
            "unix listed",
            unix.as_raw_fd(),
            FdQuery::Socket(SocketQuery { filter: true, peer_pid: true, ..SocketQuery::default() }),
        ),
        (
            "udp listed",
            udp.as_raw_fd(),
            FdQuery::Socket(SocketQuery { filter: true, udp_cork: true, ..SocketQuery::default() }),
        ),
        ("udp unlisted", udp.as_raw_fd(), FdQuery::Socket(UNLISTED())),
    ] {
        let start = Instant::now();
        for _ in 0..20_000 {
            assert!(matches!(facts(&me, fd, want), Seen::Seen(_)));
        }
        writeln!(out, "{name}: {:.2} us", start.elapsed().as_secs_f64() * 1e6 / 20_000.0).unwrap();
    }
}

/// A socket with data that no process reads, whose owner has asked that its close waits ten minutes.
#[test]
fn the_last_close_of_what_was_borrowed_does_not_wait_for_its_peer() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let _server = listener.accept().unwrap();
    client.set_nonblocking(true).unwrap();
    while client.write(&[0; 65536]).is_ok() {}
    client.set_nonblocking(false).unwrap();
    let linger = libc::linger { l_onoff: 1, l_linger: 600 };
    sk::setsockopt(&client, sockopt::Linger, &linger).unwrap();
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        close(OwnedFd::from(client), FdQuery::Socket(SocketQuery::default()));
        done.send(()).unwrap();
    });
    ended.recv_timeout(Duration::from_secs(60)).expect("the close waits");
    assert!(!test_signals::has_silent_child());
}
