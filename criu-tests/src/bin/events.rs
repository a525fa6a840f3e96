//! What listeners are notified of while CRIU dumps: with the plugin nothing that they are not notified of without it.
//!
//! `events --plugin PATH [--criu PATH]`. In a network and a mount namespace of its own, so that what others do on this machine is
//! not heard. Each tree is dumped and left running, without the plugin and with it, while these listen: NETLINK_SOCK_DIAG for
//! the end of TCP and UDP sockets, every group of NETLINK_ROUTE, inotify on the files of the tree and fanotify on the file system
//! that they are on.

use criu_tests::criu::Criu;
use criu_tests::fixtures::As;
use criu_tests::tree::{NoTree, Tree};
use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What it is, its SPEC (see mkres), and whether CRIU dumps it. Where listeners are in the tree itself they are blockers as soon
/// as they are notified of anything. (CRIU makes TCP sockets and IPv6 ones of UDP itself.)
const TREES: &[(&str, &str, bool)] = &[
    ("listeners", "netlink:proto=4,bind,group=2 netlink:proto=4,bind,group=3 netlink:bind,group=1 file:path=held,size=9,map memfd \
      pipe:data unix-pair:data [ eventfd timerfd unix-named:path=./sock ]", true),
    (
        "sockets",
        "netlink:proto=4,bind,group=2 netlink:proto=4,bind,group=3 netlink:bind,group=1 file:path=held,size=9,map udp udp:v6 \
         tcp tcp-listen tcp-listen:v6 raw unix-pair:data unix-named:path=./sock pipe:data memfd \
         [ eventfd timerfd udp tcp-listen file:path=other,size=9 ]",
        true,
    ),
    // Its directory is opened to see whether CRIU will find the inode, as CRIU itself opens it.
    (WATCH, "inotify netlink:proto=4,bind,group=2 file:path=held,size=9", true),
    (
        "refused",
        "io-uring lock:type=flock dev:path=/dev/fuse tcp-outside udp:cork,data unix-outside file:path=held,size=9,map \
         netlink:bind,group=1 [ pipe-packet lock:type=posix udp tcp-pair:data ]",
        false,
    ),
];

const WATCH: &str = "a watch";

/// One that listens.
struct Listener {
    fd: OwnedFd,
    /// What a read has brought.
    tell: fn(&[u8], &mut Vec<String>),
}

fn ok(what: &str, ret: libc::c_int) -> Result<libc::c_int, String> {
    match ret {
        -1 => Err(format!("{what}: {}", std::io::Error::last_os_error())),
        ret => Ok(ret),
    }
}

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    let part = bytes.get(at..at + len).unwrap_or_default();
    part.iter().rev().fold(0, |all, b| all << 8 | u64::from(*b))
}

impl Listener {
    fn new(fd: libc::c_int, tell: fn(&[u8], &mut Vec<String>)) -> Listener {
        // SAFETY: a new descriptor that no other code knows.
        Listener { fd: unsafe { OwnedFd::from_raw_fd(fd) }, tell }
    }

    fn netlink(protocol: i32, groups: std::ops::RangeInclusive<i32>) -> Result<Listener, String> {
        // SAFETY: numbers, and pointers to locals of the sizes given.
        unsafe {
            let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
            let fd = ok("netlink", libc::socket(libc::AF_NETLINK, kind, protocol))?;
            let mut addr: libc::sockaddr_nl = std::mem::zeroed();
            addr.nl_family = libc::AF_NETLINK as u16;
            ok("bind", libc::bind(fd, (&raw const addr).cast(), size_of_val(&addr) as u32))?;
            for group in groups {
                let joined =
                    libc::setsockopt(fd, libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, (&raw const group).cast(), 4);
                ok("NETLINK_ADD_MEMBERSHIP", joined)?;
            }
            Ok(Listener::new(fd, |bytes, events| {
                let mut at = 0;
                while at + 16 <= bytes.len() {
                    // Of sock_diag: the family of the socket.
                    let (kind, family) = (number(bytes, at + 4, 2), number(bytes, at + 16, 1));
                    events.push(format!("netlink message {kind}, family {family}"));
                    at += (number(bytes, at, 4) as usize).next_multiple_of(4).max(16);
                }
            }))
        }
    }

