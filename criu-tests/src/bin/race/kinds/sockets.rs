//! Sockets that listen to what happens to others, and UDP.

use super::{kind, Claim, Kind};
use crate::world::{ok, World};
use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

pub const KINDS: &[Kind] = &[
    // No claim: the network namespace is this run's own, and nobody else destroys sockets in it.
    kind(
        "diag-listener",
        "a listener for destroyed UDP sockets, never read: what it is told is of the dump's own making",
        listener,
    ),
    kind("netlink", "routing sockets are asked, have an answer for a moment, and are read and closed", netlink)
        .claims(&[Claim { rule: "netlink-data", text: "The socket has data to read", who: "netlink" }]),
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

fn netlink(w: &mut World) -> io::Result<()> {
    for _ in 0..w.between(1, 2) {
        w.worker("netlink", |w| {
            // RTM_GETLINK, dump: nlmsghdr (len, type, flags, seq, pid) and an empty ifinfomsg.
            let request: [u32; 8] = [32, 18 | (0x301 << 16), 0, 0, 0, 0, 0, 0];
            let mut open = Vec::new();
            loop {
                // SAFETY: plain system calls; every pointer is to a live local, and the descriptor is new.
                unsafe {
                    let flags = libc::SOCK_RAW | libc::SOCK_NONBLOCK;
                    let s = OwnedFd::from_raw_fd(ok(libc::socket(libc::AF_NETLINK, flags, libc::NETLINK_ROUTE))?);
                    w.nap(300);
                    ok(libc::send(s.as_raw_fd(), request.as_ptr().cast(), 32, 0))?;
                    w.nap(100);
                    let mut answer = [0_u8; 32 << 10];
                    while libc::recv(s.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0) > 0 {}
                    open.push(s);
                }
                w.nap(1000);
                if open.len() > w.between(0, 4) {
                    open.remove(0);
                }
            }
        })?;
    }
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
