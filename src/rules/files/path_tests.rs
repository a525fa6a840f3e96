//! Both directions of the rules for paths, on hand-made snapshots.

use crate::criu::{Host, Opt, Options, Release};
use crate::criu_model::paths::external_key;
use crate::rules::files::buildid::BUILDID_OPEN;
use crate::rules::files::ghost::{
    GHOST_TOO_BIG, LINK_REMAP_FAILED, LINK_REMAP_LEFT, LINK_REMAP_NEEDED, NFS_SILLY, RO_MOUNT_DELETED, RO_MOUNT_STACKED,
};
use crate::rules::files::memfd::EXE_MEMFD;
use crate::rules::files::path::*;
use crate::rules::namespaces::ns_fd::NSFD_OUTSIDE;
use crate::rules::testkit::*;
use crate::rules::{Rule, Verdict};
use crate::snapshot::{Dev, Link, Mapping, MountTable, OpenFile, PathMismatch, Probe, Snapshot, Unchecked};

pub(super) const REFUSE: Option<Verdict> = Some(Verdict::Refuse);
pub(super) const WARN: Option<Verdict> = Some(Verdict::Warn);
pub(super) const UNRESTORABLE: Option<Verdict> = Some(Verdict::Unrestorable);
pub(super) const DISK: Dev = Dev { major: 254, minor: 0 };
pub(super) const SHMEM: Dev = Dev { major: 0, minor: 1 };

/// Mounts 15 (ext4 on /), 16 (proc), 17 (tmpfs on /tmp), 18 (nfs4 on /net), 19 (devpts), 20 (overlay on /o).
pub(super) const TABLE: &[u8] = b"15 1 254:0 / / rw - ext4 /dev/vda rw\n\
    16 15 0:20 / /proc rw - proc proc rw\n\
    17 15 0:21 / /tmp rw - tmpfs tmpfs rw\n\
    18 15 0:22 / /net rw - nfs4 srv:/x rw\n\
    19 15 0:24 / /dev/pts rw - devpts devpts rw\n\
    20 15 0:25 / /o rw - overlay overlay rw\n";

pub(super) fn at(mut snap: Snapshot, table: &[u8]) -> Snapshot {
    let parsed = crate::parse::mountinfo::parse(table);
    assert_eq!(parsed.bad, 0);
    snap.mounts = vec![MountTable {
        ns: CRIU_NS,
        pid: 50,
        mounts: parsed.items,
        filled: Vec::new(),
        masters: Vec::new(),
        bad: 0,
    }];
    snap.kernel.shmem = vec![SHMEM];
    snap
}

pub(super) fn regular(change: impl FnOnce(&mut OpenFile)) -> Snapshot {
    let mut f = OpenFile { link: Some("/var/f".into()), ..with_attr(file(3, libc::S_IFREG, 0x2b), |a| a.dev = DISK) };
    change(&mut f);
    at(snap(vec![f]), TABLE)
}

pub(super) fn mapped(change: impl FnOnce(&mut OpenFile)) -> Snapshot {
    let mut f = with_attr(linked(libc::S_IFREG, 0x2b), |a| a.dev = DISK);
    change(&mut f);
    let line = b"1000-2000 rw-s 0 fe:00 43 /var/f";
    let vma = crate::parse::maps::line_of_maps(line).unwrap();
    let mut s = at(snap(Vec::new()), TABLE);
    s.tasks[0].maps = vec![Mapping::new(vma, Some(f))];
    s
}

/// What all path rules say.
fn rules(snap: &Snapshot, host: &Host) -> Vec<(&'static str, Verdict)> {
    let all: [&Rule; 14] = [
        &FILE_MOUNT_UNKNOWN,
        &MQUEUE_FD,
        &FILE_OVERMOUNTED,
        &FILE_ODD_PATH,
        &GHOST_TOO_BIG,
        &RO_MOUNT_DELETED,
        &RO_MOUNT_STACKED,
        &LINK_REMAP_NEEDED,
        &LINK_REMAP_LEFT,
        &LINK_REMAP_FAILED,
        &NFS_SILLY,
        &PATH_REUSED,
        &PATH_STAT_ERROR,
        &EXE_MEMFD,
    ];
    all.iter().filter_map(|r| Some((r.id, verdict(r, snap, host)?))).collect()
}

