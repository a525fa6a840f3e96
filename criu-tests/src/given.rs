//! What a restore is handed in: descriptors for `--inherit-fd`, and a terminal.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

#[derive(Default)]
pub struct Given {
    /// Those that CRIU inherits.
    fds: Vec<OwnedFd>,
    /// Other ends, which stay here.
    kept: Vec<OwnedFd>,
    terminal: Option<OwnedFd>,
    bridge: Option<Bridge>,
}

/// An interface of the runner's network namespace, which is connected to nothing.
struct Bridge(String);

impl Bridge {
    fn new(name: String) -> Result<Bridge, String> {
        ip(&["link", "add", &name, "type", "bridge"])?;
        Ok(Bridge(name))
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        if let Err(e) = ip(&["link", "del", &self.0]) {
            eprintln!("{e}");
        }
    }
}

fn ip(args: &[&str]) -> Result<(), String> {
    let out = Command::new("ip").args(args).stdin(Stdio::null()).output().map_err(|e| format!("ip: {e}"))?;
    match out.status.success() {
        true => Ok(()),
        false => Err(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&out.stderr).trim())),
    }
}

/// Above what CRIU opens for itself.
const ABOVE: i32 = 300;

fn owned<T: Into<OwnedFd>>(r: std::io::Result<T>) -> Result<OwnedFd, String> {
    r.map(Into::into).map_err(|e| e.to_string())
}

/// A new terminal: its master and its slave. No other child of this program may have the master, or it would never hang up.
fn terminal() -> Result<(OwnedFd, OwnedFd), String> {
    let flags = libc::O_RDWR | libc::O_NOCTTY;
    let made = |fd: i32| match fd {
        -1 => Err(format!("a terminal: {}", std::io::Error::last_os_error())),
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    };
    let master = made(unsafe { libc::posix_openpt(flags | libc::O_CLOEXEC) })?;
    let slave = made(unsafe {
        libc::unlockpt(master.as_raw_fd());
        libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags)
    })?;
    // Not by O_CLOEXEC: CRIU opens it again with the flags that it has.
    unsafe { libc::fcntl(slave.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
    Ok((master, slave))
}

impl Given {
    /// A descriptor of this kind; its number. `stream`, `dgram`: one of a pair of UNIX sockets. `tty`: a new terminal. `ns=NAME`: a
    /// namespace of the runner. `dir=PATH`. `file=DIR/N`: a new file of N bytes. `bridge`: anything; while it is handed in the
    /// runner's network namespace has a bridge `given` and its number.
    pub fn descriptor(&mut self, kind: &str) -> Result<i32, String> {
        let (kind, path) = kind.split_once('=').unwrap_or((kind, ""));
        let fd: OwnedFd = match kind {
            "stream" => {
                let (a, b) = UnixStream::pair().map_err(|e| e.to_string())?;
                self.kept.push(b.into());
                a.into()
            }
            "dgram" => {
                let (a, b) = UnixDatagram::pair().map_err(|e| e.to_string())?;
                self.kept.push(b.into());
                a.into()
            }
            "tty" => {
                let (master, slave) = terminal()?;
                self.kept.push(master);
                slave
            }
            "ns" => owned(File::open(Path::new("/proc/self/ns").join(path)))?,
            "file" => {
                let size = path.rsplit('/').next().and_then(|n| n.parse().ok()).ok_or("a size is needed")?;
                let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
                let file = file.map_err(|e| format!("{path}: {e}"))?;
                file.set_len(size).map_err(|e| format!("{path}: {e}"))?;
                file.into()
            }
            "dir" => owned(File::open(path))?,
            "bridge" => {
                let number = self.keep(&owned(File::open("/dev/null"))?)?;
                self.bridge = Some(Bridge::new(format!("given{number}"))?);
                return Ok(number);
            }
            other => return Err(format!("nothing of the kind {other} can be handed in")),
        };
        self.keep(&fd)
    }

    fn keep(&mut self, fd: &OwnedFd) -> Result<i32, String> {
        let high = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, ABOVE) };
        if high < 0 {
            return Err(std::io::Error::last_os_error().to_string());
        }
        self.fds.push(unsafe { OwnedFd::from_raw_fd(high) });
        Ok(high)
    }

    /// The descriptor of the process that `--external KIND[KEY]` means, by a duplicate.
    pub(crate) fn duplicate(&mut self, pid: i32, kind: &str, key: &str) -> Option<i32> {
        use std::os::unix::fs::MetadataExt;
        let (first, second) = key.split_once(':')?;
        let number = |hex: &str| u64::from_str_radix(hex, 16).ok();
        let (first, second) = (number(first)?, number(second)?);
        let is = |path: &Path| {
            let Ok(st) = std::fs::metadata(path) else { return false };
            if kind == "tty" {
                return (st.rdev(), st.dev()) == (first, second);
            }
            let info = path.to_string_lossy().replace("/fd/", "/fdinfo/");
            let info = std::fs::read_to_string(info).unwrap_or_default();
            let mount = info.lines().find_map(|l| l.strip_prefix("mnt_id:")?.trim().parse().ok());
            (mount, st.ino()) == (Some(first), second)
        };
        let list = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let fd: i32 = list.map(|e| e.path()).find(|p| is(p))?.file_name()?.to_string_lossy().parse().ok()?;
        self.keep(&copy_of(pid, fd)?).ok()
    }

    /// CRIU is started from a terminal, as by a shell.
    pub fn terminal(&mut self) -> Result<(), String> {
        let (master, slave) = terminal()?;
        self.kept.push(master);
        self.terminal = Some(slave);
        Ok(())
    }

    /// For a command that begins a session of its own afterwards.
    pub(crate) fn to(&self, cmd: &mut Command) {
        let fds: Vec<i32> = self.fds.iter().map(AsRawFd::as_raw_fd).collect();
        // SAFETY: only async-signal-safe calls between fork and exec.
        unsafe {
            cmd.pre_exec(move || {
                fds.iter().for_each(|fd| {
                    libc::fcntl(*fd, libc::F_SETFD, 0);
                });
                Ok(())
            })
        };
        match self.terminal.as_ref().and_then(|t| t.try_clone().ok()) {
            Some(terminal) => cmd.stdin(terminal),
            None => cmd.stdin(Stdio::null()),
        };
    }
}

/// A duplicate of a descriptor of another process.
pub(crate) fn copy_of(pid: i32, fd: i32) -> Option<OwnedFd> {
    let made = |r: libc::c_long| (r >= 0).then(|| unsafe { OwnedFd::from_raw_fd(r as i32) });
    let pidfd = made(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    made(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) })
}

/// Whether the process has the UNIX socket with this inode, connected to one that has a name.
pub(crate) fn has_named_peer(pid: i32, ino: &str) -> bool {
    let list = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let is = |link: std::path::PathBuf| link.to_string_lossy() == format!("socket:[{ino}]");
    let fd = list.map(|e| e.path()).find(|p| std::fs::read_link(p).is_ok_and(is));
    let fd = fd.and_then(|p| p.file_name()?.to_string_lossy().parse().ok());
    let Some(socket) = fd.and_then(|fd| copy_of(pid, fd)) else { return false };
    let mut name = [0u8; 128];
    let mut len = 128;
    let r = unsafe { libc::getpeername(socket.as_raw_fd(), name.as_mut_ptr().cast(), &mut len) };
    r == 0 && len > 2
}
