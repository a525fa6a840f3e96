//! What becomes of a file's name, and other things that CRIU looks for by a path or a namespace.

use crate::base::only_in_own;
use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[
    Kind {
        name: "name",
        help: "how=renamed|replaced|linked|late|odd|dir|longest|too-long|long|long-cwd|longest-map|long-map|layer|cgroup|cgroup-cwd|\
               zero-map|covered|moved|reused|dir-to-file: what happens to the name of an open (mapped, entered) file or directory",
        make: name,
    },
    Kind { name: "ghost", help: "alloc=BYTES, len=BYTES, map: a file without a name", make: ghost },
    Kind { name: "chroot", help: "to=DIR (one of this run)", make: chroot },
    Kind { name: "nsfd", help: "of=own|child|outside: an open UTS namespace file", make: nsfd },
    Kind { name: "make-slave", help: "at=DIR: a mount becomes a slave of a peer group outside (--root)", make: slave },
    Kind { name: "make-shared", help: "at=DIR: a mount becomes shared (--root)", make: share },
    Kind {
        name: "part",
        help: "to=DIR: a bind mount of a directory whose file system is not mounted whole (--root)",
        make: part,
    },
    Kind {
        name: "epoll-shared",
        help: "a child's epoll watches what it has only by another number, as we do",
        make: epoll_shared,
    },
];

fn skip<T>(r: std::io::Result<T>) -> Res<T> {
    r.map_err(|e| Fail::Skip(e.to_string()))
}

fn open_new(path: &str) -> Res<i32> {
    sys::open(path, libc::O_RDWR | libc::O_CREAT)
}

fn name(cx: &mut Ctx, a: &Args) -> Res {
    let path = cx.path("file");
    let other = cx.path("other");
    let fd = match a.need("how")? {
        "renamed" => {
            let fd = open_new(&path)?;
            skip(std::fs::rename(&path, &other))?;
            fd
        }
        "replaced" => {
            let fd = open_new(&path)?;
            skip(std::fs::write(&other, "new"))?;
            skip(std::fs::rename(&other, &path))?;
            fd
        }
        // Another name was there and has gone, ours is left.
        "linked" => {
            let fd = open_new(&path)?;
            skip(std::fs::hard_link(&path, &other))?;
            skip(std::fs::remove_file(&other))?;
            fd
        }
        // It was opened without a name and was given one later.
        "late" => {
            let fd = sys::open(&cx.dir, libc::O_RDWR | libc::O_TMPFILE)?;
            let (empty, to) = (sys::cstr(""), sys::cstr(&path));
            let r = unsafe { libc::linkat(fd, empty.as_ptr(), libc::AT_FDCWD, to.as_ptr(), libc::AT_EMPTY_PATH) };
            sys::ok("linkat", r)?;
            fd
        }
        // A name that looks like that of a removed file.
        "odd" => open_new(&format!("{path} (deleted)"))?,
        "dir" => {
            skip(std::fs::create_dir(&path))?;
            let fd = sys::open(&path, libc::O_RDONLY | libc::O_DIRECTORY)?;
            skip(std::fs::remove_dir(&path))?;
            fd
        }
        "long" => deep_file(cx, 4300)?,
        "longest" => deep_file(cx, 4094)?,
        "too-long" => deep_file(cx, 4095)?,
        "long-cwd" => return enter(deep(cx, 4300)?),
        how @ ("long-map" | "longest-map") => {
            let fd = deep_file(cx, if how == "long-map" { 4023 } else { 4022 })?;
            sys::ok("ftruncate", unsafe { libc::ftruncate(fd, 4096) })?;
            let at = sys::mmap(how, 4096, libc::PROT_READ, libc::MAP_PRIVATE, fd, 0)?;
            cx.fact("addr", format!("{at:x}"));
            sys::close(fd);
            return Ok(());
        }
        "layer" => layer(cx, a)?,
        "cgroup" => removed_cgroup()?,
        "cgroup-cwd" => return enter(removed_cgroup()?),
        // A node of /dev/zero that lives on by another name, mapped.
        "zero-map" => {
            let dev = libc::makedev(1, 5);
            sys::ok("mknod", unsafe { libc::mknod(sys::cstr(&path).as_ptr(), libc::S_IFCHR | 0o600, dev) })?;
            let fd = sys::open(&path, libc::O_RDWR)?;
            sys::mmap(&path, 4096, libc::PROT_READ, libc::MAP_PRIVATE, fd, 0)?;
            sys::close(fd);
            skip(std::fs::rename(&path, &other))?;
            skip(std::fs::hard_link(&other, cx.path("third")))?;
            skip(std::fs::remove_file(&other))?;
            return Ok(());
        }
        how @ ("covered" | "reused") => {
            for dir in [&path, &other] {
                skip(std::fs::create_dir(dir))?;
            }
            let fd = open_new(&format!("{path}/f"))?;
            if how == "reused" {
                sys::close(open_new(&format!("{other}/f"))?);
            }
            bind(&other, &path, libc::MS_BIND)?;
            fd
        }
        // It has another name, and the directory of its old one is gone.
        "moved" => {
            skip(std::fs::create_dir(&path))?;
            let inside = format!("{path}/f");
            let fd = open_new(&inside)?;
            skip(std::fs::hard_link(&inside, &other))?;
            skip(std::fs::remove_file(&inside))?;
            skip(std::fs::remove_dir(&path))?;
            fd
        }
        // Where the directory of its old name was, there is a file now; it has another name elsewhere.
        "dir-to-file" => {
            skip(std::fs::create_dir(&path))?;
            let inside = format!("{path}/f");
            let fd = open_new(&inside)?;
            skip(std::fs::hard_link(&inside, &other))?;
            skip(std::fs::remove_file(&inside))?;
            skip(std::fs::remove_dir(&path))?;
            skip(std::fs::write(&path, ""))?;
            fd
        }
        how => return Err(Fail::Broken(format!("how={how}?"))),
    };
    cx.fd("", fd);
    Ok(())
}

