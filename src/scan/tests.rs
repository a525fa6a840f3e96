//! The look at living children. The children are this test program itself, started again with a part to play
//! ([`child`]), so that nothing else need be installed.

use super::*;
use crate::snapshot::OpenFile;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

const PART: &str = "CRIU_PREFLIGHT_TEST_PART";

/// A child that plays a part until its stdin closes.
struct Actor {
    child: Child,
    stdin: Option<ChildStdin>,
    /// What it said when it was ready: numbers of its own.
    said: Vec<i32>,
}

impl Actor {
    fn start(part: &str) -> Actor {
        let mut command = Command::new("/proc/self/exe");
        command
            .args(["--exact", "scan::tests::child", "--ignored", "--nocapture", "--test-threads=1"])
            .env(PART, part)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        // Whoever started the tests may have left us descriptors, of another mount namespace perhaps.
        // SAFETY: async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
                Ok(())
            });
        }
        let mut child = command.spawn().unwrap();
        let stdin = child.stdin.take();
        let mut said = None;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            // libtest's own words may stand before ours on the line.
            if let Some((_, rest)) = line.split_once("ready:") {
                said = Some(rest.split_whitespace().map(|n| n.parse().unwrap()).collect());
                break;
            }
        }
        Actor { child, stdin, said: said.expect("the part said it is ready") }
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    fn collect(&self) -> Snapshot {
        look_at(self.pid()).unwrap()
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        // It ends by itself, and so do its children.
        drop(self.stdin.take());
        drop(self.child.wait());
    }
}

fn look_at(pid: i32) -> Result<Snapshot, ScanError> {
    collect_once(pid, ScanPhase::Early, &crate::rules::testkit::host())
}

fn ready(numbers: &[i32]) {
    println!("ready:{}", numbers.iter().map(|n| format!(" {n}")).collect::<String>());
}

fn until_stdin_closes() {
    let mut line = String::new();
    while std::io::stdin().read_line(&mut line).is_ok_and(|n| n > 0) {}
}

fn raise_limit() {
    let limit = libc::rlimit { rlim_cur: 20_000, rlim_max: 20_000 };
    // SAFETY: the pointer is to a live rlimit.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
}

/// Keeps a descriptor open to the end.
fn keep(fd: impl Into<OwnedFd>) -> i32 {
    fd.into().into_raw_fd()
}

