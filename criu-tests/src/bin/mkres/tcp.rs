//! TCP: listeners, and connections in each state a program can hold.

use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[
    Kind { name: "tcp", help: "never connected; bound; v6", make: plain },
    Kind {
        name: "tcp-listen",
        help: "v6, v4mapped; backlog: with connections of an outside client not yet accepted",
        make: listener,
    },
    Kind {
        name: "tcp-pair",
        help:
            "both ends of a connection here; v6, v4mapped, data: unread at the server; peek=N: its SO_PEEK_OFF; urgent: \
               an urgent byte behind data, inline; read: up to that byte; stuffed: the server has sent what nobody reads; \
               ktls=receive|send: the server decrypts (the client encrypts), or the server encrypts; reset: by the client, \
               then closed",
        make: pair,
    },
    Kind {
        name: "tcp-outside",
        help: "the peer outside; state=established|syn_sent|fin_wait1|fin_wait2|close_wait|last_ack|closing|reset|refused|dissolved; v6",
        make: outside,
    },
];

/// The loopback address of a family with `port`.
pub fn loopback(domain: i32, port: u16) -> (libc::sockaddr_in6, u32) {
    let mut a: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
    if domain == libc::AF_INET6 {
        a.sin6_family = domain as u16;
        a.sin6_port = port.to_be();
        a.sin6_addr.s6_addr[15] = 1;
        return (a, 28);
    }
    let v4 = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    };
    unsafe { (&raw mut a).cast::<libc::sockaddr_in>().write(v4) };
    (a, 16)
}

/// `::ffff:127.0.0.1`.
fn mapped(port: u16) -> (libc::sockaddr_in6, u32) {
    let (mut a, len) = loopback(libc::AF_INET6, port);
    a.sin6_addr.s6_addr = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1];
    (a, len)
}

pub fn port_of(fd: i32) -> Res<u16> {
    let mut a: libc::sockaddr_in6 = unsafe { std::mem::zeroed() };
    let mut len = 28u32;
    sys::ok("getsockname", unsafe { libc::getsockname(fd, (&raw mut a).cast(), &mut len) })?;
    Ok(u16::from_be(a.sin6_port)) // the same place in both families
}

fn domain(a: &Args) -> i32 {
    if a.has("v6") || a.has("v4mapped") {
        libc::AF_INET6
    } else {
        libc::AF_INET
    }
}

fn listening(a: &Args, backlog: i32) -> Res<(i32, libc::sockaddr_in6, u32)> {
    let d = domain(a);
    let l = sys::socket(d, libc::SOCK_STREAM, libc::IPPROTO_TCP)?;
    let addr = |port| if a.has("v4mapped") { mapped(port) } else { loopback(d, port) };
    let (any, len) = addr(0);
    sys::bind("loopback", l, &any, len)?;
    sys::listen(l, backlog)?;
    let (to, len) = addr(port_of(l)?);
    Ok((l, to, len))
}

fn connected(a: &Args) -> Res<(i32, i32)> {
    let (l, to, len) = listening(a, 1)?;
    let c = sys::socket(domain(a), libc::SOCK_STREAM, libc::IPPROTO_TCP)?;
    sys::connect("tcp", c, &to, len)?;
    let s = sys::accept(l)?;
    sys::close(l);
    Ok((c, s))
}

fn plain(cx: &mut Ctx, a: &Args) -> Res {
    let d = domain(a);
    let s = sys::socket(d, libc::SOCK_STREAM, libc::IPPROTO_TCP)?;
    if a.has("bound") {
        let (addr, len) = loopback(d, 0);
        sys::bind("loopback", s, &addr, len)?;
    }
    cx.fd("", s);
    Ok(())
}

