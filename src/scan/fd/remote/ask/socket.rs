//! What a socket tells: getsockopt, poll and a few requests.

use super::{get, ioctl_number, netns, number, opened, unread, NotAsked, NO_NETNS};
use crate::bytes::Bytes;
use crate::criu_model::socket_options::{self, SocketOption};
use crate::scan::fd::remote::SocketQuery;
use crate::scan::sys;
use crate::snapshot::{SocketFacts, UnixQueueFacts};
use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

// What the libc crate does not have.
/// asm-generic/sockios.h
const SIOCATMARK: libc::Ioctl = 0x8905;
/// linux/un.h: SIOCPROTOPRIVATE + 0.
const SIOCUNIXFILE: libc::Ioctl = 0x89e0;
/// asm-generic/socket.h
const SO_PASSPIDFD: libc::c_int = 76;
/// SO_TIMESTAMP and SO_TIMESTAMPNS, with 32 and with 64 bits: a socket answers to the one that it was set by.
const TIMESTAMPS: [libc::c_int; 2] = [29, 35];
const TIMESTAMPS_NEW: [libc::c_int; 2] = [63, 64];
/// linux/tls.h
const TLS_RX: libc::c_int = 2;

/// Everything of `what` that fits the socket's family.
pub(crate) fn socket(file: &OwnedFd, what: SocketQuery, unasked: &NotAsked) -> SocketFacts {
    let mut facts = SocketFacts::default();
    let int = |level, name| unasked.value(number(file, level, name));
    if what.identity {
        facts.domain = int(libc::SOL_SOCKET, libc::SO_DOMAIN);
        facts.kind = int(libc::SOL_SOCKET, libc::SO_TYPE);
        facts.protocol = int(libc::SOL_SOCKET, libc::SO_PROTOCOL);
    }
    // Without the identity the caller knows the family from sock_diag and asks accordingly.
    let fits = |domains: &[i32], kind: Option<i32>| {
        facts.domain.is_none_or(|d| domains.contains(&d))
            && (kind.is_none() || facts.kind.is_none_or(|k| Some(k) == kind))
    };
    let inet = [libc::AF_INET, libc::AF_INET6];
    let stream = fits(&inet, Some(libc::SOCK_STREAM));
    let datagram = fits(&inet, Some(libc::SOCK_DGRAM));
    let unix = fits(&[libc::AF_UNIX], None);
    let netlink = fits(&[libc::AF_NETLINK], None);
    if what.tcp_state && stream {
        facts.tcp.state = unasked.value(tcp_state(file));
        facts.tcp.peer = unasked.value(peer_name(file)).flatten();
    }
    if what.tcp_queue && stream {
        facts.tcp.peek_off = int(libc::SOL_SOCKET, libc::SO_PEEK_OFF)
            .filter(|off| *off > 0 && unasked.value(unread(file)).is_some_and(|n| n > 0));
        facts.tcp.urgent_inline = int(libc::SOL_SOCKET, libc::SO_OOBINLINE).map(|on| on != 0 && urgent_behind(file));
    }
    if what.tls && stream && unasked.value(receives_tls(file)).is_some() {
        facts.tcp.tls_unread = unasked.value(unread(file));
    }
    if what.udp_cork && datagram {
        facts.udp_cork = int(libc::SOL_UDP, libc::UDP_CORK).map(|v| v != 0);
    }
    if what.options {
        facts.unsaved_options = unsaved_options(file);
    }
    if what.netns {
        facts.netns = unasked.answered(netns(file), &NO_NETNS).and_then(Result::ok);
    }
    if what.readable && netlink {
        facts.readable = unasked.value(readable(file));
    }
    if what.unix_file && unix {
        let (bound, mount) = match unix_file(file) {
            Ok((path, mount)) => (Ok(path), mount),
            Err(errno) => (Err(errno), None),
        };
        facts.unix.file = unasked.answer(bound, &UNIX_FILE);
        facts.unix.file_mount = mount;
    }
    if what.peer_pid && unix {
        facts.unix.peer_pid = unasked.value(peer_pid(file)).filter(|pid| *pid > 0);
    }
    if what.queue && unix {
        facts.unix.queue = Some(Box::new(queue(file, unasked)));
    }
    if what.filter {
        facts.filter = unasked.answer(filter_length(file), &[Errno::EACCES]);
    }
    if what.bound_device {
        facts.bound_device = unasked.answer(bound_device(file), &[Errno::ENODEV]);
    }
    if what.local && fits(&inet, None) {
        facts.local = unasked.value(local_name(file)).flatten();
    }
    facts
}

