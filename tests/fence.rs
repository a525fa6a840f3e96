//! Our bug is not the user's outage: a panic behind any entry is logged once and the dump goes on.

mod support;

use criu_preflight::plugin::panic_guard;

#[test]
fn a_panic_is_answered_with_silence_and_everything_after_it_too() {
    assert_eq!(panic_guard::catch_panic("test", 1, || 2), 2);
    assert!(!panic_guard::broken());
    nix::errno::Errno::set_raw(77);
    // The payload's own drop panics: it must never be dropped.
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }
    assert_eq!(panic_guard::catch_panic("test", 1, || -> i32 { std::panic::panic_any(Bomb) }), 1);
    assert_eq!(nix::errno::Errno::last_raw(), 77);
    assert!(panic_guard::broken());
    assert_eq!(panic_guard::catch_panic("test", 1, || 2), 1);
    // The hook of the process is its own again.
    assert!(std::panic::catch_unwind(|| panic!("seen by the usual hook")).is_err());
}

#[cfg(feature = "fault-injection")]
#[test]
fn a_fault_in_any_entry_leaves_the_dump_alone() {
    use support::{criu_all, dump, libdir, one_at_a_time, Scratch, Target};
    let _one = one_at_a_time();
    for criu in criu_all() {
        let scratch = Scratch::new("fault");
        let lib = libdir(&scratch);
        for entry in ["init", "PAUSE_DEVICES", "CHECKPOINT_DEVICES", "exit"] {
            for (early, target) in [("on", Target::good()), ("off", Target::good()), ("off", Target::with_device())] {
                let env = [("CRIU_PREFLIGHT_FAULT", entry), ("CRIU_PREFLIGHT_EARLY", early)];
                let run = dump(&criu.path, &target, &lib, scratch.0.join("i"), &[], &env);
                let warning = format!("Warn  (preflight): internal fault in {entry} (injected fault)");
                assert_eq!(run.ours(&warning).len(), 1, "{} {entry}: {}", criu.version, run.log);
                assert!(run.has("Dumping finished successfully") || run.has("Dumping FAILED"), "{}", run.log);
                let ours = run.has("Error (preflight)");
                // Only a fault after the frozen look leaves its refusal standing.
                let refused = entry == "exit" && !run.output.status.success();
                assert_eq!(ours, refused, "{} {entry}: {}", criu.version, run.log);
            }
        }
    }
}
