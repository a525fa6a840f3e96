//! `/proc/PID/fdinfo/N`: what the kernel tells about one open file.
//!
//! The common head is `seq_show()` in fs/proc/fd.c, the locks come from `show_fd_locks()` (fs/locks.c), the rest from
//! the `show_fdinfo` operation of the file (fs/eventfd.c, fs/eventpoll.c, fs/notify/fdinfo.c, fs/signalfd.c,
//! fs/timerfd.c, fs/pidfs.c or kernel/fork.c, drivers/tty/tty_io.c, drivers/net/tun.c, kernel/bpf/syscall.c).
//!
//! Some drivers print names that the owner chose, newlines included (a dma-buf's `name:`). They come after the head, so
//! the first line of a key that exists once wins.
use crate::bytes::{from_hex, Bytes};
use crate::parse::locks::{self, Lock};
use crate::parse::text::{dec, fields, hex, lines, number, split_once, trim};

/// Everything understood of one fdinfo file. A `None` or an empty list: no such line.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FdInfo {
    pub pos: Option<i64>,
    /// Open flags with O_CLOEXEC mixed in from the descriptor. Printed in octal.
    pub flags: Option<u32>,
    /// Linux 3.15+.
    pub mnt_id: Option<i32>,
    /// Linux 5.14+.
    pub ino: Option<u64>,
    /// Linux 4.1+. POSIX and OFD locks, flocks and leases that belong to this open file. An empty `lock:` line (before
    /// 4.19, a holder without a number in our pid namespace) is left out, as CRIU does.
    pub locks: Vec<Lock>,
    pub eventfd: Option<EventFd>,
    pub epoll: Vec<EpollItem>,
    pub inotify: Vec<InotifyWatch>,
    pub fanotify: Option<FanotifyGroup>,
    pub fanotify_marks: Vec<FanotifyMark>,
    /// signalfd: bit n-1 is signal n.
    pub sigmask: Option<u64>,
    pub timerfd: Option<TimerFd>,
    pub pidfd: Option<PidFd>,
    /// The pts number behind a ptmx (a pts itself has no such line).
    pub tty_index: Option<u32>,
    /// A UNIX socket's: descriptors that lie in its receive queue (Linux 5.8+, `unix_show_fdinfo()`, net/unix/af_unix.c).
    pub scm_fds: Option<u32>,
    /// tun/tap: the interface, empty while none is attached.
    pub iff: Option<Bytes>,
    pub bpf_map: Option<BpfMap>,
    pub bpf_prog: Option<BpfProg>,
    /// Lines of a known key that were not understood.
    pub bad: usize,
}

/// fs/eventfd.c
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct EventFd {
    pub count: u64,
    pub id: Option<i64>,
    pub semaphore: Option<bool>,
}

/// One `tfd:` line (`ep_show_fdinfo()`, fs/eventpoll.c): a file that is watched.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct EpollItem {
    /// The descriptor number at the time of EPOLL_CTL_ADD; it may mean another file, or nothing, by now.
    pub tfd: i32,
    pub events: u32,
    pub data: u64,
    /// `pos`, `ino`, `sdev` (kernel's own 12+20 bit form) of the file itself: Linux 4.13+.
    pub target: Option<EpollTarget>,
}

/// The file behind an epoll item.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct EpollTarget {
    pub pos: i64,
    pub ino: u64,
    /// Kernel form: major << 20 | minor.
    pub sdev: u32,
}

/// A file handle as the kernel would open it again.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FileHandle {
    pub handle_type: u32,
    /// `fhandle-bytes` as printed; 0 where the filesystem could not make one (overlayfs without index).
    pub len: u32,
    /// The bytes printed, normally `len` many.
    pub handle: Bytes,
}

/// One `inotify` line (fs/notify/fdinfo.c).
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct InotifyWatch {
    pub wd: i32,
    pub ino: u64,
    /// Kernel form: major << 20 | minor.
    pub sdev: u32,
    pub mask: u32,
    /// `None`: the filesystem makes no file handles, nothing was printed.
    pub handle: Option<FileHandle>,
}

/// The `fanotify flags:` line: what fanotify_init() was given.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FanotifyGroup {
    pub flags: u32,
    pub event_flags: u32,
}

/// Any other `fanotify` line.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FanotifyMark {
    pub on: FanotifyObject,
    pub mflags: u32,
    pub mask: u64,
    pub ignored_mask: u64,
}

