//! IPv4 and IPv6, all protocols: net/ipv4/inet_diag.c, udp_diag.c, raw_diag.c, net/mptcp/mptcp_diag.c; linux/inet_diag.h.
use crate::bytes::Bytes;
use crate::parse::diag::Reader;
use crate::parse::sockets::family;
use std::net::IpAddr;

/// One socket of the TCP/IP family.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct InetDiag {
    /// AF_INET 2, AF_INET6 10.
    pub family: u8,
    /// IPPROTO_* of the request; the kernel does not repeat it.
    pub protocol: u16,
    /// TCP_ESTABLISHED 1, SYN_SENT 2, SYN_RECV 3, FIN_WAIT1 4, FIN_WAIT2 5, TIME_WAIT 6, CLOSE 7, CLOSE_WAIT 8,
    /// LAST_ACK 9, LISTEN 10, CLOSING 11.
    pub state: u8,
    /// For a raw socket its IP protocol.
    pub sport: u16,
    pub dport: u16,
    pub src: IpAddr,
    pub dst: IpAddr,
    /// SO_BINDTODEVICE, or the scope of the address; 0 for none.
    pub if_: u32,
    pub cookie: u64,
    /// 0 for a socket without a file: TIME_WAIT, orphaned, not accepted yet.
    pub inode: u32,
    pub uid: u32,
    /// Bytes not read; listening: connections to be accepted.
    pub rqueue: u32,
    /// Bytes not acknowledged; listening: the backlog.
    pub wqueue: u32,
    /// RCV_SHUTDOWN 1, SEND_SHUTDOWN 2. Not for sockets in TIME_WAIT or SYN_RECV.
    pub shutdown: Option<u8>,
    /// IPV6_V6ONLY; IPv6 only.
    pub v6only: Option<bool>,
    /// Raw sockets: the IP protocol.
    pub raw_protocol: Option<u8>,
    /// TCP upper layer: `tls`, `mptcp`, `espintcp`, `smc` (Linux 5.4+, only for CAP_NET_ADMIN).
    pub ulp: Option<Bytes>,
}

/// Decodes `struct inet_diag_msg` and its attributes; `None` if it is not of that form. `protocol` is that of the request.
pub fn inet(payload: &[u8], protocol: u16) -> Option<InetDiag> {
    let mut msg = Reader(payload);
    let (family, state, _timer, _retrans) = (msg.u8()?, msg.u8()?, msg.u8()?, msg.u8()?);
    let (sport, dport) = (msg.be16()?, msg.be16()?);
    let (src, dst) = (address(family, msg.array()?)?, address(family, msg.array()?)?);
    let (if_, cookie) = (msg.u32()?, msg.cookie()?);
    let _expires = msg.u32()?;
    let (rqueue, wqueue, uid, inode) = (msg.u32()?, msg.u32()?, msg.u32()?, msg.u32()?);
    let (mut shutdown, mut v6only, mut raw_protocol, mut ulp) = (None, None, None, None);
    for (kind, value) in msg.attributes()? {
        match kind {
            8 => shutdown = Some(*value.first()?),
            10 => raw_protocol = Some(*value.first()?),
            11 => v6only = Some(*value.first()? != 0),
            19 => ulp = ulp_name(value)?,
            _ => {}
        }
    }
    Some(InetDiag {
        family,
        protocol,
        state,
        sport,
        dport,
        src,
        dst,
        if_,
        cookie,
        inode,
        uid,
        rqueue,
        wqueue,
        shutdown,
        v6only,
        raw_protocol,
        ulp,
    })
}

fn address(of: u8, raw: [u8; 16]) -> Option<IpAddr> {
    match of {
        family::INET => raw.first_chunk::<4>().map(|v4| IpAddr::from(*v4)),
        family::INET6 => Some(IpAddr::from(raw)),
        _ => None,
    }
}

/// INET_ULP_INFO_NAME inside INET_DIAG_ULP_INFO.
fn ulp_name(nested: &[u8]) -> Option<Option<Bytes>> {
    let name = Reader(nested).attributes()?.into_iter().find(|(kind, _)| *kind == 1);
    Some(name.map(|(_, name)| name.strip_suffix(b"\0").unwrap_or(name).into()))
}
