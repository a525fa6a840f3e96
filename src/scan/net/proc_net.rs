//! What lies in the queues of raw and ICMP sockets, from /proc/PID/net: a kernel without raw_diag does not list the ones with
//! sock_diag, no kernel the others.

use crate::hash::Set;
use crate::parse::proc_net;
use crate::scan::passes::PassContext;
use crate::scan::proc::Dir;
use crate::scan::sys::Seen;
use crate::snapshot::{SocketTable, Task};
use std::ffi::CStr;

const TABLES: [&CStr; 4] = [c"net/raw", c"net/raw6", c"net/icmp", c"net/icmp6"];

/// Fills in [`SocketTable::unlisted`] for those of `held` that no table has.
pub(crate) fn collect(cx: &mut PassContext, mut held: Set<u64>) {
    let PassContext { snap, proc, b, .. } = cx;
    for table in &snap.sockets {
        remove_listed(&mut held, table);
    }
    for table in &mut snap.sockets {
        if held.is_empty() {
            return;
        }
        // It may have ended meanwhile: what is not seen here is lost, and nothing is refused for it.
        let mut members = snap.tasks.iter().filter(|t| t.ns.net == Some(table.netns));
        let Some(dir) = members.find_map(|t| process(proc, t)) else { continue };
        for name in TABLES {
            if let Seen::Seen(text) = dir.read(name, &mut b.text) {
                table.unlisted.extend(proc_net::parse(text).filter(|s| held.remove(&s.ino)));
            }
        }
    }
}

fn remove_listed(held: &mut Set<u64>, table: &SocketTable) {
    let unix = table.unix.iter().map(|s| s.ino);
    let ip = table.inet.iter().map(|s| s.inode);
    let others = table.packet.iter().map(|s| s.ino).chain(table.netlink.iter().map(|s| s.ino));
    for ino in unix.chain(ip).chain(others) {
        held.remove(&u64::from(ino));
    }
}

fn process(proc: &Dir, task: &Task) -> Option<Dir> {
    match proc.process(task.pid) {
        Seen::Seen(dir) => Some(dir),
        Seen::Gone | Seen::Denied(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::rules::testkit;
    use crate::snapshot::ScanPhase;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    #[test]
    fn a_raw_socket_s_queue() {
        // SAFETY: a new descriptor, which nothing else owns.
        let raw = unsafe {
            let fd = libc::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP);
            assert!(fd >= 0, "{}", std::io::Error::last_os_error());
            OwnedFd::from_raw_fd(fd)
        };
        let ino = nix::sys::stat::fstat(&raw).unwrap().st_ino;
        let unread = || {
            let me = std::process::id().cast_signed();
            let snap = crate::scan::collect_once(me, ScanPhase::Early, &testkit::host()).unwrap();
            let listed =
                snap.sockets.iter().flat_map(|t| &t.inet).find(|s| u64::from(s.inode) == ino).map(|s| s.rqueue);
            let unlisted = snap.sockets.iter().flat_map(|t| &t.unlisted).find(|s| s.ino == ino).map(|s| s.unread);
            assert!(listed.is_none() || unlisted.is_none());
            listed.or(unlisted)
        };
        assert_eq!(unread(), Some(0));
        let to = libc::sockaddr_in {
            sin_family: libc::AF_INET as u16,
            sin_port: 0,
            sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
            sin_zero: [0; 8],
        };
        // An echo request, which comes back to every raw socket of the protocol.
        let echo = [8u8, 0, 0xf7, 0xff, 0, 0, 0, 0];
        // SAFETY: the kernel reads the buffer and the address, both of which outlive the call.
        let sent = unsafe {
            let (to, len) = (std::ptr::from_ref(&to).cast(), size_of::<libc::sockaddr_in>() as u32);
            libc::sendto(raw.as_raw_fd(), echo.as_ptr().cast(), echo.len(), 0, to, len)
        };
        assert_eq!(sent, 8);
        assert!(unread() > Some(0));
    }
}
