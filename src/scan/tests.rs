//! The look at living children ([`actor`]).

mod actor;

use super::*;
use crate::scan::proc::Dir;
use crate::snapshot::{OpenFile, Task};
use actor::{look_at, Actor};
use std::process::{Command, Stdio};

fn file(task: &Task, fd: i32) -> &OpenFile {
    task.files.iter().find(|f| f.fd() == Some(fd)).unwrap()
}

#[test]
fn ten_thousand_descriptors() {
    let actor = Actor::start("fds");
    let started = std::time::Instant::now();
    let snap = actor.collect();
    let took = started.elapsed();
    let task = &snap.tasks[0];
    assert!(task.fd_count >= 10_000, "{}", task.fd_count);
    assert!(task.files.windows(2).all(|w| w[0].fd() < w[1].fd()));
    let events = task.files.iter().filter(|f| f.link.as_deref() == Some(b"anon_inode:[eventfd]".as_slice()));
    assert_eq!(events.count(), 5000);
    let one = file(task, actor.said[0]);
    let dir = Dir::proc().unwrap().process(actor.pid()).ok().unwrap().dir(c"fd").ok().unwrap();
    let plain = OpenFile::linked(dir.stat(&name(one.fd().unwrap())).ok().unwrap());
    // Remembered ones are as good as asked ones.
    for event in task.files.iter().filter(|f| f.link == one.link) {
        // The first of them were asked for their locks.
        let (info, flags) = (event.info.clone(), event.flags);
        assert_eq!(
            *event,
            OpenFile { origin: event.origin.clone(), link: one.link.clone(), info, flags, ..plain.clone() }
        );
    }
    eprintln!("look at {} descriptors: {took:?}", task.fd_count);
}

fn name(fd: i32) -> std::ffi::CString {
    std::ffi::CString::new(fd.to_string()).unwrap()
}

#[test]
fn every_class_gets_what_it_needs() {
    let actor = Actor::start("zoo");
    let snap = actor.collect();
    let task = &snap.tasks[0];
    let [gone, null, read, write, socket, event, pidfd, epoll, inotify, locked, tty] = actor.said[..] else { panic!() };
    let f = file(task, gone);
    assert_eq!((f.attr.nlink, f.kind()), (0, libc::S_IFREG));
    assert!(f.link.as_deref().unwrap().ends_with(b"-\x7fa\nb (deleted)"), "{:?}", f.link);
    assert_eq!((file(task, null).attr.rdev.major, &file(task, null).link), (1, &None));
    assert!(file(task, null).attr.mnt_id.is_some());
    assert!(file(task, read).is_fifo() && file(task, read).attr.ino == file(task, write).attr.ino);
    assert_eq!(file(task, write).flags, Some(libc::O_WRONLY as u32));
    assert!(file(task, socket).socket().unwrap().udp_cork == Some(false));
    assert!(snap.sockets[0].inet.iter().any(|s| u64::from(s.inode) == file(task, socket).attr.ino));
    assert!(file(task, socket).is_socket() && file(task, socket).link.is_none());
    assert_eq!(file(task, event).link.as_deref(), Some(b"anon_inode:[eventfd]".as_slice()));
    assert!(file(task, event).is_anon());
    assert_eq!(file(task, pidfd).info.as_ref().unwrap().pidfd.as_ref().unwrap().pid, 1);
    assert!(file(task, epoll).info.is_some() && file(task, inotify).info.is_some());
    assert_eq!(file(task, locked).info.as_ref().unwrap().locks.len(), 1);
    assert!(file(task, locked).link.is_some());
    if tty >= 0 {
        assert!(file(task, tty).info.as_ref().unwrap().tty_index.is_some());
    }
    std::fs::remove_file(std::env::temp_dir().join(format!("lock-{}", actor.pid()))).unwrap();
}

#[test]
fn five_hundred_threads() {
    let actor = Actor::start("threads");
    let snap = actor.collect();
    // The main thread, libtest's, and ours.
    assert!(snap.tasks[0].threads.len() >= 501, "{}", snap.tasks[0].threads.len());
    assert!(snap.tasks[0].threads.iter().all(|t| t.state == 'S' || t.state == 'R'));
    assert_eq!(snap.unchecked, []);
}

