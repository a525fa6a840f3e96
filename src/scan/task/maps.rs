//! The mappings of a process. maps costs as much as there are mappings; smaps walks the page tables and costs as much as
//! there is memory, so it is read only for a process with a mapping whose VmFlags decide something.

use crate::bytes::Bytes;
use crate::parse::maps::{self, Vma};
use crate::parse::Parsed;
use crate::scan::kcmp::{Kind, Sharers};
use crate::scan::proc::{Buffers, Dir};
use crate::scan::{sys, Seen, UncheckedList};
use crate::snapshot::{AioHead, Mapping, OpenFile, Probe};
use nix::errno::Errno;
use nix::sys::uio::{process_vm_readv, RemoteIoVec};
use std::collections::HashMap;
use std::ffi::CString;
use std::io::IoSliceMut;

/// `sizeof(struct aio_ring)` (fs/aio.c).
const AIO_HEAD: usize = 32;

/// A mapped file as maps names it, in one mount namespace.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    mnt_ns: Option<u64>,
    dev: (u32, u32),
    ino: u64,
    path: Bytes,
}

/// Mapped files met so far: a library is mapped in several pieces by every process of the tree, and asked about once.
struct Files(HashMap<Key, OpenFile>);

/// What the look has learned from the processes before.
pub(crate) struct Memo {
    files: Files,
    /// Those with a long table. A short one is read sooner than it is compared.
    long: Sharers,
}

impl Default for Memo {
    fn default() -> Self {
        Memo { files: Files(HashMap::new()), long: Sharers::of(Kind::Vm) }
    }
}

/// The mappings of a process.
pub(crate) enum Found {
    /// In address order.
    PseudoFsIds(Vec<Mapping>),
    /// Those of an earlier process, whose address space it shares: not read again.
    Of(i32),
}

pub(crate) fn collect(
    dir: &Dir,
    mnt_ns: Option<u64>,
    memo: &mut Memo,
    b: &mut Buffers,
    log: &mut UncheckedList,
) -> Found {
    let mut of = None;
    let read = dir.read_if(c"maps", &mut b.text, || {
        // Who cannot be compared is read.
        of = log.take(memo.long.meet(dir.pid), dir.pid, None, Probe::Kcmp).flatten();
        of.is_none()
    });
    let text = log.take(read, dir.pid, None, Probe::Maps).flatten();
    match (of, text) {
        (Some(of), _) => Found::Of(of),
        (None, Some(text)) => Found::PseudoFsIds(mappings(dir, maps::parse(text), mnt_ns, &mut memo.files, b, log)),
        (None, None) => Found::PseudoFsIds(Vec::new()),
    }
}

fn mappings(
    dir: &Dir,
    table: Parsed<Vma>,
    mnt_ns: Option<u64>,
    files: &mut Files,
    b: &mut Buffers,
    log: &mut UncheckedList,
) -> Vec<Mapping> {
    if table.bad > 0 {
        log.deny(dir.pid, None, Probe::Maps, 0);
    }
    let mut maps: Vec<Mapping> = table.items.into_iter().map(|vma| Mapping::new(vma, None)).collect();
    stat_files(dir, &mut maps, mnt_ns, files, log);
    for m in maps.iter_mut().filter(|m| m.is_aio_ring()) {
        m.aio_head = log.take(aio_head(dir.pid, m.vma.start).into(), dir.pid, None, Probe::ProcessVmReadv).flatten();
    }
    if maps.iter().any(flags_decide) {
        add_flags(dir, &mut maps, b, log);
    }
    maps
}

/// Whether a file is mapped: the kernel prints device and inode of vm_file, zeros without one.
fn has_file(vma: &Vma) -> bool {
    (vma.major, vma.minor, vma.ino) != (0, 0, 0)
}

/// Follows the map_files links with statx, which opens nothing.
fn stat_files(dir: &Dir, maps: &mut [Mapping], mnt_ns: Option<u64>, known: &mut Files, log: &mut UncheckedList) {
    let mut map_files = None;
    for Mapping { vma, file, .. } in maps.iter_mut().filter(|m| has_file(&m.vma)) {
        let key = Key { mnt_ns, dev: (vma.major, vma.minor), ino: vma.ino, path: vma.path.clone() };
        if let Some(known) = known.0.get(&key) {
            *file = Some(known.clone());
            continue;
        }
        let open = || log.take(dir.dir(c"map_files"), dir.pid, None, Probe::MapFiles);
        let Some(map_files) = map_files.get_or_insert_with(open).as_ref() else { return };
        let Ok(name) = CString::new(format!("{:x}-{:x}", vma.start, vma.end)) else { continue };
        match map_files.stat(&name) {
            Seen::Seen(found) => {
                let found = OpenFile::linked(found);
                known.0.insert(key, found.clone());
                *file = Some(found);
            }
            Seen::Gone => {}
            Seen::Denied(errno) => {
                log.deny(dir.pid, None, Probe::MapFiles, errno);
                // Without CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE none can be followed (`proc_map_files_get_link`).
                if errno == libc::EPERM {
                    return;
                }
            }
        }
    }
}