pub(super) fn alone(rule: &Rule, snap: &Snapshot, host: &Host, expected: Option<Verdict>) {
    let expected: Vec<_> = expected.map(|v| (rule.id, v)).into_iter().collect();
    assert_eq!(rules(snap, host), expected);
}

pub(super) fn with_limit(limit: Option<u64>) -> Host {
    let h = host();
    Host { options: Options { ghost_limit: limit, ..h.options }, ..h }
}

#[test]
fn ordinary_files_are_no_finding() {
    assert_eq!(rules(&regular(|_| ()), &host()), []);
    assert_eq!(rules(&regular(|f| f.link = None), &host()), []);
    assert_eq!(rules(&mapped(|_| ()), &host()), []);
    assert_eq!(rules(&at(snap(vec![socket(4, 7)]), TABLE), &host()), []);
    // A pipe, an eventfd, a namespace, a memfd, an unsupported device: no path of theirs is recorded.
    for (kind, dev, link) in [
        (libc::S_IFIFO, DISK, None),
        (0, DISK, Some("anon_inode:[eventfd]")),
        (libc::S_IFREG, DISK, Some("net:[4026531840]")),
        (libc::S_IFREG, SHMEM, Some("/memfd:x (deleted)")),
        (libc::S_IFCHR, DISK, Some("/dev/kvm")),
    ] {
        let s = regular(|f| {
            (f.attr.mode, f.attr.dev, f.attr.nlink, f.attr.mnt_id) = (kind | 0o600, dev, 0, Some(99));
            f.attr.size = 1 << 30;
            f.link = link.map(Into::into);
        });
        assert_eq!(rules(&s, &host()), [], "{link:?}");
    }
}

#[test]
fn unknown_mount() {
    let s = regular(|f| f.attr.mnt_id = Some(0x1f));
    alone(&FILE_MOUNT_UNKNOWN, &s, &host(), REFUSE);
    alone(&FILE_MOUNT_UNKNOWN, &s, &with_external("file[1f:2b]"), None);
    alone(&FILE_MOUNT_UNKNOWN, &s, &with_external("file[1f:2c]"), REFUSE);
    alone(&FILE_MOUNT_UNKNOWN, &s, &with(Opt::ShellJob), REFUSE);
    alone(&FILE_MOUNT_UNKNOWN, &s, &Host { externals: None, ..host() }, WARN);
    alone(&FILE_MOUNT_UNKNOWN, &mapped(|f| f.attr.mnt_id = Some(0x1f)), &host(), REFUSE);
    let null = Dev { major: 1, minor: 3 };
    let without_link =
        |kind| regular(|f| (f.attr.mode, f.attr.rdev, f.attr.mnt_id, f.link) = (kind, null, Some(0x1f), None));
    alone(&FILE_MOUNT_UNKNOWN, &without_link(libc::S_IFCHR), &host(), REFUSE);
    alone(&FILE_MOUNT_UNKNOWN, &without_link(libc::S_IFREG), &host(), WARN);
    // Without any table, or with one that was not understood whole, it is not known.
    let blind = Snapshot { mounts: Vec::new(), ..s.clone() };
    assert_eq!(rules(&blind, &host()), []);
    let mut torn = s;
    torn.mounts[0].bad = 1;
    alone(&FILE_MOUNT_UNKNOWN, &torn, &host(), WARN);
}

#[test]
fn unknown_mount_of_a_terminal() {
    let tty = regular(|f| {
        f.attr.mode = libc::S_IFCHR | 0o620;
        f.attr.rdev = Dev { major: 136, minor: 2 };
        (f.attr.dev, f.attr.mnt_id, f.link) = (Dev { major: 0, minor: 24 }, Some(99), Some("/dev/pts/2".into()));
    });
    alone(&FILE_MOUNT_UNKNOWN, &tty, &host(), REFUSE);
    alone(&FILE_MOUNT_UNKNOWN, &tty, &with(Opt::ShellJob), None);
    alone(&FILE_MOUNT_UNKNOWN, &tty, &unknown(Opt::ShellJob), WARN);
    alone(&FILE_MOUNT_UNKNOWN, &tty, &with_external("tty[8802:18]"), None);
    let old = Host { release: Release::V3_17, ..with(Opt::ShellJob) };
    alone(&FILE_MOUNT_UNKNOWN, &tty, &old, REFUSE);
}

