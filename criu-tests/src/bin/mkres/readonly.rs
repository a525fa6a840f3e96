//! What lies on a mount that is read-only by now.

use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[Kind {
    name: "on-read-only",
    help: "at=MOUNT ({bound} of a fixture), what=file|deleted|deleted-map|deleted-dir|deleted-dir-again|deleted-cwd|fifo|deleted-fifo|\
           unix-listen|unix-dgram|unix-unlinked|unix-accepted; opath; covered: a tmpfs on the directory that it was in; rw=only|first|last: \
           what is deleted is open by another mount of its directory, which is not read-only: there alone, first, last",
    make,
}];

fn make(cx: &mut Ctx, a: &Args) -> Res {
    let mut at = a.need("at")?.to_string();
    let beside = a.get("rw").map(|_| beside(&mut at)).transpose()?;
    if a.has("covered") {
        at.push_str("/d");
        std::fs::create_dir_all(&at).map_err(|e| Fail::Skip(format!("{at}: {e}")))?;
    }
    let name = match (a.get("rw"), &beside) {
        (Some("only"), Some(rw)) => format!("{rw}/f"),
        _ => format!("{at}/f"),
    };
    let c = sys::cstr(&name);
    match a.need("what")? {
        "file" | "deleted" | "deleted-map" => {
            let w = sys::open(&name, libc::O_WRONLY | libc::O_CREAT)?;
            sys::write_all(w, &[b'x'; 4096]);
            sys::close(w);
            let open = |name: &str| sys::open(name, if a.has("opath") { libc::O_PATH } else { libc::O_RDONLY });
            let other = |cx: &mut Ctx, order: &str| match &beside {
                Some(rw) if a.get("rw") == Some(order) => open(&format!("{rw}/f")).map(|fd| cx.fd("rw", fd)),
                _ => Ok(()),
            };
            other(cx, "first")?;
            let fd = open(&name)?;
            other(cx, "last")?;
            if a.get("what") != Some("file") {
                sys::ok("unlink", unsafe { libc::unlink(c.as_ptr()) })?;
            }
            if a.get("what") == Some("deleted-map") {
                sys::mmap("file", 4096, libc::PROT_READ, libc::MAP_PRIVATE, fd, 0)?;
                sys::close(fd);
            } else {
                cx.fd("", fd);
            }
        }
        what @ ("deleted-dir" | "deleted-dir-again" | "deleted-cwd") => {
            sys::ok("mkdir", unsafe { libc::mkdir(c.as_ptr(), 0o755) })?;
            let fd = sys::open(&name, libc::O_RDONLY)?;
            if what == "deleted-cwd" {
                sys::ok("fchdir", unsafe { libc::fchdir(fd) })?;
            }
            sys::ok("rmdir", unsafe { libc::rmdir(c.as_ptr()) })?;
            match what {
                "deleted-cwd" => sys::close(fd),
                _ => cx.fd("", fd),
            }
            if what == "deleted-dir-again" {
                sys::ok("mkdir", unsafe { libc::mkdir(c.as_ptr(), 0o755) })?;
            }
        }
        what @ ("fifo" | "deleted-fifo") => {
            sys::ok("mkfifo", unsafe { libc::mkfifo(c.as_ptr(), 0o644) })?;
            cx.fd("", sys::open(&name, libc::O_RDONLY | libc::O_NONBLOCK)?);
            if what == "deleted-fifo" {
                sys::ok("unlink", unsafe { libc::unlink(c.as_ptr()) })?;
            }
        }
        what if what.starts_with("unix") => socket(cx, what, &name)?,
        other => return Err(Fail::Broken(format!("what={other}"))),
    }
    if a.has("covered") {
        let t = c"tmpfs".as_ptr();
        let r = unsafe { libc::mount(t, sys::cstr(&at).as_ptr(), t, 0, std::ptr::null()) };
        sys::ok("mount tmpfs", r)?;
        at.truncate(at.len() - "/d".len());
    }
    let flags = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY;
    let null = std::ptr::null();
    let r = unsafe { libc::mount(null, sys::cstr(&at).as_ptr(), null, flags, null.cast()) };
    sys::ok("remount read-only", r).map(|_| ())
}

/// A directory on the mount, which is returned, and a second mount of it, which takes the place of the first.
fn beside(at: &mut String) -> Res<String> {
    let (rw, ro) = (format!("{at}/rw"), format!("{at}/ro"));
    for dir in [&rw, &ro] {
        std::fs::create_dir_all(dir).map_err(|e| Fail::Skip(format!("{dir}: {e}")))?;
    }
    let null = std::ptr::null();
    let r = unsafe { libc::mount(sys::cstr(&rw).as_ptr(), sys::cstr(&ro).as_ptr(), null, libc::MS_BIND, null.cast()) };
    sys::ok("bind", r)?;
    *at = ro;
    Ok(rw)
}

fn socket(cx: &mut Ctx, what: &str, name: &str) -> Res {
    let stream = what != "unix-dgram";
    let s = sys::socket(libc::AF_UNIX, if stream { libc::SOCK_STREAM } else { libc::SOCK_DGRAM }, 0)?;
    let (addr, len) = sys::unix_addr(name);
    sys::bind(name, s, &addr, len)?;
    if stream {
        sys::listen(s, 4)?;
    }
    if what == "unix-unlinked" {
        sys::ok("unlink", unsafe { libc::unlink(sys::cstr(name).as_ptr()) })?;
    }
    if what == "unix-accepted" {
        let c = sys::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
        sys::connect(name, c, &addr, len)?;
        cx.fd("client", c);
        cx.fd("server", sys::accept(s)?);
        sys::close(s);
    } else {
        cx.fd("", s);
    }
    Ok(())
}
