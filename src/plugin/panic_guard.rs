//! Catches panics: a defect of ours must not become an outage of the dump.

use crate::criu::log;
use crate::scanner;
use std::any::Any;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};

/// An internal fault has happened in this process: everything of ours is silent from then on.
static BROKEN: AtomicBool = AtomicBool::new(false);

/// Runs what an entry from C does. A panic inside is logged once and answered with `silent`; after it every entry
/// answers `silent` at once, for nothing of our state can be trusted any more.
///
/// The panic hook is replaced meanwhile (it would print to a stderr that is not ours) and errno is as the caller left it.
/// Should a forked child ever get here, it ends: it may not return into CRIU's code.
pub fn catch_panic<T>(entry: &str, silent: T, body: impl FnOnce() -> T) -> T {
    if BROKEN.load(Ordering::Relaxed) {
        return silent;
    }
    let errno = nix::errno::Errno::last_raw();
    fault::mark(true);
    let pid = std::process::id();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let result = catch_unwind(AssertUnwindSafe(|| {
        fault::inject(entry);
        body()
    }));
    if std::process::id() != pid {
        // SAFETY: ends the child without running anything of CRIU's.
        unsafe { libc::_exit(125) };
    }
    std::panic::set_hook(hook);
    let answer = match result {
        Ok(answer) => answer,
        Err(payload) => {
            BROKEN.store(true, Ordering::Relaxed);
            scanner::abandon();
            let text = panic_text(payload.as_ref());
            log::warn(&format!("internal fault in {entry} ({text}): the dump goes on without this plugin"));
            // Dropping it could panic again, outside of the guard.
            std::mem::forget(payload);
            silent
        }
    };
    fault::mark(false);
    nix::errno::Errno::set_raw(errno);
    answer
}

/// What a panic said.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let owned = payload.downcast_ref::<String>().map(String::as_str);
    payload.downcast_ref::<&str>().copied().or(owned).unwrap_or("no text")
}

/// Whether an internal fault has happened.
pub fn broken() -> bool {
    BROKEN.load(Ordering::Relaxed)
}

#[cfg(feature = "fault-injection")]
mod fault {
    /// Panics in the entry that the environment names; only in builds made for the test of the guard.
    #[allow(clippy::panic)]
    pub(crate) fn inject(entry: &str) {
        if std::env::var("CRIU_PREFLIGHT_FAULT").is_ok_and(|e| e == entry) {
            panic!("injected fault");
        }
    }

    /// Tells the supervisor of our system calls (`make faults`) where an entry begins and ends: an option that prctl(2) does not
    /// have.
    pub(crate) fn mark(begins: bool) {
        const MARK: libc::c_int = 0x7072_6566;
        // SAFETY: numbers, which mean nothing to the kernel.
        unsafe { libc::prctl(MARK, libc::c_ulong::from(begins), 0, 0, 0) };
    }
}

#[cfg(not(feature = "fault-injection"))]
mod fault {
    pub(crate) fn inject(_entry: &str) {}
    pub(crate) fn mark(_begins: bool) {}
}
