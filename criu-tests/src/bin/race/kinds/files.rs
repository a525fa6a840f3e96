//! Descriptors that come and go: files, pipes, sockets, events, epoll and what it watches.

use super::{kind, Kind};
use crate::world::{ok, World};
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

pub const KINDS: &[Kind] = &[
    kind("open-close", "descriptors of every plain kind are made, moved to other numbers and closed", open_close),
    kind("epoll", "an epoll is given descriptors, some of which are closed or moved while it has them", epoll),
    kind("fifo", "FIFOs are made, opened, written, removed and made anew", fifo),
    kind("proc-files", "files of processes' /proc directories are open, and the processes end", proc_files),
    kind("memfd", "memfds are made, written, sealed, mapped and closed", memfd),
    kind("table-shared", "a child that shares its parent's descriptor table opens and closes beside it", table_shared),
];

/// One or two descriptors of the kind at `which`.
fn make(which: usize, tag: usize) -> io::Result<Vec<OwnedFd>> {
    let mut two = [-1; 2];
    // SAFETY: plain system calls; a descriptor that was made is nobody else's.
    unsafe {
        match which {
            0 => two[0] = ok(libc::open(c"/dev/null".as_ptr(), libc::O_RDWR))?,
            1 => ok(libc::pipe(two.as_mut_ptr())).map(|_| ())?,
            2 => ok(libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, two.as_mut_ptr())).map(|_| ())?,
            3 => two[0] = ok(libc::eventfd(0, 0))?,
            4 => two[0] = ok(libc::timerfd_create(libc::CLOCK_MONOTONIC, 0))?,
            5 => two[0] = ok(libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0))?,
            6 => ok(libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0, two.as_mut_ptr())).map(|_| ())?,
            _ => {
                let path = CString::new(format!("file{tag}"))?;
                two[0] = ok(libc::open(path.as_ptr(), libc::O_RDWR | libc::O_CREAT, 0o600))?;
            }
        }
        Ok(two.into_iter().filter(|fd| *fd >= 0).map(|fd| OwnedFd::from_raw_fd(fd)).collect())
    }
}

fn some(w: &mut World) -> io::Result<Vec<OwnedFd>> {
    let (which, tag) = (w.rng.below(8), w.rng.below(8));
    make(which, tag)
}

fn open_close(w: &mut World) -> io::Result<()> {
    for _ in 0..w.between(1, 4) {
        w.worker("open", |w| {
            let mut open: Vec<OwnedFd> = Vec::new();
            loop {
                open.extend(some(w)?);
                // To another number, as dup2 and fcntl do.
                if w.rng.chance(30) {
                    let at = w.rng.below(open.len());
                    let moved = open[at].try_clone()?;
                    open[at] = moved;
                }
                while open.len() > w.between(5, 40) {
                    open.swap_remove(w.rng.below(open.len()));
                }
                w.nap(50);
            }
        })?;
    }
    Ok(())
}

fn epoll(w: &mut World) -> io::Result<()> {
    for _ in 0..w.between(1, 3) {
        w.worker("epoll", |w| {
            // SAFETY: plain system calls on descriptors that are this process's.
            unsafe {
                let epoll = ok(libc::epoll_create1(0))?;
                let mut watched: Vec<OwnedFd> = Vec::new();
                loop {
                    // What can be polled: a regular file cannot.
                    let which = [1, 2, 3, 4, 5][w.rng.below(5)];
                    for fd in make(which, 0)? {
                        let number = fd.as_raw_fd();
                        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: number as u64 };
                        ok(libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, number, &mut event))?;
                        watched.push(fd);
                    }
                    // What is watched lives on under another number, and its own is taken by the next.
                    if w.rng.chance(20) {
                        let at = w.rng.below(watched.len());
                        let moved = watched[at].try_clone()?;
                        watched[at] = moved;
                    }
                    while watched.len() > w.between(3, 20) {
                        let gone = watched.swap_remove(w.rng.below(watched.len()));
                        if w.rng.chance(50) {
                            // One that was moved is not there by that number.
                            libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, gone.as_raw_fd(), std::ptr::null_mut());
                        }
                    }
                    w.nap(50);
                }
            }
        })?;
    }
    Ok(())
}

fn memfd(w: &mut World) -> io::Result<()> {
    for _ in 0..w.between(1, 3) {
        w.worker("memfd", |w| {
            let (prot, seals) = (libc::PROT_READ, libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE);
            // SAFETY: plain system calls; the mapping is only made and taken away.
            unsafe {
                let mut open = Vec::new();
                loop {
                    let fd = ok(libc::memfd_create(c"rc".as_ptr(), libc::MFD_ALLOW_SEALING))?;
                    let fd = OwnedFd::from_raw_fd(fd);
                    ok(libc::ftruncate(fd.as_raw_fd(), 8192))?;
                    w.nap(50);
                    if w.rng.chance(60) {
                        ok(libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals))?;
                    }
                    let at = libc::mmap(std::ptr::null_mut(), 8192, prot, libc::MAP_PRIVATE, fd.as_raw_fd(), 0);
                    w.nap(50);
                    open.push(fd);
                    if open.len() > w.between(1, 8) {
                        open.swap_remove(w.rng.below(open.len()));
                    }
                    w.nap(50);
                    if at != libc::MAP_FAILED {
                        libc::munmap(at, 8192);
                    }
                }
            }
        })?;
    }
    Ok(())
}

fn table_shared(w: &mut World) -> io::Result<()> {
    w.worker("table", |w| {
        // SAFETY: as fork, but for the table; the child only opens, closes and ends.
        let pid = unsafe { test_signals::clone(libc::CLONE_FILES | libc::SIGCHLD) }?;
        if pid == 0 {
            w.arm();
            crate::world::name("table-child");
            w.rng.draw();
        }
        let mut open = Vec::new();
        loop {
            open.extend(some(w)?);
            if open.len() > w.between(2, 20) {
                open.swap_remove(w.rng.below(open.len()));
            }
            w.nap(50);
        }
    })?;
    Ok(())
}

fn fifo(w: &mut World) -> io::Result<()> {
    for n in 0..w.between(1, 3) {
        w.worker("fifo", move |w| {
            let name = format!("fifo{n}");
            let path = CString::new(name.as_str())?;
            loop {
                // SAFETY: a string that lives through the call.
                ok(unsafe { libc::mkfifo(path.as_ptr(), 0o600) })?;
                let mut both = File::options().read(true).write(true).open(&name)?;
                w.nap(200);
                let writer = File::options().write(true).open(&name)?;
                both.write_all(b"content")?;
                w.nap(200);
                if w.rng.chance(50) {
                    drop(writer);
                }
                std::fs::remove_file(&name)?;
                w.nap(200);
            }
        })?;
    }
    Ok(())
}

fn proc_files(w: &mut World) -> io::Result<()> {
    for _ in 0..w.between(1, 2) {
        w.worker("proc", |w| loop {
            let child = w.fork()?;
            if child == 0 {
                w.nap(1000);
                // SAFETY: ends the child.
                unsafe { libc::_exit(0) };
            }
            let _open = ["status", "ns/mnt", "."].map(|file| File::open(format!("/proc/{child}/{file}")));
            w.nap(1000);
            // SAFETY: a child of this process.
            unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
            w.nap(500);
        })?;
    }
    Ok(())
}
