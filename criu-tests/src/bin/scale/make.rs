//! What the trees are made of: plain system calls of single-threaded processes.

use std::ffi::CString;
use std::os::fd::RawFd;

/// Tells the trees of the short form.
pub const SHORT: &str = "PREFLIGHT_SCALE_SHORT";

/// Of what is shared, how much: in the short form less.
pub fn much(number: usize) -> usize {
    number / if std::env::var_os(SHORT).is_some() { 10 } else { 1 }
}

/// What a call has answered, if it has not failed.
pub fn ok(answer: i32) -> Option<i32> {
    (answer >= 0).then_some(answer)
}

pub fn each<T>(n: usize, mut one: impl FnMut(usize) -> Option<T>) -> Option<()> {
    (0..n).try_for_each(|i| one(i).map(drop))
}

pub fn open(path: &str, flags: i32) -> Option<RawFd> {
    let path = CString::new(path).ok()?;
    // SAFETY: the path lives through the call.
    ok(unsafe { libc::open(path.as_ptr(), flags, 0o600) })
}

/// Waits for the end.
pub fn rest() -> ! {
    loop {
        // SAFETY: takes nothing.
        unsafe { libc::pause() };
    }
}

/// The root's first steps.
pub fn settle() {
    // SAFETY: plain system calls; every pointer is to a live local.
    unsafe {
        libc::setsid();
        libc::chdir(c"/".as_ptr());
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_max = limit.rlim_max.max(100_000);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}

pub fn pipe() -> Option<[RawFd; 2]> {
    let mut two = [0; 2];
    // SAFETY: the kernel writes two numbers.
    ok(unsafe { libc::pipe(two.as_mut_ptr()) })?;
    Some(two)
}

pub fn pair(kind: i32) -> Option<[RawFd; 2]> {
    let mut two = [0; 2];
    // SAFETY: as above.
    ok(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, two.as_mut_ptr()) })?;
    Some(two)
}

fn close(fd: RawFd) {
    // SAFETY: a descriptor of ours.
    unsafe { libc::close(fd) };
}

/// One child for each number, which makes its part and rests. Returns when all are ready.
pub fn children(n: usize, mut part: impl FnMut(usize) -> Option<()>) -> Option<()> {
    let [ready, told] = pipe()?;
    for i in 0..n {
        // SAFETY: the child is single-threaded, as we are.
        if unsafe { test_signals::fork() }.ok()? == 0 {
            close(ready);
            part(i).unwrap_or_else(|| std::process::exit(1));
            say(told);
            close(told);
            rest();
        }
    }
    close(told);
    all_said(ready, n)?;
    close(ready);
    Some(())
}

/// A child that makes its part and rests.
pub fn forked(mut part: impl FnMut() -> Option<()>) -> Option<()> {
    children(1, |_| part())
}

/// A child of a child of a child.
pub fn line(n: usize) -> Option<()> {
    if n == 0 {
        return Some(());
    }
    let [ready, told] = pipe()?;
    for left in (0..n).rev() {
        // SAFETY: as above.
        match unsafe { test_signals::fork() }.ok()? {
            0 if left == 0 => say(told),
            0 => continue,
            _ if left + 1 == n => break,
            _ => {}
        }
        rest();
    }
    close(told);
    all_said(ready, 1)
}

/// Processes whose first thread has ended, while another lives on, and a child of theirs.
pub fn headless(n: usize) -> Option<()> {
    let [ready, told] = pipe()?;
    for _ in 0..n {
        // SAFETY: as above.
        if unsafe { test_signals::fork() }.ok()? == 0 {
            close(ready);
            children(1, |_| Some(())).unwrap_or_else(|| std::process::exit(1));
            std::thread::spawn(move || {
                say(told);
                rest()
            });
            // SAFETY: ends this thread alone.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        }
    }
    close(told);
    all_said(ready, n)
}

fn say(to: RawFd) {
    // SAFETY: one byte that lives.
    unsafe { libc::write(to, b"+".as_ptr().cast(), 1) };
}

fn all_said(from: RawFd, n: usize) -> Option<()> {
    let mut byte = [0u8; 1];
    each(n, |_| {
        // SAFETY: room for one byte.
        (unsafe { libc::read(from, byte.as_mut_ptr().cast(), 1) } == 1).then_some(())
    })
}

extern "C" fn resting(_: *mut libc::c_void) -> libc::c_int {
    rest()
}

/// Children that share with us what `flags` say.
pub fn sharers(n: usize, flags: i32) -> Option<()> {
    each(n, |_| {
        let stack: &'static mut [u128] = Box::leak(vec![0u128; 256].into_boxed_slice());
        // SAFETY: the stack is nobody else's and stays. The child only pauses.
        let top = unsafe { stack.as_mut_ptr().add(stack.len()) };
        // SAFETY: as above.
        unsafe { test_signals::clone_at(resting, top.cast(), flags | libc::SIGCHLD, std::ptr::null_mut()) }.ok()
    })
}

pub fn threads(n: usize) -> Option<()> {
    each(n, |_| std::thread::Builder::new().stack_size(16 * 1024).spawn(std::thread::park).ok())
}

pub fn zombies(n: usize) -> Option<()> {
    each(n, |_| {
        // SAFETY: as above.
        let pid = unsafe { test_signals::fork() }.ok()?;
        if pid == 0 {
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) };
        }
        // SAFETY: the kernel fills in what it is given.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        ok(unsafe { libc::waitid(libc::P_PID, pid as u32, &mut info, libc::WEXITED | libc::WNOWAIT) })
    })
}

