//! Options, names and queues of a socket.

use super::files::waiting;
use super::Look;

const SOCKET: &[(&str, i32)] = &[
    ("SO_DEBUG", 1),
    ("SO_REUSEADDR", 2),
    ("SO_TYPE", 3),
    ("SO_DONTROUTE", 5),
    ("SO_BROADCAST", 6),
    ("SO_SNDBUF", 7),
    ("SO_RCVBUF", 8),
    ("SO_KEEPALIVE", 9),
    ("SO_OOBINLINE", 10),
    ("SO_NO_CHECK", 11),
    ("SO_PRIORITY", 12),
    ("SO_LINGER", 13),
    ("SO_REUSEPORT", 15),
    ("SO_PASSCRED", 16),
    ("SO_RCVLOWAT", 18),
    ("SO_RCVTIMEO", 20),
    ("SO_SNDTIMEO", 21),
    ("SO_BINDTODEVICE", 25),
    ("SO_TIMESTAMP", 29),
    ("SO_ACCEPTCONN", 30),
    ("SO_PASSSEC", 34),
    ("SO_TIMESTAMPNS", 35),
    ("SO_MARK", 36),
    ("SO_TIMESTAMPING", 37),
    ("SO_PROTOCOL", 38),
    ("SO_DOMAIN", 39),
    ("SO_RXQ_OVFL", 40),
    ("SO_WIFI_STATUS", 41),
    ("SO_PEEK_OFF", 42),
    ("SO_NOFCS", 43),
    ("SO_LOCK_FILTER", 44),
    ("SO_SELECT_ERR_QUEUE", 45),
    ("SO_BUSY_POLL", 46),
    ("SO_MAX_PACING_RATE", 47),
    ("SO_ZEROCOPY", 60),
    ("SO_TXTIME", 61),
    ("SO_BINDTOIFINDEX", 62),
    ("SO_TIMESTAMP_NEW", 63),
    ("SO_TIMESTAMPNS_NEW", 64),
    ("SO_TIMESTAMPING_NEW", 65),
    ("SO_PREFER_BUSY_POLL", 69),
    ("SO_BUF_LOCK", 72),
    ("SO_RESERVE_MEM", 73),
    ("SO_TXREHASH", 74),
    ("SO_RCVMARK", 75),
    ("SO_PASSPIDFD", 76),
    ("SO_RCVPRIORITY", 82),
    ("SO_PASSRIGHTS", 83),
];
const IP: &[(&str, i32)] = &[
    ("IP_TOS", 1),
    ("IP_TTL", 2),
    ("IP_HDRINCL", 3),
    ("IP_OPTIONS", 4),
    ("IP_RECVOPTS", 6),
    ("IP_RETOPTS", 7),
    ("IP_PKTINFO", 8),
    ("IP_MTU_DISCOVER", 10),
    ("IP_RECVERR", 11),
    ("IP_RECVTTL", 12),
    ("IP_RECVTOS", 13),
    ("IP_FREEBIND", 15),
    ("IP_PASSSEC", 18),
    ("IP_TRANSPARENT", 19),
    ("IP_RECVORIGDSTADDR", 20),
    ("IP_MINTTL", 21),
    ("IP_NODEFRAG", 22),
    ("IP_CHECKSUM", 23),
    ("IP_BIND_ADDRESS_NO_PORT", 24),
    ("IP_RECVFRAGSIZE", 25),
    ("IP_RECVERR_RFC4884", 26),
    ("IP_MULTICAST_IF", 32),
    ("IP_MULTICAST_TTL", 33),
    ("IP_MULTICAST_LOOP", 34),
    ("IP_MULTICAST_ALL", 49),
    ("IP_UNICAST_IF", 50),
    ("IP_LOCAL_PORT_RANGE", 51),
];
const IPV6: &[(&str, i32)] = &[
    ("IPV6_UNICAST_HOPS", 16),
    ("IPV6_MULTICAST_IF", 17),
    ("IPV6_MULTICAST_HOPS", 18),
    ("IPV6_MULTICAST_LOOP", 19),
    ("IPV6_MTU_DISCOVER", 23),
    ("IPV6_RECVERR", 25),
    ("IPV6_V6ONLY", 26),
    ("IPV6_MULTICAST_ALL", 29),
    ("IPV6_ROUTER_ALERT_ISOLATE", 30),
    ("IPV6_RECVERR_RFC4884", 31),
    ("IPV6_FLOWINFO_SEND", 33),
    ("IPV6_HDRINCL", 36),
    ("IPV6_RECVPKTINFO", 49),
    ("IPV6_RECVHOPLIMIT", 51),
    ("IPV6_RECVHOPOPTS", 53),
    ("IPV6_RECVRTHDR", 56),
    ("IPV6_RECVDSTOPTS", 58),
    ("IPV6_RECVPATHMTU", 60),
    ("IPV6_DONTFRAG", 62),
    ("IPV6_RECVTCLASS", 66),
    ("IPV6_TCLASS", 67),
    ("IPV6_AUTOFLOWLABEL", 70),
    ("IPV6_ADDR_PREFERENCES", 72),
    ("IPV6_MINHOPCOUNT", 73),
    ("IPV6_RECVORIGDSTADDR", 74),
    ("IPV6_TRANSPARENT", 75),
    ("IPV6_UNICAST_IF", 76),
    ("IPV6_RECVFRAGSIZE", 77),
    ("IPV6_FREEBIND", 78),
];
const TCP: &[(&str, i32)] = &[
    ("TCP_NODELAY", 1),
    ("TCP_MAXSEG", 2),
    ("TCP_CORK", 3),
    ("TCP_KEEPIDLE", 4),
    ("TCP_KEEPINTVL", 5),
    ("TCP_KEEPCNT", 6),
    ("TCP_SYNCNT", 7),
    ("TCP_LINGER2", 8),
    ("TCP_DEFER_ACCEPT", 9),
    ("TCP_WINDOW_CLAMP", 10),
    ("TCP_CONGESTION", 13),
    ("TCP_THIN_LINEAR_TIMEOUTS", 16),
    ("TCP_USER_TIMEOUT", 18),
    ("TCP_REPAIR", 19),
    ("TCP_FASTOPEN", 23),
    ("TCP_NOTSENT_LOWAT", 25),
    ("TCP_SAVE_SYN", 27),
    ("TCP_FASTOPEN_CONNECT", 30),
    ("TCP_ULP", 31),
    ("TCP_FASTOPEN_NO_COOKIE", 34),
    ("TCP_INQ", 36),
    ("TCP_TX_DELAY", 37),
    ("TCP_RTO_MAX_MS", 44),
];
const UDP: &[(&str, i32)] = &[
    ("UDP_CORK", 1),
    ("UDP_ENCAP", 100),
    ("UDP_NO_CHECK6_TX", 101),
    ("UDP_NO_CHECK6_RX", 102),
    ("UDP_SEGMENT", 103),
    ("UDP_GRO", 104),
    ("UDPLITE_SEND_CSCOV", 10),
    ("UDPLITE_RECV_CSCOV", 11),
];
const RAW: &[(&str, i32)] = &[("ICMP_FILTER", 1)];
const ICMPV6: &[(&str, i32)] = &[("ICMPV6_FILTER", 1)];
const NETLINK: &[(&str, i32)] = &[
    ("NETLINK_PKTINFO", 3),
    ("NETLINK_BROADCAST_ERROR", 4),
    ("NETLINK_NO_ENOBUFS", 5),
    ("NETLINK_LISTEN_ALL_NSID", 8),
    ("NETLINK_LIST_MEMBERSHIPS", 9),
    ("NETLINK_CAP_ACK", 10),
    ("NETLINK_EXT_ACK", 11),
    ("NETLINK_GET_STRICT_CHK", 12),
];
const PACKET: &[(&str, i32)] = &[
    ("PACKET_AUXDATA", 8),
    ("PACKET_ORIGDEV", 9),
    ("PACKET_VERSION", 10),
    ("PACKET_RESERVE", 12),
    ("PACKET_LOSS", 14),
    ("PACKET_VNET_HDR", 15),
    ("PACKET_TIMESTAMP", 17),
    ("PACKET_FANOUT", 18),
    ("PACKET_TX_HAS_OFF", 19),
    ("PACKET_QDISC_BYPASS", 20),
    ("PACKET_IGNORE_OUTGOING", 23),
    ("PACKET_COPY_THRESH", 7),
];

