//! What grows. Each tree is made by this same program, started again as `--tree KIND N DIR`.

use super::make::*;
use std::fs::File;
use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};

/// One thing of which a tree can have many.
pub struct Kind {
    pub name: &'static str,
    /// How many: for the short form, and for the long one.
    pub short: [usize; 2],
    pub long: &'static [usize],
    /// Makes the tree; runs in its root.
    pub make: fn(usize, &str) -> Option<()>,
    /// What somebody outside of the tree holds meanwhile.
    pub outside: fn(usize, &str) -> Option<Vec<File>>,
}

const fn kind(
    name: &'static str,
    short: [usize; 2],
    long: &'static [usize],
    make: fn(usize, &str) -> Option<()>,
) -> Kind {
    Kind { name, short, long, make, outside: |_, _| Some(Vec::new()) }
}

pub const KINDS: &[Kind] = &[
    kind("tasks", [20, 80], &[300, 1_000, 3_000], |n, _| children(n, |_| Some(()))),
    // 1,000 tasks, 19,900 descriptors, 60,000 mappings: what the limits of a look have to allow.
    kind("together", [20, 80], &[100, 300, 1_000], |n, dir| {
        children(n, |_| Some(()))?;
        files(n * 199 / 10, dir)?;
        maps(n * 60, dir)
    }),
    kind("tasks-in-line", [10, 40], &[100, 300, 1_000], |n, _| line(n)),
    kind("threads", [50, 200], &[500, 1_500, 5_000], |n, _| threads(n)),
    kind("zombies", [50, 200], &[500, 1_000, 3_000], |n, _| zombies(n)),
    kind("zombies-with-children", [10, 40], &[100, 300, 1_000], |n, _| headless(n)),
    kind("sessions", [10, 40], &[100, 300, 1_000], |n, _| children(n, |_| family(false))),
    kind("terminal-sessions", [4, 16], &[15, 60, 240], |n, _| children(n, |_| family(true))),
    kind("terminals", [20, 80], &[100, 300, 900], |n, _| terminals(n)),
    kind("fds", [500, 2_000], &[2_000, 6_000, 19_900], files),
    kind("fds-of-tasks", [10, 40], &[100, 300, 1_000], |n, dir| {
        files(20, dir)?;
        children(n, |_| Some(()))
    }),
    kind("table-shared", [5, 20], &[20, 60, 200], |n, dir| {
        files(much(19_900), dir)?;
        sharers(n, libc::CLONE_FILES)
    }),
    kind("table-shared-by-siblings", [5, 20], &[20, 60, 200], |n, dir| {
        forked(|| {
            files(much(19_900), dir)?;
            sharers(n, libc::CLONE_FILES | libc::CLONE_PARENT)
        })
    }),
    kind("same-file", [500, 2_000], &[2_000, 6_000, 19_900], same_file),
    kind("device-places", [500, 2_000], &[2_000, 6_000, 19_900], |n, _| {
        let device = open("/dev/loop-control", libc::O_RDWR)?;
        copies(n, device)
    }),
    kind("eventfds", [500, 2_000], &[2_000, 6_000, 19_900], |n, _| each(n, |_| ok(unsafe { libc::eventfd(0, 0) }))),
    kind("pidfds", [100, 400], &[500, 2_000, 5_000], |n, _| {
        each(n, |_| ok(unsafe { libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) } as i32))
    }),
    kind("pipes", [100, 400], &[500, 2_000, 5_000], |n, _| each(n, |_| pipe())),
    kind("unix-pairs", [250, 1_000], &[1_000, 3_000, 9_000], |n, _| each(n, |_| pair(libc::SOCK_STREAM))),
    kind("unix-listeners", [250, 1_000], &[1_000, 3_000, 10_000], |n, dir| {
        each(n, |i| UnixListener::bind(format!("{dir}/{i}")).ok().map(keep))
    }),
    kind("unix-to-outside", [50, 200], &[200, 600, 2_000], |n, dir| {
        each(n, |_| UnixStream::connect(format!("{dir}/outside")).ok().map(keep))
    })
    .with(accepting),
    kind("unix-queues", [50, 200], &[200, 600, 2_000], |n, _| each(n, |_| queued(1))),
    kind("queue-depth", [10, 40], &[50, 100, 200], |n, _| queued(n)),
    kind("tcp-listeners", [100, 400], &[500, 2_000, 5_000], |n, _| {
        each(n, |_| TcpListener::bind("127.0.0.1:0").ok().map(keep))
    }),
    kind("tcp-connected", [50, 200], &[300, 1_000, 3_000], |n, _| tcp(n)),
    kind("udp", [100, 400], &[500, 2_000, 5_000], |n, _| each(n, |_| UdpSocket::bind("127.0.0.1:0").ok().map(keep))),
    kind("netlink", [100, 400], &[500, 2_000, 5_000], |n, _| {
        each(n, |_| ok(unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, 0) }))
    }),
    kind("packet", [20, 80], &[100, 300, 1_000], |n, _| {
        each(n, |_| ok(unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) }))
    }),
    kind("epoll-entries", [250, 1_000], &[1_000, 3_000, 10_000], |n, _| epoll(n, false)),
    kind("epoll-sockets", [250, 1_000], &[1_000, 3_000, 9_000], |n, _| epoll_sockets(n)),
    kind("epoll-moved", [100, 400], &[300, 1_000, 3_000], |n, _| epoll(n, true)),
    kind("epolls", [100, 400], &[300, 1_000, 3_000], |n, _| each(n, |_| epoll(2, false))),
    kind("inotify-watches", [250, 1_000], &[1_000, 3_000, 10_000], |n, dir| watches(n, dir, false)),
    kind("inotify-files", [50, 200], &[200, 600, 2_000], |n, dir| watches(n, dir, true)),
    kind("locks", [250, 1_000], &[1_000, 3_000, 10_000], locks),
    kind("locked-files", [100, 400], &[500, 2_000, 5_000], |n, dir| {
        each(n, |i| {
            let fd = open(&format!("{dir}/{i}"), libc::O_RDWR | libc::O_CREAT)?;
            ok(unsafe { libc::flock(fd, libc::LOCK_EX) })
        })
    }),
    kind("locks-of-others", [500, 2_000], &[1_000, 3_000, 10_000], |_, dir| files(1_000, dir)).with(|n, dir| {
        let file = File::create(format!("{dir}/outside")).ok()?;
        ranges(file.as_raw_fd(), n)?;
        Some(vec![file])
    }),
    kind("maps", [2_000, 8_000], &[6_000, 20_000, 60_000], maps),
    kind("files-mapped", [200, 800], &[1_000, 3_000, 10_000], files_mapped),
    kind("mm-shared", [4, 16], &[4, 12, 40], |n, dir| {
        maps(much(60_000), dir)?;
        sharers(n, libc::CLONE_VM)
    }),
    kind("mounts", [250, 1_000], &[1_500, 5_000, 15_000], |n, dir| mounts(n, dir, Mounts::Separate)),
    kind("mounts-bound", [250, 1_000], &[1_500, 5_000, 15_000], |n, dir| mounts(n, dir, Mounts::Bound)),
    kind("mounts-stacked", [100, 400], &[500, 1_500, 5_000], |n, dir| mounts(n, dir, Mounts::Stacked)),
    kind("mounts-open", [100, 400], &[500, 1_500, 5_000], |n, dir| {
        mounts(n, dir, Mounts::Separate)?;
        each(n, |i| open(&format!("{dir}/m/{i}/f"), libc::O_RDWR | libc::O_CREAT))
    }),
    kind("mount-namespaces", [5, 20], &[20, 60, 200], |n, _| children(n, |_| unshare(libc::CLONE_NEWNS))),
    kind("net-namespaces", [5, 20], &[20, 60, 200], |n, _| children(n, |_| unshare(libc::CLONE_NEWNET))),
    kind("fds-of-outsider", [500, 2_000], &[1_000, 3_000, 10_000], |_, dir| {
        UnixStream::connect(format!("{dir}/outside")).ok().map(keep)?;
        Some(())
    })
    .with(|n, dir| {
        // Before what is looked for.
        let mut all = (0..n).map(|_| File::open("/dev/null").ok()).collect::<Option<Vec<File>>>()?;
        all.append(&mut accepting(1, dir)?);
        Some(all)
    }),
];

