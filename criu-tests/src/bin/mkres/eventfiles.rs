//! eventfd, timerfd, signalfd, epoll, inotify, fanotify.

use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[
    Kind { name: "eventfd", help: "", make: eventfd },
    Kind { name: "timerfd", help: "clock=NUMBER (of clock_gettime(2); else CLOCK_MONOTONIC), armed", make: timerfd },
    Kind { name: "signalfd", help: "", make: signalfd },
    Kind {
        name: "epoll",
        help: "target=kept|dup|escaped: watching a pipe; escaped: its number is closed, a queued copy keeps it; fifo: a named \
               pipe on a disk; inherited: and the first pipe that is there already",
        make: epoll,
    },
    Kind {
        name: "inotify",
        help: "path=DIR (of this run); removed: a directory that is gone, held open; event: one is unread",
        make: inotify,
    },
    Kind {
        name: "fanotify",
        help: "path=DIR, mark=inode|mount|fs, outside: in another mount namespace",
        make: fanotify,
    },
    Kind { name: "pressure", help: "a trigger of /proc/pressure/memory; read: open for reading only", make: pressure },
];

fn eventfd(cx: &mut Ctx, _: &Args) -> Res {
    let fd = sys::ok("eventfd", unsafe { libc::eventfd(3, 0) })?;
    cx.fd("", fd);
    Ok(())
}

fn timerfd(cx: &mut Ctx, a: &Args) -> Res {
    let clock = a.num("clock", libc::CLOCK_MONOTONIC.into())? as i32;
    let fd = sys::ok("timerfd_create", unsafe { libc::timerfd_create(clock, 0) })?;
    let never = libc::timespec { tv_sec: 86400, tv_nsec: 0 };
    let timer = libc::itimerspec { it_interval: never, it_value: never };
    sys::ok("timerfd_settime", unsafe { libc::timerfd_settime(fd, 0, &timer, std::ptr::null_mut()) })?;
    cx.fd("", fd);
    Ok(())
}

fn pressure(cx: &mut Ctx, a: &Args) -> Res {
    let path = "/proc/pressure/memory";
    let mode = if a.has("read") { libc::O_RDONLY } else { libc::O_RDWR };
    let fd = sys::open(path, mode)?;
    if !a.has("read") {
        // A window of two seconds is what the kernel allows without CAP_SYS_RESOURCE (psi_write, Linux 6.5).
        let trigger = b"some 500000 2000000\0";
        let written = unsafe { libc::write(fd, trigger.as_ptr().cast(), trigger.len()) };
        sys::ok("a trigger of pressure", written as i32)?;
    }
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
    let add = |fd| {
        let mut ev = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 7 };
        sys::ok("epoll_ctl", unsafe { libc::epoll_ctl(e, libc::EPOLL_CTL_ADD, fd, &mut ev) })
    };
    if a.has("inherited") {
        let pipe = (3..e).find(|fd| is_pipe(*fd));
        add(pipe.ok_or_else(|| Fail::Broken("no pipe is there".into()))?)?;
    }
    let r = if a.has("fifo") {
        named_pipe(cx)?
    } else {
        let (r, w) = sys::pipe()?;
        cx.fd("w", w);
        r
    };
    add(r)?;
    cx.fd("", e);
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

fn is_pipe(fd: i32) -> bool {
    let mut st: libc::stat = unsafe { std::mem::zeroed() };
    (unsafe { libc::fstat(fd, &mut st) }) == 0 && st.st_mode & libc::S_IFMT == libc::S_IFIFO
}

/// On a file system with a device, in whose number CRIU and the kernel's fdinfo do not agree.
fn named_pipe(cx: &Ctx) -> Res<i32> {
    let path = cx.path("fifo");
    sys::ok("mkfifo", unsafe { libc::mkfifo(sys::cstr(&path).as_ptr(), 0o600) })?;
    let fd = sys::open(&path, libc::O_RDWR)?;
    let mut st: libc::stat = unsafe { std::mem::zeroed() };
    sys::ok("fstat", unsafe { libc::fstat(fd, &mut st) })?;
    if libc::major(st.st_dev) == 0 {
        return Err(Fail::Skip(format!("{} is on a file system without a device", cx.dir)));
    }
    Ok(fd)
}

fn inotify(cx: &mut Ctx, a: &Args) -> Res {
    let fd = sys::ok("inotify_init1", unsafe { libc::inotify_init1(0) })?;
    let mut dir = a.get("path").unwrap_or(&cx.dir).to_string();
    let removed = a.has("removed").then(|| format!("{dir}/watched"));
    if let Some(sub) = &removed {
        std::fs::create_dir(sub).map_err(|e| Fail::Skip(format!("{sub}: {e}")))?;
        dir.clone_from(sub);
    }
    let r = unsafe { libc::inotify_add_watch(fd, sys::cstr(&dir).as_ptr(), libc::IN_MODIFY | libc::IN_CREATE) };
    sys::ok("inotify_add_watch", r)?;
    if let Some(sub) = &removed {
        let mut fs: libc::statfs = unsafe { std::mem::zeroed() };
        sys::ok("statfs", unsafe { libc::statfs(sys::cstr(sub).as_ptr(), &mut fs) })?;
        if fs.f_type == libc::TMPFS_MAGIC {
            return Err(Fail::Skip(format!("{dir} is on tmpfs, where CRIU wants a path")));
        }
        // The inode stays as long as it is open, and the watch with it.
        let held = sys::open(sub, libc::O_RDONLY | libc::O_DIRECTORY)?;
        std::fs::remove_dir(sub).map_err(|e| Fail::Skip(format!("{sub}: {e}")))?;
        cx.fd("held", held);
    } else if a.has("event") {
        std::fs::write(format!("{dir}/event"), "").map_err(|e| Fail::Skip(format!("{dir}/event: {e}")))?;
    }
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
        dir = format!("/proc/{}/root{dir}", sys::shown(cx.outsider("holder", &[], own)?)?);
    }
    let dir = sys::cstr(&dir);
    let r = unsafe {
        libc::fanotify_mark(fd, libc::FAN_MARK_ADD | kind, libc::FAN_CLOSE_WRITE, libc::AT_FDCWD, dir.as_ptr())
    };
    sys::ok("fanotify_mark", r)?;
    cx.fd("", fd);
    Ok(())
}
