//! Inside a moving tree: its root process, and what its processes are made with.
//!
//! Every process of a tree has a name that begins with `rc-`, ends by itself at the deadline (the root also when the
//! harness dies), and has no descriptor but those its kind gives it. The root adopts and reaps what is orphaned.

use crate::{kinds, root};
use criu_tests::soak::Random;
use std::ffi::CString;
use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;

/// Where the root keeps the pipe on which it reports, out of the way of what will be made.
const REPORT: RawFd = 100;

pub struct World {
    pub rng: Random,
    /// Second of the monotonic clock at which nothing of the tree lives any more.
    deadline: i64,
    /// The directory of the run; the tree's working directory is `files` in it.
    dir: PathBuf,
}

/// What the call returned, or the kernel's answer.
pub fn ok<T: Copy + PartialEq + From<i8>>(ret: T) -> io::Result<T> {
    if ret == T::from(-1i8) {
        return Err(io::Error::last_os_error());
    }
    Ok(ret)
}

pub fn now() -> i64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut t) };
    t.tv_sec
}

/// Names the calling thread.
pub fn name(name: &str) {
    let name = CString::new(format!("rc-{name}")).unwrap_or_default();
    // SAFETY: a string that lives through the call; the kernel copies 16 bytes of it at most.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

impl World {
    /// As the words after `--tree KIND` or `--again` tell it: SEED DEADLINE DIR.
    pub fn of_words(words: &[String]) -> Option<World> {
        let [seed, deadline, dir] = words else { return None };
        Some(World { rng: Random::new(seed.parse().ok()?), deadline: deadline.parse().ok()?, dir: dir.into() })
    }

    /// The same words for a program that a process of the tree executes.
    pub fn words(&mut self) -> [String; 3] {
        [self.rng.draw().to_string(), self.deadline.to_string(), self.dir.to_string_lossy().into_owned()]
    }

    /// This program's copy under another of its names: `race` or `other`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.dir.join("..").join(format!("rc-{name}"))
    }

    /// What was inside the run's directory is a root directory now.
    pub fn rooted(&mut self) {
        self.dir = "/".into();
    }

    pub fn dir(&self) -> PathBuf {
        self.dir.clone()
    }

    /// Nothing outlives the deadline, whoever has died. A child does not inherit an alarm.
    pub fn arm(&self) {
        let left = self.deadline - now();
        if left <= 0 {
            // SAFETY: ends the process.
            unsafe { libc::_exit(0) };
        }
        // SAFETY: a plain system call.
        unsafe { libc::alarm(left as u32) };
    }

    /// `fork`, the child's alarm set: 0 in the child.
    pub fn fork(&self) -> io::Result<i32> {
        // SAFETY: kinds fork only while they have one thread.
        let pid = loop {
            match unsafe { test_signals::fork() } {
                // The machine has no process left: that is others' doing, and passes.
                Err(e) if e.raw_os_error() == Some(libc::EAGAIN) => sleep(1000),
                other => break other?,
            }
        };
        if pid == 0 {
            self.arm();
        }
        Ok(pid)
    }

    /// A child that is called `rc-NAME` and does `work`; it ends when that is done. A failure ends the trial.
    pub fn worker(&mut self, called: &str, work: impl FnOnce(&mut World) -> io::Result<()>) -> io::Result<i32> {
        let seed = self.rng.draw();
        let pid = self.fork()?;
        if pid > 0 {
            return Ok(pid);
        }
        // SAFETY: a child of one thread; the report is the root's alone, and nobody else has that number.
        unsafe { libc::close(REPORT) };
        name(called);
        self.rng = Random::new(seed);
        let failed = work(self).is_err_and(|e| {
            self.broken(&format!("{called}: {e}"));
            true
        });
        // SAFETY: ends the process without what the parent's copy would do at exit.
        unsafe { libc::_exit(i32::from(failed)) }
    }

    /// Leaves word that the tree is not what its kind promises.
    pub fn broken(&self, why: &str) {
        let _ = std::fs::write(self.dir.join("broken"), why);
    }

    /// Sleeps up to `micros`; not at all one time in four, so that the tree is met at any point.
    pub fn nap(&mut self, micros: usize) {
        if self.rng.chance(75) {
            sleep(self.rng.below(micros + 1));
        }
    }

    /// As many as the seed says, between the two.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.rng.below(high - low + 1)
    }
}

/// Sleeps so many microseconds, or less if a signal comes.
pub fn sleep(micros: usize) {
    let t = libc::timespec { tv_sec: (micros / 1_000_000) as _, tv_nsec: (micros % 1_000_000 * 1000) as _ };
    // SAFETY: a timespec that lives through the call.
    unsafe { libc::nanosleep(&t, std::ptr::null_mut()) };
}

/// What moves, in some trees between processes with much to look at: whoever looks takes longer then from one thing to the next.
fn all(w: &mut World, kind: &kinds::Kind) -> io::Result<()> {
    let ballast = if w.rng.chance(40) { w.between(50, 300) } else { 0 };
    idle(w, ballast)?;
    (kind.run)(w)?;
    idle(w, ballast)
}

fn idle(w: &mut World, descriptors: usize) -> io::Result<()> {
    for _ in 0..usize::from(descriptors > 0) * 2 {
        w.worker("idle", |_| {
            let _open = (0..descriptors).map(|_| std::fs::File::open("/dev/null")).collect::<io::Result<Vec<_>>>()?;
            loop {
                sleep(1_000_000);
            }
        })?;
    }
    Ok(())
}

/// The root process of `--tree KIND SEED DEADLINE DIR`: makes what the kind tells, reports, and reaps. `+` on its standard
/// output says that all stands, `-WHY` that this machine does not allow it. `--rooted` is the same root again, executed from
/// a root directory of its own.
pub fn run(words: &[String], rooted: bool) -> Option<()> {
    let (kind, words) = words.split_first()?;
    let kind = kinds::find(kind)?;
    let mut world = World::of_words(words)?;
    if rooted {
        world.rooted();
    }
    // SAFETY: plain system calls of a process of one thread; nothing else has these numbers yet.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0);
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        if !rooted {
            libc::setsid();
            libc::dup2(1, REPORT);
        }
        // What whoever started us has left open is no part of the tree.
        libc::syscall(libc::SYS_close_range, 3, REPORT - 1, 0);
        libc::syscall(libc::SYS_close_range, REPORT + 1, u32::MAX, 0);
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        for fd in 0..3 {
            libc::dup2(null, fd);
        }
        libc::close(null);
    }
    name("root");
    world.arm();
    let made = std::env::set_current_dir(world.dir.join("files")).and_then(|()| match kind.rooted && !rooted {
        true => root::execute(&mut world, kind.name),
        false => all(&mut world, kind),
    });
    let report = made.map_or_else(|e| format!("-{e}"), |()| "+".into());
    // SAFETY: the text lives through the call.
    unsafe {
        libc::write(REPORT, report.as_ptr().cast(), report.len());
        libc::close(REPORT);
    }
    loop {
        // SAFETY: only children of this process are waited for.
        if unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } < 0 {
            sleep(1_000_000);
        }
    }
}
