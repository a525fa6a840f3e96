//! The system calls of the look, each as thin as it can be: no path of the tree is ever opened for reading here, and
//! none of these can wait for a file server (see [`statx`]).

use crate::snapshot::{Dev, FileAttr};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::stat::Mode;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// What became of one question to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen<T> {
    #[allow(clippy::enum_variant_names)] // It is what the type is named for.
    Seen(T),
    /// The process, thread, descriptor or mapping is not there any more: never a finding, never reported.
    Gone,
    /// The kernel says no: the errno. Reported as unchecked.
    Denied(i32),
}

impl<T> Seen<T> {
    pub(crate) fn map<U>(self, f: impl FnOnce(T) -> U) -> Seen<U> {
        match self {
            Seen::Seen(v) => Seen::Seen(f(v)),
            Seen::Gone => Seen::Gone,
            Seen::Denied(e) => Seen::Denied(e),
        }
    }

    /// The value, if it was seen.
    pub(crate) fn ok(self) -> Option<T> {
        match self {
            Seen::Seen(v) => Some(v),
            _ => None,
        }
    }
}

/// ENOENT and ESRCH are how /proc says that something has ended (`proc_fd_link`, `get_proc_task` in fs/proc).
impl<T> From<nix::Result<T>> for Seen<T> {
    fn from(r: nix::Result<T>) -> Self {
        match r {
            Ok(v) => Seen::Seen(v),
            Err(Errno::ENOENT | Errno::ESRCH) => Seen::Gone,
            Err(e) => Seen::Denied(e as i32),
        }
    }
}

/// Signals do not come so often that one of these calls, none of which lasts, is interrupted every time.
const MOST_SIGNALS: usize = 32;

/// Repeats a call that a signal interrupted: CRIU's alarm has no SA_RESTART. Something else than a signal that answers EINTR (a
/// filter of system calls) is not asked for ever.
pub(crate) fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    for _ in 0..MOST_SIGNALS {
        match call() {
            Err(Errno::EINTR) => {}
            done => return done,
        }
    }
    Err(Errno::EINTR)
}

/// Waits for a packet, or for the other end to close. ETIMEDOUT when `until` has come.
pub(crate) fn wait_readable(from: BorrowedFd, until: Instant) -> nix::Result<()> {
    // Signals interrupt it: CRIU's alarm.
    let ready = retry(|| {
        // In whole milliseconds, rounded up: less would look again and again before the time has come.
        let left = until.saturating_duration_since(Instant::now()).saturating_add(Duration::from_micros(999));
        poll(&mut [PollFd::new(from, PollFlags::POLLIN)], PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX))
    })?;
    if ready == 0 {
        return Err(Errno::ETIMEDOUT);
    }
    Ok(())
}

/// What the kernel says of the thing that was asked about: the value, or an errno that is an answer itself. Any other errno tells
/// of the asking (no such call, none for us, no memory or descriptor left, a signal), and nothing is known.
///
/// `answers`: those by which this call tells a fact, and which CRIU will get as well.
pub(crate) fn answer<T>(result: nix::Result<T>, answers: &[Errno]) -> nix::Result<Result<T, Errno>> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(errno) if answers.contains(&errno) => Ok(Err(errno)),
        Err(errno) => Err(errno),
    }
}

/// A name below an open directory. Only for names in /proc, and O_PATH where the object itself belongs to the tree.
pub(crate) fn open(dir: impl AsFd, name: &CStr, flags: OFlag) -> nix::Result<OwnedFd> {
    retry(|| nix::fcntl::openat(dir.as_fd(), name, flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY, Mode::empty()))
}

/// The whole of a /proc file, into `text` (its old content is lost, its memory is kept).
///
/// Read in growing pieces until the kernel has no more: a seq_file hands out whole records, so a table that grows
/// meanwhile is longer, never torn within a record.
///
/// `one`: the file is a single record. Then less than what there was room for is all of it (`seq_read_iter()`).
pub(crate) fn slurp(dir: impl AsFd, name: &CStr, text: &mut Vec<u8>, one: bool) -> nix::Result<()> {
    slurp_if(dir, name, text, one, || true).map(drop)
}

