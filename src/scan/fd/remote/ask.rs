//! The questions themselves: fcntl, getsockopt, ioctl on a borrowed descriptor. None changes the open file or waits for
//! anything but a short kernel lock.

use crate::bytes::Bytes;
use crate::parse::nslink::{self, LinkTarget};
use crate::scan::fd::remote::SocketQuery;
use crate::scan::sys;
use crate::snapshot::{Answer, Dev, SocketFacts, TtyFacts, TunFacts, UnixQueueFacts};
use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use std::cell::Cell;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

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

/// F_GETFL: the f_flags of the open file.
pub fn flags(file: &OwnedFd) -> nix::Result<u32> {
    // SAFETY: two numbers.
    Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) }).map(|n| n as u32)
}

/// F_GETOWN: whom SIGIO goes to, a process or thread, or (negative) a process group; 0: nobody that we see.
pub fn owner(file: &OwnedFd) -> nix::Result<i32> {
    // SAFETY: two numbers.
    Errno::result(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETOWN) })
}

/// Everything of `what` that fits the socket's family.
pub fn socket(file: &OwnedFd, what: SocketQuery, unasked: &NotAsked) -> SocketFacts {
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
    if what.netns {
        facts.netns = unasked.told(netns(file), &NO_NETNS).and_then(Result::ok);
    }
    if what.readable && netlink {
        facts.readable = unasked.value(readable(file));
    }
    if what.unix_file && unix {
        facts.unix.file = unasked.answer(unix_file(file), &UNIX_FILE);
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
/// Not ours to know, or one that was hung up.
const NO_SESSION: [Errno; 2] = [Errno::ENOTTY, Errno::EIO];
/// Not the terminal that this is asked of, or a kernel that does not know it; or one that was hung up.
const NO_NUMBER: [Errno; 3] = [Errno::ENOTTY, Errno::EINVAL, Errno::EIO];
/// A line discipline without settings; a serial line without hardware, or a terminal that was hung up.
const NO_PARAMS: [Errno; 3] = [Errno::ENOTTY, Errno::EINVAL, Errno::EIO];

/// By which a socket says that there is no such thing here: not of this family, not in this kernel, not connected, not set.
const NO_ANSWER: [Errno; 5] = [Errno::EOPNOTSUPP, Errno::ENOPROTOOPT, Errno::ENOTCONN, Errno::EBUSY, Errno::ENOTTY];
/// Not ours to know (no CAP_NET_ADMIN over it), or no such request (Linux before 4.10, and of tun before 5.2).
const NO_NETNS: [Errno; 3] = [Errno::EPERM, Errno::ENOTTY, Errno::EINVAL];

/// The last errno that was no answer.
#[derive(Debug, Default)]
pub struct NotAsked(Cell<Option<Errno>>);

impl NotAsked {
    pub fn errno(&self) -> Option<Errno> {
        self.0.get()
    }

    fn note<T>(&self, result: nix::Result<T>) -> Option<T> {
        result.map_err(|errno| self.0.set(Some(errno))).ok()
    }

    /// An answer as rules read it: an errno only where it is one.
    fn told<T>(&self, result: nix::Result<T>, answers: &[Errno]) -> Option<Result<T, i32>> {
        self.note(sys::answer(result, answers)).map(|answer| answer.map_err(|errno| errno as i32))
    }

    /// The same, of which rules tell the errno from no answer.
    fn answer<T>(&self, result: nix::Result<T>, answers: &[Errno]) -> Answer<T> {
        match self.told(result, answers) {
            None => Answer::Unknown,
            Some(Ok(value)) => Answer::Is(value),
            Some(Err(errno)) => Answer::Errno(errno),
        }
    }

    /// A value, where there is one.
    fn value<T>(&self, result: nix::Result<T>) -> Option<T> {
        self.note(sys::answer(result, &NO_ANSWER))?.ok()
    }
}

/// Of our own descriptor, which is the same open file.
fn scm_fds(file: &OwnedFd) -> nix::Result<Option<u32>> {
    let text = sys::read_file(format!("/proc/self/fdinfo/{}", file.as_raw_fd()).as_ref())?;
    Ok(crate::parse::fdinfo::parse(&text).scm_fds)
}

/// An option that is a plain number.
pub(crate) fn number(file: &OwnedFd, level: libc::c_int, name: libc::c_int) -> nix::Result<i32> {
    let mut value: libc::c_int = 0;
    get(file, level, name, &mut value).map(|_| value)
}

/// getsockopt(2) into a value that any bytes are valid for; the length the kernel gave.
fn get<T: Plain>(file: &OwnedFd, level: libc::c_int, name: libc::c_int, value: &mut T) -> nix::Result<libc::socklen_t> {
    let mut len = size_of::<T>() as libc::socklen_t;
    let place = std::ptr::from_mut(value).cast();
    // SAFETY: the kernel writes at most `len` bytes, the size of `T`, and `T` is Plain.
    Errno::result(unsafe { libc::getsockopt(file.as_raw_fd(), level, name, place, &mut len) }).map(|_| len)
}

/// Made of numbers only, so that whatever bytes the kernel writes are a value.
///
/// # Safety
///
/// Every bit pattern must be valid.
unsafe trait Plain {}
// SAFETY: numbers, arrays of numbers and structures of numbers.
unsafe impl Plain for libc::c_int {}
// SAFETY: see above.
unsafe impl Plain for libc::ucred {}
// SAFETY: see above.
unsafe impl<const N: usize> Plain for [u8; N] {}

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

/// An ioctl that fills in a number.
fn ioctl_number(file: &OwnedFd, request: libc::Ioctl) -> nix::Result<libc::c_int> {
    let mut value: libc::c_int = 0;
    // SAFETY: the requests used here (FIONREAD of a socket or a watch, SIOCATMARK) write one int.
    Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), request, &mut value) }).map(|_| value)
}