#[test]
fn a_family_with_a_zombie() {
    let actor = Actor::start("family");
    let [living, dead] = actor.said[..] else { panic!() };
    let snap = actor.collect();
    let pids: Vec<i32> = snap.tasks.iter().map(|t| t.pid).collect();
    assert_eq!(pids, [actor.pid(), living, dead]);
    let zombie = snap.task(dead).unwrap();
    assert!(zombie.is_zombie() && zombie.files.is_empty() && zombie.maps.is_empty() && zombie.exe.is_none());
    let living = snap.task(living).unwrap();
    assert_eq!((living.ppid, living.comm.0.as_slice(), living.elf_class), (actor.pid(), &b"cat"[..], Some(2)));
    assert_eq!(living.ns, snap.criu.ns);
    assert!(living.exe.as_ref().unwrap().text.ends_with(b"cat"));
    assert!(living.maps.iter().any(|m| m.vma.path.0 == b"[stack]"));
    assert!(living.maps.iter().all(|m| m.vma.flags.is_none()), "smaps is not read for a plain program");
    assert_eq!(snap.mounts.len(), 1);
    assert_eq!(snap.root_shares(|ns| ns.mnt), Some(true));
    assert_eq!(snap.unchecked, []);
}

#[test]
fn what_tasks_share_is_read_once() {
    let actor = Actor::start("sharers");
    let snap = actor.collect();
    let [root, child, below, beside] = &snap.tasks[..] else { panic!("{:?}", snap.tasks.len()) };
    for task in [root, child] {
        assert!(task.maps.len() > 1000 && task.fd_count > 100 && task.files.len() == task.fd_count);
        assert_eq!((task.maps_of, task.files_of, task.shares.mm), (None, None, None));
    }
    for task in [below, beside] {
        assert_eq!((task.maps_of, task.files_of, task.fd_count), (Some(child.pid), Some(child.pid), child.fd_count));
        assert_eq!((&task.maps[..], &task.files[..], task.shares.mm), (&[][..], &[][..], Some(child.pid)));
    }
    assert_eq!((below.ppid, below.shares.files), (child.pid, None));
    assert_eq!((beside.ppid, beside.shares.files), (root.pid, Some(child.pid)));
    assert_eq!(snap.unchecked, []);
}

/// The frozen look, with us as the tracer.
#[test]
fn registers_in_the_frozen_look() {
    use nix::sys::ptrace;
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    let target = nix::unistd::Pid::from_raw(pid);
    ptrace::seize(target, ptrace::Options::empty()).unwrap();
    ptrace::interrupt(target).unwrap();
    test_signals::wait(pid, 0).unwrap();
    let snap = collect_once(pid, ScanPhase::Frozen, &crate::rules::testkit::host()).unwrap();
    let running = look_at(pid).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let leader = &snap.tasks[0].threads[0];
    // The tracer is this thread of the test program.
    assert_eq!((leader.state, leader.tracer), ('t', nix::unistd::gettid().as_raw()));
    assert!(leader.regs.is_some());
    assert_eq!((running.tasks[0].threads[0].regs, running.tasks[0].elf_class), (None, Some(2)));
    assert_eq!(snap.unchecked, []);
}

#[test]
fn hostile_names() {
    let actor = Actor::start("names");
    let snap = actor.collect();
    let task = &snap.tasks[0];
    let main = task.threads.iter().find(|t| t.tid == task.pid).unwrap();
    assert!(main.ns_tid.is_some());
    // The name may have been given to libtest's thread or to the main one: the process is read either way.
    assert_eq!(task.ppid, nix::unistd::getpid().as_raw());
    let odd = task.maps.iter().find(|m| m.vma.path.ends_with(b"/SYSV\xff\\012 x (deleted)")).unwrap();
    assert_eq!(odd.file.as_ref().unwrap().attr.nlink, 0);
    assert_eq!(snap.unchecked, []);
}

#[test]
fn a_real_look_survives_json() {
    let actor = Actor::start("zoo");
    let snap = actor.collect();
    let json = serde_json::to_vec(&snap).unwrap();
    assert_eq!(serde_json::from_slice::<Snapshot>(&json).unwrap(), snap);
    std::fs::remove_file(std::env::temp_dir().join(format!("lock-{}", actor.pid()))).unwrap();
}

