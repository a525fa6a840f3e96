//! Debuggers.

use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[Kind {
    name: "traced",
    help: "who=child|self|thread: seized by an outside debugger; detached: which has let go again",
    make: traced,
}];

fn traced(cx: &mut Ctx, a: &Args) -> Res {
    let who = a.get("who").unwrap_or("child");
    let tid = match who {
        "self" => unsafe { libc::getpid() },
        "thread" => {
            let (tx, rx) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                let _ = tx.send(unsafe { libc::syscall(libc::SYS_gettid) } as i32);
                loop {
                    unsafe { libc::pause() };
                }
            });
            let tid = rx.recv().map_err(|_| Fail::Skip("no thread".into()))?;
            cx.pids.push((format!("{}.tid", cx.kind), tid));
            tid
        }
        _ => cx.child("child", &[], || Ok(()))?,
    };
    let detached = a.has("detached");
    cx.outsider("tracer", &[], || {
        let null = std::ptr::null_mut::<libc::c_void>();
        sys::ok("PTRACE_SEIZE", unsafe { libc::ptrace(libc::PTRACE_SEIZE, tid, null, null) })?;
        if detached {
            sys::ok("PTRACE_INTERRUPT", unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, tid, null, null) })?;
            let _ = test_signals::wait(tid, libc::__WALL);
            sys::ok("PTRACE_DETACH", unsafe { libc::ptrace(libc::PTRACE_DETACH, tid, null, null) })?;
        }
        Ok(())
    })?;
    Ok(())
}
