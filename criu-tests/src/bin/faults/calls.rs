//! Names for system calls, and for what a look asks with them: calls of one class have the same purpose.

use crate::seccomp::Call;

/// Never made to fail, and why.
pub const SPARED: &[(&str, &[i64])] = &[
    ("cannot fail", &[libc::SYS_getpid, libc::SYS_gettid, libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid]),
    ("cannot fail", &[libc::SYS_getegid, libc::SYS_sched_yield, libc::SYS_clock_gettime, libc::SYS_getppid]),
    ("closes whatever it answers", &[libc::SYS_close, libc::SYS_close_range]),
    ("memory that cannot be had ends a Rust program", &[libc::SYS_mmap, libc::SYS_munmap, libc::SYS_brk]),
    ("memory that cannot be had ends a Rust program", &[libc::SYS_mremap, libc::SYS_mprotect, libc::SYS_madvise]),
    ("Rust's library panics, which is caught", &[libc::SYS_getrandom]),
    ("the C library ends the program", &[libc::SYS_futex, libc::SYS_rt_sigreturn]),
    ("does not return", &[libc::SYS_exit, libc::SYS_exit_group]),
];

/// Not carried out: time is nothing that the tree needs.
pub const SLEEPS: &[i64] = &[libc::SYS_clock_nanosleep, libc::SYS_nanosleep];

pub fn spared() -> Vec<i64> {
    SPARED.iter().flat_map(|(_, list)| list.iter().copied()).collect()
}

macro_rules! names {
    ($($name:ident)*) => { &[$((libc::$name, stringify!($name))),*] };
}

const NAMES: &[(i64, &str)] = names![
    SYS_read SYS_write SYS_openat SYS_openat2 SYS_readlinkat SYS_statx SYS_newfstatat SYS_fstat SYS_getdents64 SYS_lseek
    SYS_ioctl SYS_fcntl SYS_ppoll SYS_socket SYS_socketpair SYS_sendto SYS_recvfrom SYS_sendmsg SYS_recvmsg SYS_getsockopt
    SYS_setsockopt SYS_getsockname SYS_getpeername SYS_clone SYS_wait4 SYS_waitid SYS_kill SYS_prctl SYS_setns SYS_kcmp
    SYS_pidfd_open SYS_pidfd_getfd SYS_prlimit64 SYS_process_vm_readv SYS_ptrace SYS_rt_sigprocmask SYS_rt_sigaction
    SYS_memfd_create SYS_eventfd2 SYS_pipe2 SYS_statfs SYS_fstatfs SYS_open_by_handle_at SYS_sched_getscheduler SYS_ioprio_get
    SYS_faccessat SYS_faccessat2 SYS_uname SYS_fsopen SYS_fsconfig SYS_fsmount SYS_dup SYS_dup3 SYS_getcwd SYS_bind
    SYS_connect SYS_pread64 SYS_clone3 SYS_unshare SYS_chdir SYS_timerfd_gettime SYS_getrandom SYS_setrlimit
    SYS_mmap SYS_munmap SYS_mprotect SYS_process_vm_writev SYS_rt_sigtimedwait SYS_close_range SYS_getppid SYS_renameat
    SYS_unlinkat SYS_mq_open SYS_mq_getsetattr SYS_tgkill SYS_pidfd_send_signal SYS_sigaltstack SYS_set_robust_list SYS_getrlimit
];

