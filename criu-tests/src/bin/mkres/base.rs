//! The process itself: its session, identity, namespaces, threads.

use crate::ctx::{Args, Ctx, Fail, Res};
use crate::spec::{Item, Node};
use crate::{sys, Kind};
use std::sync::atomic::{AtomicI32, Ordering};

pub const KINDS: &[Kind] = &[
    Kind { name: "no-setsid", help: "first of all: the root leads a process group, not a session", make: nothing },
    Kind { name: "inherit", help: "first in [ ]: the child keeps its parent's descriptors", make: nothing },
    Kind { name: "setsid", help: "in [ ]: the child leads a session of its own", make: setsid },
    Kind { name: "newns", help: "mnt,net,ipc,uts,user,cgroup,time,pid: new namespaces (see also --root)", make: newns },
    Kind { name: "uid", help: "n=UID: all uids and gids become this one", make: uid },
    Kind { name: "no-cap", help: "n=CAP: this capability is no more effective", make: no_cap },
    Kind { name: "thread", help: "own=files|fs: a second thread, with that of its own", make: thread },
    Kind {
        name: "task-file",
        help: "path=FILE (schedstat), of=thread|leader, as=pid|self: an open file below /proc/PID/task/TID (/proc/TID, /proc/self); opath; ended: the thread has; cwd: a \
               directory we are in",
        make: task_file,
    },
    Kind { name: "cwd", help: "path=DIR", make: cwd },
];

/// The namespaces (CLONE_NEW...) that are not those mkres was started in; children have them, too.
static OWN: AtomicI32 = AtomicI32::new(0);

pub fn now_own(namespaces: i32) {
    OWN.fetch_or(namespaces, Ordering::Relaxed);
}

/// For what would stay behind, or change what others see.
pub fn only_in_own(namespace: i32) -> Res {
    match OWN.load(Ordering::Relaxed) & namespace {
        0 => Err(Fail::Broken("only in a namespace of its own".into())),
        _ => Ok(()),
    }
}

fn nothing(_: &mut Ctx, _: &Args) -> Res {
    Ok(())
}

fn no_cap(_: &mut Ctx, a: &Args) -> Res {
    let cap = usize::try_from(a.num("n", 0)?).unwrap_or(0);
    // _LINUX_CAPABILITY_VERSION_3, ourselves; effective, permitted and inheritable, low and high half.
    let header = [0x2008_0522u32, 0];
    let mut data = [[0u32; 3]; 2];
    sys::call("capget", libc::SYS_capget, [header.as_ptr() as u64, data.as_mut_ptr() as u64, 0, 0, 0])?;
    if let Some([effective, ..]) = data.get_mut(cap / 32) {
        *effective &= !(1 << (cap % 32));
    }
    sys::call("capset", libc::SYS_capset, [header.as_ptr() as u64, data.as_ptr() as u64, 0, 0, 0]).map(|_| ())
}

fn setsid(_: &mut Ctx, _: &Args) -> Res {
    sys::ok("setsid", unsafe { libc::setsid() }).map(|_| ())
}

/// A process can enter a new pid namespace only by being born in it.
pub fn wants_pid_ns(node: &Node) -> bool {
    node.items.iter().any(|i| matches!(i, Item::Kind { name, args, .. } if name == "newns" && args.has("pid")))
}

/// Of the network namespace we are in.
pub fn loopback_up() -> Res {
    let s = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let mut req: libc::ifreq = unsafe { std::mem::zeroed() };
    req.ifr_name[0] = b'l' as _;
    req.ifr_name[1] = b'o' as _;
    req.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    sys::ioctl("bring lo up", s, libc::SIOCSIFFLAGS, &raw const req as u64)?;
    sys::close(s);
    Ok(())
}

/// Leaves these namespaces for new ones; in a new one of users we are root, and no other user has a number.
pub fn unshare(flags: i32) -> Res {
    sys::ok("unshare", unsafe { libc::unshare(flags) })?;
    now_own(flags);
    if flags & libc::CLONE_NEWUSER == 0 {
        return Ok(());
    }
    for (file, text) in [("setgroups", "deny"), ("uid_map", "0 0 1"), ("gid_map", "0 0 1")] {
        let fd = sys::open(&format!("/proc/self/{file}"), libc::O_WRONLY)?;
        let n = unsafe { libc::write(fd, text.as_ptr().cast(), text.len()) };
        sys::ok(file, n)?;
        sys::close(fd);
    }
    Ok(())
}

