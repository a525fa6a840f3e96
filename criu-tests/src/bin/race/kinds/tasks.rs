//! Processes that come and go.

use super::{kind, Claim, Kind};
use crate::world::{name, ok, sleep, World};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

pub const KINDS: &[Kind] = &[
    kind("fork-storm", "processes fork children that fork and exit, some left as zombies for a while", fork_storm),
    kind("exec", "processes execute one program and the other, again and again", exec),
    kind("vfork-exec", "programs are started with vfork and waited for", vfork_exec),
    kind("daemons", "processes daemonise: fork, setsid, fork, exit", daemons),
    kind("sessions", "processes move between process groups and new sessions", sessions),
    kind("pidfd", "pidfds of children that are alive, dead or reaped", pidfd),
    // Root's CRIU needs CAP_SYS_RESOURCE for another user's limits; where it has that, it dumps all.
    kind("credentials", "processes change their user and group ids", credentials).claims(&[Claim {
        rule: "rlimit-denied",
        text: "Can't get rlimit",
        who: "ids",
    }]),
    kind("sigtrap", "a task sends itself SIGTRAP", sigtrap).claims(&[Claim {
        rule: "pending-sigtrap",
        text: "thread with a pending SIGTRAP",
        who: "trap",
    }]),
];

/// Ends a process of the tree.
fn exit() -> ! {
    // SAFETY: ends the process without what the parent's copy would do at exit.
    unsafe { libc::_exit(0) }
}

/// Whoever of this process's children has ended.
fn reap() {
    // SAFETY: waits for nobody.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
}

fn fork_storm(w: &mut World) -> io::Result<()> {
    let micros = [200, 500, 2000][w.rng.below(3)];
    for _ in 0..w.between(1, 3) {
        w.worker("storm", move |w| loop {
            if w.fork()? == 0 {
                if w.rng.chance(30) && w.fork()? == 0 {
                    w.nap(micros * 2);
                    exit();
                }
                w.nap(micros * 3);
                exit();
            }
            w.nap(micros);
            if w.rng.chance(40) {
                reap();
            }
        })?;
    }
    Ok(())
}

fn exec(w: &mut World) -> io::Result<()> {
    for _ in 0..w.between(1, 3) {
        w.worker("exec", exec_again)?;
    }
    Ok(())
}

/// Becomes this program once more, under its other name.
fn exec_again(w: &mut World) -> io::Result<()> {
    w.nap(2000);
    let which = if w.rng.chance(50) { "race" } else { "other" };
    Err(Command::new(w.program(which)).arg("--again").args(w.words()).exec())
}

/// The program under `--again`.
pub fn again(words: &[String]) -> Option<()> {
    let mut w = World::of_words(words)?;
    w.arm();
    name("exec");
    if let Err(e) = exec_again(&mut w) {
        w.broken(&format!("exec: {e}"));
    }
    None
}

fn vfork_exec(w: &mut World) -> io::Result<()> {
    for _ in 0..w.between(1, 3) {
        // The standard library starts programs as posix_spawn does, by a child that shares its memory.
        w.worker("spawn", |w| loop {
            let mut started = Command::new(w.program("other")).arg("--nothing").spawn()?;
            w.nap(500);
            started.wait()?;
            w.nap(500);
        })?;
    }
    Ok(())
}

fn daemons(w: &mut World) -> io::Result<()> {
    for _ in 0..w.between(1, 2) {
        w.worker("daemons", |w| loop {
            let child = w.fork()?;
            if child == 0 {
                // SAFETY: a plain system call.
                ok(unsafe { libc::setsid() })?;
                w.nap(200);
                if w.fork()? == 0 {
                    name("daemon");
                    w.nap(10_000);
                    exit();
                }
                exit();
            }
            // SAFETY: a child of this process.
            unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
            w.nap(1000);
        })?;
    }
    Ok(())
}

fn sessions(w: &mut World) -> io::Result<()> {
    for _ in 0..w.between(1, 3) {
        w.worker("sessions", |w| loop {
            if w.fork()? == 0 {
                w.nap(300);
                // SAFETY: plain system calls about the process itself. The leader of a group cannot leave it so.
                unsafe {
                    if w.rng.chance(50) {
                        libc::setpgid(0, 0);
                    } else {
                        libc::setsid();
                    }
                }
                if w.rng.chance(50) && w.fork()? == 0 {
                    w.nap(1000);
                    // SAFETY: as above.
                    unsafe { libc::setpgid(0, 0) };
                    w.nap(1000);
                    exit();
                }
                w.nap(1000);
                exit();
            }
            w.nap(500);
            reap();
        })?;
    }
    Ok(())
}

fn pidfd(w: &mut World) -> io::Result<()> {
    for _ in 0..w.between(1, 2) {
        w.worker("pidfd", |w| {
            let mut open = VecDeque::new();
            loop {
                let child = w.fork()?;
                if child == 0 {
                    name("pidfd-child");
                    w.nap(2000);
                    exit();
                }
                // SAFETY: the child is not reaped yet, so the number is its; the descriptor is new.
                unsafe {
                    let fd = ok(libc::syscall(libc::SYS_pidfd_open, child, 0))?;
                    open.push_back(OwnedFd::from_raw_fd(fd as i32));
                }
                w.nap(500);
                reap();
                if open.len() > w.between(1, 5) {
                    open.pop_front();
                }
                w.nap(300);
            }
        })?;
    }
    Ok(())
}

extern "C" fn nothing(_: i32) {}

fn sigtrap(w: &mut World) -> io::Result<()> {
    let micros = [0, 50, 200][w.rng.below(3)];
    w.worker("trap", move |_| {
        // SAFETY: a handler that does nothing, and a signal to this process.
        unsafe {
            libc::signal(libc::SIGTRAP, nothing as extern "C" fn(i32) as libc::sighandler_t);
            loop {
                test_signals::signal_self(libc::SIGTRAP)?;
                if micros > 0 {
                    sleep(micros);
                }
            }
        }
    })?;
    Ok(())
}

fn credentials(w: &mut World) -> io::Result<()> {
    for _ in 0..w.between(1, 3) {
        w.worker("ids", |w| loop {
            // The effective ones only, so that there is a way back.
            for (group, user) in [(1000, 1000), (0, 0)] {
                // SAFETY: plain system calls; back to 0 the user has to be first.
                unsafe {
                    if user == 0 {
                        ok(libc::seteuid(user))?;
                    }
                    ok(libc::setegid(group))?;
                    if user != 0 {
                        ok(libc::seteuid(user))?;
                    }
                }
                w.nap(300);
            }
        })?;
    }
    Ok(())
}
