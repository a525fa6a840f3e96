//! Replays the fuzzer's corpus, so that what it once found, and what kernels print, is checked on stable too.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::path::Path;

/// Seeds called `linux-*` or after a kind of file are what a kernel printed, and understood completely; those called
/// `odd*` have lines that are not; what the fuzzer adds (`crash-*` and the like) only has to pass.
#[test]
fn replay() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in targets::ALL {
        let mut seeds = 0;
        for entry in std::fs::read_dir(corpus.join(name)).unwrap_or_else(|e| panic!("corpus of {name}: {e}")) {
            let path = entry.unwrap().path();
            let file = path.file_name().unwrap().to_string_lossy().into_owned();
            let bad = target(&std::fs::read(&path).unwrap());
            let fuzzed =
                file.len() == 40 || ["crash-", "leak-", "timeout-", "oom-"].iter().any(|p| file.starts_with(p));
            assert!(fuzzed || (bad > 0) == file.starts_with("odd"), "{}: {bad} entries not understood", path.display());
            seeds += 1;
        }
        assert!(seeds > 0, "no seeds for {name}");
    }
}

/// Every target of the table is built by cargo-fuzz, and has its file.
#[test]
fn every_target_is_declared() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for (name, _) in targets::ALL {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
        let source = std::fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(source.contains(&format!("targets::{name}(")), "{name}");
    }
}

/// What the kernel of this machine prints about every task is understood to the last line.
#[test]
fn this_kernel() {
    let files: [(&str, targets::Target); 8] = [
        ("cgroup", targets::cgroup),
        ("gid_map", targets::idmap),
        ("limits", targets::limits),
        ("maps", targets::maps),
        ("mountinfo", targets::mountinfo),
        ("smaps", targets::maps),
        ("stat", targets::stat),
        ("status", targets::status),
    ];
    let check = |path: &Path, target: targets::Target| {
        // Gone or not ours to read: nothing to parse. An empty file is what a task leaves that ends right now.
        if let Some(text) = std::fs::read(path).ok().filter(|text| !text.is_empty()) {
            let bad = target(&text);
            assert_eq!(bad, 0, "{}:\n{}", path.display(), text.escape_ascii());
        }
    };
    for task in std::fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path())) {
        if !task.file_name().is_some_and(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit)) {
            continue;
        }
        files.iter().for_each(|(name, target)| check(&task.join(name), *target));
        for fd in std::fs::read_dir(task.join("fdinfo")).into_iter().flatten().flatten() {
            check(&fd.path(), targets::fdinfo);
        }
    }
    check(Path::new("/proc/devices"), targets::devices);
    check(Path::new("/proc/misc"), targets::misc);
    check(Path::new("/proc/locks"), targets::locks);
}
