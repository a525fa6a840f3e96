//! Netlink sockets.

use crate::ctx::{Args, Ctx, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[Kind {
    name: "netlink",
    help: "proto=N (0, route), bind, group=N: member of that group, data: with an unread answer, drained: read again",
    make: netlink,
}];

fn netlink(cx: &mut Ctx, a: &Args) -> Res {
    let s = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_NONBLOCK, a.num("proto", 0)? as i32)?;
    if a.has("bind") {
        let mut addr: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        addr.nl_family = libc::AF_NETLINK as u16;
        sys::bind("netlink", s, &addr, 12)?;
    }
    if a.has("group") {
        sys::setsockopt(s, libc::SOL_NETLINK, 1, a.num("group", 1)? as i32)?;
    }
    if a.has("data") || a.has("drained") {
        // RTM_GETLINK, dump: nlmsghdr (len, type, flags, seq, pid) and an empty ifinfomsg.
        let mut req = [0u32; 8];
        req[0] = 32;
        req[1] = 18 | (0x301 << 16);
        let bytes: Vec<u8> = req.iter().flat_map(|w| w.to_ne_bytes()).collect();
        sys::send(s, &bytes, 0)?;
    }
    if a.has("drained") {
        let mut buf = [0u8; 65536];
        while unsafe { libc::recv(s, buf.as_mut_ptr().cast(), buf.len(), libc::MSG_DONTWAIT) } > 0 {}
    }
    cx.fd("", s);
    Ok(())
}
