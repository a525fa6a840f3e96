//! What lies on a mount that is read-only by now.

use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[Kind {
    name: "on-read-only",
    help: "at=MOUNT ({bound} of a fixture), what=file|deleted|deleted-map|deleted-dir|fifo|deleted-fifo|unix-listen|unix-dgram|unix-unlinked|\
           unix-accepted",
    make,
}];

fn make(cx: &mut Ctx, a: &Args) -> Res {
    let at = a.need("at")?.to_string();
    let name = format!("{at}/f");
    let c = sys::cstr(&name);
    match a.need("what")? {
        "file" | "deleted" | "deleted-map" => {
            let w = sys::open(&name, libc::O_WRONLY | libc::O_CREAT)?;
            sys::write_all(w, &[b'x'; 4096]);
            sys::close(w);
            let fd = sys::open(&name, libc::O_RDONLY)?;
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
        "deleted-dir" => {
            sys::ok("mkdir", unsafe { libc::mkdir(c.as_ptr(), 0o755) })?;
            let fd = sys::open(&name, libc::O_RDONLY)?;
            sys::ok("rmdir", unsafe { libc::rmdir(c.as_ptr()) })?;
            cx.fd("", fd);
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
    let flags = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY;
    let null = std::ptr::null();
    let r = unsafe { libc::mount(null, sys::cstr(&at).as_ptr(), null, flags, null.cast()) };
    sys::ok("remount read-only", r).map(|_| ())
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