fn option(fd: i32, level: i32, name: i32) -> Option<Vec<u8>> {
    let mut bytes = vec![0u8; 128];
    let mut len = bytes.len() as u32;
    let r = unsafe { libc::getsockopt(fd, level, name, bytes.as_mut_ptr().cast(), &mut len) };
    bytes.truncate(len as usize);
    (r == 0).then_some(bytes)
}

fn number(fd: i32, level: i32, name: i32) -> i32 {
    let bytes = option(fd, level, name).unwrap_or_default();
    bytes.get(..4).and_then(|b| b.try_into().ok()).map_or(-1, i32::from_ne_bytes)
}

fn shown(bytes: &[u8]) -> String {
    match bytes {
        [a, b, c, d] => i32::from_ne_bytes([*a, *b, *c, *d]).to_string(),
        _ => format!("{bytes:02x?}"),
    }
}

pub fn see(look: &mut Look, fd: i32, at: &str) {
    let (family, kind, protocol) =
        (number(fd, libc::SOL_SOCKET, 39), number(fd, libc::SOL_SOCKET, 3), number(fd, libc::SOL_SOCKET, 38));
    let mut levels = vec![(libc::SOL_SOCKET, SOCKET)];
    match family {
        libc::AF_INET => levels.push((libc::IPPROTO_IP, IP)),
        libc::AF_INET6 => levels.extend([(libc::IPPROTO_IPV6, IPV6), (libc::IPPROTO_IP, IP)]),
        libc::AF_NETLINK => levels.push((270, NETLINK)),
        libc::AF_PACKET => levels.push((263, PACKET)),
        _ => {}
    }
    if matches!(family, libc::AF_INET | libc::AF_INET6) {
        match protocol {
            libc::IPPROTO_TCP => levels.push((protocol, TCP)),
            libc::IPPROTO_UDP | libc::IPPROTO_UDPLITE => levels.push((protocol, UDP)),
            libc::IPPROTO_ICMP if kind == libc::SOCK_RAW => levels.push((255, RAW)),
            libc::IPPROTO_ICMPV6 if kind == libc::SOCK_RAW => levels.push((58, ICMPV6)),
            _ => {}
        }
    }
    for (level, options) in levels {
        for (name, option_name) in options {
            let value = option(fd, level, *option_name);
            look.note(at, name, value.map_or("?".into(), |v| shown(&v)));
        }
    }
    if let Some(filter) = instructions(fd) {
        look.note(at, "SO_GET_FILTER", filter);
    }
    // One end of a datagram pair has those of the process that made it, another socket none.
    if family == libc::AF_UNIX && kind != libc::SOCK_DGRAM {
        credentials(look, fd, at);
    }
    if protocol == libc::IPPROTO_TCP {
        let state = option(fd, libc::IPPROTO_TCP, 11).and_then(|info| info.first().copied());
        look.note(at, "state", state.unwrap_or_default());
    }
    names(look, fd, at, family);
    queues(look, fd, at, family);
}

