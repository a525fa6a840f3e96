use super::*;
use crate::check::{early, frozen, hold, probes, Probes};
use crate::report::{json, terminal, Report};
use crate::rules::{testkit, Holder, Value, Verdict};
use crate::snapshot::{Dev, PathMismatch, ScanPhase};
use std::cell::RefCell;
use std::os::unix::fs::{symlink, PermissionsExt};

/// A device, a file whose path is gone, one end of a pair of sockets: findings of three kinds of evidence.
fn tree(look: ScanPhase, ran: u64) -> Snapshot {
    let mut device = testkit::file(3, libc::S_IFCHR, 9);
    device.attr.rdev = Dev { major: 10, minor: 237 };
    let mut gone = testkit::file(4, libc::S_IFREG, 10);
    (gone.link, gone.mismatch, gone.attr.nlink) =
        (Some("/a \x1b".into()), Some(PathMismatch::NoEntry { above: None }), 1);
    let mut snap = Snapshot { look, ..testkit::snap(vec![device, gone, testkit::socket(5, 50)]) };
    let unix = vec![testkit::unix(50, 51)];
    snap.sockets = vec![crate::snapshot::SocketTable { unix, ..testkit::table() }];
    snap.mounts = vec![testkit::mount_table(testkit::CRIU_NS, 50, "15 1 8:1 / / rw - ext4 /dev/sda1 rw")];
    snap.tasks[0].threads[0].switches = Some(ran);
    snap
}

fn shown(report: &Report, host: &Host) -> String {
    let json = String::from_utf8(json::to_vec(report, host).unwrap()).unwrap();
    format!("{}{json}", terminal::text(report, host))
}

/// A check of trees that ran so often, each finding answered differently each time.
fn saved(look: ScanPhase, ran: &[u64]) -> (SavedCheck, String) {
    let (host, config) = (Host::dry_run(crate::criu::Release::NEWEST), Config::default());
    // It goes on as it was last.
    let last = std::iter::repeat(ran.last().unwrap());
    let (left, asked) = (RefCell::new(ran.iter().chain(last)), RefCell::new(0));
    let scan = |_, look, _: &Host| Ok(tree(look, *left.borrow_mut().next().unwrap()));
    let count = || {
        *asked.borrow_mut() += 1;
        *asked.borrow()
    };
    let probes = Probes {
        paths: &|found, _| {
            for f in found.iter_mut().filter(|f| f.fd == Some(3)) {
                f.facts.push(("path".into(), Value::Text("/dev/loop-control".into())));
            }
        },
        holders: &|found, _, _| {
            for f in found.iter_mut().filter(|f| f.other.is_some()) {
                f.holders.push(Holder { pid: 7 + count(), comm: "srv".into(), fd: Some(1) });
                f.outside = Some(true);
            }
        },
        watch: &|found, _, _| found.iter_mut().for_each(|f| f.held = Some(f.fd != Some(3))),
        paths_again: &|found, _| hold(found, count() > 4),
        ..probes(&scan)
    };
    let check = |probes: &Probes| match look {
        ScanPhase::Early => early(probes, 100, &host, &config),
        ScanPhase::Frozen => frozen(probes, 100, &host, &config),
    };
    let (report, snapshots) = record(&probes, check).unwrap();
    assert!(snapshots.iter().any(|s| !s.answers.other_ends.is_empty() && !s.answers.names.is_empty()));
    (SavedCheck::new(&host, &config, snapshots), shown(&report, &host))
}

#[test]
fn a_saved_check_is_judged_as_it_was() {
    for (look, ran, looks) in [
        (ScanPhase::Early, &[5, 5, 5][..], 4),
        (ScanPhase::Early, &[5, 6, 7, 8, 9, 10], 6),
        (ScanPhase::Frozen, &[5], 1),
    ] {
        let (saved, report) = saved(look, ran);
        assert_eq!(saved.snapshots.len(), looks);
        let again = read(&serde_json::to_vec(&saved).unwrap()).unwrap();
        assert_eq!(again, saved);
        assert_eq!(shown(&again.judge().unwrap(), &again.host), report);
        assert!(report.contains("srv") && report.contains("/dev/loop-control"), "{report}");
    }
}

#[test]
fn answers_are_found_although_another_version_spells_the_key_differently() {
    let (mut saved, report) = saved(ScanPhase::Early, &[5, 5, 5]);
    for s in &mut saved.snapshots {
        let ends = s.answers.other_ends.iter_mut().map(|end| &mut end.subject);
        for subject in ends.chain(&mut s.answers.unsteady).chain(&mut s.answers.other_path) {
            subject.key.push('?');
        }
    }
    assert_eq!(shown(&saved.judge().unwrap(), &saved.host), report);
    // But an answer about something else is none.
    for s in &mut saved.snapshots {
        s.answers.other_ends.iter_mut().for_each(|end| end.subject.fd = Some(77));
    }
    assert!(!shown(&saved.judge().unwrap(), &saved.host).contains("srv"));
}

