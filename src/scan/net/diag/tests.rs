//! On live sockets, here and in network namespaces of own threads.
use super::*;
use crate::parse::diag::{InetDiag, NetlinkDiag, UnixDiag};
use std::os::fd::FromRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::sync::mpsc;

fn inode(fd: &impl AsFd) -> u32 {
    u32::try_from(nix::sys::stat::fstat(fd).unwrap().st_ino).unwrap()
}

fn net_of(pid: i32) -> u64 {
    let file = std::fs::File::open(format!("/proc/{pid}/ns/net")).unwrap();
    nix::sys::stat::fstat(&file).unwrap().st_ino
}

fn task(pid: i32) -> Task {
    Task { pid, ns: Namespaces { net: Some(net_of(pid)), ..Namespaces::default() }, ..Task::default() }
}

fn me() -> Task {
    task(std::process::id().cast_signed())
}

fn unix(table: &SocketTable, fd: &impl AsFd) -> UnixDiag {
    let found: Vec<_> = table.unix.iter().filter(|s| s.ino == inode(fd)).collect();
    assert_eq!(found.len(), 1);
    found[0].clone()
}

fn inet(table: &SocketTable, fd: &impl AsFd) -> Vec<InetDiag> {
    table.inet.iter().filter(|s| s.inode == inode(fd)).cloned().collect()
}

fn raw(domain: i32, kind: i32, protocol: i32) -> nix::Result<OwnedFd> {
    // SAFETY: the result is a new descriptor, if it is one.
    unsafe {
        Errno::result(libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol)).map(|fd| OwnedFd::from_raw_fd(fd))
    }
}

/// Runs `work` in a thread with a network namespace of its own and asks from outside: for everything, and for what `held`
/// names of its sockets; `judge` sees both and gets whether it is the first.
fn open_in_netns<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
    held: impl FnOnce(&T) -> Vec<u32>,
    judge: impl Fn(&T, &SocketTable, bool),
) {
    let (tell, received) = mpsc::channel();
    let (stop, stopped) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let done = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).map(|()| {
            loopback_up();
            (nix::unistd::gettid().as_raw(), work())
        });
        tell.send(done).unwrap();
        let _ = stopped.recv();
    });
    match received.recv().unwrap() {
        Err(e) => println!("skip: unshare(CLONE_NEWNET): {e}"),
        Ok((tid, made)) => {
            let held: Set<u64> = held(&made).into_iter().map(u64::from).collect();
            let (other, observer) = (task(tid), me().ns);
            assert_ne!(other.ns.net, observer.net);
            for held in [None, Some(&held)] {
                let (tables, unchecked) =
                    tables(&[other.clone(), other.clone(), me()], &observer, Families::ALL, held, &HashMap::new());
                assert_eq!(unchecked, []);
                assert_eq!(tables.len(), 2, "each namespace once");
                assert_eq!(tables[1].netns, observer.net.unwrap());
                assert_eq!(net_of(std::process::id().cast_signed()), observer.net.unwrap(), "we have not moved");
                judge(&made, &tables[0], held.is_none());
            }
        }
    }
    drop(stop);
    thread.join().unwrap();
}

fn loopback_up() {
    let socket = raw(libc::AF_INET, libc::SOCK_DGRAM, 0).unwrap();
    // SAFETY: struct ifreq is made of numbers.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[..2].copy_from_slice(&[b'l' as libc::c_char, b'o' as libc::c_char]);
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: reads one struct ifreq.
    assert_eq!(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as libc::Ioctl, &request) }, 0);
}

