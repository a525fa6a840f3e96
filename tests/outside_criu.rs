//! The plugin where there is no CRIU, and where there is one that is not known.

mod support;

use std::path::Path;
use std::process::{Command, Output};
use support::{cc, plugin, Scratch, Target};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn run(program: &Path, args: &[&str], scratch: &Scratch) -> Output {
    let config = scratch.0.join("preflight.conf");
    if !config.exists() {
        std::fs::write(&config, "").unwrap();
    }
    Command::new(program)
        .args(args)
        .env("CRIU_PREFLIGHT_CONFIG", config)
        .env("CRIU_PREFLIGHT_SYSLOG", "off")
        .current_dir(&scratch.0)
        .output()
        .unwrap()
}

fn outside(compiler: &str, flags: &[&str]) {
    let scratch = Scratch::new("outside");
    let program = scratch.0.join("outside");
    cc(compiler, "outside.c", &program, flags);
    let plugin = plugin();
    let plugin = plugin.to_str().unwrap();

    let mut good = Target::good();
    for release in ["3.17", "3.18", "3.19", "4.0", "4.1", "4.2", "4.3"] {
        let out = run(&program, &[plugin, &good.pid().to_string(), release], &scratch);
        assert!(out.status.success(), "{release}: {}", text(&out.stderr));
        // A new kernel's own mappings are too new for an old CRIU.
        if release >= "4.1" {
            assert!(text(&out.stdout).ends_with("answer 0\n"), "{release}: {}", text(&out.stdout));
        }
        // init(0) and init(1) have each said it, clearly and without the word that runtimes quote.
        let said = text(&out.stderr);
        assert_eq!(said.matches("there is no CRIU around this plugin").count(), 2, "{said}");
        assert!(!said.contains("Error"), "{said}");
    }
    good.assert_untouched();

    let mut device = Target::with_device();
    let pid = device.pid().to_string();
    let out = run(&program, &[plugin, &pid], &scratch);
    let said = text(&out.stdout);
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(said.ends_with("answer 1\n"), "{said}");
    assert!(said.contains(&format!("2 fd-chrdev pid {pid} fd 0 comm sleep text ")), "{said}");
    let json = said.lines().find_map(|l| l.strip_prefix("json ")).unwrap();
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(json["rule"], "fd-chrdev");
    assert_eq!(json["fd"], 0);
    device.assert_untouched();
}

#[test]
fn a_c_program_without_criu() {
    outside("gcc", &["-std=c99", "-D_DEFAULT_SOURCE", "-pedantic"]);
}

#[test]
fn the_example_names_what_it_finds() {
    let scratch = Scratch::new("example");
    let program = scratch.0.join("check");
    cc("gcc", "examples/check.c", &program, &["-std=c99", "-D_DEFAULT_SOURCE", "-pedantic"]);
    let plugin = plugin();
    let plugin = plugin.to_str().unwrap();

    let mut good = Target::good();
    let out = run(&program, &[plugin, &good.pid().to_string()], &scratch);
    assert_eq!((out.status.code(), text(&out.stdout).as_str()), (Some(0), "can be dumped, 0 refused\n"));
    good.assert_untouched();

    let mut device = Target::with_device();
    let pid = device.pid();
    let out = run(&program, &[plugin, &pid.to_string()], &scratch);
    let said = text(&out.stdout);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.starts_with(&format!("refused: fd-chrdev: pid {pid} (sleep) fd 0: character device ")), "{said}");
    assert!(said.ends_with("cannot be dumped, 1 refused\n"), "{said}");
    device.assert_untouched();

    assert_eq!(run(&program, &[plugin, "67108863"], &scratch).status.code(), Some(2));
}

#[test]
fn the_header_is_cpp_too() {
    if Command::new("g++").arg("--version").output().is_err() {
        eprintln!("SKIP there is no g++");
        return;
    }
    outside("g++", &["-x", "c++", "-pedantic"]);
}

/// Builds and runs the false CRIU; its output.
fn fake(flags: &[&str], libdir: &Path, scratch: &Scratch, pid: i32) -> String {
    let program = scratch.0.join("fake_criu");
    cc("gcc", "fake_criu.c", &program, &[flags, &["-rdynamic"]].concat());
    let out = run(&program, &[libdir.join("preflight_plugin.so").to_str().unwrap(), &pid.to_string()], scratch);
    assert!(out.status.success(), "{:?} {}", out.status, text(&out.stderr));
    text(&out.stdout)
}

