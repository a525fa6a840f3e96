//! Both directions of each rule about terminals.

use super::*;
use crate::criu::Host;
use crate::rules::testkit::*;
use crate::rules::Value;
use crate::rules::Verdict::{Refuse, Warn};
use crate::snapshot::{Detail, Dev, OpenFile, ScanPhase, Snapshot, TtyFacts};

/// Device of the devpts instance.
const DEVPTS: Dev = Dev { major: 0, minor: 24 };

fn tty(fd: i32, major: u32, minor: u32, facts: TtyFacts) -> OpenFile {
    let mut f = file(fd, libc::S_IFCHR, u64::from(minor) + 3);
    (f.attr.dev, f.attr.rdev) = (DEVPTS, Dev { major, minor });
    f.detail = Some(Box::new(Detail::Tty(facts)));
    f
}

fn slave(fd: i32, index: u32) -> OpenFile {
    let mut f = tty(fd, 136, index, TtyFacts { hung_up: Some(false), ..TtyFacts::default() });
    f.link = Some(format!("/dev/pts/{index}").into_bytes().into());
    f
}

fn master(fd: i32, index: u32, sid: i32, pgrp: i32) -> OpenFile {
    let facts = TtyFacts {
        index: Some(index),
        master: true,
        sid: Some(sid),
        pgrp: Some(pgrp),
        hung_up: Some(false),
        ..TtyFacts::default()
    };
    let mut f = tty(fd, 5, 2, facts);
    f.link = Some("/dev/ptmx".into());
    f
}

fn dev_tty(fd: i32) -> OpenFile {
    let device = Some(Dev { major: 136, minor: 1 });
    let mut f = tty(fd, 5, 0, TtyFacts { hung_up: Some(false), device, ..TtyFacts::default() });
    f.link = Some("/dev/tty".into());
    f
}

/// The root 100, leader of its session, with pseudoterminal `index` as its controlling one and itself in the foreground.
fn controlled(files: Vec<OpenFile>, index: u32) -> Snapshot {
    let mut s = snap(files);
    s.look = ScanPhase::Early;
    (s.tasks[0].tty_nr, s.tasks[0].tpgid) = (136 << 8 | index as i32, 100);
    s
}

/// The same as a job of the shell 70.
fn job(files: Vec<OpenFile>, index: u32) -> Snapshot {
    let mut s = controlled(files, index);
    (s.tasks[0].sid, s.tasks[0].ns_sid) = (70, vec![70]);
    s
}

fn on(rule: &Rule, s: &Snapshot) -> Option<Verdict> {
    verdict(rule, s, &host())
}

fn key(file: &OpenFile) -> Host {
    with_external(&tty_key(file))
}

fn no_keys() -> Host {
    Host { externals: None, ..host() }
}

#[test]
fn indices_up_to_1000() {
    assert_eq!(on(&TTY_INDEX, &snap(vec![slave(3, 1000), master(4, 1000, 0, 0)])), None);
    let s = snap(vec![slave(3, 1001)]);
    assert_eq!(on(&TTY_INDEX, &s), Some(Refuse));
    assert_eq!(verdict(&TTY_INDEX, &s, &key(&slave(3, 1001))), None);
    assert_eq!(verdict(&TTY_INDEX, &s, &no_keys()), Some(Warn));
    assert_eq!(on(&TTY_INDEX, &snap(vec![master(3, 1001, 0, 0)])), Some(Refuse));
    // The path counts, not the device number.
    let mut console = slave(3, 1001);
    console.link = Some("/dev/console".into());
    assert_eq!(on(&TTY_INDEX, &snap(vec![console])), None);
}

#[test]
fn mere_paths() {
    let mut f = slave(3, 1);
    f.flags = Some(libc::O_PATH as u32);
    assert_eq!(on(&TTY_IOCTL, &snap(vec![f.clone()])), Some(Refuse));
    // Only the first descriptor of a terminal is asked.
    assert_eq!(on(&TTY_IOCTL, &snap(vec![slave(2, 1), f])), None);
}