#[test]
fn message_queue() {
    let queue = |size, link: &str| {
        regular(|f| {
            (f.attr.mnt_id, f.attr.dev, f.attr.size, f.link) =
                (Some(99), Dev { major: 0, minor: 19 }, size, Some(link.into()))
        })
    };
    alone(&MQUEUE_FD, &queue(80, "/q"), &host(), REFUSE);
    alone(&MQUEUE_FD, &queue(80, "/q"), &with_external("file[63:2b]"), None);
    alone(&FILE_MOUNT_UNKNOWN, &queue(80, "/dir/q"), &host(), REFUSE);
    alone(&FILE_MOUNT_UNKNOWN, &queue(81, "/q"), &host(), REFUSE);
}

#[test]
fn overmounted() {
    let over = |line: &str| {
        let mut s = regular(|f| f.attr.mnt_id = Some(17));
        s = at(s, &[TABLE, line.as_bytes()].concat());
        s
    };
    for (line, expected) in [
        ("30 17 0:40 / /tmp rw - tmpfs tmpfs rw\n", REFUSE),
        ("30 15 0:40 / /tmp rw - tmpfs tmpfs rw\n", REFUSE),
        ("30 17 0:40 / /tmp/sub rw - tmpfs tmpfs rw\n", None),
        ("30 15 0:40 / /tm rw - tmpfs tmpfs rw\n", None),
    ] {
        alone(&FILE_OVERMOUNTED, &over(line), &host(), expected);
    }
    let covered = over("30 17 0:40 / /tmp rw - tmpfs tmpfs rw\n");
    alone(&FILE_OVERMOUNTED, &covered, &with_external("file[11:2b]"), None);
    let skipping = |skip_mnt| {
        let h = host();
        Host { options: Options { skip_mnt, ..h.options }, ..h }
    };
    alone(&FILE_OVERMOUNTED, &covered, &skipping(None), WARN);
    alone(&FILE_OVERMOUNTED, &covered, &skipping(Some(vec!["/tm".into()])), REFUSE);
    // Both mounts on that point are gone then.
    alone(&FILE_MOUNT_UNKNOWN, &covered, &skipping(Some(vec!["//tmp/.".into()])), REFUSE);
}

#[test]
fn odd_path() {
    let mut s = at(snap(Vec::new()), TABLE);
    let cwd = with_attr(linked(libc::S_IFDIR, 5), |a| a.dev = DISK);
    s.tasks[0].cwd = Some(Link { text: "(unreachable)/x".into(), file: Some(cwd) });
    alone(&FILE_ODD_PATH, &s, &host(), REFUSE);
    s.tasks[0].cwd.as_mut().unwrap().text = "/x".into();
    alone(&FILE_ODD_PATH, &s, &host(), None);
}

#[test]
fn names_that_lead_elsewhere() {
    let gone = regular(|f| f.mismatch = Some(PathMismatch::NoEntry { above: None }));
    alone(&LINK_REMAP_NEEDED, &gone, &host(), REFUSE);
    alone(&LINK_REMAP_NEEDED, &gone, &with(Opt::LinkRemap), None);
    alone(&LINK_REMAP_NEEDED, &gone, &unknown(Opt::LinkRemap), WARN);
    alone(&LINK_REMAP_NEEDED, &mapped(|f| f.mismatch = Some(PathMismatch::NoEntry { above: None })), &host(), REFUSE);
    alone(&PATH_STAT_ERROR, &regular(|f| f.mismatch = Some(PathMismatch::Errno(libc::ENOTDIR))), &host(), REFUSE);
    let other = |rdev| Some(PathMismatch::Replaced { dev: DISK, ino: 44, rdev });
    let reused = regular(|f| f.mismatch = other(Dev::default()));
    alone(&PATH_REUSED, &reused, &host(), REFUSE);
    alone(&PATH_REUSED, &reused, &with(Opt::EvasiveDevices), REFUSE);
    alone(&PATH_REUSED, &reused, &with_external("file[f:2b]"), None);
    let null = Dev { major: 1, minor: 3 };
    let device = |there| regular(|f| (f.attr.mode, f.attr.rdev, f.mismatch) = (libc::S_IFCHR, null, other(there)));
    alone(&PATH_REUSED, &device(null), &host(), REFUSE);
    alone(&PATH_REUSED, &device(null), &with(Opt::EvasiveDevices), None);
    alone(&PATH_REUSED, &device(Dev { major: 1, minor: 5 }), &with(Opt::EvasiveDevices), REFUSE);
}

