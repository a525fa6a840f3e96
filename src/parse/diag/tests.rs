//! The datagrams in fuzz/corpus/diag are answers of Linux 6.18 to the requests of this module.
use super::*;
use proptest::prelude::*;
use std::net::Ipv4Addr;

macro_rules! answer {
    ($name:literal) => {
        include_bytes!(concat!("../../../fuzz/corpus/diag/", $name))
    };
}

fn dump<T>(datagram: &[u8], decode: impl Fn(&[u8]) -> Option<T>) -> Dump<T> {
    let mut dump = Dump::new(1);
    assert!(dump.feed(datagram, decode));
    assert_eq!((dump.bad, dump.interrupted), (0, false));
    dump
}

#[test]
fn unix_answer() {
    let sockets = dump(answer!("unix"), unix).sockets;
    let find = |ino| sockets.iter().find(|s| s.ino == ino).unwrap();
    assert_eq!(sockets.len(), 7);
    // With the user ids, and the end of the dump.
    let whole: u32 = sockets.iter().map(|s| s.length + 8).sum();
    assert_eq!(whole as usize + 20, answer!("unix").len());

    let listener = find(14897);
    assert_eq!((listener.type_, listener.state), (1, 10));
    assert_eq!(listener.name.as_deref(), Some(&b"\0hos\ntile\xff \x1b[0m"[..]));
    assert_eq!((listener.path(), &listener.icons), (None, &Some(vec![14898])));
    assert_eq!(listener.rqlen, Some(Queues { rqueue: 1, wqueue: 3 }));

    // Connected, but not accepted: the peer has no inode yet.
    assert_eq!((find(14898).peer, &find(14898).name), (Some(0), &None));

    let bound = find(14899);
    assert_eq!((bound.type_, bound.path()), (2, Some(&b"/tmp/parse/us"[..])));
    assert_eq!((bound.vfs, bound.uid), (Some(UnixVfs { ino: 0x98c054, dev: 0xfe00000 }), Some(0)));

    let (a, b) = (find(14900), find(14901));
    assert_eq!((a.peer, b.peer, a.type_), (Some(14901), Some(14900), 5));
    assert_eq!((a.shutdown, b.shutdown), (Some(1), Some(2)));
    assert_eq!(b.rqlen, Some(Queues { rqueue: 5, wqueue: 0 }));
}

#[test]
fn inet_answers() {
    let tcp = dump(answer!("tcp4"), |p| inet(p, 6)).sockets;
    let find = |ino| tcp.iter().find(|s: &&InetDiag| s.inode == ino).unwrap();
    let (listener, client, server) = (find(14902), find(14903), find(14904));
    assert_eq!((listener.state, listener.sport, listener.dport), (10, 43481, 0));
    assert_eq!((client.state, client.sport, client.dport, client.shutdown), (5, 47092, 43481, Some(2)));
    assert_eq!((server.state, server.sport, server.shutdown, server.protocol), (8, 43481, Some(1), 6));
    assert_eq!((server.src, server.family), (Ipv4Addr::LOCALHOST.into(), 2));
    assert!(tcp.iter().any(|s| s.state == 6 && s.inode == 0 && s.shutdown.is_none()));

    let tcp6 = dump(answer!("tcp6"), |p| inet(p, 6)).sockets;
    assert_eq!((tcp6[0].src, tcp6[0].sport), ("::1".parse().unwrap(), 45097));
    assert_eq!((tcp6[0].inode, tcp6[0].v6only), (14905, Some(true)));

    let udp = dump(answer!("udp4"), |p| inet(p, 17)).sockets;
    assert_eq!((udp[0].sport, udp[0].state, udp[0].v6only), (52424, 7, None));
    let mptcp = dump(answer!("mptcp"), |p| inet(p, 262)).sockets;
    assert_eq!((mptcp[0].sport, mptcp[0].state, mptcp[0].protocol), (42349, 10, 262));
}

