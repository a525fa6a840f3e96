//! What the kernel is and who we are: asked of ourselves, never of the tree.

use crate::parse::devices;
use crate::scan::fd::files::{classify, Class};
use crate::scan::passes::PassContext;
use crate::scan::proc::{Buffers, Dir};
use crate::scan::task::process;
use crate::scan::{programs, sys, Seen, UncheckedList};
use crate::snapshot::{Dev, FileAttr, Kernel, Observer, OpenFile, Probe, Snapshot, Task};
use nix::errno::Errno;
use nix::sys::socket::{getsockopt, socket, sockopt, AddressFamily, SockFlag, SockType};
use nix::sys::statfs;
use procfs::FromRead as _;
use std::collections::BTreeMap;
use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// Devices and inodes of the kernel's internal file systems, learned from short-lived files of our own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PseudoFsIds {
    /// The inode that most anonymous files share.
    pub anon: Option<(Dev, u64)>,
    /// pipefs
    pub pipe: Option<Dev>,
    /// sockfs
    pub socket: Option<Dev>,
    /// pidfs (Linux 6.9+); `None`: pidfds are anonymous inodes.
    pub pidfs: Option<Dev>,
}

impl PseudoFsIds {
    pub(crate) fn learn(log: &mut UncheckedList) -> PseudoFsIds {
        let mut stat = |probe, fd: nix::Result<OwnedFd>| -> Option<FileAttr> {
            match fd.and_then(|fd| sys::statx(fd, c"")) {
                Ok(file) => Some(file),
                Err(errno) => {
                    log.deny(0, None, probe, errno as i32);
                    None
                }
            }
        };
        let anon = stat(Probe::Eventfd, sys::eventfd()).map(|f| (f.dev, f.ino));
        let pipe = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).map(|(read, _)| read);
        let pidfd = match sys::pidfd_open(nix::unistd::getpid().as_raw()) {
            // Before Linux 5.3.
            Err(Errno::ENOSYS) => None,
            pidfd => stat(Probe::PidfdOpen, pidfd),
        };
        PseudoFsIds {
            anon,
            socket: stat(Probe::Socket, unix()).map(|f| f.dev),
            pipe: stat(Probe::Pipe, pipe).map(|f| f.dev),
            pidfs: pidfd.map(|f| f.dev).filter(|dev| Some(*dev) != anon.map(|(dev, _)| dev)),
        }
    }
}

impl PseudoFsIds {
    /// Whether this is a socket, and not the file of one that was opened with O_PATH.
    pub(crate) fn is_socket(&self, file: &OpenFile) -> bool {
        file.is_socket() && self.socket.map_or_else(|| names(file, b"socket:["), |dev| dev == file.attr.dev)
    }
}

/// Whether the link says so of a file whose device is not known. (The link is read then.)
pub(crate) fn names(file: &OpenFile, kind: &[u8]) -> bool {
    file.link.as_ref().is_some_and(|link| link.starts_with(kind))
}

/// CRIU's pid, and its namespaces, ids and capabilities, which are our own: we are that process or a copy of it.
fn observer(criu: i32, proc: &Dir, b: &mut Buffers, log: &mut UncheckedList) -> Observer {
    let pid = nix::unistd::getpid().as_raw();
    let mut me = Observer { pid: criu, ..Observer::default() };
    if let Some(dir) = log.take(proc.process(pid), pid, None, Probe::Process) {
        me.ns = process::namespaces(&dir, None, b, log);
        // Read by us, parsed by procfs: that reads on for as long as signals interrupt it.
        let text = log.take(dir.read_one(c"status", &mut b.text), pid, None, Probe::Status);
        match text.map(procfs::process::Status::from_read) {
            Some(Ok(s)) => {
                me.uid = [s.ruid, s.euid, s.suid, s.fuid];
                me.gid = [s.rgid, s.egid, s.sgid, s.fgid];
                me.cap_eff = Some(s.capeff);
                me.seccomp = s.seccomp;
            }
            Some(Err(_)) => log.deny(pid, None, Probe::Status, 0),
            None => {}
        }
    }
    me.iptables = programs::by_shell("iptables");
    me.ip6tables = programs::by_shell("ip6tables");
    me.iptables_restore = programs::by_execvp("iptables-restore");
    me.ip6tables_restore = programs::by_execvp("ip6tables-restore");
    me.ip = programs::ip();
    me.devpts = is_of(c"/dev/pts", statfs::DEVPTS_SUPER_MAGIC);
    me.devtmpfs = is_of(c"/dev", statfs::TMPFS_MAGIC);
    me
}