/// A file of the kernel's by its path. Not by the library of Rust, which asks for ever where a filter of system calls answers EINTR.
pub(crate) fn read_file(path: &std::path::Path) -> nix::Result<Vec<u8>> {
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).map_err(|_| Errno::EINVAL)?;
    let mut text = Vec::new();
    slurp(nix::fcntl::AT_FDCWD, &path, &mut text, false)?;
    Ok(text)
}

/// So much of a file is read before anybody is asked whether the rest is wanted.
const FIRST_PIECE: usize = 16 * 1024;

/// The same of a file that may be long: after the first piece `wanted` is asked. `false`: it was not.
pub(crate) fn slurp_if(
    dir: impl AsFd,
    name: &CStr,
    text: &mut Vec<u8>,
    one: bool,
    wanted: impl FnOnce() -> bool,
) -> nix::Result<bool> {
    let mut wanted = Some(wanted);
    let file = open(dir, name, OFlag::O_RDONLY)?;
    let mut used = 0usize;
    loop {
        if text.len() < used.saturating_add(4096) {
            text.resize(text.len().saturating_mul(2).max(FIRST_PIECE), 0);
        }
        let room = text.get_mut(used..).unwrap_or_default();
        let n = retry(|| nix::unistd::read(&file, &mut *room))?;
        let last = n == 0 || (one && n < room.len());
        used = used.saturating_add(n);
        if last {
            break;
        }
        if used >= FIRST_PIECE && wanted.take().is_some_and(|wanted| !wanted()) {
            text.truncate(used);
            return Ok(false);
        }
    }
    text.truncate(used);
    Ok(true)
}

/// The text of a link. The kernel makes it in one page (`do_proc_readlink`); a longer path is ENAMETOOLONG.
pub(crate) fn readlink<'b>(dir: impl AsFd, name: &CStr, buf: &'b mut [u8; 4096]) -> nix::Result<&'b [u8]> {
    // SAFETY: `name` ends in NUL, and the kernel writes at most `buf.len()` bytes into `buf`.
    let n = unsafe {
        libc::readlinkat(dir.as_fd().as_raw_fd(), name.as_ptr(), buf.as_mut_ptr().cast::<libc::c_char>(), buf.len())
    };
    let n = Errno::result(n)?;
    Ok(buf.get(..usize::try_from(n).unwrap_or_default()).unwrap_or_default())
}

/// What is behind a link of /proc (the link is followed), as the kernel knows it without asking anybody.
///
/// AT_STATX_DONT_SYNC: the attributes a network or FUSE file system has at hand, not fresh ones (`fuse_update_get_attr`,
/// `nfs_getattr`); the server may be a frozen task of this very tree. AT_NO_AUTOMOUNT: nothing is mounted on the way.
pub(crate) fn statx(dir: impl AsFd, name: &CStr) -> nix::Result<FileAttr> {
    statx_with(dir, name, 0)
}

/// The same for a link of /proc itself, or for a path of a running tree, whose last component is not followed if it is a
/// symbolic link. The directories on the way are looked up: not for a frozen tree, see [`open_path`].
pub(crate) fn lstatx(dir: impl AsFd, path: &CStr) -> nix::Result<FileAttr> {
    statx_with(dir, path, libc::AT_SYMLINK_NOFOLLOW)
}

fn statx_with(dir: impl AsFd, name: &CStr, flags: libc::c_int) -> nix::Result<FileAttr> {
    let mut buf = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: `name` ends in NUL and the kernel fills in a `struct statx`, which is what `buf` has room for.
    let r = unsafe {
        libc::statx(
            dir.as_fd().as_raw_fd(),
            name.as_ptr(),
            libc::AT_STATX_DONT_SYNC | libc::AT_NO_AUTOMOUNT | libc::AT_EMPTY_PATH | flags,
            libc::STATX_BASIC_STATS | libc::STATX_MNT_ID,
            buf.as_mut_ptr(),
        )
    };
    Errno::result(r)?;
    // SAFETY: plain numbers, zeroed before the call: any bits are a value.
    let s = unsafe { buf.assume_init() };
    Ok(FileAttr {
        dev: Dev { major: s.stx_dev_major, minor: s.stx_dev_minor },
        ino: s.stx_ino,
        mode: u32::from(s.stx_mode),
        nlink: s.stx_nlink,
        size: s.stx_size,
        blocks: s.stx_blocks,
        rdev: Dev { major: s.stx_rdev_major, minor: s.stx_rdev_minor },
        ctime: (s.stx_ctime.tv_sec, s.stx_ctime.tv_nsec),
        mnt_id: (s.stx_mask & libc::STATX_MNT_ID != 0).then_some(s.stx_mnt_id),
    })
}

