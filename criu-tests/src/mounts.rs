//! Mounts for fixtures. They live in a mount namespace of the runner's own and end with it, however it ends.

use std::ffi::CString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

fn cstr(p: &Path) -> CString {
    use std::os::unix::ffi::OsStrExt;
    CString::new(p.as_os_str().as_bytes()).unwrap_or_default()
}

/// Gives the runner its own mount namespace. To be called before there is a second thread.
pub fn own_namespace() -> Result<(), String> {
    let null = std::ptr::null();
    let private = libc::MS_REC | libc::MS_PRIVATE;
    let ok = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0 && libc::mount(null, c"/".as_ptr(), null, private, std::ptr::null()) == 0
    };
    ok.then_some(()).ok_or_else(|| format!("a mount namespace: {}", std::io::Error::last_os_error()))
}

/// In a network namespace of our own.
pub fn loopback_up() -> Result<(), String> {
    // SAFETY: numbers and a pointer to a local; UNIX sockets take interface requests as well, and nobody is told of their end.
    unsafe {
        let fd = libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        let mut request: libc::ifreq = std::mem::zeroed();
        (request.ifr_name[0], request.ifr_name[1]) = (b'l' as _, b'o' as _);
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
        let done = libc::ioctl(fd, libc::SIOCSIFFLAGS, &raw mut request) == 0;
        let why = std::io::Error::last_os_error();
        libc::close(fd);
        done.then_some(()).ok_or_else(|| format!("lo: {why}"))
    }
}

