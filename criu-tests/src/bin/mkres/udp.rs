//! UDP and UDP-Lite.

use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[Kind {
    name: "udp",
    help:
        "lite, v6, cork[+data], uncork: corked and let go, more: MSG_MORE pending, unread: received and not read, \
           async: its signals go to an outside process, error: nobody listens there, which it was told and has not read",
    make: udp,
}];

const UDP_CORK: i32 = 1;

fn udp(cx: &mut Ctx, a: &Args) -> Res {
    let proto = if a.has("lite") { libc::IPPROTO_UDPLITE } else { libc::IPPROTO_UDP };
    let domain = if a.has("v6") { libc::AF_INET6 } else { libc::AF_INET };
    let s = sys::socket(domain, libc::SOCK_DGRAM, proto)?;
    if a.has("unread") {
        let (addr, len) = super::tcp::loopback(domain, 0);
        sys::bind("loopback", s, &addr, len)?;
        let (addr, len) = super::tcp::loopback(domain, super::tcp::port_of(s)?);
        let from = sys::socket(domain, libc::SOCK_DGRAM, proto)?;
        sys::connect("to it", from, &addr, len)?;
        sys::send(from, b"unread", 0)?;
        sys::close(from);
    } else {
        let (addr, len) = super::tcp::loopback(domain, 9);
        sys::connect("to port 9", s, &addr, len)?;
    }
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
    if a.has("error") {
        sys::send(s, b"to nobody", 0)?;
        let mut told = libc::pollfd { fd: s, events: 0, revents: 0 };
        unsafe { libc::poll(&mut told, 1, 2000) };
        if told.revents & libc::POLLERR == 0 {
            return Err(Fail::Skip("the kernel does not say that nobody listens".into()));
        }
    }
    if a.has("async") {
        let who = cx.outsider("owner", &[], || Ok(()))?;
        sys::fcntl("F_SETOWN", s, libc::F_SETOWN, who)?;
        sys::fcntl("F_SETFL", s, libc::F_SETFL, libc::O_ASYNC)?;
    }
    cx.fd("", s);
    Ok(())
}
