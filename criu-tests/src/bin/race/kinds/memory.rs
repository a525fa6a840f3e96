//! Mappings that come and go, and files that are replaced under them.

use super::{kind, Kind};
use crate::world::{ok, World};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;

pub const KINDS: &[Kind] = &[
    kind(
        "map-unmap",
        "anonymous, private and shared file mappings are made, protected, split and taken away",
        map_unmap,
    ),
    kind("map-replaced", "mapped files are replaced by rename, and some lose their last name", map_replaced),
    kind("map-shared", "parent and children share anonymous memory that each maps and leaves", map_shared),
];

const PAGE: usize = 4096;

/// A mapping of the process's own; taken away when dropped.
struct Map(*mut libc::c_void, usize);

impl Map {
    fn make(pages: usize, flags: i32, fd: i32) -> io::Result<Map> {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses a free place.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), pages * PAGE, prot, flags, fd, 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Map(at, pages * PAGE))
    }

    fn touch(&self) {
        // SAFETY: the first byte of a writable mapping that nobody else uses.
        unsafe { self.0.cast::<u8>().write_volatile(1) };
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: made in `make`, all of it ours.
        unsafe { libc::munmap(self.0, self.1) };
    }
}

const PRIVATE: i32 = libc::MAP_PRIVATE;
const SHARED: i32 = libc::MAP_SHARED;
const ANON: i32 = libc::MAP_ANONYMOUS;

fn map_unmap(w: &mut World) -> io::Result<()> {
    for n in 0..w.between(1, 3) {
        w.worker("map", move |w| {
            let file =
                fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(format!("map{n}"))?;
            file.set_len(64 * PAGE as u64)?;
            let mut maps = Vec::new();
            loop {
                let pages = w.between(1, 32);
                let (flags, fd) = [
                    (PRIVATE | ANON, -1),
                    (SHARED | ANON, -1),
                    (PRIVATE, file.as_raw_fd()),
                    (SHARED, file.as_raw_fd()),
                ][w.rng.below(4)];
                let map = Map::make(pages, flags, fd)?;
                if w.rng.chance(50) {
                    map.touch();
                }
                // Read-only from the middle on: two mappings of one.
                let half = pages / 2 * PAGE;
                if half > 0 && w.rng.chance(40) {
                    // SAFETY: a part of the mapping above that nobody writes to any more.
                    ok(unsafe { libc::mprotect(map.0.byte_add(half), map.1 - half, libc::PROT_READ) })?;
                }
                maps.push(map);
                while maps.len() > w.between(2, 20) {
                    maps.swap_remove(w.rng.below(maps.len()));
                }
                w.nap(50);
            }
        })?;
    }
    Ok(())
}

fn map_replaced(w: &mut World) -> io::Result<()> {
    for n in 0..w.between(1, 4) {
        w.worker("mapped", move |w| {
            let (name, beside) = (format!("lib{n}"), format!("lib{n}.new"));
            let mut kept = Vec::new();
            loop {
                fs::write(&beside, [1; PAGE])?;
                let file = File::open(&beside)?;
                fs::rename(&beside, &name)?;
                kept.push(Map::make(1, PRIVATE, file.as_raw_fd())?);
                drop(file);
                w.nap(100);
                if w.rng.chance(20) {
                    fs::remove_file(&name)?;
                }
                while kept.len() > w.between(1, 3) {
                    kept.remove(0);
                }
                w.nap(100);
            }
        })?;
    }
    Ok(())
}

fn map_shared(w: &mut World) -> io::Result<()> {
    for _ in 0..w.between(1, 2) {
        w.worker("shared", |w| loop {
            let map = Map::make(w.between(1, 8), SHARED | ANON, -1)?;
            map.touch();
            if w.fork()? == 0 {
                w.nap(500);
                drop(map);
                w.nap(500);
                // SAFETY: ends the child.
                unsafe { libc::_exit(0) };
            }
            w.nap(300);
            // SAFETY: whoever of this process's children has ended.
            while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
        })?;
    }
    Ok(())
}
