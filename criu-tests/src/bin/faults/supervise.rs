//! One run of a subject: who answers its calls, and when it is given up.

use crate::calls::{self, SLEEPS};
use crate::seccomp::{Call, Calls, Listener};
use crate::subject::{self, Asked, Shared};
use criu_tests::tree;
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A look takes milliseconds.
pub const LIMIT: Duration = Duration::from_secs(20);
/// Whoever asks so often for what was denied does not give up.
pub const MOST: usize = 50_000;

/// What fails.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Plan {
    pub nr: i64,
    /// `None`: every call of the number.
    pub class: Option<String>,
    /// Which of the class; `None`: each.
    pub nth: Option<usize>,
    pub errno: i32,
}

/// What became of it.
pub struct Outcome {
    pub reported: Value,
    pub failed: usize,
    /// By class, how many calls there were; in a run without a plan.
    pub counted: BTreeMap<(i64, String), usize>,
    /// Killed, and why.
    pub harm: Option<String>,
    pub took: Duration,
}

pub fn run(asked: &Asked, plan: Option<&Plan>) -> Result<Outcome, String> {
    let start = Instant::now();
    let shared = shared()?;
    let (from, to) = pipe()?;
    let spared = calls::spared();
    let only: Vec<i64> = plan.iter().map(|p| p.nr).chain(SLEEPS.iter().copied()).collect();
    let calls = if plan.is_some() { Calls::Only(&only) } else { Calls::AllBut(&spared) };
    let pid = unsafe { test_signals::fork() }.map_err(|e| format!("fork: {e}"))?;
    if pid == 0 {
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        drop(from);
        subject::run(asked, &calls, shared, to);
    }
    drop(to);
    let subject = Subject { pid, reaped: false };
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if pidfd < 0 {
        return Err(format!("pidfd_open: {}", std::io::Error::last_os_error()));
    }
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd as i32) };
    let mut outcome =
        Outcome { reported: Value::Null, failed: 0, counted: BTreeMap::new(), harm: None, took: Duration::ZERO };
    let listener = loop {
        match shared.listener.load(Ordering::SeqCst) {
            0 if ready(&[pidfd.as_raw_fd()], 1)[0] => break None,
            0 => {}
            fd => break Some(Listener::take(&pidfd, fd).map_err(|e| format!("listener: {e}"))?),
        }
    };
    if let Some(listener) = listener {
        shared.stage.store(1, Ordering::SeqCst);
        outcome.harm = answer(&listener, &pidfd, pid, shared, plan, start, &mut outcome);
    }
    if outcome.harm.is_none() {
        let text = subject::heard(&from);
        let status = subject.wait();
        outcome.reported = serde_json::from_str(&text).unwrap_or_default();
        if !libc::WIFEXITED(status) || outcome.reported.is_null() {
            outcome.harm = Some(format!("died, status {status:#x}"));
        }
    }
    outcome.took = start.elapsed();
    unsafe { libc::munmap(std::ptr::from_ref(shared).cast_mut().cast(), size_of::<Shared>()) };
    Ok(outcome)
}

/// Answers until the subject has ended; why it was ended.
fn answer(
    listener: &Listener,
    pidfd: &OwnedFd,
    pid: i32,
    shared: &Shared,
    plan: Option<&Plan>,
    start: Instant,
    outcome: &mut Outcome,
) -> Option<String> {
    let mut met = 0usize;
    let mut last = String::new();
    loop {
        let [call, ended] = ready(&[listener.fd(), pidfd.as_raw_fd()], 200);
        if call {
            let Some(call) = listener.next() else { continue };
            if SLEEPS.contains(&call.nr) {
                listener.fail(&call, 0);
                continue;
            }
            if shared.stage.load(Ordering::SeqCst) == 1 && fails(&call, pid, plan, &mut met, outcome) {
                outcome.failed += 1;
                listener.fail(&call, plan.map_or(0, |p| p.errno));
                if outcome.failed > MOST {
                    return Some(format!("never gives up: {} times", outcome.failed));
                }
                continue;
            }
            last.clear();
            last.push_str(&calls::name(call.nr));
            listener.go_on(&call);
        } else if ended {
            return None;
        }
        if start.elapsed() > LIMIT {
            return Some(format!("hangs, after {last}"));
        }
    }
}

fn fails(call: &Call, pid: i32, plan: Option<&Plan>, met: &mut usize, outcome: &mut Outcome) -> bool {
    let Some(plan) = plan else {
        *outcome.counted.entry((call.nr, calls::class(call, pid))).or_default() += 1;
        return false;
    };
    if plan.nr != call.nr || plan.class.as_ref().is_some_and(|class| *class != calls::class(call, pid)) {
        return false;
    }
    *met += 1;
    plan.nth.is_none_or(|nth| nth + 1 == *met)
}

/// The forked process, which is not left behind.
struct Subject {
    pid: i32,
    reaped: bool,
}

impl Subject {
    fn wait(mut self) -> i32 {
        let mut status = 0;
        unsafe { libc::waitpid(self.pid, &mut status, 0) };
        self.reaped = true;
        status
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        if !self.reaped {
            tree::end(&tree::descendants(self.pid));
        }
    }
}

pub fn ready<const N: usize>(fds: &[i32; N], timeout: i32) -> [bool; N] {
    let mut polled = fds.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, timeout) };
    polled.map(|p| p.revents & libc::POLLIN != 0)
}

pub fn pipe() -> Result<(OwnedFd, OwnedFd), String> {
    let mut fds = [0; 2];
    if unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) } != 0 {
        return Err(format!("pipe: {}", std::io::Error::last_os_error()));
    }
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

pub fn shared() -> Result<&'static Shared, String> {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    let at = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<Shared>(), prot, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        return Err(format!("mmap: {}", std::io::Error::last_os_error()));
    }
    // Zeros are a `Shared`.
    Ok(unsafe { &*at.cast::<Shared>() })
}
