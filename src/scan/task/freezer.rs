//! The cgroup of `--freeze-cgroup`, and who is in it or below.

use crate::parse::status;
use crate::scan::proc::{Buffers, Dir};
use crate::scan::{sys, Seen, UncheckedList};
use crate::snapshot::{Cgroups, Freezer, Probe, Task};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, AT_FDCWD};
use nix::unistd::{access, faccessat, AccessFlags};
use std::collections::HashSet;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Fills in what `dir` is, who of the tree CRIU would not find there, and to whom else it could not attach
/// (`cgroup_version`, `seize_cgroup_tree`, criu/seize.c).
pub(crate) fn collect(
    cgroups: &mut Cgroups,
    dir: &[u8],
    tasks: &[Task],
    proc: &Dir,
    b: &mut Buffers,
    log: &mut UncheckedList,
) {
    let dir = Path::new(OsStr::from_bytes(dir));
    let Ok(found) = control_file(dir) else { return };
    // A relative path begins elsewhere for the command than for CRIU.
    if dir.is_absolute() {
        cgroups.freezer = freezer(found.as_ref());
    }
    let Some(members) = found.and_then(|(_, version)| members(dir, version, log)) else { return };
    let all = |task: &Task| task.threads.iter().map(|thread| (task.pid, thread.tid)).collect::<Vec<_>>();
    let known: HashSet<i32> = tasks.iter().flat_map(all).map(|(_, tid)| tid).collect();
    let live = tasks.iter().filter(|t| !t.is_zombie());
    cgroups.not_frozen = live.flat_map(all).filter(|(_, tid)| !members.contains(tid)).collect();
    for foreign in members.iter().filter(|m| !known.contains(m)) {
        let Some((state, tracer)) = state(*foreign, proc, b) else { continue };
        if tracer > 0 {
            cgroups.frozen_traced.push((*foreign, tracer));
        }
        if state == Some('T') {
            cgroups.frozen_stopped.push(*foreign);
        }
    }
    cgroups.frozen_traced.sort_unstable();
    cgroups.frozen_stopped.sort_unstable();
}

/// The state of a thread, and who traces it.
fn state(tid: i32, proc: &Dir, b: &mut Buffers) -> Option<(Option<char>, i32)> {
    let name = CString::new(format!("{tid}/status")).ok()?;
    let Seen::Seen(text) = proc.read_one(&name, &mut b.text) else { return None };
    let status = status::parse(text);
    Some((status.state, status.tracer_pid.unwrap_or_default()))
}

/// The files by which CRIU freezes, in the order in which it looks for them.
const FILES: [(&str, Freezer); 2] = [("freezer.state", Freezer::V1), ("cgroup.freeze", Freezer::V2)];

/// The file that CRIU would find, and the version of it.
fn control_file(dir: &Path) -> nix::Result<Option<(PathBuf, Freezer)>> {
    for (name, version) in FILES {
        let file = dir.join(name);
        match access(&file, AccessFlags::F_OK) {
            Ok(()) => return Ok(Some((file, version))),
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENAMETOOLONG) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(None)
}

/// What CRIU could do with it.
fn freezer(found: Option<&(PathBuf, Freezer)>) -> Option<Freezer> {
    let Some((file, version)) = found else { return Some(Freezer::Missing) };
    match faccessat(AT_FDCWD, file, AccessFlags::R_OK | AccessFlags::W_OK, AtFlags::AT_EACCESS) {
        Ok(()) => Some(*version),
        Err(errno @ (Errno::EROFS | Errno::EACCES)) => Some(Freezer::Unwritable(errno as i32)),
        Err(_) => None,
    }
}

/// All threads in the cgroup and below.
fn members(dir: &Path, version: Freezer, log: &mut UncheckedList) -> Option<HashSet<i32>> {
    let (list, probe) = match version {
        Freezer::V1 => ("tasks", Probe::CgroupTasks),
        _ => ("cgroup.threads", Probe::CgroupThreads),
    };
    let (mut members, mut todo) = (HashSet::new(), vec![dir.to_path_buf()]);
    while let Some(dir) = todo.pop() {
        let read = sys::read_file(&dir.join(list)).map(|text| {
            let number = |line: &[u8]| std::str::from_utf8(line).ok()?.parse::<i32>().ok();
            members.extend(text.split(|b| *b == b'\n').filter_map(number));
        });
        let listed = below(&dir).map(|below| todo.extend(below));
        for result in [read, listed] {
            match result {
                // Removed meanwhile.
                Ok(()) | Err(Errno::ENOENT | Errno::ENODEV) => {}
                Err(errno) => {
                    log.deny(0, None, probe, errno as i32);
                    return None;
                }
            }
        }
    }
    Some(members)
}

/// The directories in it. (`opendir()` of the C library takes memory from a heap that is not ours.)
fn below(dir: &Path) -> nix::Result<Vec<PathBuf>> {
    let name = CString::new(dir.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let listing = sys::open(AT_FDCWD, &name, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    let (mut found, mut dents) = (Vec::new(), vec![0; 32 * 1024]);
    loop {
        let n = sys::retry(|| sys::getdents(&listing, &mut dents))?;
        if n == 0 {
            return Ok(found);
        }
        for name in sys::names(dents.get(..n).unwrap_or_default()) {
            match sys::lstatx(&listing, name) {
                Ok(file) if file.kind() == libc::S_IFDIR => found.push(dir.join(OsStr::from_bytes(name.to_bytes()))),
                Ok(_) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit::task;

    #[test]
    fn the_lists_of_both_versions() {
        let dir = std::env::temp_dir().join(format!("preflight-freezer-{}", std::process::id()));
        let (deep, mut log) = (dir.join("a/b"), UncheckedList::default());
        std::fs::create_dir_all(&deep).unwrap();
        let mut zombie = task(13);
        zombie.state = 'Z';
        let tasks = [task(11), task(12), zombie];
        let (proc, mut b) = (Dir::proc().unwrap(), Buffers::new());
        let mut ask_at = |at: &Path| {
            let mut cgroups = Cgroups::default();
            collect(&mut cgroups, at.as_os_str().as_bytes(), &tasks, &proc, &mut b, &mut log);
            (cgroups.not_frozen, cgroups.freezer)
        };
        let mut ask = || ask_at(&dir);
        assert_eq!(ask(), (vec![], Some(Freezer::Missing)));
        for (state, list, version) in
            [("cgroup.freeze", "cgroup.threads", Freezer::V2), ("freezer.state", "tasks", Freezer::V1)]
        {
            std::fs::write(dir.join(state), "").unwrap();
            std::fs::write(dir.join(list), "11\n").unwrap();
            assert_eq!(ask(), (vec![(12, 12)], Some(version)), "{list}");
            std::fs::write(deep.join(list), "12\n").unwrap();
            // Removed meanwhile, or no cgroup at all: nothing in it.
            assert_eq!(ask(), (vec![], Some(version)), "{list}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(ask_at(&dir.join("file/below")), (vec![], Some(Freezer::Missing)));
        assert_eq!(ask_at(Path::new("relative")), (vec![], None));
        assert_eq!(log.0, Vec::new());
    }
}