    /// On everything in this directory and itself.
    fn inotify(dir: &Path) -> Result<Listener, String> {
        // SAFETY: numbers and terminated strings.
        unsafe {
            let fd = ok("inotify", libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK))?;
            let files = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path());
            for path in files.chain([dir.to_path_buf()]) {
                let path = CString::new(path.as_os_str().as_bytes()).map_err(|e| e.to_string())?;
                ok("inotify_add_watch", libc::inotify_add_watch(fd, path.as_ptr(), libc::IN_ALL_EVENTS))?;
            }
            Ok(Listener::new(fd, |bytes, events| {
                let mut at = 0;
                while at + 16 <= bytes.len() {
                    events.push(format!("inotify {:#x} of watch {}", number(bytes, at + 4, 4), number(bytes, at, 4)));
                    at += 16 + number(bytes, at + 12, 4) as usize;
                }
            }))
        }
    }

    /// On the file system of this directory.
    fn fanotify(dir: &Path) -> Result<Listener, String> {
        let path = CString::new(dir.as_os_str().as_bytes()).map_err(|e| e.to_string())?;
        let mask = libc::FAN_OPEN | libc::FAN_ACCESS | libc::FAN_MODIFY | libc::FAN_CLOSE | libc::FAN_ONDIR;
        // SAFETY: numbers and a terminated string.
        unsafe {
            let fd =
                ok("fanotify", libc::fanotify_init(libc::FAN_CLOEXEC | libc::FAN_NONBLOCK, libc::O_RDONLY as u32))?;
            let flags = libc::FAN_MARK_ADD | libc::FAN_MARK_FILESYSTEM;
            ok("fanotify_mark", libc::fanotify_mark(fd, flags, mask, libc::AT_FDCWD, path.as_ptr()))?;
            Ok(Listener::new(fd, |bytes, events| {
                let mut at = 0;
                while at + 24 <= bytes.len() {
                    let file = number(bytes, at + 16, 4) as i32;
                    let path = std::fs::read_link(format!("/proc/self/fd/{file}")).unwrap_or_default();
                    events.push(format!("fanotify {:#x} of {}", number(bytes, at + 8, 8), path.display()));
                    if file >= 0 {
                        libc::close(file);
                    }
                    at += number(bytes, at, 4).max(24) as usize;
                }
            }))
        }
    }

    fn read(&self, events: &mut Vec<String>) {
        let mut buf = vec![0u8; 1 << 16];
        loop {
            // SAFETY: the buffer has that length.
            let n = unsafe { libc::read(self.fd.as_raw_fd(), buf.as_mut_ptr().cast(), buf.len()) };
            match usize::try_from(n) {
                Ok(n) if n > 0 => (self.tell)(&buf[..n], events),
                _ => return,
            }
        }
    }
}

/// What all of them have been notified of since the last time, sorted.
fn events(listeners: &[Listener]) -> Vec<String> {
    let mut all = Vec::new();
    listeners.iter().for_each(|l| l.read(&mut all));
    all.sort();
    all
}

/// What is in `with` and not, or not as often, in `alone`.
fn more(with: &[String], alone: &[String]) -> Vec<String> {
    let mut left = alone.to_vec();
    with.iter()
        .filter(|event| match left.iter().position(|e| e == *event) {
            Some(at) => {
                left.swap_remove(at);
                false
            }
            None => true,
        })
        .cloned()
        .collect()
}