/// A session of several: groups, pipes and sockets between them, one dead. With a terminal of its own, if wanted.
pub fn family(terminal: bool) -> Option<()> {
    // SAFETY: takes nothing.
    ok(unsafe { libc::setsid() })?;
    if terminal {
        terminals(1)?;
    }
    pipe()?;
    pair(libc::SOCK_STREAM)?;
    children(4, |_| {
        // SAFETY: plain numbers.
        ok(unsafe { libc::setpgid(0, 0) })?;
        pair(libc::SOCK_STREAM)?;
        Some(())
    })?;
    zombies(1)
}

/// Pseudoterminals, both sides open; a leader's first becomes that of its session.
pub fn terminals(n: usize) -> Option<()> {
    each(n, |_| {
        let master = open("/dev/ptmx", libc::O_RDWR)?;
        let mut number = 0u32;
        let locked = 0i32;
        // SAFETY: the kernel writes one number, and reads one.
        ok(unsafe { libc::ioctl(master, libc::TIOCGPTN, &mut number) })?;
        // SAFETY: as above.
        ok(unsafe { libc::ioctl(master, libc::TIOCSPTLCK, &locked) })?;
        open(&format!("/dev/pts/{number}"), libc::O_RDWR)
    })
}

/// An ordinary server's files.
pub fn files(n: usize, dir: &str) -> Option<()> {
    each(n, |i| open(&format!("{dir}/{i}"), libc::O_RDWR | libc::O_CREAT))
}

/// One file opened again and again, in one process and in another that has a lock on it.
pub fn same_file(n: usize, dir: &str) -> Option<()> {
    let path = format!("{dir}/same");
    let flags = libc::O_RDWR | libc::O_CREAT;
    children(2, |i| {
        each(n / 2, |_| open(&path, flags))?;
        (i == 0).then_some(()).or_else(|| ranges(open(&path, flags)?, 1))
    })
}

pub fn copies(n: usize, fd: RawFd) -> Option<()> {
    // SAFETY: a descriptor of ours.
    each(n, |_| ok(unsafe { libc::dup(fd) }))
}

/// POSIX locks of single bytes.
pub fn ranges(fd: RawFd, n: usize) -> Option<()> {
    each(n, |i| {
        // SAFETY: zeros are a good lock.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        (lock.l_type, lock.l_start, lock.l_len) = (libc::F_WRLCK as i16, 2 * i as i64, 1);
        // SAFETY: the lock lives through the call.
        ok(unsafe { libc::fcntl(fd, libc::F_SETLK, &lock) })
    })
}

pub fn locks(n: usize, dir: &str) -> Option<()> {
    ranges(open(&format!("{dir}/locked"), libc::O_RDWR | libc::O_CREAT)?, n)
}

/// An epoll file that watches `n` descriptors, one of which is then moved to another number.
pub fn epoll(n: usize, moved: bool) -> Option<()> {
    let moved = moved && n > 0;
    // SAFETY: plain numbers, and an event that lives.
    unsafe {
        let epoll = ok(libc::epoll_create1(0))?;
        let mut last = -1;
        each(n, |_| {
            last = ok(libc::eventfd(0, 0))?;
            let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
            ok(libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, last, &mut event))
        })?;
        if moved {
            ok(libc::dup(last))?;
            close(last);
        }
    }
    Some(())
}

/// What a server with many connections has.
pub fn epoll_sockets(n: usize) -> Option<()> {
    // SAFETY: plain numbers, and an event that lives.
    unsafe {
        let epoll = ok(libc::epoll_create1(0))?;
        each(n, |_| {
            let [watched, _] = pair(libc::SOCK_STREAM)?;
            let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
            ok(libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, watched, &mut event))
        })
    }
}

