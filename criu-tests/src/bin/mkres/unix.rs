//! UNIX sockets: pairs, peers outside the tree, descriptors in flight, names.

use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[
    Kind { name: "unix-queued-file", help: "a file (tty: a terminal) that only lies in a queue", make: queued_file },
    Kind {
        name: "unix-pair",
        help: "type=stream|dgram|seqpacket, passcred|passsec|passpidfd|timestamp|timestamp64|inq (end b), late: set after data was \
               sent, data, data=BYTES, sndbuf=BYTES (end b): both ends here",
        make: pair,
    },
    Kind {
        name: "unix-reset",
        help: "type=..., data: an end whose peer has gone without reading; data: it had sent something itself",
        make: reset,
    },
    Kind {
        name: "unix-outside",
        help: "type=..., name=path|abstract|none, data: connected to a process outside the tree",
        make: outside,
    },
    Kind {
        name: "unix-connect",
        help: "path=/..., type=...: connected to a socket that was there before (of a container: outside of it)",
        make: connect,
    },
    Kind {
        name: "unix-reconnected",
        help: "named, behind: a datagram socketpair (a, b) whose b was connected to another socket (c); named: b has a name; behind: c was \
               there before; data: b has sent \
               something to a before; unread: and a to b",
        make: reconnected,
    },
    Kind { name: "unix-listen", help: "type=stream|seqpacket, name=path|abstract", make: listener },
    Kind {
        name: "unix-queued",
        help: "peer=inside|outside, type=...: a socket that only lies in an SCM_RIGHTS queue",
        make: queued,
    },
    Kind {
        name: "unix-named",
        help: "path=RELATIVE, renamed: bound in the run's directory, which stays cwd; deep: in one whose path is longer than \
               a page",
        make: named,
    },
    Kind {
        name: "unix-waiting",
        help: "client=inside|first|outside|gone, listener=outside, data: a connection that is not accepted yet; client=outside,many=N: so many of them",
        make: waiting,
    },
];

pub fn kind_of(a: &Args) -> Res<i32> {
    match a.get("type").unwrap_or("stream") {
        "stream" => Ok(libc::SOCK_STREAM),
        "dgram" => Ok(libc::SOCK_DGRAM),
        "seqpacket" => Ok(libc::SOCK_SEQPACKET),
        t => Err(Fail::Broken(format!("type={t}"))),
    }
}

/// What an end may be set to deliver with its messages; SO_INQ is of Linux 6.17.
const OPTIONS: [(&str, i32); 6] = [
    ("passcred", libc::SO_PASSCRED),
    ("passsec", libc::SO_PASSSEC),
    ("passpidfd", 76),
    ("timestamp", libc::SO_TIMESTAMP),
    ("timestamp64", 63),
    ("inq", 84),
];

/// The other end has gone with unread data in its queue.
fn reset(cx: &mut Ctx, a: &Args) -> Res {
    let (x, y) = sys::socketpair(kind_of(a)?)?;
    sys::send(x, b"never read", 0)?;
    if a.has("data") {
        sys::send(y, b"unread", 0)?;
    }
    sys::close(y);
    cx.fd("", x);
    Ok(())
}

fn pair(cx: &mut Ctx, a: &Args) -> Res {
    let (x, y) = sys::socketpair(kind_of(a)?)?;
    let set = || {
        for (flag, option) in OPTIONS {
            if a.has(flag) {
                sys::setsockopt(y, libc::SOL_SOCKET, option, 1)?;
            }
        }
        Ok(())
    };
    if a.has("sndbuf") {
        sys::setsockopt(y, libc::SOL_SOCKET, libc::SO_SNDBUF, a.num("sndbuf", 0)? as i32)?;
    }
    if !a.has("late") {
        set()?;
    }
    let text = match a.get("data") {
        Some("") => b"unread".to_vec(),
        Some(_) => vec![b'x'; a.num("data", 0)? as usize],
        None => Vec::new(),
    };
    if !text.is_empty() {
        sys::send(x, &text, 0)?;
    }
    if a.has("late") {
        set()?;
    }
    cx.fd("a", x);
    cx.fd("b", y);
    Ok(())
}