#[test]
fn upper_layer_and_raw_protocol() {
    // No TLS socket at hand: net/ipv4/tcp_diag.c nests the name, with a NUL, in INET_DIAG_ULP_INFO.
    let head = answer!("udp4").get(16..16 + 72).unwrap();
    let nested = [&8u16.to_ne_bytes()[..], &1u16.to_ne_bytes(), b"tls\0"].concat();
    let ulp = [&12u16.to_ne_bytes()[..], &(19u16 | 0x8000).to_ne_bytes(), &nested].concat();
    let raw = [&5u16.to_ne_bytes()[..], &10u16.to_ne_bytes(), &[89, 0, 0, 0]].concat();
    let socket = inet(&[head, &ulp, &raw].concat(), 6).unwrap();
    assert_eq!((socket.ulp, socket.raw_protocol), (Some("tls".into()), Some(89)));
    // An attribute longer than the message: the socket is not trusted.
    assert_eq!(inet(&[head, &nested[..6]].concat(), 6), None);
}

#[test]
fn packet_answer() {
    let sockets = dump(answer!("packet"), packet).sockets;
    let [bound, dgram, ring] = sockets.as_slice() else { panic!("{sockets:?}") };
    assert_eq!((bound.ino, bound.type_, bound.num, bound.fanout), (14910, 3, 3, Some(7)));
    let info = PacketInfo { index: 1, version: 0, reserve: 0, copy_thresh: 0, tstamp: 0, flags: 1 };
    assert_eq!(bound.info, Some(info));
    assert_eq!(bound.mclist, Some(vec![PacketMcList { index: 1, count: 1, type_: 0, alen: 6 }]));
    assert_eq!((dgram.type_, &dgram.mclist, dgram.rx_ring, dgram.fanout), (2, &Some(vec![]), None, None));
    let rx = PacketRing { block_size: 4096, block_nr: 1, frame_size: 2048, frame_nr: 2 };
    assert_eq!((ring.rx_ring, ring.tx_ring), (Some(rx), None));
}

#[test]
fn netlink_answer() {
    let sockets = dump(answer!("netlink"), netlink).sockets;
    let mine: Vec<_> = sockets.iter().filter(|s| s.ino == 14913).collect();
    // In a group, so it is there twice.
    assert_eq!(mine.len(), 2);
    assert_eq!((mine[0].type_, mine[0].protocol, mine[0].portid), (3, 0, 7657));
    assert_eq!((&mine[0].groups, mine[0].rmem), (&Some(vec![1 | 1 << 4 | 1 << 29, 0]), Some(0)));
    assert!(sockets.iter().any(|s| s.rmem.is_some_and(|n| n > 0)));
}

#[test]
fn ends_and_refusals() {
    // No module for raw sockets: ENOENT in the end of the dump. Unknown family: EINVAL.
    assert_eq!(dump(answer!("raw4"), |p| inet(p, 255)).end, Some(2));
    assert_eq!(dump(answer!("err"), unix).end, Some(22));
    assert_eq!(dump(answer!("unix"), unix).end, Some(0));
    // Of another request.
    let mut other = Dump::new(2);
    assert!(!other.feed(answer!("unix"), unix));
    assert_eq!((other.sockets.len(), other.bad), (0, 0));
    // A torn datagram costs its last entry, not those before.
    let mut torn = Dump::new(1);
    assert!(!torn.feed(&answer!("unix")[..200], unix));
    assert_eq!((torn.sockets.len(), torn.bad), (2, 1));
}

#[test]
fn an_interrupted_dump_says_so() {
    let mut datagram = answer!("unix").to_vec();
    datagram[6] |= 0x10;
    let mut dump = Dump::new(1);
    dump.feed(&datagram, unix);
    assert!(dump.interrupted);
}