/// One inotify with many watches; of files deep below, if `apart` in one directory each.
pub fn watches(n: usize, dir: &str, apart: bool) -> Option<()> {
    // SAFETY: plain numbers and a path that lives.
    let inotify = ok(unsafe { libc::inotify_init() })?;
    each(n, |i| {
        let path = if apart { format!("{dir}/d{i}/f") } else { format!("{dir}/w{i}") };
        std::fs::create_dir_all(std::path::Path::new(&path).parent()?).ok()?;
        close(open(&path, libc::O_RDWR | libc::O_CREAT)?);
        let path = CString::new(path).ok()?;
        // SAFETY: as above.
        ok(unsafe { libc::inotify_add_watch(inotify, path.as_ptr(), libc::IN_MODIFY) })
    })
}

fn mapped(length: usize, flags: i32, fd: RawFd) -> Option<()> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let at = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, fd, 0) };
    (at != libc::MAP_FAILED).then_some(())
}

fn page(path: &str) -> Option<RawFd> {
    let fd = open(path, libc::O_RDWR | libc::O_CREAT)?;
    // SAFETY: a descriptor of ours.
    ok(unsafe { libc::ftruncate(fd, 4096) })?;
    Some(fd)
}

/// Mappings that do not merge: every second one of a file, the others anonymous.
pub fn maps(n: usize, dir: &str) -> Option<()> {
    let fd = page(&format!("{dir}/mapped"))?;
    each(n, |i| match i % 2 {
        0 => mapped(4096, libc::MAP_PRIVATE, fd),
        _ => mapped(4096, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1),
    })?;
    close(fd);
    Some(())
}

pub fn files_mapped(n: usize, dir: &str) -> Option<()> {
    each(n, |i| {
        let fd = page(&format!("{dir}/{i}"))?;
        mapped(4096, libc::MAP_SHARED, fd)?;
        close(fd);
        Some(())
    })
}

pub fn unshare(flags: i32) -> Option<()> {
    // SAFETY: plain numbers.
    ok(unsafe { libc::unshare(flags) })?;
    Some(())
}

#[derive(Clone, Copy, PartialEq)]
pub enum Mounts {
    /// Each of its own, one beside the other.
    Separate,
    /// All of one file system.
    Bound,
    /// Each on the one before.
    Stacked,
}

fn mount(source: &str, target: &str, kind: Option<&std::ffi::CStr>, flags: libc::c_ulong) -> Option<()> {
    let (source, target) = (CString::new(source).ok()?, CString::new(target).ok()?);
    let kind = kind.map_or(std::ptr::null(), |k| k.as_ptr());
    // SAFETY: strings that live through the call.
    ok(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind, flags, std::ptr::null()) }).map(drop)
}

/// In a mount namespace of our own, below a tmpfs.
pub fn mounts(n: usize, dir: &str, how: Mounts) -> Option<()> {
    unshare(libc::CLONE_NEWNS)?;
    mount("none", "/", None, libc::MS_REC | libc::MS_PRIVATE)?;
    let top = format!("{dir}/m");
    std::fs::create_dir_all(&top).ok()?;
    mount("top", &top, Some(c"tmpfs"), 0)?;
    each(n, |i| {
        let at = if how == Mounts::Stacked { format!("{top}/s") } else { format!("{top}/{i}") };
        std::fs::create_dir_all(&at).ok()?;
        match how {
            Mounts::Bound => mount(&top, &at, None, libc::MS_BIND),
            _ => mount("each", &at, Some(c"tmpfs"), 0),
        }
    })
}

/// A queue with a socket in it, whose queue has a socket in it, and so on.
pub fn queued(depth: usize) -> Option<()> {
    let [mut inner, _keep] = pair(libc::SOCK_STREAM)?;
    for _ in 0..depth {
        let [from, to] = pair(libc::SOCK_STREAM)?;
        send(from, inner)?;
        close(inner);
        close(from);
        inner = to;
    }
    Some(())
}

fn send(through: RawFd, fd: RawFd) -> Option<()> {
    let mut byte = *b"+";
    let mut control = [0u64; 4];
    // SAFETY: every pointer of the message is to a live local, large enough.
    unsafe {
        let mut iov = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&mut iov, 1);
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(4) as usize;
        let head = libc::CMSG_FIRSTHDR(&message);
        ((*head).cmsg_level, (*head).cmsg_type) = (libc::SOL_SOCKET, libc::SCM_RIGHTS);
        (*head).cmsg_len = libc::CMSG_LEN(4) as usize;
        libc::CMSG_DATA(head).cast::<RawFd>().write_unaligned(fd);
        ok(libc::sendmsg(through, &message, 0) as i32).map(drop)
    }
}