fn listener(cx: &mut Ctx, a: &Args) -> Res {
    let (l, to, len) = listening(a, 8)?;
    cx.fd("", l);
    if a.has("backlog") {
        let d = domain(a);
        cx.outsider("client", &[], || {
            for _ in 0..2 {
                let c = sys::socket(d, libc::SOCK_STREAM, libc::IPPROTO_TCP)?;
                sys::connect("tcp", c, &to, len)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn pair(cx: &mut Ctx, a: &Args) -> Res {
    let (c, s) = connected(a)?;
    match a.get("ktls") {
        Some("receive") => {
            ktls(s, TLS_RX)?;
            ktls(c, TLS_TX)?;
        }
        Some(_) => ktls(s, TLS_TX)?,
        None => {}
    }
    if a.has("data") {
        sys::send(c, b"unread", 0)?;
    }
    if a.has("stuffed") {
        stuff(s)?;
    }
    if a.has("urgent") {
        sys::setsockopt(s, libc::SOL_SOCKET, libc::SO_OOBINLINE, 1)?;
        for (bytes, flags) in [(b"three", 0), (b"twone", libc::MSG_OOB)] {
            sys::send(c, bytes, flags)?;
        }
    }
    if a.has("read") {
        let mut buf = [0u8; 64];
        sys::ok("recv", unsafe { libc::recv(s, buf.as_mut_ptr().cast(), buf.len(), 0) })?;
    }
    if a.has("peek") {
        sys::setsockopt(s, libc::SOL_SOCKET, libc::SO_PEEK_OFF, a.num("peek", 0)? as i32)?;
    }
    cx.fd("server", s);
    if a.has("reset") {
        reset(c)?;
        return until(s, 7);
    }
    cx.fd("client", c);
    Ok(())
}

/// linux/tls.h
const TLS_TX: i32 = 1;
const TLS_RX: i32 = 2;

/// TLS 1.2 in the kernel, AES-GCM with keys of zeros.
fn ktls(fd: i32, direction: i32) -> Res {
    const TCP_ULP: i32 = 31;
    let r = unsafe { libc::setsockopt(fd, libc::IPPROTO_TCP, TCP_ULP, c"tls".as_ptr().cast(), 3) };
    sys::ok("TCP_ULP", r)?;
    // struct tls12_crypto_info_aes_gcm_128: TLS_1_2_VERSION, TLS_CIPHER_AES_GCM_128, nonce, key, salt, number of the record.
    let mut keys = [0u16; 20];
    keys[..2].copy_from_slice(&[0x0303, 51]);
    let r = unsafe { libc::setsockopt(fd, libc::SOL_TLS, direction, keys.as_ptr().cast(), 40) };
    sys::ok("TLS keys", r).map(|_| ())
}

/// Fills both buffers, so that a later FIN waits behind data the peer does not take.
fn stuff(fd: i32) -> Res {
    let block = [0u8; 65536];
    let mut idle = 0;
    while idle < 5 {
        let n = unsafe { libc::send(fd, block.as_ptr().cast(), block.len(), libc::MSG_DONTWAIT) };
        if n < 0 {
            idle += 1;
            std::thread::sleep(std::time::Duration::from_millis(10));
        } else {
            idle = 0;
        }
    }
    Ok(())
}

fn outside(cx: &mut Ctx, a: &Args) -> Res {
    let state = a.get("state").unwrap_or("established").to_string();
    if state == "syn_sent" {
        return syn_sent(cx, a);
    }
    if matches!(state.as_str(), "reset" | "refused" | "dissolved") {
        return closed(cx, a, &state);
    }
    let (c, s) = connected(a)?;
    let ours_first = matches!(state.as_str(), "fin_wait1" | "fin_wait2" | "closing");
    let theirs = matches!(state.as_str(), "close_wait" | "last_ack" | "closing");
    if matches!(state.as_str(), "fin_wait1" | "last_ack" | "closing") {
        stuff(c)?;
    }
    if ours_first {
        unsafe { libc::shutdown(c, libc::SHUT_WR) };
    }
    cx.outsider("peer", &[s], || {
        if theirs {
            sys::ok("shutdown", unsafe { libc::shutdown(s, libc::SHUT_WR) })?;
        }
        Ok(())
    })?;
    sys::close(s);
    if state == "last_ack" {
        until(c, 8)?;
        unsafe { libc::shutdown(c, libc::SHUT_WR) };
    }
    let want = match state.as_str() {
        "established" => 1,
        "fin_wait1" => 4,
        "fin_wait2" => 5,
        "close_wait" => 8,
        "last_ack" => 9,
        "closing" => 11,
        other => return Err(Fail::Broken(format!("state {other}"))),
    };
    until(c, want)?;
    cx.fd("", c);
    Ok(())
}

/// Closes it with a reset.
fn reset(s: i32) -> Res {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let r = unsafe { libc::setsockopt(s, libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), 8) };
    sys::ok("SO_LINGER", r)?;
    sys::close(s);
    Ok(())
}

/// In CLOSE again: by the peer's reset, because nobody listened, or by connect() to AF_UNSPEC.
fn closed(cx: &mut Ctx, a: &Args, how: &str) -> Res {
    if how == "refused" {
        let (l, to, len) = listening(a, 1)?;
        sys::close(l);
        let c = sys::socket(domain(a), libc::SOCK_STREAM, libc::IPPROTO_TCP)?;
        if sys::connect("tcp", c, &to, len).is_ok() {
            return Err(Fail::Skip("somebody else listens on the port".into()));
        }
        cx.fd("", c);
        return Ok(());
    }
    let (c, s) = connected(a)?;
    if how == "reset" {
        reset(s)?;
    } else {
        sys::connect("to nobody", c, &[0u8; 16], 16)?;
        sys::close(s);
    }
    until(c, 7)?;
    cx.fd("", c);
    Ok(())
}

/// A listener whose queue is full answers no SYN.
fn syn_sent(cx: &mut Ctx, a: &Args) -> Res {
    let (l, to, len) = listening(a, 0)?;
    let d = domain(a);
    cx.outsider("listener", &[l], || {
        for _ in 0..3 {
            let c = sys::socket(d, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, libc::IPPROTO_TCP)?;
            unsafe { libc::connect(c, (&raw const to).cast(), len) };
        }
        Ok(())
    })?;
    sys::close(l);
    let c = sys::socket(d, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, libc::IPPROTO_TCP)?;
    unsafe { libc::connect(c, (&raw const to).cast(), len) };
    until(c, 2)?;
    cx.fd("", c);
    Ok(())
}

/// Waits until the kernel shows the connection in `state` (TCP_INFO numbers).
pub fn until(fd: i32, state: u8) -> Res {
    let mut seen = 0;
    for _ in 0..200 {
        let mut info = [0u8; 8];
        let mut len = 8u32;
        let r = unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &mut len) };
        sys::ok("TCP_INFO", r)?;
        seen = info[0];
        if seen == state {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Err(Fail::Skip(format!("the connection stays in TCP state {seen}, {state} was wanted")))
}
