//! Pipes and FIFOs.

use crate::ctx::{Args, Ctx, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[
    Kind { name: "pipes", help: "n=N: so many, not reported one by one", make: many },
    Kind { name: "pipe", help: "data: with five unread bytes", make: pipe },
    Kind {
        name: "pipe-packet",
        help: "O_DIRECT by pipe2 (on the writing end); end=r|w: set later, by fcntl, on one",
        make: packet,
    },
    Kind {
        name: "fifo",
        help: "a named pipe opened for both; direct: O_DIRECT by fcntl; opath: with O_PATH instead, after: too",
        make: fifo,
    },
];

fn pipe(cx: &mut Ctx, a: &Args) -> Res {
    let (r, w) = sys::pipe()?;
    if a.has("data") {
        sys::write_all(w, b"hello");
    }
    cx.fd("r", r);
    cx.fd("w", w);
    Ok(())
}

fn many(_: &mut Ctx, a: &Args) -> Res {
    let n = a.num("n", 1)?;
    let lim = libc::rlimit { rlim_cur: 4096, rlim_max: 4096 };
    sys::ok("RLIMIT_NOFILE", unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &lim) })?;
    for _ in 0..n {
        sys::pipe()?;
    }
    Ok(())
}

fn packet(cx: &mut Ctx, a: &Args) -> Res {
    let end = a.get("end");
    let (r, w) = sys::pipe2(if end.is_none() { libc::O_DIRECT } else { 0 })?;
    if let Some(end) = end {
        let fd = if end == "r" { r } else { w };
        sys::fcntl("F_SETFL O_DIRECT", fd, libc::F_SETFL, libc::O_DIRECT)?;
    }
    cx.fd("r", r);
    cx.fd("w", w);
    Ok(())
}

fn fifo(cx: &mut Ctx, a: &Args) -> Res {
    let path = cx.path("fifo");
    sys::ok("mkfifo", unsafe { libc::mkfifo(sys::cstr(&path).as_ptr(), 0o600) })?;
    if a.has("opath") {
        if a.has("after") {
            let read = sys::open(&path, libc::O_RDWR)?;
            cx.fd("read", read);
        }
        let fd = sys::open(&path, libc::O_PATH)?;
        cx.fd("", fd);
        return Ok(());
    }
    let fd = sys::open(&path, libc::O_RDWR)?;
    if a.has("direct") {
        sys::fcntl("F_SETFL O_DIRECT", fd, libc::F_SETFL, libc::O_DIRECT)?;
    }
    cx.fd("", fd);
    Ok(())
}
