//! UNIX sockets whose directory is not where it was.

use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[Kind {
    name: "unix-dir",
    help: "how=removed|renamed|there|file-renamed, type=stream|dgram, in=DIR, absolute: bound to a name in a directory that is, then; unlinked: before; again: then there is another of its name",
    make,
}];

fn make(cx: &mut Ctx, a: &Args) -> Res {
    let dir = a.get("in").map_or_else(|| cx.path("dir"), |place| format!("{place}/dir"));
    sys::ok("mkdir", unsafe { libc::mkdir(sys::cstr(&dir).as_ptr(), 0o755) })?;
    sys::ok("chdir", unsafe { libc::chdir(sys::cstr(&dir).as_ptr()) })?;
    let stream = a.get("type") != Some("dgram");
    let s = sys::socket(libc::AF_UNIX, if stream { libc::SOCK_STREAM } else { libc::SOCK_DGRAM }, 0)?;
    let name = if a.has("absolute") { format!("{dir}/s") } else { "s".to_string() };
    let (addr, len) = sys::unix_addr(&name);
    sys::bind(&name, s, &addr, len)?;
    if stream {
        sys::listen(s, 4)?;
    }
    sys::ok("chdir", unsafe { libc::chdir(c"/".as_ptr()) })?;
    if a.has("unlinked") {
        sys::ok("unlink", unsafe { libc::unlink(sys::cstr(&format!("{dir}/s")).as_ptr()) })?;
    }
    let (from, to) = (sys::cstr(&dir), sys::cstr(&format!("{dir}.moved")));
    match a.need("how")? {
        "there" => {}
        "file-renamed" => {
            let (from, to) = (sys::cstr(&format!("{dir}/s")), sys::cstr(&format!("{dir}/t")));
            sys::ok("rename", unsafe { libc::rename(from.as_ptr(), to.as_ptr()) })?;
        }
        "renamed" => {
            sys::ok("rename", unsafe { libc::rename(from.as_ptr(), to.as_ptr()) })?;
        }
        "removed" => {
            sys::ok("unlink", unsafe { libc::unlink(sys::cstr(&format!("{dir}/s")).as_ptr()) })?;
            sys::ok("rmdir", unsafe { libc::rmdir(from.as_ptr()) })?;
        }
        other => return Err(Fail::Broken(format!("how={other}"))),
    }
    if a.has("again") {
        sys::ok("mkdir", unsafe { libc::mkdir(sys::cstr(&dir).as_ptr(), 0o755) })?;
    }
    cx.fd("", s);
    Ok(())
}
