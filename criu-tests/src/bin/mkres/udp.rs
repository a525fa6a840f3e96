//! UDP and UDP-Lite.

use crate::ctx::{Args, Ctx, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[Kind {
    name: "udp",
    help: "lite, v6, cork[+data], uncork: corked and let go, more: MSG_MORE pending",
    make: udp,
}];

const UDP_CORK: i32 = 1;

fn udp(cx: &mut Ctx, a: &Args) -> Res {
    let proto = if a.has("lite") { libc::IPPROTO_UDPLITE } else { libc::IPPROTO_UDP };
    let domain = if a.has("v6") { libc::AF_INET6 } else { libc::AF_INET };
    let s = sys::socket(domain, libc::SOCK_DGRAM, proto)?;
    let (addr, len) = super::tcp::loopback(domain, 9);
    sys::connect("to port 9", s, &addr, len)?;
    // UDP-Lite answers to the same option at its own level too; SOL_UDP serves both.
    if a.has("cork") || a.has("uncork") {
        sys::setsockopt(s, libc::IPPROTO_UDP, UDP_CORK, 1)?;
    }
    if a.has("data") {
        sys::send(s, b"corked", 0)?;
    }
    if a.has("more") {
        sys::send(s, b"pending", libc::MSG_MORE)?;
    }
    if a.has("uncork") {
        sys::setsockopt(s, libc::IPPROTO_UDP, UDP_CORK, 0)?;
    }
    cx.fd("", s);
    Ok(())
}
