//! Options of sockets, each with a value that is not the default.

use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[
    Kind {
        name: "options",
        help: "of=tcp|tcp-listen|udp|udp6|raw|unix|netlink: a socket with every option set that CRIU could forget",
        make: options,
    },
    Kind {
        name: "multicast",
        help: "v6: a UDP socket that is a member of a group on lo (after newns:net)",
        make: multicast,
    },
];

/// Level, name, value.
type Setting = (i32, i32, i32);

const IP: &[Setting] = &[
    (0, 1, 0x10), // IP_TOS
    (0, 2, 77),   // IP_TTL
    (0, 8, 1),    // IP_PKTINFO
    (0, 10, 2),   // IP_MTU_DISCOVER
    (0, 11, 1),   // IP_RECVERR
    (0, 12, 1),   // IP_RECVTTL
    (0, 13, 1),   // IP_RECVTOS
    (0, 15, 1),   // IP_FREEBIND
    (0, 19, 1),   // IP_TRANSPARENT
    (0, 20, 1),   // IP_RECVORIGDSTADDR
    (0, 21, 3),   // IP_MINTTL
    (0, 24, 1),   // IP_BIND_ADDRESS_NO_PORT
    (0, 33, 5),   // IP_MULTICAST_TTL
    (0, 34, 0),   // IP_MULTICAST_LOOP
    (0, 49, 0),   // IP_MULTICAST_ALL
];
const IPV6: &[Setting] = &[
    (41, 16, 77),   // IPV6_UNICAST_HOPS
    (41, 18, 5),    // IPV6_MULTICAST_HOPS
    (41, 19, 0),    // IPV6_MULTICAST_LOOP
    (41, 23, 2),    // IPV6_MTU_DISCOVER
    (41, 25, 1),    // IPV6_RECVERR
    (41, 26, 1),    // IPV6_V6ONLY
    (41, 49, 1),    // IPV6_RECVPKTINFO
    (41, 51, 1),    // IPV6_RECVHOPLIMIT
    (41, 66, 1),    // IPV6_RECVTCLASS
    (41, 67, 0x10), // IPV6_TCLASS
    (41, 75, 1),    // IPV6_TRANSPARENT
    (41, 78, 1),    // IPV6_FREEBIND
];
const TCP: &[Setting] = &[
    (6, 1, 1),     // TCP_NODELAY
    (6, 4, 77),    // TCP_KEEPIDLE
    (6, 5, 7),     // TCP_KEEPINTVL
    (6, 6, 5),     // TCP_KEEPCNT
    (6, 7, 3),     // TCP_SYNCNT
    (6, 8, 7),     // TCP_LINGER2
    (6, 9, 7),     // TCP_DEFER_ACCEPT
    (6, 18, 7000), // TCP_USER_TIMEOUT
    (6, 25, 7000), // TCP_NOTSENT_LOWAT
    (6, 27, 1),    // TCP_SAVE_SYN
    (6, 36, 1),    // TCP_INQ
];
const UDP: &[Setting] = &[(17, 101, 1), (17, 102, 1), (17, 103, 700), (17, 104, 1)];
const SOCKET: &[Setting] = &[
    (1, 2, 1),     // SO_REUSEADDR
    (1, 5, 1),     // SO_DONTROUTE
    (1, 6, 1),     // SO_BROADCAST
    (1, 9, 1),     // SO_KEEPALIVE
    (1, 10, 1),    // SO_OOBINLINE
    (1, 12, 5),    // SO_PRIORITY
    (1, 15, 1),    // SO_REUSEPORT
    (1, 18, 7),    // SO_RCVLOWAT
    (1, 36, 7),    // SO_MARK
    (1, 40, 1),    // SO_RXQ_OVFL
    (1, 45, 1),    // SO_SELECT_ERR_QUEUE
    (1, 46, 7),    // SO_BUSY_POLL
    (1, 47, 7000), // SO_MAX_PACING_RATE
    (1, 60, 1),    // SO_ZEROCOPY
];
const NETLINK: &[Setting] =
    &[(270, 3, 1), (270, 4, 1), (270, 5, 1), (270, 8, 1), (270, 10, 1), (270, 11, 1), (270, 12, 1)];

fn options(cx: &mut Ctx, a: &Args) -> Res {
    let (inet, inet6, unix) = (libc::AF_INET, libc::AF_INET6, libc::AF_UNIX);
    let of = a.need("of")?;
    let (domain, kind, proto, lists): (i32, i32, i32, &[&[Setting]]) = match of {
        "tcp" | "tcp-listen" => (inet, libc::SOCK_STREAM, 0, &[SOCKET, IP, TCP]),
        "udp" => (inet, libc::SOCK_DGRAM, 0, &[SOCKET, IP, UDP]),
        "udp6" => (inet6, libc::SOCK_DGRAM, 0, &[SOCKET, IPV6, UDP]),
        "raw" => (inet, libc::SOCK_RAW, libc::IPPROTO_ICMP, &[SOCKET, IP]),
        "unix" => (unix, libc::SOCK_DGRAM, 0, &[SOCKET]),
        "netlink" => (libc::AF_NETLINK, libc::SOCK_RAW, 0, &[SOCKET, NETLINK]),
        other => return Err(Fail::Broken(format!("of={other}"))),
    };
    let s = sys::socket(domain, kind, proto)?;
    for (level, name, value) in lists.iter().copied().flatten() {
        // What this kind of socket has not, it cannot lose.
        let _ = sys::setsockopt(s, *level, *name, *value);
    }
    if of.starts_with("tcp") {
        let r = unsafe { libc::setsockopt(s, 6, 13, c"reno".as_ptr().cast(), 4) };
        sys::ok("TCP_CONGESTION", r)?;
    }
    if of == "tcp-listen" {
        sys::setsockopt(s, 6, 23, 7)?; // TCP_FASTOPEN
        sys::listen(s, 4)?;
    }
    if of.starts_with("udp") {
        let (addr, len) = crate::tcp::loopback(domain, 0);
        sys::bind("loopback", s, &addr, len)?;
    }
    cx.fd("", s);
    Ok(())
}

fn multicast(cx: &mut Ctx, a: &Args) -> Res {
    crate::base::only_in_own(libc::CLONE_NEWNET)?;
    let v6 = a.has("v6");
    let s = sys::socket(if v6 { libc::AF_INET6 } else { libc::AF_INET }, libc::SOCK_DGRAM, 0)?;
    let r = unsafe {
        if v6 {
            // ff02::77 on interface 1.
            let mut m: libc::ipv6_mreq = std::mem::zeroed();
            m.ipv6mr_multiaddr.s6_addr[..2].copy_from_slice(&[0xff, 2]);
            m.ipv6mr_multiaddr.s6_addr[15] = 0x77;
            m.ipv6mr_interface = 1;
            libc::setsockopt(s, 41, 20, (&raw const m).cast(), size_of_val(&m) as u32)
        } else {
            let m = libc::ip_mreqn {
                imr_multiaddr: libc::in_addr { s_addr: u32::from_ne_bytes([224, 0, 0, 77]) },
                imr_address: libc::in_addr { s_addr: 0 },
                imr_ifindex: 1,
            };
            libc::setsockopt(s, 0, 35, (&raw const m).cast(), size_of_val(&m) as u32)
        }
    };
    sys::ok("membership", r)?;
    cx.fd("", s);
    Ok(())
}
