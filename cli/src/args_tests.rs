//! What the command line is understood as.

use super::*;
use criu_preflight::bytes::Bytes;
use criu_preflight::criu::options::ignored::{Argument, IGNORED};
use criu_preflight::criu::options::Takes;
use criu_preflight::criu::{Caps, LockMethod, Options};

/// The dump that `check 1 ARGS` describes, with no configuration file.
fn host(args: &str) -> Host {
    let words = ["check", "1", "--no-default-config"].into_iter().chain(args.split_whitespace());
    match parse(words.map(OsString::from)) {
        Ok(Command::Check(check)) => check.host,
        Ok(_) => panic!("{args}: another command"),
        Err(why) => panic!("{args}: {why}"),
    }
}

fn wrong(args: &str) -> String {
    match parse(args.split_whitespace().map(OsString::from)) {
        Err(why) => why,
        Ok(_) => panic!("{args}: understood"),
    }
}

/// Each option alone changes its own field and no other.
#[test]
fn options_of_criu_one_to_one() {
    let yes = Some(true);
    let none = Options::none_given;
    let bytes = |list: &[&str]| Some(list.iter().map(|s| Bytes::from(*s)).collect::<Vec<_>>());
    for (args, options) in [
        ("", none()),
        ("--tcp-established", Options { tcp_established: yes, ..none() }),
        ("--tcp-close", Options { tcp_close: yes, ..none() }),
        ("--skip-in-flight", Options { skip_in_flight: yes, ..none() }),
        ("--ext-unix-sk", Options { ext_unix_sk: yes, ..none() }),
        ("-x", Options { ext_unix_sk: yes, ..none() }),
        ("--shell-job", Options { shell_job: yes, ..none() }),
        ("-j", Options { shell_job: yes, ..none() }),
        ("--file-locks", Options { file_locks: yes, ..none() }),
        ("-l", Options { file_locks: yes, ..none() }),
        ("-lj", Options { file_locks: yes, shell_job: yes, ..none() }),
        ("-l --no-file-locks", none()),
        ("--link-remap", Options { link_remap: yes, ..none() }),
        ("--ghost-limit 5", Options { ghost_limit: Some(5), ..none() }),
        ("--ghost-limit=2K", Options { ghost_limit: Some(2 << 10), ..none() }),
        ("--ghost-limit 3M", Options { ghost_limit: Some(3 << 20), ..none() }),
        ("--ghost-limit 1G", Options { ghost_limit: Some(1 << 30), ..none() }),
        ("--evasive-devices", Options { evasive_devices: yes, ..none() }),
        ("--force-irmap", Options { force_irmap: yes, ..none() }),
        ("--irmap-scan-path /a --irmap-scan-path /b", Options { irmap_scan_paths: bytes(&["/a", "/b"]), ..none() }),
        ("--external mnt[]", Options { autodetect_ext_mounts: yes, ..none() }),
        ("-M auto", Options { autodetect_ext_mounts: yes, ..none() }),
        ("--external mnt[]:m", Options { autodetect_ext_mounts: yes, enable_external_masters: yes, ..none() }),
        ("--external mnt[]:s", Options { autodetect_ext_mounts: yes, enable_external_sharing: yes, ..none() }),
        ("--enable-fs a,b --enable-fs c", Options { enable_fs: bytes(&["a,b", "c"]), ..none() }),
        ("--skip-mnt /a", Options { skip_mnt: bytes(&["/a"]), ..none() }),
        ("--enable-external-sharing", Options { enable_external_sharing: yes, ..none() }),
        ("--enable-external-masters", Options { enable_external_masters: yes, ..none() }),
        ("--allow-uprobes", Options { allow_uprobes: yes, ..none() }),
        ("--network-lock nftables", Options { network_lock: Some(LockMethod::Nftables), ..none() }),
        ("--network-lock skip", Options { network_lock: Some(LockMethod::Skip), ..none() }),
        ("--empty-ns net", Options { empty_ns: Some(0x4000_0000), ..none() }),
        ("--freeze-cgroup /a", Options { freeze_cgroup: Some(Some("/a".into())), ..none() }),
        (
            "--cgroup-dump-controller a --cgroup-dump-controller b,c",
            Options { dump_controllers: Some(bytes(&["a", "b,c"])), ..none() },
        ),
        ("--file-validation filesize", Options { validate_by_size: yes, ..none() }),
        ("--unprivileged", Options { unprivileged: yes, ..none() }),
        ("-D /img -W /w -o dump.log -v4 --leave-stopped -L /lib --track-mem --cpu-cap=none", none()),
        ("-R", Options { leave_running: yes, ..none() }),
        ("--manage-cgroups=full --lazy-pages --timeout 20", none()),
        ("--lsm-profile selinux:x", Options { lsm_profile: Some(Some("selinux:x".into())), ..none() }),
    ] {
        assert_eq!(host(args).options, options, "{args}");
    }
}