/// The line of one tree; `Err`: what differs.
fn trial(
    criu: &Criu,
    (name, spec, dumps): (&str, &str, bool),
    trees: &Path,
    base: &Path,
) -> Result<Result<String, String>, NoTree> {
    let broken = |e: String| NoTree::Broken(e);
    let dir = trees.join(&criu.version).join(name);
    let tree = Tree::make(spec, &dir)?;
    let files = dir.join("files");
    let listeners = [
        Listener::netlink(libc::NETLINK_SOCK_DIAG, 1..=4),
        Listener::netlink(libc::NETLINK_ROUTE, 1..=31),
        Listener::inotify(&files),
        Listener::fanotify(trees),
    ];
    let listeners = listeners.into_iter().collect::<Result<Vec<_>, _>>().map_err(broken)?;
    let args = ["-t", &tree.pid.to_string(), "--leave-running"].map(String::from);
    let mut runs = Vec::new();
    for lib in ["none", "ours"] {
        events(&listeners);
        let out = base.join(format!("{}-{lib}", criu.version));
        let _ = std::fs::remove_dir_all(&out);
        let ran = criu.run("dump", &out, &base.join(lib), &args, As::Root).map_err(broken)?;
        if lib == "none" && dumps && !ran.ok {
            return Err(NoTree::Skip(format!("CRIU alone: {}", ran.reason())));
        }
        if ran.ok != dumps {
            return Ok(Err(format!("{lib}: {}", ran.reason())));
        }
        if lib == "ours" && !ran.log.contains("look at") {
            return Ok(Err("the plugin has not looked".into()));
        }
        runs.push(events(&listeners));
    }
    let mut more = more(&runs[1], &runs[0]);
    if name == WATCH {
        let root = format!(" of {}", trees.display());
        more.retain(|event| !event.starts_with("fanotify ") || !event.ends_with(&root));
    }
    if let Some(change) = tree.disturbed() {
        return Ok(Err(change));
    }
    Ok(match more.is_empty() {
        true => Ok(format!("{} events of CRIU's own, none of the plugin's", runs[0].len())),
        false => Err(format!("only with the plugin: {}", more.join("; "))),
    })
}

fn body() -> Result<ExitCode, String> {
    let (mut plugin, mut criu) = (None, None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let value = args.next().ok_or(format!("{arg} needs a value"))?;
        match arg.as_str() {
            "--plugin" => plugin = Some(PathBuf::from(value)),
            "--criu" => criu = Some(PathBuf::from(value)),
            _ => return Err(format!("{arg}?")),
        }
    }
    let plugin = plugin.ok_or("--plugin PATH")?;
    let all = match &criu {
        Some(path) => vec![Criu::at(path)?],
        None => Criu::provisioned()?,
    };
    // SAFETY: numbers; this process has one thread. Orphans of the trees come to us and are ended here.
    unsafe {
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        ok("a network namespace", libc::unshare(libc::CLONE_NEWNET))?;
    }
    criu_tests::mounts::own_namespace()?;
    criu_tests::mounts::loopback_up()?;
    let base = std::env::temp_dir().join(format!("preflight-events-{}", std::process::id()));
    let io = |e: std::io::Error| format!("{}: {e}", base.display());
    let trees = base.join("trees");
    for d in ["none", "ours", "trees"] {
        std::fs::create_dir_all(base.join(d)).map_err(io)?;
    }
    std::fs::copy(&plugin, base.join("ours/preflight_plugin.so")).map_err(io)?;
    let at = CString::new(trees.as_os_str().as_bytes()).map_err(|e| e.to_string())?;
    let null = std::ptr::null();
    // SAFETY: terminated strings.
    ok("a tmpfs", unsafe { libc::mount(c"tmpfs".as_ptr(), at.as_ptr(), c"tmpfs".as_ptr(), 0, null) })?;
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for criu in &all {
        for tree in TREES {
            let name = format!("{} {}", criu.version, tree.0);
            match trial(criu, *tree, &trees, &base) {
                Ok(Ok(said)) => {
                    passed += 1;
                    println!("ok   {name}: {said}");
                }
                Ok(Err(why)) | Err(NoTree::Broken(why)) => {
                    failed += 1;
                    println!("FAIL {name}: {why}");
                }
                Err(NoTree::Skip(why)) => {
                    skipped += 1;
                    println!("skip {name}: {why}");
                }
            }
        }
    }
    // SAFETY: a terminated string.
    unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) };
    let _ = std::fs::remove_dir_all(&base);
    println!("events: {passed} passed, {failed} failed, {skipped} skipped");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn main() -> ExitCode {
    body().unwrap_or_else(|e| {
        eprintln!("events: {e}");
        ExitCode::from(2)
    })
}