/// FIONREAD: bytes to be read.
pub fn unread(file: &OwnedFd) -> nix::Result<u32> {
    ioctl_number(file, libc::FIONREAD).map(|bytes| u32::try_from(bytes).unwrap_or_default())
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

/// An ioctl without argument that makes a descriptor (close-on-exec, as all of those used here do).
fn opened(file: &OwnedFd, request: libc::Ioctl) -> nix::Result<OwnedFd> {
    // SAFETY: no argument.
    let fd = Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), request) })?;
    // SAFETY: the kernel has just made it; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The inode of its network namespace.
fn netns(file: &OwnedFd) -> nix::Result<u64> {
    // An nsfs file: no file server.
    Ok(nix::sys::stat::fstat(sys::netns_of(file.as_raw_fd())?)?.st_ino)
}

/// The link text of the file that the socket was bound to (`unix_open_file()`, net/unix/af_unix.c: an O_PATH descriptor, so
/// the file is not opened and closing it flushes nothing). ENOENT: not bound to a path.
fn unix_file(file: &OwnedFd) -> nix::Result<Bytes> {
    // Whose right it is not will not be told a moment later.
    let bound = opened(file, SIOCUNIXFILE).or_else(|errno| match errno {
        Errno::EPERM => opened(file, SIOCUNIXFILE),
        errno => Err(errno),
    })?;
    match std::fs::read_link(format!("/proc/self/fd/{}", bound.as_raw_fd())) {
        Ok(path) => Ok(Bytes(path.into_os_string().into_vec())),
        // Of the link this alone is an answer.
        Err(e) if e.raw_os_error() == Some(libc::ENAMETOOLONG) => Err(Errno::ENAMETOOLONG),
        Err(_) => Err(Errno::EIO),
    }
}

/// As CRIU's parasite asks (`parasite_dump_tty()`): EIO for the first three means that the other side is closed.
pub fn tty(file: &OwnedFd, is_master: bool, unasked: &NotAsked) -> TtyFacts {
    let ask = |request, answers: &[Errno]| unasked.told(tty_number(file, request), answers);
    let (sid, pgrp) = (ask(libc::TIOCGSID, &NO_SESSION), ask(libc::TIOCGPGRP, &NO_SESSION));
    let exclusive = ask(libc::TIOCGEXCL as libc::Ioctl, &NO_NUMBER);
    // Every master has one.
    let index = ask(libc::TIOCGPTN as libc::Ioctl, if is_master { &[Errno::EIO] } else { &NO_NUMBER });
    let unset = unasked.told(params(file), &NO_PARAMS).and_then(Result::err);
    let device = ask(libc::TIOCGDEV as libc::Ioctl, &NO_NUMBER);
    let hung_up = hung_up(&[sid, pgrp, exclusive, index, device]);
    if hung_up.is_none() {
        unasked.0.set(Some(Errno::EIO));
    }
    let value = |answer: Option<Result<i32, i32>>| answer?.ok();
    let index = value(index).map(|n| n as u32);
    let device = value(device).map(Dev::from_tty_nr);
    // A slave answers only those whose own controlling terminal it is. Should it be ours: that says nothing of its owner.
    let master = index.is_some();
    let of_master = |answer| match answer {
        // It controls nobody.
        Some(Err(libc::ENOTTY)) if master => Some(0),
        answer => value(answer).filter(|_| master),
    };
    let sid = of_master(sid);
    let sid_pidns = sid.filter(|s| *s > 0).and_then(pidns);
    // Of a pseudoterminal it tells nothing but a hang-up.
    let tells = unset != Some(libc::EIO) || (hung_up == Some(false) && !device.is_some_and(Dev::is_unix98_pty));
    if !tells && hung_up != Some(true) {
        unasked.0.set(Some(Errno::EIO));
    }
    TtyFacts {
        index,
        master,
        sid,
        sid_pidns,
        pgrp: of_master(pgrp),
        hung_up,
        device,
        unset: unset.filter(|_| tells),
        open_file: None,
    }
}