#[test]
fn external_resources_as_criu_keeps_them() {
    let of = |args| host(args).externals.unwrap();
    assert_eq!(of("--external unix[7] --external dev[8/0]:a"), ["dev[8/0]:a".into(), Bytes::from("unix[7]")]);
    assert_eq!(of("-x5,6"), ["unix[6]".into(), Bytes::from("unix[5]")]);
    assert_eq!(of("--ext-unix-sk=5"), [Bytes::from("unix[5]")]);
    assert_eq!(of("-M /data:vol"), [Bytes::from("mnt[/data]:vol")]);
    assert_eq!(host("--inherit-fd fd[3]:tty[1:2]").inherit_ids, Some(vec!["tty[1:2]".into()]));
}

#[test]
fn every_option_of_the_table_is_understood() {
    for (name, option) in criu_options::deciding() {
        let value = match name {
            "external" => "unix[1]",
            "ext-mount-map" => "auto",
            "inherit-fd" => "fd[1]:a",
            "network-lock" => "skip",
            "empty-ns" => "net",
            "file-validation" => "buildid",
            _ => "1",
        };
        let before = host("");
        let after = if matches!(option.takes, Takes::Value(..)) {
            assert_eq!(wrong(&format!("check 1 --{name}")), format!("--{name}: it wants a value"));
            host(&format!("--{name} {value}"))
        } else {
            host(&format!("--{name}"))
        };
        // What decides changes what is judged by, except for the value that is the default.
        assert!(after != before || value == "buildid", "--{name}");
    }
    for option in IGNORED {
        let after = match option.argument {
            Argument::Required => {
                let lacking = format!("--{}: it wants a value", option.name);
                assert_eq!(wrong(&format!("check 1 --{}", option.name)), lacking);
                host(&format!("--{} 1", option.name))
            }
            Argument::None | Argument::Optional => host(&format!("--{}", option.name)),
        };
        assert_eq!(after, host(""), "--{}", option.name);
    }
}

#[test]
fn judged_as_a_release() {
    assert_eq!(host("").release, Release::NEWEST);
    let old = host("--criu 3.17.1 --tcp-close");
    assert_eq!((old.release, old.caps), (Release::V3_17, Caps::of(Release::V3_17)));
    assert_eq!(old.options.tcp_close, Some(true));
    // The builds of newer ones differ in their default.
    assert_eq!((old.options.network_lock, host("").options.network_lock), (Some(LockMethod::Iptables), None));
    assert_eq!(host("--network-lock skip --criu 3.17").options.network_lock, Some(LockMethod::Skip));
    assert_eq!(wrong("check 1 --criu 5.0"), "CRIU 5.0 is not known here: 3.17, 3.18, 3.19, 4.0, 4.1, 4.2 and 4.3 are");
    assert!(wrong("check 1 --criu ./none").starts_with("--criu ./none: No such file"));
}

#[test]
fn what_is_wrong_is_said() {
    for (args, says) in [
        ("", "no command given. See criu-preflight --help"),
        ("chekc", "there is no command 'chekc'. See criu-preflight --help"),
        ("check", "missing PID: criu-preflight check PID"),
        ("check x", "'x' is not a pid"),
        ("check 0", "'0' is not a pid"),
        ("check -- -1", "'-1' is not a pid"),
        ("check 1 2", "one tree at a time, not 1 and 2"),
        ("check 1 --no", "there is no option --no. See criu-preflight --help"),
        ("check 1 --no-network-lock", "there is no option --no-network-lock. See criu-preflight --help"),
        ("check 1 -q", "there is no option -q. See criu-preflight --help"),
        ("check 1 --tcp\u{1b}", "there is no option --tcp\\x1b. See criu-preflight --help"),
        ("check 1 --ghost-limit x", "--ghost-limit: 'x' is not a size (1048576, 1024K, 1M)"),
        ("check 1 --network-lock x", "--network-lock: 'x' is not iptables, nftables or skip"),
        ("check 1 -x5x", "--ext-unix-sk: '5x' is not the inode of a socket"),
        ("check 1 --external mnt[]:x", "--external: 'mnt[]:x': after 'mnt[]:' comes m or s"),
        ("judge", "missing FILE: criu-preflight judge FILE"),
        ("judge a b", "what is 'b' for? See criu-preflight --help"),
        ("judge a --save b", "--save is an option of check"),
        ("judge a --anonymize", "--anonymize is an option of check"),
        ("check 1 --anonymize", "--anonymize wants --save FILE"),
        ("judge a --ghost-limit x", "--ghost-limit: 'x' is not a size (1048576, 1024K, 1M)"),
        ("explain", "which rule? criu-preflight explain RULE|TEXT"),
        ("explain a b", "what is 'b' for? See criu-preflight --help"),
        ("rules --all", "there is no option --all. See criu-preflight --help"),
    ] {
        assert_eq!(wrong(args), says, "{args}");
    }
}

#[test]
fn the_help_lists_every_option_that_decides() {
    let usage = usage();
    for (name, option) in criu_options::deciding() {
        assert!(usage.contains(&criu_options::usage(name, option)), "{name}");
    }
    assert!(usage.lines().all(|line| line.len() <= 108), "{usage}");
}

#[test]
fn what_is_typed_counts_before_and_behind_the_runtime() {
    for args in ["--file-locks --as runc", "--as runc --file-locks"] {
        let options = host(args).options;
        assert_eq!((options.file_locks, options.orphan_pts_master), (Some(true), Some(true)), "{args}");
    }
    assert_eq!(host("--as runc").options.file_locks, Some(false));
}
