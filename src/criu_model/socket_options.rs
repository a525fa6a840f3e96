//! Options of sockets that CRIU neither saves nor sets again (criu/sockets.c, criu/sk-inet.c, soccr): a restored socket has the
//! kernel's default.

use libc::{AF_INET, AF_INET6, AF_NETLINK, AF_UNIX, IPPROTO_TCP, IPPROTO_UDP};

/// An option, and its default. Only those are here whose default no sysctl changes, and that every restore was seen
/// to lose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketOption {
    pub level: i32,
    pub number: i32,
    pub name: &'static str,
    pub default: i32,
    pub of: Of,
}

/// Which sockets lose it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Of {
    /// Of these families.
    Families(&'static [i32]),
    /// Of these families, but not TCP: it has no groups, and an accepted socket has values of its own.
    Datagrams(&'static [i32]),
    /// IP sockets of this protocol.
    Protocol(i32),
}

const ALL: Of = Of::Families(&[AF_UNIX, AF_INET, AF_INET6, AF_NETLINK]);
const IP: Of = Of::Families(&[AF_INET, AF_INET6]);
const IPV4: Of = Of::Families(&[AF_INET]);
const IPV6: Of = Of::Families(&[AF_INET6]);
const GROUPS4: Of = Of::Datagrams(&[AF_INET]);
const GROUPS6: Of = Of::Datagrams(&[AF_INET6]);
const UNIX: Of = Of::Families(&[AF_UNIX]);
const LOCAL: Of = Of::Families(&[AF_UNIX, AF_NETLINK]);
const NETLINK: Of = Of::Families(&[AF_NETLINK]);
const TCP: Of = Of::Protocol(IPPROTO_TCP);
const UDP: Of = Of::Protocol(IPPROTO_UDP);

const fn option(level: i32, number: i32, name: &'static str, default: i32, of: Of) -> SocketOption {
    SocketOption { level, number, name, default, of }
}

/// In the order in which a report names them.
pub(crate) const UNSAVED: &[SocketOption] = &[
    option(libc::SOL_SOCKET, 2, "SO_REUSEADDR", 0, LOCAL),
    option(libc::SOL_SOCKET, 29, "SO_TIMESTAMP", 0, UNIX),
    option(libc::SOL_SOCKET, 76, "SO_PASSPIDFD", 0, UNIX),
    option(libc::SOL_SOCKET, 42, "SO_PEEK_OFF", -1, TCP),
    option(libc::SOL_SOCKET, 40, "SO_RXQ_OVFL", 0, ALL),
    option(libc::SOL_SOCKET, 45, "SO_SELECT_ERR_QUEUE", 0, ALL),
    option(libc::SOL_SOCKET, 47, "SO_MAX_PACING_RATE", -1, ALL),
    option(libc::SOL_SOCKET, 60, "SO_ZEROCOPY", 0, IP),
    option(libc::SOL_IP, 11, "IP_RECVERR", 0, IPV4),
    option(libc::SOL_IP, 12, "IP_RECVTTL", 0, IPV4),
    option(libc::SOL_IP, 13, "IP_RECVTOS", 0, IPV4),
    option(libc::SOL_IP, 19, "IP_TRANSPARENT", 0, IPV4),
    option(libc::SOL_IP, 20, "IP_RECVORIGDSTADDR", 0, IPV4),
    option(libc::SOL_IP, 21, "IP_MINTTL", 0, IPV4),
    option(libc::SOL_IP, 24, "IP_BIND_ADDRESS_NO_PORT", 0, IPV4),
    option(libc::SOL_IP, 33, "IP_MULTICAST_TTL", 1, GROUPS4),
    option(libc::SOL_IP, 34, "IP_MULTICAST_LOOP", 1, GROUPS4),
    option(libc::SOL_IP, 49, "IP_MULTICAST_ALL", 1, GROUPS4),
    option(libc::SOL_IPV6, 18, "IPV6_MULTICAST_HOPS", 1, GROUPS6),
    option(libc::SOL_IPV6, 19, "IPV6_MULTICAST_LOOP", 1, GROUPS6),
    option(libc::SOL_IPV6, 25, "IPV6_RECVERR", 0, IPV6),
    option(libc::SOL_IPV6, 51, "IPV6_RECVHOPLIMIT", 0, IPV6),
    option(libc::SOL_IPV6, 66, "IPV6_RECVTCLASS", 0, IPV6),
    option(libc::SOL_IPV6, 67, "IPV6_TCLASS", 0, IPV6),
    option(libc::SOL_IPV6, 75, "IPV6_TRANSPARENT", 0, IPV6),
    option(libc::SOL_TCP, 9, "TCP_DEFER_ACCEPT", 0, TCP),
    option(libc::SOL_TCP, 18, "TCP_USER_TIMEOUT", 0, TCP),
    option(libc::SOL_TCP, 23, "TCP_FASTOPEN", 0, TCP),
    option(libc::SOL_TCP, 25, "TCP_NOTSENT_LOWAT", 0, TCP),
    option(libc::SOL_TCP, 27, "TCP_SAVE_SYN", 0, TCP),
    option(libc::SOL_TCP, 36, "TCP_INQ", 0, TCP),
    option(libc::SOL_UDP, 101, "UDP_NO_CHECK6_TX", 0, UDP),
    option(libc::SOL_UDP, 102, "UDP_NO_CHECK6_RX", 0, UDP),
    option(libc::SOL_UDP, 103, "UDP_SEGMENT", 0, UDP),
    option(libc::SOL_UDP, 104, "UDP_GRO", 0, UDP),
    option(libc::SOL_NETLINK, 3, "NETLINK_PKTINFO", 0, NETLINK),
    option(libc::SOL_NETLINK, 4, "NETLINK_BROADCAST_ERROR", 0, NETLINK),
    option(libc::SOL_NETLINK, 5, "NETLINK_NO_ENOBUFS", 0, NETLINK),
    option(libc::SOL_NETLINK, 8, "NETLINK_LISTEN_ALL_NSID", 0, NETLINK),
    option(libc::SOL_NETLINK, 10, "NETLINK_CAP_ACK", 0, NETLINK),
    option(libc::SOL_NETLINK, 11, "NETLINK_EXT_ACK", 0, NETLINK),
    option(libc::SOL_NETLINK, 12, "NETLINK_GET_STRICT_CHK", 0, NETLINK),
];

/// Those that a socket of this family and protocol can lose.
pub(crate) fn of(family: i32, protocol: i32) -> impl Iterator<Item = &'static SocketOption> {
    let ip = matches!(family, AF_INET | AF_INET6);
    UNSAVED.iter().filter(move |option| match option.of {
        Of::Families(families) => families.contains(&family),
        Of::Datagrams(families) => families.contains(&family) && protocol != IPPROTO_TCP,
        Of::Protocol(of) => ip && of == protocol,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_family_has_its_own() {
        let has = |family, protocol, name| of(family, protocol).any(|option| option.name == name);
        assert!(has(AF_INET, IPPROTO_UDP, "UDP_GRO") && !has(AF_INET, IPPROTO_TCP, "UDP_GRO"));
        assert!(has(AF_INET6, IPPROTO_UDP, "IPV6_RECVERR") && !has(AF_INET6, IPPROTO_UDP, "IP_RECVERR"));
        assert!(has(AF_INET, IPPROTO_UDP, "IP_MULTICAST_LOOP") && !has(AF_INET, IPPROTO_TCP, "IP_MULTICAST_LOOP"));
        // NETLINK_USERSOCK is 2; a number of a protocol means another in each family.
        assert!(!has(AF_NETLINK, IPPROTO_TCP, "TCP_INQ") && has(AF_NETLINK, 2, "NETLINK_PKTINFO"));
        assert_eq!(of(libc::AF_PACKET, 0).count(), 0);
    }
}
