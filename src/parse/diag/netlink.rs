//! AF_NETLINK: net/netlink/diag.c, linux/netlink_diag.h.
use crate::parse::diag::{u32s, Reader};

/// One netlink socket. The kernel reports one that is in a multicast group twice, take one per `ino`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct NetlinkDiag {
    /// SOCK_RAW 3, SOCK_DGRAM 2.
    pub type_: u8,
    /// NETLINK_ROUTE 0, NETLINK_KOBJECT_UEVENT 15, NETLINK_GENERIC 16, ...
    pub protocol: u8,
    /// 7 unconnected, 1 connected.
    pub state: u8,
    pub portid: u32,
    pub dst_portid: u32,
    pub dst_group: u32,
    /// 0 for a socket of the kernel itself (or one without a file).
    pub ino: u32,
    pub cookie: u64,
    /// Group n is bit (n-1) % 32 of word (n-1) / 32. As long as the protocol has groups, in steps of 64 bits, so that the
    /// last word is often 0.
    pub groups: Option<Vec<u32>>,
    /// Bytes in the receive queue (with the kernel's bookkeeping): not 0 means unread data.
    pub rmem: Option<u32>,
    /// NDIAG_FLAG_*: 1 a dump is running, ... Linux 4.4+.
    pub flags: Option<u32>,
}

/// Decodes `struct netlink_diag_msg` and its attributes; `None` if it is not of that form.
pub fn netlink(payload: &[u8]) -> Option<NetlinkDiag> {
    let mut msg = Reader(payload);
    let (_family, type_, protocol, state) = (msg.u8()?, msg.u8()?, msg.u8()?, msg.u8()?);
    let mut socket = NetlinkDiag {
        type_,
        protocol,
        state,
        portid: msg.u32()?,
        dst_portid: msg.u32()?,
        dst_group: msg.u32()?,
        ino: msg.u32()?,
        cookie: msg.cookie()?,
        groups: None,
        rmem: None,
        flags: None,
    };
    for (kind, value) in msg.attributes()? {
        let mut v = Reader(value);
        match kind {
            // SK_MEMINFO_RMEM_ALLOC is the first number.
            0 => socket.rmem = Some(v.u32()?),
            1 => socket.groups = Some(u32s(value)?),
            4 => socket.flags = Some(v.u32()?),
            _ => {}
        }
    }
    Some(socket)
}
