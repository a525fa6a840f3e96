//! Mounts and namespaces that change.

use super::{kind, Claim, Kind};
use crate::root::{mount, unmount};
use crate::world::{ok, World};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

pub const KINDS: &[Kind] = &[
    kind("mounts", "in a mount namespace of its own, file systems are mounted, bound, used and unmounted", mounts)
        .rooted(),
    kind("overmounted", "a file is open, and now and then a file system is mounted over its directory", overmounted)
        .rooted()
        .claims(&[Claim { rule: "link-remap-failed", text: "Can't create link remap for", who: "over" }]),
    kind("nsfd", "descriptors of namespaces that end and begin", nsfd).claims(&[
        Claim { rule: "nsfd-outside", text: "No NS ID with kid", who: "nsfd" },
        Claim { rule: "ns-nested", text: "Can't dump nested uts namespace", who: "nsfd" },
    ]),
    kind("mounts-private", "processes leave for mount namespaces of their own, mount there and end", own_mounts)
        .rooted(),
    kind("namespaces", "processes enter network namespaces and come back", |w| namespaces(w, libc::CLONE_NEWNET)),
    kind("namespaces-nested", "processes enter UTS namespaces of their own and come back", |w| {
        namespaces(w, libc::CLONE_NEWUTS)
    })
    .claims(&[Claim { rule: "ns-nested", text: "Can't dump nested uts namespace", who: "ns" }]),
];

fn mounts(w: &mut World) -> io::Result<()> {
    for n in 0..w.between(1, 3) {
        w.worker("mount", move |w| {
            let (at, bound) = (PathBuf::from(format!("/files/m{n}")), PathBuf::from(format!("/files/b{n}")));
            fs::create_dir_all(&at)?;
            fs::create_dir_all(&bound)?;
            loop {
                mount(Path::new("none"), &at, "tmpfs", 0)?;
                let file = File::create(at.join("file"))?;
                w.nap(500);
                mount(&at, &bound, "", libc::MS_BIND)?;
                w.nap(500);
                unmount(&bound)?;
                drop(file);
                w.nap(100);
                unmount(&at)?;
                w.nap(500);
            }
        })?;
    }
    Ok(())
}

fn overmounted(w: &mut World) -> io::Result<()> {
    w.worker("over", |w| {
        let at = Path::new("/files/over");
        fs::create_dir_all(at)?;
        let _open = File::create(at.join("file"))?;
        loop {
            mount(Path::new("none"), at, "tmpfs", 0)?;
            w.nap(1000);
            unmount(at)?;
            w.nap(4000);
        }
    })?;
    Ok(())
}

fn nsfd(w: &mut World) -> io::Result<()> {
    w.worker("nsfd", |w| loop {
        let child = w.fork()?;
        if child == 0 {
            // SAFETY: a plain system call; ends the child.
            unsafe {
                libc::unshare(libc::CLONE_NEWUTS);
                w.nap(1000);
                libc::_exit(0);
            }
        }
        w.nap(500);
        let open = File::open(format!("/proc/{child}/ns/uts"));
        w.nap(500);
        // SAFETY: a child of this process.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        w.nap(500);
        drop(open);
        w.nap(4000);
    })?;
    Ok(())
}

fn own_mounts(w: &mut World) -> io::Result<()> {
    fs::create_dir_all("/files/own")?;
    for _ in 0..w.between(1, 2) {
        w.worker("leave", |w| loop {
            let child = w.fork()?;
            if child == 0 {
                let inner = || -> io::Result<()> {
                    // SAFETY: a plain system call.
                    ok(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
                    mount(Path::new("none"), Path::new("/files/own"), "tmpfs", 0)
                };
                if let Err(e) = inner() {
                    w.broken(&format!("leave: {e}"));
                }
                w.nap(5000);
                // SAFETY: ends the child.
                unsafe { libc::_exit(0) };
            }
            // SAFETY: a child of this process.
            unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
            w.nap(2000);
        })?;
    }
    Ok(())
}

fn namespaces(w: &mut World, of: i32) -> io::Result<()> {
    for _ in 0..w.between(1, 2) {
        w.worker("ns", move |w| {
            // SAFETY: plain system calls; the descriptor is new, and ours. The parent is the root, which ends last.
            unsafe {
                loop {
                    ok(libc::unshare(of))?;
                    w.nap(1000);
                    let root = ok(libc::syscall(libc::SYS_pidfd_open, libc::getppid(), 0))? as i32;
                    ok(libc::setns(OwnedFd::from_raw_fd(root).as_raw_fd(), of))?;
                    w.nap(5000);
                }
            }
        })?;
    }
    Ok(())
}
