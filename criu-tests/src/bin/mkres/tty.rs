//! Terminals and the sessions they belong to.

use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[
    Kind {
        name: "tty-pair",
        help: "master and slave; ctty: the slave is our controlling terminal; write-only=slave|master: opened so; ldisc=N: \
               of the slave, on-master: of the master instead",
        make: pair,
    },
    Kind { name: "tty-number", help: "n=N: master and slave of the pseudoterminal with this number", make: number },
    Kind {
        name: "tty-slave",
        help: "n=1..: slaves whose masters are outside; ctty; opens=N, dups=N: more open files and descriptors of the last",
        make: slave,
    },
    Kind {
        name: "tty-hungup",
        help: "a slave whose master was closed; vhangup: that was hung up (TIOCVHANGUP), its master is outside",
        make: hungup,
    },
    Kind {
        name: "tty-master",
        help: "slave=none|outside: a master; outside: its slave controls an outside session",
        make: master,
    },
    Kind { name: "tty-path", help: "an O_PATH descriptor of a slave; after: met after an ordinary one", make: path },
    Kind {
        name: "pts-bind",
        help: "at=FILE, master=inside|outside: a terminal of a new devpts on /pts, bind mounted (--root)",
        make: bind,
    },
    Kind {
        name: "dev-tty",
        help: "/dev/tty; alone: without the slave it leads to; hungup: its terminal has gone",
        make: dev_tty,
    },
];

fn open_pair() -> Res<(i32, i32)> {
    pair_as(libc::O_RDWR, libc::O_RDWR)
}

fn pair_as(master: i32, slave: i32) -> Res<(i32, i32)> {
    let m = sys::open("/dev/ptmx", master | libc::O_NOCTTY)?;
    sys::ok("unlockpt", unsafe { libc::unlockpt(m) })?;
    // Not by path: the /dev/pts in sight need not be the instance that ptmx made it in.
    let s = sys::ioctl("TIOCGPTPEER", m, libc::TIOCGPTPEER, (slave | libc::O_NOCTTY) as u64)?;
    Ok((m, s))
}

fn control(s: i32) -> Res {
    sys::ioctl("TIOCSCTTY", s, libc::TIOCSCTTY, 0).map(|_| ())
}

fn pair(cx: &mut Ctx, a: &Args) -> Res {
    let (m, s) = match a.get("write-only") {
        Some("master") => pair_as(libc::O_WRONLY, libc::O_RDWR)?,
        Some(_) => pair_as(libc::O_RDWR, libc::O_WRONLY)?,
        None => open_pair()?,
    };
    if a.has("ctty") {
        control(s)?;
    }
    if a.has("ldisc") {
        let ldisc = a.num("ldisc", 0)? as i32;
        let side = if a.has("on-master") { m } else { s };
        sys::ioctl("TIOCSETD", side, libc::TIOCSETD, (&raw const ldisc) as u64)?;
    }
    cx.fd("master", m);
    cx.fd("slave", s);
    Ok(())
}

/// Numbers are given in order, the lowest free one first.
fn number(cx: &mut Ctx, a: &Args) -> Res {
    let wanted = a.num("n", 1000)?;
    let many = libc::rlimit { rlim_cur: 4096, rlim_max: 4096 };
    sys::ok("setrlimit", unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &many) })?;
    let mut below = Vec::new();
    loop {
        let m = sys::open("/dev/ptmx", libc::O_RDWR | libc::O_NOCTTY)?;
        let mut n = 0i32;
        sys::ioctl("TIOCGPTN", m, libc::TIOCGPTN as _, (&raw mut n) as u64)?;
        if i64::from(n) > wanted {
            return Err(Fail::Skip(format!("somebody has pseudoterminal {wanted}")));
        }
        if i64::from(n) < wanted {
            below.push(m);
            continue;
        }
        sys::ok("unlockpt", unsafe { libc::unlockpt(m) })?;
        let s = sys::ioctl("TIOCGPTPEER", m, libc::TIOCGPTPEER, (libc::O_RDWR | libc::O_NOCTTY) as u64)?;
        below.into_iter().for_each(sys::close);
        cx.fd("master", m);
        cx.fd("slave", s);
        return Ok(());
    }
}