#[test]
fn room_for_64_external_ones() {
    let many = |n: u32, same: bool| {
        let mut s = snap((0..n).map(|i| slave(i as i32, if same { 0 } else { i })).collect());
        s.kernel.version = (6, 1);
        s
    };
    let all = Host { externals: Some((0..70).map(|i| tty_key(&slave(0, i)).into_bytes().into()).collect()), ..host() };
    assert_eq!(verdict(&TTY_EXT_TOO_MANY, &many(64, false), &all), None);
    assert_eq!(verdict(&TTY_EXT_TOO_MANY, &many(65, false), &all), Some(Refuse));
    assert_eq!(verdict(&TTY_EXT_TOO_MANY, &many(65, true), &all), Some(Warn), "they may be one open file");
    assert_eq!(on(&TTY_EXT_TOO_MANY, &many(65, false)), None);
    // Compared: 65 of one terminal, of which two or none are one open file.
    let compared = |files: usize| {
        let mut s = many(65, true);
        for (i, f) in s.tasks[0].files.iter_mut().enumerate() {
            let which = TtyFacts { open_file: Some(i.min(files - 1)), ..TtyFacts::default() };
            f.detail = Some(Box::new(Detail::Tty(which)));
        }
        verdict(&TTY_EXT_TOO_MANY, &s, &all)
    };
    assert_eq!([compared(64), compared(65)], [None, Some(Refuse)]);
}

#[test]
fn sessions_of_a_shell() {
    // A terminal that is not the task's own, or whose session it leads.
    assert_eq!(on(&TTY_DANGLING_SID, &snap(vec![slave(0, 3)])), None);
    assert_eq!(on(&TTY_DANGLING_SID, &controlled(vec![slave(0, 3)], 3)), None);
    let s = job(vec![slave(0, 3), slave(1, 3), slave(2, 3)], 3);
    assert_eq!(on(&TTY_DANGLING_SID, &s), Some(Refuse));
    assert_eq!(found(&TTY_DANGLING_SID, &s, &host())[0].other, Some(Other::Process(70)));
    assert_eq!(verdict(&TTY_DANGLING_SID, &s, &with(Opt::ShellJob)), None);
    assert_eq!(verdict(&TTY_DANGLING_SID, &s, &unknown(Opt::ShellJob)), Some(Warn));
    assert_eq!(verdict(&TTY_DANGLING_SID, &s, &key(&slave(0, 3))), Some(Refuse), "external ones are asked too");
    assert_eq!(on(&TTY_DANGLING_SID, &job(vec![slave(0, 3)], 4)), None, "another terminal of no session");
    // The same number in another devpts instance: it is not known which one is meant.
    let mut other = slave(5, 3);
    other.attr.dev.minor = 99;
    assert_eq!(on(&TTY_DANGLING_SID, &job(vec![slave(0, 3), other], 3)), None);
    let mut gone = slave(0, 3);
    gone.detail = Some(Box::new(Detail::Tty(TtyFacts { hung_up: Some(true), ..TtyFacts::default() })));
    assert_eq!(on(&TTY_DANGLING_SID, &job(vec![gone], 3)), None);
    assert_eq!(on(&TTY_DANGLING_SID, &job(vec![dev_tty(3)], 1)), Some(Refuse));
    assert_eq!(on(&TTY_DANGLING_SID, &job(vec![not_asked(dev_tty(3))], 1)), Some(Warn), "it may be another by now");
}

fn not_asked(mut file: OpenFile) -> OpenFile {
    file.detail = None;
    file
}

#[test]
fn sessions_seen_through_a_master() {
    assert_eq!(on(&TTY_DANGLING_SID, &snap(vec![master(3, 1, 0, 0)])), None);
    assert_eq!(on(&TTY_DANGLING_SID, &snap(vec![master(3, 1, 100, 100)])), None);
    let mut s = snap(vec![master(3, 1, 70, 70)]);
    assert_eq!(on(&TTY_DANGLING_SID, &s), Some(Refuse));
    s.tasks[0].ns.pid = Some(9);
    assert_eq!(on(&TTY_DANGLING_SID, &s), Some(Warn), "to a task of another pid namespace it may have no number");
    for (leader, verdict) in [(Some(9), Some(Refuse)), (s.criu.ns.pid, None), (Some(10), Some(Warn))] {
        let Some(Detail::Tty(facts)) = s.tasks[0].files[0].detail.as_deref_mut() else { unreachable!() };
        facts.sid_pidns = leader;
        assert_eq!(on(&TTY_DANGLING_SID, &s), verdict, "{leader:?}");
    }
    // The leader is in the tree, but not first of its session there.
    let mut s = snap(vec![master(3, 1, 102, 102)]);
    let mut leader = task(102);
    (leader.sid, leader.ppid) = (102, 100);
    s.tasks.push(leader.clone());
    assert_eq!(on(&TTY_DANGLING_SID, &s), None);
    let mut first = task(101);
    first.sid = 102;
    s.tasks.insert(1, first);
    assert_eq!(on(&TTY_DANGLING_SID, &s), Some(Refuse));
    s.tasks.remove(1);
    s.tasks[1].state = 'Z';
    assert_eq!(on(&TTY_DANGLING_SID, &s), Some(Refuse));
}

