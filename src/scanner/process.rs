//! Makes the scanner process and sees to its end.
//!
//! ```text
//! CRIU ── keeper ── scanner ── children of a look (one that enters a namespace)
//! ```
//!
//! * The **scanner** is a copy of CRIU's process: it knows what CRIU knows, has CRIU's rights, and whatever becomes of it
//!   becomes of a copy.
//! * The **keeper** stands between them and only waits. A scanner that hangs in the kernel (state D) obeys no signal: as a child
//!   of CRIU it would be met by `wait4(-1, __WALL)` in compel and by the last wait of `pstree_wait()` (criu/seize.c) whenever it
//!   came to its end. The keeper can always be killed, then nothing of ours is left below CRIU.
//!
//! The keeper has no exit signal, so that neither `waitpid(-1)` without __WALL (`freezer_wait_processes()`, criu/seize.c) nor a
//! handler of SIGCHLD meets it. It shares CRIU's memory and is nothing but a few system calls on a stack of its own: making it and
//! ending it costs no copy of page tables. Each is killed by the kernel when its parent ends (PR_SET_PDEATHSIG).

use crate::scan::sys::{retry, wait_readable};
use crate::scanner::heap;
use crate::scanner::limits;
use crate::scanner::wire::FromScanner;
use nix::errno::Errno;
use nix::sys::signal::{kill, sigprocmask, SigSet, SigmaskHow, Signal};
use nix::sys::socket::{self, AddressFamily, MsgFlags, SockFlag, SockType};
use nix::sys::wait::{waitpid, WaitPidFlag, WaitStatus};
use nix::unistd::Pid;
use std::ffi::{c_int, c_long, c_void};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

/// How long the process may take to say that it runs.
const START: Duration = Duration::from_secs(10);
/// How long a scanner that is done, or was killed, is waited for before the keeper is killed in its place.
const END: Duration = Duration::from_secs(1);

/// The scanner's stack, which the keeper's few frames share. What lies deeper ends the scanner (SIGSEGV).
const STACK: usize = 8 << 20;
/// At its end, never mapped in.
const GUARD: usize = 64 << 10;

/// The keeper's pid while there is one, for [`abandon`]: after a fault of our own nothing else may be relied upon.
static KEEPER: AtomicI32 = AtomicI32::new(0);

/// The keeper, a child of ours that nothing else waits for.
#[derive(Debug)]
pub(crate) struct Keeper {
    pid: Pid,
    /// In use until it is reaped, and until then not given back: without it the keeper, and every process that shares its memory, would die.
    stack: ManuallyDrop<Stack>,
}

/// How the scanner ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Exited(i32),
    Killed(i32),
    /// It did not end in time: it hangs in the kernel, and belongs to init from now on.
    Hangs,
}

/// What the keeper needs. In memory that it shares with us until the scanner runs.
struct Start<'a> {
    criu: c_int,
    channel: RawFd,
    /// Inode of our own end.
    far: Option<u64>,
    serve: &'a mut dyn FnMut(OwnedFd, Option<u64>),
}

/// Makes a scanner that runs `serve` with its end of the channel and the inode of ours, which is handed back.
///
/// `serve` runs in the copy, where no other thread is: it may use what this library allocates, and must not wait for a lock of
/// the C library.
pub(crate) fn start(serve: &mut dyn FnMut(OwnedFd, Option<u64>)) -> Result<(Keeper, OwnedFd), Errno> {
    let (ours, theirs) = socket::socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    let stack = Stack::new()?;
    let far = nix::sys::stat::fstat(&ours).ok().map(|stat| stat.st_ino);
    let mut start = Start { far, criu: nix::unistd::getpid().as_raw(), channel: theirs.as_raw_fd(), serve };
    let mut before = SigSet::empty();
    // (Not pthread_sigmask(3) of the crate nix, which takes its errors, positive numbers, for success.)
    // Neither has any use for handlers that CRIU installed: only SIGKILL reaches them, and what the keeper waits for.
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::all()), Some(&mut before))?;
    // From here to the answer nothing may allocate: the copy is made in between, and has to find the heap whole.
    let mut packet = [0; 8];
    let made = heap::locked(|| {
        // SAFETY: the keeper runs on a stack that is mapped until it has been reaped, and makes system calls only. `start`
        // lives until the scanner, which has a copy of it, has answered.
        let pid = Errno::result(unsafe {
            libc::clone(keeper, stack.top().cast(), libc::CLONE_VM, (&raw mut start).cast::<c_void>())
        })?;
        KEEPER.store(pid, Ordering::Relaxed);
        // Should the scanner not come to be, its end of the channel is closed with this.
        drop(theirs);
        Ok((pid, receive(&ours, &mut packet, Instant::now() + START)))
    });
    // It cannot fail where the one before did not; but it is CRIU's.
    let restore = || sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
    let restored = restore().or_else(|_| restore()).or_else(|_| restore());
    let (pid, len) = made?;
    let keeper = Keeper { pid: Pid::from_raw(pid), stack: ManuallyDrop::new(stack) };
    let answer = packet.get(..len.unwrap_or_default()).map(FromScanner::parse);
    let failed = match (len, answer) {
        (Ok(_), Some(Ok(FromScanner::Ready))) => restored.err(),
        (Ok(_), Some(Ok(FromScanner::NotMade(errno)))) => Some(Errno::from_raw(errno)),
        (Err(errno), _) => Some(errno),
        _ => Some(Errno::ECHILD),
    };
    match failed {
        None => Ok((keeper, ours)),
        Some(errno) => {
            keeper.kill();
            Err(errno)
        }
    }
}

