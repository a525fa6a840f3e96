//! Numbers of sockets and their usual names: families (linux/socket.h), protocols (linux/in.h, linux/netlink.h), types, states.

use std::borrow::Cow;

/// Address families, as wide as sock_diag has them.
pub(crate) mod family {
    pub(crate) const UNIX: u8 = libc::AF_UNIX as u8;
    pub(crate) const INET: u8 = libc::AF_INET as u8;
    pub(crate) const INET6: u8 = libc::AF_INET6 as u8;
    pub(crate) const NETLINK: u8 = libc::AF_NETLINK as u8;
    pub(crate) const PACKET: u8 = libc::AF_PACKET as u8;
}

/// Protocols of IP sockets: one above 255 has no room in the request's own field.
pub(crate) mod protocol {
    pub(crate) const TCP: u16 = libc::IPPROTO_TCP as u16;
    pub(crate) const UDP: u16 = libc::IPPROTO_UDP as u16;
    pub(crate) const UDPLITE: u16 = libc::IPPROTO_UDPLITE as u16;
    pub(crate) const RAW: u16 = libc::IPPROTO_RAW as u16;
    pub(crate) const MPTCP: u16 = libc::IPPROTO_MPTCP as u16;
}

// Not in the crate libc.
const AF_KCM: i32 = 41;
const AF_QIPCRTR: i32 = 42;
const AF_SMC: i32 = 43;
const IPPROTO_L2TP: i32 = 115;
const IPPROTO_SMC: i32 = 256;

/// Socket states of include/net/tcp_states.h, which UNIX and netlink sockets borrow.
pub(crate) mod state {
    pub(crate) const ESTABLISHED: u8 = 1;
    pub(crate) const SYN_RECV: u8 = 3;
    pub(crate) const TIME_WAIT: u8 = 6;
    pub(crate) const CLOSE: u8 = 7;
    pub(crate) const LISTEN: u8 = 10;
    pub(crate) const NEW_SYN_RECV: u8 = 12;

    /// The kernel's own name.
    pub(super) fn name(state: u8) -> Option<&'static str> {
        Some(match state {
            1 => "ESTABLISHED",
            2 => "SYN_SENT",
            3 => "SYN_RECV",
            4 => "FIN_WAIT1",
            5 => "FIN_WAIT2",
            6 => "TIME_WAIT",
            7 => "CLOSE",
            8 => "CLOSE_WAIT",
            9 => "LAST_ACK",
            10 => "LISTEN",
            11 => "CLOSING",
            12 => "NEW_SYN_RECV",
            _ => return None,
        })
    }
}

/// A family's usual name (linux/socket.h).
pub(crate) fn family_name(family: i32) -> Cow<'static, str> {
    Cow::Borrowed(match family {
        libc::AF_UNIX => "UNIX",
        libc::AF_INET => "IPv4",
        libc::AF_INET6 => "IPv6",
        libc::AF_NETLINK => "netlink",
        libc::AF_PACKET => "packet",
        libc::AF_KEY => "AF_KEY (IPsec key management)",
        libc::AF_RDS => "AF_RDS",
        libc::AF_PPPOX => "AF_PPPOX",
        libc::AF_LLC => "AF_LLC",
        libc::AF_CAN => "AF_CAN",
        libc::AF_TIPC => "AF_TIPC",
        libc::AF_BLUETOOTH => "AF_BLUETOOTH",
        libc::AF_ALG => "AF_ALG (kernel crypto)",
        libc::AF_NFC => "AF_NFC",
        libc::AF_VSOCK => "AF_VSOCK (virtual machines)",
        AF_KCM => "AF_KCM",
        AF_QIPCRTR => "AF_QIPCRTR",
        AF_SMC => "AF_SMC",
        libc::AF_XDP => "AF_XDP",
        n => return Cow::Owned(format!("family {n}")),
    })
}

/// The name of an IP protocol that has sockets of its own.
pub(crate) fn protocol_name(protocol: i32) -> Cow<'static, str> {
    Cow::Borrowed(match protocol {
        libc::IPPROTO_ICMP => "ICMP",
        libc::IPPROTO_TCP => "TCP",
        libc::IPPROTO_UDP => "UDP",
        libc::IPPROTO_DCCP => "DCCP",
        libc::IPPROTO_ICMPV6 => "ICMPv6",
        IPPROTO_L2TP => "L2TP",
        libc::IPPROTO_SCTP => "SCTP",
        libc::IPPROTO_UDPLITE => "UDP-Lite",
        IPPROTO_SMC => "SMC",
        libc::IPPROTO_MPTCP => "MPTCP",
        n => return Cow::Owned(format!("IP protocol {n}")),
    })
}

/// linux/netlink.h
pub(crate) fn netlink_protocol_name(protocol: i32) -> Cow<'static, str> {
    Cow::Borrowed(match protocol {
        0 => "ROUTE",
        2 => "USERSOCK",
        4 => "SOCK_DIAG",
        5 => "NFLOG",
        6 => "XFRM",
        7 => "SELINUX",
        8 => "ISCSI",
        9 => "AUDIT",
        10 => "FIB_LOOKUP",
        11 => "CONNECTOR",
        12 => "NETFILTER",
        15 => "KOBJECT_UEVENT",
        16 => "GENERIC",
        18 => "SCSITRANSPORT",
        20 => "RDMA",
        21 => "CRYPTO",
        n => return Cow::Owned(format!("protocol {n}")),
    })
}

/// A word for SO_TYPE.
pub(crate) fn type_name(kind: i32) -> String {
    match kind {
        libc::SOCK_STREAM => "stream".into(),
        libc::SOCK_DGRAM => "datagram".into(),
        libc::SOCK_RAW => "raw".into(),
        libc::SOCK_RDM => "RDM".into(),
        libc::SOCK_SEQPACKET => "seqpacket".into(),
        libc::SOCK_DCCP => "DCCP".into(),
        n => format!("type {n}"),
    }
}

/// The kernel's name of a state, or its number.
pub(crate) fn state_name(state: u8) -> String {
    self::state::name(state).map_or_else(|| format!("state {state}"), str::to_owned)
}
