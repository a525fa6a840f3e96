//! Real texts are from Linux 6.18.
use super::*;
use crate::parse::locks::{LockAccess, LockKind, LockMode};
use proptest::prelude::*;

const HEAD: &str = "pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t1038\n";

fn with_head(rest: &str) -> FdInfo {
    let info = parse(format!("{HEAD}{rest}").as_bytes());
    assert_eq!(
        (info.pos, info.flags, info.mnt_id, info.ino, info.bad),
        (Some(0), Some(0o2000002), Some(17), Some(1038), 0)
    );
    info
}

fn handle(hex: &str) -> Option<FileHandle> {
    Some(FileHandle { handle_type: 1, len: 8, handle: Bytes(from_hex(hex.as_bytes()).unwrap()) })
}

#[test]
fn event_files() {
    let info = with_head("eventfd-count:               1f\neventfd-id: 1\neventfd-semaphore: 1\n");
    assert_eq!(info.eventfd, Some(EventFd { count: 0x1f, id: Some(1), semaphore: Some(true) }));

    let info = with_head(
        "tfd:        6 events:       19 data:     7f1a00000006  pos:0 ino:1b10 sdev:f\n\
         tfd:        4 events: 80000019 data:                4  pos:0 ino:40e sdev:10\n\
         tfd:        5 events:       19 data:                5\n",
    );
    let target = Some(EpollTarget { pos: 0, ino: 0x1b10, sdev: 0xf });
    assert_eq!(info.epoll[0], EpollItem { tfd: 6, events: 0x19, data: 0x7f1a00000006, target });
    assert_eq!(info.epoll[1].events, 0x80000019);
    assert_eq!(info.epoll[2], EpollItem { tfd: 5, events: 0x19, data: 5, target: None });

    assert_eq!(with_head("sigmask:\t0000000000000a00\n").sigmask, Some(0xa00));
    let info =
        with_head("clockid: 1\nticks: 0\nsettime flags: 01\nit_value: (99999, 999892170)\nit_interval: (1, 500)\n");
    let timerfd = TimerFd {
        clockid: 1,
        ticks: Some(0),
        settime_flags: Some(1),
        value: Some((99999, 999892170)),
        interval: Some((1, 500)),
    };
    assert_eq!(info.timerfd, Some(timerfd));
}

#[test]
fn notify_files() {
    let info = with_head(
        "inotify wd:2 ino:3c4a7 sdev:fe00000 mask:200 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:a7c4030000000000\n\
         inotify wd:a ino:98c081 sdev:fe00000 mask:100 ignored_mask:0 \n\
         inotify wd:b ino:1 sdev:2f mask:100 ignored_mask:0 fhandle-bytes:0 fhandle-type:0 f_handle:\n",
    );
    let watch = InotifyWatch { wd: 2, ino: 0x3c4a7, sdev: 0xfe00000, mask: 0x200, handle: handle("a7c4030000000000") };
    assert_eq!(info.inotify[0], watch);
    assert_eq!((info.inotify[1].wd, &info.inotify[1].handle), (10, &None));
    assert_eq!(info.inotify[2].handle, Some(FileHandle { handle_type: 0, len: 0, handle: Bytes::default() }));

    let info = with_head(
        "fanotify flags:1 event-flags:8000\n\
         fanotify sdev:1b mflags:0 mask:20 ignored_mask:0\n\
         fanotify mnt_id:1b mflags:0 mask:10 ignored_mask:0\n\
         fanotify ino:98c081 sdev:fe00000 mflags:0 mask:1 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:81c09800d287c03c\n",
    );
    assert_eq!(info.fanotify, Some(FanotifyGroup { flags: 1, event_flags: 0x8000 }));
    let on: Vec<_> = info.fanotify_marks.iter().map(|m| (m.on.clone(), m.mask)).collect();
    assert_eq!(
        on,
        [
            (FanotifyObject::Filesystem { sdev: 0x1b }, 0x20),
            (FanotifyObject::Mount { mnt_id: 0x1b }, 0x10),
            (FanotifyObject::Inode { ino: 0x98c081, sdev: 0xfe00000, handle: handle("81c09800d287c03c") }, 1),
        ]
    );
}

