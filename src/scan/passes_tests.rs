use super::*;
use crate::rules::testkit;
use crate::scan::walk::walked;
use crate::scan::ScanSession;
use serde_json::Value;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

#[test]
fn each_pass_reads_only_what_was_filled_before() {
    let mut filled: Vec<(Part, Looks)> = WALK.iter().map(|part| (*part, Looks::All)).collect();
    for (nth, pass) in PASSES.iter().enumerate() {
        assert!(!pass.name.is_empty() && PASSES[..nth].iter().all(|other| other.name != pass.name), "{}", pass.name);
        for part in pass.reads {
            let filler = filled.iter().find(|(of, _)| of == part).map(|(_, looks)| *looks);
            let filler = filler.unwrap_or_else(|| panic!("{} reads {part:?} before it is there", pass.name));
            let never = matches!((filler, pass.looks), (Looks::Early, Looks::Frozen) | (Looks::Frozen, Looks::Early));
            assert!(!never, "{} reads {part:?}, which is of the other look", pass.name);
        }
        for part in pass.fills {
            assert!(filled.iter().all(|(of, _)| of != part), "{} fills {part:?} once more", pass.name);
            filled.push((*part, pass.looks));
        }
    }
}

/// The fields of the snapshot that belong to a part.
fn fields(part: Part) -> &'static [&'static str] {
    match part {
        Part::System | Part::Tasks | Part::Files | Part::Maps | Part::Mounts => &[],
        Part::Drivers => &["chrdev", "blkdev", "misc"],
        Part::TtyDrivers => &["ttys"],
        Part::Registers => &["regs", "elf_class"],
        Part::Shares => &["shares"],
        Part::Attach => &["attach"],
        Part::UserNs => &["userns"],
        Part::Cgroups => &["cgroups"],
        Part::ProcSelf => &["proc_self", "proc_alive"],
        Part::Sockets => &["sockets"],
        Part::Interfaces => &["links"],
        Part::Details => &["flags", "owner", "detail"],
        Part::EarlierTask => &["earlier_holder"],
        Part::TtyFiles => &["open_file"],
        // More files, the sockets among them, and what their queues hold.
        Part::Queued => &["files", "sockets"],
        Part::Mqueues => &["filled"],
        Part::Automounters => &["masters"],
        Part::Paths => &["mismatch", "link"],
        Part::LowerLayers => &["mismatch"],
        Part::Epoll | Part::Watches | Part::SocketDirs => &["detail"],
        Part::Unsaved => &["unasked", "unread"],
    }
}

/// Where two values differ, by the names on the way there.
fn differences<'v>(a: &'v Value, b: &'v Value, at: &mut Vec<&'v str>, out: &mut Vec<Vec<&'v str>>) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) if a.keys().eq(b.keys()) => {
            for ((name, a), b) in a.iter().zip(b.values()) {
                at.push(name);
                differences(a, b, at, out);
                at.pop();
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).for_each(|(a, b)| differences(a, b, at, out));
        }
        _ if a != b => out.push(at.clone()),
        _ => {}
    }
}

#[test]
fn each_pass_fills_what_it_says() {
    let (own, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    // SAFETY: a new descriptor that no other code knows.
    let inotify = unsafe { OwnedFd::from_raw_fd(libc::inotify_init1(libc::IN_CLOEXEC)) };
    // SAFETY: reads the name.
    assert_ne!(unsafe { libc::inotify_add_watch(inotify.as_raw_fd(), c"/tmp".as_ptr(), libc::IN_DELETE_SELF) }, -1);
    let (host, me) = (testkit::host(), std::process::id().cast_signed());
    for look in [ScanPhase::Early, ScanPhase::Frozen] {
        let registers = |tids: &[i32]| vec![Some(Regs { size: 216, cs: 0x33, rseq: 0 }); tids.len()];
        let mut session = ScanSession { registers: &registers, ..ScanSession::in_place() };
        let (mut scan, ids, mut snap) = walked(me, look, &host, &mut session).unwrap();
        let mut filled = Vec::new();
        for pass in PASSES.iter().filter(|pass| pass.looks.have(look, &host)) {
            let before = serde_json::to_value(&snap).unwrap();
            (pass.run)(&mut scan.context(&mut snap, &ids, &host, &mut session));
            let after = serde_json::to_value(&snap).unwrap();
            let mut different = Vec::new();
            differences(&before, &after, &mut Vec::new(), &mut different);
            filled.extend((!different.is_empty()).then_some(pass.name));
            for at in different {
                let declared = pass.fills.iter().flat_map(|part| fields(*part)).any(|field| at.contains(field));
                assert!(declared, "{} changes {at:?}", pass.name);
            }
        }
        for name in ["sockets", "details", "watches"] {
            assert!(filled.contains(&name), "{name} has changed nothing: {filled:?}");
        }
        assert_eq!(filled.contains(&"registers"), look == ScanPhase::Frozen);
        assert_eq!(filled.contains(&"attach"), look == ScanPhase::Early);
        let is_own = |f: &&crate::snapshot::OpenFile| f.fd() == Some(own.as_raw_fd());
        assert!(snap.tasks[0].files.iter().find(is_own).is_some_and(|f| f.socket().is_some()));
    }
}
