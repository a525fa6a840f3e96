//! What a tun or tap descriptor tells.

use super::{netns, NotAsked, NO_NETNS};
use crate::bytes::Bytes;
use crate::snapshot::TunFacts;
use nix::errno::Errno;
use std::os::fd::{AsRawFd, OwnedFd};

/// TUNGETIFF, TUNGETFILTER (a tap's only), and SIOCGSKNS as CRIU's `get_socket_ns()` does.
pub(crate) fn tun(file: &OwnedFd, unasked: &NotAsked) -> TunFacts {
    let netns = unasked.answered(netns(file), &NO_NETNS).and_then(Result::ok);
    let mut facts = TunFacts { netns, ..TunFacts::default() };
    // SAFETY: struct ifreq is made of numbers; zero is a value.
    let mut interface: libc::ifreq = unsafe { std::mem::zeroed() };
    // SAFETY: TUNGETIFF writes one struct ifreq.
    let r = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNGETIFF as libc::Ioctl, &mut interface) };
    // EBADFD: it has none.
    if let Some(Ok(_)) = unasked.answered(Errno::result(r), &[Errno::EBADFD]) {
        // SAFETY: any bytes are a number.
        let flags = unsafe { interface.ifr_ifru.ifru_flags };
        facts.flags = Some(u32::from(flags as u16));
        let name: Vec<u8> = interface.ifr_name.iter().map(|c| c.to_ne_bytes()[0]).take_while(|b| *b != 0).collect();
        facts.name = Some(Bytes(name));
        let mut filter = libc::sock_fprog { len: 0, filter: std::ptr::null_mut() };
        // SAFETY: TUNGETFILTER writes one struct sock_fprog; its pointer is not used.
        let r = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNGETFILTER as libc::Ioctl, &mut filter) };
        let tap = i32::from(flags) & libc::IFF_TAP != 0;
        let answer = unasked.answered(Errno::result(r), if tap { &[] } else { &[Errno::EINVAL] });
        facts.filter = answer.and_then(Result::ok).map(|_| filter.len != 0);
    }
    facts
}
