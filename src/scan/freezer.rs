//! The cgroup of `--freeze-cgroup`, and who is in it or below.

use super::Log;
use crate::snapshot::Task;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The threads (process, thread) that CRIU would not find there (`seize_cgroup_tree`, criu/seize.c). `None`: that cannot be
/// told, or `dir` is no such cgroup, which CRIU says itself.
pub fn outside(dir: &[u8], tasks: &[Task], log: &mut Log) -> Option<Vec<(i32, i32)>> {
    let dir = Path::new(OsStr::from_bytes(dir));
    let list = if dir.join("freezer.state").exists() {
        "tasks"
    } else if dir.join("cgroup.freeze").exists() {
        "cgroup.threads"
    } else {
        return None;
    };
    let live = tasks.iter().filter(|t| !t.is_zombie());
    let all: Vec<(i32, i32)> = live.flat_map(|t| t.threads.iter().map(|thread| (t.pid, thread.tid))).collect();
    let mut missing: HashSet<i32> = all.iter().map(|(_, tid)| *tid).collect();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(dir) = todo.pop().filter(|_| !missing.is_empty()) {
        match std::fs::read_to_string(dir.join(list)) {
            Ok(text) => {
                for tid in text.lines().filter_map(|l| l.parse().ok()) {
                    missing.remove(&tid);
                }
            }
            // Removed meanwhile.
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => {}
            Err(e) => {
                log.deny(0, None, list.as_bytes(), e.raw_os_error().unwrap_or_default());
                return None;
            }
        }
        todo.extend(below(&dir));
    }
    Some(all.into_iter().filter(|(_, tid)| missing.contains(tid)).collect())
}

fn below(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit::task;

    #[test]
    fn the_lists_of_both_versions() {
        let dir = std::env::temp_dir().join(format!("preflight-freezer-{}", std::process::id()));
        let (deep, mut log) = (dir.join("a/b"), Log::default());
        std::fs::create_dir_all(&deep).unwrap();
        let at = dir.clone().into_os_string().into_encoded_bytes();
        let mut zombie = task(13);
        zombie.state = 'Z';
        let tasks = [task(11), task(12), zombie];
        let mut ask = || outside(&at, &tasks, &mut log);
        assert_eq!(ask(), None);
        for (state, list) in [("cgroup.freeze", "cgroup.threads"), ("freezer.state", "tasks")] {
            std::fs::write(dir.join(state), "").unwrap();
            std::fs::write(dir.join(list), "11\n").unwrap();
            assert_eq!(ask(), Some(vec![(12, 12)]), "{list}");
            std::fs::write(deep.join(list), "12\n").unwrap();
            // Removed meanwhile, or no cgroup at all: nothing in it.
            assert_eq!(ask(), Some(vec![]), "{list}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(log.0, Vec::new());
    }
}
