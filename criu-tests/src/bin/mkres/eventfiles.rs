//! eventfd, timerfd, signalfd, epoll, inotify, fanotify.

use crate::ctx::{Args, Ctx, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[
    Kind { name: "eventfd", help: "", make: eventfd },
    Kind { name: "timerfd", help: "", make: timerfd },
    Kind { name: "signalfd", help: "", make: signalfd },
    Kind {
        name: "epoll",
        help: "target=kept|dup|escaped: watching a pipe; escaped: its number is closed, a queued copy keeps it",
        make: epoll,
    },
    Kind { name: "inotify", help: "path=DIR (of this run)", make: inotify },
    Kind {
        name: "fanotify",
        help: "path=DIR, mark=inode|mount|fs, outside: in another mount namespace",
        make: fanotify,
    },
];

fn eventfd(cx: &mut Ctx, _: &Args) -> Res {
    let fd = sys::ok("eventfd", unsafe { libc::eventfd(3, 0) })?;
    cx.fd("", fd);
    Ok(())
}

fn timerfd(cx: &mut Ctx, _: &Args) -> Res {
    let fd = sys::ok("timerfd_create", unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, 0) })?;
    cx.fd("", fd);
    Ok(())
}

fn signalfd(cx: &mut Ctx, _: &Args) -> Res {
    let fd = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGUSR2);
        sys::ok("signalfd", libc::signalfd(-1, &set, 0))?
    };
    cx.fd("", fd);
    Ok(())
}

fn epoll(cx: &mut Ctx, a: &Args) -> Res {
    let e = sys::ok("epoll_create1", unsafe { libc::epoll_create1(0) })?;
    let (r, w) = sys::pipe()?;
    let mut ev = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 7 };
    sys::ok("epoll_ctl", unsafe { libc::epoll_ctl(e, libc::EPOLL_CTL_ADD, r, &mut ev) })?;
    cx.fd("", e);
    cx.fd("w", w);
    match a.get("target").unwrap_or("kept") {
        "dup" => {
            let d = sys::ok("dup", unsafe { libc::dup(r) })?;
            sys::close(r);
            cx.fd("r", d);
        }
        "escaped" => {
            cx.outsider("keeper", &[r], || Ok(()))?;
            sys::close(r);
        }
        _ => cx.fd("r", r),
    }
    Ok(())
}

fn inotify(cx: &mut Ctx, a: &Args) -> Res {
    let fd = sys::ok("inotify_init1", unsafe { libc::inotify_init1(0) })?;
    let dir = a.get("path").unwrap_or(&cx.dir).to_string();
    let r = unsafe { libc::inotify_add_watch(fd, sys::cstr(&dir).as_ptr(), libc::IN_MODIFY) };
    sys::ok("inotify_add_watch", r)?;
    cx.fd("", fd);
    Ok(())
}

fn fanotify(cx: &mut Ctx, a: &Args) -> Res {
    let fd = sys::ok("fanotify_init", unsafe { libc::fanotify_init(0, 0) })?;
    let kind = match a.get("mark").unwrap_or("inode") {
        "mount" => libc::FAN_MARK_MOUNT,
        "fs" => libc::FAN_MARK_FILESYSTEM,
        _ => 0,
    };
    let mut dir = a.get("path").unwrap_or(&cx.dir).to_string();
    if a.has("outside") {
        let own = || sys::ok("unshare", unsafe { libc::unshare(libc::CLONE_NEWNS) }).map(|_| ());
        dir = format!("/proc/{}/root{dir}", cx.outsider("holder", &[], own)?);
    }
    let dir = sys::cstr(&dir);
    let r = unsafe {
        libc::fanotify_mark(fd, libc::FAN_MARK_ADD | kind, libc::FAN_CLOSE_WRITE, libc::AT_FDCWD, dir.as_ptr())
    };
    sys::ok("fanotify_mark", r)?;
    cx.fd("", fd);
    Ok(())
}