/// What a fanotify mark sits on. `sdev` in kernel form: major << 20 | minor.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum FanotifyObject {
    Inode {
        ino: u64,
        sdev: u32,
        handle: Option<FileHandle>,
    },
    Mount {
        mnt_id: u32,
    },
    Filesystem {
        sdev: u32,
    },
    /// Linux 6.15+
    MountNamespace {
        ino: u64,
    },
}

/// fs/timerfd.c. Times are (seconds, nanoseconds); `value` is what is left.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TimerFd {
    pub clockid: i32,
    pub ticks: Option<u64>,
    pub settime_flags: Option<u32>,
    pub value: Option<(u64, u64)>,
    pub interval: Option<(u64, u64)>,
}

/// `pidfd_show_fdinfo()`
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PidFd {
    /// In the pid namespace of the /proc that was read: 0 if the process has no number there, -1 if it is reaped.
    pub pid: i64,
    /// From that namespace inwards.
    pub nspid: Vec<i64>,
}

/// `bpf_map_show_fdinfo()`
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct BpfMap {
    /// enum bpf_map_type of linux/bpf.h
    pub map_type: u32,
    pub map_id: Option<u32>,
}

/// `bpf_prog_show_fdinfo()`
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct BpfProg {
    /// enum bpf_prog_type of linux/bpf.h
    pub prog_type: u32,
    pub prog_id: Option<u32>,
}

/// Parses one fdinfo file. Unknown keys are passed over.
pub fn parse(text: &[u8]) -> FdInfo {
    let mut info = FdInfo::default();
    for line in lines(text) {
        if read_line(&mut info, line).is_none() {
            info.bad = info.bad.saturating_add(1);
        }
    }
    info
}

/// `None` if the key is ours and the value is not understood.
fn read_line(info: &mut FdInfo, line: &[u8]) -> Option<()> {
    if let Some(rest) = line.strip_prefix(b"inotify ") {
        info.inotify.push(inotify(rest)?);
        return Some(());
    }
    if let Some(rest) = line.strip_prefix(b"fanotify ") {
        return fanotify(info, rest);
    }
    let Some((key, value)) = split_once(line, b':') else { return Some(()) };
    let value = trim(value);
    match key {
        b"pos" => set(&mut info.pos, dec(value)),
        b"flags" => set(&mut info.flags, number(value, 8)),
        b"mnt_id" => set(&mut info.mnt_id, dec(value)),
        b"ino" => set(&mut info.ino, dec(value)),
        b"lock" if value.is_empty() => Some(()),
        b"lock" => locks::line(value).map(|lock| info.locks.push(lock)),
        b"tfd" => epoll(line).map(|item| info.epoll.push(item)),
        b"sigmask" => set(&mut info.sigmask, hex(value)),
        b"tty-index" => set(&mut info.tty_index, dec(value)),
        b"scm_fds" => set(&mut info.scm_fds, dec(value)),
        b"iff" => set(&mut info.iff, Some(value.into())),
        b"eventfd-count" => set(&mut info.eventfd, hex(value).map(|count| EventFd { count, ..Default::default() })),
        b"eventfd-id" => info.eventfd.as_mut().and_then(|e| set(&mut e.id, dec(value))),
        b"eventfd-semaphore" => {
            info.eventfd.as_mut().and_then(|e| set(&mut e.semaphore, dec::<u32>(value).map(|n| n != 0)))
        }
        b"clockid" => set(&mut info.timerfd, dec(value).map(|clockid| TimerFd { clockid, ..Default::default() })),
        b"ticks" => info.timerfd.as_mut().and_then(|t| set(&mut t.ticks, dec(value))),
        b"settime flags" => info.timerfd.as_mut().and_then(|t| set(&mut t.settime_flags, number(value, 8))),
        b"it_value" => info.timerfd.as_mut().and_then(|t| set(&mut t.value, time(value))),
        b"it_interval" => info.timerfd.as_mut().and_then(|t| set(&mut t.interval, time(value))),
        b"Pid" => set(&mut info.pidfd, dec(value).map(|pid| PidFd { pid, nspid: Vec::new() })),
        b"NSpid" => {
            let nspid: Option<Vec<i64>> = fields(value).map(dec).collect();
            let pidfd = info.pidfd.as_mut()?;
            if pidfd.nspid.is_empty() {
                pidfd.nspid = nspid?;
            }
            Some(())
        }
        b"map_type" => set(&mut info.bpf_map, dec(value).map(|map_type| BpfMap { map_type, map_id: None })),
        b"map_id" => of_head(&mut info.bpf_map, |map| set(&mut map.map_id, dec(value))),
        b"prog_type" => set(&mut info.bpf_prog, dec(value).map(|prog_type| BpfProg { prog_type, prog_id: None })),
        b"prog_id" => of_head(&mut info.bpf_prog, |prog| set(&mut prog.prog_id, dec(value))),
        _ => Some(()),
    }
}

