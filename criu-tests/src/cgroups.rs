//! The cgroups that mkres makes for the trees of one directory: one in each hierarchy, and what is below it.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Its name in every hierarchy.
pub fn name(dir: &str) -> String {
    format!("mkres{}", dir.replace('/', "-"))
}

/// Where hierarchies are mounted whole: (mount point, type, options of the hierarchy).
pub fn mounts() -> Vec<(PathBuf, String, String)> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let line = |l: &str| {
        let (place, kind) = l.split_once(" - ")?;
        let (mut place, mut kind) = (place.split(' ').skip(3), kind.split(' '));
        let (root, at, fs, options) = (place.next()?, place.next()?, kind.next()?, kind.nth(1)?);
        // In a cgroup namespace of one's own it is above.
        let whole = root.split('/').all(|part| matches!(part, "" | "..")) && fs.starts_with("cgroup");
        whole.then(|| (PathBuf::from(at), fs.to_string(), options.to_string()))
    };
    table.lines().filter_map(line).collect()
}

/// Lets what a killed CRIU has left frozen in them go on, that it can be ended.
pub fn thaw(dir: &str) {
    for (at, fs, options) in mounts() {
        if fs == "cgroup" && options.split(',').any(|o| o == "freezer") {
            thaw_below(&at.join(name(dir)));
        }
    }
}

fn thaw_below(group: &Path) {
    let state = group.join("freezer.state");
    if !state.exists() {
        return;
    }
    let _ = std::fs::write(state, "THAWED");
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            thaw_below(&entry.path());
        }
    }
}

/// Removes them; the processes in them have ended.
pub fn sweep(dir: &str) {
    let all: Vec<PathBuf> = mounts().into_iter().map(|(at, ..)| at.join(name(dir))).collect();
    for _ in 0..400 {
        let left: Vec<&PathBuf> = all.iter().filter(|group| !removed(group)).collect();
        if left.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    eprintln!("cgroups of {dir} are left in {all:?}");
}

/// Removes those of all trees below this directory: CRIU notes the cgroups of others where a tree is in the root of a hierarchy,
/// and a restore makes them again.
pub fn sweep_all(base: &str, prefixes: &[&str]) {
    for (at, ..) in mounts() {
        for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
            let found = entry.file_name().to_string_lossy().into_owned();
            if prefixes.iter().any(|prefix| found.starts_with(&format!("{prefix}{}-", base.replace('/', "-")))) {
                removed(&entry.path());
            }
        }
    }
}

fn removed(group: &Path) -> bool {
    let entries = match std::fs::read_dir(group) {
        Ok(entries) => entries,
        Err(e) => return e.kind() == std::io::ErrorKind::NotFound,
    };
    for entry in entries {
        match entry {
            Ok(entry) if entry.file_type().is_ok_and(|t| t.is_dir()) => drop(removed(&entry.path())),
            _ => {}
        }
    }
    std::fs::remove_dir(group).is_ok()
}
