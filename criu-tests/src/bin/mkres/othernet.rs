//! Sockets that belong to another network namespace than the process that holds them.

use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[
    Kind {
        name: "othernet",
        help: "what=udp|tcp|tcp-listen|raw|link-local|unix|netlink|netlink-bound|packet, connected (udp): made in a \
               namespace that no process is in; link-local: also kept",
        make: othernet,
    },
    Kind {
        name: "othernet-peer",
        help:
            "type=dgram|stream: a UNIX socket connected by path to an outside one of another namespace; stream: which \
               the kernel accepts into ours; waiting: not accepted",
        make: peer,
    },
];

/// Runs `make` in a new network namespace with its loopback up, and comes back.
fn away<T>(make: impl FnOnce() -> Res<T>) -> Res<T> {
    let home = sys::open("/proc/self/ns/net", libc::O_RDONLY)?;
    sys::ok("unshare(CLONE_NEWNET)", unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
    let made = crate::base::loopback_up().and_then(|()| make());
    sys::ok("setns", unsafe { libc::setns(home, libc::CLONE_NEWNET) })?;
    sys::close(home);
    made
}

fn othernet(cx: &mut Ctx, a: &Args) -> Res {
    let what = a.need("what")?;
    if what == "link-local" {
        let s = away(|| crate::sockets::link_local(a))?;
        cx.fd("", s);
        return Ok(());
    }
    let (domain, kind, proto) = match what {
        "udp" => (libc::AF_INET, libc::SOCK_DGRAM, 0),
        "tcp" | "tcp-listen" => (libc::AF_INET, libc::SOCK_STREAM, 0),
        "raw" => (libc::AF_INET, libc::SOCK_RAW, 1),
        "unix" => (libc::AF_UNIX, libc::SOCK_DGRAM, 0),
        "netlink" | "netlink-bound" => (libc::AF_NETLINK, libc::SOCK_RAW, 0),
        "packet" => (libc::AF_PACKET, libc::SOCK_RAW, 0),
        other => return Err(Fail::Broken(format!("what={other}"))),
    };
    let s = away(|| {
        let s = sys::socket(domain, kind, proto)?;
        if what == "tcp-listen" {
            sys::listen(s, 4)?;
        }
        if what == "netlink-bound" {
            let mut addr: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
            addr.nl_family = libc::AF_NETLINK as u16;
            sys::bind("netlink", s, &addr, 12)?;
        }
        if a.has("connected") {
            let (addr, len) = crate::tcp::loopback(domain, 9);
            sys::connect("to port 9", s, &addr, len)?;
        }
        Ok(s)
    })?;
    cx.fd("", s);
    Ok(())
}

fn peer(cx: &mut Ctx, a: &Args) -> Res {
    let stream = a.get("type") == Some("stream");
    let kind = if stream { libc::SOCK_STREAM } else { libc::SOCK_DGRAM };
    let name = cx.path("sock");
    let (addr, len) = sys::unix_addr(&name);
    let l = away(|| {
        let l = sys::socket(libc::AF_UNIX, kind, 0)?;
        sys::bind(&name, l, &addr, len)?;
        if stream {
            sys::listen(l, 4)?;
        }
        Ok(l)
    })?;
    let c = sys::socket(libc::AF_UNIX, kind, 0)?;
    sys::connect(&name, c, &addr, len)?;
    let accepts = stream && !a.has("waiting");
    cx.outsider("peer", &[l], || if accepts { sys::accept(l).map(|_| ()) } else { Ok(()) })?;
    sys::close(l);
    cx.fd("", c);
    Ok(())
}
