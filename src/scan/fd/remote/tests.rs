//! On live resources of this process and of its own children.
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
fn identity_of_strange_families() {
    for (domain, kind, protocol) in [
        (libc::AF_VSOCK, libc::SOCK_STREAM, 0),
        (libc::AF_INET, libc::SOCK_STREAM, 262),
        (libc::AF_INET6, libc::SOCK_DGRAM, libc::IPPROTO_UDP),
        (libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
    ] {
        let Some(socket) = raw(domain, kind, protocol) else {
            println!("skip: socket({domain}, {kind}, {protocol}): {}", Errno::last());
            continue;
        };
        let s = ask(&socket, UNLISTED());
        assert_eq!((s.domain, s.kind, s.protocol), (Some(domain), Some(kind), Some(protocol)));
        assert!(!s.o_path);
        assert_eq!(s.readable, None, "only netlink is asked");
    }
}

#[test]
fn tcp_states_and_peers_past_and_present() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, from) = listener.accept().unwrap();
    let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    let s = ask(&client, UNLISTED());
    assert_eq!((s.tcp.state, s.tcp.peer), (Some(1), Some(listener.local_addr().unwrap())));
    assert_eq!(format!("net:[{}]", s.netns.unwrap()), own.to_str().unwrap());
    assert_eq!(ask(&listener, UNLISTED()).tcp.state, Some(10));
    // A reset closes the connection, and getpeername forgets.
    set(&client, libc::SOL_SOCKET, libc::SO_LINGER, &[1, 0, 0, 0, 0, 0, 0, 0]);
    drop(client);
    // A child of another test has a copy of the client's end until its exec.
    let deadline = Instant::now() + Duration::from_secs(10);
    while ask(&server, UNLISTED()).tcp.state == Some(1) && Instant::now() < deadline {
        std::thread::yield_now();
    }
    let s = ask(&server, UNLISTED());
    assert_eq!((s.tcp.state, s.tcp.peer), (Some(7), Some(from)), "closed, and still names its peer");
    let fresh = ask(&raw(libc::AF_INET, libc::SOCK_STREAM, 0).unwrap(), UNLISTED());
    assert_eq!((fresh.tcp.state, fresh.tcp.peer, fresh.filter), (Some(7), None, Answer::Is(0)));
}

#[test]
fn what_a_peek_would_not_reach() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let queue = |s: &TcpStream| {
        let s = ask(s, SocketQuery { tcp_queue: true, ..SocketQuery::default() });
        (s.tcp.peek_off, s.tcp.urgent_inline)
    };
    let int = |n: i32| n.to_ne_bytes();
    let peeks = set(&server, libc::SOL_SOCKET, libc::SO_PEEK_OFF, &int(3)) == 0;
    assert_eq!(queue(&server), (None, Some(false)), "nothing is there");
    client.write_all(b"abcdef").unwrap();
    server.peek(&mut [0; 1]).unwrap();
    if peeks {
        assert!(queue(&server).0.is_some_and(|off| off >= 3));
        set(&server, libc::SOL_SOCKET, libc::SO_PEEK_OFF, &int(-1));
    } else {
        println!("skip: SO_PEEK_OFF: {}", Errno::last());
    }
    sk::send(client.as_raw_fd(), b"x", sk::MsgFlags::MSG_OOB).unwrap();
    poll(&mut [PollFd::new(server.as_fd(), PollFlags::POLLPRI)], PollTimeout::MAX).unwrap();
    assert_eq!(queue(&server), (None, Some(false)), "not inline");
    set(&server, libc::SOL_SOCKET, libc::SO_OOBINLINE, &int(1));
    assert_eq!(queue(&server), (None, Some(true)));
    server.read_exact(&mut [0; 6]).unwrap();
    assert_eq!(queue(&server), (None, Some(false)), "it is the next to be read");
    server.read_exact(&mut [0; 1]).unwrap();
    assert_eq!(queue(&server), (None, Some(false)));
}

#[test]
fn corked_and_filtered() {
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(ask(&udp, UNLISTED()).udp_cork, Some(false));
    assert_eq!(set(&udp, libc::SOL_UDP, libc::UDP_CORK, &1i32.to_ne_bytes()), 0);
    assert_eq!(ask(&udp, UNLISTED()).udp_cork, Some(true));
    // One instruction: accept everything (BPF_RET | BPF_K).
    let code = [libc::sock_filter { code: 6, jt: 0, jf: 0, k: u32::MAX }];
    let program = libc::sock_fprog { len: 1, filter: code.as_ptr().cast_mut() };
    // SAFETY: the bytes of a structure without padding bits that matter to the kernel.
    let bytes = unsafe { std::slice::from_raw_parts(std::ptr::from_ref(&program).cast(), size_of_val(&program)) };
    assert_eq!(set(&udp, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, bytes), 0);
    assert_eq!(ask(&udp, UNLISTED()).filter, Answer::Is(1));
    assert_eq!(
        ask(&udp, SocketQuery { filter: true, ..SocketQuery::default() }),
        SocketFacts { filter: Answer::Is(1), ..Default::default() }
    );
}