/// Whether a path of our own leads to this file system, as CRIU tells it (`get_host_dev`, criu/kerndat.c).
fn is_of(path: &CStr, magic: statfs::FsType) -> Option<bool> {
    match statfs::statfs(path) {
        Ok(found) => Some(found.filesystem_type() == magic),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Some(false),
        Err(_) => None,
    }
}

/// What is the same in both looks of a process.
#[derive(Clone, Debug)]
pub(crate) struct SystemFacts {
    pub criu: Observer,
    pub kernel: Kernel,
    pub own: PseudoFsIds,
}

/// The facts a rule can depend on, but for the drivers' names ([`drivers`]). Nothing of the kernel or of our process is
/// changed. `criu`: the pid of the process that will dump, whose copy we may be.
///
/// `before`: what an earlier look has learned. None of it changes: CRIU gives up no right and enters no namespace before it
/// dumps the first process.
pub(crate) fn facts(
    before: &mut Option<SystemFacts>,
    criu: i32,
    proc: &Dir,
    b: &mut Buffers,
    log: &mut UncheckedList,
) -> SystemFacts {
    if let Some(known) = before {
        return known.clone();
    }
    let known = log.0.len();
    let facts = SystemFacts {
        criu: observer(criu, proc, b, log),
        kernel: constants(proc, b, log),
        own: PseudoFsIds::learn(log),
    };
    let own = &facts.own;
    if log.0.len() == known && own.anon.is_some() && own.pipe.is_some() && own.socket.is_some() {
        *before = Some(facts.clone());
    }
    facts
}

fn constants(proc: &Dir, b: &mut Buffers, log: &mut UncheckedList) -> Kernel {
    let version = version(proc, b, log);
    Kernel {
        version: version.unwrap_or_default(),
        passcred_refused: passcred_refused(version),
        siocunixfile: siocunixfile(log),
        compat: version.and_then(compat),
        // show_fd_locks() in fs/proc/fd.c
        locks_in_fdinfo: version.map(|v| v >= (4, 1)),
        shmem: shmem(),
        ipv6: ipv6(),
        ..Kernel::default()
    }
}

/// Major and minor number of the release. The file is read by us, with an end to how often a signal may interrupt that.
fn version(proc: &Dir, b: &mut Buffers, log: &mut UncheckedList) -> Option<(u32, u32)> {
    let text = log.take(proc.read_one(c"sys/kernel/osrelease", &mut b.text), 0, None, Probe::OsRelease)?;
    let release = std::str::from_utf8(text).ok().and_then(|text| procfs::KernelVersion::from_str(text).ok());
    if release.is_none() {
        log.deny(0, None, Probe::OsRelease, 0);
    }
    release.map(|v| (u32::from(v.major), u32::from(v.minor)))
}

/// The drivers' names, if there is a device to be named: /proc/devices is long, and asks the drivers for more.
pub(crate) fn drivers(cx: &mut PassContext) {
    name_drivers(cx.snap, cx.own, cx.proc, cx.b, cx.log);
}

