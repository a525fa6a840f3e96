//! Descriptors, the files behind them, and who shares them.

use super::{link_at, read, sockets, Look};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

pub fn see(look: &mut Look, pid: i32, label: &str) {
    let list = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let mut fds: Vec<i32> = list.filter_map(|e| e.file_name().to_string_lossy().parse().ok()).collect();
    fds.sort_unstable();
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as i32;
    if pidfd < 0 {
        return;
    }
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    for fd in fds {
        let at = format!("{label} fd {fd}");
        let path = format!("/proc/{pid}/fd/{fd}");
        let link = link_at(&path);
        let shown = look.link(&link);
        look.note(&at, "is", shown);
        let open_file = open_file(look, pid, fd, &link);
        look.note(&at, "open file", open_file);
        info(look, pid, fd, &at);
        let copy = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) } as i32;
        if copy < 0 {
            continue;
        }
        let copy = unsafe { OwnedFd::from_raw_fd(copy) };
        attributes(look, copy.as_raw_fd(), &at, &path);
        if link.contains("/pressure/") || link.ends_with(".pressure") {
            trigger(look, copy.as_raw_fd(), &at);
        }
    }
}

/// Without one it is an error to wait for it (`psi_trigger_poll`, kernel/sched/psi.c).
fn trigger(look: &mut Look, fd: i32, at: &str) {
    let mut poll = libc::pollfd { fd, events: 0, revents: 0 };
    unsafe { libc::poll(&mut poll, 1, 0) };
    look.note(at, "poll", format!("{:#x}", poll.revents & libc::POLLERR));
}

/// Which descriptors are one open file.
fn open_file(look: &mut Look, pid: i32, fd: i32, link: &str) -> String {
    let same = |(p, f, _): &&(i32, i32, usize)| unsafe { libc::syscall(libc::SYS_kcmp, pid, *p, 0, fd, *f) } == 0;
    let known = look.open_files.get(link).and_then(|all| all.iter().find(same)).map(|(.., n)| *n);
    let n = known.unwrap_or_else(|| {
        let next = look.open_files.values().map(Vec::len).sum();
        look.open_files.entry(link.into()).or_default().push((pid, fd, next));
        next
    });
    format!("#{n}")
}

/// /proc/PID/fdinfo/FD.
fn info(look: &mut Look, pid: i32, fd: i32, at: &str) {
    let text = read(&format!("/proc/{pid}/fdinfo/{fd}"));
    let mut count = 0;
    // What epoll watches is listed in the order of addresses.
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_by_key(|l| l.starts_with("tfd:").then_some(*l));
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match name {
            "ino" | "eventfd-id" => {}
            "flags" => {
                // How it was opened, which no read and write depends on; the last is O_LARGEFILE.
                let flags =
                    i32::from_str_radix(value, 8).unwrap_or(0) & !(libc::O_DIRECTORY | libc::O_TMPFILE | 0o100_000);
                look.note(at, name, format!("{flags:o}"));
            }
            "mnt_id" => {
                let mount = mount(pid, value);
                look.note(at, "mount", mount);
            }
            "it_value" => look.note(at, name, if value == "(0, 0)" { "off" } else { "on" }),
            "lock" => {
                count += 1;
                let shown = lock(look, value);
                look.note(at, &format!("lock {count}"), shown);
            }
            "Pid" => {
                let who = value.parse().map_or_else(|_| value.to_string(), |pid| look.who(pid));
                look.note(at, "of process", who);
            }
            "NSpid" => look.note(at, name, value.split_whitespace().last().unwrap_or_default()),
            "tfd" => {
                // `5 events: 19 data: 5 pos:0 ino:6e sdev:d`: the same number may be several files.
                count += 1;
                let shown = value.split(" pos:").next().unwrap_or(value);
                look.note(at, &format!("target {count}"), shown.split_whitespace().collect::<Vec<_>>().join(" "));
            }
            _ if name.starts_with("inotify") || name.starts_with("fanotify") => {
                count += 1;
                let same = |w: &&str| !["ino:", "sdev:", "fhandle", "f_handle"].iter().any(|p| w.starts_with(p));
                let shown: Vec<&str> = line.split_whitespace().filter(same).collect();
                look.note(at, &format!("watch {count}"), shown.join(" "));
            }
            _ => look.note(at, name, value),
        }
    }
}

/// Where the mount with this number is mounted, and of what kind it is.
fn mount(pid: i32, id: &str) -> String {
    let table = read(&format!("/proc/{pid}/mountinfo"));
    let line = table.lines().find(|l| l.split(' ').next() == Some(id));
    let place = line.and_then(|l| l.split(' ').nth(4)).unwrap_or("not in its namespace");
    let kind = line.and_then(|l| l.split(" - ").nth(1)?.split(' ').next()).unwrap_or_default();
    format!("{place} {kind}")
}