/// A line that stands below another: without that one it is of another kind of file. A BPF link tells the program that it
/// attaches (`bpf_link_show_fdinfo()`), that of an iterator its map (`bpf_iter_map_show_fdinfo()`).
fn of_head<T>(head: &mut Option<T>, read: impl FnOnce(&mut T) -> Option<()>) -> Option<()> {
    head.as_mut().map_or(Some(()), read)
}

/// Fills an empty slot; a second line of the same key changes nothing.
fn set<T>(slot: &mut Option<T>, value: Option<T>) -> Option<()> {
    let value = value?;
    slot.get_or_insert(value);
    Some(())
}

/// `(12, 34)`: seconds and nanoseconds.
fn time(value: &[u8]) -> Option<(u64, u64)> {
    let (seconds, nanoseconds) = split_once(value.strip_prefix(b"(")?.strip_suffix(b")")?, b',')?;
    Some((dec(trim(seconds))?, dec(trim(nanoseconds))?))
}

/// `key:value` words by name, for the inotify and fanotify lines.
struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    fn raw(&self, key: &[u8]) -> Option<&'a [u8]> {
        fields(self.0).find_map(|word| split_once(word, b':').filter(|(k, _)| *k == key).map(|(_, value)| value))
    }

    fn hex<T: crate::parse::text::Number>(&self, key: &[u8]) -> Option<T> {
        hex(self.raw(key)?)
    }

    /// `Some(None)`: the line has no handle.
    fn handle(&self) -> Option<Option<FileHandle>> {
        let Some(len) = self.raw(b"fhandle-bytes") else { return Some(None) };
        let handle = Bytes(from_hex(self.raw(b"f_handle")?)?);
        Some(Some(FileHandle { handle_type: self.hex(b"fhandle-type")?, len: hex(len)?, handle }))
    }
}

fn inotify(rest: &[u8]) -> Option<InotifyWatch> {
    let words = Words(rest);
    Some(InotifyWatch {
        wd: words.hex(b"wd")?,
        ino: words.hex(b"ino")?,
        sdev: words.hex(b"sdev")?,
        mask: words.hex(b"mask")?,
        handle: words.handle()?,
    })
}

fn fanotify(info: &mut FdInfo, rest: &[u8]) -> Option<()> {
    let words = Words(rest);
    if rest.starts_with(b"flags:") {
        let group = FanotifyGroup { flags: words.hex(b"flags")?, event_flags: words.hex(b"event-flags")? };
        return set(&mut info.fanotify, Some(group));
    }
    let on = if rest.starts_with(b"ino:") {
        FanotifyObject::Inode { ino: words.hex(b"ino")?, sdev: words.hex(b"sdev")?, handle: words.handle()? }
    } else if rest.starts_with(b"mnt_id:") {
        FanotifyObject::Mount { mnt_id: words.hex(b"mnt_id")? }
    } else if rest.starts_with(b"sdev:") {
        FanotifyObject::Filesystem { sdev: words.hex(b"sdev")? }
    } else {
        FanotifyObject::MountNamespace { ino: words.raw(b"mnt_ns").and_then(dec)? }
    };
    let ignored_mask = words.hex(b"ignored_mask")?;
    info.fanotify_marks.push(FanotifyMark {
        on,
        mflags: words.hex(b"mflags")?,
        mask: words.hex(b"mask")?,
        ignored_mask,
    });
    Some(())
}

/// `tfd:        6 events:       19 data:     7f1a00000006  pos:0 ino:1b10 sdev:f`: a value may follow its colon or
/// stand in the next field.
fn epoll(line: &[u8]) -> Option<EpollItem> {
    let mut words = line.split(|&b| b == b' ' || b == b'\t' || b == b':').filter(|word| !word.is_empty());
    let mut value = |key: &[u8]| words.next().filter(|word| *word == key).and_then(|_| words.next());
    let (tfd, events, data) = (dec(value(b"tfd")?)?, hex(value(b"events")?)?, hex(value(b"data")?)?);
    let target = match value(b"pos") {
        Some(pos) => Some(EpollTarget { pos: dec(pos)?, ino: hex(value(b"ino")?)?, sdev: hex(value(b"sdev")?)? }),
        None => None,
    };
    Some(EpollItem { tfd, events, data, target })
}

#[cfg(test)]
#[path = "fdinfo_tests.rs"]
mod tests;
