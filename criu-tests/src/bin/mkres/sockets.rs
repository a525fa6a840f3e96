//! Sockets of other families and protocols.

use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[
    Kind { name: "sock", help: "domain=,type=,proto= (numbers): any socket, not connected", make: any },
    Kind {
        name: "unlisted",
        help: "family=,proto= (numbers): nothing, and only on a kernel that cannot list such sockets",
        make: |_, a| can_list(a, false),
    },
    Kind { name: "listed", help: "the opposite of unlisted", make: |_, a| can_list(a, true) },
    Kind { name: "vsock", help: "a stream socket of AF_VSOCK", make: |c, _| made(c, 40, 1, 0) },
    Kind { name: "xdp", help: "AF_XDP", make: |c, _| made(c, 44, 3, 0) },
    Kind { name: "alg", help: "AF_ALG", make: |c, _| made(c, 38, 5, 0) },
    Kind { name: "pfkey", help: "AF_KEY", make: |c, _| made(c, 15, 3, 2) },
    Kind { name: "sctp", help: "SCTP", make: |c, _| made(c, 2, 1, 132) },
    Kind {
        name: "ping",
        help: "ICMP datagram; allow: let everyone, in a network namespace of our own (newns:net); unread: a reply that was not read",
        make: ping,
    },
    Kind {
        name: "raw",
        help: "proto=N (1), v6, connected, unread: a packet of its own; diag=yes|no: only on a kernel that can (cannot) list raw sockets",
        make: raw,
    },
    Kind { name: "mptcp", help: "listen, v6", make: mptcp },
    Kind {
        name: "packet",
        help:
            "dgram; ring=open|closed: mapped, and the descriptor kept or closed; members=N: N times promiscuous on lo; \
             groups=N: in so many groups; behind: that one's holder is outside, and a second one was made after it",
        make: packet,
    },
    Kind { name: "filtered", help: "a socket of domain=2, type=2 with a filter; ebpf: an eBPF one", make: filtered },
    Kind {
        name: "udp-link-local",
        help: "bound to fe80::1 on lo, and from lo; kept: still bound to lo; raw",
        make: |c, a| link_local(a).map(|s| c.fd("", s)),
    },
    Kind { name: "unix-opath", help: "an O_PATH descriptor of a bound UNIX socket's file", make: opath },
];

fn made(cx: &mut Ctx, domain: i32, kind: i32, proto: i32) -> Res {
    let s = sys::socket(domain, kind, proto)?;
    cx.fd("", s);
    Ok(())
}

fn ping(cx: &mut Ctx, a: &Args) -> Res {
    if a.has("allow") {
        crate::base::only_in_own(libc::CLONE_NEWNET)?;
        let file = "/proc/sys/net/ipv4/ping_group_range";
        std::fs::write(file, "0 2147483647").map_err(|e| Fail::Skip(format!("{file}: {e}")))?;
    }
    if !a.has("unread") {
        return made(cx, libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP);
    }
    let s = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP)?;
    send_echo(s, libc::AF_INET)?;
    cx.fd("", s);
    Ok(())
}

fn any(cx: &mut Ctx, a: &Args) -> Res {
    made(cx, a.num("domain", 2)? as i32, a.num("type", 1)? as i32, a.num("proto", 0)? as i32)
}

fn raw(cx: &mut Ctx, a: &Args) -> Res {
    let domain = if a.has("v6") { libc::AF_INET6 } else { libc::AF_INET };
    let s = sys::socket(domain, libc::SOCK_RAW, a.num("proto", 1)? as i32)?;
    if let Some(wanted) = a.get("diag") {
        let listed = is_listed(libc::AF_INET, libc::IPPROTO_RAW)?;
        if listed != (wanted == "yes") {
            return Err(Fail::Skip(format!("the kernel can list raw sockets: {listed}")));
        }
    }
    if a.has("connected") {
        let (to, len) = super::tcp::loopback(domain, 0);
        sys::connect("loopback", s, &to, len)?;
    }
    if a.has("unread") {
        // Each raw socket of the protocol gets it, the sender too.
        send_echo(s, domain)?;
    }
    cx.fd("", s);
    Ok(())
}

/// An echo request to ourselves.
fn send_echo(s: i32, domain: i32) -> Res {
    let (to, len) = super::tcp::loopback(domain, 0);
    let kind = if domain == libc::AF_INET6 { 128 } else { 8 };
    let echo = [kind, 0, !kind, 0xff, 0, 0, 0, 0];
    let to = std::ptr::from_ref(&to).cast();
    sys::ok("echo request", unsafe { libc::sendto(s, echo.as_ptr().cast(), echo.len(), 0, to, len) as i32 })?;
    Ok(())
}

fn can_list(a: &Args, wanted: bool) -> Res {
    let (family, proto) = (a.num("family", 2)? as i32, a.num("proto", 0)? as i32);
    match is_listed(family, proto)? {
        can if can == wanted => Ok(()),
        can => Err(Fail::Skip(format!("this kernel can list sockets of family {family}, protocol {proto}: {can}"))),
    }
}