#[test]
fn with_another_option_what_was_not_asked_stayed_as_it_was() {
    let (mut saved, _) = saved(ScanPhase::Early, &[5, 5, 5]);
    saved.snapshots.truncate(1);
    saved.snapshots[0].answers = Answers::default();
    let refused = |saved: &SavedCheck| {
        let report = saved.judge().unwrap();
        let refused = report.findings.into_iter().filter(|f| f.verdict == Verdict::Refuse);
        refused.map(|f| f.rule.into_owned()).collect::<Vec<_>>()
    };
    assert!(refused(&saved).contains(&"link-remap-needed".to_owned()), "{:?}", refused(&saved));
    saved.host.options.link_remap = Some(true);
    assert!(!refused(&saved).contains(&"link-remap-needed".to_owned()));
    saved.disabled.push("fd-chrdev".into());
    assert!(!refused(&saved).contains(&"fd-chrdev".to_owned()));
}

#[test]
fn what_is_wrong_with_a_file_is_said_in_one_line() {
    let (saved, _) = saved(ScanPhase::Frozen, &[5]);
    let text = serde_json::to_string(&saved).unwrap();
    let long = format!("{{\"format\":\"{}\"", "x\\u001b".repeat(1000));
    for (json, says) in [
        ("", "not a saved check: EOF while parsing a value at line 1 column 0"),
        ("\0\u{1b}", "not a saved check: expected value at line 1 column 1"),
        (&text[..text.len() / 2], "not a saved check: EOF while parsing "),
        ("{}", "not a saved check: missing field `format` at line 1 column 2"),
        ("{\"format\":3}", "saved in format 3, this criu-preflight reads format 2"),
        (
            "{\"format\":3,\"version\":\"9\\u001b\"}",
            "saved in format 3 (written by criu-preflight 9\\x1b), this criu-preflight reads format 2",
        ),
        ("{\"format\":2}", "damaged: missing field `version` at line 1 column 12"),
        ("{\"format\":-1}", "not a saved check: invalid value: integer `-1`, expected u64 at line 1 column 12"),
        ("{\"format\":1e999}", "not a saved check: number out of range at line 1 column 15"),
        (
            &text.replace("\"root\":100", "\"root\":\"\u{202e}\""),
            "damaged: invalid type: string \"\\\\u{202e}\", expected i32 ",
        ),
        (
            &text.replace("\"root\":100", "\"root\":99999999999"),
            "damaged: invalid value: integer `99999999999`, expected i32 ",
        ),
        (
            &text.replace("\"root\":100", &format!("\"root\":{}", "[".repeat(100_000))),
            "not a saved check: expected value at line 1 column 10",
        ),
        (&long, "not a saved check: invalid type: string \"x\\\\u{1b}x"),
    ] {
        let why = read(json.as_bytes()).unwrap_err();
        assert!(why.starts_with(says), "{why}");
        assert!(why.len() < 1200 && !why.chars().any(char::is_control), "{why}");
    }
    let none = SavedCheck { snapshots: Vec::new(), ..saved };
    assert_eq!(read(&serde_json::to_vec(&none).unwrap()).unwrap_err(), "damaged: it has no snapshot");
    assert!(none.judge().is_err());
}