/// A directory whose path has this many bytes, made step by step.
fn deep(cx: &Ctx, length: usize) -> Res<i32> {
    let mut at = sys::open(&cx.dir, libc::O_RDONLY | libc::O_DIRECTORY)?;
    let mut left = length.saturating_sub(cx.dir.len());
    while left > 1 {
        // No step may leave a slash alone.
        let step = if left > 252 { 250 } else { left };
        let name = sys::cstr(&"d".repeat(step - 1));
        sys::ok("mkdirat", unsafe { libc::mkdirat(at, name.as_ptr(), 0o755) })?;
        let next = sys::ok("openat", unsafe { libc::openat(at, name.as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY) })?;
        sys::close(at);
        at = next;
        left -= step;
    }
    Ok(at)
}

/// A file whose path has this many bytes.
pub fn deep_file(cx: &Ctx, length: usize) -> Res<i32> {
    let at = deep(cx, length - 2)?;
    let flags = libc::O_RDWR | libc::O_CREAT;
    let fd = sys::ok("openat", unsafe { libc::openat(at, c"f".as_ptr(), flags, 0o644) })?;
    sys::close(at);
    Ok(fd)
}

/// A cgroup that was removed while we have it open.
fn removed_cgroup() -> Res<i32> {
    let mounts = skip(std::fs::read_to_string("/proc/self/mounts"))?;
    let at = mounts.lines().find_map(|l| match l.split(' ').collect::<Vec<_>>()[..] {
        [_, at, "cgroup2", ..] => Some(at.to_string()),
        _ => None,
    });
    let at = at.ok_or_else(|| Fail::Skip("cgroup2 is not mounted".into()))?;
    let dir = format!("{at}/mkres-{}", unsafe { libc::getpid() });
    skip(std::fs::create_dir(&dir))?;
    let fd = sys::open(&dir, libc::O_RDONLY | libc::O_DIRECTORY);
    skip(std::fs::remove_dir(&dir))?;
    fd
}

/// A file of the lower layer of an overlayfs that was removed while we have it open. twice: with a second name there; index:
/// of which the overlayfs knows.
fn layer(cx: &Ctx, a: &Args) -> Res<i32> {
    only_in_own(libc::CLONE_NEWNS)?;
    let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(|name| cx.path(name));
    for dir in [&lower, &upper, &work, &merged] {
        skip(std::fs::create_dir(dir))?;
    }
    skip(std::fs::write(format!("{lower}/f"), "content"))?;
    if a.has("twice") {
        skip(std::fs::hard_link(format!("{lower}/f"), format!("{lower}/g")))?;
    }
    let index = if a.has("index") { "on" } else { "off" };
    let options = sys::cstr(&format!("lowerdir={lower},upperdir={upper},workdir={work},index={index}"));
    let (at, kind) = (sys::cstr(&merged), c"overlay".as_ptr());
    sys::ok("mount overlay", unsafe { libc::mount(kind, at.as_ptr(), kind, 0, options.as_ptr().cast()) })?;
    let fd = sys::open(&format!("{merged}/f"), libc::O_RDONLY)?;
    skip(std::fs::remove_file(format!("{merged}/f")))?;
    Ok(fd)
}