/// The child's side. Not a test.
#[allow(clippy::zombie_processes, reason = "zombies are what is wanted")]
#[test]
#[ignore = "a part for the other tests"]
fn child() {
    let Ok(part) = std::env::var(PART) else { return };
    match part.as_str() {
        "many" => {
            raise_limit();
            let kind = std::env::var("KIND").unwrap();
            let file = std::env::current_exe().unwrap();
            for _ in 0..2500 {
                match kind.as_str() {
                    "eventfd" => drop([keep(sys::eventfd().unwrap()), keep(sys::eventfd().unwrap())]),
                    "unix" => drop(std::os::unix::net::UnixStream::pair().map(|(a, b)| [keep(a), keep(b)])),
                    "udp" => drop([0, 0].map(|_| keep(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()))),
                    "pipe" => drop(nix::unistd::pipe().map(|(r, w)| [keep(r), keep(w)])),
                    "file" => drop([0, 0].map(|_| keep(std::fs::File::open(&file).unwrap()))),
                    "none" => break,
                    other => panic!("no kind {other}"),
                }
            }
            ready(&[]);
        }
        "children" => {
            let cats: Vec<Child> =
                (0..100).map(|_| Command::new("cat").stdin(Stdio::piped()).spawn().unwrap()).collect();
            ready(&[]);
            until_stdin_closes();
            drop(cats);
        }
        "memory" => {
            // 2 GiB of touched memory.
            let memory = vec![1u8; 2 << 30];
            ready(&[]);
            until_stdin_closes();
            drop(memory);
        }
        "fds" => {
            raise_limit();
            let first = keep(sys::eventfd().unwrap());
            for _ in 1..5000 {
                keep(sys::eventfd().unwrap());
            }
            for _ in 0..5000 {
                keep(std::fs::File::open("/proc/self/exe").unwrap());
            }
            ready(&[first]);
        }
        "zoo" => {
            let dir = std::env::temp_dir();
            let path = dir.join(format!("zoo-{}-\u{7f}a\nb", std::process::id()));
            let gone = keep(std::fs::File::create(&path).unwrap());
            std::fs::remove_file(&path).unwrap();
            let null = keep(std::fs::File::open("/dev/null").unwrap());
            let (read, write) = nix::unistd::pipe().unwrap();
            let socket = keep(std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
            let event = keep(sys::eventfd().unwrap());
            let pidfd = keep(sys::pidfd_open(1).unwrap());
            // SAFETY: plain numbers.
            let epoll = unsafe { libc::epoll_create1(0) };
            // SAFETY: plain numbers.
            let inotify = unsafe { libc::inotify_init() };
            let locked = std::fs::File::create(dir.join(format!("lock-{}", std::process::id()))).unwrap();
            // Not nix's Flock: dropping that would end the lock.
            // SAFETY: a descriptor of ours and a number.
            assert_eq!(unsafe { libc::flock(locked.as_raw_fd(), libc::LOCK_EX) }, 0);
            let locked = keep(locked);
            let tty = std::fs::File::options().read(true).write(true).open("/dev/ptmx").map_or(-1, keep);
            ready(&[gone, null, keep(read), keep(write), socket, event, pidfd, epoll, inotify, locked, tty]);
        }
        "threads" => {
            for _ in 0..500 {
                std::thread::Builder::new().stack_size(64 * 1024).spawn(std::thread::park).unwrap();
            }
            ready(&[]);
        }
        "family" => {
            // A living child, and one that is dead and not waited for.
            // It ends with us: its stdin is our pipe.
            let living = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
            let dead = Command::new("true").spawn().unwrap();
            let (living, dead) = (living.id(), dead.id());
            while !std::fs::read_to_string(format!("/proc/{dead}/stat")).unwrap().contains(") Z ") {
                std::thread::yield_now();
            }
            ready(&[i32::try_from(living).unwrap(), i32::try_from(dead).unwrap()]);
            until_stdin_closes();
        }
        "names" => {
            // A comm that closes the brackets of stat early, and a mapped file that procfs would panic on.
            std::fs::write("/proc/self/comm", b") R 1 1\n\xff").unwrap();
            let dir = std::env::temp_dir().join(format!("names-{}", std::process::id()));
            std::fs::create_dir(&dir).unwrap();
            let path = std::os::unix::ffi::OsStringExt::from_vec(
                [dir.as_os_str().as_encoded_bytes(), b"/SYSV\xff\n x"].concat(),
            );
            let path: std::ffi::OsString = path;
            let file = std::fs::File::options().create_new(true).read(true).write(true).open(&path).unwrap();
            file.set_len(4096).unwrap();
            // SAFETY: a new mapping at an address of the kernel's choice.
            let at = unsafe {
                libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0)
            };
            assert_ne!(at, libc::MAP_FAILED);
            std::fs::remove_dir_all(&dir).unwrap();
            ready(&[]);
        }
        "sharers" => {
            for n in 0..1000 {
                let protection = if n % 2 == 0 { libc::PROT_READ } else { libc::PROT_NONE };
                let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
                // SAFETY: a new mapping at an address of the kernel's choice.
                let at = unsafe { libc::mmap(std::ptr::null_mut(), 4096, protection, flags, -1, 0) };
                assert_ne!(at, libc::MAP_FAILED);
            }
            for _ in 0..100 {
                keep(sys::eventfd().unwrap());
            }
            // A child with things of its own, one of its own that shares them, and one that does and is a child of ours.
            // SAFETY: the child calls nothing but clone, prctl and pause.
            match unsafe { test_signals::fork() } {
                Ok(0) => {
                    for parent in [0, libc::CLONE_PARENT] {
                        let mut stack = vec![0u128; 1024];
                        let flags = libc::CLONE_VM | libc::CLONE_FILES | parent | libc::SIGCHLD;
                        let top = stack.as_mut_ptr_range().end.cast();
                        // SAFETY: the stack is used by nobody else and lives as long as this process.
                        let made = unsafe { test_signals::clone_at(rest, top, flags, std::ptr::null_mut()) };
                        if made.is_err() {
                            // SAFETY: takes a number. The parent waits for the child in vain, and says so.
                            unsafe { libc::_exit(1) };
                        }
                        std::mem::forget(stack);
                    }
                    rest(std::ptr::null_mut());
                }
                child => assert!(child.is_ok()),
            }
            let children = || std::fs::read_to_string("/proc/thread-self/children").unwrap();
            while children().split_whitespace().count() < 2 {
                std::thread::yield_now();
            }
            ready(&[]);
        }
        other => panic!("no part {other}"),
    }
    until_stdin_closes();
    std::process::exit(0);
}

/// Does nothing until its parent ends.
extern "C" fn rest(_: *mut libc::c_void) -> libc::c_int {
    // SAFETY: plain numbers.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    loop {
        // SAFETY: takes nothing.
        unsafe { libc::pause() };
    }
}

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
