//! Pseudo terminals.

use super::{kind, Kind};
use crate::world::{ok, World};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

pub const KINDS: &[Kind] = &[
    kind("pty", "pseudo terminals are made, written to and closed", pty),
    kind("pty-session", "sessions with a terminal of their own begin and end", session),
];

/// `TIOCGPTPEER`: the slave by its master, for /dev/pts may be of another instance.
const PEER: libc::c_ulong = 0x5441;
/// `TIOCSPTLCK`.
const LOCK: libc::c_ulong = 0x4004_5431;

/// A master and its slave.
fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    // SAFETY: plain system calls; the descriptors are new, and ours.
    unsafe {
        let flags = libc::O_RDWR | libc::O_NOCTTY;
        let master = OwnedFd::from_raw_fd(ok(libc::open(c"/dev/ptmx".as_ptr(), flags))?);
        let unlocked = 0;
        ok(libc::ioctl(master.as_raw_fd(), LOCK, &raw const unlocked))?;
        let slave = ok(libc::ioctl(master.as_raw_fd(), PEER, flags))?;
        Ok((master, OwnedFd::from_raw_fd(slave)))
    }
}

fn pty(w: &mut World) -> io::Result<()> {
    for _ in 0..w.between(1, 3) {
        w.worker("pty", |w| {
            let mut open = Vec::new();
            loop {
                let (master, slave) = pair()?;
                // SAFETY: one byte that lives through the call.
                ok(unsafe { libc::write(master.as_raw_fd(), c"x".as_ptr().cast(), 1) })?;
                open.push((master, Some(slave)));
                w.nap(200);
                // The slave first: one without a master cannot be dumped.
                let at = w.rng.below(open.len());
                if w.rng.chance(40) {
                    open[at].1 = None;
                }
                if open.len() > w.between(1, 5) {
                    let (master, slave) = open.swap_remove(w.rng.below(open.len()));
                    drop(slave);
                    drop(master);
                }
                w.nap(200);
            }
        })?;
    }
    Ok(())
}

fn session(w: &mut World) -> io::Result<()> {
    for _ in 0..w.between(1, 2) {
        w.worker("terminal", |w| loop {
            let (master, slave) = pair()?;
            let child = w.fork()?;
            if child == 0 {
                drop(master);
                // SAFETY: plain system calls about the process's own session.
                unsafe {
                    ok(libc::setsid())?;
                    w.nap(200);
                    ok(libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY as _, 0))?;
                    w.nap(1000);
                    libc::signal(libc::SIGHUP, libc::SIG_IGN);
                    libc::_exit(0);
                }
            }
            drop(slave);
            w.nap(300);
            // SAFETY: a child of this process.
            unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
            w.nap(300);
            drop(master);
        })?;
    }
    Ok(())
}