#[test]
fn what_only_helps_sometimes_is_told_then_only() {
    let other = |rdev| Some(PathMismatch::Replaced { dev: DISK, ino: 44, rdev });
    let null = Dev { major: 1, minor: 3 };
    let device = regular(|f| (f.attr.mode, f.attr.rdev, f.mismatch) = (libc::S_IFCHR, null, other(null)));
    let file = regular(|f| f.mismatch = other(Dev::default()));
    assert!(found(&PATH_REUSED, &device, &host())[0].get("rdev").is_some());
    assert!(found(&PATH_REUSED, &file, &host())[0].get("rdev").is_none());
    let pts = Dev { major: 136, minor: 2 };
    let tty = regular(|f| (f.attr.mode, f.attr.rdev, f.attr.mnt_id) = (libc::S_IFCHR, pts, Some(99)));
    assert!(found(&FILE_MOUNT_UNKNOWN, &tty, &host())[0].get("tty").is_some());
    assert!(found(&FILE_MOUNT_UNKNOWN, &regular(|f| f.attr.mnt_id = Some(99)), &host())[0].get("tty").is_none());
}

#[test]
fn names_that_cannot_be_given() {
    const MORE: &[u8] = b"21 15 0:26 / /cg rw - cgroup2 cgroup2 rw\n\
        22 15 0:27 / /sys rw - sysfs sysfs rw\n\
        23 15 254:0 /x /ro ro - ext4 /dev/vda rw\n\
        24 15 254:1 / /dvd rw - ext4 /dev/vdb ro\n";
    let gone = |mount, kind: u32| {
        let s = regular(|f| {
            (f.attr.mnt_id, f.attr.mode, f.mismatch) =
                (Some(mount), kind | 0o600, Some(PathMismatch::NoEntry { above: None }));
        });
        at(s, &[TABLE, MORE].concat())
    };
    let remap = with(Opt::LinkRemap);
    for mount in [21, 22, 23, 24] {
        for host in [&host(), &remap] {
            alone(&LINK_REMAP_FAILED, &gone(mount, libc::S_IFREG), host, REFUSE);
        }
    }
    alone(&LINK_REMAP_FAILED, &gone(15, libc::S_IFDIR), &remap, REFUSE);
    alone(&LINK_REMAP_FAILED, &gone(21, libc::S_IFDIR), &with_external("file[15:2b]"), None);
    alone(&LINK_REMAP_FAILED, &gone(17, libc::S_IFREG), &remap, None);
}

