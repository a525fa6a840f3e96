//! Thin cover over libc: a failed call becomes a reason to skip.

use crate::ctx::{Fail, Res};
use std::ffi::CString;

/// `ret`, or a skip with the call's name and the kernel's answer.
pub fn ok<T: Copy + PartialEq + From<i8>>(what: &str, ret: T) -> Res<T> {
    if ret == T::from(-1i8) {
        return Err(Fail::Skip(format!("{what}: {}", std::io::Error::last_os_error())));
    }
    Ok(ret)
}

/// A raw system call that answers with a descriptor or a small number.
pub fn call(what: &str, nr: libc::c_long, a: [u64; 5]) -> Res<i32> {
    let r = unsafe { libc::syscall(nr, a[0], a[1], a[2], a[3], a[4]) };
    ok(what, r).map(|v| v as i32)
}

pub fn cstr(s: &str) -> CString {
    CString::new(s.replace('\0', "")).unwrap_or_default()
}

pub fn fork() -> Res<i32> {
    unsafe { test_signals::fork() }.map_err(|e| Fail::Skip(format!("fork: {e}")))
}

/// For a child.
pub fn wait(child: i32) {
    let _ = test_signals::wait(child, 0);
}

pub fn signal(pid: i32, signal: i32) -> Res {
    test_signals::signal(pid, signal).map_err(|e| Fail::Skip(format!("kill: {e}")))
}

/// Kills a child and waits for it.
pub fn end(child: i32) -> Res {
    test_signals::end(child).map_err(|e| Fail::Skip(format!("kill: {e}")))
}

pub fn close(fd: i32) {
    unsafe { libc::close(fd) };
}

pub fn pipe() -> Res<(i32, i32)> {
    pipe2(0)
}

pub fn pipe2(flags: i32) -> Res<(i32, i32)> {
    let mut p = [0; 2];
    ok("pipe2", unsafe { libc::pipe2(p.as_mut_ptr(), flags) })?;
    Ok((p[0], p[1]))
}

pub fn open(path: &str, flags: i32) -> Res<i32> {
    ok(&format!("open {path}"), unsafe { libc::open(cstr(path).as_ptr(), flags, 0o644) })
}

pub fn socket(domain: i32, kind: i32, proto: i32) -> Res<i32> {
    ok(&format!("socket({domain}, {kind}, {proto})"), unsafe { libc::socket(domain, kind, proto) })
}

pub fn socketpair(kind: i32) -> Res<(i32, i32)> {
    let mut p = [0; 2];
    ok("socketpair", unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, p.as_mut_ptr()) })?;
    Ok((p[0], p[1]))
}

pub fn setsockopt(fd: i32, level: i32, opt: i32, value: i32) -> Res {
    let r = unsafe { libc::setsockopt(fd, level, opt, (&raw const value).cast(), 4) };
    ok(&format!("setsockopt({level}, {opt})"), r).map(|_| ())
}

pub fn ioctl(what: &str, fd: i32, nr: libc::c_ulong, arg: u64) -> Res<i32> {
    ok(what, unsafe { libc::ioctl(fd, nr as _, arg) })
}

pub fn fcntl(what: &str, fd: i32, cmd: i32, arg: i32) -> Res<i32> {
    ok(what, unsafe { libc::fcntl(fd, cmd, arg) })
}

/// Maps `len` bytes and returns the address.
pub fn mmap(what: &str, len: usize, prot: i32, flags: i32, fd: i32, off: i64) -> Res<usize> {
    let p = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, flags, fd, off) };
    if p == libc::MAP_FAILED {
        return Err(Fail::Skip(format!("mmap of {what}: {}", std::io::Error::last_os_error())));
    }
    Ok(p as usize)
}

pub fn write_all(fd: i32, mut data: &[u8]) {
    while !data.is_empty() {
        let n = unsafe { libc::write(fd, data.as_ptr().cast(), data.len()) };
        if n <= 0 {
            return;
        }
        data = &data[n as usize..];
    }
}

/// As `read_all`, but no longer than so many seconds.
pub fn read_all_within(fd: i32, seconds: u64) -> String {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(seconds);
    let mut all = Vec::new();
    let mut buf = [0u8; 4096];
    loop {
        let left = end.saturating_duration_since(std::time::Instant::now()).as_millis() as i32;
        let mut p = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        if unsafe { libc::poll(&mut p, 1, left) } == 0 {
            return "broken a process of the tree does not report\n".into();
        }
        let n = unsafe { libc::read(fd, buf.as_mut_ptr().cast(), buf.len()) };
        if n <= 0 {
            break;
        }
        all.extend_from_slice(&buf[..n as usize]);
    }
    close(fd);
    String::from_utf8_lossy(&all).into_owned()
}

/// Reads until the last writer has gone, and closes.
pub fn read_all(fd: i32) -> String {
    let mut all = Vec::new();
    let mut buf = [0u8; 4096];
    loop {
        let n = unsafe { libc::read(fd, buf.as_mut_ptr().cast(), buf.len()) };
        if n <= 0 {
            break;
        }
        all.extend_from_slice(&buf[..n as usize]);
    }
    close(fd);
    String::from_utf8_lossy(&all).into_owned()
}

