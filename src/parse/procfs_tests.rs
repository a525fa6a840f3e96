//! The crate procfs as a second opinion on /proc: on every text of the fuzzer's corpus and on what this process reads about itself,
//! both parsers find the same. It has none for fdinfo, namespace links, id maps, `/proc/misc` and sock_diag.
//!
//! procfs reads a whole file or none of it, so it is given one line at a time. The lines that it cannot read at all are in
//! [`unreadable`], what it reads otherwise is said at each comparison.
use super::{cgroup, devices, limits, locks, maps, mountinfo, stat, status, text};
use crate::bytes::Bytes;
use procfs::process as theirs;
use procfs::FromRead;

/// Why procfs fails on a line that a kernel prints, or panics.
fn unreadable(line: &[u8]) -> bool {
    let mut words = text::fields(line);
    let sysv = words.find_map(|word| word.strip_prefix(b"/SYSV"));
    // A file can be called so, too: 32 bits in hex are taken for granted, also how many letters there are.
    let no_key = sysv.is_some_and(|key| key.len() != 8 || !key.iter().all(u8::is_ascii_hexdigit));
    // A lock whose file has no inode number to show.
    let no_file = text::fields(line).any(|word| word.starts_with(b"<none>"));
    std::str::from_utf8(line).is_err() || no_key || no_file
}

/// Compares what both make of each line that procfs can read; at least one has to be there. A line that only one of them
/// understands is a difference.
fn lines_agree<O, T>(
    file: &[u8],
    ours: impl Fn(&[u8]) -> Option<O>,
    theirs: impl Fn(&[u8]) -> Option<T>,
    same: impl Fn(&O, &T),
) {
    let mut compared = 0;
    for line in text::lines(file).filter(|line| !unreadable(line)) {
        match (ours(line), theirs(line)) {
            (Some(ours), Some(theirs)) => same(&ours, &theirs),
            (None, None) => continue,
            (ours, theirs) => {
                panic!("{}: ours {}, procfs {}", line.escape_ascii(), ours.is_some(), theirs.is_some())
            }
        }
        compared += 1;
    }
    assert!(compared > 0, "nothing to compare in:\n{}", file.escape_ascii());
}

