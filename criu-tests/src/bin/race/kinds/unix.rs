//! UNIX sockets whose ends wander, wait to be accepted, or come and go.

use super::{kind, Claim, Kind};
use crate::world::{ok, World};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

pub const KINDS: &[Kind] = &[
    kind("socket-hop", "one end of a socketpair is held by a process that forks and exits, again and again", hop),
    kind("socket-pass", "one end of a socketpair is sent back and forth between two processes", pass),
    kind("socket-pass-file", "files and pipes are sent back and forth between two processes", pass_files),
    kind("unix-accept", "clients connect, are accepted and leave", |w| accept(w, false)).claims(ICONS),
    kind("unix-accept-data", "clients connect, send, and at times close before they are accepted", |w| accept(w, true))
        .claims(ICONS),
    kind("unix-rebind", "a listening socket's name is removed and bound by another", rebind),
    kind("unix-dgram", "datagrams between bound sockets that come and go", dgram),
];

const ICONS: &[Claim] = &[
    Claim { rule: "unix-icon-data", text: "Non-empty write queue on an in-flight socket", who: "client" },
    Claim { rule: "unix-icon-closed", text: "Found a closed in-flight socket", who: "accept" },
];

/// A connection of which the root keeps one end, whose number this is, and nobody else has it.
fn kept() -> io::Result<(RawFd, OwnedFd)> {
    let (kept, other) = UnixStream::pair()?;
    Ok((kept.into_raw_fd(), other.into()))
}

/// In a child: not that end of the root's.
fn close(kept: Option<RawFd>) {
    // SAFETY: the child's copy of a number that nothing of its uses.
    kept.map(|fd| unsafe { libc::close(fd) });
}

fn hop(w: &mut World) -> io::Result<()> {
    let micros = [100, 300, 1000][w.rng.below(3)];
    let (kept, held) = kept()?;
    w.worker("hop", move |w| {
        close(Some(kept));
        let _held = held;
        loop {
            w.nap(micros);
            if w.fork()? > 0 {
                return Ok(());
            }
        }
    })?;
    Ok(())
}

fn pass(w: &mut World) -> io::Result<()> {
    let (kept, wanders) = kept()?;
    ping_pong(w, vec![wanders], Some(kept))
}

fn pass_files(w: &mut World) -> io::Result<()> {
    let mut two = [-1; 2];
    // SAFETY: the two descriptors are new, and ours.
    let pipe = unsafe {
        ok(libc::pipe(two.as_mut_ptr()))?;
        two.map(|fd| OwnedFd::from_raw_fd(fd))
    };
    let file = std::fs::File::create("passed")?;
    ping_pong(w, pipe.into_iter().chain([file.into()]).collect(), None)
}

/// Two processes that hand all of `wanderers` to each other; the root has none of them any more.
fn ping_pong(w: &mut World, wanderers: Vec<OwnedFd>, kept: Option<RawFd>) -> io::Result<()> {
    let (micros, count) = ([0, 100, 500][w.rng.below(3)], wanderers.len());
    let (a, b) = UnixStream::pair()?;
    send(b.as_raw_fd(), &wanderers)?;
    drop(wanderers);
    let mut ends = [Some(a), Some(b)];
    for (n, name) in ["pass-a", "pass-b"].into_iter().enumerate() {
        let end = ends[n].as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let other = ends[1 - n].as_ref().map(AsRawFd::as_raw_fd);
        w.worker(name, move |w| {
            close(other);
            close(kept);
            loop {
                let held = receive(end, count)?;
                if micros > 0 {
                    w.nap(micros);
                }
                send(end, &held)?;
            }
        })?;
        ends[n] = None;
    }
    Ok(())
}

fn send(via: RawFd, held: &[OwnedFd]) -> io::Result<()> {
    let (mut byte, mut control) = ([b'x'], [0_u64; 16]);
    let numbers: Vec<RawFd> = held.iter().map(AsRawFd::as_raw_fd).collect();
    let bytes = size_of_val(numbers.as_slice()) as u32;
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: every pointer is to a live local; 16 words hold the header and 14 descriptors and more.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&mut part, 1);
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(bytes) as _;
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(bytes) as _;
        libc::CMSG_DATA(header).copy_from(numbers.as_ptr().cast(), bytes as usize);
        ok(libc::sendmsg(via, &message, 0)).map(|_| ())
    }
}

fn receive(via: RawFd, count: usize) -> io::Result<Vec<OwnedFd>> {
    let (mut byte, mut control) = ([0], [0_u64; 16]);
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: every pointer is to a live local; the kernel has made the descriptors it tells for us.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&mut part, 1);
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of_val(&control) as _;
        while ok(libc::recvmsg(via, &mut message, 0)).is_err_and(|e| e.kind() == io::ErrorKind::Interrupted) {}
        let header = libc::CMSG_FIRSTHDR(&message);
        if header.is_null() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let numbers = libc::CMSG_DATA(header).cast::<RawFd>();
        Ok((0..count).map(|n| OwnedFd::from_raw_fd(numbers.add(n).read_unaligned())).collect())
    }
}

fn accept(w: &mut World, data: bool) -> io::Result<()> {
    let listener = UnixListener::bind("listening")?;
    w.worker("accept", move |w| {
        let mut served = Vec::new();
        loop {
            let (mut client, _) = listener.accept()?;
            w.nap(200);
            if data {
                let mut text = [0; 16];
                let _ = client.read(&mut text);
            }
            // A client that has gone is no failure.
            let _ = client.write(b"+");
            served.push(client);
            if served.len() > w.between(1, 4) {
                served.remove(0);
            }
        }
    })?;
    for _ in 0..w.between(1, 3) {
        w.worker("client", move |w| loop {
            // As long as the listener's queue is full, the client waits.
            let mut server = UnixStream::connect("listening")?;
            if data {
                w.nap(50);
                let _ = server.write(b"hello");
                w.nap(50);
            } else {
                let _ = server.read(&mut [0]);
            }
            w.nap(300);
        })?;
    }
    Ok(())
}

fn rebind(w: &mut World) -> io::Result<()> {
    for n in 0..w.between(1, 3) {
        w.worker("rebind", move |w| {
            let name = format!("bound{n}");
            let mut open = Vec::new();
            loop {
                open.push(UnixListener::bind(&name)?);
                w.nap(300);
                // Closed before its name goes, or later.
                if w.rng.chance(50) {
                    open.pop();
                }
                std::fs::remove_file(&name)?;
                w.nap(100);
                if open.len() > w.between(0, 2) {
                    open.remove(0);
                }
            }
        })?;
    }
    Ok(())
}

fn dgram(w: &mut World) -> io::Result<()> {
    let server = UnixDatagram::bind("server")?;
    w.worker("server", move |_| loop {
        server.recv(&mut [0; 64])?;
    })?;
    for n in 0..w.between(1, 3) {
        w.worker("dgram", move |w| loop {
            let name = format!("client{n}");
            let own = UnixDatagram::bind(&name)?;
            own.connect("server")?;
            for _ in 0..w.between(1, 5) {
                own.send(b"datagram")?;
                w.nap(100);
            }
            std::fs::remove_file(&name)?;
            w.nap(100);
        })?;
    }
    Ok(())
}