fn slave(cx: &mut Ctx, a: &Args) -> Res {
    let mut last = -1;
    for i in 0..a.num("n", 1)? {
        let (m, s) = open_pair()?;
        if a.has("ctty") && i == 0 {
            control(s)?;
        }
        cx.outsider(&format!("master{i}"), &[m], || Ok(()))?;
        sys::close(m);
        cx.fd(&i.to_string(), s);
        last = s;
    }
    for i in 0..a.num("opens", 0)? {
        let more = sys::open(&format!("/proc/self/fd/{last}"), libc::O_RDWR | libc::O_NOCTTY)?;
        cx.fd(&format!("open{i}"), more);
    }
    for i in 0..a.num("dups", 0)? {
        let dup = sys::ok("dup", unsafe { libc::dup(last) })?;
        cx.fd(&format!("dup{i}"), dup);
    }
    Ok(())
}

fn path(cx: &mut Ctx, a: &Args) -> Res {
    let (m, s) = open_pair()?;
    let p = sys::open(&format!("/proc/self/fd/{s}"), libc::O_PATH)?;
    cx.fd("master", m);
    if a.has("after") {
        cx.fd("slave", s);
    } else {
        sys::close(s);
    }
    cx.fd("", p);
    Ok(())
}

fn hungup(cx: &mut Ctx, a: &Args) -> Res {
    // asm-generic/ioctls.h
    const TIOCVHANGUP: libc::Ioctl = 0x5437;
    let (m, s) = open_pair()?;
    if a.has("vhangup") {
        cx.outsider("master", &[m], || Ok(()))?;
        sys::ioctl("TIOCVHANGUP", s, TIOCVHANGUP, 0)?;
    }
    sys::close(m);
    cx.fd("", s);
    Ok(())
}

fn master(cx: &mut Ctx, a: &Args) -> Res {
    let (m, s) = open_pair()?;
    if a.get("slave") == Some("outside") {
        cx.outsider("session", &[s], || control(s))?;
    }
    sys::close(s);
    cx.fd("", m);
    Ok(())
}

fn dev_tty(cx: &mut Ctx, a: &Args) -> Res {
    let (m, s) = open_pair()?;
    control(s)?;
    let t = sys::open("/dev/tty", libc::O_RDWR)?;
    if a.has("alone") {
        cx.outsider("master", &[m], || Ok(()))?;
        sys::close(m);
        sys::close(s);
    } else if a.has("hungup") {
        for signal in [libc::SIGHUP, libc::SIGCONT] {
            unsafe { libc::signal(signal, libc::SIG_IGN) };
        }
        sys::close(s);
        sys::close(m);
    } else {
        cx.fd("master", m);
        if a.has("master-only") {
            sys::close(s);
        } else {
            cx.fd("slave", s);
        }
    }
    cx.fd("", t);
    Ok(())
}

fn bind(cx: &mut Ctx, a: &Args) -> Res {
    crate::base::only_in_own(libc::CLONE_NEWNS)?;
    let mount = |from: &str, to: &str, kind: &std::ffi::CStr, flags| {
        let (from, at) = (sys::cstr(from), sys::cstr(to));
        let done = unsafe { libc::mount(from.as_ptr(), at.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) };
        sys::ok(&format!("mount {to}"), done).map(|_| ())
    };
    let (at, broken) = (a.need("at")?, |e: std::io::Error| crate::ctx::Fail::Broken(e.to_string()));
    std::fs::create_dir_all("/pts").map_err(broken)?;
    mount("devpts", "/pts", c"devpts", 0)?;
    let m = sys::open("/pts/ptmx", libc::O_RDWR | libc::O_NOCTTY)?;
    sys::ok("unlockpt", unsafe { libc::unlockpt(m) })?;
    std::fs::write(at, "").map_err(broken)?;
    let mut index = 0u32;
    sys::ioctl("TIOCGPTN", m, libc::TIOCGPTN, &raw mut index as u64)?;
    mount(&format!("/pts/{index}"), at, c"", libc::MS_BIND)?;
    if a.get("master") == Some("outside") {
        cx.outsider("master", &[m], || Ok(()))?;
        sys::close(m);
    } else {
        cx.fd("master", m);
    }
    Ok(())
}
