//! A filter on the calling process that leaves chosen system calls to the answer of another (seccomp_unotify(2)).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Which calls the other is asked about.
pub enum Calls<'a> {
    Only(&'a [i64]),
    AllBut(&'a [i64]),
}

/// One call that waits for its answer.
#[derive(Clone, Copy)]
pub struct Call {
    id: u64,
    pub pid: i32,
    pub nr: i64,
    pub args: [u64; 6],
}

/// Puts the calling thread, and what it forks, below a filter: the descriptor that answers.
pub fn install(calls: &Calls) -> io::Result<RawFd> {
    let stmt = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let jump = |k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt,
        jf,
        k,
    };
    let (list, of_list, of_rest) = match calls {
        Calls::Only(list) => (list, libc::SECCOMP_RET_USER_NOTIF, libc::SECCOMP_RET_ALLOW),
        Calls::AllBut(list) => (list, libc::SECCOMP_RET_ALLOW, libc::SECCOMP_RET_USER_NOTIF),
    };
    // offsetof(struct seccomp_data, nr)
    let mut program = vec![stmt(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    for nr in list.iter() {
        program.push(jump(*nr as u32, 0, 1));
        program.push(stmt(libc::BPF_RET | libc::BPF_K, of_list));
    }
    program.push(stmt(libc::BPF_RET | libc::BPF_K, of_rest));
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // Whoever may not do it otherwise has to give up set-user-ID programs, of which there are none here.
    unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    let fd = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(fd as RawFd)
}

/// The end that answers.
pub struct Listener(OwnedFd);

const NOTIF_RECV: u64 = 0xc050_2100;
const NOTIF_SEND: u64 = 0xc018_2101;
const NOTIF_SET_FLAGS: u64 = 0x4008_2104;
/// SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (Linux 6.6+): the two processes take turns, they never run at a time.
const SYNC_WAKE_UP: u64 = 1;

impl Listener {
    /// Of the process behind `pidfd`, where it has this number.
    pub fn take(pidfd: &OwnedFd, fd: RawFd) -> io::Result<Listener> {
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
        unsafe { libc::ioctl(fd.as_raw_fd(), NOTIF_SET_FLAGS as _, SYNC_WAKE_UP) };
        Ok(Listener(fd))
    }

    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// The next call; `None`: who made it has been killed meanwhile.
    pub fn next(&self) -> Option<Call> {
        let mut n: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        let r = unsafe { libc::ioctl(self.fd(), NOTIF_RECV as _, &raw mut n) };
        (r == 0).then_some(Call { id: n.id, pid: n.pid as i32, nr: i64::from(n.data.nr), args: n.data.args })
    }

    /// The kernel carries it out.
    pub fn go_on(&self, call: &Call) {
        self.answer(call, 0, 0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32);
    }

    /// It is not carried out, and fails with this errno; 0: it seems to have succeeded.
    pub fn fail(&self, call: &Call, errno: i32) {
        self.answer(call, 0, -errno, 0);
    }

    fn answer(&self, call: &Call, val: i64, error: i32, flags: u32) {
        let mut answer = libc::seccomp_notif_resp { id: call.id, val, error, flags };
        unsafe { libc::ioctl(self.fd(), NOTIF_SEND as _, &raw mut answer) };
    }
}
