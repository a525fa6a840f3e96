//! The open files of a process: one listing, one statx a descriptor, and the link or fdinfo only where a rule can still
//! fire ([`needs`]).

use crate::bytes::Bytes;
use crate::criu::Caps;
use crate::criu_model::devices::{tty_driver, Driver};
use crate::parse::fdinfo::{self, FdInfo};
use crate::parse::nslink;
use crate::parse::pressure::is_pressure;
use crate::scan::fd::locks::Locks;
use crate::scan::kcmp::{self, Kind, Sharers};
use crate::scan::kernel::{self, PseudoFsIds};
use crate::scan::mount::tables::{Fs, Mounts};
use crate::scan::proc::{number, owned, Buffers, Dir};
use crate::scan::{Seen, UncheckedList};
use crate::snapshot::device::major;
use crate::snapshot::{Dev, OpenFile, Origin, Probe, Task, UnstattableFile};
use std::collections::HashMap;
use std::ffi::CStr;

/// Kinds of open files that need different looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Socket,
    /// Of pipe(2); a named one is [`Class::Path`].
    Pipe,
    /// Regular file, directory, symbolic link or FIFO with a name.
    Path,
    /// An anonymous inode: only the link says which.
    Anon,
    /// Terminals, all that CRIU's tty code takes, but for the next.
    Tty,
    /// A pty master.
    Ptmx,
    Tun,
    /// Major 1: /dev/null and its like.
    Mem,
    /// Any other device.
    Device,
    Pidfd,
    Unknown,
}

/// What is read beyond the statx.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub link: bool,
    pub info: bool,
}

/// The rest of the world as far as it decides what is read.
pub(crate) struct Context<'a> {
    pub own: &'a PseudoFsIds,
    pub mounts: &'a Mounts,
    pub locks: &'a Locks,
    pub caps: Caps,
}

/// What statx tells about the kind.
pub(crate) fn classify(file: &OpenFile, own: &PseudoFsIds) -> Class {
    match file.kind() {
        libc::S_IFSOCK => Class::Socket,
        libc::S_IFIFO if own.pipe.map_or_else(|| kernel::names(file, b"pipe:["), |dev| dev == file.attr.dev) => {
            Class::Pipe
        }
        _ if own.pidfs == Some(file.attr.dev) => Class::Pidfd,
        libc::S_IFREG if own.pidfs.is_none() && kernel::names(file, b"anon_inode:[pidfd]") => Class::Pidfd,
        libc::S_IFREG | libc::S_IFDIR | libc::S_IFLNK | libc::S_IFIFO => Class::Path,
        libc::S_IFCHR => match (file.attr.rdev, tty_driver(file.attr.rdev)) {
            (_, Some(Driver::Master)) => Class::Ptmx,
            (_, Some(_)) => Class::Tty,
            (Dev::TUN, _) => Class::Tun,
            (Dev { major: major::MEM, .. }, _) => Class::Mem,
            _ => Class::Device,
        },
        libc::S_IFBLK => Class::Device,
        0 => Class::Anon,
        _ => Class::Unknown,
    }
}

/// What the rules need of a descriptor of this class. The one table to change when a rule wants more.
pub(crate) fn needs(class: Class, file: &OpenFile, cx: &Context) -> Needs {
    let mut needs = needs_unlocked(class, file, cx);
    // fcntl and flock take any open file.
    needs.info = needs.info || is_locked(class, file, cx);
    needs
}

