//! A root directory and mount namespace of its own for the whole tree (`--root DIR`), as a container has it.

use crate::ctx::{Fail, Res};
use crate::sys;
use std::path::Path;

/// What else it has.
#[derive(Default)]
pub struct With {
    /// The mode of --userns.
    pub foreign: Option<String>,
    /// The propagation of --volume.
    pub volume: Option<String>,
}

/// Runs mkres again, with `words`, inside DIR: in a new mount namespace whose root is DIR, with /proc and nothing else
/// mounted. What it runs from is copied there first, for a mapped file of another namespace's mount would be a resource in
/// itself. Its report goes to `ready`. Returns its exit status.
pub fn run(dir: &str, ready: Option<&str>, with: &With, words: &[String]) -> Res<i32> {
    furnish(dir).map_err(|e| Fail::Skip(format!("{dir}: {e}")))?;
    let part = ready.map(|r| format!("{r}.part"));
    // In that root there may be no /proc, by which to find what a process that fails leaves behind.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    let pid = sys::fork()?;
    if pid == 0 {
        let entered = enter(dir, part.as_deref(), with.volume.as_deref());
        let status = match entered.and_then(|()| with.foreign.as_deref().map_or(Ok(()), own_users)) {
            Ok(()) => {
                let mut argv =
                    vec![sys::cstr("/mkres"), sys::cstr("--rooted"), sys::cstr("--dir"), sys::cstr("/files")];
                argv.extend(words.iter().map(|w| sys::cstr(w)));
                let mut ptrs: Vec<_> = argv.iter().map(|a| a.as_ptr()).collect();
                ptrs.push(std::ptr::null());
                unsafe { libc::execv(c"/mkres".as_ptr(), ptrs.as_ptr()) };
                eprintln!("mkres: exec in {dir}: {}", std::io::Error::last_os_error());
                2
            }
            Err(e) => {
                eprintln!("mkres: {e}");
                e.status()
            }
        };
        unsafe { libc::_exit(status) };
    }
    let st = test_signals::wait(pid, 0).ok().flatten().unwrap_or_default();
    if st != 0 {
        sys::kill_descendants();
    }
    if let (0, Some(part), Some(ready)) = (st, part, ready) {
        std::fs::rename(&part, ready).map_err(|e| Fail::Broken(format!("{part}: {e}")))?;
    }
    Ok(if libc::WIFEXITED(st) { libc::WEXITSTATUS(st) } else { 2 })
}

/// This program, the libraries it has mapped, two device nodes, and empty directories.
fn furnish(dir: &str) -> std::io::Result<()> {
    for d in ["proc", "dev", "files", "old"] {
        std::fs::create_dir_all(format!("{dir}/{d}"))?;
    }
    for link in ["lib", "lib64"] {
        let to = format!("{dir}/{link}");
        if let (Ok(target), Err(_)) = (std::fs::read_link(format!("/{link}")), std::fs::symlink_metadata(&to)) {
            std::fs::create_dir_all(format!("{dir}/{}", target.display()))?;
            std::os::unix::fs::symlink(target, &to)?;
        }
    }
    let program = format!("{dir}/mkres");
    if !Path::new(&program).exists() {
        std::fs::copy("/proc/self/exe", program)?;
    }
    for line in std::fs::read_to_string("/proc/self/maps")?.lines() {
        if let Some(at) = line.find('/').filter(|_| line.contains(".so")) {
            copy_in(dir, &line[at..])?;
        }
    }
    // The loader is asked for by another name than it is mapped by.
    for place in ["/lib", "/lib64"] {
        for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with("ld-linux") {
                copy_in(dir, &entry.path().to_string_lossy())?;
            }
        }
    }
    // What a restore of autofs opens, too.
    for (name, major, minor) in [("null", 1, 3), ("autofs", 10, 235)] {
        let node = sys::cstr(&format!("{dir}/dev/{name}"));
        unsafe { libc::mknod(node.as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(major, minor)) };
    }
    Ok(())
}

fn copy_in(dir: &str, path: &str) -> std::io::Result<()> {
    let to = format!("{dir}{path}");
    if Path::new(&to).exists() {
        return Ok(());
    }
    std::fs::create_dir_all(Path::new(&to).parent().unwrap_or(Path::new("/")))?;
    std::fs::copy(path, &to).map(|_| ())
}

