//! What a terminal tells.

use super::NotAsked;
use crate::parse::nslink::{self, LinkTarget};
use crate::snapshot::{Dev, TtyFacts};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

/// Not ours to know, or one that was hung up.
const NO_SESSION: [Errno; 2] = [Errno::ENOTTY, Errno::EIO];
/// Not the terminal that this is asked of, or a kernel that does not know it; or one that was hung up.
const NO_NUMBER: [Errno; 3] = [Errno::ENOTTY, Errno::EINVAL, Errno::EIO];
/// A line discipline without settings; a serial line without hardware, or a terminal that was hung up.
const NO_PARAMS: [Errno; 3] = [Errno::ENOTTY, Errno::EINVAL, Errno::EIO];

/// As CRIU's parasite asks (`parasite_dump_tty()`): EIO for the first three means that the other side is closed.
pub(crate) fn tty(file: &OwnedFd, is_master: bool, unasked: &NotAsked) -> TtyFacts {
    let ask = |request, answers: &[Errno]| unasked.answered(tty_number(file, request), answers);
    let (sid, pgrp) = (ask(libc::TIOCGSID, &NO_SESSION), ask(libc::TIOCGPGRP, &NO_SESSION));
    let exclusive = ask(libc::TIOCGEXCL as libc::Ioctl, &NO_NUMBER);
    // Every master has one.
    let index = ask(libc::TIOCGPTN as libc::Ioctl, if is_master { &[Errno::EIO] } else { &NO_NUMBER });
    let unset = unasked.answered(params(file), &NO_PARAMS).and_then(Result::err);
    let device = ask(libc::TIOCGDEV as libc::Ioctl, &NO_NUMBER);
    let hung_up = hung_up(&[sid, pgrp, exclusive, index, device]);
    if hung_up.is_none() {
        unasked.0.set(Some(Errno::EIO));
    }
    let value = |answer: Option<Result<i32, i32>>| answer?.ok();
    let index = value(index).map(|n| n as u32);
    let device = value(device).map(Dev::from_tty_nr);
    // A slave answers only those whose own controlling terminal it is. Should it be ours: that says nothing of its owner.
    let master = index.is_some();
    let of_master = |answer| match answer {
        // It controls none.
        Some(Err(libc::ENOTTY)) if master => Some(0),
        answer => value(answer).filter(|_| master),
    };
    let sid = of_master(sid);
    let sid_pidns = sid.filter(|s| *s > 0).and_then(pidns);
    // Of a pseudoterminal it tells nothing but a hang-up.
    let tells = unset != Some(libc::EIO) || (hung_up == Some(false) && !device.is_some_and(Dev::is_unix98_pty));
    if !tells && hung_up != Some(true) {
        unasked.0.set(Some(Errno::EIO));
    }
    TtyFacts {
        index,
        master,
        sid,
        sid_pidns,
        pgrp: of_master(pgrp),
        hung_up,
        device,
        unset: unset.filter(|_| tells),
        open_file: None,
    }
}

/// A hang-up takes the open file every operation, for good: from then on each of these is EIO, by which none of them means
/// anything else (`hung_up_tty_ioctl()`, drivers/tty/tty_io.c). One that says so before one that does not, or alone, is no answer:
/// `None`.
pub(in crate::scan::fd::remote) fn hung_up(asked: &[Option<Result<i32, i32>>]) -> Option<bool> {
    let eio = |answer: &&Option<Result<i32, i32>>| **answer == Some(Err(libc::EIO));
    let answered = || asked.iter().filter(|answer| answer.is_some());
    match answered().filter(eio).count() {
        // Each terminal tells its device.
        0 => answered().any(|answer| matches!(answer, Some(Ok(_)))).then_some(false),
        // It may have happened while we asked.
        n if n > 1 && answered().rev().take_while(eio).count() == n => Some(true),
        _ => None,
    }
}

/// The pid namespace of a process, of the tree or not.
fn pidns(pid: i32) -> Option<u64> {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok()?;
    match nslink::parse(link.as_os_str().as_bytes()) {
        LinkTarget::Ns { ino, .. } => Some(ino),
        _ => None,
    }
}

/// TCGETS
fn params(file: &OwnedFd) -> nix::Result<()> {
    // SAFETY: struct termios is made of numbers; zero is a value.
    let mut params: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: TCGETS writes the kernel's struct termios, which is the beginning of the C library's.
    Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), libc::TCGETS, &mut params) }).map(drop)
}

fn tty_number(file: &OwnedFd, request: libc::Ioctl) -> nix::Result<i32> {
    let mut value: libc::c_int = 0;
    // SAFETY: each of these requests writes one int (TIOCGPTN an unsigned one).
    Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), request, &mut value) }).map(|_| value)
}