impl Kind {
    const fn with(self, outside: fn(usize, &str) -> Option<Vec<File>>) -> Kind {
        Kind { outside, ..self }
    }
}

fn keep(fd: impl IntoRawFd) -> i32 {
    fd.into_raw_fd()
}

/// Connections to ourselves.
fn tcp(n: usize) -> Option<()> {
    let listener = TcpListener::bind("127.0.0.1:0").ok()?;
    let at = listener.local_addr().ok()?;
    each(n, |_| {
        let client = TcpStream::connect(at).ok()?;
        let (server, _) = listener.accept().ok()?;
        Some(keep(client) + keep(server))
    })?;
    keep(listener);
    Some(())
}

/// A listener that takes `n` connections meanwhile.
fn accepting(n: usize, dir: &str) -> Option<Vec<File>> {
    let listener = UnixListener::bind(format!("{dir}/outside")).ok()?;
    let all = listener.try_clone().ok()?;
    // Held until the other end is dropped.
    let (mut held, ours) = UnixStream::pair().ok()?;
    std::thread::spawn(move || {
        let taken: Vec<_> = (0..n).map_while(|_| all.accept().ok()).collect();
        let _ = held.read(&mut [0]);
        drop(taken);
    });
    Some(vec![File::from(OwnedFd::from(listener)), File::from(OwnedFd::from(ours))])
}
