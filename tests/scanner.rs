//! The process that takes the looks, in real CRIU: whatever becomes of it, the dump goes on, and nothing of it stays.

mod support;

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
#[cfg(feature = "fault-injection")]
use std::time::{Duration, Instant};
use support::{cc, criu_all, dump, libdir, one_at_a_time, plugin, Criu, Scratch, Target};

fn each(name: &str, body: impl Fn(&Criu, &Scratch, &Path)) {
    let _one = one_at_a_time();
    for criu in criu_all() {
        eprintln!("-- {name} with CRIU {}", criu.version);
        let scratch = Scratch::new(name);
        let lib = libdir(&scratch);
        body(criu, &scratch, &lib);
    }
}

/// Processes that are copies of the CRIU that was given this directory: they have its command line.
fn copies_of(images: &Path) -> Vec<i32> {
    let has = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|b| *b == 0).any(|arg| arg == images.as_os_str().as_bytes())
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|e| e.file_name().to_str()?.parse().ok()).filter(has).collect()
}

/// CRIU has ended: so have they.
#[cfg(feature = "fault-injection")]
fn assert_all_gone(images: &Path) {
    let end = Instant::now() + Duration::from_secs(20);
    while !copies_of(images).is_empty() {
        assert!(Instant::now() < end, "still there: {:?}", copies_of(images));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn nothing_stays_behind() {
    each("nothing-stays", |criu, scratch, lib| {
        for (early, mut target) in [
            ("on", Target::good()),
            ("off", Target::good()),
            ("on", Target::with_device()),
            ("off", Target::with_device()),
        ] {
            let images = scratch.0.join("i");
            let run = dump(&criu.path, &target, lib, images.clone(), &[], &[("CRIU_PREFLIGHT_EARLY", early)]);
            assert!(run.has("preflight: early look at ") == (early == "on"), "{}", run.log);
            assert_eq!(copies_of(&images), [0; 0]);
            target.assert_untouched();
        }
    });
}

/// A thread of another plugin holds malloc's locks at the moment of the copy, more often than not.
#[test]
fn another_plugin_has_threads() {
    each("threads", |criu, scratch, lib| {
        let busy = scratch.0.join("busy.so");
        cc("gcc", "busy_heap.c", &busy, &["-shared", "-fPIC", "-pthread"]);
        // CRIU takes them as the file system gives them; under both names one of the two comes first.
        for (ours, other) in [("a.so", "b.so"), ("b.so", "a.so")] {
            std::fs::remove_dir_all(lib).unwrap();
            std::fs::create_dir(lib).unwrap();
            std::fs::copy(plugin(), lib.join(ours)).unwrap();
            std::fs::copy(&busy, lib.join(other)).unwrap();
            for _ in 0..10 {
                let target = Target::good();
                let run = dump(&criu.path, &target, lib, scratch.0.join("i"), &[], &[]);
                assert!(run.has("Dumping finished successfully"), "{}", run.log);
                assert_eq!(run.ours("Warn  (preflight)"), [""; 0], "{}", run.log);
                assert_eq!(run.ours("preflight: frozen look at ").len(), 1, "{}", run.log);
            }
        }
    });
}

/// A group of the pids controller with room for so many, which CRIU starts in.
struct Crowded(PathBuf);

impl Crowded {
    fn new(max: u32) -> Option<Crowded> {
        let roots = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(Path::new);
        let root = roots.into_iter().find(|dir| {
            let v2 = std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
            dir.ends_with("pids") && dir.join("tasks").exists() || v2.split_whitespace().any(|c| c == "pids")
        })?;
        let group = root.join(format!("preflight-crowded-{}", std::process::id()));
        std::fs::create_dir(&group).ok()?;
        let crowded = Crowded(group);
        std::fs::write(crowded.0.join("pids.max"), max.to_string()).ok()?;
        Some(crowded)
    }
}

impl Drop for Crowded {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn no_process_can_be_made() {
    each("crowded", |criu, scratch, lib| {
        let mut not_made = 0;
        // CRIU itself needs one more at times: with less it fails before it loads plugins.
        for max in 1..=3 {
            let Some(group) = Crowded::new(max) else {
                eprintln!("SKIP no pids controller that a group can be made in");
                return;
            };
            let (target, images) = (Target::good(), scratch.dir("i"));
            let script = r#"echo $$ >"$1/cgroup.procs" && shift && exec "$@""#;
            let status = Command::new("sh")
                .args(["-c", script, "sh"])
                .arg(&group.0)
                .arg(&criu.path)
                .args(["dump", "-t", &target.pid().to_string(), "-v4", "-o", "log", "--leave-running", "-D"])
                .arg(&images)
                .arg("-L")
                .arg(lib)
                .env("CRIU_PREFLIGHT_SYSLOG", "off")
                .stdin(Stdio::null())
                .status()
                .unwrap();
            let log = std::fs::read_to_string(images.join("log")).unwrap();
            assert!(!log.contains("Error (preflight)"), "{log}");
            if log.contains("no process could be made for the look (Resource temporarily unavailable") {
                not_made += 1;
                assert!(log.contains("the dump goes on, and nothing more is checked"), "{log}");
                assert!(status.success() || log.contains("Dumping FAILED"), "{log}");
            }
            assert_eq!(copies_of(&images), [0; 0]);
            std::fs::remove_dir_all(&images).unwrap();
        }
        assert!(not_made > 0, "the group was never too small");
    });
}

/// A filter of system calls that forbids a process with our flags, of which CRIU makes none.
#[test]
fn a_filter_forbids_the_process() {
    use std::os::unix::process::CommandExt as _;
    each("filter", |criu, scratch, lib| {
        let (target, images) = (Target::good(), scratch.dir("i"));
        let mut command = Command::new(&criu.path);
        command
            .args(["dump", "-t", &target.pid().to_string(), "-v4", "-o", "log", "--leave-running", "-D"])
            .arg(&images)
            .arg("-L")
            .arg(lib)
            .stdin(Stdio::null());
        // SAFETY: two system calls, after which the child executes CRIU.
        unsafe {
            command.pre_exec(|| {
                let op = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
                let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
                let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
                let mut filter = [
                    // struct seccomp_data: the number, then at 16 the first argument, the flags.
                    op(load, 0, 0, 0),
                    op(equal, 0, 3, libc::SYS_clone as u32),
                    op(load, 0, 0, 16),
                    op(equal, 0, 1, libc::CLONE_VM as u32),
                    op(libc::BPF_RET, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
                    op(libc::BPF_RET, 0, 0, libc::SECCOMP_RET_ALLOW),
                ];
                let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
                if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                    || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0
                {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let status = command.status().unwrap();
        let log = std::fs::read_to_string(images.join("log")).unwrap();
        assert!(log.contains("no process could be made for the look (Operation not permitted"), "{log}");
        assert!(status.success(), "{log}");
        std::fs::remove_dir_all(&images).unwrap();
    });
}

#[test]
fn settings_that_make_no_sense_hold_nothing_up() {
    each("limits", |criu, scratch, lib| {
        let target = Target::good();
        let nonsense =
            [("EARLY_LIMIT", "0"), ("EARLY_LIMIT", "-1"), ("FROZEN_LIMIT", "soon"), ("MEMORY_LIMIT", "99999999G")];
        for (name, value) in nonsense {
            let variable = format!("CRIU_PREFLIGHT_{name}");
            let run = dump(&criu.path, &target, lib, scratch.0.join("i"), &[], &[(&variable, value)]);
            assert!(run.has("Dumping finished successfully"), "{}", run.log);
            assert_eq!(run.ours(&format!("Warn  (preflight): {variable}: ")).len(), 1, "{}", run.log);
            assert_eq!(run.ours("preflight: frozen look at ").len(), 1, "{}", run.log);
        }
        // Little memory is enough for a small tree: `whatever_becomes_of_it_the_dump_goes_on` has the look that needs more.
        let run = dump(&criu.path, &target, lib, scratch.0.join("i"), &[], &[("CRIU_PREFLIGHT_MEMORY_LIMIT", "1M")]);
        assert!(run.has("Dumping finished successfully"), "{}", run.log);
        assert_eq!(run.ours("preflight: frozen look at ").len(), 1, "{}", run.log);
        // A limit that a look may or may not keep: the dump goes on either way.
        let run = dump(&criu.path, &target, lib, scratch.0.join("i"), &[], &[("CRIU_PREFLIGHT_EARLY_LIMIT", "1ms")]);
        assert!(run.has("Dumping finished successfully"), "{}", run.log);
    });
}

#[cfg(feature = "fault-injection")]
#[test]
fn whatever_becomes_of_it_the_dump_goes_on() {
    let limits = [
        ("CRIU_PREFLIGHT_EARLY_LIMIT", "2s"),
        ("CRIU_PREFLIGHT_FROZEN_LIMIT", "2s"),
        ("CRIU_PREFLIGHT_MEMORY_LIMIT", "64M"),
    ];
    each("becomes", |criu, scratch, lib| {
        for (fault, why) in [
            ("panic", "internal fault in the look (injected fault)"),
            ("abort", "the process of the look was ended by signal 6"),
            ("exit", "the process of the look ended with status 3"),
            ("kill", "the process of the look was ended by signal 9"),
            ("stop", "the look took longer than %-limit allows and was ended"),
            ("hang", "the look took longer than %-limit allows and was ended"),
            ("memory", "the look needed more memory than there was or than memory-limit (64 MiB) allows"),
            ("stack", "the process of the look was ended by signal 11"),
            ("garbage", "the process of the look sent what is no message of its"),
            ("forged", "the process of the look sent what is no message of its"),
            ("reasonless", "the process of the look sent what is no message of its"),
            ("long", "the process of the look sent what is no message of its"),
            ("flood", "the process of the look sent what is no message of its"),
        ] {
            for phase in ["early", "frozen"] {
                let fault = format!("{phase}-{fault}");
                let env = [limits.as_slice(), &[("CRIU_PREFLIGHT_FAULT", &fault)]].concat();
                let images = scratch.0.join("i");
                let mut target = Target::good();
                let run = dump(&criu.path, &target, lib, images.clone(), &[], &env);
                let why = why.replace('%', phase);
                let when = if phase == "early" { "before it was frozen" } else { "while it was frozen" };
                let warning =
                    format!("Warn  (preflight): the tree of pid {} was not checked {when}: {why}; ", target.pid());
                assert_eq!(run.ours(&warning).len(), 1, "{fault}: {}", run.log);
                assert_eq!(run.ours("Warn  (preflight)").len(), 1, "{fault}: {}", run.log);
                assert!(run.output.status.success(), "{fault}: {}", run.log);
                assert!(run.has("Dumping finished successfully"), "{fault}: {}", run.log);
                assert_eq!(copies_of(&images), [0; 0], "{fault}");
                target.assert_untouched();

                // What CRIU refuses it refuses itself then.
                let target = Target::with_device();
                let env =
                    [env.as_slice(), &[("CRIU_PREFLIGHT_EARLY", if phase == "early" { "on" } else { "off" })]].concat();
                let run = dump(&criu.path, &target, lib, images.clone(), &[], &env);
                assert!(run.has("Dumping FAILED"), "{fault}: {}", run.log);
                assert_eq!(run.ours("Error (preflight)"), [""; 0], "{fault}: {}", run.log);
                assert!(!images.join("preflight.json").exists(), "{fault}");
            }
        }
    });
}

/// CRIU is killed while the scanner hangs: neither it nor its keeper stays.
#[cfg(feature = "fault-injection")]
#[test]
fn when_criu_is_killed_nothing_stays() {
    each("killed", |criu, scratch, lib| {
        for phase in ["early", "frozen"] {
            let (target, images) = (Target::good(), scratch.dir("i"));
            let mut running = Command::new(&criu.path)
                .args(["dump", "-t", &target.pid().to_string(), "-v4", "-o", "log", "--leave-running", "-D"])
                .arg(&images)
                .arg("-L")
                .arg(lib)
                .envs([
                    ("CRIU_PREFLIGHT_FAULT", format!("{phase}-hang").as_str()),
                    ("CRIU_PREFLIGHT_EARLY_LIMIT", "1000"),
                ])
                .env("CRIU_PREFLIGHT_FROZEN_LIMIT", "1000")
                .stdin(Stdio::null())
                .spawn()
                .unwrap();
            // CRIU, the keeper and the scanner.
            let end = Instant::now() + Duration::from_secs(30);
            while copies_of(&images).len() < 3 {
                assert!(Instant::now() < end, "{:?}", copies_of(&images));
                std::thread::sleep(Duration::from_millis(20));
            }
            running.kill().unwrap();
            running.wait().unwrap();
            assert_all_gone(&images);
            std::fs::remove_dir_all(&images).unwrap();
        }
    });
}

/// A scanner that hangs in the kernel obeys no signal. CRIU must not have it for a child: a dump that kills the tree ends with a
/// wait until there is no child left (`pstree_wait()`, criu/seize.c).
#[cfg(feature = "fault-injection")]
#[test]
fn one_that_cannot_be_killed_is_left_to_init() {
    use std::io::BufRead as _;
    each("unkillable", |criu, scratch, lib| {
        let (program, dir) = (scratch.0.join("deaf_fuse"), scratch.dir("mount"));
        cc("gcc", "deaf_fuse.c", &program, &[]);
        for phase in ["early", "frozen"] {
            let mut server = Command::new(&program).arg(&dir).stdout(Stdio::piped()).spawn().unwrap();
            let mut line = String::new();
            std::io::BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
            if line != "ready\n" {
                eprintln!("SKIP no FUSE here: {}", server.wait().unwrap());
                return;
            }
            let file = format!("/proc/{}/root{}/file", server.id(), dir.display());
            let (target, images) = (Target::good(), scratch.0.join("i"));
            // Without --leave-running: the tree is killed in the end, and waited for.
            std::fs::create_dir_all(&images).unwrap();
            let status = Command::new(&criu.path)
                .args(["dump", "-t", &target.pid().to_string(), "-v4", "-o", "log", "-D"])
                .arg(&images)
                .arg("-L")
                .arg(lib)
                .envs([
                    ("CRIU_PREFLIGHT_FAULT", format!("{phase}-stuck").as_str()),
                    ("CRIU_PREFLIGHT_FAULT_FILE", &file),
                ])
                .envs([("CRIU_PREFLIGHT_EARLY_LIMIT", "500ms"), ("CRIU_PREFLIGHT_FROZEN_LIMIT", "500ms")])
                .stdin(Stdio::null())
                .status()
                .unwrap();
            let log = std::fs::read_to_string(images.join("log")).unwrap();
            assert!(status.success(), "{log}");
            assert!(log.contains(&format!("the look took longer than {phase}-limit allows and was ended")), "{log}");
            assert!(log.contains("Dumping finished successfully"), "{log}");
            let left = copies_of(&images);
            assert_eq!(left.len(), 1, "the scanner hangs, and its keeper is gone");
            // The end of the server is the end of the wait.
            server.kill().unwrap();
            server.wait().unwrap();
            assert_all_gone(&images);
            std::fs::remove_dir_all(&images).unwrap();
        }
    });
}