fn needs_unlocked(class: Class, file: &OpenFile, cx: &Context) -> Needs {
    match class {
        // A socket file, opened with O_PATH.
        Class::Socket if cx.own.socket != Some(file.attr.dev) => Needs { link: true, info: false },
        // sock_diag and the borrowed descriptor tell the rest, see `crate::scan::fd::details`.
        Class::Socket | Class::Pipe => Needs::default(),
        Class::Path => {
            // CRIU finds the path through the mount; a kernel before 5.8 tells the mount only in fdinfo.
            let fs = file.attr.mnt_id.and_then(|id| cx.mounts.fs(id));
            // Of a FIFO the link tells that it is no pipe.
            let odd = file.attr.nlink == 0 || file.is_fifo() || !matches!(fs, Some(Fs::Other));
            // CRIU will want to read it, unless the flags say that it is a log.
            let unreadable = file.kind() == libc::S_IFREG && file.attr.mode & 0o444 == 0;
            // The flags say whether it was opened to set a trigger.
            let pressure = fs.is_some_and(|fs| matches!(fs, Fs::Proc | Fs::Cgroup))
                && file.link.as_ref().is_some_and(|link| is_pressure(link));
            Needs { link: odd, info: file.attr.mnt_id.is_none() || unreadable || file.is_fifo() || pressure }
        }
        // The classes with records in fdinfo are known by the link, see `anon_has_records`.
        Class::Anon => Needs { link: true, info: false },
        Class::Ptmx | Class::Tun | Class::Pidfd => Needs { link: true, info: true },
        Class::Tty | Class::Device | Class::Unknown => Needs { link: true, info: file.attr.mnt_id.is_none() },
        Class::Mem => Needs { link: false, info: file.attr.mnt_id.is_none() },
    }
}

/// Whether fdinfo has to tell of locks.
fn is_locked(class: Class, file: &OpenFile, cx: &Context) -> bool {
    match class {
        // Their inode numbers are the kernel's own, and they are rarely locked: only what is in the table counts.
        Class::Socket | Class::Pipe | Class::Anon | Class::Pidfd => cx.locks.may_list(file.attr.ino),
        _ => cx.locks.may_hold(file.attr.dev, file.attr.ino, cx.mounts.loose.contains(&file.attr.dev)),
    }
}

/// Anonymous inodes whose fdinfo a rule reads.
fn anon_has_records(link: &[u8], caps: &Caps) -> bool {
    let target = nslink::parse(link);
    let Some(class) = target.anon_class() else { return false };
    match class {
        b"eventpoll" | b"inotify" | b"fanotify" | b"pidfd" | b"timerfd" => true,
        // A CRIU without libbpf refuses every one of them.
        b"bpf-map" => caps.bpfmap,
        _ => false,
    }
}

/// Anonymous inodes met so far, by link text: all of a class share one inode (`anon_inode_inode` in fs/anon_inodes.c), so
/// that the link alone, which is cheaper than statx and needed anyway, tells everything.
#[derive(Default)]
pub(crate) struct Memo {
    known: Vec<(Bytes, OpenFile)>,
    /// Of the look before.
    before: Anonymous,
}

/// By process, the descriptors that were anonymous inodes, ascending: what the next look has to expect, not what is.
#[derive(Debug, Default)]
pub(crate) struct Anonymous(HashMap<i32, Vec<i32>>);

impl Anonymous {
    pub(crate) fn of(tasks: &[Task]) -> Anonymous {
        let anon = |t: &Task| t.files.iter().filter(|f| f.is_anon()).filter_map(OpenFile::fd).collect();
        Anonymous(tasks.iter().map(|t| (t.pid, anon(t))).collect())
    }
}

impl Memo {
    pub(crate) fn new(before: Anonymous) -> Memo {
        Memo { known: Vec::new(), before }
    }

    fn get(&self, text: &[u8]) -> Option<&OpenFile> {
        self.known.iter().find(|(known, _)| known.0 == text).map(|(_, file)| file)
    }

    /// Whether to ask for the link first. Descriptors of a class come in runs.
    fn expects_anon(&self, pid: i32, fd: i32, run: usize) -> bool {
        self.before.0.get(&pid).map_or(run >= RUN, |fds| fds.binary_search(&fd).is_ok())
    }

    /// Keeps a file of the shared inode. Classes with inodes of their own are not kept: their numbers differ.
    fn learn(&mut self, file: &OpenFile, own: &PseudoFsIds) {
        let Some(link) = &file.link else { return };
        let shared = own.anon.is_some_and(|anon| anon == (file.attr.dev, file.attr.ino));
        if shared && link.starts_with(b"anon_inode:") && self.get(link).is_none() {
            self.known.push((link.clone(), OpenFile { info: None, flags: None, ..file.clone() }));
        }
    }
}

/// Descriptor tables met so far. What processes share is read once.
pub(crate) struct Tables {
    /// By process: whose descriptors it has, and how many.
    of: HashMap<i32, (i32, usize)>,
    large: Sharers,
}

/// Room of the table that every process begins with (NR_OPEN_DEFAULT).
const SMALL: u64 = 64;