/// The next packet, or nothing: the other end is closed. Its length, which may be more than there was room for. ETIMEDOUT.
pub(crate) fn receive(from: &OwnedFd, packet: &mut [u8], until: Instant) -> nix::Result<usize> {
    let mut wakes = true;
    loop {
        if wakes {
            wakes = match wait_readable(from.as_fd(), until) {
                Ok(()) => true,
                Err(Errno::ETIMEDOUT) => return Err(Errno::ETIMEDOUT),
                // Nothing wakes us, so we look again and again.
                Err(_) => false,
            };
        } else if Instant::now() >= until {
            return Err(Errno::ETIMEDOUT);
        } else {
            std::thread::sleep(Duration::from_millis(1));
        }
        match retry(|| socket::recv(from.as_raw_fd(), packet, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC)) {
            Err(Errno::EAGAIN) if !wakes => {}
            done => return done,
        }
    }
}

impl Keeper {
    /// The scanner is about to end by itself: waits for that, and makes it so if it does not.
    pub(crate) fn reap(mut self) -> End {
        match self.reaped_until(Instant::now() + END) {
            Some(end) => end,
            None => self.kill(),
        }
    }

    /// Ends the scanner now.
    pub(crate) fn kill(mut self) -> End {
        // Until it is reaped, the number belongs to our child.
        let _ = kill(self.pid, Signal::SIGTERM);
        if let Some(end) = self.reaped_until(Instant::now() + END) {
            return end;
        }
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = self.reaped_until(Instant::now() + END);
        End::Hangs
    }

    /// `None`: it has not ended, or cannot be waited for.
    fn reaped_until(&mut self, until: Instant) -> Option<End> {
        // A descriptor of the keeper wakes us at its end (Linux 5.3 and newer); without one we look again and again.
        let ended = crate::scan::sys::pidfd_open(self.pid.as_raw()).ok();
        let mut pause = Duration::from_micros(20);
        loop {
            if let Some(ended) = &ended {
                let _ = wait_readable(ended.as_fd(), until);
            }
            match retry(|| waitpid(self.pid, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG))) {
                Ok(WaitStatus::StillAlive) if Instant::now() >= until => return None,
                Ok(WaitStatus::StillAlive) => {}
                Err(errno) if errno != Errno::ECHILD && Instant::now() >= until => return None,
                Err(errno) if errno != Errno::ECHILD => {}
                other => {
                    KEEPER.store(0, Ordering::Relaxed);
                    // SAFETY: once only, for nothing waits for it any more.
                    unsafe { ManuallyDrop::drop(&mut self.stack) };
                    return Some(match other {
                        Ok(WaitStatus::Exited(_, code)) if code >= KILLED => End::Killed(code.saturating_sub(KILLED)),
                        Ok(WaitStatus::Exited(_, code)) => End::Exited(code),
                        Ok(WaitStatus::Signaled(_, signal, _)) => End::Killed(signal as i32),
                        // Somebody else has reaped it.
                        _ => End::Exited(0),
                    });
                }
            }
            std::thread::sleep(pause);
            pause = pause.saturating_mul(2).min(Duration::from_millis(10));
        }
    }
}

/// Ends whatever process of ours there still is: after a fault in CRIU's own process.
pub(crate) fn abandon() {
    let pid = KEEPER.swap(0, Ordering::Relaxed);
    if pid > 1 {
        let pid = Pid::from_raw(pid);
        let _ = kill(pid, Signal::SIGKILL);
        let _ = retry(|| waitpid(pid, Some(WaitPidFlag::__WALL)));
    }
}

/// The keeper exits with what the scanner exited with, or with this and the signal that ended it.
const KILLED: c_int = 128;