#[test]
fn requests() {
    let header = |len: u32| {
        [&len.to_ne_bytes()[..], &20u16.to_ne_bytes(), &0x301u16.to_ne_bytes(), &7u32.to_ne_bytes(), &[0; 4]].concat()
    };
    for (request, len) in [
        (unix_request(7), 16 + 24),
        (inet_request(7, 2, 6), 16 + 56),
        (inet_request(7, 2, 262), 16 + 64),
        (packet_request(7), 16 + 20),
        (netlink_request(7), 16 + 20),
    ] {
        assert_eq!((request.get(..16), request.len()), (Some(header(len).as_slice()), len as usize));
    }
}

/// The requests are understood by the kernel that runs the test. A family it has no module for ends in ENOENT.
#[test]
fn the_kernel_answers() {
    use nix::sys::socket::{recv, send, socket, AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType};
    use std::os::fd::AsRawFd;
    fn ask<T>(request: &[u8], decode: impl Fn(&[u8]) -> Option<T>) -> Dump<T> {
        let protocol = SockProtocol::NetlinkSockDiag;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
        send(fd.as_raw_fd(), request, MsgFlags::empty()).unwrap();
        let (mut dump, mut buffer) = (Dump::new(7), vec![0; 65536]);
        while dump.end.is_none() {
            let n = recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty()).unwrap();
            dump.feed(&buffer[..n], &decode);
        }
        assert!(dump.bad == 0 && matches!(dump.end, Some(0 | 2)), "bad {} end {:?}", dump.bad, dump.end);
        dump
    }
    let (left, right) = std::os::unix::net::UnixStream::pair().unwrap();
    let ino = |end| nix::sys::stat::fstat(end).unwrap().st_ino as u32;
    let (left_ino, right_ino) = (ino(&left), ino(&right));
    let found = ask(&unix_request(7), unix);
    let found = found.sockets.iter().find(|s| s.ino == left_ino).map(|s| s.peer);
    assert_eq!(found, Some(Some(right_ino)));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    assert!(ask(&inet_request(7, 2, 6), |p| inet(p, 6)).sockets.iter().any(|s| s.sport == port && s.state == 10));
    assert_eq!(ask(&inet_probe(7, 2, 6), |p| inet(p, 6)).sockets, [], "no state, no socket");
    ask(&inet_request(7, 10, 17), |p| inet(p, 17));
    ask(&inet_request(7, 2, 262), |p| inet(p, 262));
    ask(&packet_request(7), packet);
    ask(&netlink_request(7), netlink);
}

#[test]
fn link_answer() {
    let links = dump(answer!("links"), link).sockets;
    let parsed: Vec<_> =
        links.iter().map(|l| (l.name.escaped(), l.type_, l.kind.as_ref().map(|k| k.escaped()))).collect();
    let parsed: Vec<_> = parsed.iter().map(|(name, type_, kind)| (name.as_str(), *type_, kind.as_deref())).collect();
    assert_eq!(
        parsed,
        [
            ("lo", 772, None),
            ("ve8", 1, Some("veth")),
            ("ve7", 1, Some("veth")),
            ("br7", 1, Some("bridge")),
            ("ifb7", 1, Some("ifb")),
            ("left7", 65534, Some("tun"))
        ]
    );
    assert_eq!(links.iter().map(|l| l.tun_persist).collect::<Vec<_>>(), [None, None, None, None, None, Some(true)]);
    // No process is attached to it.
    assert_eq!(links.last().map(|l| (l.tun_multi_queue, l.carrier)), Some((Some(false), Some(false))));
    assert_eq!(links.first().map(|l| (l.tun_multi_queue, l.carrier)), Some((None, Some(true))));
    // The two ends of a pair.
    assert_eq!(links.iter().map(|l| l.link).collect::<Vec<_>>(), [None, Some(3), Some(2), None, None, None]);
}

