//! Unusual mounts; in a mount namespace of our own (--root).

use crate::base::only_in_own;
use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[
    Kind {
        name: "pivot",
        help: "to=DIR: a new mount namespace whose root is the mount on DIR (in [ ], or it is the tree's)",
        make: pivot,
    },
    Kind {
        name: "odd-mount",
        help: "char=newline|return|backslash, fs=TYPE: a file system on a directory with that character in its name",
        make: odd_mount,
    },
    Kind {
        name: "layers",
        help: "to=DIR: an overlay with a line in the mount table that is longer than a page; deep: than nearly two; few: with two layers",
        make: layers,
    },
    Kind {
        name: "peers",
        help: "two mounts that were made peers when each had a mount of its own at the same place; same: when they had the same there",
        make: peers,
    },
    Kind { name: "queue", help: "a POSIX message queue that nobody has open (after newns:ipc)", make: queue },
];

fn make_dir(dir: &str) -> Res {
    std::fs::create_dir_all(dir).map_err(|e| Fail::Skip(format!("{dir}: {e}")))
}

fn mount(target: &str, kind: &str, data: &str) -> Res {
    only_in_own(libc::CLONE_NEWNS)?;
    let (t, k, d) = (sys::cstr(target), sys::cstr(kind), sys::cstr(data));
    let r = unsafe { libc::mount(k.as_ptr(), t.as_ptr(), k.as_ptr(), 0, d.as_ptr().cast()) };
    sys::ok(&format!("mount {kind} on {target:?}"), r).map(|_| ())
}

fn pivot(_: &mut Ctx, a: &Args) -> Res {
    let to = a.need("to")?;
    make_dir(&format!("{to}/old"))?;
    let (dir, null) = (sys::cstr(to), std::ptr::null());
    let private = libc::MS_REC | libc::MS_PRIVATE;
    sys::ok("unshare", unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    sys::ok("private", unsafe { libc::mount(null, c"/".as_ptr(), null, private, null.cast()) })?;
    sys::ok("chdir", unsafe { libc::chdir(dir.as_ptr()) })?;
    let r = unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c"old".as_ptr()) };
    sys::ok("pivot_root", r)?;
    sys::ok("umount", unsafe { libc::umount2(c"/old".as_ptr(), libc::MNT_DETACH) })?;
    sys::ok("chdir", unsafe { libc::chdir(c"/".as_ptr()) }).map(|_| ())
}

fn odd_mount(_: &mut Ctx, a: &Args) -> Res {
    let c = match a.need("char")? {
        "newline" => '\n',
        "return" => '\r',
        "backslash" => '\\',
        c => return Err(Fail::Broken(format!("char={c}?"))),
    };
    let dir = format!("/odd{c}dir");
    make_dir(&dir)?;
    mount(&dir, a.get("fs").unwrap_or("tmpfs"), "")
}

fn layers(_: &mut Ctx, a: &Args) -> Res {
    // The kernel takes up to 4095 bytes of options; the line has the rest of the mount beside them.
    const LAYERS: usize = 16;
    let (number, name) = match a.has("few") {
        true => (2, "l".to_string()),
        false => (LAYERS, "l".repeat((4090 - "lowerdir=".len()) / LAYERS - "/nn:".len())),
    };
    let dirs: Vec<String> = (0..number).map(|i| format!("/{i:02}{name}")).collect();
    dirs.iter().try_for_each(|d| make_dir(d))?;
    let mut to = a.need("to")?.to_string();
    if a.has("deep") {
        // Its mountpoint is long, too.
        to.push_str(&format!("/{}", "d".repeat(250)).repeat(15));
    }
    make_dir(&to)?;
    mount(&to, "overlay", &format!("lowerdir={}", dirs.join(":")))
}

/// What is mounted on one of two peers is mounted on both. So they become peers after that: only `move_mount` can do it.
fn peers(cx: &mut Ctx, a: &Args) -> Res {
    const MOVE_MOUNT_SET_GROUP: u64 = 0x100;
    const BOTH_EMPTY_PATHS: u64 = 0x44;
    let (one, two) = (cx.path("one"), cx.path("two"));
    let (place_one, place_two) = (format!("{one}/place"), format!("{two}/place"));
    let change = |from: &str, to: &str, flags| {
        let (f, t, null) = (sys::cstr(from), sys::cstr(to), std::ptr::null());
        let r = unsafe { libc::mount(f.as_ptr(), t.as_ptr(), null, flags, null.cast()) };
        sys::ok(&format!("mount {to}"), r).map(|_| ())
    };
    make_dir(&one)?;
    make_dir(&two)?;
    mount(&one, "tmpfs", "")?;
    make_dir(&place_one)?;
    change(&one, &two, libc::MS_BIND)?;
    change("none", &one, libc::MS_SHARED)?;
    mount(&place_one, "tmpfs", "")?;
    if a.has("same") {
        change(&place_one, &place_two, libc::MS_BIND)?;
    } else {
        mount(&place_two, "tmpfs", "")?;
    }
    let (from, to) = (sys::open(&one, libc::O_PATH)?, sys::open(&two, libc::O_PATH)?);
    let empty = c"".as_ptr() as u64;
    let flags = MOVE_MOUNT_SET_GROUP | BOTH_EMPTY_PATHS;
    sys::call("move_mount", libc::SYS_move_mount, [from as u64, empty, to as u64, empty, flags])?;
    sys::close(from);
    sys::close(to);
    Ok(())
}

fn queue(_: &mut Ctx, _: &Args) -> Res {
    only_in_own(libc::CLONE_NEWIPC)?;
    let flags = (libc::O_RDWR | libc::O_CREAT) as u64;
    // One short message: all queues of a user together have a limit of bytes.
    let attr = [0i64, 1, 1, 0, 0, 0, 0, 0];
    let fd =
        sys::call("mq_open", libc::SYS_mq_open, [c"mkres".as_ptr() as u64, flags, 0o600, attr.as_ptr() as u64, 0])?;
    sys::close(fd);
    Ok(())
}