fn name_drivers(snap: &mut Snapshot, own: &PseudoFsIds, proc: &Dir, b: &mut Buffers, log: &mut UncheckedList) {
    let is_device = |f: &OpenFile| classify(f, own) == Class::Device;
    let mapped = |t: &Task| t.maps.iter().filter_map(|m| m.file.as_ref()).any(|f| f.is_chrdev() || f.is_blkdev());
    if !snap.tasks.iter().any(|t| t.files.iter().any(is_device) || mapped(t)) {
        return;
    }
    let kernel = &mut snap.kernel;
    if let Some(text) = proc.read_or_log(c"devices", Probe::Devices, &mut b.text, log) {
        let names = devices::parse(text);
        kernel.chrdev = by_number(names.chars);
        kernel.blkdev = by_number(names.blocks);
    }
    // Without CONFIG_MODULES-made misc devices the file is there all the same; a masked /proc hides it.
    if let Seen::Seen(text) = proc.read(c"misc", &mut b.text) {
        kernel.misc = by_number(devices::parse_misc(text).items);
    }
}

/// The drivers that share a major (4 and 5), if a descriptor of theirs may have to be named.
pub(crate) fn ttys(cx: &mut PassContext) {
    let PassContext { snap, own, proc, b, .. } = cx;
    let mut files = snap.tasks.iter().flat_map(|t| &t.files);
    let named = |f: &OpenFile| f.is_chrdev() && matches!(f.attr.rdev.major, 4 | 5) && classify(f, own) == Class::Device;
    if !files.any(named) {
        return;
    }
    if let Seen::Seen(text) = proc.read(c"tty/drivers", &mut b.text) {
        snap.kernel.ttys = devices::parse_tty(text).items;
    }
}

/// Devices of the kernel's own tmpfs and, one for each size of pages, hugetlbfs mounts. No page is allocated.
fn shmem() -> Vec<Dev> {
    let hugetlb = [0, libc::MFD_HUGE_2MB, libc::MFD_HUGE_1GB].map(|size| libc::MFD_HUGETLB | size);
    let mut devs: Vec<Dev> = Vec::new();
    for flags in std::iter::once(0).chain(hugetlb) {
        let dev = sys::memfd(flags).ok().and_then(|fd| sys::statx(fd, c"").ok()).map(|f| f.dev);
        // Without the first, the others alone would say that a memfd is none.
        let Some(dev) = dev else {
            if flags == 0 {
                return devs;
            }
            continue;
        };
        if !devs.contains(&dev) {
            devs.push(dev);
        }
    }
    devs
}

/// Where several drivers share a number, the first counts.
fn by_number(names: Vec<devices::NamedNumber>) -> BTreeMap<u32, crate::bytes::Bytes> {
    let mut map = BTreeMap::new();
    for n in names {
        map.entry(n.number).or_insert(n.name);
    }
    map
}

/// A listener for the end of TCP and UDP sockets (NETLINK_SOCK_DIAG, `ss -E`) is notified of every one of the network
/// namespace, ours as well; and an unread message is what CRIU refuses a netlink socket for. Of UNIX sockets none is notified
/// (`sock_diag_destroy_group`, linux/sock_diag.h).
fn unix() -> nix::Result<OwnedFd> {
    socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
}

/// As CRIU tells it (`get_ipv6`, criu/kerndat.c).
fn ipv6() -> Option<bool> {
    match nix::unistd::access("/proc/sys/net/ipv6", nix::unistd::AccessFlags::F_OK) {
        Ok(()) => Some(true),
        Err(Errno::ENOENT) => Some(false),
        Err(_) => None,
    }
}

/// SO_PASSCRED on an IP socket: EOPNOTSUPP since Linux 6.16 (`sk_may_scm_recv`, include/net/sock.h). It must be one whose end
/// no listener is notified of (see [`unix`]): a raw one, of the protocol that receives nothing. Without CAP_NET_RAW, which that takes,
/// only the version is left, and an earlier kernel may have it as well.
fn passcred_refused(version: Option<(u32, u32)>) -> Option<bool> {
    match raw().and_then(|raw| getsockopt(&raw, sockopt::PassCred)) {
        Ok(_) => Some(false),
        Err(Errno::EOPNOTSUPP) => Some(true),
        Err(_) => version.filter(|v| *v >= (6, 16)).map(|_| true),
    }
}