/// What the fdinfo and the options of a UNIX socket with unread messages tell.
fn queue(file: &OwnedFd, unasked: &NotAsked) -> UnixQueueFacts {
    let int = |name| unasked.value(number(file, libc::SOL_SOCKET, name));
    let on = |name| int(name).map(|v| v != 0);
    let either = |names: [libc::c_int; 2]| match names.map(on) {
        [Some(true), _] | [_, Some(true)] => Some(true),
        [one, other] => one.or(other),
    };
    UnixQueueFacts {
        scm_fds: unasked.value(scm_fds(file)).flatten(),
        passcred: on(libc::SO_PASSCRED),
        passsec: on(libc::SO_PASSSEC),
        passpidfd: on(SO_PASSPIDFD),
        timestamps: either(TIMESTAMPS),
        timestamps64: either(TIMESTAMPS_NEW),
        error: unasked.value(has_error(file)),
        sndbuf: int(libc::SO_SNDBUF),
        ..UnixQueueFacts::default()
    }
}

/// No file, one that CRIU may not have or that has a path longer than a page, no such request (Linux before 4.10).
const UNIX_FILE: [Errno; 4] = [Errno::ENOENT, Errno::EPERM, Errno::ENAMETOOLONG, Errno::ENOTTY];

/// Of our own descriptor, which is the same open file.
fn scm_fds(file: &OwnedFd) -> nix::Result<Option<u32>> {
    let text = sys::read_file(format!("/proc/self/fdinfo/{}", file.as_raw_fd()).as_ref())?;
    Ok(crate::parse::fdinfo::parse(&text).scm_fds)
}

/// tcpi_state, the first byte of struct tcp_info.
fn tcp_state(file: &OwnedFd) -> nix::Result<u8> {
    let mut info = [0u8; 1];
    get(file, libc::SOL_TCP, libc::TCP_INFO, &mut info).map(|_| info[0])
}

/// SO_PEERNAME, struct sockaddr_in or sockaddr_in6; `None` for another family. Unlike getpeername(2) the kernel refuses a
/// buffer that is longer than the name (`sk_getsockopt()`, net/core/sock.c).
fn peer_name(file: &OwnedFd) -> nix::Result<Option<SocketAddr>> {
    let mut long = [0u8; size_of::<libc::sockaddr_in6>()];
    let mut short = [0u8; size_of::<libc::sockaddr_in>()];
    let name = match get(file, libc::SOL_SOCKET, libc::SO_PEERNAME, &mut long) {
        Ok(_) => long.as_slice(),
        Err(Errno::EINVAL) => {
            get(file, libc::SOL_SOCKET, libc::SO_PEERNAME, &mut short)?;
            &short
        }
        Err(e) => return Err(e),
    };
    Ok(address(name))
}

/// TLS_RX, with room for the version and the cipher only: the keys are not given out. EBUSY: none are set; ENOPROTOOPT: no kTLS
/// (`do_tls_getsockopt_conf()`, net/tls/tls_main.c).
fn receives_tls(file: &OwnedFd) -> nix::Result<()> {
    // struct tls_crypto_info
    let mut what = [0u8; 4];
    get(file, libc::SOL_TLS, TLS_RX, &mut what).map(drop)
}

/// getsockname(2) of a socket of any family; `None` for another than IPv4 and IPv6.
fn local_name(file: &OwnedFd) -> nix::Result<Option<SocketAddr>> {
    let mut name = [0u8; size_of::<libc::sockaddr_storage>()];
    let mut len = name.len() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, the size of `name`, which is made of numbers.
    Errno::result(unsafe { libc::getsockname(file.as_raw_fd(), name.as_mut_ptr().cast(), &mut len) })?;
    Ok(name.get(..len as usize).and_then(address))
}

fn address(name: &[u8]) -> Option<SocketAddr> {
    let (family, rest) = name.split_first_chunk::<2>()?;
    let (port, rest) = rest.split_first_chunk::<2>()?;
    let port = u16::from_be_bytes(*port);
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_INET => rest.first_chunk::<4>().map(|ip| (*ip, port).into()),
        // The flow label is in between.
        libc::AF_INET6 => rest.get(4..)?.first_chunk::<16>().map(|ip| (*ip, port).into()),
        _ => None,
    }
}