#[test]
fn a_host_with_another_number_of_hooks_gets_its_own() {
    let scratch = Scratch::new("hooks");
    // As an old release it may well find what a new kernel has and that release has not.
    std::fs::write(scratch.0.join("preflight.conf"), "mode warn").unwrap();
    let libdir = support::libdir(&scratch);
    let good = Target::good();
    for (hooks, want) in [
        (7, "hooks 7 pause 0"),
        (10, "hooks 10 pause 0"),
        (11, "hooks 11 pause 1 checkpoint 0"),
        (12, "hooks 12 pause 1 checkpoint 1"),
        (17, "hooks 17 pause 1 checkpoint 1"),
        (40, "hooks 32 pause 1"),
    ] {
        let said = fake(&[&format!("-DHOOKS={hooks}"), "-DOPTS=504"], &libdir, &scratch, good.pid());
        assert!(said.starts_with(want), "{said}");
        assert!(said.contains("\ninit 0\n"), "{said}");
    }
}

#[test]
fn options_of_a_host_nobody_has_met_are_unknown_and_refuse_nothing() {
    let scratch = Scratch::new("layout");
    let libdir = support::libdir(&scratch);
    let mut device = Target::with_device();
    for (flags, why) in [
        (&["-DHOOKS=12", "-DOPTS=500"][..], "500 bytes, as in no release"),
        (&["-DHOOKS=12", "-DOPTS=512"], "does not hold what it should at libdir"),
        (&["-DHOOKS=12", "-DOPTS=504", "-DOLD_OPTS"], "does not hold what it should at libdir"),
        (&["-DHOOKS=17", "-DOPTS=8"], "8 bytes, as in no release"),
    ] {
        let said = fake(flags, &libdir, &scratch, device.pid());
        assert_eq!(said.matches("cannot read CRIU's options").count(), 1, "{said}");
        assert!(said.contains(why), "{said}");
        assert!(said.contains(r#""options":{"tcp_established":null,"#), "{said}");
        // A release that was never published: reported, not refused.
        assert_eq!(said.matches("unrecognised CRIU release").count(), 1, "{said}");
        assert!(said.contains("\ninit 0\n") && said.contains("\ncheckpoint -95\nagain -95\n"), "{said}");
        assert!(said.contains("Warn  (preflight): fd-chrdev: "), "{said}");
        assert!(!said.contains("Error"), "{said}");
    }
    device.assert_untouched();
}

/// A stand-in for the newest CRIU is refused as that one is; one that differs from it in one thing is of no release.
#[test]
fn a_neighbour_of_a_known_release_is_none() {
    let scratch = Scratch::new("neighbours");
    let libdir = support::libdir(&scratch);
    let mut device = Target::with_device();
    let mut run = |hooks: u32, opts: u32, more: &[&str]| {
        let (hooks, opts) = (format!("-DHOOKS={hooks}"), format!("-DOPTS={opts}"));
        let moved = more.iter().any(|flag| flag.starts_with("-DFROM"));
        let in_place: &[&str] = if moved { &[] } else { &["-DFROM=0", "-DMOVED=0"] };
        let flags = [&["-DNEWEST", hooks.as_str(), opts.as_str()], in_place, more].concat();
        let said = fake(&flags, &libdir, &scratch, device.pid());
        device.assert_untouched();
        said
    };
    let newest = run(17, 552, &[]);
    assert!(newest.contains(r#""release":"4.3""#) && !newest.contains("known here"), "{newest}");
    assert!(newest.contains("Error (preflight): fd-chrdev: ") && newest.contains("\ninit -125\n"), "{newest}");

    let neighbours: &[(u32, u32, &[&str])] = &[
        (16, 552, &[]),
        (18, 552, &[]),
        (13, 552, &[]),
        (17, 512, &[]),
        (17, 536, &[]),
        (17, 544, &[]),
        (17, 560, &[]),
        (17, 640, &[]),
        (17, 552, &["-DNO_SHSTK"]),
        (17, 552, &["-DNO_PIDFD"]),
        (17, 552, &["-DNO_INTERRUPT"]),
        (17, 552, &["-DNO_UPROBES"]),
        (17, 552, &["-DNO_GUARDS"]),
        (17, 552, &["-DNO_OPTIONS"]),
        (17, 552, &["-DFROM=160", "-DMOVED=8"]),
        (17, 552, &["-DFROM=176", "-DMOVED=8"]),
        (17, 552, &["-DFROM=336", "-DMOVED=16"]),
        (17, 552, &["-DFROM=376", "-DMOVED=-8"]),
        (17, 552, &["-DFROM=436", "-DMOVED=4"]),
        (17, 552, &["-DFROM=520", "-DMOVED=8"]),
        (17, 552, &["-DFROM=528", "-DMOVED=8"]),
    ];
    for (hooks, opts, more) in neighbours {
        let said = run(*hooks, *opts, more);
        let which = format!("{hooks} {opts} {more:?}: {said}");
        assert!(said.starts_with(&format!("hooks {hooks} ")), "{which}");
        assert!(said.contains(r#""release":"unknown""#), "{which}");
        assert_eq!(said.matches("unrecognised CRIU release").count(), 1, "{which}");
        assert!(said.contains("\ninit 0\n") && said.contains("\ncheckpoint -95\nagain -95\n"), "{which}");
        assert!(said.contains("Warn  (preflight): fd-chrdev: ") && !said.contains("Error"), "{which}");
    }
}

/// The log is for others than those who may read the file, and for other things.
#[test]
fn settings_that_are_none_are_not_told() {
    let scratch = Scratch::new("settings");
    let libdir = support::libdir(&scratch);
    let program = scratch.0.join("fake_criu");
    cc("gcc", "fake_criu.c", &program, &["-DHOOKS=12", "-DOPTS=504", "-rdynamic"]);
    let good = Target::good();
    let said = |program: &Path, config: &Path, uid: u32| {
        use std::os::unix::process::CommandExt;
        let mut run = Command::new(program);
        run.arg(libdir.join("preflight_plugin.so")).arg(good.pid().to_string()).uid(uid);
        run.env("CRIU_PREFLIGHT_CONFIG", config).env("CRIU_PREFLIGHT_SYSLOG", "off").current_dir(&scratch.0);
        let out = run.output().unwrap();
        assert!(out.status.success(), "{:?} {}", out.status, text(&out.stderr));
        text(&out.stdout)
    };
    let secret = scratch.0.join("secret");
    std::fs::write(&secret, "user:$6$pepper$Q3lkf9/zzz:19000:0:99999:7:::\n".repeat(1000)).unwrap();
    let output = said(&program, &secret, 0);
    let about = format!("Warn  (preflight): {}:", secret.display());
    assert_eq!(output.matches(&about).count(), 8, "{output}");
    assert!(output.contains(&format!("{about}8: there is no setting 'user...'")), "{output}");
    assert!(output.contains("Warn  (preflight): 992 more settings were not understood"), "{output}");
    assert!(!output.contains("pepper") && !output.contains("$6"), "{output}");

    let fifo = scratch.0.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let output = said(&program, &fifo, 0);
    assert!(output.contains(&format!("{}: not a regular file; file ignored", fifo.display())), "{output}");
    assert!(output.contains("\ninit 0\n"), "{output}");

    // A program that may read more than who starts it. That user must reach program and plugin.
    use std::os::unix::fs::PermissionsExt;
    for (path, mode) in [(&scratch.0, 0o755), (&secret, 0o600), (&program, 0o4755)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let elsewhere = nix::sys::statvfs::statvfs(&scratch.0).unwrap();
    if elsewhere.flags().contains(nix::sys::statvfs::FsFlags::ST_NOSUID) {
        eprintln!("SKIP set-user-ID has no effect in {}", scratch.0.display());
        return;
    }
    let output = said(&program, &secret, 65534);
    assert!(output.contains("CRIU_PREFLIGHT_CONFIG: ignored, criu may read more than its user"), "{output}");
    assert!(!output.contains(&about), "{output}");
}

#[test]
fn the_plugin_shows_only_its_door() {
    let out = Command::new("nm").args(["-D", "--defined-only"]).arg(plugin()).output().unwrap();
    let said = text(&out.stdout);
    let mut names: Vec<&str> = said.lines().filter_map(|l| l.split_whitespace().nth(2)).collect();
    names.sort_unstable();
    assert_eq!(names, ["CR_PLUGIN_DESC", "criu_preflight_check", "criu_preflight_version"]);
}
