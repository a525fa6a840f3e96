//! Children that are this test program itself, started again with a part to play ([`child`]), so that nothing else need be installed.

use crate::scan::*;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};

const PART: &str = "CRIU_PREFLIGHT_TEST_PART";

/// A child that plays a part until its stdin closes.
pub(crate) struct Actor {
    child: Child,
    stdin: Option<ChildStdin>,
    /// What it said when it was ready: numbers of its own.
    pub said: Vec<i32>,
}

impl Actor {
    pub(crate) fn start(part: &str) -> Actor {
        let mut command = Command::new("/proc/self/exe");
        command
            .args(["--exact", "scan::tests::actor::child", "--ignored", "--nocapture", "--test-threads=1"])
            .env(PART, part)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        // The caller of the tests may have left us descriptors, of another mount namespace perhaps.
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

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    pub(crate) fn collect(&self) -> Snapshot {
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

pub(crate) fn look_at(pid: i32) -> Result<Snapshot, ScanError> {
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
                        // SAFETY: the stack is used by nothing else and lives as long as this process.
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