/// A hang-up takes the open file every operation, for good: from then on each of these is EIO, by which none of them means
/// anything else (`hung_up_tty_ioctl()`, drivers/tty/tty_io.c). One that says so before one that does not, or alone, is no answer:
/// `None`.
pub(super) fn hung_up(asked: &[Option<Result<i32, i32>>]) -> Option<bool> {
    let eio = |answer: &&Option<Result<i32, i32>>| **answer == Some(Err(libc::EIO));
    let answered = || asked.iter().filter(|answer| answer.is_some());
    match answered().filter(eio).count() {
        // Each terminal tells its device.
        0 => answered().any(|answer| matches!(answer, Some(Ok(_)))).then_some(false),
        // It may have happened while we asked.
        n if n > 1 && answered().rev().take_while(eio).count() == n => Some(true),
        _ => None,
    }
}

/// Whether the last close of the socket waits for the other end (SO_LINGER).
pub fn lingers(socket: &OwnedFd) -> bool {
    let linger = nix::sys::socket::getsockopt(socket, nix::sys::socket::sockopt::Linger);
    linger.is_ok_and(|l| l.l_onoff != 0 && l.l_linger != 0)
}

/// The pid namespace of a process, of the tree or not.
fn pidns(pid: i32) -> Option<u64> {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok()?;
    match nslink::parse(link.as_os_str().as_bytes()) {
        LinkTarget::Ns { ino, .. } => Some(ino),
        _ => None,
    }
}

/// TCGETS
fn params(file: &OwnedFd) -> nix::Result<()> {
    // SAFETY: struct termios is made of numbers; zero is a value.
    let mut params: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: TCGETS writes the kernel's struct termios, which is the beginning of the C library's.
    Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), libc::TCGETS, &mut params) }).map(drop)
}

fn tty_number(file: &OwnedFd, request: libc::Ioctl) -> nix::Result<i32> {
    let mut value: libc::c_int = 0;
    // SAFETY: each of these requests writes one int (TIOCGPTN an unsigned one).
    Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), request, &mut value) }).map(|_| value)
}

/// TUNGETIFF, TUNGETFILTER (a tap's only), and SIOCGSKNS as CRIU's `get_socket_ns()` does.
pub fn tun(file: &OwnedFd, unasked: &NotAsked) -> TunFacts {
    let netns = unasked.told(netns(file), &NO_NETNS).and_then(Result::ok);
    let mut facts = TunFacts { netns, ..TunFacts::default() };
    // SAFETY: struct ifreq is made of numbers; zero is a value.
    let mut interface: libc::ifreq = unsafe { std::mem::zeroed() };
    // SAFETY: TUNGETIFF writes one struct ifreq.
    let r = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNGETIFF as libc::Ioctl, &mut interface) };
    // EBADFD: it has none.
    if let Some(Ok(_)) = unasked.told(Errno::result(r), &[Errno::EBADFD]) {
        // SAFETY: any bytes are a number.
        let flags = unsafe { interface.ifr_ifru.ifru_flags };
        facts.flags = Some(u32::from(flags as u16));
        let name: Vec<u8> = interface.ifr_name.iter().map(|c| c.to_ne_bytes()[0]).take_while(|b| *b != 0).collect();
        facts.name = Some(Bytes(name));
        let mut filter = libc::sock_fprog { len: 0, filter: std::ptr::null_mut() };
        // SAFETY: TUNGETFILTER writes one struct sock_fprog; its pointer is not used.
        let r = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNGETFILTER as libc::Ioctl, &mut filter) };
        let tap = i32::from(flags) & libc::IFF_TAP != 0;
        let answer = unasked.told(Errno::result(r), if tap { &[] } else { &[Errno::EINVAL] });
        facts.filter = answer.and_then(Result::ok).map(|_| filter.len != 0);
    }
    facts
}
