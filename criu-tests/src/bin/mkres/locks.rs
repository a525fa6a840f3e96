//! File locks and leases.

use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[
    Kind {
        name: "lock",
        help: "type=posix|flock|ofd, mode=read|write, released, by=outside|child (its own descriptor), shared (ours), \
               on=null|pipe|eventfd|socket (a file)",
        make: lock,
    },
    Kind { name: "lease", help: "mode=read|write, released: on a file with content", make: lease },
    Kind { name: "delegation", help: "for reading, of a file; dir: of a directory; released", make: delegation },
];

fn file(cx: &Ctx) -> Res<(String, i32)> {
    let path = cx.path("file");
    std::fs::write(&path, "some content\n").map_err(|e| Fail::Skip(format!("{path}: {e}")))?;
    let fd = sys::open(&path, libc::O_RDWR)?;
    Ok((path, fd))
}

/// Something without a file of its own that can be locked all the same.
fn target(what: &str) -> Res<i32> {
    match what {
        "null" => sys::open("/dev/null", libc::O_RDWR),
        "pipe" => {
            let (r, w) = sys::pipe()?;
            sys::close(w);
            Ok(r)
        }
        "eventfd" => sys::ok("eventfd", unsafe { libc::eventfd(0, 0) }),
        "socket" => sys::ok("socket", unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0) }),
        on => Err(Fail::Broken(format!("on={on}?"))),
    }
}

fn take(fd: i32, kind: &str, write: bool) -> Res {
    let l_type = if write { libc::F_WRLCK } else { libc::F_RDLCK } as i16;
    set(fd, kind, l_type)
}

fn set(fd: i32, kind: &str, l_type: i16) -> Res {
    let range = libc::flock { l_type, l_whence: 0, l_start: 0, l_len: 4, l_pid: 0 };
    match kind {
        "posix" => sys::ok("F_SETLK", unsafe { libc::fcntl(fd, libc::F_SETLK, &range) })?,
        "ofd" => sys::ok("F_OFD_SETLK", unsafe { libc::fcntl(fd, libc::F_OFD_SETLK, &range) })?,
        "flock" => {
            let op = match l_type as i32 {
                libc::F_WRLCK => libc::LOCK_EX,
                libc::F_RDLCK => libc::LOCK_SH,
                _ => libc::LOCK_UN,
            };
            sys::ok("flock", unsafe { libc::flock(fd, op | libc::LOCK_NB) })?
        }
        k => return Err(Fail::Broken(format!("type={k}"))),
    };
    Ok(())
}

fn lock(cx: &mut Ctx, a: &Args) -> Res {
    let (path, fd) = match a.get("on") {
        None => file(cx)?,
        Some(what) => (String::new(), target(what)?),
    };
    let kind = a.get("type").unwrap_or("posix").to_string();
    let write = a.get("mode") != Some("read");
    let shared = a.has("shared");
    let other = || {
        let mine = if shared { fd } else { sys::open(&path, libc::O_RDWR)? };
        if !shared {
            sys::close(fd);
        }
        take(mine, &kind, write)
    };
    match a.get("by") {
        Some("outside") => cx.outsider("owner", &[fd], other).map(drop)?,
        Some("child") => cx.child("owner", &[fd], other).map(drop)?,
        _ => take(fd, &kind, write)?,
    }
    if a.has("released") {
        set(fd, &kind, libc::F_UNLCK as i16)?;
    }
    cx.fd("", fd);
    Ok(())
}

fn lease(cx: &mut Ctx, a: &Args) -> Res {
    let (path, fd) = file(cx)?;
    sys::close(fd);
    let write = a.get("mode") == Some("write");
    // A read lease needs a read-only open file.
    let fd = sys::open(&path, if write { libc::O_RDWR } else { libc::O_RDONLY })?;
    // The lease break's SIGIO would end a process that does not expect it.
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
    sys::fcntl("F_SETLEASE", fd, libc::F_SETLEASE, if write { libc::F_WRLCK } else { libc::F_RDLCK })?;
    if a.has("released") {
        sys::fcntl("F_SETLEASE", fd, libc::F_SETLEASE, libc::F_UNLCK)?;
    }
    cx.fd("", fd);
    Ok(())
}

/// Linux 6.19 and newer.
const F_SETDELEG: i32 = 1024 + 16;

fn delegation(cx: &mut Ctx, a: &Args) -> Res {
    let (path, fd) = file(cx)?;
    sys::close(fd);
    let fd = sys::open(if a.has("dir") { &cx.dir } else { &path }, libc::O_RDONLY)?;
    unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
    let set = |kind: i32| {
        let wanted: [u32; 2] = [0, kind as u32]; // struct delegation: flags, then 16 bits of the type
        sys::ok("F_SETDELEG", unsafe { libc::fcntl(fd, F_SETDELEG, wanted.as_ptr()) })
    };
    set(libc::F_RDLCK)?;
    if a.has("released") {
        set(libc::F_UNLCK)?;
    }
    cx.fd("", fd);
    Ok(())
}