/// Each text of the corpus, and that of the kernel this runs on.
fn each(name: &str, live: &str, check: impl Fn(&[u8])) {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/");
    let seeds = std::fs::read_dir(format!("{corpus}{name}")).unwrap().map(|entry| entry.unwrap().path());
    seeds
        .chain([live.into()])
        .for_each(|path| check(&std::fs::read(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"))));
}

fn only<T>(mut items: Vec<T>) -> Option<T> {
    items.pop().filter(|_| items.is_empty())
}

#[test]
fn cgroups() {
    let theirs = |line: &[u8]| only(procfs::ProcessCGroups::from_read(line).ok()?.0);
    let ours = |line: &[u8]| only(cgroup::parse(line).items);
    each("cgroup", "/proc/self/cgroup", |file| {
        lines_agree(file, ours, theirs, |o, t| {
            assert_eq!((o.hierarchy, &o.path), (t.hierarchy, &t.pathname.as_str().into()));
            assert_eq!(o.controllers, t.controllers.iter().map(|c| Bytes::from(c.as_bytes())).collect::<Vec<_>>());
        });
    });
}

/// procfs ends a driver's name at its first blank.
#[test]
fn device_numbers() {
    each("devices", "/proc/devices", |file| {
        let (ours, theirs) = (devices::parse(file), procfs::Devices::from_read(file).unwrap());
        let first_word = |d: &devices::NamedNumber| (d.number, text::fields(&d.name).next().map(Bytes::from).unwrap());
        let chars = theirs.char_devices.iter().map(|d| (d.major, d.name.as_str().into()));
        let blocks = theirs.block_devices.iter().map(|d| (d.major as u32, d.name.as_str().into()));
        assert_eq!(ours.chars.iter().map(first_word).collect::<Vec<_>>(), chars.collect::<Vec<_>>());
        assert_eq!(ours.blocks.iter().map(first_word).collect::<Vec<_>>(), blocks.collect::<Vec<_>>());
        assert!(!ours.chars.is_empty() && ours.bad == 0);
    });
}

#[test]
fn resource_limits() {
    each("limits", "/proc/self/limits", |file| {
        let (ours, t) = (limits::parse(file), theirs::Limits::from_read(file).unwrap());
        let same = |name: &str, theirs: theirs::Limit| {
            let value = |limit| match limit {
                theirs::LimitValue::Unlimited => None,
                theirs::LimitValue::Value(value) => Some(value),
            };
            let ours = ours.get(name.as_bytes()).unwrap_or_else(|| panic!("no {name}"));
            assert_eq!((ours.soft, ours.hard), (value(theirs.soft_limit), value(theirs.hard_limit)), "{name}");
        };
        same("Max cpu time", t.max_cpu_time);
        same("Max stack size", t.max_stack_size);
        same("Max core file size", t.max_core_file_size);
        same("Max processes", t.max_processes);
        same("Max open files", t.max_open_files);
        same("Max locked memory", t.max_locked_memory);
        same("Max address space", t.max_address_space);
        same("Max file locks", t.max_file_locks);
        same("Max pending signals", t.max_pending_signals);
        same("Max nice priority", t.max_nice_priority);
        same("Max realtime timeout", t.max_realtime_timeout);
        assert_eq!((ours.items.len(), ours.bad), (16, 0));
    });
}

/// procfs has neither the number of a lock nor whether the line is of a lock or of a request that waits for it.
#[test]
fn file_locks() {
    // One for the kernel to print.
    let file = nix::sys::memfd::memfd_create(c"procfs-tests", nix::sys::memfd::MFdFlags::empty()).unwrap();
    let _held = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).unwrap();
    let theirs = |line: &[u8]| only(procfs::Locks::from_read(line).ok()?.0);
    each("locks", "/proc/locks", |file| {
        lines_agree(file, locks::line, theirs, |o, t| {
            let file = locks::LockFile { major: t.devmaj, minor: t.devmin, ino: t.inode };
            assert_eq!((o.file, o.start, o.end), (Some(file), t.offset_first as i64, t.offset_last.map(|e| e as i64)));
            assert_eq!(o.pid, Some(t.pid.map_or(-1, i64::from)));
            let kind = match &t.lock_type {
                procfs::LockType::Posix => locks::LockKind::Posix,
                procfs::LockType::FLock => locks::LockKind::Flock,
                procfs::LockType::ODF => locks::LockKind::Ofd,
                procfs::LockType::Other(name) if name == "LEASE" => locks::LockKind::Lease,
                procfs::LockType::Other(name) => locks::LockKind::Other(name.as_str().into()),
            };
            let access = match t.kind.as_str() {
                "READ" => locks::LockAccess::Read,
                "WRITE" => locks::LockAccess::Write,
                "UNLCK" => locks::LockAccess::Unlock,
                other => locks::LockAccess::Other(other.into()),
            };
            assert_eq!((&o.kind, &o.access), (&kind, &access));
            assert_eq!(o.mode == locks::LockMode::Advisory, matches!(t.mode, procfs::LockMode::Advisory));
        });
    });
}

/// procfs cuts blanks off the end of a name, and what follows the key of System V shared memory.
#[test]
fn mappings() {
    let theirs = |line: &[u8]| only(theirs::MemoryMaps::from_read(line).ok()?.0);
    each("maps", "/proc/self/maps", |file| {
        // Of smaps: the lines that say something about the mapping above them do not stand alone.
        let is_header = |line: &&[u8]| !line.first().is_some_and(u8::is_ascii_uppercase);
        let headers = text::lines(file).filter(is_header).collect::<Vec<_>>().join(&b'\n');
        lines_agree(&headers, maps::line_of_maps, theirs, |o, t| {
            assert_eq!(((o.start, o.end), o.offset, o.ino), (t.address, t.offset, t.inode));
            assert_eq!((o.major as i32, o.minor as i32), t.dev);
            let has = |flag| t.perms.contains(flag);
            use theirs::MMPermissions as P;
            assert_eq!(
                (o.read, o.write, o.exec, o.shared),
                (has(P::READ), has(P::WRITE), has(P::EXECUTE), has(P::SHARED))
            );
            assert_eq!(has(P::PRIVATE), !o.shared);
            let name = match &t.pathname {
                theirs::MMapPath::Anonymous => String::new(),
                theirs::MMapPath::Heap => "[heap]".into(),
                theirs::MMapPath::Stack => "[stack]".into(),
                theirs::MMapPath::Vdso => "[vdso]".into(),
                theirs::MMapPath::Vvar => "[vvar]".into(),
                theirs::MMapPath::Vsyscall => "[vsyscall]".into(),
                theirs::MMapPath::Other(name) => format!("[{name}]"),
                theirs::MMapPath::Path(path) => path.to_str().unwrap().into(),
                theirs::MMapPath::Vsys(key) => format!("/SYSV{key:08x} (deleted)"),
                other => panic!("{other:?}"),
            };
            assert_eq!(text::trim(&o.path), name.as_bytes());
        });
    });
}

/// Which flags belong to which mapping. procfs knows those of proc(5).
#[test]
fn flags_of_mappings() {
    let file = std::fs::read("/proc/self/smaps").unwrap();
    let (ours, theirs) = (maps::parse(&file), theirs::MemoryMaps::from_read(file.as_slice()).unwrap());
    assert_eq!((ours.items.len(), ours.bad), (theirs.len(), 0));
    for (o, t) in ours.items.iter().zip(&theirs) {
        assert_eq!((o.start, o.end), t.address);
        for (name, flag) in theirs::VmFlags::all().iter_names() {
            let name: [u8; 2] = name.to_ascii_lowercase().as_bytes().try_into().unwrap();
            assert_eq!(o.has_flag(&name), t.extension.vm_flags.contains(flag), "{}", name.escape_ascii());
        }
    }
}

/// procfs leaves names as they are escaped, has no source where it is called `none` or the empty string, and of an option
/// that is given twice only the last.
#[test]
fn mounts() {
    let theirs = |line: &[u8]| theirs::MountInfo::from_line(std::str::from_utf8(line).ok()?).ok();
    each("mountinfo", "/proc/self/mountinfo", |file| {
        lines_agree(file, mountinfo::line, theirs, |o, t| {
            let name = |text: &str| text::unescape_octal(text.as_bytes());
            assert_eq!((o.mnt_id, o.parent, format!("{}:{}", o.major, o.minor)), (t.mnt_id, t.pid, t.majmin.clone()));
            assert_eq!((&o.root, &o.mountpoint), (&name(&t.root), &name(t.mount_point.to_str().unwrap())));
            let fstype = [o.fstype.0.as_slice(), o.subtype.as_ref().map_or(&b""[..], |s| s)].join(&b'.');
            assert_eq!(fstype.strip_suffix(b".").unwrap_or(&fstype), &*name(&t.fs_type));
            match &t.mount_source {
                Some(source) => assert_eq!(o.source, name(source)),
                None => assert!(o.source.is_empty() || *o.source == *b"none"),
            }
            use theirs::MountOptFields as F;
            for field in &t.opt_fields {
                match *field {
                    F::Shared(group) => assert_eq!(o.shared, Some(group)),
                    F::Master(group) => assert_eq!(o.master, Some(group)),
                    F::PropagateFrom(group) => assert_eq!(o.propagate_from, Some(group)),
                    F::Unbindable => assert!(o.unbindable),
                }
            }
            let fields = [o.shared, o.master, o.propagate_from].iter().flatten().count() + usize::from(o.unbindable);
            assert_eq!(fields, t.opt_fields.len());
            t.mount_options.keys().for_each(|key| assert!(o.has_option(key.as_bytes()), "{key}"));
            for (key, value) in &t.super_options {
                if o.super_values(key.as_bytes()).count() <= 1 {
                    assert_eq!(o.super_option(key.as_bytes()), Some(value.as_deref().map(name)), "{key}");
                }
            }
        });
    });
}

/// procfs replaces what is not UTF-8 in a comm: two tasks with different names look the same. The rest of the line is read.
#[test]
fn stat_lines() {
    each("stat", "/proc/self/stat", |file| {
        let (o, t) = (stat::parse(file).unwrap(), theirs::Stat::from_read(file).unwrap());
        assert_eq!((o.pid, o.ppid, o.pgrp, o.session), (t.pid, t.ppid, t.pgrp, t.session));
        assert_eq!((o.tty_nr, o.tpgid, o.flags, o.state), (t.tty_nr, t.tpgid, t.flags, t.state));
        assert_eq!((o.starttime, Some(o.exit_code)), (t.starttime, t.exit_code));
        assert_eq!(String::from_utf8_lossy(&o.comm), t.comm);
    });
}

/// procfs ends a comm at its first colon, leaves it escaped, and cannot read a status whose comm is not UTF-8. It wants lines
/// that the kernel always prints, and fails without them: of the corpus only what is complete is compared.
#[test]
fn status_files() {
    let compared = std::cell::Cell::new(0);
    each("status", "/proc/self/status", |file| {
        let o = status::parse(file);
        let Ok(t) = theirs::Status::from_read(file) else { return };
        compared.set(compared.get() + 1);
        assert_eq!((&*o.name, o.bad), (t.name.as_bytes(), 0));
        assert_eq!(o.state, t.state.chars().next());
        assert_eq!((o.pid, o.ppid, o.tracer_pid), (Some(t.pid), Some(t.ppid), Some(t.tracerpid)));
        assert_eq!(o.uid, Some([t.ruid, t.euid, t.suid, t.fuid]));
        assert_eq!(o.gid, Some([t.rgid, t.egid, t.sgid, t.fgid]));
        assert_eq!((o.fd_size, o.groups), (Some(t.fdsize.into()), Some(t.groups.len())));
        let ids = [(o.ns_pid, t.nspid), (o.ns_pgid, t.nspgid), (o.ns_sid, t.nssid)];
        ids.into_iter().for_each(|(o, t)| assert_eq!(Some(o), t));
        assert_eq!((o.threads, o.sig_pnd, o.shd_pnd), (Some(t.threads), Some(t.sigpnd), Some(t.shdpnd)));
        assert_eq!((o.sig_blk, o.cap_eff, o.seccomp), (Some(t.sigblk), Some(t.capeff), t.seccomp));
        assert_eq!(o.switches, t.voluntary_ctxt_switches);
    });
    // That of this kernel, and the complete one of the corpus.
    assert!(compared.get() >= 2, "{}", compared.get());
}

/// What is said above about lines that procfs cannot read. A procfs that can is worth a second look.
#[test]
fn what_procfs_cannot_read() {
    let maps = |name: &[u8]| {
        let line = [b"1000-2000 rw-s 00000000 00:01 0 ", name].concat();
        assert!(maps::line_of_maps(&line).is_some());
        std::panic::catch_unwind(|| theirs::MemoryMaps::from_read(line.as_slice()).is_ok()).ok()
    };
    assert_eq!((maps(b"/x"), maps(b"/SYSV00000000 (deleted)")), (Some(true), Some(true)));
    assert_eq!((maps(b"/\xff"), maps(b"/SYSV0000000x"), maps(b"/SYSVx")), (Some(false), Some(false), None));
    let lock = b"1: LEASE  BREAKER   WRITE 7496 <none>:0 0 EOF";
    assert!(locks::line(lock).is_some() && procfs::Locks::from_read(&lock[..]).is_err());
    let cgroup = b"0::/\xff";
    assert!(cgroup::parse(cgroup).bad == 0 && procfs::ProcessCGroups::from_read(&cgroup[..]).is_err());
    let status = std::fs::read("/proc/self/status").unwrap();
    let (_, rest) = text::split_once(&status, b'\n').unwrap();
    let named = |comm: &[u8]| {
        let file = [b"Name:\t", comm, b"\n", rest].concat();
        assert_eq!(&*status::parse(&file).name, comm);
        theirs::Status::from_read(file.as_slice()).map(|status| status.name).ok()
    };
    assert_eq!((named(b"cat"), named(b"a:b"), named(b"\xff")), (Some("cat".into()), Some("a".into()), None));
}
