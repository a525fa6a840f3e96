//! The same shared object in every real CRIU of this machine: facts, refusals, configuration.

mod support;

use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{criu_all, dump, libdir, one_at_a_time, Criu, Run, Scratch, Target};

fn each(name: &str, body: impl Fn(&Criu, &Scratch, &Path)) {
    let _one = one_at_a_time();
    for criu in criu_all() {
        eprintln!("-- {name} with CRIU {}", criu.version);
        let scratch = Scratch::new(name);
        let lib = libdir(&scratch);
        body(criu, &scratch, &lib);
    }
}

fn assert_refused(run: &Run, target: &mut Target) {
    assert_eq!(run.output.status.code(), Some(1), "{}", run.log);
    let lines = run.ours("Error (preflight): ");
    assert!(lines[0].contains(&format!("refusing to dump pid {} (sleep), ", target.pid())), "{lines:?}");
    assert!(lines[0].ends_with("1 blocker in 1 of 1 task: fd-chrdev x1"), "{lines:?}");
    assert!(lines[1].contains(&format!("fd-chrdev: pid {} (sleep) fd 0: ", target.pid())), "{lines:?}");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(run.pages(), 0);
    let report: serde_json::Value =
        serde_json::from_slice(&std::fs::read(run.images.join("preflight.json")).unwrap()).unwrap();
    assert_eq!(report["verdict"], "refuse");
    assert_eq!(report["findings"][0]["rule"], "fd-chrdev");
    target.assert_untouched();
}

#[test]
fn what_is_known_of_this_criu_is_so() {
    each("facts", |criu, scratch, lib| {
        let mut target = Target::good();
        let args = [
            "--file-locks",
            "--tcp-established",
            "--ext-unix-sk",
            "--ghost-limit",
            "5M",
            "--timeout",
            "77",
            "--external",
            "unix[77]",
            "--external",
            "mnt[/a]:b",
            "--external",
            "dev[1/2]:x",
            "--link-remap",
            "--enable-fs",
            "hugetlbfs,tracefs",
        ];
        let run = dump(&criu.path, &target, lib, scratch.0.join("i"), &args, &[]);
        assert_eq!(run.output.status.code(), Some(0), "{}", run.log);
        assert!(run.has(&format!("preflight: root {} in {{", target.pid())), "{}", run.log);
        let host = run.host();
        assert_eq!(host["release"], criu.line());
        assert_eq!(host["stage"], "dump");
        assert_eq!(host["runtime"], "cli");
        assert_eq!(host["siblings"]["loaded"], json!([]));
        assert_eq!(host["siblings"]["pending"], false);
        let want = json!({"file_locks": true, "tcp_established": true, "ext_unix_sk": true, "link_remap": true,
            "shell_job": false, "tcp_close": false, "skip_in_flight": false, "evasive_devices": false,
            "force_irmap": false, "orphan_pts_master": false, "unprivileged": false, "allow_uprobes": false,
            "ghost_limit": 5 << 20, "enable_fs": ["hugetlbfs,tracefs"], "skip_mnt": [], "network_lock": "iptables",
            // Known, and not given.
            "freeze_cgroup": [], "dump_controllers": []});
        for (name, value) in want.as_object().unwrap() {
            assert_eq!(&host["options"][name], value, "{name}");
        }
        let mut externals: Vec<&str> =
            host["externals"].as_array().unwrap().iter().map(|e| e.as_str().unwrap()).collect();
        externals.sort_unstable();
        assert_eq!(externals, ["dev[1/2]:x", "mnt[/a]:b", "unix[77]"]);
        assert_eq!(run.ours("Error ("), [""; 0]);
        target.assert_untouched();
    });
}

/// CRIU changes into the work directory before it opens the plugin directory.
#[test]
fn a_plugin_directory_given_by_a_relative_path() {
    each("relative", |criu, scratch, lib| {
        let relative = Path::new("..").join(lib.strip_prefix(&scratch.0).unwrap());
        let mut doomed = Target::with_device();
        let run = dump(&criu.path, &doomed, &relative, scratch.0.join("i"), &[], &[]);
        assert_refused(&run, &mut doomed);
        assert_eq!(run.host()["options"]["file_locks"], false, "the options are known all the same");
        let mut clean = Target::good();
        let run = dump(&criu.path, &clean, &relative, scratch.0.join("i"), &[], &[]);
        assert_eq!(run.output.status.code(), Some(0), "{}", run.log);
        clean.assert_untouched();
    });
}