fn connect(cx: &mut Ctx, a: &Args) -> Res {
    let fd = sys::socket(libc::AF_UNIX, kind_of(a)?, 0)?;
    let (addr, len) = sys::unix_addr(a.need("path")?);
    sys::connect("connect", fd, &addr, len)?;
    cx.fd("sock", fd);
    Ok(())
}

fn reconnected(cx: &mut Ctx, a: &Args) -> Res {
    let third = || sys::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0);
    let before = a.has("behind").then(third).transpose()?;
    let (x, y) = sys::socketpair(libc::SOCK_DGRAM)?;
    let bound = |name: String, fd: i32| {
        let (addr, len) = sys::unix_addr(&name);
        sys::bind(&name, fd, &addr, len).map(|()| (addr, len))
    };
    let z = before.map_or_else(third, Ok)?;
    let (addr, len) = bound(cx.path("c"), z)?;
    if a.has("named") {
        bound(cx.path("b"), y)?;
    }
    if a.has("data") {
        sys::send(y, b"unread", 0)?;
    }
    if a.has("unread") {
        sys::send(x, b"never read", 0)?;
    }
    sys::connect("b to c", y, &addr, len)?;
    for (name, fd) in [("a", x), ("b", y), ("c", z)] {
        cx.fd(name, fd);
    }
    Ok(())
}

fn name_of(cx: &Ctx, a: &Args) -> String {
    match a.get("name").unwrap_or("none") {
        "path" => cx.path("sock"),
        "abstract" => format!("@mkres-{}-{}", cx.dir.replace('/', "_"), cx.node),
        _ => String::new(),
    }
}

/// One end, and its peer in a process outside the tree.
fn outside_pair(cx: &mut Ctx, a: &Args) -> Res<i32> {
    let kind = kind_of(a)?;
    let name = name_of(cx, a);
    if name.is_empty() {
        let (x, y) = sys::socketpair(kind)?;
        cx.outsider("peer", &[y], || Ok(()))?;
        sys::close(y);
        return Ok(x);
    }
    let (addr, len) = sys::unix_addr(&name);
    let served = sys::socket(libc::AF_UNIX, kind, 0)?;
    sys::bind(&name, served, &addr, len)?;
    let x = sys::socket(libc::AF_UNIX, kind, 0)?;
    if kind != libc::SOCK_DGRAM {
        sys::listen(served, 4)?;
    }
    sys::connect(&name, x, &addr, len)?;
    cx.fact("name", &name);
    cx.outsider("peer", &[served], || {
        if kind != libc::SOCK_DGRAM {
            sys::accept(served)?;
        }
        Ok(())
    })?;
    sys::close(served);
    Ok(x)
}

fn outside(cx: &mut Ctx, a: &Args) -> Res {
    let x = outside_pair(cx, a)?;
    if a.has("data") {
        sys::send(x, b"unread", 0)?;
    }
    cx.fd("", x);
    Ok(())
}

fn listener(cx: &mut Ctx, a: &Args) -> Res {
    let name = name_of(cx, a);
    let (addr, len) = sys::unix_addr(&name);
    let l = sys::socket(libc::AF_UNIX, kind_of(a)?, 0)?;
    sys::bind(&name, l, &addr, len)?;
    sys::listen(l, 4)?;
    cx.fd("", l);
    Ok(())
}

fn queued(cx: &mut Ctx, a: &Args) -> Res {
    let (via, holder) = sys::socketpair(libc::SOCK_STREAM)?;
    let payload = if a.get("peer") == Some("outside") {
        outside_pair(cx, a)?
    } else {
        let (x, y) = sys::socketpair(kind_of(a)?)?;
        cx.fd("peer", y);
        x
    };
    cx.fact("payload-ino", inode(payload)?);
    sys::send_fd(via, payload)?;
    sys::close(payload);
    cx.fd("sender", via);
    cx.fd("holder", holder);
    Ok(())
}

