//! What sockets tell.

use super::*;

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