#[test]
fn one_slave_with_its_master_outside() {
    let one = snap(vec![slave(3, 1)]);
    assert_eq!(on(&TTY_SLAVE_UNPAIRED, &snap(vec![slave(3, 1), master(4, 1, 0, 0)])), None);
    assert_eq!(on(&TTY_SLAVE_UNPAIRED, &snap(vec![slave(3, 1), master(4, 2, 0, 0)])), Some(Refuse));
    assert_eq!(on(&TTY_SLAVE_UNPAIRED, &one), Some(Refuse));
    for opt in SLAVE_OPTIONS {
        assert_eq!(verdict(&TTY_SLAVE_UNPAIRED, &one, &with(opt)), None);
        assert_eq!(verdict(&TTY_TWO_UNPAIRED, &one, &with(opt)), None);
        assert_eq!(verdict(&TTY_SLAVE_UNPAIRED, &one, &unknown(opt)), Some(Warn));
    }
    assert_eq!(verdict(&TTY_SLAVE_UNPAIRED, &one, &key(&slave(3, 1))), None);
    assert_eq!(verdict(&TTY_SLAVE_UNPAIRED, &one, &no_keys()), Some(Warn));
    let mut hung = slave(3, 1);
    hung.detail = Some(Box::new(Detail::Tty(TtyFacts { hung_up: Some(true), ..TtyFacts::default() })));
    assert_eq!(on(&TTY_SLAVE_UNPAIRED, &snap(vec![hung])), None);
    // Not asked, but the node is gone with its master.
    let mut hung = not_asked(slave(3, 1));
    hung.attr.nlink = 0;
    assert_eq!(on(&TTY_SLAVE_UNPAIRED, &snap(vec![hung])), None);
    let nameless = not_asked(master(4, 1, 0, 0));
    assert_eq!(on(&TTY_SLAVE_UNPAIRED, &snap(vec![slave(3, 1), nameless])), Some(Warn));
    assert_eq!(on(&TTY_SLAVE_UNPAIRED, &snap(vec![not_asked(slave(3, 1))])), Some(Warn), "it may have been hung up");
}

#[test]
fn two_slaves_with_their_masters_outside() {
    let two = snap(vec![slave(3, 7), slave(4, 1), slave(5, 7)]);
    assert_eq!(found(&TTY_SLAVE_UNPAIRED, &two, &host()).len(), 2);
    assert_eq!(on(&TTY_TWO_UNPAIRED, &two), None);
    for host in [with(Opt::ShellJob), with(Opt::OrphanPtsMaster), unknown(Opt::ShellJob)] {
        let f = found(&TTY_TWO_UNPAIRED, &two, &host);
        assert_eq!((f.len(), f[0].verdict, f[0].get("index")), (1, Refuse, Some(&Value::Num(7))));
    }
    let mut one_named = with(Opt::ShellJob);
    one_named.externals = key(&slave(4, 1)).externals;
    assert_eq!(verdict(&TTY_TWO_UNPAIRED, &two, &one_named), None);
    // One that may have been hung up is none, perhaps.
    for (files, verdict) in [
        (vec![not_asked(slave(3, 1)), slave(4, 2)], Some(Warn)),
        (vec![slave(3, 1), not_asked(slave(4, 2))], Some(Warn)),
        (vec![not_asked(slave(3, 1)), slave(4, 2), slave(5, 3)], Some(Refuse)),
    ] {
        let host = with(Opt::ShellJob);
        assert_eq!(found(&TTY_TWO_UNPAIRED, &snap(files), &host).iter().map(|f| f.verdict).max(), verdict);
    }
}