#[test]
fn unix_sockets_with_hostile_names() {
    let dir = std::env::temp_dir().join(format!("diag-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("a\nb \u{1b}[31m");
    let bound = UnixListener::bind(&path).unwrap();
    let waiting = UnixStream::connect(&path).unwrap();
    let name = format!("hostile\0\n\"{}", std::process::id());
    let hidden = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(name.as_bytes()).unwrap()).unwrap();
    let (a, b) = UnixStream::pair().unwrap();
    let (tables, unchecked) =
        tables(&[me()], &me().ns, Families { inet: false, mptcp: false, ..Families::ALL }, None, &HashMap::new());
    assert_eq!((tables.len(), unchecked), (1, vec![]));
    let table = &tables[0];
    assert_eq!((table.inet.len(), table.failed.as_slice()), (0, &[][..]));
    assert_eq!(unix(table, &bound).path(), Some(path.as_os_str().as_encoded_bytes()));
    assert_eq!(unix(table, &bound).icons, Some(vec![inode(&waiting)]));
    assert_eq!(unix(table, &hidden).name.as_deref(), Some([b"\0", name.as_bytes()].concat().as_slice()));
    assert_eq!((unix(table, &a).peer, unix(table, &b).peer), (Some(inode(&b)), Some(inode(&a))));
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn tcp_of_another_namespace() {
    let work = || {
        let listener = std::net::TcpListener::bind("127.0.0.1:80").unwrap();
        let backlog = std::net::TcpStream::connect("127.0.0.1:80").unwrap();
        let udp = std::net::UdpSocket::bind("[::1]:53").unwrap();
        let (a, b) = UnixStream::pair().unwrap();
        (listener, backlog, udp, a, b)
    };
    let held = |(listener, backlog, udp, a, b): &(_, _, _, _, _)| {
        vec![inode(listener), inode(backlog), inode(udp), inode(a), inode(b)]
    };
    open_in_netns(work, held, |(listener, backlog, udp, a, b), table, _| {
        let l = inet(table, listener);
        assert_eq!(
            l.iter().map(|s| (s.family, s.protocol, s.state, s.sport, s.rqueue)).collect::<Vec<_>>(),
            [(2, 6, 10, 80, 1)]
        );
        let c = inet(table, backlog);
        assert_eq!(c.iter().map(|s| (s.state, s.dport)).collect::<Vec<_>>(), [(1, 80)]);
        assert_eq!(inet(table, udp).iter().map(|s| (s.family, s.protocol)).collect::<Vec<_>>(), [(10, 17)]);
        assert_eq!(unix(table, a).peer, Some(inode(b)));
        assert!(table.inet.iter().all(|s| s.inode != 0), "not accepted yet: no file, not here");
        // Whatever this kernel lacks is named, and only that.
        for (family, protocol, errno) in &table.failed {
            println!("this kernel's diag knows no {family}/{protocol}: errno {errno}");
            assert!(matches!(protocol, 136 | 255 | 262), "{:?}", table.failed);
        }
    });
}

#[test]
fn mptcp_packet_and_netlink_groups_of_another_namespace() {
    let work = || {
        let mptcp = raw(libc::AF_INET, libc::SOCK_STREAM, 262).and_then(|s| {
            // Binds to a port of the kernel's choice.
            socket::listen(&s, socket::Backlog::new(1).unwrap())?;
            Ok(s)
        });
        let packet = raw(libc::AF_PACKET, libc::SOCK_RAW, i32::from(0x0300u16)).unwrap();
        let netlink = raw(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE).unwrap();
        for group in [1u32, 33] {
            // SAFETY: reads one int.
            let r = unsafe {
                let value = std::ptr::from_ref(&group).cast();
                libc::setsockopt(netlink.as_raw_fd(), libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, value, 4)
            };
            assert_eq!(r, 0);
        }
        (mptcp, packet, netlink)
    };
    let held = |(mptcp, packet, netlink): &(nix::Result<OwnedFd>, OwnedFd, OwnedFd)| {
        mptcp.iter().map(inode).chain([inode(packet), inode(netlink)]).collect()
    };
    open_in_netns(work, held, |(mptcp, packet, netlink), table, everything| {
        match mptcp {
            Ok(socket) => {
                // The first subflow is listed as TCP under the same inode.
                let protocols: Vec<_> = inet(table, socket).iter().map(|s| (s.protocol, s.state)).collect();
                assert_eq!(protocols, if everything { vec![(6, 10), (262, 10)] } else { vec![(6, 10)] });
            }
            Err(e) => println!("skip: MPTCP: {e}"),
        }
        assert_eq!(table.packet.iter().filter(|s| s.ino == inode(packet)).count(), 1);
        let found: Vec<&NetlinkDiag> = table.netlink.iter().filter(|s| s.ino == inode(netlink)).collect();
        assert_eq!(found.len(), 1, "the kernel lists a group member twice");
        let groups = found[0].groups.as_ref().unwrap();
        assert_eq!((groups[0], groups[1]), (1, 1), "group 1 and group 33");
    });
}

#[test]
fn tcp_is_left_alone_once_everything_is_found() {
    let (a, b) = UnixStream::pair().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let ask = |held: &[u32]| {
        let held = held.iter().map(|ino| u64::from(*ino)).collect();
        tables(&[me()], &me().ns, Families::ALL, Some(&held), &HashMap::new()).0.remove(0)
    };
    let table = ask(&[inode(&a), inode(&b)]);
    assert_eq!(inet(&table, &listener), []);
    assert!(!table.inet.iter().any(|s| s.protocol == TCP));
    assert!(!table.failed.iter().any(|(_, protocol, _)| *protocol == TCP), "{:?}", table.failed);
    assert_eq!(inet(&ask(&[inode(&a), inode(&listener)]), &listener).len(), 1);
    // A number that no table has, as of a socket that was never bound.
    assert_eq!(inet(&ask(&[0xffff_fff0]), &listener).len(), 1);
}

#[test]
fn what_the_kernel_can_tell_is_found_out_once() {
    let (a, _b) = UnixStream::pair().unwrap();
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let ask = |held: u32, refused: &Refused| {
        let held = Set::from_iter([u64::from(held)]);
        tables(&[me()], &me().ns, Families::ALL, Some(&held), refused).0.remove(0)
    };
    let first = ask(inode(&a), &Refused::new());
    assert_eq!(inet(&first, &udp).len(), 1);
    let mut refused = Refused::from([(first.netns, first.failed.clone())]);
    let second = ask(inode(&a), &refused);
    assert_eq!((inet(&second, &udp), &second.failed), (vec![], &first.failed));
    // What is not found is looked for all the same.
    assert_eq!(inet(&ask(inode(&udp), &refused), &udp).len(), 1);
    refused.insert(first.netns, vec![(INET6, TCP, libc::ENOENT)]);
    assert_eq!(ask(inode(&a), &refused).failed, [(INET6, TCP, libc::ENOENT)]);
}

#[test]
fn a_namespace_whose_tasks_have_gone_is_no_finding() {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let pid = child.id().cast_signed();
    child.wait().unwrap();
    let gone = Task { pid, ns: Namespaces { net: Some(1), ..Namespaces::default() }, ..Task::default() };
    // Alive, but no longer in that namespace.
    let moved = Task { pid: std::process::id().cast_signed(), ..gone.clone() };
    assert_eq!(tables(&[gone, moved], &me().ns, Families::ALL, None, &HashMap::new()), (vec![], vec![]));
}

#[test]
fn the_child_leaves_nothing_behind() {
    let ns =
        inside::open(inside::netlink(libc::NETLINK_SOCK_DIAG), std::process::id().cast_signed(), me().ns.net.unwrap())
            .unwrap()
            .unwrap();
    let mask = || nix::sys::signal::SigSet::thread_get_mask().unwrap();
    let before = mask();
    let socket = inside::make(ns.as_fd(), inside::netlink(libc::NETLINK_SOCK_DIAG), PATIENCE).unwrap();
    assert_eq!(mask(), before);
    let flags = nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_GETFD).unwrap();
    assert_eq!(flags, libc::FD_CLOEXEC);
    assert!(!table(&socket, 1, Families::ALL, &mut None, None).0.unix.is_empty());
    // A descriptor that is no network namespace: the child's errno comes back.
    let file = std::fs::File::open("/proc/self/ns/uts").unwrap();
    assert_eq!(
        inside::make(file.as_fd(), inside::netlink(libc::NETLINK_SOCK_DIAG), PATIENCE).unwrap_err(),
        Errno::EINVAL
    );
    // No child of this thread without an exit signal is left (those of other tests have one).
    assert!(!test_signals::has_silent_child());
}

/// `cargo test --release -- --ignored --nocapture cost_of`
fn ip_batch(commands: &str) -> std::io::Result<std::process::ExitStatus> {
    use std::io::Write;
    let mut ip = std::process::Command::new("ip").args(["-batch", "-"]).stdin(std::process::Stdio::piped()).spawn()?;
    ip.stdin.take().unwrap().write_all(commands.as_bytes())?;
    ip.wait()
}

/// In a network namespace of an own thread, with a route socket there; `commands` are ip(8)'s.
fn with_routes(commands: &str, judge: impl FnOnce(&OwnedFd) + Send + 'static) {
    let commands = commands.to_string();
    let thread = std::thread::spawn(move || {
        if let Err(e) = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET) {
            return println!("skip: unshare(CLONE_NEWNET): {e}");
        }
        loopback_up();
        match ip_batch(&commands) {
            Ok(status) if status.success() => {
                judge(&raw(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE).unwrap())
            }
            other => println!("skip: ip -batch: {other:?}"),
        }
    });
    thread.join().unwrap();
}

#[test]
fn routes_that_matter_are_kept() {
    let made = "route add 10.1.0.0/16 dev lo\nroute add 10.2.0.0/16 dev lo table 100\nroute add 10.3.0.0/16 dev lo table 100\n\
                nexthop add id 5 dev lo\nroute add 10.4.0.0/16 nhid 5\n";
    with_routes(made, |socket| {
        let found = routes::of(&mut DiagSocket::new(socket)).unwrap();
        assert_eq!((found.down, found.others), (vec![], vec![100]));
        let by: Vec<_> = found.by_nexthop.iter().map(|r| (r.dst.unwrap().to_string(), r.nexthop)).collect();
        assert_eq!(by, [("10.4.0.0".to_string(), Some(5))]);
    });
}

#[test]
fn of_a_large_routing_table_only_the_beginning_is_read() {
    let made: String =
        (0..30_000).map(|n| format!("route add 10.{}.{}.{}/32 dev lo\n", n >> 16, n >> 8 & 0xff, n & 0xff)).collect();
    with_routes(&made, |socket| {
        let (request, count) = (|seq| diag::route_request(seq, INET), |n: usize| (1000..29_000).contains(&n));
        let dump = DiagSocket::new(socket).first(request, diag::route, routes::MOST_DATAGRAMS).unwrap();
        assert_eq!(dump.end, None);
        assert!(count(dump.sockets.len()), "{}", dump.sockets.len());
        // The kernel makes no other on this socket.
        let again = DiagSocket::new(socket).first(request, diag::route, 1);
        assert!(again.is_ok_and(|dump| dump.end != Some(0)));
    });
}

#[test]
#[ignore = "a measurement"]
fn cost_of_a_table() {
    let measure = |name: &str, tasks: &[Task], held: Option<&Set<u64>>| {
        let start = Instant::now();
        let rounds = 200;
        let mut sockets = 0;
        for _ in 0..rounds {
            let (tables, _) = tables(tasks, &me().ns, Families::ALL, held, &HashMap::new());
            sockets = tables.iter().map(|t| t.unix.len() + t.inet.len() + t.packet.len() + t.netlink.len()).sum();
        }
        println!("{name}: {:.0} us, {sockets} sockets", start.elapsed().as_secs_f64() * 1e6 / f64::from(rounds));
    };
    measure("own namespace, everything", &[me()], None);
    measure("own namespace, no TCP held", &[me()], Some(&Set::default()));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    measure("own namespace, IPv4 TCP held", &[me()], Some(&Set::from_iter([u64::from(inode(&listener))])));
    let pairs: Vec<_> = (0..500).map(|_| UnixStream::pair().unwrap()).collect();
    measure("own namespace and 1000 more, no TCP held", &[me()], Some(&Set::default()));
    drop(pairs);
    let (tell, received) = mpsc::channel();
    let (stop, stopped) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        tell.send(nix::unistd::gettid().as_raw()).unwrap();
        let _ = stopped.recv();
    });
    measure("another namespace, empty", &[task(received.recv().unwrap())], Some(&Set::default()));
    drop(stop);
    thread.join().unwrap();
}
