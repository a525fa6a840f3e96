//! Devices, opened and mapped; tun.

use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[
    Kind { name: "dev", help: "path=/dev/..., ro, wo, append: opened", make: dev },
    Kind {
        name: "chr",
        help: "maj=,min=: a character device node of its own, opened",
        make: |c, a| node(c, a, libc::S_IFCHR),
    },
    Kind {
        name: "blk",
        help: "maj=,min=: a block device node of its own, opened",
        make: |c, a| node(c, a, libc::S_IFBLK),
    },
    Kind {
        name: "opath",
        help: "path=...|of=pidfd|fanotify|eventfd|signalfd|timerfd|inotify|epoll|socket: opened with O_PATH only; kept: \
               beside an ordinary descriptor; many=N: behind so many others of the kind; not: no O_PATH after all",
        make: opath,
    },
    Kind { name: "dev-map", help: "path=/dev/..., shared, off=BYTES: mapped, the descriptor closed", make: map },
    Kind {
        name: "tun",
        help: "name=NAME, tap: a tun (tap) interface; filter: with a socket filter; opened: no interface; left: persistent, \
               the descriptor closed",
        make: tun,
    },
];

fn mode(a: &Args) -> i32 {
    let access = match (a.has("ro"), a.has("wo")) {
        (true, _) => libc::O_RDONLY,
        (_, true) => libc::O_WRONLY,
        _ => libc::O_RDWR,
    };
    libc::O_NONBLOCK | libc::O_NOCTTY | access | if a.has("append") { libc::O_APPEND } else { 0 }
}

fn dev(cx: &mut Ctx, a: &Args) -> Res {
    let fd = sys::open(a.need("path")?, mode(a))?;
    cx.fd("", fd);
    Ok(())
}

fn opath(cx: &mut Ctx, a: &Args) -> Res {
    let of = match a.get("of") {
        Some(of) => {
            for _ in 0..a.num("many", 0)? {
                without_path(of)?;
            }
            Some(without_path(of)?)
        }
        None => None,
    };
    if a.has("not") {
        cx.fd("", of.unwrap_or(-1));
        return Ok(());
    }
    let path = match of {
        Some(fd) => format!("/proc/self/fd/{fd}"),
        None => a.need("path")?.to_string(),
    };
    let fd = sys::open(&path, libc::O_PATH)?;
    match of {
        Some(of) if a.has("kept") => cx.fd("kept", of),
        Some(of) => sys::close(of),
        None => {}
    }
    cx.fd("", fd);
    Ok(())
}

/// A file that only /proc/PID/fd has a name for.
fn without_path(of: &str) -> Res<i32> {
    let mut usr2: libc::sigset_t = unsafe { std::mem::zeroed() };
    unsafe { libc::sigaddset(&mut usr2, libc::SIGUSR2) };
    match of {
        "pidfd" => sys::call("pidfd_open", libc::SYS_pidfd_open, [std::process::id().into(), 0, 0, 0, 0]),
        "fanotify" => sys::ok(of, unsafe { libc::fanotify_init(0, 0) }),
        "eventfd" => sys::ok(of, unsafe { libc::eventfd(0, 0) }),
        "signalfd" => sys::ok(of, unsafe { libc::signalfd(-1, &usr2, 0) }),
        "timerfd" => sys::ok(of, unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, 0) }),
        "inotify" => sys::ok(of, unsafe { libc::inotify_init1(0) }),
        "epoll" => sys::ok(of, unsafe { libc::epoll_create1(0) }),
        "socket" => sys::socket(libc::AF_UNIX, libc::SOCK_DGRAM, 0),
        _ => Err(Fail::Broken(format!("of={of}"))),
    }
}

fn node(cx: &mut Ctx, a: &Args, kind: u32) -> Res {
    let (maj, min) = (a.num("maj", 1)? as u32, a.num("min", 3)? as u32);
    let path = cx.path(&format!("{maj}-{min}"));
    let dev = libc::makedev(maj, min);
    sys::ok("mknod", unsafe { libc::mknod(sys::cstr(&path).as_ptr(), kind | 0o600, dev) })?;
    let fd = sys::open(&path, mode(a))?;
    cx.fd("", fd);
    Ok(())
}

fn map(cx: &mut Ctx, a: &Args) -> Res {
    let path = a.need("path")?;
    let fd = sys::open(path, mode(a))?;
    let flags = if a.has("shared") { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
    let prot = libc::PROT_READ | if a.has("ro") { 0 } else { libc::PROT_WRITE };
    let at = sys::mmap(path, 4096, prot, flags, fd, a.num("off", 0)?)?;
    cx.fact("addr", format!("{at:x}"));
    sys::close(fd);
    Ok(())
}

/// A new tun (IFF_TUN) or tap interface.
pub fn attach(name: &str, kind: libc::c_int) -> Res<i32> {
    let fd = sys::open("/dev/net/tun", libc::O_RDWR)?;
    let mut req: libc::ifreq = unsafe { std::mem::zeroed() };
    for (d, s) in req.ifr_name.iter_mut().zip(name.bytes()) {
        *d = s as _;
    }
    req.ifr_ifru.ifru_flags = (kind | libc::IFF_NO_PI) as i16;
    sys::ioctl("TUNSETIFF", fd, libc::TUNSETIFF, &raw const req as u64)?;
    Ok(fd)
}

fn tun(cx: &mut Ctx, a: &Args) -> Res {
    if a.has("opened") {
        let fd = sys::open("/dev/net/tun", libc::O_RDWR)?;
        cx.fd("", fd);
        return Ok(());
    }
    // Unlike any other on this machine, if it is to be in the machine's own network namespace.
    let name = a.get("name").map_or_else(|| format!("mkres{}", unsafe { libc::getpid() }), String::from);
    let fd = attach(&name, if a.has("tap") { libc::IFF_TAP } else { libc::IFF_TUN })?;
    if a.has("filter") {
        // BPF_RET | BPF_K: the whole packet.
        let mut all = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0xffff };
        let program = libc::sock_fprog { len: 1, filter: &mut all };
        sys::ioctl("TUNATTACHFILTER", fd, libc::TUNATTACHFILTER, &raw const program as u64)?;
    }
    if a.has("left") {
        crate::base::only_in_own(libc::CLONE_NEWNET)?;
        sys::ioctl("TUNSETPERSIST", fd, libc::TUNSETPERSIST, 1)?;
        sys::close(fd);
        return Ok(());
    }
    cx.fd("", fd);
    Ok(())
}
