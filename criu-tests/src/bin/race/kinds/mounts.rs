//! Mounts and namespaces that change.

use super::{kind, Claim, Kind};
use crate::world::{ok, World};
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const KINDS: &[Kind] = &[
    kind("mounts", "in a mount namespace of its own, file systems are mounted, bound, used and unmounted", mounts),
    kind("mounts-private", "processes leave for mount namespaces of their own, mount there and end", own_mounts),
    kind("namespaces", "processes enter network namespaces and come back", |w| namespaces(w, libc::CLONE_NEWNET)),
    kind("namespaces-nested", "processes enter UTS namespaces of their own and come back", |w| {
        namespaces(w, libc::CLONE_NEWUTS)
    })
    .claims(&[Claim { rule: "ns-nested", text: "Can't dump nested uts namespace", who: "ns" }]),
];

fn mount(source: &Path, target: &Path, fs: &str, flags: libc::c_ulong) -> io::Result<()> {
    let text = |p: &Path| CString::new(p.as_os_str().as_bytes());
    let (source, target, fs) = (text(source)?, text(target)?, CString::new(fs)?);
    // SAFETY: strings that live through the call.
    ok(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), fs.as_ptr(), flags, std::ptr::null()) })?;
    Ok(())
}

fn unmount(target: &Path) -> io::Result<()> {
    let target = CString::new(target.as_os_str().as_bytes())?;
    // SAFETY: a string that lives through the call.
    ok(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) }).map(|_| ())
}

/// A mount namespace and root directory of the process's own, with /proc in it. What the process has mapped is of another
/// namespace's mounts then, so it has to execute the copy.
fn own_root(w: &mut World) -> io::Result<()> {
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

/// Does `work` in a tree whose root process has a root directory of its own.
fn rooted(w: &mut World, kind: &str, work: impl FnOnce(&mut World) -> io::Result<()>) -> io::Result<()> {
    if w.dir() == Path::new("/") {
        return work(w);
    }
    own_root(w)?;
    w.rooted();
    Err(Command::new("/rc-race").args(["--rooted", kind]).args(w.words()).exec())
}

fn mounts(w: &mut World) -> io::Result<()> {
    rooted(w, "mounts", |w| {
        for n in 0..w.between(1, 3) {
            w.worker("mount", move |w| {
                let (at, bound) = (PathBuf::from(format!("/files/m{n}")), PathBuf::from(format!("/files/b{n}")));
                fs::create_dir_all(&at)?;
                fs::create_dir_all(&bound)?;
                loop {
                    mount(Path::new("none"), &at, "tmpfs", 0)?;
                    let file = File::create(at.join("file"))?;
                    w.nap(500);
                    mount(&at, &bound, "", libc::MS_BIND)?;
                    w.nap(500);
                    unmount(&bound)?;
                    drop(file);
                    w.nap(100);
                    unmount(&at)?;
                    w.nap(500);
                }
            })?;
        }
        Ok(())
    })
}

fn own_mounts(w: &mut World) -> io::Result<()> {
    rooted(w, "mounts-private", |w| {
        fs::create_dir_all("/files/own")?;
        for _ in 0..w.between(1, 2) {
            w.worker("leave", |w| loop {
                let child = w.fork()?;
                if child == 0 {
                    let inner = || -> io::Result<()> {
                        // SAFETY: a plain system call.
                        ok(unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
                        mount(Path::new("none"), Path::new("/files/own"), "tmpfs", 0)
                    };
                    if let Err(e) = inner() {
                        w.broken(&format!("leave: {e}"));
                    }
                    w.nap(5000);
                    // SAFETY: ends the child.
                    unsafe { libc::_exit(0) };
                }
                // SAFETY: a child of this process.
                unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
                w.nap(2000);
            })?;
        }
        Ok(())
    })
}

fn namespaces(w: &mut World, of: i32) -> io::Result<()> {
    for _ in 0..w.between(1, 2) {
        w.worker("ns", move |w| {
            // SAFETY: plain system calls; the descriptor is new, and ours. The parent is the root, which ends last.
            unsafe {
                loop {
                    ok(libc::unshare(of))?;
                    w.nap(1000);
                    let root = ok(libc::syscall(libc::SYS_pidfd_open, libc::getppid(), 0))? as i32;
                    ok(libc::setns(OwnedFd::from_raw_fd(root).as_raw_fd(), of))?;
                    w.nap(5000);
                }
            }
        })?;
    }
    Ok(())
}