/// The next piece of a directory listing; 0 at its end.
pub(crate) fn getdents(dir: impl AsFd, buf: &mut [u8]) -> nix::Result<usize> {
    // SAFETY: the kernel writes at most `buf.len()` bytes into `buf`.
    let n = unsafe { libc::syscall(libc::SYS_getdents64, dir.as_fd().as_raw_fd(), buf.as_mut_ptr(), buf.len()) };
    Ok(usize::try_from(Errno::result(n)?).unwrap_or_default())
}

/// The names in a piece that [`getdents`] filled, without `.` and `..` (`struct linux_dirent64` in linux/dirent.h).
pub(crate) fn names(mut piece: &[u8]) -> impl Iterator<Item = &CStr> {
    std::iter::from_fn(move || loop {
        let len = u16::from_ne_bytes([*piece.get(16)?, *piece.get(17)?]);
        let (record, rest) = piece.split_at_checked(usize::from(len))?;
        // d_ino 8, d_off 8, d_reclen 2, d_type 1; a record of length 0 would have no name and ends the walk here.
        let name = CStr::from_bytes_until_nul(record.get(19..)?).ok()?;
        piece = rest;
        if name != c"." && name != c".." {
            return Some(name);
        }
    })
}

/// A descriptor that a system call returned.
fn fd_of(r: libc::c_long) -> nix::Result<OwnedFd> {
    let fd = RawFd::try_from(Errno::result(r)?).map_err(|_| Errno::EOVERFLOW)?;
    // SAFETY: the kernel has just made this descriptor for us, nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// O_PATH of a path below a directory, following no symbolic link: neither it nor its directories can lead elsewhere.
/// ELOOP where one is met.
pub(crate) fn open_path(root: impl AsFd, path: &CStr) -> nix::Result<OwnedFd> {
    resolve(root, path, nix::fcntl::ResolveFlag::RESOLVE_NO_SYMLINKS)
}

/// The same, with symbolic links followed, none of which leads out of `root`.
pub(crate) fn open_linked(root: impl AsFd, path: &CStr) -> nix::Result<OwnedFd> {
    resolve(root, path, nix::fcntl::ResolveFlag::RESOLVE_IN_ROOT | nix::fcntl::ResolveFlag::RESOLVE_NO_MAGICLINKS)
}

fn resolve(root: impl AsFd, path: &CStr, flags: nix::fcntl::ResolveFlag) -> nix::Result<OwnedFd> {
    let how = nix::fcntl::OpenHow::new().flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).resolve(flags);
    match retry(|| nix::fcntl::openat2(root.as_fd(), path, how)) {
        // No such call in this kernel, or none for us: which errno a seccomp filter answers is its author's choice. An EACCES
        // that is about the path comes back from the walk.
        Err(Errno::ENOSYS | Errno::EPERM | Errno::EACCES) => {
            crate::scan::fd::lookup::walk(root, path, flags.contains(nix::fcntl::ResolveFlag::RESOLVE_IN_ROOT))
        }
        done => done,
    }
}

/// Largest file handle (linux/exportfs.h).
const MAX_HANDLE_SZ: usize = 128;

/// O_PATH of the inode with this handle, on the file system that `mount` is a directory of. Needs CAP_DAC_READ_SEARCH.
pub(crate) fn open_by_handle(mount: impl AsFd, handle_type: u32, handle: &[u8]) -> nix::Result<OwnedFd> {
    #[repr(C)]
    struct FileHandle {
        bytes: u32,
        kind: u32,
        handle: [u8; MAX_HANDLE_SZ],
    }
    let bytes = u32::try_from(handle.len()).map_err(|_| Errno::EINVAL)?;
    let mut arg = FileHandle { bytes, kind: handle_type, handle: [0; MAX_HANDLE_SZ] };
    arg.handle.get_mut(..handle.len()).ok_or(Errno::EINVAL)?.copy_from_slice(handle);
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: `arg` is a `struct file_handle` with room for the bytes it announces; the kernel only reads it.
    fd_of(unsafe { libc::syscall(libc::SYS_open_by_handle_at, mount.as_fd().as_raw_fd(), &raw const arg, flags) })
}