#[test]
fn files_of_a_lower_layer() {
    let gone = |mismatch, nlink, blocks, table: &[u8]| {
        at(
            regular(|f| {
                (f.attr.mnt_id, f.attr.nlink, f.attr.blocks, f.mismatch) = (Some(20), nlink, blocks, Some(mismatch))
            }),
            table,
        )
    };
    let root: &[u8] = b"20 1 0:25 / / rw - overlay overlay rw\n";
    let (remap, unknown_remap) = (with(Opt::LinkRemap), unknown(Opt::LinkRemap));
    let layer = |blocks, table| gone(PathMismatch::LowerLayer, 1, blocks, table);
    // It is refused with and without the option where another mount is on the way to the root.
    for host in [&host(), &remap, &unknown_remap] {
        alone(&LINK_REMAP_FAILED, &layer(8, TABLE), host, REFUSE);
        alone(&LINK_REMAP_FAILED, &gone(PathMismatch::NoEntry { above: Some(15) }, 1, 8, TABLE), host, REFUSE);
    }
    for blocks in [2048, 2049] {
        alone(&LINK_REMAP_NEEDED, &layer(blocks, root), &host(), REFUSE);
        alone(&LINK_REMAP_NEEDED, &layer(blocks, root), &unknown_remap, WARN);
    }
    assert_eq!(rules(&layer(2048, root), &remap), []);
    alone(&GHOST_TOO_BIG, &layer(2049, root), &remap, REFUSE);
    // The layers were not to be seen.
    let doubtful = |nlink, blocks, table| gone(PathMismatch::NoEntry { above: None }, nlink, blocks, table);
    alone(&LINK_REMAP_NEEDED, &doubtful(1, 8, TABLE), &host(), REFUSE);
    alone(&LINK_REMAP_FAILED, &doubtful(1, 8, TABLE), &remap, WARN);
    assert_eq!(rules(&doubtful(1, 2048, root), &remap), []);
    alone(&GHOST_TOO_BIG, &doubtful(1, 2049, root), &remap, WARN);
    // Two names count with an index only.
    alone(&GHOST_TOO_BIG, &doubtful(2, 2049, root), &remap, WARN);
    let index: &[u8] = b"20 1 0:25 / / rw - overlay overlay rw,index=on\n";
    assert_eq!(rules(&doubtful(2, 2049, index), &remap), []);
}

#[test]
fn control_files_that_nobody_may_read() {
    const SYS: &[u8] = b"22 15 0:27 / /sys rw - sysfs sysfs rw\n";
    let opened = |mount, mode: u32, size, flags: i32| {
        let s = regular(|f| {
            (f.attr.mnt_id, f.attr.mode, f.attr.size, f.flags) =
                (Some(mount), libc::S_IFREG | mode, size, Some(flags as u32));
        });
        at(s, &[TABLE, SYS].concat())
    };
    let says = |s: &Snapshot, host: &Host| verdict(&BUILDID_OPEN, s, host);
    let (write, log) = (libc::O_WRONLY, libc::O_WRONLY | libc::O_APPEND);
    assert_eq!(says(&opened(22, 0o200, 4096, write), &host()), REFUSE);
    assert_eq!(says(&opened(22, 0o200, 4096, libc::O_PATH), &host()), REFUSE);
    for (mount, mode, size, flags) in
        [(22, 0o200, 4096, log), (22, 0o200, 4, write), (22, 0o644, 4096, write), (15, 0o200, 4096, write)]
    {
        assert_eq!(says(&opened(mount, mode, size, flags), &host()), None, "{mount} {mode:o} {size} {flags:o}");
    }
    let mut key = None;
    let mut secret = |mount| {
        let s = regular(|f| {
            (f.attr.mnt_id, f.attr.size, f.flags) = (Some(mount), 4096, Some(libc::O_RDWR as u32));
            f.link = Some("/secretmem (deleted)".into());
            key = external_key(f);
        });
        at(s, TABLE)
    };
    let (ours, other) = (secret(99), secret(15));
    assert_eq!(says(&ours, &host()), None, "its mount is refused before");
    let ino = key.unwrap().split_off("file[f:".len());
    let external = Host { externals: Some(vec![format!("file[63:{ino}").as_str().into()]), ..host() };
    assert_eq!(says(&ours, &external), REFUSE);
    let external = Host { externals: Some(vec![format!("file[f:{ino}").as_str().into()]), ..host() };
    assert_eq!(says(&other, &external), None, "an ordinary file of that name");
    let validate = |by_size| {
        let h = host();
        Host { options: Options { validate_by_size: by_size, ..h.options }, ..h }
    };
    assert_eq!(says(&opened(22, 0o200, 4096, write), &validate(Some(true))), None);
    assert_eq!(says(&opened(22, 0o200, 4096, write), &validate(None)), WARN);
}