/// How many a classic filter has.
fn instructions(fd: i32) -> Option<u32> {
    let mut len = 0u32;
    let r = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, 26, std::ptr::null_mut(), &mut len) };
    (r == 0).then_some(len)
}

fn credentials(look: &mut Look, fd: i32, at: &str) {
    let (pid, uid, gid) = match option(fd, libc::SOL_SOCKET, libc::SO_PEERCRED) {
        Some(b) if b.len() == 12 => {
            let n = |i: usize| i32::from_ne_bytes([b[i], b[i + 1], b[i + 2], b[i + 3]]);
            (n(0), n(4), n(8))
        }
        _ => return,
    };
    let who = look.who(pid);
    look.note(at, "SO_PEERCRED", format!("{who} {uid} {gid}"));
}

type Namer = unsafe extern "C" fn(i32, *mut libc::sockaddr, *mut libc::socklen_t) -> i32;

fn names(look: &mut Look, fd: i32, at: &str, family: i32) {
    for (what, call) in [("name", libc::getsockname as Namer), ("peer", libc::getpeername as Namer)] {
        let mut bytes = [0u8; 128];
        let mut len = 128;
        let r = unsafe { call(fd, bytes.as_mut_ptr().cast(), &mut len) };
        let name = bytes.get(2..len as usize).unwrap_or_default();
        // A netlink name has a number of its own.
        let text = match (r, family) {
            (0, libc::AF_UNIX) => String::from_utf8_lossy(name).into_owned(),
            (0, _) => format!("{name:02x?}"),
            _ => std::io::Error::last_os_error().to_string(),
        };
        look.note(at, what, text);
    }
}

fn queues(look: &mut Look, fd: i32, at: &str, family: i32) {
    look.note(at, "SIOCINQ", waiting(fd, libc::FIONREAD));
    // Where it counts memory, that depends on the messages' sizes.
    let unsent = waiting(fd, libc::TIOCOUTQ);
    let some = family == libc::AF_UNIX && unsent.parse::<i32>().is_ok_and(|n| n > 0);
    look.note(at, "SIOCOUTQ", if some { "some" } else { &unsent });
    let mut poll = libc::pollfd { fd, events: libc::POLLIN | libc::POLLRDHUP, revents: 0 };
    unsafe { libc::poll(&mut poll, 1, 0) };
    look.note(at, "poll", format!("{:#x}", poll.revents));
    // An error that is waiting would be taken away.
    let quiet = poll.revents & (libc::POLLERR | libc::POLLHUP) == 0 && number(fd, libc::SOL_SOCKET, 42) < 0;
    if poll.revents & libc::POLLIN == 0 || !quiet || number(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN) == 1 {
        return;
    }
    let mut bytes = vec![0u8; 65536];
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    let n = unsafe { libc::recv(fd, bytes.as_mut_ptr().cast(), bytes.len(), flags) };
    bytes.truncate(n.max(0) as usize);
    look.note(at, "data", String::from_utf8_lossy(&bytes));
}