/// `1: POSIX  ADVISORY  WRITE 123 00:1a:55 0 EOF`, without the number in the list and without the inode.
fn lock(look: &Look, value: &str) -> String {
    let mut words: Vec<String> = value.split_whitespace().skip(1).map(String::from).collect();
    for word in &mut words {
        if word.matches(':').count() == 2 {
            word.clear();
        }
    }
    if let Some(pid) = words.get_mut(3) {
        *pid = pid.parse().map_or_else(|_| pid.clone(), |n| look.who(n));
    }
    words.join(" ")
}

const ASKED: &[(&str, i32)] = &[("F_GETSIG", 11), ("F_GETLEASE", 1025), ("F_GETPIPE_SZ", 1032), ("F_GET_SEALS", 1034)];

/// Through a duplicate.
fn attributes(look: &mut Look, fd: i32, at: &str, path: &str) {
    for (name, command) in ASKED {
        let answer = unsafe { libc::fcntl(fd, *command, 0) };
        look.note(at, name, answer);
    }
    let mut owner = [0i32; 2];
    unsafe { libc::fcntl(fd, 16, owner.as_mut_ptr()) };
    let who = look.who(owner[1]);
    look.note(at, "F_GETOWN_EX", format!("{} {who}", owner[0]));
    let mut st = std::mem::MaybeUninit::<libc::stat>::zeroed();
    if unsafe { libc::fstat(fd, st.as_mut_ptr()) } != 0 {
        return;
    }
    let st = unsafe { st.assume_init() };
    let kind = st.st_mode & libc::S_IFMT;
    look.note(at, "mode", format!("{:o}", st.st_mode));
    look.note(at, "owner", format!("{}:{}", st.st_uid, st.st_gid));
    look.note(at, "links", if st.st_nlink == 0 { "none" } else { "some" });
    let is_proc = link_at(path).starts_with("/proc");
    if kind == libc::S_IFREG && !is_proc {
        look.note(at, "size", st.st_size);
        if st.st_nlink == 0 && st.st_size <= 1 << 20 {
            contents(look, at, path);
        }
    }
    if unsafe { libc::fcntl(fd, libc::F_GETFL) } & libc::O_PATH != 0 {
        return;
    }
    match kind {
        libc::S_IFSOCK => sockets::see(look, fd, at),
        libc::S_IFIFO => pipe(look, fd, at),
        libc::S_IFCHR if is_tty(st.st_rdev) => tty(look, fd, at),
        _ => {}
    }
}

/// Of a file that has no name.
fn contents(look: &mut Look, at: &str, path: &str) {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let Ok(bytes) = std::fs::read(path) else { return };
    let mut hash = DefaultHasher::new();
    bytes.hash(&mut hash);
    look.note(at, "contents", format!("{:x}", hash.finish()));
}

pub fn waiting(fd: i32, request: libc::c_ulong) -> String {
    let mut n = 0i32;
    match unsafe { libc::ioctl(fd, request as _, &raw mut n) } {
        0 => n.to_string(),
        _ => "?".into(),
    }
}

fn pipe(look: &mut Look, fd: i32, at: &str) {
    look.note(at, "bytes waiting", waiting(fd, libc::FIONREAD));
    let mut copy = [0; 2];
    if unsafe { libc::pipe2(copy.as_mut_ptr(), libc::O_NONBLOCK | libc::O_CLOEXEC) } != 0 {
        return;
    }
    let (r, w) = unsafe { (OwnedFd::from_raw_fd(copy[0]), OwnedFd::from_raw_fd(copy[1])) };
    let mut bytes = vec![0u8; 65536];
    // tee(2) takes nothing out.
    if unsafe { libc::tee(fd, w.as_raw_fd(), bytes.len(), libc::SPLICE_F_NONBLOCK) } > 0 {
        let n = unsafe { libc::read(r.as_raw_fd(), bytes.as_mut_ptr().cast(), bytes.len()) };
        bytes.truncate(n.max(0) as usize);
        look.note(at, "data", String::from_utf8_lossy(&bytes));
    }
}

fn is_tty(rdev: u64) -> bool {
    matches!(libc::major(rdev), 4 | 5 | 136..=143)
}

fn tty(look: &mut Look, fd: i32, at: &str) {
    look.note(at, "bytes waiting", waiting(fd, libc::FIONREAD));
    for (name, request, len) in [
        ("TCGETS", libc::TCGETS, 60),
        ("TIOCGWINSZ", libc::TIOCGWINSZ, 8),
        ("TIOCGEXCL", 0x8004_5440, 4),
        ("TIOCGPTLCK", 0x8004_5439, 4),
        ("TIOCGPKT", 0x8004_5438, 4),
        ("TIOCGETD", 0x5424, 4),
    ] {
        let mut bytes = [0u8; 64];
        let r = unsafe { libc::ioctl(fd, request as _, bytes.as_mut_ptr()) };
        look.note(at, name, if r == 0 { format!("{:02x?}", &bytes[..len]) } else { "?".into() });
    }
    for (name, request) in [("TIOCGPGRP", libc::TIOCGPGRP), ("TIOCGSID", libc::TIOCGSID)] {
        let pid = waiting(fd, request);
        let who = pid.parse().map_or(pid, |pid| look.who(pid));
        look.note(at, name, who);
    }
}