fn queued_file(cx: &mut Ctx, a: &Args) -> Res {
    let (via, holder) = sys::socketpair(libc::SOCK_STREAM)?;
    let payload = if a.has("tty") {
        sys::open("/dev/ptmx", libc::O_RDWR | libc::O_NOCTTY)?
    } else {
        let path = cx.path("file");
        sys::open(&path, libc::O_RDWR | libc::O_CREAT)?
    };
    sys::send_fd(via, payload)?;
    sys::close(payload);
    cx.fd("sender", via);
    cx.fd("holder", holder);
    Ok(())
}

fn inode(fd: i32) -> Res<u64> {
    let mut st: libc::stat = unsafe { std::mem::zeroed() };
    sys::ok("fstat", unsafe { libc::fstat(fd, &mut st) })?;
    Ok(st.st_ino)
}

fn named(cx: &mut Ctx, a: &Args) -> Res {
    let path = a.need("path")?;
    let base = format!("{}/{}", cx.dir, cx.node);
    for d in [&base, &format!("{base}/a"), &format!("{base}/cwd")] {
        unsafe { libc::mkdir(sys::cstr(d).as_ptr(), 0o700) };
    }
    // One level down, so that ../x stays in the run's directory too.
    let cwd = if path.starts_with("..") { format!("{base}/cwd") } else { base };
    sys::ok("chdir", unsafe { libc::chdir(sys::cstr(&cwd).as_ptr()) })?;
    if a.has("deep") {
        let dir = sys::cstr(&"d".repeat(250));
        for _ in 0..17 {
            sys::ok("mkdir", unsafe { libc::mkdir(dir.as_ptr(), 0o700) })?;
            sys::ok("chdir", unsafe { libc::chdir(dir.as_ptr()) })?;
        }
    }
    let s = sys::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0)?;
    let (addr, len) = sys::unix_addr(path);
    sys::bind(path, s, &addr, len)?;
    if a.has("deep") {
        sys::ok("chdir", unsafe { libc::chdir(c"/".as_ptr()) })?;
    }
    if a.has("renamed") {
        let to = sys::cstr(&format!("{path}.moved"));
        sys::ok("rename", unsafe { libc::rename(sys::cstr(path).as_ptr(), to.as_ptr()) })?;
    }
    cx.fd("", s);
    Ok(())
}

fn waiting(cx: &mut Ctx, a: &Args) -> Res {
    let name = cx.path("sock");
    let (addr, len) = sys::unix_addr(&name);
    let mut l = sys::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
    if a.get("client") == Some("first") {
        // The client has the lower number then.
        let high = sys::ok("dup", unsafe { libc::fcntl(l, libc::F_DUPFD, 300) })?;
        sys::close(std::mem::replace(&mut l, high as i32));
    }
    sys::bind(&name, l, &addr, len)?;
    sys::listen(l, 5000)?;
    if a.get("listener").is_none() {
        cx.fd("listener", l);
    }
    let data = a.has("data");
    let dial = || {
        let c = sys::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
        sys::connect(&name, c, &addr, len)?;
        if data {
            sys::send(c, b"early", 0)?;
        }
        Ok(c)
    };
    match a.get("client").unwrap_or("inside") {
        "outside" => {
            let many = a.num("many", 1)?;
            // Each is a descriptor of its process.
            for first in (0..many).step_by(800) {
                cx.outsider("client", &[], || (first..many.min(first + 800)).try_for_each(|_| dial().map(|_| ())))?;
            }
        }
        "gone" => sys::close(dial()?),
        _ => {
            let c = dial()?;
            cx.fd("client", c);
            if a.get("listener") == Some("outside") {
                cx.outsider("server", &[l], || Ok(()))?;
                sys::close(l);
            }
        }
    }
    Ok(())
}