#[test]
fn route_answers() {
    let of = |datagram, table| -> Vec<Route> {
        let mut routes = dump(datagram, route).sockets;
        assert!(routes.iter().any(|r| r.table == 255), "those of local addresses");
        routes.retain(|r| r.table == table);
        routes
    };
    type Expected<'a> = (&'a str, u8, Option<i32>, bool, Option<u32>);
    let parsed = |routes: &[Route], expected: &[Expected]| {
        let parsed: Vec<_> = routes
            .iter()
            .map(|r| (r.dst.map(|dst| dst.to_string()).unwrap_or_default(), r.dst_len, r.oif, r.down, r.nexthop))
            .collect();
        let parsed: Vec<Expected> =
            parsed.iter().map(|(dst, len, oif, down, nh)| (dst.as_str(), *len, *oif, *down, *nh)).collect();
        assert_eq!(parsed, expected);
        assert!(routes.iter().all(|r| !r.cloned));
    };
    parsed(
        &of(answer!("routes4"), 254),
        &[
            ("", 0, Some(3), false, None),
            ("10.7.0.0", 16, Some(3), false, Some(5)),
            ("10.8.0.0", 16, Some(5), true, None),
            ("10.9.9.0", 24, Some(3), false, None),
            ("172.17.0.0", 16, Some(6), false, None),
        ],
    );
    parsed(&of(answer!("routes4"), 100), &[("10.5.0.0", 16, Some(3), false, None)]);
    parsed(
        &of(answer!("routes6"), 254)[..3],
        &[
            ("fd09::", 64, Some(3), false, None),
            ("fd0a::", 64, Some(3), false, None),
            ("fd0b::", 64, Some(3), false, Some(6)),
        ],
    );
    parsed(&of(answer!("routes6"), 1000), &[("", 0, Some(3), false, None)]);
}

#[test]
fn a_link_whose_peer_is_in_another_namespace() {
    let attribute =
        |kind: u16, value: i32| [&8u16.to_ne_bytes()[..], &kind.to_ne_bytes(), &value.to_ne_bytes()].concat();
    let of = |attributes: &[Vec<u8>]| {
        let link = link(&[vec![0; 16], attributes.concat()].concat()).unwrap();
        (link.link, link.link_netnsid)
    };
    assert_eq!(of(&[attribute(5, 12), attribute(37, 0)]), (Some(12), Some(0)));
    assert_eq!(of(&[attribute(5, 12)]), (Some(12), None));
}

proptest! {
    #[test]
    fn any_bytes(raw: Vec<u8>) {
        for _ in messages(&raw) {}
        unix(&raw);
        inet(&raw, 6);
        packet(&raw);
        netlink(&raw);
        link(&raw);
        route(&raw);
    }

    #[test]
    fn a_changed_byte_of_routes(at in 0usize..answer!("routes4").len(), byte: u8) {
        let mut datagram = answer!("routes4").to_vec();
        datagram[at] = byte;
        Dump::new(1).feed(&datagram, route);
    }

    #[test]
    fn a_changed_byte_of_links(at in 0usize..answer!("links").len(), byte: u8) {
        let mut datagram = answer!("links").to_vec();
        datagram[at] = byte;
        Dump::new(1).feed(&datagram, link);
    }

    #[test]
    fn a_changed_byte(at in 0usize..540, byte: u8) {
        let mut datagram = answer!("unix").to_vec();
        datagram[at] = byte;
        Dump::new(1).feed(&datagram, unix);
    }

    #[test]
    fn unix_names_round_trip(name in proptest::collection::vec(any::<u8>(), 1..108)) {
        let name = [&b"\0"[..], &name].concat();
        let head = answer!("unix").get(16..32).unwrap();
        let len = u16::try_from(name.len() + 4).unwrap();
        let mut payload = [head, &len.to_ne_bytes(), &0u16.to_ne_bytes(), &name].concat();
        payload.resize(payload.len().next_multiple_of(4), 0);
        prop_assert_eq!(&*unix(&payload).unwrap().name.unwrap(), name.as_slice());
    }
}
