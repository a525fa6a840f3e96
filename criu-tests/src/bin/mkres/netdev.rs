//! Interfaces of the network namespace that the process lives in.

use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[
    Kind { name: "iface", help: "kind=ifb|bridge|veth|..., name=NAME: an interface (after newns:net)", make: iface },
    Kind { name: "tun-outside", help: "a tun interface of this namespace that a process outside holds", make: outside },
];

/// One netlink attribute, padded.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = value.len() as u16 + 4;
    let mut all = [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat();
    all.resize(all.len().next_multiple_of(4), 0);
    all
}

fn iface(cx: &mut Ctx, a: &Args) -> Res {
    let kind = a.need("kind")?;
    let name = a.get("name").unwrap_or(kind);
    let info = attribute(1, kind.as_bytes());
    // struct ifinfomsg, IFLA_IFNAME, IFLA_LINKINFO
    let body = [vec![0; 16], attribute(3, format!("{name}\0").as_bytes()), attribute(18, &info)].concat();
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
    let len = body.len() as u32 + 16;
    let head = [&len.to_ne_bytes()[..], &libc::RTM_NEWLINK.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 8]].concat();
    let s = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
    sys::write_all(s, &[head, body].concat());
    let mut answer = [0u8; 4096];
    let n = sys::ok("answer", unsafe { libc::recv(s, answer.as_mut_ptr().cast(), answer.len(), 0) })?;
    sys::close(s);
    let errno = answer.get(16..20).filter(|_| n >= 20).and_then(|e| e.try_into().ok()).map(i32::from_ne_bytes);
    match errno {
        Some(0) => Ok(()),
        Some(e) => Err(Fail::Skip(format!("interface {kind}: {}", std::io::Error::from_raw_os_error(-e)))),
        None => Err(Fail::Broken(format!("interface {kind}: an answer of {n} bytes"))),
    }?;
    cx.fact("name", name);
    Ok(())
}

fn outside(cx: &mut Ctx, _: &Args) -> Res {
    cx.outsider("holder", &[], || crate::devices::attach("outside", libc::IFF_TUN).map(|_| ()))?;
    Ok(())
}
