//! Processes that are stopped, traced or half dead for a moment.

use super::{kind, Claim, Kind};
use crate::world::{name, ok, sleep, World};
use std::io;

pub const KINDS: &[Kind] = &[
    kind("stop-cont", "a process is stopped by SIGSTOP and SIGTSTP, and continued", |w| {
        stop(w, &[libc::SIGSTOP, libc::SIGTSTP])
    })
    .stops(),
    kind("stop-tty", "a process is stopped as one that reads its terminal from the background, and continued", |w| {
        stop(w, &[libc::SIGTTIN, libc::SIGTTOU])
    })
    .stops()
    .claims(&[Claim { rule: "stop-signal-unsupported", text: "unsupported stop signal", who: "stopped" }]),
    kind("traced", "a debugger in the tree attaches to a process and lets it go", traced).stops().claims(&[Claim {
        rule: "task-traced",
        text: "Unseizable non-zombie",
        who: "traced",
    }]),
    kind("leader-exits", "the first threads of processes end before the others", leader_exits).claims(&[
        Claim { rule: "leader-zombie-threads", text: "Zombies with threads are not supported", who: "leader" },
        Claim { rule: "thread-zombie", text: "Zombie thread not supported", who: "leader" },
    ]),
];

/// A child that does nothing, in a process group of its own: the kernel stops no orphaned one.
fn idle_child(w: &World, called: &str) -> io::Result<i32> {
    let child = w.fork()?;
    if child > 0 {
        return Ok(child);
    }
    name(called);
    // SAFETY: a plain system call about the process itself.
    unsafe { libc::setpgid(0, 0) };
    loop {
        sleep(500);
    }
}

fn stop(w: &mut World, by: &'static [i32]) -> io::Result<()> {
    w.worker("stopper", move |w| {
        let child = idle_child(w, "stopped")?;
        loop {
            w.nap(5000);
            let signal = by[w.rng.below(by.len())];
            // A child of this process that never ends by itself before this one, and is not reaped.
            test_signals::signal(child, signal)?;
            w.nap(1500);
            test_signals::signal(child, libc::SIGCONT)?;
        }
    })?;
    Ok(())
}

fn traced(w: &mut World) -> io::Result<()> {
    w.worker("tracer", |w| {
        let child = idle_child(w, "traced")?;
        let trace = |request: libc::c_uint| {
            let none: *mut libc::c_void = std::ptr::null_mut();
            // SAFETY: requests that neither read nor write this process's memory.
            ok(unsafe { libc::ptrace(request, child, none, none) })
        };
        loop {
            w.nap(8000);
            // Somebody else may be its tracer just now.
            if trace(libc::PTRACE_SEIZE).is_err() {
                continue;
            }
            w.nap(1500);
            trace(libc::PTRACE_INTERRUPT)?;
            // SAFETY: a child of this process, which it traces.
            while unsafe { libc::waitpid(child, std::ptr::null_mut(), libc::__WALL) } < 0 {}
            w.nap(500);
            trace(libc::PTRACE_DETACH)?;
        }
    })?;
    Ok(())
}

fn leader_exits(w: &mut World) -> io::Result<()> {
    w.worker("leader", |w| loop {
        let child = w.fork()?;
        if child == 0 {
            let micros = w.between(0, 2000);
            let other = std::thread::Builder::new().stack_size(64 << 10).spawn(move || {
                name("leader-other");
                sleep(micros);
                // SAFETY: ends the process.
                unsafe { libc::_exit(0) };
            });
            other?;
            // SAFETY: ends the first thread alone, whose stack the other one does not use.
            unsafe { libc::syscall(libc::SYS_exit, 0) };
        }
        // SAFETY: a child of this process.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
        w.nap(8000);
    })?;
    Ok(())
}
