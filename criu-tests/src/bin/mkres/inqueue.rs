//! Descriptors that lie unread in the queue of a UNIX socket.

use crate::ctx::{Args, Ctx, Fail, Res};
use crate::unix::kind_of;
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[Kind {
    name: "in-queue",
    help: "of=NAME (what was made under that name; exact: not NAME.*; else all descriptors so far), type=stream|dgram|seqpacket: sent to an end \
           of a socketpair (holder); one message each, together: one for all, repeat=N: the last that often, fill=N: the first as often as makes N + 1, behind=N: N \
           messages without descriptors first, spaced: one before each, large: of 60,000 bytes, empty: an empty one first; \
           keep=high|low: this process keeps them, too, numbered higher or lower than the holder; deep=N: the holder lies in a queue \
           itself, N times; itself: it lies in its own queue; sndbuf=BYTES, passpidfd (of the holder, set at the end), \
           peek-off: the program peeks itself (SO_PEEK_OFF)",
    make: in_queue,
}];

const SO_PASSPIDFD: i32 = 76;
const SO_PEEK_OFF: i32 = 42;

fn in_queue(cx: &mut Ctx, a: &Args) -> Res {
    let kind = kind_of(a)?;
    let of = a.get("of").unwrap_or_default();
    let exact = a.has("exact");
    let below = |name: &str| !exact && name.strip_prefix(of).is_some_and(|n| n.starts_with('.'));
    let wanted = |name: &str| of.is_empty() || name == of || below(name);
    let (taken, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut cx.fds).into_iter().partition(|(name, _)| wanted(name));
    cx.fds = rest;
    let Some((_, last)) = taken.last() else { return Err(Fail::Broken(format!("nothing named {of}"))) };
    let (via, mut holder) = sys::socketpair(kind)?;
    let plain = if a.has("large") { vec![b'p'; 60_000] } else { b"plain".to_vec() };
    if a.has("sndbuf") {
        sys::setsockopt(holder, libc::SOL_SOCKET, libc::SO_SNDBUF, a.num("sndbuf", 0)? as i32)?;
    }
    for _ in 0..a.num("behind", 0)? {
        sys::send(via, &plain, 0)?;
    }
    if a.has("empty") {
        sys::send(via, b"", 0)?;
    }
    let mut fds: Vec<i32> = taken.iter().map(|(_, fd)| *fd).collect();
    fds.extend((1..a.num("repeat", 1)?).map(|_| *last));
    let first = fds.first().copied();
    fds.splice(0..0, (fds.len() as i64..a.num("fill", 0)? + 1).filter_map(|_| first));
    let messages: Vec<&[i32]> = if a.has("together") { vec![&fds] } else { fds.chunks(1).collect() };
    for message in messages {
        if a.has("spaced") {
            sys::send(via, &plain, 0)?;
        }
        sys::send_fds(via, message)?;
    }
    for (name, fd) in taken {
        if a.get("keep") == Some("low") {
            cx.fds.push((name, fd));
            continue;
        }
        if a.get("keep") == Some("high") {
            cx.fds.push((name, sys::fcntl("F_DUPFD", fd, libc::F_DUPFD, 300)?));
        }
        sys::close(fd);
    }
    if a.has("itself") {
        sys::send_fds(via, &[holder])?;
    }
    if a.has("passpidfd") {
        sys::setsockopt(holder, libc::SOL_SOCKET, SO_PASSPIDFD, 1)?;
        sys::send(via, &plain, 0)?;
    }
    if a.has("peek-off") {
        sys::setsockopt(holder, libc::SOL_SOCKET, SO_PEEK_OFF, 3)?;
    }
    cx.fd("sender", via);
    for nth in 0..a.num("deep", 0)? {
        let (via, outer) = sys::socketpair(kind)?;
        sys::send_fds(via, &[holder])?;
        sys::close(holder);
        cx.fd(&format!("sender{nth}"), via);
        holder = outer;
    }
    cx.fd("holder", holder);
    Ok(())
}