fn newns(cx: &mut Ctx, a: &Args) -> Res {
    let mut flags = 0;
    for f in a.flags() {
        flags |= match f {
            "mnt" => libc::CLONE_NEWNS,
            "net" => libc::CLONE_NEWNET,
            "ipc" => libc::CLONE_NEWIPC,
            "uts" => libc::CLONE_NEWUTS,
            "user" => libc::CLONE_NEWUSER,
            "cgroup" => libc::CLONE_NEWCGROUP,
            "time" => 0x80,
            "pid" => 0,
            f => return Err(Fail::Broken(format!("no namespace named {f}"))),
        };
    }
    unshare(flags)?;
    if a.has("mnt") {
        let private = libc::MS_REC | libc::MS_PRIVATE;
        let null = std::ptr::null();
        sys::ok("mount private", unsafe { libc::mount(null, c"/".as_ptr(), null.cast(), private, null.cast()) })?;
        if a.has("pid") {
            let proc = c"proc".as_ptr();
            sys::ok("mount /proc", unsafe { libc::mount(proc, c"/proc".as_ptr(), proc, 0, null.cast()) })?;
        }
    }
    if a.has("pid") && !a.has("mnt") {
        // Without a /proc of its own, CRIU has it mount one on proc.crtools in its working directory (criu/pie/parasite.c);
        // in / it would meet those of other trees.
        sys::ok("chdir", unsafe { libc::chdir(sys::cstr(&cx.dir).as_ptr()) })?;
    }
    if a.has("net") {
        loopback_up()?;
    }
    Ok(())
}

fn uid(_: &mut Ctx, a: &Args) -> Res {
    let n = a.num("n", 65534)? as u32;
    unsafe {
        sys::ok("setgroups", libc::setgroups(0, std::ptr::null()))?;
        sys::ok("setresgid", libc::setresgid(n, n, n))?;
        sys::ok("setresuid", libc::setresuid(n, n, n))?;
        // Changing identity made the process undumpable, and its /proc files root's.
        libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0);
    }
    Ok(())
}

fn thread(cx: &mut Ctx, a: &Args) -> Res {
    let own = match a.get("own") {
        Some("files") => libc::CLONE_FILES,
        Some("fs") => libc::CLONE_FS,
        _ => 0,
    };
    let (tx, rx) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        unsafe { libc::unshare(own) };
        if own == libc::CLONE_FILES {
            // Not a copy of the report pipe.
            sys::close_all_but(&[0, 1, 2]);
        }
        let _ = tx.send(unsafe { libc::syscall(libc::SYS_gettid) } as i32);
        loop {
            unsafe { libc::pause() };
        }
    });
    let tid = rx.recv().map_err(|_| Fail::Skip("no thread".into()))?;
    cx.pids.push((format!("{}.tid", cx.kind), tid));
    Ok(())
}

fn task_file(cx: &mut Ctx, a: &Args) -> Res {
    let pid = std::process::id().cast_signed();
    let (tx, rx) = std::sync::mpsc::channel();
    let thread = (a.get("of") != Some("leader")).then(|| thread_until(rx)).transpose()?;
    let tid = thread.as_ref().map_or(pid, |(tid, _)| *tid);
    let dir = match a.get("as") {
        Some("pid") => format!("/proc/{tid}"),
        // By the numbers of whatever /proc it is.
        Some("self") => "/proc/self".to_string(),
        _ => format!("/proc/{pid}/task/{tid}"),
    };
    let path = format!("{dir}/{}", a.get("path").unwrap_or("schedstat"));
    if a.has("cwd") {
        sys::ok("chdir", unsafe { libc::chdir(sys::cstr(&path).as_ptr()) })?;
    } else {
        cx.fd("", sys::open(&path, if a.has("opath") { libc::O_PATH } else { libc::O_RDONLY })?);
    }
    match thread.filter(|_| a.has("ended")) {
        Some((_, handle)) => {
            drop(tx);
            handle.join().map_err(|_| Fail::Broken("the thread has panicked".into()))
        }
        None => {
            std::mem::forget(tx);
            Ok(())
        }
    }
}

/// A thread that lives until the sender is dropped, and its number.
fn thread_until(end: std::sync::mpsc::Receiver<()>) -> Res<(i32, std::thread::JoinHandle<()>)> {
    let (tx, rx) = std::sync::mpsc::channel();
    let handle = std::thread::spawn(move || {
        let _ = tx.send(unsafe { libc::syscall(libc::SYS_gettid) } as i32);
        let _ = end.recv();
    });
    Ok((rx.recv().map_err(|_| Fail::Skip("no thread".into()))?, handle))
}

fn cwd(_: &mut Ctx, a: &Args) -> Res {
    let dir = sys::cstr(a.need("path")?);
    sys::ok("chdir", unsafe { libc::chdir(dir.as_ptr()) }).map(|_| ())
}