/// The same file with a number out of the way of what will be made.
pub fn move_high(fd: i32) -> i32 {
    let high = unsafe { libc::fcntl(fd, libc::F_DUPFD, 910) };
    close(fd);
    high
}

pub fn close_all_but(keep: &[i32]) {
    let mut keep: Vec<u32> = keep.iter().filter(|f| **f >= 0).map(|f| *f as u32).collect();
    keep.sort_unstable();
    let mut from = 0;
    for k in keep {
        if from < k {
            unsafe { libc::syscall(libc::SYS_close_range, from, k - 1, 0) };
        }
        from = k + 1;
    }
    unsafe { libc::syscall(libc::SYS_close_range, from, u32::MAX, 0) };
}

pub fn null_stdio() {
    unsafe {
        let n = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        for fd in 0..3 {
            libc::dup2(n, fd);
        }
        if n > 2 {
            libc::close(n);
        }
    }
}

pub fn temp_dir() -> Result<String, String> {
    let mut t = *b"/tmp/mkres-XXXXXX\0";
    if unsafe { libc::mkdtemp(t.as_mut_ptr().cast()) }.is_null() {
        return Err(format!("mkdtemp: {}", std::io::Error::last_os_error()));
    }
    Ok(String::from_utf8_lossy(&t[..t.len() - 1]).into_owned())
}

/// Ends everything below this process, orphans that came to it included.
pub fn kill_descendants() {
    let me = unsafe { libc::getpid() };
    for _ in 0..2000 {
        let Ok(list) = std::fs::read_to_string(format!("/proc/self/task/{me}/children")) else { return };
        if list.trim().is_empty() {
            return;
        }
        for pid in list.split_whitespace().filter_map(|p| p.parse::<i32>().ok()) {
            let _ = test_signals::signal(pid, libc::SIGKILL);
        }
        // Whoever is ready: the first process of a pid namespace is not before all others of it are waited for.
        test_signals::reap_all();
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// A socket address of AF_UNIX; a name that starts with `@` is abstract.
pub fn unix_addr(name: &str) -> (libc::sockaddr_un, u32) {
    let mut a: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    a.sun_family = libc::AF_UNIX as u16;
    let mut bytes = name.as_bytes().to_vec();
    let mut extra = 1;
    if bytes.first() == Some(&b'@') {
        bytes[0] = 0;
        extra = 0;
    }
    for (d, s) in a.sun_path.iter_mut().zip(&bytes) {
        *d = *s as _;
    }
    (a, (2 + bytes.len() + extra) as u32)
}

pub fn bind<T>(what: &str, fd: i32, addr: &T, len: u32) -> Res {
    ok(&format!("bind {what}"), unsafe { libc::bind(fd, (&raw const *addr).cast(), len) }).map(|_| ())
}

pub fn connect<T>(what: &str, fd: i32, addr: &T, len: u32) -> Res {
    ok(&format!("connect {what}"), unsafe { libc::connect(fd, (&raw const *addr).cast(), len) }).map(|_| ())
}

pub fn listen(fd: i32, backlog: i32) -> Res {
    ok("listen", unsafe { libc::listen(fd, backlog) }).map(|_| ())
}

pub fn accept(fd: i32) -> Res<i32> {
    ok("accept", unsafe { libc::accept(fd, std::ptr::null_mut(), std::ptr::null_mut()) })
}

pub fn send(fd: i32, data: &[u8], flags: i32) -> Res<isize> {
    ok("send", unsafe { libc::send(fd, data.as_ptr().cast(), data.len(), flags) })
}

/// Queues `payload` (a descriptor) on the other end of `via`.
pub fn send_fd(via: i32, payload: i32) -> Res {
    send_fds(via, &[payload])
}

/// Queues one message of one byte with these descriptors.
pub fn send_fds(via: i32, payload: &[i32]) -> Res {
    let mut byte = [b'x'];
    let mut iov = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SCM_MAX_FD is 253.
    let mut control = [0u64; 136];
    let bytes = size_of_val(payload) as u32;
    let mut msg: libc::msghdr = unsafe { std::mem::zeroed() };
    msg.msg_iov = &mut iov;
    msg.msg_iovlen = 1;
    msg.msg_control = control.as_mut_ptr().cast();
    unsafe {
        msg.msg_controllen = libc::CMSG_SPACE(bytes) as _;
        let c = libc::CMSG_FIRSTHDR(&msg);
        (*c).cmsg_level = libc::SOL_SOCKET;
        (*c).cmsg_type = libc::SCM_RIGHTS;
        (*c).cmsg_len = libc::CMSG_LEN(bytes) as _;
        for (nth, fd) in payload.iter().enumerate() {
            libc::CMSG_DATA(c).cast::<i32>().add(nth).write_unaligned(*fd);
        }
        ok("sendmsg", libc::sendmsg(via, &msg, 0)).map(|_| ())
    }
}

/// The number that /proc shows a process by, which may be that of a pid namespace above ours.
pub fn shown(pid: i32) -> Res<i32> {
    let fd = ok("pidfd_open", unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })? as i32;
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
    close(fd);
    let number = info.lines().find_map(|l| l.strip_prefix("Pid:")?.trim().parse().ok());
    number.ok_or_else(|| Fail::Skip("/proc does not show its pid".into()))
}
