//! The trees that are measured. Made by this same program, started again as `--tree TASKS FDS SOCKETS MAPPINGS MIB BAD DIR`.

use criu_tests::tree::{descendants, end};
use std::io::{self, Read};
use std::os::fd::RawFd;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a tree is made of.
#[derive(Clone, Copy, Default)]
pub struct Shape {
    pub name: &'static str,
    pub tasks: usize,
    /// Descriptors of each task, its standard streams not counted.
    pub fds: usize,
    /// Sockets of each task besides.
    pub sockets: usize,
    /// Mappings of each task besides.
    pub maps: usize,
    /// Touched private memory of each task.
    pub mib: usize,
    /// What the last task holds that CRIU refuses to dump.
    pub bad: Bad,
}

/// What a doomed tree is doomed by.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Bad {
    #[default]
    Nothing,
    /// A file lock, without the option for it.
    Lock,
    /// A device that CRIU does not know.
    Device,
}

/// A running tree; ended when dropped.
pub struct Tree {
    pub pid: i32,
}

impl Tree {
    pub fn start(shape: &Shape, dir: &Path) -> io::Result<Tree> {
        let numbers = [shape.tasks, shape.fds, shape.sockets, shape.maps, shape.mib, shape.bad as usize];
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--tree")
            .args(numbers.map(|n| n.to_string()))
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let tree = Tree { pid: child.id() as i32 };
        // One byte for each task that is ready; the end of the pipe comes early if one could not be made.
        let mut ready = vec![0; shape.tasks];
        child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?.read_exact(&mut ready)?;
        Ok(tree)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        end(&descendants(self.pid));
    }
}

/// The program under `--tree`. Returns only if the tree could not be made.
pub fn run(args: &[String]) -> Option<()> {
    let (dir, numbers) = args.split_last()?;
    let numbers: Vec<usize> = numbers.iter().map(|n| n.parse().ok()).collect::<Option<_>>()?;
    let [tasks, fds, sockets, maps, mib, bad] = numbers[..] else { return None };
    // SAFETY: plain system calls of a single-threaded process; every pointer is to a live local.
    unsafe {
        libc::setsid();
        libc::chdir(c"/".as_ptr());
        let mut limit: libc::rlimit = std::mem::zeroed();
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        let mut last = tasks == 1;
        for n in 1..tasks {
            if test_signals::fork().ok()? == 0 {
                last = n == tasks - 1;
                break;
            }
        }
        let me = libc::getpid();
        if mib > 0 {
            touch(mib << 20)?;
        }
        fill(fds, &format!("{dir}/{me}"))?;
        for _ in 0..sockets / 2 {
            let mut two = [0; 2];
            (libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, two.as_mut_ptr()) == 0).then_some(())?;
        }
        map(maps, dir)?;
        if last && bad == Bad::Lock as usize {
            let fd = open(&format!("{dir}/locked"), libc::O_RDWR | libc::O_CREAT)?;
            (libc::flock(fd, libc::LOCK_EX) == 0).then_some(())?;
        }
        if last && bad == Bad::Device as usize {
            ["/dev/loop-control", "/dev/fuse", "/dev/kvm"].iter().find_map(|path| open(path, libc::O_RDWR))?;
        }
        let null = open("/dev/null", libc::O_RDWR)?;
        (libc::write(1, b"+".as_ptr().cast(), 1) == 1).then_some(())?;
        libc::dup2(null, 1);
        libc::dup2(null, 2);
        libc::close(null);
        loop {
            libc::pause();
        }
    }
}

/// Memory that is really there, so that its page tables are, too.
unsafe fn touch(bytes: usize) -> Option<()> {
    let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let at = libc::mmap(std::ptr::null_mut(), bytes, prot, flags, -1, 0);
    (at != libc::MAP_FAILED).then_some(())?;
    // Small pages, as most of a heap is.
    libc::madvise(at, bytes, libc::MADV_NOHUGEPAGE);
    for offset in (0..bytes).step_by(4096) {
        at.cast::<u8>().add(offset).write_volatile(1);
    }
    Some(())
}

/// Mappings that do not merge: every second one of a file, the others anonymous.
unsafe fn map(count: usize, dir: &str) -> Option<()> {
    if count == 0 {
        return Some(());
    }
    let fd = open(&format!("{dir}/mapped"), libc::O_RDWR | libc::O_CREAT)?;
    (libc::ftruncate(fd, 4096) == 0).then_some(())?;
    for n in 0..count {
        let (flags, fd) =
            if n % 2 == 0 { (libc::MAP_PRIVATE, fd) } else { (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1) };
        let at = libc::mmap(std::ptr::null_mut(), 4096, libc::PROT_READ | libc::PROT_WRITE, flags, fd, 0);
        (at != libc::MAP_FAILED).then_some(())?;
    }
    (libc::close(fd) == 0).then_some(())
}

/// Beyond that a user's pipes are made small (fs.pipe-user-pages-soft), and CRIU without CAP_SYS_RESOURCE cannot get ones
/// as large to keep their data in.
const PIPES: usize = 300;

/// An ordinary server's mixture: files, pipes, sockets, event descriptors.
unsafe fn fill(count: usize, base: &str) -> Option<()> {
    let mut made = 0;
    while made < count {
        let pair = made + 2 <= count;
        let mut two = [0; 2];
        made += match made % 7 {
            0 if pair && made < PIPES * 7 => (libc::pipe(two.as_mut_ptr()) == 0).then_some(2)?,
            2 if pair => (libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, two.as_mut_ptr()) == 0).then_some(2)?,
            4 => open("/dev/null", libc::O_RDWR).map(|_| 1)?,
            5 => (libc::eventfd(0, 0) >= 0).then_some(1)?,
            _ => open(&format!("{base}-{made}"), libc::O_RDWR | libc::O_CREAT).map(|_| 1)?,
        };
    }
    Some(())
}

unsafe fn open(path: &str, flags: i32) -> Option<RawFd> {
    let path = std::ffi::CString::new(path).ok()?;
    let fd = libc::open(path.as_ptr(), flags, 0o600);
    (fd >= 0).then_some(fd)
}