/// Runs on its own stack and in CRIU's memory, beside CRIU: nothing here may allocate, panic or touch what CRIU's thread may
/// be using. (errno is CRIU's thread's, too; no call here fails while CRIU is not waiting for us.)
extern "C" fn keeper(start: *mut c_void) -> c_int {
    // SAFETY: system calls on numbers and on memory of this frame; `start` is alive until the scanner has answered, and is
    // not touched here after the scanner has been made.
    unsafe {
        let start = start.cast::<Start>();
        let channel = (*start).channel;
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() != (*start).criu {
            libc::_exit(0);
        }
        let me = libc::getpid();
        let scanner = copy();
        if scanner == 0 {
            run(start, me);
        }
        if scanner < 0 {
            let mut packet = [b'x', 0, 0, 0, 0];
            for (to, from) in packet.iter_mut().skip(1).zip(Errno::last_raw().to_ne_bytes()) {
                *to = from;
            }
            libc::send(channel, packet.as_ptr().cast(), packet.len(), libc::MSG_NOSIGNAL);
            libc::_exit(0);
        }
        // What CRIU closes must be closed: a copy of a descriptor would keep the other end waiting.
        limits::close_descriptors(-1);
        keep(scanner)
    }
}

/// Waits for the scanner's end; SIGTERM is the wish to kill it.
///
/// # Safety
/// `scanner` is a child that only the calling process waits for.
unsafe fn keep(scanner: c_int) -> ! {
    let bit = |signal: c_int| 1u64 << signal.saturating_sub(1);
    let signals = bit(libc::SIGCHLD) | bit(libc::SIGTERM);
    loop {
        let mut status: c_int = 0;
        // SAFETY: system calls on numbers and on memory of this frame. The scanner is not reaped before this loop ends, so the
        // number is its own.
        unsafe {
            let found =
                libc::syscall(libc::SYS_wait4, scanner, &raw mut status, libc::WNOHANG, std::ptr::null::<c_void>());
            if found != 0 {
                libc::_exit(if libc::WIFSIGNALED(status) {
                    KILLED.saturating_add(libc::WTERMSIG(status))
                } else {
                    libc::WEXITSTATUS(status)
                });
            }
            let none = std::ptr::null::<c_void>();
            let signal = libc::syscall(libc::SYS_rt_sigtimedwait, &raw const signals, none, none, size_of::<u64>());
            if signal == c_long::from(libc::SIGTERM) && scanner > 1 {
                libc::kill(scanner, libc::SIGKILL);
            }
        }
    }
}

/// fork(2) without the C library, which would run the handlers that others have registered: the new process has a copy of our
/// memory, and its end is a SIGCHLD to the caller.
///
/// # Safety
/// For a caller that is prepared to be in the copy.
unsafe fn copy() -> c_int {
    let flags = c_long::from(libc::SIGCHLD);
    // s390 takes the stack first (CONFIG_CLONE_BACKWARDS2, kernel/fork.c).
    let (first, second) = if cfg!(target_arch = "s390x") { (0, flags) } else { (flags, 0) };
    // SAFETY: no new stack, no thread area, nothing to be written: a fork.
    let pid = unsafe { libc::syscall(libc::SYS_clone, first, second, 0usize, 0usize, 0usize) };
    c_int::try_from(pid).unwrap_or(-1)
}

/// The scanner's beginning and end.
///
/// # Safety
/// In a process just made by [`copy`]: `start` points to a copy of what the parent had there.
unsafe fn run(start: *mut Start, keeper: c_int) -> ! {
    // SAFETY: a copy of memory that nothing else has; system calls on numbers.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        if libc::getppid() != keeper {
            libc::_exit(0);
        }
        heap::enter_scanner();
        libc::prctl(libc::PR_SET_NAME, c"preflight".as_ptr());
        let start = &mut *start;
        limits::close_descriptors(start.channel);
        (start.serve)(OwnedFd::from_raw_fd(start.channel), start.far);
        libc::_exit(0)
    }
}

/// Memory for a stack, with a guard below it.
#[derive(Debug)]
struct Stack(*mut c_void);

// SAFETY: only an address, of memory that is this value's own.
unsafe impl Send for Stack {}

impl Stack {
    fn new() -> nix::Result<Stack> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK;
        // SAFETY: new memory at an address of the kernel's choice.
        let memory =
            unsafe { libc::mmap(std::ptr::null_mut(), STACK, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
        if memory == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        let stack = Stack(memory);
        // SAFETY: the lowest part of our own new memory.
        Errno::result(unsafe { libc::mprotect(memory, GUARD, libc::PROT_NONE) })?;
        Ok(stack)
    }

    fn top(&self) -> *mut u8 {
        // Aligned, for the size is.
        self.0.cast::<u8>().wrapping_add(STACK)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: our own memory, which no process that shares it runs on any more.
        unsafe { libc::munmap(self.0, STACK) };
    }
}