/// The tree is a shell that dumps itself; no fixture can be one, for the runner would be in it.
#[test]
fn criu_in_the_tree_that_it_dumps() {
    each("self", |criu, scratch, lib| {
        let none = scratch.dir("none");
        for (libdir, says) in [(&none, "The criu itself is within dumped tree"), (&lib.to_path_buf(), "self-in-tree: ")]
        {
            let images = scratch.dir("i");
            // A command behind criu: with it last, the shell would become criu.
            let script = r#""$1" dump -t $$ -v4 -o log -D "$2" -L "$3"; echo $? >"$2/status"; exec sleep 1000"#;
            let mut shell = Command::new("sh");
            shell.args(["-c", script, "sh"]).arg(&criu.path).arg(&images).arg(libdir);
            shell.env("CRIU_PREFLIGHT_SYSLOG", "off");
            let mut target = Target::start(shell, std::process::Stdio::null());
            let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
            while std::fs::read(images.join("status")).unwrap_or_default() != b"1\n" {
                assert!(std::time::Instant::now() < end, "criu does not end, or not with 1");
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            let log = std::fs::read_to_string(images.join("log")).unwrap();
            let line = log.lines().find(|l| l.contains(says)).unwrap_or_else(|| panic!("{log}"));
            if libdir == lib {
                assert!(line.contains(": this is the CRIU that makes the dump"), "{line}");
                assert!(log.contains("nothing was frozen: 1 blocker in 1 of 2 tasks: self-in-tree x1"), "{log}");
            }
            target.assert_untouched();
            std::fs::remove_dir_all(&images).unwrap();
        }
    });
}

#[test]
fn the_other_options() {
    each("options", |criu, scratch, lib| {
        let target = Target::good();
        let mut args = vec![
            "--shell-job",
            "--tcp-close",
            "--skip-in-flight",
            "--evasive-devices",
            "--force-irmap",
            "--network-lock",
            "skip",
            "--irmap-scan-path",
            "/tmp",
            "--enable-external-sharing",
            "--enable-external-masters",
            "--file-validation",
            "filesize",
            "--empty-ns",
            "net",
        ];
        if criu.line() >= "4.2" {
            args.push("--allow-uprobes");
        }
        let run = dump(&criu.path, &target, lib, scratch.0.join("i"), &args, &[]);
        let host = run.host();
        let want = json!({"shell_job": true, "tcp_close": true, "skip_in_flight": true, "evasive_devices": true,
            "force_irmap": true, "network_lock": "skip", "irmap_scan_paths": ["/tmp"], "file_locks": false,
            "enable_external_sharing": true, "enable_external_masters": true, "validate_by_size": true,
            "empty_ns": libc::CLONE_NEWNET, "allow_uprobes": criu.line() >= "4.2"});
        for (name, value) in want.as_object().unwrap() {
            assert_eq!(&host["options"][name], value, "{name}");
        }
    });
}

#[test]
fn a_doomed_dump_ends_before_anything_is_frozen() {
    each("early", |criu, scratch, lib| {
        let mut target = Target::with_device();
        let run = dump(&criu.path, &target, lib, scratch.0.join("i"), &[], &[]);
        assert_refused(&run, &mut target);
        assert!(run.has("nothing was frozen"), "{}", run.log);
        assert!(!run.has("hook 11"), "{}", run.log);
    });
}

#[test]
fn without_the_early_look_the_frozen_one_refuses_once() {
    each("frozen", |criu, scratch, lib| {
        let mut target = Target::with_device();
        let env = [("CRIU_PREFLIGHT_EARLY", "off")];
        let run = dump(&criu.path, &target, lib, scratch.0.join("i"), &[], &env);
        assert_refused(&run, &mut target);
        assert!(run.has("the tree was frozen briefly, nothing was written"), "{}", run.log);
    });
}

#[test]
fn modes_and_switched_off_rules() {
    each("modes", |criu, scratch, lib| {
        let mut target = Target::with_device();
        let at = |name: &str| scratch.0.join(name);
        let failed_by_criu = |run: &Run| {
            assert_eq!(run.output.status.code(), Some(1), "{}", run.log);
            assert!(run.has("Dumping FAILED"), "{}", run.log);
            assert_eq!(run.ours("Error (preflight)"), [""; 0]);
        };

        let warn = dump(&criu.path, &target, lib, at("warn"), &[], &[("CRIU_PREFLIGHT_MODE", "warn")]);
        failed_by_criu(&warn);
        let warnings = warn.ours("Warn  (preflight): fd-chrdev: ");
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        let report = std::fs::read(warn.images.join("preflight.json")).unwrap();
        let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
        assert_eq!(report["findings"][0]["rule"], "fd-chrdev", "everything is reported all the same");
        let clean = dump(&criu.path, &Target::good(), lib, at("clean"), &[], &[("CRIU_PREFLIGHT_MODE", "warn")]);
        assert_eq!(clean.output.status.code(), Some(0), "{}", clean.log);

        let allow = [("CRIU_PREFLIGHT_ALLOW", "fd-chrdev:/dev/loop-control")];
        let allowed = dump(&criu.path, &target, lib, at("allowed"), &[], &allow);
        failed_by_criu(&allowed);
        assert_eq!(allowed.ours("Warn  (preflight): fd-chrdev: ").len(), 1, "{}", allowed.log);
        let allow = [("CRIU_PREFLIGHT_ALLOW", "fd-chrdev:/dev/loop")];
        assert_refused(&dump(&criu.path, &target, lib, at("other"), &[], &allow), &mut target);

        let off = dump(&criu.path, &target, lib, at("off"), &[], &[("CRIU_PREFLIGHT_MODE", "off")]);
        failed_by_criu(&off);
        assert!(!off.has("fd-chrdev") && !off.images.join("preflight.json").exists(), "{}", off.log);

        let disabled = dump(&criu.path, &target, lib, at("rule"), &[], &[("CRIU_PREFLIGHT_DISABLE", "fd-chrdev")]);
        failed_by_criu(&disabled);
        assert!(!disabled.has("fd-chrdev"), "{}", disabled.log);

        // The file is weaker than the environment; a broken line costs that line.
        std::fs::write(at("file.conf"), "mode warn\nspeed 9\nreport off\n").unwrap();
        let file = dump(&criu.path, &target, lib, at("file"), &[], &[]);
        failed_by_criu(&file);
        let wrong = format!("{}:2: there is no setting 'speed'", at("file.conf").display());
        assert_eq!(file.ours("Warn  (preflight): ").iter().filter(|l| l.contains(&wrong)).count(), 1, "{}", file.log);
        assert!(!file.images.join("preflight.json").exists());
        let env = [("CRIU_PREFLIGHT_MODE", "enforce"), ("CRIU_PREFLIGHT_REPORT", "on")];
        let both = dump(&criu.path, &target, lib, at("file"), &[], &env);
        assert_refused(&both, &mut target);

        if criu.line() >= "4.3" {
            let args = [
                "--plugin-option",
                "cuda.mode=off",
                "--plugin-option",
                "preflight.mode=warn",
                "--plugin-option=preflight.nonsense",
            ];
            let env = [("CRIU_PREFLIGHT_MODE", "enforce")];
            let option = dump(&criu.path, &target, lib, at("option"), &args, &env);
            failed_by_criu(&option);
            assert!(option.has("--plugin-option preflight.nonsense: there is no setting 'nonsense'"), "{}", option.log);
        }
        target.assert_untouched();
    });
}

#[test]
fn a_report_that_cannot_be_written_and_one_that_no_longer_holds() {
    each("report", |criu, scratch, lib| {
        // A directory in its place: rename fails, the refusal stands.
        let mut target = Target::with_device();
        let work = scratch.dir("work");
        std::fs::create_dir_all(work.join("preflight.json/x")).unwrap();
        let args = ["-W", work.to_str().unwrap()];
        let run = dump(&criu.path, &target, lib, scratch.0.join("i"), &args, &[]);
        assert_eq!(run.output.status.code(), Some(1));
        let log = std::fs::read_to_string(work.join("log")).unwrap();
        assert!(log.contains("Warn  (preflight): no preflight.json was written: "), "{log}");
        assert!(log.contains("Error (preflight): fd-chrdev: "), "{log}");
        target.assert_untouched();
        let names: Vec<_> = std::fs::read_dir(&work).unwrap().flatten().map(|e| e.file_name()).collect();
        assert!(!names.iter().any(|n| n.to_string_lossy().starts_with(".preflight")), "{names:?}");

        std::fs::remove_dir_all(work.join("preflight.json")).unwrap();
        std::fs::write(work.join("preflight.json"), "{}").unwrap();
        let good = Target::good();
        let run = dump(&criu.path, &good, lib, scratch.0.join("i"), &args, &[]);
        assert_eq!(run.output.status.code(), Some(0), "{}", run.log);
        let report: serde_json::Value =
            serde_json::from_slice(&std::fs::read(work.join("preflight.json")).unwrap()).unwrap();
        assert_eq!((&report["verdict"], &report["findings"]), (&json!("pass"), &json!([])));
        assert_eq!((&report["criu"]["release"], &report["tasks"]), (&json!(criu.line()), &json!(1)));
        assert!(report["looked_at"]["mappings"].as_u64() > Some(5), "{report}");
        drop(good);

        // Only if there is something to report.
        let good = Target::good();
        let env = [("CRIU_PREFLIGHT_REPORT", "findings")];
        let run = dump(&criu.path, &good, lib, scratch.0.join("i"), &args, &env);
        assert_eq!(run.output.status.code(), Some(0), "{}", run.log);
        assert!(!work.join("preflight.json").exists());
    });
}

#[test]
fn a_restore_does_not_need_us_and_is_not_looked_at() {
    each("restore", |criu, scratch, lib| {
        let target = Target::good();
        let run = dump(&criu.path, &target, lib, scratch.0.join("i"), &[], &[]);
        assert_eq!(run.output.status.code(), Some(0), "{}", run.log);
        let dumped = target.pid();
        drop(target);
        let out = Command::new(&criu.path)
            .args(["restore", "-d", "-v4", "-o", "restore.log", "--pidfile", "pid", "-D"])
            .arg(&run.images)
            .arg("-L")
            .arg(lib)
            .output()
            .unwrap();
        let log = std::fs::read_to_string(run.images.join("restore.log")).unwrap();
        assert!(out.status.success(), "{log}");
        let pid: i32 = std::fs::read_to_string(run.images.join("pid")).unwrap().trim().parse().unwrap();
        assert_eq!(pid, dumped);
        test_signals::signal(pid, libc::SIGKILL).unwrap();
        assert!(log.contains("Plugin \"preflight\""), "{log}");
        assert!(!log.contains("preflight: root"), "{log}");
    });
}

/// A copy of the binary whose `opts` has another st_size in .dynsym, and how to run it.
fn doctored(criu: &Criu, scratch: &Scratch, size: u64) -> Option<PathBuf> {
    let root = criu.path.parent()?.join("root");
    let binary = ["usr/sbin/criu", "usr/bin/criu"].iter().map(|p| root.join(p)).find(|p| p.exists())?;
    let mut elf = std::fs::read(binary).unwrap();
    let word = |elf: &[u8], at: usize| u64::from_le_bytes(elf[at..at + 8].try_into().unwrap()) as usize;
    let half = |elf: &[u8], at: usize| usize::from(u16::from_le_bytes(elf[at..at + 2].try_into().unwrap()));
    let int = |elf: &[u8], at: usize| u32::from_le_bytes(elf[at..at + 4].try_into().unwrap()) as usize;
    let (table, entry, count) = (word(&elf, 0x28), half(&elf, 0x3a), half(&elf, 0x3c));
    let section = |i: usize| table + i * entry;
    // SHT_DYNSYM
    let dynsym = (0..count).map(section).find(|s| int(&elf, s + 4) == 11).unwrap();
    let strings = word(&elf, section(int(&elf, dynsym + 0x28)) + 0x18);
    let (start, bytes) = (word(&elf, dynsym + 0x18), word(&elf, dynsym + 0x20));
    let symbol =
        (start..start + bytes).step_by(24).find(|s| elf[strings + int(&elf, *s)..].starts_with(b"opts\0")).unwrap();
    elf[symbol + 16..symbol + 24].copy_from_slice(&size.to_le_bytes());
    let patched = scratch.0.join("criu.patched");
    std::fs::write(&patched, elf).unwrap();
    let lib = root.join("usr/lib/x86_64-linux-gnu");
    let wrapper = scratch.0.join("criu");
    let script = format!(
        "#!/bin/sh\nexec {0}/ld-linux-x86-64.so.2 --library-path {0} {1} \"$@\"\n",
        lib.display(),
        patched.display()
    );
    std::fs::write(&wrapper, script).unwrap();
    use std::os::unix::fs::PermissionsExt;
    for file in [&patched, &wrapper] {
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    Some(wrapper)
}

#[test]
fn an_options_object_of_another_size_is_not_read() {
    each("doctored", |criu, scratch, lib| {
        // Of no release, and of another release than its content is.
        let other = if criu.line() == "4.2" { 504 } else { 512 };
        for (size, why) in [(520, "520 bytes, as in no release"), (other, "does not hold what it should at ")] {
            let Some(patched) = doctored(criu, scratch, size) else {
                eprintln!("SKIP {} is not an unpacked package", criu.path.display());
                return;
            };
            let mut target = Target::with_device();
            let run = dump(&patched, &target, lib, scratch.0.join("i"), &["--file-locks"], &[]);
            let said = run.ours("Warn  (preflight): cannot read CRIU's options");
            assert_eq!(said.len(), 1, "{}", run.log);
            assert!(said[0].contains(why), "{said:?}");
            let host = run.host();
            let options = host["options"].as_object().unwrap();
            // Those are read off the command line.
            let unknown = |name: &str| !matches!(name, "enable_fs" | "skip_mnt" | "dump_controllers");
            assert!(options.iter().all(|(name, v)| v.is_null() == unknown(name)), "{options:?}");
            // Its symbols are those of a release, and it is none.
            assert_eq!(host["release"], "unknown");
            assert_eq!(run.output.status.code(), Some(1), "{}", run.log);
            assert_eq!(run.ours("Warn  (preflight): fd-chrdev: ").len(), 1, "{}", run.log);
            assert_eq!(run.ours("Error (preflight)"), [""; 0]);
            target.assert_untouched();
        }
    });
}
