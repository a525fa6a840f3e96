//! Terminals and the sessions they belong to.

use crate::ctx::{Args, Ctx, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[
    Kind { name: "tty-pair", help: "master and slave; ctty: the slave is our controlling terminal", make: pair },
    Kind { name: "tty-slave", help: "n=1..: slaves whose masters are outside; ctty", make: slave },
    Kind { name: "tty-hungup", help: "a slave whose master was closed", make: hungup },
    Kind {
        name: "tty-master",
        help: "slave=none|outside: a master; outside: its slave controls an outside session",
        make: master,
    },
    Kind { name: "tty-path", help: "an O_PATH descriptor of a slave; after: met after an ordinary one", make: path },
    Kind { name: "dev-tty", help: "/dev/tty; alone: without the slave it leads to", make: dev_tty },
];

fn open_pair() -> Res<(i32, i32)> {
    let m = sys::open("/dev/ptmx", libc::O_RDWR | libc::O_NOCTTY)?;
    sys::ok("unlockpt", unsafe { libc::unlockpt(m) })?;
    // Not by path: the /dev/pts in sight need not be the instance that ptmx made it in.
    let s = sys::ioctl("TIOCGPTPEER", m, libc::TIOCGPTPEER, (libc::O_RDWR | libc::O_NOCTTY) as u64)?;
    Ok((m, s))
}

fn control(s: i32) -> Res {
    sys::ioctl("TIOCSCTTY", s, libc::TIOCSCTTY, 0).map(|_| ())
}

fn pair(cx: &mut Ctx, a: &Args) -> Res {
    let (m, s) = open_pair()?;
    if a.has("ctty") {
        control(s)?;
    }
    cx.fd("master", m);
    cx.fd("slave", s);
    Ok(())
}

fn slave(cx: &mut Ctx, a: &Args) -> Res {
    for i in 0..a.num("n", 1)? {
        let (m, s) = open_pair()?;
        if a.has("ctty") && i == 0 {
            control(s)?;
        }
        cx.outsider(&format!("master{i}"), &[m], || Ok(()))?;
        sys::close(m);
        cx.fd(&i.to_string(), s);
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

fn hungup(cx: &mut Ctx, _: &Args) -> Res {
    let (m, s) = open_pair()?;
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