/// As CRIU (`dump_socket_filter()`, sockets.c): the number of instructions; EACCES for an eBPF filter.
fn filter_length(file: &OwnedFd) -> nix::Result<u32> {
    let mut len: libc::socklen_t = 0;
    // SAFETY: a length of 0 asks only for the number of instructions; the kernel does not write through the null pointer.
    let r = unsafe {
        libc::getsockopt(file.as_raw_fd(), libc::SOL_SOCKET, libc::SO_GET_FILTER, std::ptr::null_mut(), &mut len)
    };
    Errno::result(r).map(|_| len)
}

/// Who connected or listened; in our pid namespace, 0 if it has no number here.
fn peer_pid(file: &OwnedFd) -> nix::Result<i32> {
    let mut cred = libc::ucred { pid: 0, uid: 0, gid: 0 };
    get(file, libc::SOL_SOCKET, libc::SO_PEERCRED, &mut cred).map(|_| cred.pid)
}

/// The interface's name; empty for none.
fn bound_device(file: &OwnedFd) -> nix::Result<Bytes> {
    let mut name = [0u8; libc::IFNAMSIZ];
    let len = get(file, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, &mut name)?;
    let name = name.get(..len as usize).unwrap_or_default();
    Ok(name.split(|b| *b == 0).next().unwrap_or_default().into())
}

/// As CRIU (`fd_has_data()`): whatever poll reports counts, an error too.
fn readable(file: &OwnedFd) -> nix::Result<bool> {
    poll(&mut [PollFd::new(file.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).map(|n| n > 0)
}

/// A TCP socket has received an urgent byte, and what it would read next is not that byte (`tcp_poll`, `tcp_ioctl`).
fn urgent_behind(file: &OwnedFd) -> bool {
    let mut urgent = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
    poll(&mut urgent, PollTimeout::ZERO).is_ok()
        && urgent.iter().all(|p| p.revents().is_some_and(|r| r.contains(PollFlags::POLLPRI)))
        && ioctl_number(file, SIOCATMARK) == Ok(0)
}

/// POLLERR, which poll(2) leaves pending, unlike SO_ERROR.
fn has_error(file: &OwnedFd) -> nix::Result<bool> {
    let mut asked = [PollFd::new(file.as_fd(), PollFlags::empty())];
    poll(&mut asked, PollTimeout::ZERO)?;
    Ok(asked[0].revents().is_some_and(|r| r.contains(PollFlags::POLLERR)))
}

/// The link text and the mount of the file that the socket was bound to (`unix_open_file()`, net/unix/af_unix.c: an O_PATH descriptor, so
/// the file is not opened and closing it flushes nothing). ENOENT: not bound to a path.
fn unix_file(file: &OwnedFd) -> nix::Result<(Bytes, Option<u64>)> {
    // What is not allowed now will not be a moment later.
    let bound = opened(file, SIOCUNIXFILE).or_else(|errno| match errno {
        Errno::EPERM => opened(file, SIOCUNIXFILE),
        errno => Err(errno),
    })?;
    match std::fs::read_link(format!("/proc/self/fd/{}", bound.as_raw_fd())) {
        Ok(path) => {
            let mount = sys::statx(&bound, c"").ok().and_then(|attr| attr.mnt_id);
            Ok((Bytes(path.into_os_string().into_vec()), mount))
        }
        // Of the link this alone is an answer.
        Err(e) if e.raw_os_error() == Some(libc::ENAMETOOLONG) => Err(Errno::ENAMETOOLONG),
        Err(_) => Err(Errno::EIO),
    }
}

/// Whether the last close of the socket waits for the other end (SO_LINGER).
pub(crate) fn lingers(socket: &OwnedFd) -> bool {
    let linger = nix::sys::socket::getsockopt(socket, nix::sys::socket::sockopt::Linger);
    linger.is_ok_and(|l| l.l_onoff != 0 && l.l_linger != 0)
}

/// Those that have another value than their default; what is not answered is not known to be lost.
fn unsaved_options(file: &OwnedFd) -> Vec<(i32, i32)> {
    let int = |name| number(file, libc::SOL_SOCKET, name);
    let (Ok(family), Ok(protocol)) = (int(libc::SO_DOMAIN), int(libc::SO_PROTOCOL)) else { return Vec::new() };
    let changed = |o: &&SocketOption| number(file, o.level, o.number).is_ok_and(|value| value != o.default);
    socket_options::of(family, protocol).filter(changed).map(|o| (o.level, o.number)).collect()
}
