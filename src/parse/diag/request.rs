//! The dump requests. Each is a whole datagram, ready to be sent.

/// The type of the request and of each answer (linux/sock_diag.h).
pub(super) const SOCK_DIAG_BY_FAMILY: u16 = 20;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_DUMP: u16 = 0x300;
const ALL_STATES: u32 = u32::MAX;
/// TCP_TIME_WAIT and TCP_NEW_SYN_RECV: no descriptor refers to those, and a busy host has a hundred thousand.
const TCP_WITHOUT_FILE: u32 = 1 << 6 | 1 << 12;
/// INET_DIAG_NOCOOKIE, twice.
const NO_COOKIE: [u8; 8] = [0xff; 8];

/// All unix sockets of the network namespace: UDIAG_SHOW_NAME, VFS, PEER, ICONS, RQLEN and UID.
pub(crate) fn unix_request(seq: u32) -> Vec<u8> {
    let show: u32 = 0x01 | 0x02 | 0x04 | 0x08 | 0x10 | 0x40;
    let ino: u32 = 0;
    request(seq, &[&[1, 0, 0, 0], &ALL_STATES.to_ne_bytes(), &ino.to_ne_bytes(), &show.to_ne_bytes(), &NO_COOKIE])
}

/// All sockets of an address family (AF_INET 2, AF_INET6 10) and protocol (IPPROTO_TCP 6, UDP 17, UDPLITE 136, RAW 255,
/// MPTCP 262) in the network namespace, but of TCP none without a file. Asks for INET_DIAG_SHUTDOWN.
///
/// A protocol above 255 does not fit its field and goes into INET_DIAG_REQ_PROTOCOL (Linux 5.9+, which has no such
/// sockets in diag before).
pub(crate) fn inet_request(seq: u32, family: u8, protocol: u16) -> Vec<u8> {
    let states = if protocol == 6 { ALL_STATES & !TCP_WITHOUT_FILE } else { ALL_STATES };
    inet_states(seq, family, protocol, states)
}

/// As [`inet_request`], for sockets in no state at all: only whether the kernel would answer. For TCP it then does not walk
/// its hash table (`inet_diag_dump_icsk()`), which takes the longer the more memory the host has.
pub(crate) fn inet_probe(seq: u32, family: u8, protocol: u16) -> Vec<u8> {
    inet_states(seq, family, protocol, 0)
}

fn inet_states(seq: u32, family: u8, protocol: u16, states: u32) -> Vec<u8> {
    const SHOW_SHUTDOWN: u8 = 1 << (8 - 1);
    const INET_DIAG_REQ_PROTOCOL: u16 = 3;
    let (short, attribute) = match u8::try_from(protocol) {
        Ok(short) => (short, Vec::new()),
        Err(_) => {
            let header = [8u16.to_ne_bytes(), INET_DIAG_REQ_PROTOCOL.to_ne_bytes()].concat();
            (0, [header.as_slice(), &u32::from(protocol).to_ne_bytes()].concat())
        }
    };
    // Ports, addresses, interface.
    let any = [0u8; 2 + 2 + 16 + 16 + 4];
    request(seq, &[&[family, short, SHOW_SHUTDOWN, 0], &states.to_ne_bytes(), &any, &NO_COOKIE, &attribute])
}

/// All packet sockets of the network namespace: PACKET_SHOW_INFO, MCLIST, RING_CFG and FANOUT.
pub(crate) fn packet_request(seq: u32) -> Vec<u8> {
    let (show, ino): (u32, u32) = (0x01 | 0x02 | 0x04 | 0x08, 0);
    request(seq, &[&[17, 0, 0, 0], &ino.to_ne_bytes(), &show.to_ne_bytes(), &NO_COOKIE])
}

/// All netlink sockets of the network namespace, every protocol (NDIAG_PROTO_ALL): NDIAG_SHOW_MEMINFO, GROUPS and FLAGS.
pub(crate) fn netlink_request(seq: u32) -> Vec<u8> {
    let (show, ino): (u32, u32) = (0x01 | 0x02 | 0x08, 0);
    request(seq, &[&[16, 0xff, 0, 0], &ino.to_ne_bytes(), &show.to_ne_bytes(), &NO_COOKIE])
}

/// All interfaces of the network namespace of a NETLINK_ROUTE socket, for AF_PACKET as CRIU asks (`dump_links()`).
pub(crate) fn link_request(seq: u32) -> Vec<u8> {
    const RTM_GETLINK: u16 = 18;
    // struct ifinfomsg
    let (family, any) = ([17u8, 0, 0, 0], [0u8; 12]);
    message(RTM_GETLINK, seq, &[&family, &any])
}

/// All routes of an address family in the network namespace of a NETLINK_ROUTE socket, of every table.
pub(crate) fn route_request(seq: u32, family: u8) -> Vec<u8> {
    const RTM_GETROUTE: u16 = 26;
    // struct rtmsg
    message(RTM_GETROUTE, seq, &[&[family], &[0u8; 11]])
}

fn request(seq: u32, parts: &[&[u8]]) -> Vec<u8> {
    message(SOCK_DIAG_BY_FAMILY, seq, parts)
}

/// `struct nlmsghdr` and its payload; the port is the kernel's to fill in.
fn message(kind: u16, seq: u32, parts: &[&[u8]]) -> Vec<u8> {
    let payload = parts.concat();
    // No request is longer than 100 bytes.
    let len = u32::try_from(payload.len()).unwrap_or_default().saturating_add(16);
    let flags = NLM_F_REQUEST | NLM_F_DUMP;
    [
        &len.to_ne_bytes()[..],
        &kind.to_ne_bytes(),
        &flags.to_ne_bytes(),
        &seq.to_ne_bytes(),
        &0u32.to_ne_bytes(),
        &payload,
    ]
    .concat()
}
