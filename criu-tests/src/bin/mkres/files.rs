//! Ordinary files, and mounts they lie on.

use crate::base::only_in_own;
use crate::ctx::{wait_with, Args, Ctx, Fail, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[
    Kind { name: "umount", help: "at=DIR, lazy: as mount", make: umount },
    Kind {
        name: "file",
        help: "path=FILE (one of this run), size=BYTES, map: also mapped, closed; unlinked; relinked: lives on by another name",
        make: file,
    },
    Kind {
        name: "mount",
        help: "fs=TYPE, to=DIR, dev=MAJOR-MINOR: only where the mount namespace is our own (--root)",
        make: mount,
    },
    Kind { name: "bind", help: "from=DIR, to=DIR: as above", make: bind },
    Kind {
        name: "autofs",
        help: "a mount of autofs, in a mount namespace of its own, and both ends of its pipe; master=outside|gone: another's; closed: \
               without the ends; catatonic: the kernel knows that nobody serves it; no-device: /dev/autofs removed",
        make: autofs,
    },
];

fn file(cx: &mut Ctx, a: &Args) -> Res {
    let path = a.get("path").map_or_else(|| cx.path("file"), String::from);
    std::fs::write(&path, "some content\n").map_err(|e| Fail::Skip(format!("{path}: {e}")))?;
    let fd = sys::open(&path, libc::O_RDWR)?;
    if a.has("map") {
        let at = sys::mmap(&path, 4096, libc::PROT_READ, libc::MAP_PRIVATE, fd, 0)?;
        cx.fact("addr", format!("{at:x}"));
    }
    let size = a.num("size", 0)?;
    for _ in 0..size / 4096 {
        sys::write_all(fd, &[1; 4096]);
    }
    if a.has("relinked") {
        std::fs::hard_link(&path, format!("{path}.other")).map_err(|e| Fail::Skip(e.to_string()))?;
    }
    if a.has("unlinked") || a.has("relinked") {
        let _ = std::fs::remove_file(&path);
    }
    if a.has("closed") {
        sys::close(fd);
    } else {
        cx.fd("", fd);
    }
    Ok(())
}

fn do_mount(source: &str, to: &str, fs: &str, flags: libc::c_ulong) -> Res {
    only_in_own(libc::CLONE_NEWNS)?;
    let _ = std::fs::create_dir_all(to);
    let (s, t, f) = (sys::cstr(source), sys::cstr(to), sys::cstr(fs));
    let r = unsafe { libc::mount(s.as_ptr(), t.as_ptr(), f.as_ptr(), flags, std::ptr::null()) };
    sys::ok(&format!("mount {to}"), r).map(|_| ())
}

fn mount(cx: &mut Ctx, a: &Args) -> Res {
    let fs = a.need("fs")?;
    let Some((major, minor)) = a.get("dev").and_then(|d| d.split_once('-')) else {
        return do_mount("mkres", a.need("to")?, fs, 0);
    };
    let dev = libc::makedev(major.parse().unwrap_or(0), minor.parse().unwrap_or(0));
    let node = cx.path("device");
    sys::ok("mknod", unsafe { libc::mknod(sys::cstr(&node).as_ptr(), libc::S_IFBLK | 0o600, dev) })?;
    do_mount(&node, a.need("to")?, fs, 0)
}

fn umount(_: &mut Ctx, a: &Args) -> Res {
    only_in_own(libc::CLONE_NEWNS)?;
    let at = sys::cstr(a.need("at")?);
    let flags = if a.has("lazy") { libc::MNT_DETACH } else { 0 };
    sys::ok("umount", unsafe { libc::umount2(at.as_ptr(), flags) }).map(|_| ())
}

fn bind(_: &mut Ctx, a: &Args) -> Res {
    let _ = std::fs::create_dir_all(a.need("from")?);
    do_mount(a.need("from")?, a.need("to")?, "", libc::MS_BIND)
}

/// The kernel makes the pipe it is given a packetized one: the only such pipe that CRIU takes.
fn autofs(cx: &mut Ctx, a: &Args) -> Res {
    let dir = cx.path("mount");
    std::fs::create_dir_all(&dir).map_err(|e| Fail::Skip(format!("{dir}: {e}")))?;
    let (r, w) = sys::pipe()?;
    let group = match a.get("master") {
        None => unsafe { libc::getpgrp() },
        Some("outside") => cx.outsider("automounter", &[r, w], || Ok(()))?,
        Some("gone") => {
            let pid = sys::fork()?;
            if pid == 0 {
                unsafe { libc::setpgid(0, 0) };
                // Whoever reads the report would wait for it, where the mount fails.
                sys::close_all_but(&[0, 1, 2]);
                wait_with(&[])
            }
            unsafe { libc::setpgid(pid, pid) };
            pid
        }
        Some(who) => return Err(Fail::Broken(format!("master={who}?"))),
    };
    // Whoever opens a direct one waits for the automounter.
    let mode = if a.has("catatonic") { "indirect" } else { "direct" };
    let data = sys::cstr(&format!("fd={w},pgrp={group},minproto=5,maxproto=5,{mode}"));
    let target = sys::cstr(&dir);
    let (source, kind) = (c"mkres".as_ptr(), c"autofs".as_ptr());
    let m = unsafe { libc::mount(source, target.as_ptr(), kind, 0, data.as_ptr().cast()) };
    sys::ok("mount autofs", m)?;
    if a.has("catatonic") {
        let fd = sys::open(&dir, libc::O_RDONLY | libc::O_DIRECTORY)?;
        const AUTOFS_IOC_CATATONIC: libc::c_ulong = 0x9362;
        sys::ioctl("AUTOFS_IOC_CATATONIC", fd, AUTOFS_IOC_CATATONIC, 0)?;
        sys::close(fd);
    }
    if a.has("no-device") {
        let _ = std::fs::remove_file("/dev/autofs");
    }
    if a.get("master").is_some() || a.has("closed") {
        sys::close(r);
        sys::close(w);
        if a.get("master") == Some("gone") {
            sys::end(group)?;
        }
        return Ok(());
    }
    cx.fd("r", r);
    cx.fd("w", w);
    Ok(())
}