/// What stands at the beginning of a ring. Its pages are the kernel's and always there: no other process is waited for.
fn aio_head(pid: i32, at: u64) -> nix::Result<Option<AioHead>> {
    let mut bytes = [0u8; AIO_HEAD];
    let from = RemoteIoVec { base: usize::try_from(at).map_err(|_| Errno::EFAULT)?, len: AIO_HEAD };
    let pid = nix::unistd::Pid::from_raw(pid);
    // EFAULT: protected or not there any more.
    let read = sys::answer(process_vm_readv(pid, &mut [IoSliceMut::new(&mut bytes)], &[from]), &[Errno::EFAULT])?;
    if read != Ok(AIO_HEAD) {
        return Ok(None);
    }
    let word = |i: usize| bytes.get(i..)?.first_chunk().map(|w| u32::from_ne_bytes(*w));
    // id, nr, head, tail, magic, compat_features, incompat_features, header_length
    let head = || {
        Some(AioHead {
            nr: word(4)?,
            magic: word(16)?,
            compat: word(20)?,
            incompat: word(24)?,
            header_length: word(28)?,
        })
    };
    Ok(head())
}

/// Whether `io` or `pf` in the VmFlags of this mapping could make a difference (`vma_list_add`, criu/proc_parse.c): it is
/// no ordinary memory, no ordinary file, and nothing the kernel puts into every process.
fn flags_decide(m: &Mapping) -> bool {
    let path = m.vma.path.0.as_slice();
    match &m.file {
        Some(file) if file.kind() == libc::S_IFREG => {
            // Registers of devices are mapped through regular files there.
            path.starts_with(b"/sys/") || path.starts_with(b"/proc/")
        }
        // /dev/zero
        Some(file) => !(file.is_chrdev() && (file.attr.rdev.major, file.attr.rdev.minor) == (1, 5)),
        // Not openable: what lies on a device of major 0 may be anything.
        None if has_file(&m.vma) => m.vma.major == 0,
        None => path.first() == Some(&b'[') && !ordinary_name(path),
    }
}

/// Names of mappings without a file whose flags are known without looking (`arch_vma_name`, `get_vma_name`).
fn ordinary_name(path: &[u8]) -> bool {
    const NAMES: [&[u8]; 7] =
        [b"[heap]", b"[stack]", b"[vdso]", b"[vvar]", b"[vvar_vclock]", b"[vsyscall]", b"[uprobes]"];
    NAMES.contains(&path)
        || path.starts_with(b"[anon:")
        || path.starts_with(b"[anon_shmem:")
        || path.starts_with(b"[stack:")
}

/// Reads smaps and gives every mapping that is still there its VmFlags.
fn add_flags(dir: &Dir, maps: &mut [Mapping], b: &mut Buffers, log: &mut UncheckedList) {
    let Some(text) = dir.read_or_log(c"smaps", Probe::Smaps, &mut b.text, log) else { return };
    let mut flags: HashMap<(u64, u64), _> =
        maps::parse(text).items.into_iter().map(|vma| ((vma.start, vma.end), vma.flags)).collect();
    for m in maps {
        m.vma.flags = flags.remove(&(m.vma.start, m.vma.end)).flatten();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::FileAttr;

    fn mapping(line: &[u8], file: Option<OpenFile>) -> Mapping {
        Mapping::new(maps::line_of_maps(line).unwrap(), file)
    }

    #[test]
    fn smaps_is_read_only_where_flags_decide() {
        let file = |mode, rdev| Some(OpenFile::linked(FileAttr { mode, rdev, ..FileAttr::default() }));
        let dev = |major, minor| crate::snapshot::Dev { major, minor };
        for (line, file, decides) in [
            (&b"1000-2000 rw-p 0 00:00 0"[..], None, false),
            (b"1000-2000 rw-p 0 00:00 0 [heap]", None, false),
            (b"1000-2000 rw-p 0 00:00 0 [anon: a b ]", None, false),
            (b"1000-2000 r--p 0 00:00 0 [vvar]", None, false),
            (b"1000-2000 r--p 0 00:00 0 [new thing]", None, true),
            (b"1000-2000 r-xp 0 fe:00 7 /lib/x.so", file(libc::S_IFREG, dev(0, 0)), false),
            (b"1000-2000 r-xp 0 fe:00 7 /lib/x.so", None, false),
            (b"1000-2000 r-xp 0 00:1b 7 /lib/x.so", None, true),
            (b"1000-2000 rw-s 0 00:06 7 /dev/kvm", file(libc::S_IFCHR, dev(10, 232)), true),
            (b"1000-2000 rw-p 0 00:06 7 /dev/zero", file(libc::S_IFCHR, dev(1, 5)), false),
            (b"1000-2000 rw-s 0 00:10 7 anon_inode:[io_uring]", file(0, dev(0, 0)), true),
            (b"1000-2000 rw-s 0 00:15 7 /sys/devices/pci0/resource0", file(libc::S_IFREG, dev(0, 0)), true),
        ] {
            assert_eq!(flags_decide(&mapping(line, file)), decides, "{}", line.escape_ascii());
        }
    }
}