#[test]
fn nobody_there() {
    let mut child = Command::new("true").spawn().unwrap();
    let pid = i32::try_from(child.id()).unwrap();
    child.wait().unwrap();
    assert_eq!(look_at(pid), Err(ScanError::NoSuchTask));
    assert_eq!(look_at(-1), Err(ScanError::NoSuchTask));
}

#[test]
fn a_tree_that_dies_while_we_look() {
    for _ in 0..30 {
        let mut child = Command::new("sh")
            .args(["-c", "while :; do sleep 0.001 & sleep 0.002; done"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_micros(1500));
            child.kill().unwrap();
            child.wait().unwrap();
        });
        for _ in 0..20 {
            if let Ok(snap) = look_at(pid) {
                assert_eq!(snap.unchecked, [], "what vanishes is not reported");
            }
        }
        killer.join().unwrap();
    }
}

/// Nothing of ours stays open. The other tests run beside this one in threads, hence a process of its own.
#[test]
fn no_descriptor_is_left_behind() {
    let actor = Actor::start("zoo");
    let fds = |pid: i32| std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let before = fds(actor.pid());
    drop(actor.collect());
    assert_eq!(fds(actor.pid()), before, "the tree is untouched");
    std::fs::remove_file(std::env::temp_dir().join(format!("lock-{}", actor.pid()))).unwrap();
}

/// Processor time of this thread: others on the machine do not count.
fn clock() -> std::time::Duration {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
    std::time::Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

/// The best of some runs.
fn best<T>(mut run: impl FnMut() -> T) -> std::time::Duration {
    let time = |_| {
        let started = clock();
        drop(run());
        clock() - started
    };
    (0..7).map(time).min().unwrap_or_default()
}

/// The floor is one listing and one statx a descriptor (design, section 8). With `--release`.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_look() {
    let micros = |d: std::time::Duration, n: usize| d.as_secs_f64() * 1e6 / n as f64;
    std::env::set_var("KIND", "none");
    let plain = Actor::start("many");
    let empty = best(|| plain.collect());
    println!("one small task, whole look: {:.0} us", micros(empty, 1));
    for kind in ["eventfd", "unix", "udp", "pipe", "file"] {
        std::env::set_var("KIND", kind);
        let actor = Actor::start("many");
        let dir = Dir::proc().unwrap().process(actor.pid()).ok().unwrap();
        let floor = best(|| {
            let fds = dir.listing(c"fd").ok().unwrap();
            let mut files = Vec::new();
            let mut dents = vec![0; 64 * 1024];
            fds.each(&mut dents, |name| files.extend(fds.stat(name).ok()));
            files
        });
        let all = best(|| actor.collect()).saturating_sub(empty);
        let ratio = all.as_secs_f64() / floor.as_secs_f64();
        println!("{kind}: floor {:.2} us, look {:.2} us, ratio {ratio:.2}", micros(floor, 5000), micros(all, 5000));
        // What the early look has found right is not asked again.
        let again = (0..5).map(|_| {
            drop(actor.collect());
            let started = clock();
            drop(collect_once(actor.pid(), ScanPhase::Frozen, &crate::rules::testkit::host()));
            clock() - started
        });
        let again = again.min().unwrap_or_default().saturating_sub(empty);
        let ratio = again.as_secs_f64() / floor.as_secs_f64();
        println!("{kind}: frozen look after it {:.2} us, ratio {ratio:.2}", micros(again, 5000));
    }
    let actor = Actor::start("children");
    println!("a task of a hundred: {:.0} us", micros(best(|| actor.collect()), 101));
    let frozen = || drop(collect_once(actor.pid(), ScanPhase::Frozen, &crate::rules::testkit::host()));
    let again = (0..7).map(|_| {
        drop(actor.collect());
        let started = clock();
        frozen();
        clock() - started
    });
    println!("a task of a hundred, frozen look after it: {:.0} us", micros(again.min().unwrap_or_default(), 101));
    let actor = Actor::start("memory");
    println!("a task of 2 GiB: {:.0} us", micros(best(|| actor.collect()), 1));
    let actor = Actor::start("threads");
    println!("a thread of 500: {:.1} us", micros(best(|| actor.collect()), 500));
}