#[test]
fn silly_names() {
    let named = |name: &str, mount| {
        regular(|f| (f.attr.mnt_id, f.link) = (Some(mount), Some(format!("/net/{name}").as_str().into())))
    };
    let silly = ".nfs0123456789abcdef01234567";
    alone(&NFS_SILLY, &named(silly, 18), &host(), REFUSE);
    alone(&NFS_SILLY, &named(silly, 18), &with(Opt::LinkRemap), None);
    alone(&NFS_SILLY, &named(silly, 15), &host(), None);
    alone(&NFS_SILLY, &named(".nfs0123456789abcdef0123456", 18), &host(), None);
}

#[test]
fn memfd_programs() {
    let exe = with_attr(linked(libc::S_IFREG, 0x2b), |a| (a.dev, a.mnt_id, a.nlink) = (SHMEM, Some(1), 0));
    let mut s = mapped(|f| *f = exe.clone());
    s.tasks[0].exe = Some(Link { text: "/memfd:p (deleted)".into(), file: Some(exe) });
    alone(&EXE_MEMFD, &s, &host(), UNRESTORABLE);
    s.tasks[0].maps.clear();
    alone(&EXE_MEMFD, &s, &host(), UNRESTORABLE);
    // A second process of the same program is reported with the first.
    let mut second = s.tasks[0].clone();
    second.pid = 101;
    s.tasks.push(second);
    assert_eq!(found(&EXE_MEMFD, &s, &host()).len(), 1);
}

/// CRIU goes on without the exe that it could not record; a mapping of the same file it does not forgive.
#[test]
fn the_exe_alone_keeps_no_dump_from_being_made() {
    let gone = with_attr(linked(libc::S_IFREG, 0x2c), |a| a.mnt_id = Some(99));
    let mut s = mapped(|f| *f = gone.clone());
    s.tasks[0].exe = Some(Link { text: "/gone/program".into(), file: Some(gone) });
    alone(&FILE_MOUNT_UNKNOWN, &s, &host(), REFUSE);
    s.tasks[0].maps.clear();
    alone(&FILE_MOUNT_UNKNOWN, &s, &host(), UNRESTORABLE);
}

#[test]
fn root_directory_of_the_root_task() {
    let mut s = at(snap(Vec::new()), TABLE);
    let root = |text: &str| Some(Link { text: text.into(), file: None });
    s.tasks[0].root = root("/srv/jail");
    assert_eq!(verdict(&CHROOT_ROOT_TASK, &s, &host()), None);
    s.tasks[0].ns.mnt = Some(7);
    assert_eq!(verdict(&CHROOT_ROOT_TASK, &s, &host()), REFUSE);
    s.tasks[0].root = root("/");
    assert_eq!(verdict(&CHROOT_ROOT_TASK, &s, &host()), None);
}

#[test]
fn paths_longer_than_a_page() {
    let mut s = regular(|f| f.link = None);
    assert_eq!(verdict(&PATH_TOO_LONG, &s, &host()), None);
    let denied = |errno| Unchecked { pid: 100, fd: Some(3), probe: Probe::FdLink, errno };
    s.unchecked = vec![denied(libc::EPERM)];
    assert_eq!(verdict(&PATH_TOO_LONG, &s, &host()), None);
    s.unchecked = vec![denied(libc::ENAMETOOLONG)];
    assert_eq!(verdict(&PATH_TOO_LONG, &s, &host()), REFUSE);
    let mut s = regular(|_| ());
    s.unchecked = vec![Unchecked { pid: 100, fd: None, probe: Probe::Cwd, errno: libc::ENAMETOOLONG }];
    assert_eq!(verdict(&PATH_TOO_LONG, &s, &host()), REFUSE);
    // CRIU's buffer is smaller than a page by one.
    let long = |length: usize| "/".repeat(length).as_str().into();
    for (length, expected) in [(4094, None), (4095, REFUSE)] {
        let opened = regular(|f| f.link = Some(long(length)));
        assert_eq!(verdict(&PATH_TOO_LONG, &opened, &host()), expected, "{length}");
        let mut s = at(snap(Vec::new()), TABLE);
        s.tasks[0].cwd = Some(Link { text: long(length), file: None });
        assert_eq!(verdict(&PATH_TOO_LONG, &s, &host()), expected, "{length}");
        s.tasks[0].exe = s.tasks[0].cwd.take();
        assert_eq!(verdict(&PATH_TOO_LONG, &s, &host()), expected.and(UNRESTORABLE), "{length}");
    }
    for (length, old, new) in [(4022, None, None), (4023, REFUSE, None), (4095, REFUSE, REFUSE)] {
        let mut s = mapped(|_| ());
        s.tasks[0].maps[0].vma.path = long(length);
        assert_eq!(verdict(&PATH_TOO_LONG, &s, &host()), old, "{length}");
        assert_eq!(verdict(&PATH_TOO_LONG, &s, &at_release(Release::V4_3)), new, "{length}");
    }
    let stat = regular(|f| (f.link, f.mismatch) = (Some(long(4095)), Some(PathMismatch::Errno(libc::ENAMETOOLONG))));
    alone(&PATH_STAT_ERROR, &stat, &host(), None);
}