#[test]
fn a_file_is_new_and_its_owners_alone() {
    let dir = std::env::temp_dir().join(format!("preflight-saved-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let (path, link, elsewhere) = (dir.join("a"), dir.join("link"), dir.join("b"));
    symlink(&elsewhere, &link).unwrap();
    let (saved, _) = saved(ScanPhase::Frozen, &[5]);
    write_new(&saved, &path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(read_file(&path).unwrap(), saved);
    for there in [&path, &link, &dir] {
        assert_eq!(write_new(&saved, there).unwrap_err(), "it exists already");
    }
    assert!(!elsewhere.exists() && read_file(&path).is_ok());
    // A pipe is not waited for, and a file with a hole is not read to its end.
    nix::unistd::mkfifo(&elsewhere, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(read_file(&elsewhere).unwrap_err(), "not a regular file");
    assert_eq!(read_file(&dir).unwrap_err(), "not a regular file");
    assert!(read_file(&dir.join("none")).unwrap_err().starts_with("No such file"));
    std::fs::File::create(&path).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(read_file(&path).unwrap_err(), "longer than 256 MiB, which no saved check is");
    std::fs::remove_dir_all(&dir).unwrap();
}

/// Everything that has a name of the tree's or the machine's.
fn named() -> SavedCheck {
    let (mut saved, _) = saved(ScanPhase::Early, &[5, 5, 5]);
    for s in &mut saved.snapshots {
        let snap = &mut s.snapshot;
        let task = &mut snap.tasks[0];
        task.comm = "Geheim".into();
        let file = Some(testkit::file(-1, libc::S_IFREG, 7));
        task.exe = Some(crate::snapshot::Link { text: "/Geheim/Geheim (deleted)".into(), file });
        task.files[1].link = Some("/srv/Geheim/Geheim.x".into());
        let mut queue = testkit::file(8, 0, 11);
        queue.link = Some("anon_inode:[eventpoll]".into());
        let info = b"tfd: 5 events: 19 data: 6765686569 pos:0 ino:3d sdev:7\niff:\tGeheim0\n";
        queue.info = Some(Box::new(crate::parse::fdinfo::parse(info)));
        task.files.push(queue);
        snap.sockets[0].unix[0].name = Some(b"\0Geheim\xff"[..].into());
        let mut inet = testkit::inet(60, 6, 1);
        (inet.src, inet.dst) = ("198.51.100.7".parse().unwrap(), "2001:db8:7::1".parse().unwrap());
        snap.sockets[0].inet.push(inet);
        let lines = "15 1 8:1 / / rw - ext4 /dev/sda1 rw\n16 15 0:9 /Geheim /srv/Geheim rw - fuse.Geheim host.Geheim:/a rw,user=Geheim,lowerdir=/Geheim:/b\\040Geheim,max_read=131072";
        snap.mounts = vec![testkit::mount_table(testkit::CRIU_NS, 50, lines)];
        let lines = crate::parse::cgroup::parse(b"1:name=Geheim:/Geheim/7\n0::/Geheim\n").items;
        snap.cgroups.places.push(crate::snapshot::Places { lines, inside: None });
    }
    saved.host.externals =
        Some(vec!["mnt[/srv/Geheim]:Geheim".into(), "unix[5]".into(), "veth[Geheim0]:Geheim".into()]);
    saved.allowed = vec![("tcp-connected".into(), "/srv/Geheim".into())];
    saved
}

#[test]
fn another_name_for_each_and_the_same_report() {
    let saved = named();
    let other = saved.anonymize().unwrap();
    let json = serde_json::to_string(&other).unwrap();
    assert!(!json.contains("Geheim") && !json.contains("6765686569") && !json.contains("198.51.100"), "{json}");
    assert!(!json.contains(&0x67_6568_6569_u64.to_string()) && !json.contains("db8:7"), "{json}");
    assert!(other.anonymized && !saved.anonymized);
    // What is the same or lies below another does so still, and is as long.
    let snap = &other.snapshots[0].snapshot;
    let (mount, task) = (&snap.mounts[0].mounts[1], &snap.tasks[0]);
    let name = task.comm.to_vec();
    assert_eq!(*mount.mountpoint, *[b"/srv/", &*name].concat());
    assert_eq!(*mount.root, *[b"/", &*name].concat());
    assert_eq!(*task.exe.as_ref().unwrap().text, *[b"/", &*name, b"/", &*name, b" (deleted)"].concat());
    assert!(task.files[1].link.as_ref().unwrap().starts_with(&[b"/srv/", &*name, b"/"].concat()));
    assert_eq!(*other.host.externals.as_ref().unwrap()[0], *[b"mnt[/srv/", &*name, b"]:", &*name].concat());
    assert_eq!(*snap.cgroups.places[0].lines[0].path, *[b"/", &*name, b"/7"].concat());
    assert_eq!(snap.sockets[0].unix[0].name.as_ref().map(|n| (n[0], n.len())), Some((0, 8)));
    assert!(mount.super_options.ends_with(b",max_read=131072"));
    assert_eq!(*mount.fstype, *b"fuse");
    assert_eq!(other.allowed[0].0, "tcp-connected");
    // Once more gives the same: it depends on nothing else.
    assert_eq!(saved.anonymize().unwrap(), other);
    assert_eq!(read(json.as_bytes()).unwrap(), other);
}

#[test]
fn names_that_rules_know_stay() {
    let mut names = super::names::Names::default();
    for kept in [
        "/",
        "",
        "/dev/pts/3",
        "/dev/loop-control",
        "/proc/self/fd/7",
        "socket:[123]",
        "net:[4026531840]",
        "/[aio] (deleted)",
        "anon_inode:[eventfd]",
        "/SYSV0000beef (deleted)",
        "/dev/zero (deleted)",
        "[vdso]",
        "lo",
        "../..",
        "//deleted",
        "/.nfs000000000000000700000001",
    ] {
        assert_eq!(names.text(kept.as_bytes()), kept.as_bytes(), "{kept}");
    }
    for (name, length) in
        [("/memfd:x y (deleted)", 20), ("/.nfs00", 7), ("pipe:[x]", 8), ("[anon:heap]", 11), ("a\n\\b", 4)]
    {
        let new = names.text(name.as_bytes());
        assert!(new != name.as_bytes() && new.len() == length, "{name}: {}", new.escape_ascii());
    }
    // More names than there are of one letter.
    let all: std::collections::HashSet<_> = (b'0'..=b'z').map(|b| names.word(&[b, b'/', b])).collect();
    assert_eq!(all.len(), usize::from(b'z' - b'0') + 1);
    let one: std::collections::HashSet<_> = (b'A'..=b'z').filter(|b| *b != b'\\').map(|b| names.word(&[b])).collect();
    assert_eq!(one.len(), usize::from(b'z' - b'A'));
}