impl Default for Tables {
    fn default() -> Self {
        Tables { of: HashMap::new(), large: Sharers::of(Kind::Files) }
    }
}

impl Tables {
    /// Whether the process shares the table of one before: mostly that is its parent. A small table that it shares with
    /// another is read again, which is sooner done than to compare all of them; [`crate::scan::task::sharing`] finds out.
    pub(crate) fn knows(
        &mut self,
        task: &mut Task,
        parent: Option<i32>,
        size: Option<u64>,
        log: &mut UncheckedList,
    ) -> bool {
        let pid = task.pid;
        let parent = parent.and_then(|parent| {
            let same = log.take(kcmp::same_files(parent, pid), pid, None, Probe::Kcmp)?;
            self.of.get(&parent).copied().filter(|_| same)
        });
        let known = parent.or_else(|| {
            let large = size.is_none_or(|size| size > SMALL);
            let first = log.take(large.then(|| self.large.meet(pid))?, pid, None, Probe::Kcmp).flatten()?;
            let other = self.of.get(&first).copied()?;
            task.shares.files = Some(other.0);
            Some(other)
        });
        let Some((owner, count)) = known else { return false };
        (task.files_of, task.fd_count) = (Some(owner), count);
        true
    }

    /// Every process that was looked at.
    pub(crate) fn note(&mut self, task: &Task) {
        self.of.insert(task.pid, (task.files_of.unwrap_or(task.pid), task.fd_count));
    }
}

/// The descriptors of a process, ascending. Those without attributes go to `unstattable`.
pub(crate) fn collect(
    dir: &Dir,
    cx: &Context,
    memo: &mut Memo,
    unstattable: &mut Vec<UnstattableFile>,
    b: &mut Buffers,
    log: &mut UncheckedList,
) -> Vec<OpenFile> {
    let Some(fds) = log.take(dir.listing(c"fd"), dir.pid, None, Probe::Descriptors) else { return Vec::new() };
    let (text, link) = (&mut b.text, &mut b.link);
    let mut one = FdReader { dir, fds: &fds, infos: None, cx, memo, unstattable, text, link, log, run: 0 };
    let mut files = Vec::new();
    let listed = fds.each(&mut b.dents, |name| files.extend(number(name).and_then(|fd| one.collect(fd, name))));
    log.take(listed, dir.pid, None, Probe::Descriptors);
    files
}

struct FdReader<'a> {
    dir: &'a Dir,
    fds: &'a Dir,
    /// /proc/PID/fdinfo, opened with the first need.
    infos: Option<Option<Dir>>,
    cx: &'a Context<'a>,
    memo: &'a mut Memo,
    unstattable: &'a mut Vec<UnstattableFile>,
    text: &'a mut Vec<u8>,
    link: &'a mut [u8; 4096],
    log: &'a mut UncheckedList,
    /// So many descriptors before this one were anonymous inodes.
    run: usize,
}

/// FdReader after another may be by chance: a link that was read in vain costs as much as the statx that it could have saved.
const RUN: usize = 2;