/// For a child before its exec: a mount namespace of its own, what is mounted in it seen by nobody else.
fn apart() -> std::io::Result<()> {
    let (null, private) = (std::ptr::null(), libc::MS_REC | libc::MS_PRIVATE);
    let done = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0 && libc::mount(null, c"/".as_ptr(), null, private, std::ptr::null()) == 0
    };
    if done {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// For a child before its exec: no devpts on /dev/pts.
pub fn without_pts() -> std::io::Result<()> {
    apart()?;
    // One may lie on another.
    while unsafe { libc::umount2(c"/dev/pts".as_ptr(), libc::MNT_DETACH) } == 0 {}
    Ok(())
}

/// A directory to mount over /dev, with the nodes that CRIU opens.
pub fn plain_dev(dir: &Path) -> Result<CString, String> {
    std::fs::create_dir_all(dir.join("pts")).map_err(|e| format!("{}: {e}", dir.display()))?;
    for (name, minor) in [("null", 3), ("zero", 5), ("urandom", 9)] {
        let node = cstr(&dir.join(name));
        unsafe { libc::mknod(node.as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(1, minor)) };
    }
    Ok(cstr(dir))
}

/// A devtmpfs is a tmpfs to statfs.
pub fn is_on_tmpfs(dir: &Path) -> bool {
    let mut fs = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    unsafe { libc::statfs(cstr(dir).as_ptr(), fs.as_mut_ptr()) == 0 && fs.assume_init().f_type == libc::TMPFS_MAGIC }
}

/// For a child before its exec.
pub fn over_dev(dir: &CString) -> std::io::Result<()> {
    apart()?;
    let (null, bind) = (std::ptr::null(), libc::MS_BIND);
    match unsafe { libc::mount(dir.as_ptr(), c"/dev".as_ptr(), null, bind, std::ptr::null()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// A directory that is a mount point too: what a restore wants as its `--root`.
pub struct Bound(PathBuf);

impl Bound {
    pub fn at(dir: &Path) -> Result<Bound, String> {
        std::fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let (d, null) = (cstr(dir), std::ptr::null());
        let r = unsafe { libc::mount(d.as_ptr(), d.as_ptr(), null, libc::MS_BIND, std::ptr::null()) };
        if r != 0 {
            return Err(format!("bind {}: {}", dir.display(), std::io::Error::last_os_error()));
        }
        Ok(Bound(dir.into()))
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        unsafe { libc::umount2(cstr(&self.0).as_ptr(), libc::MNT_DETACH) };
    }
}

/// Why this machine's own mounts are in the way of a tree that takes a copy of them: CRIU judges them all then, and refuses
/// what it cannot mount again.
pub fn foreign() -> Option<String> {
    const KNOWN: &[&str] = &[
        "proc",
        "sysfs",
        "devtmpfs",
        "binfmt_misc",
        "tmpfs",
        "devpts",
        "pstore",
        "mqueue",
        "securityfs",
        "fusectl",
        "debugfs",
        "cgroup",
        "cgroup2",
        "overlay",
        "autofs",
        "tracefs",
    ];
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let lines: Vec<Vec<&str>> = table.lines().map(|l| l.split(' ').collect()).collect();
    let root = lines.iter().find(|l| l.get(4) == Some(&"/")).and_then(|l| l.get(2).copied());
    let odd = lines.iter().find(|l| {
        let kind = l.iter().skip_while(|w| **w != "-").nth(1).copied().unwrap_or_default();
        l.get(2).copied() != root && !KNOWN.contains(&kind)
    })?;
    Some(format!(
        "this machine has a mount on {} that CRIU refuses in a copy of its mounts",
        odd.get(4).unwrap_or(&"?")
    ))
}

/// A Btrfs in a file, mounted when first asked for: with a subvolume `sub`, and `root` and `root2` to be the roots of trees.
pub struct Btrfs {
    base: PathBuf,
    made: Mutex<Option<Result<(PathBuf, String), String>>>,
}

impl Btrfs {
    pub fn under(base: &Path) -> Btrfs {
        Btrfs { base: base.into(), made: Mutex::default() }
    }

    /// Where it is mounted and its device as MAJOR-MINOR, or why it cannot be.
    pub fn mounted(&self) -> Result<(PathBuf, String), String> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.get_or_insert_with(|| make(&self.base)).clone()
    }

    /// Unmounts it: who copies the runner's mounts has none that CRIU refuses. It is made again for who asks.
    pub fn unmount(&self) {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Ok((at, _))) = made.take_if(|made| made.is_ok()) {
            unsafe { libc::umount2(cstr(&at).as_ptr(), libc::MNT_DETACH) };
        }
    }
}

impl Drop for Btrfs {
    fn drop(&mut self) {
        self.unmount();
    }
}

fn make(base: &Path) -> Result<(PathBuf, String), String> {
    let (image, at) = (base.join("btrfs.img"), base.join("btrfs"));
    let io = |e: std::io::Error| format!("Btrfs: {e}");
    std::fs::create_dir_all(&at).map_err(io)?;
    // A new file: the last one may still be a loop device's.
    let _ = std::fs::remove_file(&image);
    std::fs::File::create(&image).and_then(|f| f.set_len(256 << 20)).map_err(io)?;
    let (image, at_name) = (image.to_string_lossy().into_owned(), at.to_string_lossy().into_owned());
    run("mkfs.btrfs", &["-q", &image])?;
    run("mount", &["-t", "btrfs", "-o", "loop", &image, &at_name])?;
    for sub in ["sub", "root", "root2"] {
        run("btrfs", &["subvolume", "create", &format!("{at_name}/{sub}")])?;
    }
    Ok((at.clone(), device(&at)?))
}

/// The device mounted at `at`, by the mount table (Btrfs shows a device number of its own in stat and there).
fn device(at: &Path) -> Result<String, String> {
    use std::os::unix::fs::MetadataExt;
    let table = std::fs::read_to_string("/proc/self/mounts").map_err(|e| e.to_string())?;
    let at = at.to_string_lossy();
    let node = table.lines().find(|l| l.split(' ').nth(1) == Some(&at)).and_then(|l| l.split(' ').next());
    let node = node.ok_or("Btrfs: not in the mount table")?;
    let dev = std::fs::metadata(node).map_err(|e| format!("{node}: {e}"))?.rdev();
    Ok(format!("{}-{}", libc::major(dev), libc::minor(dev)))
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let mut cmd = Command::new("env");
    let out = cmd.env("PATH", path).arg(program).args(args).stdin(Stdio::null()).output();
    let out = out.map_err(|e| format!("{program}: {e}"))?;
    if out.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&out.stderr).into_owned();
    Err(format!("{program}: {}", why.lines().last().unwrap_or("failed")))
}