#[test]
fn address_and_interface_of_what_no_list_has() {
    let udp = UdpSocket::bind("[::1]:0").unwrap();
    let s = ask(&udp, UNLISTED());
    assert_eq!((s.local, s.bound_device), (Some(udp.local_addr().unwrap()), Answer::Is(Bytes::default())));
    let s = ask(&UdpSocket::bind("127.0.0.1:0").unwrap(), UNLISTED());
    assert!(s.local.is_some_and(|a| a.is_ipv4() && a.port() != 0));
    assert_eq!(ask(&UnixDatagram::unbound().unwrap(), UNLISTED()).local, None);
    if set(&udp, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, b"lo\0") == 0 {
        assert_eq!(ask(&udp, UNLISTED()).bound_device, Answer::Is("lo".into()));
    } else {
        println!("skip: SO_BINDTODEVICE: {}", Errno::last());
    }
}

#[test]
fn netlink_with_and_without_data() {
    let netlink = raw(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE).unwrap();
    assert_eq!(ask(&netlink, UNLISTED()).readable, Some(false));
    // RTM_GETLINK of interface 1.
    let mut request = [0u8; 32];
    request[0] = 32;
    request[4] = 18;
    request[6] = 1;
    request[20] = 1;
    sk::send(netlink.as_raw_fd(), &request, sk::MsgFlags::empty()).unwrap();
    assert_eq!(ask(&netlink, UNLISTED()).readable, Some(true));
    assert_eq!(ask(&netlink, UNLISTED()).readable, Some(true), "asking takes nothing out");
}

#[test]
fn unix_names_peers_and_options() {
    let dir = std::env::temp_dir().join(format!("borrow-{}\n\u{7f}x", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    let bound = UnixDatagram::bind(dir.join("s")).unwrap();
    let what = SocketQuery { unix_file: true, queue: true, peer_pid: true, ..SocketQuery::default() };
    let s = ask(&bound, what);
    let name = Bytes(dir.join("s").into_os_string().into_encoded_bytes());
    assert_eq!(s.unix.file, Answer::Is(name.clone()));
    let queue = s.unix.queue.unwrap();
    assert_eq!((queue.passcred, queue.passsec, s.unix.peer_pid), (Some(false), Some(false), None));
    std::fs::rename(dir.join("s"), dir.join("t")).unwrap();
    assert_eq!(ask(&bound, what).unix.file, Answer::Is(Bytes(dir.join("t").into_os_string().into_encoded_bytes())));
    let path =
        nix::fcntl::open(&dir.join("t"), OFlag::O_PATH | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty()).unwrap();
    assert_eq!(ask(&path, UNLISTED()), SocketFacts { o_path: true, ..SocketFacts::default() });
    std::fs::remove_dir_all(&dir).unwrap();
    let Answer::Is(deleted) = ask(&bound, what).unix.file else { panic!() };
    assert!(deleted.ends_with(b" (deleted)"), "{deleted}");

    let (a, b) = UnixDatagram::pair().unwrap();
    sk::setsockopt(&a, sockopt::PassCred, &true).unwrap();
    let s = ask(&a, what);
    let queue = s.unix.queue.unwrap();
    assert_eq!((queue.passcred, s.unix.peer_pid), (Some(true), Some(std::process::id().cast_signed())));
    assert_eq!((s.unix.file, queue.scm_fds), (Answer::Errno(libc::ENOENT), Some(0)));
    let (fds, data) = ([0], [std::io::IoSlice::new(b"x")]);
    sk::sendmsg::<()>(b.as_raw_fd(), &data, &[sk::ControlMessage::ScmRights(&fds)], sk::MsgFlags::empty(), None)
        .unwrap();
    assert_eq!(ask(&a, what).unix.queue.unwrap().scm_fds, Some(1));
}

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

#[test]
fn flags_of_each_end_of_a_pipe() {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
    nix::fcntl::fcntl(&write, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_DIRECT)).unwrap();
    let flags = |fd: &OwnedFd| facts(&me(), fd.as_raw_fd(), FdQuery::Flags).ok().unwrap();
    let direct = libc::O_DIRECT.cast_unsigned();
    assert_eq!(flags(&read), Facts::default());
    assert_eq!(flags(&write).flags, libc::O_WRONLY.cast_unsigned() | direct);
}

fn ptmx() -> OwnedFd {
    let master = nix::fcntl::open(
        "/dev/ptmx",
        OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    );
    let master = master.unwrap();
    // SAFETY: writes nothing, reads one int.
    assert_eq!(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &0) }, 0);
    master
}