impl FdReader<'_> {
    fn collect(&mut self, fd: i32, name: &CStr) -> Option<OpenFile> {
        let expected = self.memo.expects_anon(self.dir.pid, fd, self.run);
        let early = if expected { self.read_link(fd, name) } else { None };
        if let Some(known) = early.as_deref().and_then(|text| self.memo.get(text)) {
            let mut file = OpenFile { origin: Origin::Fd(fd), ..known.clone() };
            self.run = self.run.saturating_add(1);
            let locked = is_locked(Class::Anon, &file, self.cx);
            self.add_info(&mut file, fd, name, locked);
            return Some(file);
        }
        let stat = self.fds.stat(name);
        if stat == Seen::Gone {
            // A descriptor that was closed meanwhile has no link either.
            let link = self.fds.link(name, self.link).ok().map(owned);
            self.unstattable.extend(link.map(|link| UnstattableFile { fd: Some(fd), link }));
        }
        let attr = self.log.take(stat, self.dir.pid, Some(fd), Probe::Descriptors)?;
        let mut file = OpenFile { origin: Origin::Fd(fd), ..OpenFile::linked(attr) };
        let class = classify(&file, self.cx.own);
        self.run = if class == Class::Anon { self.run.saturating_add(1) } else { 0 };
        let mut what = needs(class, &file, self.cx);
        if what.link {
            file.link = early.or_else(|| self.read_link(fd, name));
            // Where a device could not be learned, the link tells the class.
            what = needs(classify(&file, self.cx.own), &file, self.cx);
        }
        self.memo.learn(&file, self.cx.own);
        self.add_info(&mut file, fd, name, what.info);
        // A lock is reported with the name of its file.
        if file.link.is_none() && file.info.as_ref().is_some_and(|info| !info.locks.is_empty()) {
            file.link = self.read_link(fd, name);
        }
        Some(file)
    }

    fn read_link(&mut self, fd: i32, name: &CStr) -> Option<Bytes> {
        self.log.take(self.fds.link(name, self.link), self.dir.pid, Some(fd), Probe::FdLink).map(owned)
    }

    /// Whether the descriptor of an anonymous inode that CRIU knows may be one of O_PATH: the mode of its link in /proc tells
    /// what it was opened for, of O_PATH neither reading nor writing (`tid_fd_update_inode()` in fs/proc/fd.c).
    fn may_be_o_path(&self, link: &[u8], name: &CStr) -> bool {
        const READ_OR_WRITE: u32 = libc::S_IRUSR | libc::S_IWUSR;
        matches!(nslink::parse(link).anon_class(), Some(b"eventfd" | b"signalfd"))
            && self.fds.stat_link(name).ok().is_some_and(|link| link.mode & READ_OR_WRITE == 0)
    }

    fn add_info(&mut self, file: &mut OpenFile, fd: i32, name: &CStr, needed: bool) {
        let class = file.link.as_deref().filter(|_| file.is_anon());
        let anon = || class.is_some_and(|link| anon_has_records(link, &self.cx.caps) || self.may_be_o_path(link, name));
        if !needed && !anon() {
            return;
        }
        let (dir, log) = (self.dir, &mut *self.log);
        let infos = self.infos.get_or_insert_with(|| log.take(dir.dir(c"fdinfo"), dir.pid, None, Probe::FdInfo));
        let Some(infos) = infos else { return };
        let Some(text) = log.take(infos.read_one(name, self.text), dir.pid, Some(fd), Probe::FdInfo) else {
            return;
        };
        let info = fdinfo::parse(text);
        if info.bad > 0 {
            log.deny(dir.pid, Some(fd), Probe::FdInfo, 0);
        }
        file.attr.mnt_id = file.attr.mnt_id.or(info.mnt_id.and_then(|id| u64::try_from(id).ok()));
        file.flags = flags_of(&info);
        file.info = Some(Box::new(info));
    }
}

/// The open file's flags. In fdinfo the kernel mixes the descriptor's close-on-exec in (`seq_show` in fs/proc/fd.c).
pub(crate) fn flags_of(info: &FdInfo) -> Option<u32> {
    const CLOSE_ON_EXEC: u32 = libc::O_CLOEXEC as u32;
    Some(info.flags? & !CLOSE_ON_EXEC)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Namespaces;
    use std::os::fd::AsRawFd;

    #[test]
    fn what_was_expected_and_is_not_is_seen_as_it_is() {
        let event = crate::scan::sys::eventfd().unwrap();
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let (event, file) = (event.as_raw_fd(), file.as_raw_fd());
        let me = std::process::id().cast_signed();
        let (own, mounts) = (PseudoFsIds::learn(&mut UncheckedList::default()), Mounts::default());
        let locks = Locks::new(&Namespaces::default(), false);
        let cx = Context { own: &own, mounts: &mounts, locks: &locks, caps: Caps::default() };
        let dir = Dir::proc().unwrap().process(me).ok().unwrap();
        let seen = |before: Option<Vec<i32>>| {
            let mut memo =
                Memo { before: Anonymous(before.map(|fds| (me, fds)).into_iter().collect()), ..Memo::default() };
            let files =
                collect(&dir, &cx, &mut memo, &mut Vec::new(), &mut Buffers::new(), &mut UncheckedList::default());
            [event, file].map(|fd| files.iter().find(|f| f.fd() == Some(fd)).cloned())
        };
        let plain = seen(None);
        assert!(plain.iter().all(Option::is_some));
        for before in [vec![], vec![event], vec![file], vec![event.min(file), event.max(file)]] {
            assert_eq!(seen(Some(before.clone())), plain, "{before:?}");
        }
    }
}