#[cfg(target_arch = "x86_64")]
const OLD_NAMES: &[(i64, &str)] = names![
    SYS_open SYS_stat SYS_lstat SYS_poll SYS_access SYS_readlink SYS_arch_prctl SYS_unlink SYS_rename SYS_mkdir
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_NAMES: &[(i64, &str)] = &[];

pub fn name(nr: i64) -> String {
    let found = NAMES.iter().chain(OLD_NAMES).find(|(known, _)| *known == nr);
    found.map_or_else(|| format!("{nr}"), |(_, name)| name.trim_start_matches("SYS_").to_string())
}

/// What a call asks for, for one of `subject` or of a child of it.
pub fn class(call: &Call, subject: i32) -> String {
    let a = call.args;
    let child = if call.pid == subject { "" } else { "child " };
    let what = match name(call.nr).as_str() {
        "openat" => format!("{} {:o}", path(call, a[0], a[1]), a[2] & 0o11_000_000),
        "openat2" => format!("{} {:x}", path(call, a[0], a[1]), word(call.pid, a[2].wrapping_add(16))),
        "statx" => format!("{} {:x}", path(call, a[0], a[1]), a[2] & 0x100),
        "readlinkat" | "newfstatat" | "faccessat" | "faccessat2" => path(call, a[0], a[1]),
        "open" | "stat" | "lstat" | "access" | "readlink" | "statfs" => path(call, libc::AT_FDCWD as u64, a[0]),
        "read" | "getdents64" | "recvfrom" | "recvmsg" | "sendto" | "fstat" | "lseek" | "pread64" => {
            file(call.pid, a[0])
        }
        "ioctl" => format!("{:x} {}", a[1], file(call.pid, a[0])),
        "getsockopt" | "setsockopt" => format!("{} {}", a[1], a[2]),
        "socket" => format!("{} {} {}", a[0], a[1] & 0xf, a[2]),
        "fcntl" | "prlimit64" | "setns" => a[1].to_string(),
        "kcmp" => a[2].to_string(),
        "prctl" | "ptrace" => format!("{:x}", a[0]),
        "mmap" if a[3] & libc::MAP_STACK as u64 != 0 => "stack".to_string(),
        "write" => file(call.pid, a[0]),
        "memfd_create" => format!("{:x}", a[1]),
        _ => String::new(),
    };
    format!("{child}{} {what}", name(call.nr)).trim_end().to_string()
}

/// A file of /proc by its name there, numbers left out; anything else by its kind.
fn path(call: &Call, dir: u64, at: u64) -> String {
    let text = text(call.pid, at);
    let dir = if text.starts_with(b"/") || dir as i32 == libc::AT_FDCWD {
        String::new()
    } else {
        std::fs::read_link(format!("/proc/{}/fd/{}", call.pid, dir as i32)).unwrap_or_default().display().to_string()
    };
    let text = String::from_utf8_lossy(&text).into_owned();
    if dir.starts_with("/proc") || text.starts_with("/proc") {
        return without_numbers(&if text.is_empty() { dir } else { text });
    }
    if text.is_empty() {
        return kind(&dir).to_string();
    }
    let first = text.trim_start_matches('/').split('/').next().unwrap_or_default();
    match first {
        "etc" | "usr" | "var" | "lib" | "dev" | "sys" => format!("/{first}/.."),
        _ => "a path".to_string(),
    }
}

fn file(pid: i32, fd: u64) -> String {
    let link = std::fs::read_link(format!("/proc/{pid}/fd/{}", fd as i32)).unwrap_or_default().display().to_string();
    if link.starts_with("/proc") {
        without_numbers(&link)
    } else {
        kind(&link).to_string()
    }
}

fn kind(link: &str) -> &str {
    match link.split_once(":[") {
        Some((kind, _)) => kind,
        None if link.starts_with("anon_inode:") => link,
        None => "a file",
    }
}

fn without_numbers(path: &str) -> String {
    let number = |part: &str| {
        part.contains(|c: char| c.is_ascii_digit()) && part.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
    };
    let parts: Vec<&str> = path.split('/').map(|part| if number(part) { "N" } else { part }).collect();
    parts.join("/")
}

/// The text at an address of the process.
fn text(pid: i32, at: u64) -> Vec<u8> {
    let mut bytes = [0u8; 256];
    // Up to the end of its page, which is there.
    let room = (4096 - (at as usize & 4095)).min(bytes.len());
    let n = read(pid, at, &mut bytes[..room]);
    let text = &bytes[..n];
    text.iter().position(|b| *b == 0).map_or(text, |end| &text[..end]).to_vec()
}

fn word(pid: i32, at: u64) -> u64 {
    let mut bytes = [0u8; 8];
    read(pid, at, &mut bytes);
    u64::from_ne_bytes(bytes)
}

fn read(pid: i32, at: u64, into: &mut [u8]) -> usize {
    let local = libc::iovec { iov_base: into.as_mut_ptr().cast(), iov_len: into.len() };
    let remote = libc::iovec { iov_base: at as *mut libc::c_void, iov_len: into.len() };
    let n = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(n).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_left_out() {
        assert_eq!(without_numbers("/proc/12/fdinfo/3"), "/proc/N/fdinfo/N");
        assert_eq!(without_numbers("map_files/7f12-7f34"), "map_files/N");
        assert_eq!(without_numbers("sys/net/ipv6"), "sys/net/ipv6");
        assert_eq!(without_numbers("fd"), "fd");
        assert_eq!(kind("socket:[12]"), "socket");
    }
}
