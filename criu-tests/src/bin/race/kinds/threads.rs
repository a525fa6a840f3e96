//! Threads, signals and timers.

use super::{kind, Claim, Kind};
use crate::world::{name, ok, sleep, World};
use criu_tests::soak::Random;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

pub const KINDS: &[Kind] = &[
    kind("threads", "threads come and go", threads).claims(&[Claim {
        rule: "thread-zombie",
        text: "Zombie thread not supported",
        who: "thread",
    }]),
    kind("signals", "signals are blocked, queued, taken from a signalfd and let through", signals),
    kind("timers", "timers of every kind are made, set, expire and are taken away", timers),
];

fn threads(w: &mut World) -> io::Result<()> {
    let micros = [100, 500, 2000][w.rng.below(3)];
    for _ in 0..w.between(1, 2) {
        w.worker("threads", move |w| {
            let mut running = VecDeque::new();
            loop {
                let seed = w.rng.draw();
                let started = std::thread::Builder::new().stack_size(64 << 10).spawn(move || {
                    name("thread");
                    let mut rng = Random::new(seed);
                    (0..3).for_each(|_| sleep(rng.below(micros)));
                });
                running.push_back(started?);
                if running.len() > w.between(1, 8) {
                    let ended = running.pop_front().map(std::thread::JoinHandle::join);
                    if ended.is_some_and(|e| e.is_err()) {
                        return Err(io::Error::other("a thread panicked"));
                    }
                }
                w.nap(micros / 2);
            }
        })?;
    }
    Ok(())
}

fn signals(w: &mut World) -> io::Result<()> {
    for _ in 0..w.between(1, 2) {
        w.worker("signals", |w| {
            // SAFETY: a set of this process's own, signals to itself, a buffer that lives through the call.
            unsafe {
                let mut set: libc::sigset_t = std::mem::zeroed();
                let real_time = libc::SIGRTMIN() + 2;
                for signal in [libc::SIGUSR2, real_time] {
                    libc::sigaddset(&mut set, signal);
                }
                ok(libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()))?;
                let mut open = Vec::new();
                loop {
                    let value = libc::sigval { sival_ptr: std::ptr::null_mut() };
                    for _ in 0..w.between(0, 5) {
                        ok(libc::sigqueue(libc::getpid(), real_time, value))?;
                    }
                    ok(libc::raise(libc::SIGUSR2))?;
                    w.nap(200);
                    let fd = OwnedFd::from_raw_fd(ok(libc::signalfd(-1, &set, libc::SFD_NONBLOCK))?);
                    let mut info = [0_u8; 1024];
                    while libc::read(fd.as_raw_fd(), info.as_mut_ptr().cast(), info.len()) > 0 {}
                    open.push(fd);
                    if open.len() > w.between(0, 4) {
                        open.swap_remove(w.rng.below(open.len()));
                    }
                    w.nap(100);
                }
            }
        })?;
    }
    Ok(())
}

fn timers(w: &mut World) -> io::Result<()> {
    for _ in 0..w.between(1, 2) {
        w.worker("timers", |w| {
            let soon = |micros: usize| libc::timespec { tv_sec: 0, tv_nsec: micros as i64 * 1000 + 1 };
            let none: *mut libc::c_void = std::ptr::null_mut();
            // SAFETY: plain system calls; every pointer is to a live local. No timer sends a signal but the interval one,
            // which is ignored.
            unsafe {
                libc::signal(libc::SIGVTALRM, libc::SIG_IGN);
                let mut open: Vec<(OwnedFd, libc::timer_t)> = Vec::new();
                loop {
                    let fd = OwnedFd::from_raw_fd(ok(libc::timerfd_create(libc::CLOCK_MONOTONIC, 0))?);
                    let (value, interval) = (soon(w.rng.below(3000)), soon(w.rng.below(1000)));
                    let set = libc::itimerspec { it_interval: interval, it_value: value };
                    ok(libc::timerfd_settime(fd.as_raw_fd(), 0, &set, none.cast()))?;
                    let mut event: libc::sigevent = std::mem::zeroed();
                    event.sigev_notify = libc::SIGEV_NONE;
                    let mut timer: libc::timer_t = std::mem::zeroed();
                    ok(libc::timer_create(libc::CLOCK_MONOTONIC, &mut event, &mut timer))?;
                    ok(libc::timer_settime(timer, 0, &set, none.cast()))?;
                    let slice = libc::timeval { tv_sec: 0, tv_usec: 1 + w.rng.below(5000) as i64 };
                    let virtual_time = libc::itimerval { it_interval: slice, it_value: slice };
                    ok(libc::setitimer(libc::ITIMER_VIRTUAL, &virtual_time, none.cast()))?;
                    open.push((fd, timer));
                    w.nap(200);
                    while open.len() > w.between(0, 6) {
                        let (_, timer) = open.swap_remove(w.rng.below(open.len()));
                        ok(libc::timer_delete(timer))?;
                    }
                    w.nap(200);
                }
            }
        })?;
    }
    Ok(())
}
