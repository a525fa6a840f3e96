//! On descriptors of our own that change, or do not, while they are asked.

use super::*;
use crate::rules::testkit;
use crate::snapshot::ScanPhase;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

const RECHECK_DELAY: Duration = Duration::from_millis(30);

fn me() -> i32 {
    std::process::id().cast_signed()
}

fn collect() -> Snapshot {
    crate::scan::collect_once(me(), ScanPhase::Early, &testkit::host()).unwrap()
}

/// What this rule would say of a descriptor of ours.
fn finding(rule: &str, snap: &Snapshot, fd: i32) -> Finding {
    let task = snap.task(me()).unwrap();
    let file = task.files.iter().find(|f| f.fd() == Some(fd)).unwrap();
    Finding::on_file(registry::by_id(rule).unwrap(), task, file)
}

/// What became of each.
fn held<const N: usize>(mut findings: [Finding; N], ask: impl FnOnce(&mut [Finding])) -> [Option<bool>; N] {
    ask(&mut findings);
    findings.map(|f| f.held)
}

fn watched<const N: usize>(findings: [Finding; N], snap: &Snapshot) -> [Option<bool>; N] {
    held(findings, |findings| watch(findings, snap, RECHECK_DELAY))
}

fn looked_up(f: &Finding, snap: &Snapshot) -> Option<bool> {
    let [held] = held([f.clone()], |findings| paths(findings, snap));
    held
}

/// `other` is done over and over while `body` runs.
fn while_doing<T>(mut other: impl FnMut() + Send, body: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                other();
            }
        });
        let result = body();
        done.store(true, Ordering::Relaxed);
        result
    })
}

#[test]
fn a_descriptor_that_is_now_this_and_now_that_is_not_steady() {
    let (kept, moved) = (File::open("/dev/null").unwrap(), File::open("/dev/null").unwrap());
    let others = [File::open("/dev/zero").unwrap(), File::open("/dev/null").unwrap()];
    let snap = collect();
    let findings = [kept.as_raw_fd(), moved.as_raw_fd()].map(|fd| finding("fd-chrdev", &snap, fd));
    assert_eq!(watched(findings.clone(), &snap), [Some(true); 2]);
    let turn = || {
        for other in &others {
            // SAFETY: two descriptors of ours; the second is closed and made again in one step, and stays `moved`'s.
            assert_ne!(unsafe { libc::dup2(other.as_raw_fd(), moved.as_raw_fd()) }, -1);
            std::thread::sleep(Duration::from_millis(2));
        }
    };
    assert_eq!(while_doing(turn, || watched(findings.clone(), &snap)), [Some(true), Some(false)]);
    // Another process by now.
    let mut gone = findings[0].clone();
    gone.start_time += 1;
    assert_eq!(watched([gone.clone(), gone.doubt()], &snap), [Some(false), None]);
}

#[test]
fn a_task_is_steady_while_nothing_that_counts_changes() {
    let snap = collect();
    let f = Finding::on_task(registry::by_id("task-traced").unwrap(), snap.task(me()).unwrap());
    assert_eq!(watched([f], &snap), [Some(true)]);
}

fn fresh_dir(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("preflight-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::canonicalize(dir).unwrap()
}

fn open_in(dir: &Path, name: &str) -> File {
    File::options().create(true).truncate(true).read(true).write(true).open(dir.join(name)).unwrap()
}

/// Lets the snapshot say that the path of this descriptor leads elsewhere.
fn led_astray(snap: &mut Snapshot, file: &File, path: &Path, mismatch: PathMismatch) -> i32 {
    let fd = file.as_raw_fd();
    let seen = snap.tasks[0].files.iter_mut().find(|f| f.fd() == Some(fd)).unwrap();
    (seen.link, seen.mismatch) = (Some(path.to_str().unwrap().into()), Some(mismatch));
    fd
}

#[test]
fn a_name_that_is_gone_is_gone_each_time_it_is_asked_for() {
    let dir = fresh_dir("again-gone");
    let file = open_in(&dir, "a");
    std::fs::hard_link(dir.join("a"), dir.join("b")).unwrap();
    std::fs::remove_file(dir.join("a")).unwrap();
    let snap = collect();
    let f = finding("link-remap-needed", &snap, file.as_raw_fd());
    assert_eq!(looked_up(&f, &snap), Some(true));
    assert_eq!(looked_up(&f.clone().doubt(), &snap), None, "only refusals are asked for");
    // Its last name goes after the look.
    std::fs::remove_file(dir.join("b")).unwrap();
    assert_eq!(looked_up(&f, &snap), Some(false));
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_file_that_was_replaced_after_the_look_is_no_finding() {
    let dir = fresh_dir("again-replaced");
    let file = open_in(&dir, "a");
    let mut snap = collect();
    // As if its path had been looked up only after another file had been renamed over it.
    let new = open_in(&dir, "new");
    std::fs::rename(dir.join("new"), dir.join("a")).unwrap();
    let other = crate::scan::sys::statx(&new, c"").unwrap();
    let other = PathMismatch::Replaced { dev: other.dev, ino: other.ino, rdev: other.rdev };
    let fd = led_astray(&mut snap, &file, &dir.join("a"), other);
    assert_eq!(looked_up(&finding("path-reused", &snap, fd), &snap), Some(false));
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_directory_that_is_renamed_to_and_fro_deceives_nobody() {
    let dir = fresh_dir("again-renamed");
    std::fs::create_dir(dir.join("d")).unwrap();
    let file = open_in(&dir.join("d"), "a");
    let mut snap = collect();
    let above = crate::scan::sys::statx(&file, c"").unwrap().mnt_id;
    let fd = led_astray(&mut snap, &file, &dir.join("d/a"), PathMismatch::NoEntry { above });
    let f = finding("link-remap-needed", &snap, fd);
    let turn = || {
        std::fs::rename(dir.join("d"), dir.join("e")).unwrap();
        std::fs::rename(dir.join("e"), dir.join("d")).unwrap();
    };
    let held = while_doing(turn, || (0..200).filter(|_| looked_up(&f, &snap) == Some(true)).count());
    assert_eq!(held, 0);
    std::fs::remove_dir_all(dir).unwrap();
}