#[test]
fn dev_tty_needs_its_terminal() {
    let refused = |files| on(&TTY_CTTY_INHERIT, &controlled(files, 1));
    assert_eq!(refused(vec![dev_tty(3)]), Some(Refuse));
    assert_eq!(verdict(&TTY_CTTY_INHERIT, &controlled(vec![dev_tty(3)], 1), &with(Opt::ShellJob)), Some(Refuse));
    assert_eq!(refused(vec![dev_tty(3), slave(4, 1)]), None);
    assert_eq!(refused(vec![dev_tty(3), slave(4, 2)]), Some(Refuse), "another terminal");
    assert_eq!(refused(vec![dev_tty(3), master(4, 1, 100, 100)]), None);
    assert_eq!(refused(vec![dev_tty(3), master(4, 1, 100, 101)]), Some(Refuse), "another group in the foreground");
    let mut unanswered = master(4, 1, 100, 100);
    let Some(Detail::Tty(facts)) = unanswered.detail.as_deref_mut() else { unreachable!() };
    facts.pgrp = None;
    assert_eq!(refused(vec![dev_tty(3), unanswered]), Some(Warn));
    assert_eq!(refused(vec![not_asked(dev_tty(3))]), Some(Warn), "it may be another terminal by now");
    let mut s = controlled(vec![dev_tty(3), slave(4, 1)], 1);
    s.tasks[0].tpgid = 101;
    assert_eq!(on(&TTY_CTTY_INHERIT, &s), Some(Refuse));
    // Without a terminal it is of session 0, and so is every terminal that controls none.
    assert_eq!(on(&TTY_CTTY_INHERIT, &snap(vec![dev_tty(3)])), Some(Refuse));
    assert_eq!(on(&TTY_CTTY_INHERIT, &snap(vec![dev_tty(3), slave(4, 1)])), None);
}

#[test]
fn a_second_name_is_another_terminal_by_now() {
    let device = |mut f: OpenFile, major, minor| {
        let facts = TtyFacts { hung_up: Some(false), device: Some(Dev { major, minor }), ..TtyFacts::default() };
        f.detail = Some(Box::new(Detail::Tty(facts)));
        f
    };
    let old = |minor| controlled(vec![device(dev_tty(3), 136, minor), slave(4, 1)], 1);
    assert_eq!(on(&TTY_CTTY_INHERIT, &old(1)), None);
    assert_eq!(on(&TTY_CTTY_INHERIT, &old(2)), Some(Refuse), "opened on a terminal that controls it no more");
    // The system's console is what it stands for.
    let console = |major, minor| {
        let mut s = job(vec![device(tty(3, 5, 1, TtyFacts::default()), major, minor)], 1);
        s.tasks[0].tty_nr = 4 << 8 | 64;
        on(&TTY_DANGLING_SID, &s)
    };
    assert_eq!((console(4, 64), console(4, 1)), (Some(Refuse), None));
}

#[test]
fn a_side_that_cannot_be_read() {
    let write_only = |mut f: OpenFile| {
        f.flags = Some(libc::O_WRONLY as u32);
        f
    };
    let refused = |files| on(&TTY_WRITE_ONLY, &snap(files));
    assert_eq!(refused(vec![slave(3, 1), master(4, 1, 0, 0)]), None);
    assert_eq!(refused(vec![write_only(slave(3, 1)), master(4, 1, 0, 0)]), Some(Refuse));
    assert_eq!(refused(vec![slave(3, 1), write_only(master(4, 1, 0, 0))]), Some(Refuse));
    assert_eq!(refused(vec![slave(3, 1), write_only(slave(5, 1)), master(4, 1, 0, 0)]), None, "not the first");
    assert_eq!(refused(vec![write_only(slave(3, 1)), master(4, 2, 0, 0)]), None, "of another pair");
    assert_eq!(refused(vec![write_only(slave(3, 1))]), None);
    let files = || vec![write_only(slave(3, 1)), master(4, 1, 0, 0)];
    assert_eq!(verdict(&TTY_WRITE_ONLY, &snap(files()), &key(&slave(3, 1))), None);
    assert_eq!(verdict(&TTY_WRITE_ONLY, &snap(files()), &no_keys()), Some(Warn));
}

#[test]
fn settings_that_are_not_told() {
    let unset = |hung_up| {
        let mut f = slave(3, 1);
        f.detail =
            Some(Box::new(Detail::Tty(TtyFacts { hung_up: Some(hung_up), unset: Some(22), ..TtyFacts::default() })));
        on(&TTY_IOCTL, &snap(vec![f]))
    };
    assert_eq!((unset(false), unset(true)), (Some(Refuse), None));
}

#[test]
fn the_terminal_counts_where_it_is_first_met() {
    // The child keeps /dev/tty, the root the slave.
    let mut s = controlled(vec![slave(4, 1)], 1);
    let mut child = s.tasks[0].clone();
    (child.pid, child.ppid, child.pgid) = (101, 100, 101);
    child.files = vec![dev_tty(3)];
    s.tasks.push(child);
    let f = found(&TTY_CTTY_INHERIT, &s, &host());
    assert_eq!((f[0].verdict, f[0].pid, f[0].get("met")), (Refuse, 101, Some(&Value::Num(100))));
    // The root has it as well, and comes first.
    s.tasks[0].files.push(dev_tty(5));
    assert_eq!(on(&TTY_CTTY_INHERIT, &s), None);
}
