//! Places in the hierarchies of cgroups.

use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{sys, Kind};
use criu_tests::cgroups;
use std::path::{Path, PathBuf};

pub const KINDS: &[Kind] = &[Kind {
    name: "cgroup",
    help: "in=GROUP|start|/,thread=GROUP|start|/,threaded,length=N,v1=CONTROLLER,foreign=plain|traced|stopped: this process, a new thread, goes there, below one of our own (start: the one that the tree was started in, /: the hierarchy's root); foreign: one outside of the tree",
    make: cgroup,
}];

/// Moves this process (and then `thread`s another) into a group below one that all processes of the tree know. `.` is that
/// one itself, `start` the one that CRIU will be in, too, `/` the root of the hierarchy; `threaded`: the group can have single
/// threads of a process (of cgroup v2). `length`: the group is as deep below as makes its path so long.
fn cgroup(cx: &mut Ctx, a: &Args) -> Res {
    let v1 = a.get("v1");
    let is = |(_, fs, options): &&(PathBuf, String, String)| match v1 {
        None => fs == "cgroup2",
        Some(controller) => fs == "cgroup" && options.split(',').any(|o| o == controller),
    };
    let hierarchy = cgroups::mounts().iter().find(is).map(|(at, ..)| at.clone());
    let hierarchy = hierarchy.ok_or_else(|| Fail::Skip(format!("no cgroup hierarchy {}", v1.unwrap_or("v2"))))?;
    let base = hierarchy.join(cgroups::name(&cx.dir));
    if !base.exists() {
        make(&base)?;
        guard(&cx.dir)?;
    }
    cx.fact("dir", base.display());
    let mut group = match a.get("in").or(a.get("thread")) {
        Some("/") => hierarchy.clone(),
        Some("start") => hierarchy.join(started_in(v1)?),
        group => base.join(group.unwrap_or(".")),
    };
    let length = a.num("length", 0)? as usize;
    if length > 0 {
        // As a path of the hierarchy: without its mount point.
        let mut left = length - (group.as_os_str().len() - hierarchy.as_os_str().len());
        while left > 0 {
            let part = left.min(250);
            let part = if left - part == 1 { part - 1 } else { part };
            group = group.join("x".repeat(part - 1));
            left -= part;
        }
    }
    make(&group)?;
    if a.has("threaded") {
        write(&group, "cgroup.type", "threaded")?;
    }
    if let Some(how) = a.get("foreign") {
        let foreign = cx.outsider("foreign", &[], || write(&group, "cgroup.procs", "0"))?;
        if how == "stopped" {
            let _ = test_signals::signal(foreign, libc::SIGSTOP);
            let stopped = || {
                let status = std::fs::read_to_string(format!("/proc/{foreign}/status")).unwrap_or_default();
                status.lines().any(|l| l.starts_with("State:\tT"))
            };
            if !(0..400).any(|_| {
                stopped() || {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                    false
                }
            }) {
                return Err(Fail::Skip("the other process does not stop".into()));
            }
        }
        if how == "traced" {
            let seize =
                || sys::ok("PTRACE_SEIZE", unsafe { libc::ptrace(libc::PTRACE_SEIZE, foreign, 0, 0) }).map(|_| ());
            cx.outsider("debugger", &[], seize)?;
        }
    }
    if a.has("in") || length > 0 {
        // Of a threaded group this is its first thread only.
        write(&group, "cgroup.procs", &format!("{}", unsafe { libc::getpid() }))?;
    }
    if a.has("thread") {
        let list = if v1.is_some() { "tasks" } else { "cgroup.threads" };
        let (tx, rx) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let tid = unsafe { libc::syscall(libc::SYS_gettid) } as i32;
            let _ = tx.send(write(&group, list, &tid.to_string()).map(|()| tid));
            loop {
                unsafe { libc::pause() };
            }
        });
        let tid = rx.recv().map_err(|_| Fail::Broken("no thread".into()))??;
        cx.pids.push((format!("{}.thread", cx.kind), tid));
    }
    Ok(())
}

/// The cgroup of who has started mkres, below the root of this hierarchy.
fn started_in(v1: Option<&str>) -> Result<String, Fail> {
    let text = std::fs::read_to_string(format!("/proc/{}/cgroup", maker())).unwrap_or_default();
    let path = |line: &str| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let is = v1.map_or(controllers.is_empty(), |v1| controllers.split(',').any(|c| c == v1));
        is.then(|| path.trim_start_matches('/').to_string())
    };
    text.lines().find_map(path).ok_or_else(|| Fail::Broken(format!("{text}: not in the hierarchy")))
}

fn make(group: &Path) -> Res {
    std::fs::create_dir_all(group).map_err(|e| Fail::Skip(format!("{}: {e}", group.display())))
}

/// Writes to a file of the group, whose path may be too long with that.
fn write(group: &Path, file: &str, text: &str) -> Res {
    let dir = sys::open(&group.to_string_lossy(), libc::O_PATH | libc::O_DIRECTORY)?;
    let done = std::fs::write(format!("/proc/self/fd/{dir}/{file}"), text);
    sys::close(dir);
    done.map_err(|e| Fail::Skip(format!("{}/{file}: {e}", group.display())))
}

/// Whoever made the tree removes the groups. A process of its own does so once more when that one has ended: it may have been
/// killed, or another CRIU, that has noted all the groups of this machine, has made them again.
fn guard(dir: &str) -> Res {
    let maker = sys::ok("pidfd_open", unsafe { libc::syscall(libc::SYS_pidfd_open, maker(), 0) })? as i32;
    let middle = sys::fork()?;
    if middle != 0 {
        sys::close(maker);
        sys::wait(middle);
        return Ok(());
    }
    unsafe { libc::setsid() };
    if sys::fork().unwrap_or(1) != 0 {
        unsafe { libc::_exit(0) };
    }
    sys::close_all_but(&[0, 1, 2, maker]);
    // Its maker may be in such a group already, which cannot be removed then.
    for (hierarchy, ..) in cgroups::mounts() {
        let _ = std::fs::write(hierarchy.join("cgroup.procs"), "0");
    }
    let mut ended = libc::pollfd { fd: maker, events: libc::POLLIN, revents: 0 };
    unsafe { libc::poll(&mut ended, 1, 1_200_000) };
    cgroups::sweep(dir);
    unsafe { libc::_exit(0) }
}

/// The first process above that is no mkres.
fn maker() -> i32 {
    let mut pid = unsafe { libc::getppid() };
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let Some((name, rest)) = stat.rsplit_once(") ") else { return pid };
        if !name.ends_with("(mkres") {
            return pid;
        }
        pid = rest.split(' ').nth(1).and_then(|p| p.parse().ok()).unwrap_or(1);
    }
}
