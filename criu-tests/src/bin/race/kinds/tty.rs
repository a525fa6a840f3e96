//! Pseudo terminals.

use super::{kind, Kind};
use crate::world::{ok, World};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

pub const KINDS: &[Kind] = &[kind("pty", "pseudo terminals are made, written to and closed", pty)];

/// `TIOCGPTPEER`: the slave by its master, for /dev/pts may be of another instance.
const PEER: libc::c_ulong = 0x5441;
/// `TIOCSPTLCK`.
const LOCK: libc::c_ulong = 0x4004_5431;

fn pty(w: &mut World) -> io::Result<()> {
    for _ in 0..w.between(1, 3) {
        w.worker("pty", |w| {
            let mut open = Vec::new();
            loop {
                // SAFETY: plain system calls; the descriptors are new, and ours.
                let (master, slave) = unsafe {
                    let flags = libc::O_RDWR | libc::O_NOCTTY;
                    let master = OwnedFd::from_raw_fd(ok(libc::open(c"/dev/ptmx".as_ptr(), flags))?);
                    let unlocked = 0;
                    ok(libc::ioctl(master.as_raw_fd(), LOCK, &raw const unlocked))?;
                    w.nap(100);
                    let slave = ok(libc::ioctl(master.as_raw_fd(), PEER, flags))?;
                    (master, OwnedFd::from_raw_fd(slave))
                };
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