fn tty_of(process: &Process, fd: RawFd) -> TtyFacts {
    match facts(process, fd, FdQuery::Tty { master: false }) {
        Seen::Seen(Facts { detail: Some(Detail::Tty(t)), .. }) => t,
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_sides_of_a_terminal_that_is_a_childs() {
    let master = ptmx();
    let index = tty_of(&me(), master.as_raw_fd()).index.unwrap();
    let slave = std::fs::OpenOptions::new().read(true).write(true).open(format!("/dev/pts/{index}")).unwrap();
    // SAFETY: between fork and exec only two system calls.
    let child = unsafe {
        std::os::unix::process::CommandExt::pre_exec(
            Command::new("sleep").arg("60").stdin(slave.try_clone().unwrap()),
            || {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            },
        )
        .spawn()
    };
    let mut child = child.unwrap();
    let pid = child.id().cast_signed();
    let Seen::Seen(process) = Process::open(pid) else { panic!() };
    let deadline = Instant::now() + Duration::from_secs(10);
    let m = loop {
        let m = tty_of(&me(), master.as_raw_fd());
        if m.sid.is_some() || Instant::now() > deadline {
            break m;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let own = std::fs::metadata("/proc/self/ns/pid").unwrap();
    let sid_pidns = Some(std::os::unix::fs::MetadataExt::ino(&own));
    let (sid, pgrp, hung_up) = (Some(pid), Some(pid), Some(false));
    // Of either side: the slave's.
    let device = Some(Dev { major: 136, minor: index });
    let sent = TtyFacts { index: Some(index), master: true, ..TtyFacts::default() };
    let master_of = TtyFacts { sid, sid_pidns, pgrp, hung_up, device, ..sent };
    assert_eq!(m, master_of);
    let s = tty_of(&process, 0);
    assert_eq!(s, TtyFacts { hung_up: Some(false), device, ..TtyFacts::default() });
    let before = std::fs::read_to_string("/proc/self/stat").unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(facts(&process, 0, FdQuery::Tty { master: false }), Seen::Gone, "it died between opening and asking");
    drop(master);
    // A child of another test has a copy of the master until its exec.
    while tty_of(&me(), slave.as_raw_fd()).hung_up == Some(false) && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(tty_of(&me(), slave.as_raw_fd()).hung_up, Some(true));
    let tty_nr = |stat: &str| stat.rsplit(')').next().unwrap().split(' ').nth(5).unwrap().to_string();
    assert_eq!(
        tty_nr(&before),
        tty_nr(&std::fs::read_to_string("/proc/self/stat").unwrap()),
        "no terminal became ours"
    );
}

#[test]
fn a_hang_up_is_for_good() {
    let einval = Some(Err(libc::EINVAL));
    let (number, none, eio) = (Some(Ok(7)), Some(Err(libc::ENOTTY)), Some(Err(libc::EIO)));
    for (asked, hung_up) in [
        ([none, none, number, none, number], Some(false)),
        ([eio; 5], Some(true)),
        // Meanwhile.
        ([none, none, number, eio, eio], Some(true)),
        ([none, None, number, eio, eio], Some(true)),
        ([eio, None, eio, eio, None], Some(true)),
        // Nothing was answered, or nothing that tells.
        ([None; 5], None),
        ([None, None, einval, einval, einval], None),
        // A call that failed.
        ([none, eio, number, none, number], None),
        ([eio, eio, number, none, number], None),
        ([none, none, number, none, eio], None),
    ] {
        assert_eq!(ask::hung_up(&asked), hung_up, "{asked:?}");
    }
}

#[test]
fn tun_and_tap() {
    let open = || nix::fcntl::open("/dev/net/tun", OFlag::O_RDWR | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty());
    let tun = match open() {
        Ok(tun) => tun,
        Err(e) => return println!("skip: /dev/net/tun: {e}"),
    };
    let tun_of = |fd: &OwnedFd| match facts(&me(), fd.as_raw_fd(), FdQuery::Tun) {
        Seen::Seen(Facts { detail: Some(Detail::Tun(t)), .. }) => t,
        other => panic!("{other:?}"),
    };
    let t = tun_of(&tun);
    assert_eq!((t.flags, t.name, t.filter), (None, None, None), "not attached");
    assert!(t.netns.is_some());
    for (kind, filter) in [(libc::IFF_TUN, None), (libc::IFF_TAP, Some(false))] {
        let tun = open().unwrap();
        // SAFETY: struct ifreq is made of numbers.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        request.ifr_ifru.ifru_flags = (kind | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: reads and writes one struct ifreq.
        let r = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF as libc::Ioctl, &mut request) };
        if r != 0 {
            return println!("skip: TUNSETIFF: {}", Errno::last());
        }
        let t = tun_of(&tun);
        assert_eq!(t.flags.unwrap() & 3, kind as u32);
        assert!(t.name.unwrap().starts_with(b"t"));
        assert_eq!(t.filter, filter);
    }
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

/// A socket with data that nobody reads, whose owner has asked that its close waits ten minutes.
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
