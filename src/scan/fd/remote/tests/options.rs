//! Options that CRIU does not save.

use super::*;
use crate::criu_model::socket_options::UNSAVED;

fn unsaved(fd: &impl AsRawFd) -> Vec<&'static str> {
    let found_options = ask(fd, SocketQuery { options: true, ..SocketQuery::default() }).unsaved_options;
    UNSAVED.iter().filter(|o| found_options.contains(&(o.level, o.number))).map(|o| o.name).collect()
}

/// Sockets of every kind, as they are made.
fn fresh() -> Vec<OwnedFd> {
    use libc::{AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_STREAM};
    let kinds = [
        (AF_UNIX, SOCK_STREAM, 0),
        (AF_UNIX, SOCK_DGRAM, 0),
        (AF_UNIX, SOCK_SEQPACKET, 0),
        (AF_INET, SOCK_STREAM, 0),
        (AF_INET, SOCK_DGRAM, 0),
        (AF_INET, SOCK_RAW, libc::IPPROTO_ICMP),
        (AF_INET, SOCK_DGRAM, libc::IPPROTO_UDPLITE),
        (AF_INET6, SOCK_STREAM, 0),
        (AF_INET6, SOCK_DGRAM, 0),
        (AF_INET6, SOCK_RAW, libc::IPPROTO_ICMPV6),
        (AF_NETLINK, SOCK_RAW, libc::NETLINK_ROUTE),
        (AF_NETLINK, SOCK_RAW, libc::NETLINK_SOCK_DIAG),
        (AF_PACKET, SOCK_RAW, 0),
    ];
    kinds.into_iter().filter_map(|(domain, kind, protocol)| raw(domain, kind, protocol)).collect()
}

#[test]
fn a_socket_of_which_nothing_is_set_loses_nothing() {
    let sockets = fresh();
    assert!(sockets.len() > 5);
    for socket in &sockets {
        assert_eq!(
            unsaved(socket),
            Vec::<&str>::new(),
            "{:?}",
            super::super::ask::number(socket, libc::SOL_SOCKET, 39)
        );
    }
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(address) else { continue };
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let udp = UdpSocket::bind(address).unwrap();
        udp.connect(udp.local_addr().unwrap()).unwrap();
        let all = [unsaved(&listener), unsaved(&client), unsaved(&server), unsaved(&udp)];
        assert_eq!(all.concat(), Vec::<&str>::new(), "{address}");
    }
    let (a, b) = UnixStream::pair().unwrap();
    assert_eq!([unsaved(&a), unsaved(&b)].concat(), Vec::<&str>::new());
}

#[test]
fn what_is_set_is_named() {
    let on = 1i32.to_ne_bytes();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(set(&udp, libc::SOL_UDP, 104, &on), 0);
    assert_eq!(set(&udp, libc::SOL_IP, libc::IP_RECVTTL, &on), 0);
    // Which CRIU saves.
    assert_eq!(set(&udp, libc::SOL_SOCKET, libc::SO_BROADCAST, &on), 0);
    assert_eq!(unsaved(&udp), ["IP_RECVTTL", "UDP_GRO"]);
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(set(&tcp, libc::SOL_TCP, libc::TCP_DEFER_ACCEPT, &7i32.to_ne_bytes()), 0);
    assert_eq!(unsaved(&tcp), ["TCP_DEFER_ACCEPT"]);
    // Not asked.
    assert_eq!(ask(&tcp, SocketQuery::default()).unsaved_options, []);
}

/// `cargo test --release -- --ignored --nocapture cost_of`
#[test]
#[ignore = "a measurement"]
fn cost_of_unsaved_options() {
    for socket in fresh() {
        let family = super::super::ask::number(&socket, libc::SOL_SOCKET, 39).unwrap();
        let time = |options: bool| {
            let start = Instant::now();
            for _ in 0..2000 {
                ask(&socket, SocketQuery { options, ..SocketQuery::default() });
            }
            start.elapsed().as_secs_f64() * 1e6 / 2000.0
        };
        println!("family {family}: {:.1} us without, {:.1} us with", time(false), time(true));
    }
}