/// The namespaces of users and mounts in which a tmpfs of before has a file of somebody who has no number there. Whoever runs a
/// program after this has it from a mount of the new namespace.
fn own_users(mode: &str) -> Res {
    if mode == "none" {
        return crate::base::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS);
    }
    let covered = mode == "covered";
    let mode = if covered { "644" } else { mode };
    let mode = u32::from_str_radix(mode, 8).map_err(|_| Fail::Broken(format!("--userns {mode}?")))?;
    std::fs::create_dir_all("/foreign").map_err(|e| Fail::Skip(format!("/foreign: {e}")))?;
    mount("mkres", "/foreign", "tmpfs", 0)?;
    let fd = sys::open("/foreign/file", libc::O_WRONLY | libc::O_CREAT)?;
    sys::ok("fchown", unsafe { libc::fchown(fd, 1000, 1000) })?;
    sys::ok("fchmod", unsafe { libc::fchmod(fd, mode) })?;
    sys::close(fd);
    if covered {
        mount("mkres", "/foreign", "tmpfs", 0)?;
    }
    crate::base::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS)
}

fn mount(source: &str, target: &str, kind: &str, flags: libc::c_ulong) -> Res {
    let (s, t, k) = (sys::cstr(source), sys::cstr(target), sys::cstr(kind));
    let r = unsafe { libc::mount(s.as_ptr(), t.as_ptr(), k.as_ptr(), flags, std::ptr::null()) };
    sys::ok(&format!("mount {target}"), r).map(|_| ())
}

/// A tmpfs in the namespace that this process still shares, in a peer group of its own; a part of it is to be mounted inside. It goes
/// with the mount that DIR is there.
fn volume(dir: &str) -> Res<String> {
    let at = format!("{dir}/volume");
    std::fs::create_dir_all(&at).map_err(|e| Fail::Skip(format!("{at}: {e}")))?;
    mount("mkres", &at, "tmpfs", 0)?;
    mount("none", &at, "", libc::MS_SHARED)?;
    let part = format!("{at}/part");
    std::fs::create_dir_all(&part).map_err(|e| Fail::Skip(format!("{part}: {e}")))?;
    Ok(part)
}

/// Mounts it as a container's runtime would, with this propagation.
fn mount_volume(dir: &str, part: i32, how: &str) -> Res {
    let to = format!("{dir}/mnt");
    std::fs::create_dir_all(&to).map_err(|e| Fail::Skip(format!("{to}: {e}")))?;
    mount(&format!("/proc/self/fd/{part}"), &to, "", libc::MS_BIND)?;
    let propagation: &[libc::c_ulong] = match how {
        "private" => &[libc::MS_PRIVATE],
        "shared" => &[],
        "slave" => &[libc::MS_SLAVE],
        "shared-slave" => &[libc::MS_SLAVE, libc::MS_SHARED],
        _ => return Err(Fail::Broken(format!("--volume {how}?"))),
    };
    sys::close(part);
    propagation.iter().try_for_each(|flag| mount("none", &to, "", *flag))
}

fn enter(dir: &str, out: Option<&str>, propagation: Option<&str>) -> Res {
    if let Some(out) = out {
        let fd = sys::open(out, libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC)?;
        sys::ok("dup2", unsafe { libc::dup2(fd, 1) })?;
        sys::close(fd);
    }
    let volume = propagation.map(|how| volume(dir).map(|part| (part, how))).transpose()?;
    sys::ok("unshare", unsafe { libc::unshare(libc::CLONE_NEWNS) })?;
    // By its path it is not to be found any more once the directory is a mount.
    let open = |(part, how): (String, _)| sys::open(&part, libc::O_PATH | libc::O_DIRECTORY).map(|fd| (fd, how));
    let part = volume.map(open).transpose()?;
    if part.is_none() {
        mount("none", "/", "", libc::MS_REC | libc::MS_PRIVATE)?;
    }
    mount(dir, dir, "", libc::MS_BIND)?;
    if let Some((fd, how)) = part {
        mount_volume(dir, fd, how)?;
    }
    mount("proc", &format!("{dir}/proc"), "proc", 0)?;
    sys::ok("chdir", unsafe { libc::chdir(sys::cstr(dir).as_ptr()) })?;
    let r = unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c"old".as_ptr()) };
    sys::ok("pivot_root", r)?;
    sys::ok("umount", unsafe { libc::umount2(c"/old".as_ptr(), libc::MNT_DETACH) })?;
    sys::ok("chdir", unsafe { libc::chdir(c"/".as_ptr()) }).map(|_| ())
}
