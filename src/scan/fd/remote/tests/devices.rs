//! What terminals and tun descriptors tell.

use super::*;

fn ptmx() -> OwnedFd {
    let master = nix::fcntl::open(
        "/dev/ptmx",
        OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC,
        nix::sys::stat::Mode::empty(),
    );
    let master = master.unwrap();
    // SAFETY: writes nothing, reads one int.
    assert_eq!(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &0) }, 0);
    master
}

fn tty_of(process: &Process, fd: RawFd) -> TtyFacts {
    match facts(process, fd, FdQuery::Tty { master: false }) {
        Seen::Seen(Facts { detail: Some(Detail::Tty(t)), .. }) => t,
        other => panic!("{other:?}"),
    }
}

#[test]
fn both_sides_of_a_terminal_that_is_a_childs() {
    let master = ptmx();
    let index = tty_of(&me(), master.as_raw_fd()).index.unwrap();
    let slave = std::fs::OpenOptions::new().read(true).write(true).open(format!("/dev/pts/{index}")).unwrap();
    // SAFETY: between fork and exec only two system calls.
    let child = unsafe {
        std::os::unix::process::CommandExt::pre_exec(
            Command::new("sleep").arg("60").stdin(slave.try_clone().unwrap()),
            || {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                Ok(())
            },
        )
        .spawn()
    };
    let mut child = child.unwrap();
    let pid = child.id().cast_signed();
    let Seen::Seen(process) = Process::open(pid) else { panic!() };
    let deadline = Instant::now() + Duration::from_secs(10);
    let m = loop {
        let m = tty_of(&me(), master.as_raw_fd());
        if m.sid.is_some() || Instant::now() > deadline {
            break m;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let own = std::fs::metadata("/proc/self/ns/pid").unwrap();
    let sid_pidns = Some(std::os::unix::fs::MetadataExt::ino(&own));
    let (sid, pgrp, hung_up) = (Some(pid), Some(pid), Some(false));
    // Of either side: the slave's.
    let device = Some(Dev { major: 136, minor: index });
    let sent = TtyFacts { index: Some(index), master: true, ..TtyFacts::default() };
    let master_of = TtyFacts { sid, sid_pidns, pgrp, hung_up, device, ..sent };
    assert_eq!(m, master_of);
    let s = tty_of(&process, 0);
    assert_eq!(s, TtyFacts { hung_up: Some(false), device, ..TtyFacts::default() });
    let before = std::fs::read_to_string("/proc/self/stat").unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(facts(&process, 0, FdQuery::Tty { master: false }), Seen::Gone, "it died between opening and asking");
    drop(master);
    // A child of another test has a copy of the master until its exec.
    while tty_of(&me(), slave.as_raw_fd()).hung_up == Some(false) && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(tty_of(&me(), slave.as_raw_fd()).hung_up, Some(true));
    let tty_nr = |stat: &str| stat.rsplit(')').next().unwrap().split(' ').nth(5).unwrap().to_string();
    assert_eq!(
        tty_nr(&before),
        tty_nr(&std::fs::read_to_string("/proc/self/stat").unwrap()),
        "no terminal became ours"
    );
}

#[test]
fn a_hang_up_is_for_good() {
    let einval = Some(Err(libc::EINVAL));
    let (number, none, eio) = (Some(Ok(7)), Some(Err(libc::ENOTTY)), Some(Err(libc::EIO)));
    for (asked, hung_up) in [
        ([none, none, number, none, number], Some(false)),
        ([eio; 5], Some(true)),
        // Meanwhile.
        ([none, none, number, eio, eio], Some(true)),
        ([none, None, number, eio, eio], Some(true)),
        ([eio, None, eio, eio, None], Some(true)),
        // Nothing was answered, or nothing that tells.
        ([None; 5], None),
        ([None, None, einval, einval, einval], None),
        // A call that failed.
        ([none, eio, number, none, number], None),
        ([eio, eio, number, none, number], None),
        ([none, none, number, none, eio], None),
    ] {
        assert_eq!(ask::hung_up(&asked), hung_up, "{asked:?}");
    }
}

#[test]
fn tun_and_tap() {
    let open = || nix::fcntl::open("/dev/net/tun", OFlag::O_RDWR | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty());
    let tun = match open() {
        Ok(tun) => tun,
        Err(e) => return println!("skip: /dev/net/tun: {e}"),
    };
    let tun_of = |fd: &OwnedFd| match facts(&me(), fd.as_raw_fd(), FdQuery::Tun) {
        Seen::Seen(Facts { detail: Some(Detail::Tun(t)), .. }) => t,
        other => panic!("{other:?}"),
    };
    let t = tun_of(&tun);
    assert_eq!((t.flags, t.name, t.filter), (None, None, None), "not attached");
    assert!(t.netns.is_some());
    for (kind, filter) in [(libc::IFF_TUN, None), (libc::IFF_TAP, Some(false))] {
        let tun = open().unwrap();
        // SAFETY: struct ifreq is made of numbers.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        request.ifr_ifru.ifru_flags = (kind | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: reads and writes one struct ifreq.
        let r = unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF as libc::Ioctl, &mut request) };
        if r != 0 {
            return println!("skip: TUNSETIFF: {}", Errno::last());
        }
        let t = tun_of(&tun);
        assert_eq!(t.flags.unwrap() & 3, kind as u32);
        assert!(t.name.unwrap().starts_with(b"t"));
        assert_eq!(t.filter, filter);
    }
}