fn enter(fd: i32) -> Res {
    sys::ok("fchdir", unsafe { libc::fchdir(fd) })?;
    sys::close(fd);
    Ok(())
}

fn ghost(cx: &mut Ctx, a: &Args) -> Res {
    let path = cx.path("file");
    let fd = open_new(&path)?;
    for _ in 0..a.num("alloc", 0)? / 4096 {
        sys::write_all(fd, &[1; 4096]);
    }
    let len = a.num("len", a.num("alloc", 0)?)?;
    sys::ok("ftruncate", unsafe { libc::ftruncate(fd, len) })?;
    unsafe { libc::fsync(fd) };
    if a.has("map") {
        sys::mmap(&path, 4096, libc::PROT_READ, libc::MAP_PRIVATE, fd, 0)?;
    }
    skip(std::fs::remove_file(&path))?;
    cx.fd("", fd);
    Ok(())
}

fn chroot(_: &mut Ctx, a: &Args) -> Res {
    let to = a.need("to")?;
    let _ = std::fs::create_dir_all(to);
    sys::ok("chroot", unsafe { libc::chroot(sys::cstr(to).as_ptr()) })?;
    sys::ok("chdir", unsafe { libc::chdir(c"/".as_ptr()) }).map(|_| ())
}

fn nsfd(cx: &mut Ctx, a: &Args) -> Res {
    let of = a.get("of").unwrap_or("own");
    let pid = match of {
        "own" => unsafe { libc::getpid() },
        _ => {
            cx.outsider("holder", &[], || sys::ok("unshare", unsafe { libc::unshare(libc::CLONE_NEWUTS) }).map(|_| ()))?
        }
    };
    let fd = sys::open(&format!("/proc/{}/ns/uts", sys::shown(pid)?), libc::O_RDONLY)?;
    cx.fd("", fd);
    Ok(())
}

fn bind(from: &str, to: &str, flags: libc::c_ulong) -> Res {
    only_in_own(libc::CLONE_NEWNS)?;
    let (f, t, null) = (sys::cstr(from), sys::cstr(to), std::ptr::null());
    let r = unsafe { libc::mount(f.as_ptr(), t.as_ptr(), null, flags, null.cast()) };
    sys::ok(&format!("mount {to}"), r).map(|_| ())
}

fn share(_: &mut Ctx, a: &Args) -> Res {
    bind("none", a.need("at")?, libc::MS_SHARED)
}

fn slave(cx: &mut Ctx, a: &Args) -> Res {
    let at = a.need("at")?.to_string();
    bind("none", &at, libc::MS_SHARED)?;
    // A namespace of its own, copied: its mount stays in the peer group.
    cx.outsider("master", &[], || sys::ok("unshare", unsafe { libc::unshare(libc::CLONE_NEWNS) }).map(|_| ()))?;
    bind("none", &at, libc::MS_SLAVE)
}

fn part(_: &mut Ctx, a: &Args) -> Res {
    only_in_own(libc::CLONE_NEWNS)?;
    let to = a.need("to")?;
    let whole = format!("{to}.whole");
    for dir in [to, &whole] {
        skip(std::fs::create_dir_all(dir))?;
    }
    let (w, t) = (sys::cstr(&whole), c"tmpfs".as_ptr());
    sys::ok("mount", unsafe { libc::mount(t, w.as_ptr(), t, 0, std::ptr::null()) })?;
    let dir = format!("{whole}/part");
    skip(std::fs::create_dir(&dir))?;
    bind(&dir, to, libc::MS_BIND)?;
    sys::ok("umount", unsafe { libc::umount(w.as_ptr()) }).map(|_| ())
}

fn epoll_shared(cx: &mut Ctx, _: &Args) -> Res {
    let (r, w) = sys::pipe()?;
    cx.child("child", &[r], || {
        let e = sys::ok("epoll_create1", unsafe { libc::epoll_create1(0) })?;
        let mut ev = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 7 };
        let other = sys::ok("dup", unsafe { libc::dup(r) })?;
        sys::ok("epoll_ctl", unsafe { libc::epoll_ctl(e, libc::EPOLL_CTL_ADD, other, &mut ev) })?;
        sys::close(other);
        Ok(())
    })?;
    cx.fd("r", r);
    cx.fd("w", w);
    Ok(())
}