fn raw() -> nix::Result<OwnedFd> {
    // SAFETY: takes three numbers; the result is a new descriptor that no other code knows.
    unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_RAW);
        Errno::result(fd).map(|fd| OwnedFd::from_raw_fd(fd))
    }
}

/// SIOCUNIXFILE on an unbound socket: ENOENT where it is known (`unix_open_file`, net/unix/af_unix.c), EPERM without
/// CAP_NET_ADMIN, ENOTTY before Linux 4.10.
fn siocunixfile(log: &mut UncheckedList) -> Option<bool> {
    match unix().and_then(|socket| sys::siocunixfile(socket.as_fd().as_raw_fd())) {
        Err(Errno::ENOENT) => Some(true),
        Err(Errno::ENOTTY) => Some(false),
        other => {
            log.deny(0, None, Probe::Socket, other.err().map_or(0, |errno| errno as i32));
            None
        }
    }
}

/// What CRIU's `kdat.compat_cr` comes to (`kdat_compatible_cr`, criu/arch/x86/kerndat.c, the same in 3.17.1 to 4.2): the
/// kernel maps a 32-bit vdso on request, and a 32-bit mmap of a 64-bit program works, as it does since Linux 4.12. Other
/// architectures have no 32-bit dump.
///
/// The request is only made where it must fail: EEXIST, as long as our own vdso is there. An unknown request is EINVAL.
fn compat(version: (u32, u32)) -> Option<bool> {
    if !cfg!(target_arch = "x86_64") {
        return Some(false);
    }
    match sys::map_vdso_32_refused()? {
        Errno::EEXIST => Some(version >= (4, 12)),
        Errno::EINVAL => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::FileAttr;

    #[test]
    fn our_own_files_are_told_apart() {
        let own = PseudoFsIds::learn(&mut UncheckedList::default());
        assert!(own.anon.is_some());
        assert!(own.pipe.is_some());
        assert_ne!(own.pipe, own.anon.map(|(dev, _)| dev));
        assert_ne!(own.pidfs, own.anon.map(|(dev, _)| dev));
    }

    #[test]
    fn the_kernel_agrees_with_uname() {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut log = UncheckedList::default();
        let (proc, mut b) = (Dir::proc().unwrap(), Buffers::new());
        let SystemFacts { kernel, own, .. } =
            facts(&mut None, std::process::id().cast_signed(), &proc, &mut b, &mut log);
        assert!(release.starts_with(&format!("{}.{}.", kernel.version.0, kernel.version.1)), "{release}");
        assert_eq!(kernel.passcred_refused, Some(kernel.version >= (6, 16)));
        assert_eq!(kernel.locks_in_fdinfo, Some(true));
        // Drivers are named where there is a device, and /dev/null is none that needs it.
        let names = |major| {
            let rdev = Dev { major, minor: 3 };
            let files = vec![OpenFile::linked(FileAttr { mode: libc::S_IFCHR, rdev, ..FileAttr::default() })];
            let tasks = vec![Task { files, ..Task::default() }];
            let mut snap = Snapshot { tasks, kernel: kernel.clone(), ..crate::rules::testkit::snap(Vec::new()) };
            name_drivers(&mut snap, &own, &proc, &mut Buffers::new(), &mut UncheckedList::default());
            snap.kernel.chrdev
        };
        assert_eq!(names(10).get(&1).map(|n| n.0.as_slice()), Some(&b"mem"[..]));
        assert!(names(1).is_empty());
        // Asking did not map anything: our only vdso is still the only one.
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        assert_eq!(maps.matches("[vdso]").count(), 1);
    }
}