/// Asks sock_diag for the sockets of a family and protocol; without its module the end comes at once, with an error.
fn is_listed(family: i32, proto: i32) -> Res<bool> {
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    // struct nlmsghdr and the longest of the requests, that of the internet families (inet_diag_req_v2): family, protocol, no
    // extension, all states, any socket. The others have family and protocol in the same places, then all states, too.
    let mut request =
        [[72, 0, 0, 0].as_slice(), &SOCK_DIAG_BY_FAMILY.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8]].concat();
    // NDIAG_PROTO_ALL.
    let proto = if family == libc::AF_NETLINK { 255 } else { proto as u8 };
    request.extend([family as u8, proto, 0, 0, 0xff, 0xff, 0xff, 0xff]);
    request.resize(72, 0);
    let s = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_SOCK_DIAG)?;
    sys::send(s, &request, 0)?;
    let mut answer = [0u8; 8192];
    sys::ok("answer", unsafe { libc::recv(s, answer.as_mut_ptr().cast(), answer.len(), 0) })?;
    sys::close(s);
    let kind = i32::from(u16::from_ne_bytes([answer[4], answer[5]]));
    let errno = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
    Ok(kind == i32::from(SOCK_DIAG_BY_FAMILY) || kind == libc::NLMSG_DONE && errno == 0)
}

fn mptcp(cx: &mut Ctx, a: &Args) -> Res {
    let domain = if a.has("v6") { libc::AF_INET6 } else { libc::AF_INET };
    let s = sys::socket(domain, libc::SOCK_STREAM, 262)?;
    if a.has("listen") {
        let (addr, len) = super::tcp::loopback(domain, 0);
        sys::bind("loopback", s, &addr, len)?;
        sys::listen(s, 4)?;
    }
    cx.fd("", s);
    Ok(())
}

fn packet(cx: &mut Ctx, a: &Args) -> Res {
    let kind = if a.has("dgram") { libc::SOCK_DGRAM } else { libc::SOCK_RAW };
    let s = sys::socket(libc::AF_PACKET, kind, 0)?;
    for _ in 0..a.num("members", 0)? {
        let membership: [u32; 4] = [1, 1, 0, 0]; // struct packet_mreq: lo, PACKET_MR_PROMISC, no address
        let r = unsafe { libc::setsockopt(s, libc::SOL_PACKET, 1, membership.as_ptr().cast(), 16) };
        sys::ok("PACKET_ADD_MEMBERSHIP", r)?;
    }
    for group in 0..a.num("groups", 0)? as u32 {
        // PACKET_MR_MULTICAST, an Ethernet address.
        let [.., high, low] = group.to_be_bytes();
        let membership: [u32; 4] =
            [1, 6 << 16, u32::from_ne_bytes([1, 0, 0, high]), u32::from_ne_bytes([low, 0, 0, 0])];
        let r = unsafe { libc::setsockopt(s, libc::SOL_PACKET, 1, membership.as_ptr().cast(), 16) };
        sys::ok("PACKET_ADD_MEMBERSHIP", r)?;
    }
    if a.has("behind") {
        cx.outsider("holder", &[s], || Ok(()))?;
        let second = sys::socket(libc::AF_PACKET, kind, 0)?;
        sys::close(s);
        cx.fd("", second);
        return Ok(());
    }
    if let Some(ring) = a.get("ring") {
        let req: [u32; 4] = [4096, 1, 2048, 2]; // block size, blocks, frame size, frames
        let r = unsafe { libc::setsockopt(s, libc::SOL_PACKET, 5, req.as_ptr().cast(), 16) };
        sys::ok("PACKET_RX_RING", r)?;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let at = sys::mmap("packet ring", 4096, prot, libc::MAP_SHARED, s, 0)?;
        cx.fact("addr", format!("{at:x}"));
        if ring == "closed" {
            sys::close(s);
            return Ok(());
        }
    }
    cx.fd("", s);
    Ok(())
}

fn filtered(cx: &mut Ctx, a: &Args) -> Res {
    let s = sys::socket(a.num("domain", 2)? as i32, a.num("type", 2)? as i32, 0)?;
    if a.has("ebpf") {
        let prog = crate::kernelfds::load_filter()?;
        sys::setsockopt(s, libc::SOL_SOCKET, libc::SO_ATTACH_BPF, prog)?;
        sys::close(prog);
    } else {
        let all = [libc::sock_filter { code: 6, jt: 0, jf: 0, k: u32::MAX }]; // accept everything
        let prog = libc::sock_fprog { len: 1, filter: all.as_ptr().cast_mut() };
        let (place, size) = ((&raw const prog).cast(), size_of_val(&prog) as u32);
        let r = unsafe { libc::setsockopt(s, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, place, size) };
        sys::ok("SO_ATTACH_FILTER", r)?;
    }
    cx.fd("", s);
    Ok(())
}

/// An IPv6 socket bound to a link-local address that no interface has.
pub fn link_local(a: &Args) -> Res<i32> {
    let (kind, proto) = if a.has("raw") { (libc::SOCK_RAW, libc::IPPROTO_ICMPV6) } else { (libc::SOCK_DGRAM, 0) };
    let s = sys::socket(libc::AF_INET6, kind, proto)?;
    let (mut addr, len) = super::tcp::loopback(libc::AF_INET6, 0);
    addr.sin6_addr.s6_addr = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    addr.sin6_scope_id = 1;
    sys::setsockopt(s, libc::IPPROTO_IPV6, libc::IPV6_FREEBIND, 1)?;
    sys::bind("fe80::1", s, &addr, len)?;
    if !a.has("kept") {
        let r = unsafe { libc::setsockopt(s, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, c"".as_ptr().cast(), 1) };
        sys::ok("SO_BINDTODEVICE", r)?;
    }
    Ok(s)
}

fn opath(cx: &mut Ctx, _: &Args) -> Res {
    let name = cx.path("sock");
    let (addr, len) = sys::unix_addr(&name);
    let s = sys::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0)?;
    sys::bind(&name, s, &addr, len)?;
    let fd = sys::open(&name, libc::O_PATH)?;
    sys::close(s);
    cx.fd("", fd);
    Ok(())
}
