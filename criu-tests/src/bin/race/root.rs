//! A root directory and mount namespace of a tree's own, as a container has them.

use crate::world::{ok, World};
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

pub fn mount(source: &Path, target: &Path, fs: &str, flags: libc::c_ulong) -> io::Result<()> {
    let text = |p: &Path| CString::new(p.as_os_str().as_bytes());
    let (source, target, fs) = (text(source)?, text(target)?, CString::new(fs)?);
    // SAFETY: strings that live through the call.
    ok(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), fs.as_ptr(), flags, std::ptr::null()) })?;
    Ok(())
}

pub fn unmount(target: &Path) -> io::Result<()> {
    let target = CString::new(target.as_os_str().as_bytes())?;
    // SAFETY: a string that lives through the call.
    ok(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) }).map(|_| ())
}

/// A mount namespace and root directory of the process's own, with /proc in it. What the process has mapped is of another
/// namespace's mounts then, so it has to execute the copy.
fn enter(w: &mut World) -> io::Result<()> {
    let root = w.dir().join("root");
    for d in ["proc", "dev", "files", "old"] {
        fs::create_dir_all(root.join(d))?;
    }
    let null = CString::new(root.join("dev/null").as_os_str().as_bytes())?;
    // SAFETY: a string that lives through the call.
    ok(unsafe { libc::mknod(null.as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(1, 3)) })?;
    fs::copy(w.program("race"), root.join("rc-race"))?;
    // The libraries, and the loader under the name that the program asks for it by.
    let maps = fs::read_to_string("/proc/self/maps")?;
    let mapped = maps.lines().filter_map(|l| l.find('/').map(|at| l[at..].to_string())).filter(|p| p.contains(".so"));
    let loaders = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    for path in mapped.chain(loaders.map(String::from)).filter(|p| Path::new(p).exists()) {
        let to = root.join(path.trim_start_matches('/'));
        if !to.exists() {
            fs::create_dir_all(to.parent().unwrap_or(&root))?;
            fs::copy(&path, to)?;
        }
    }
    let none = Path::new("none");
    // SAFETY: a plain system call.
    ok(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    mount(none, Path::new("/"), "", libc::MS_REC | libc::MS_PRIVATE)?;
    mount(&root, &root, "", libc::MS_BIND)?;
    mount(none, &root.join("proc"), "proc", 0)?;
    std::env::set_current_dir(&root)?;
    // SAFETY: strings that live through the call.
    ok(unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c"old".as_ptr()) })?;
    unmount(Path::new("/old"))
}

/// Executes the root process of the tree once more, in there. Returns only why it cannot.
pub fn execute(w: &mut World, kind: &str) -> io::Result<()> {
    enter(w)?;
    w.rooted();
    Err(Command::new("/rc-race").args(["--rooted", kind]).args(w.words()).exec())
}
