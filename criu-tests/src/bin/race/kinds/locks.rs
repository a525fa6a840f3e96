//! Locks that are taken and let go, within a process and between several.

use super::{kind, Claim, Kind};
use crate::world::{ok, World};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;

const LOCKS: &[&str] = &["--file-locks"];

pub const KINDS: &[Kind] = &[
    kind("locks-flock", "processes take turns with flock on the same files", |w| locks(w, &[flock])).opts(LOCKS),
    kind("locks-posix", "processes take turns with POSIX locks on ranges of the same files", |w| locks(w, &[posix]))
        .opts(LOCKS),
    kind("locks-ofd", "processes take turns with open file description locks", |w| locks(w, &[ofd])).opts(LOCKS),
    kind("locks-all", "all of these on the same files", |w| locks(w, &[flock, posix, ofd])).opts(LOCKS),
    kind("locks-hop", "a lock is inherited by a child, again and again, whoever took it being gone", hop).opts(LOCKS),
    kind("locks-not-allowed", "flock now and then, without the option for it", |w| locks(w, &[flock]))
        .claims(&[Claim { rule: "lock-not-allowed", text: "Some file locks are hold by dumping tasks", who: "lock" }]),
];

/// Tries to take the lock, or lets it go. It is no failure that another has it.
type Lock = fn(&File, take: bool, range: usize) -> io::Result<bool>;

fn flock(file: &File, take: bool, _: usize) -> io::Result<bool> {
    let how = if take { libc::LOCK_EX | libc::LOCK_NB } else { libc::LOCK_UN };
    // SAFETY: a descriptor of this process.
    taken(unsafe { libc::flock(file.as_raw_fd(), how) })
}

fn posix(file: &File, take: bool, range: usize) -> io::Result<bool> {
    record(file, take, range, libc::F_SETLK)
}

fn ofd(file: &File, take: bool, range: usize) -> io::Result<bool> {
    record(file, take, range, libc::F_OFD_SETLK)
}

fn record(file: &File, take: bool, range: usize, how: i32) -> io::Result<bool> {
    // SAFETY: zeroes are a struct flock; it lives through the call.
    unsafe {
        let mut lock: libc::flock = std::mem::zeroed();
        lock.l_type = if take { libc::F_WRLCK } else { libc::F_UNLCK } as i16;
        lock.l_whence = libc::SEEK_SET as i16;
        (lock.l_start, lock.l_len) = (range as i64 * 10, 10);
        taken(libc::fcntl(file.as_raw_fd(), how, &lock))
    }
}

fn taken(ret: i32) -> io::Result<bool> {
    match ok(ret) {
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES | libc::EINTR)) => Ok(false),
        other => other.map(|_| true),
    }
}

fn locks(w: &mut World, of: &'static [Lock]) -> io::Result<()> {
    for _ in 0..w.between(2, 5) {
        w.worker("lock", |w| {
            let open =
                |n| OpenOptions::new().read(true).write(true).create(true).truncate(false).open(format!("lock{n}"));
            loop {
                let file = open(w.rng.below(2))?;
                let (lock, range) = (of[w.rng.below(of.len())], w.rng.below(4));
                if lock(&file, true, range)? {
                    w.nap(200);
                    // Else the last close lets it go.
                    if w.rng.chance(70) {
                        lock(&file, false, range)?;
                    }
                }
                w.nap(200);
            }
        })?;
    }
    Ok(())
}

fn hop(w: &mut World) -> io::Result<()> {
    let lock = [flock, ofd][w.rng.below(2)];
    w.worker("lock-hop", move |w| {
        let file = File::create("inherited")?;
        lock(&file, true, 0)?;
        loop {
            w.nap(500);
            if w.fork()? > 0 {
                return Ok(());
            }
        }
    })?;
    Ok(())
}
