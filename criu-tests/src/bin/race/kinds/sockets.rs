//! Sockets that listen to what happens to others, and UDP.

use super::{kind, Kind};
use crate::world::{ok, World};
use std::io;
use std::net::UdpSocket;

pub const KINDS: &[Kind] = &[
    // No claim: the network namespace is this run's own, and nobody else destroys sockets in it.
    kind(
        "diag-listener",
        "a listener for destroyed UDP sockets, never read: what it is told is of the dump's own making",
        listener,
    ),
    kind("udp", "UDP sockets on loopback are made, connected, written to, read and closed", udp).inet(),
];

/// SKNLGRP_INET_UDP_DESTROY. CRIU itself makes and destroys sockets of the other three groups.
const UDP_DESTROYED: i32 = 2;

fn listener(w: &mut World) -> io::Result<()> {
    w.worker("listener", |w| {
        // SAFETY: plain system calls; every pointer is to a live local.
        unsafe {
            let s = ok(libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_SOCK_DIAG))?;
            let mut addr: libc::sockaddr_nl = std::mem::zeroed();
            addr.nl_family = libc::AF_NETLINK as u16;
            ok(libc::bind(s, (&raw const addr).cast(), size_of_val(&addr) as u32))?;
            let group = UDP_DESTROYED;
            let value = (&raw const group).cast();
            ok(libc::setsockopt(s, libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, value, 4))?;
        }
        loop {
            w.nap(1000);
        }
    })?;
    Ok(())
}

fn udp(w: &mut World) -> io::Result<()> {
    let server = UdpSocket::bind("127.0.0.1:0")?;
    let at = server.local_addr()?;
    w.worker("udp-server", move |_| loop {
        server.recv_from(&mut [0; 64])?;
    })?;
    for _ in 0..w.between(1, 3) {
        w.worker("udp", move |w| loop {
            let own = UdpSocket::bind("127.0.0.1:0")?;
            w.nap(100);
            own.connect(at)?;
            for _ in 0..w.between(1, 5) {
                own.send(b"datagram")?;
                w.nap(100);
            }
        })?;
    }
    Ok(())
}