#[test]
fn namespace_files() {
    let open = |text: &str| regular(|f| f.link = Some(text.into()));
    assert_eq!(verdict(&NSFD_OUTSIDE, &open(&format!("net:[{CRIU_NS}]")), &host()), None);
    assert_eq!(verdict(&NSFD_OUTSIDE, &open("net:[9]"), &host()), REFUSE);
    assert_eq!(verdict(&NSFD_OUTSIDE, &open("/net:[9]"), &host()), None);
    let mut s = open("net:[9]");
    s.tasks.push(crate::snapshot::Task {
        ns: crate::snapshot::Namespaces { net: Some(9), ..namespaces(CRIU_NS) },
        ..task(101)
    });
    assert_eq!(verdict(&NSFD_OUTSIDE, &s, &host()), None);
    let mut s = open("net:[9]");
    s.tasks[0].ns.net = None;
    assert_eq!(verdict(&NSFD_OUTSIDE, &s, &host()), WARN);
}

#[test]
fn in_a_chroot() {
    let root = |text: &str| Some(Link { text: text.into(), file: None });
    // The root task in its own namespace, a child in another, a second one there.
    let mut s = in_mntns("40 39 0:50 / / rw - overlay overlay rw");
    for pid in [101, 102] {
        let mut child = task(pid);
        child.ns.mnt = Some(8);
        child.root = root("/");
        s.tasks.push(child);
    }
    s.mounts.push(mount_table(8, 101, "50 49 0:51 / / rw - tmpfs t rw"));
    assert_eq!(verdict(&CHROOT_ROOT_TASK, &s, &host()), None);
    s.tasks[2].root = root("/jail");
    assert_eq!(verdict(&CHROOT_ROOT_TASK, &s, &host()), None, "CRIU looks through the first one");
    s.tasks[1].root = root("/jail");
    assert_eq!(verdict(&CHROOT_ROOT_TASK, &s, &host()), REFUSE);
    // What is seen from there is no matter any more.
    s.tasks[1].files =
        vec![OpenFile { link: Some("/f".into()), ..with_attr(file(3, libc::S_IFREG, 7), |a| a.mnt_id = Some(99)) }];
    assert_eq!(rules(&s, &host()), []);
    // Where CRIU dumps no mounts it is enough that the table has a root.
    s.tasks[0].ns.mnt = Some(CRIU_NS);
    assert_eq!(verdict(&CHROOT_ROOT_TASK, &s, &host()), None);
    assert_eq!(rules(&s, &host()), [(FILE_MOUNT_UNKNOWN.id, Verdict::Refuse)]);
    s.mounts.retain(|t| t.ns != 8);
    assert_eq!(verdict(&CHROOT_ROOT_TASK, &s, &host()), REFUSE);
    s.unchecked = vec![Unchecked { pid: 101, fd: None, probe: Probe::Mountinfo, errno: libc::EACCES }];
    assert_eq!(verdict(&CHROOT_ROOT_TASK, &s, &host()), None, "not known");
}
