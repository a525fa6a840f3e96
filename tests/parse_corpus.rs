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
