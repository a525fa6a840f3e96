//! Interfaces of the network namespace that the process lives in.

use crate::base::only_in_own;
use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[
    Kind { name: "iface", help: "kind=ifb|bridge|veth|..., name=NAME: an interface (after newns:net)", make: iface },
    Kind {
        name: "tun-outside",
        help: "a tun interface of this namespace that a process outside holds; persist, multi: with many queues",
        make: outside,
    },
    Kind {
        name: "bound-dev",
        help:
            "a socket of domain=2, type=2 bound to an interface; listen; gone: which is deleted then (after newns:net)",
        make: bound,
    },
];

/// One netlink attribute, padded.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = value.len() as u16 + 4;
    let mut all = [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    all.resize(all.len().next_multiple_of(4), 0);
    all
}

/// One request about the interface `name`, acknowledged.
fn request(kind: u16, flags: libc::c_int, name: &str, more: &[u8]) -> Res {
    // struct ifinfomsg, IFLA_IFNAME
    let body = [&[0; 16], attribute(3, format!("{name}\0").as_bytes()).as_slice(), more].concat();
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags) as u16;
    let len = body.len() as u32 + 16;
    let head = [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8]].concat();
    let s = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
    sys::write_all(s, &[head, body].concat());
    let mut answer = [0u8; 4096];
    let n = sys::ok("answer", unsafe { libc::recv(s, answer.as_mut_ptr().cast(), answer.len(), 0) })?;
    sys::close(s);
    let errno = answer.get(16..20).filter(|_| n >= 20).and_then(|e| e.try_into().ok()).map(i32::from_ne_bytes);
    match errno {
        Some(0) => Ok(()),
        Some(e) => Err(Fail::Skip(format!("interface {name}: {}", std::io::Error::from_raw_os_error(-e)))),
        None => Err(Fail::Broken(format!("interface {name}: an answer of {n} bytes"))),
    }
}

/// Never in the namespace that mkres was started in: an address there can take the machine's own routes away.
pub fn make(kind: &str, name: &str) -> Res {
    only_in_own(libc::CLONE_NEWNET)?;
    // IFLA_LINKINFO, in it IFLA_INFO_KIND
    let info = attribute(18, &attribute(1, kind.as_bytes()));
    request(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL, name, &info)
}

fn iface(cx: &mut Ctx, a: &Args) -> Res {
    let kind = a.need("kind")?;
    let name = a.get("name").unwrap_or(kind);
    make(kind, name)?;
    cx.fact("name", name);
    Ok(())
}

fn bound(cx: &mut Ctx, a: &Args) -> Res {
    make("veth", "bound7")?;
    let s = sys::socket(a.num("domain", 2)? as i32, a.num("type", 2)? as i32, 0)?;
    let r = unsafe { libc::setsockopt(s, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, c"bound7".as_ptr().cast(), 7) };
    sys::ok("SO_BINDTODEVICE", r)?;
    if a.has("listen") {
        sys::listen(s, 4)?;
    }
    if a.has("gone") {
        request(libc::RTM_DELLINK, 0, "bound7", &[])?;
    }
    cx.fd("", s);
    Ok(())
}

fn outside(cx: &mut Ctx, a: &Args) -> Res {
    let flags = libc::IFF_TUN | if a.has("multi") { libc::IFF_MULTI_QUEUE } else { 0 };
    if a.has("persist") {
        only_in_own(libc::CLONE_NEWNET)?;
    }
    cx.outsider("holder", &[], || {
        let fd = crate::devices::attach("outside", flags)?;
        if a.has("persist") {
            sys::ioctl("TUNSETPERSIST", fd, libc::TUNSETPERSIST, 1)?;
        }
        Ok(())
    })?;
    Ok(())
}