/// A memfd of our own, with these MFD_* flags besides close-on-exec.
pub(crate) fn memfd(flags: libc::c_uint) -> nix::Result<OwnedFd> {
    // SAFETY: the name ends in NUL.
    fd_of(unsafe { libc::syscall(libc::SYS_memfd_create, c"criu-preflight".as_ptr(), libc::MFD_CLOEXEC | flags) })
}

/// An eventfd of our own.
pub(crate) fn eventfd() -> nix::Result<OwnedFd> {
    // SAFETY: takes two numbers.
    fd_of(unsafe { libc::syscall(libc::SYS_eventfd2, 0, libc::EFD_CLOEXEC) })
}

/// Clock ticks since boot, as field 22 of /proc/PID/stat counts them in our time namespace; 0: not known.
pub(crate) fn uptime() -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one `struct timespec`.
    if unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &mut t) } != 0 {
        return 0;
    }
    t.tv_sec.unsigned_abs().saturating_mul(100).saturating_add(t.tv_nsec.unsigned_abs() / 10_000_000)
}

/// Processor time that the calling thread has had.
pub(crate) fn thread_time() -> std::time::Duration {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one `struct timespec`.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
    std::time::Duration::new(t.tv_sec.unsigned_abs(), u32::try_from(t.tv_nsec).unwrap_or_default())
}

/// A soft limit (RLIMIT_*) of a process. EPERM: other ids, and no CAP_SYS_RESOURCE.
pub(crate) fn soft_limit(pid: i32, which: libc::__rlimit_resource_t) -> nix::Result<u64> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `struct rlimit64`; no new limit is given.
    let r = unsafe { libc::prlimit64(pid, which, std::ptr::null(), &mut limit) };
    Errno::result(r).map(|_| limit.rlim_cur)
}

/// The SCHED_* policy of a thread.
pub(crate) fn sched_policy(tid: i32) -> nix::Result<i32> {
    // SAFETY: a number.
    Errno::result(unsafe { libc::sched_getscheduler(tid) })
}

/// The I/O priority of a thread; 0: none of its own.
pub(crate) fn io_priority(tid: i32) -> nix::Result<i32> {
    /// linux/ioprio.h
    const IOPRIO_WHO_PROCESS: libc::c_int = 1;
    // SAFETY: two numbers.
    let priority = Errno::result(unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, tid) })?;
    Ok(i32::try_from(priority).unwrap_or_default())
}

/// A pidfd (always close-on-exec). Linux 5.3+.
pub(crate) fn pidfd_open(pid: i32) -> nix::Result<OwnedFd> {
    // SAFETY: takes two numbers.
    fd_of(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// SIOCPROTOPRIVATE + 0 (linux/un.h): an O_PATH descriptor of the file a UNIX socket is bound to. Linux 4.10+.
const SIOCUNIXFILE: libc::c_ulong = 0x89e0;

pub(crate) fn siocunixfile(sk: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: this request takes no argument.
    fd_of(libc::c_long::from(unsafe { libc::ioctl(sk, SIOCUNIXFILE as _) }))
}

/// linux/sockios.h
const SIOCGSKNS: libc::c_ulong = 0x894c;

/// The network namespace of a socket or a tun descriptor. EPERM: no CAP_NET_ADMIN over it.
pub(crate) fn netns_of(sk: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: this request takes no argument.
    fd_of(libc::c_long::from(unsafe { libc::ioctl(sk, SIOCGSKNS as _) }))
}

/// ARCH_MAP_VDSO_32 (asm/prctl.h), made so that it cannot succeed: the errno. `None`: our process has no vdso, then
/// the request would map one and is not made.
#[cfg(target_arch = "x86_64")]
pub(crate) fn map_vdso_32_refused() -> Option<Errno> {
    const ARCH_MAP_VDSO_32: libc::c_int = 0x2002;
    // SAFETY: reads the auxiliary vector of our process.
    if unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) } == 0 {
        return None;
    }
    // SAFETY: takes two numbers. While a vdso is mapped the kernel refuses (`map_vdso_once`, arch/x86/entry/vdso/vma.c).
    let r = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_MAP_VDSO_32, 0) };
    Errno::result(r).err()
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn map_vdso_32_refused() -> Option<Errno> {
    None
}