#[test]
fn process_terminal_net_and_bpf() {
    assert_eq!(with_head("Pid:\t4046\nNSpid:\t4046\t7\n").pidfd, Some(PidFd { pid: 4046, nspid: vec![4046, 7] }));
    assert_eq!(with_head("Pid:\t-1\nNSpid:\t-1\n").pidfd, Some(PidFd { pid: -1, nspid: vec![-1] }));
    assert_eq!(with_head("tty-index:\t3\n").tty_index, Some(3));
    assert_eq!(with_head("scm_fds: 2\n").scm_fds, Some(2));
    assert_eq!(with_head("iff:\t\n").iff, Some(Bytes::default()));
    assert_eq!(with_head("iff:\tpfcap0\n").iff, Some("pfcap0".into()));
    let info = with_head(
        "map_type:\t2\nkey_size:\t4\nvalue_size:\t8\nmax_entries:\t16\nmap_flags:\t0x0\nmap_extra:\t0x0\nmemlock:\t440\nmap_id:\t25\nfrozen:\t0\n",
    );
    assert_eq!(info.bpf_map, Some(BpfMap { map_type: 2, map_id: Some(25) }));
    let info = with_head(
        "prog_type:\t1\nprog_jited:\t1\nprog_tag:\t59f4a931744dcdc6\nmemlock:\t4096\nprog_id:\t97\nrun_time_ns:\t0\n",
    );
    assert_eq!(info.bpf_prog, Some(BpfProg { prog_type: 1, prog_id: Some(97) }));
    // A link, which has the program that it attaches.
    for link in [
        "link_type:\tcgroup\nlink_id:\t89\nprog_tag:\tb11459a0e11ca14c\nprog_id:\t2993\ncgroup_id:\t1\nattach_type:\t0\n",
        "link_type:\tnetns\nlink_id:\t91\nprog_tag:\tb11459a0e11ca14c\nprog_id:\t2995\nnetns_ino:\t4026531833\nattach_type:\t36\n",
        "link_type:\titer\nlink_id:\t92\nprog_tag:\tb11459a0e11ca14c\nprog_id:\t2996\ntarget_name:\tbpf_map_elem\nmap_id:\t7\n",
    ] {
        assert_eq!(with_head(link), with_head(""));
    }
    // Keys that are not read: io_uring, userfaultfd.
    let info = with_head("SqMask:\t0x7\nPollList:\nCqOverflowList:\nNAPI:\tdisabled\nAPI:\taa:0:80000000000001ff\n");
    assert_eq!(info, with_head(""));
}

#[test]
fn lock_lines() {
    let info = with_head(
        "lock:\t1: FLOCK  ADVISORY  READ 4046 fe:00:10010754 0 EOF\n\
         lock:\t2: POSIX  ADVISORY  WRITE 4046 fe:00:10010754 5 14\n\
         lock:\t1: LEASE  BREAKING  UNLCK 7452 fe:00:10010756 0 EOF\n\
         lock:\t\n",
    );
    let kinds: Vec<_> = info.locks.iter().map(|l| (&l.kind, &l.mode, &l.access, l.end)).collect();
    assert_eq!(
        kinds,
        [
            (&LockKind::Flock, &LockMode::Advisory, &LockAccess::Read, None),
            (&LockKind::Posix, &LockMode::Advisory, &LockAccess::Write, Some(14)),
            (&LockKind::Lease, &LockMode::Breaking, &LockAccess::Unlock, None),
        ]
    );
}

#[test]
fn odd_lines_cost_themselves_and_forged_ones_nothing() {
    let info = parse(
        b"pos:\tx\nflags:\t09\nmnt_id:\t17\ninotify wd:zz\nlock:\tgarbage\ntty-index:\t7\nmap_type:\t1\nmap_id:\tx\n",
    );
    assert_eq!((info.mnt_id, info.tty_index, info.flags, info.bad), (Some(17), Some(7), None, 5));
    // A dma-buf name with a newline comes after the head.
    let info = with_head("name:\tx\nflags:\t0100000000\npos:\t77\nmnt_id:\t1\nino:\t1\n");
    assert_eq!(info, with_head(""));
}

proptest! {
    #[test]
    fn any_bytes(raw: Vec<u8>) {
        parse(&raw);
    }

    #[test]
    fn any_tail_of_a_known_key(key in "pos|flags|lock|tfd|inotify |fanotify |NSpid|it_value|iff|eventfd-id", raw: Vec<u8>) {
        parse(&[key.as_bytes(), b":", &raw].concat());
    }

    #[test]
    fn head_round_trip(pos: i64, flags: u32, mnt_id: i32, ino: u64) {
        let info = parse(format!("pos:\t{pos}\nflags:\t0{flags:o}\nmnt_id:\t{mnt_id}\nino:\t{ino}\n").as_bytes());
        prop_assert_eq!((info.pos, info.flags, info.mnt_id, info.ino, info.bad),
            (Some(pos), Some(flags), Some(mnt_id), Some(ino), 0));
    }
}
