//! exe, cwd and root of a process, and the ELF class of its program, without opening any of them.

use crate::bytes::Bytes;
use crate::scan::proc::{owned, Buffers, Dir};
use crate::scan::{Seen, UncheckedList};
use crate::snapshot::{Link, OpenFile, Probe, Task, UnstattableFile};
use std::ffi::CStr;

/// Directories met so far. A directory has one name on a mount, and mostly a whole tree is in the same one.
#[derive(Default)]
pub(crate) struct Memo(Vec<Link>);

/// Beyond that the search costs more than the links.
const MAX_MEMO: usize = 16;

/// Fills in the links and, where no registers tell more, the ELF class.
pub(crate) fn collect(
    task: &mut Task,
    dir: &Dir,
    class: bool,
    memo: &mut Memo,
    b: &mut Buffers,
    log: &mut UncheckedList,
) {
    task.exe = link(dir, (c"exe", Probe::Exe), b, log);
    task.cwd = directory(dir, (c"cwd", Probe::Cwd), memo, b, log);
    task.root = directory(dir, (c"root", Probe::Root), memo, b, log);
    for (name, directory) in [(c"cwd", &task.cwd), (c"root", &task.root)] {
        let Some(link) = directory.as_ref().filter(|l| l.file.is_none() && !l.text.is_empty()) else { continue };
        // The process itself is still there, or its link would be gone, too.
        if dir.stat(name) == Seen::Gone && dir.link(name, &mut b.link).ok().is_some() {
            task.unstattable.push(UnstattableFile { fd: None, link: link.text.clone() });
        }
    }
    if class {
        program(task, dir, b, log);
    }
}

/// The ELF class of the program. The registers of a stopped thread tell the mode better.
pub(crate) fn program(task: &mut Task, dir: &Dir, b: &mut Buffers, log: &mut UncheckedList) {
    if let Some(auxv) = dir.read_or_log(c"auxv", Probe::Auxv, &mut b.text, log) {
        task.elf_class = elf_class(auxv);
    }
}

/// The name of a link below /proc/PID.
type Which = (&'static CStr, Probe);

/// A link to a directory.
fn directory(dir: &Dir, which: Which, memo: &mut Memo, b: &mut Buffers, log: &mut UncheckedList) -> Option<Link> {
    let Seen::Seen(found) = dir.stat(which.0) else { return link(dir, which, b, log) };
    let certain = found.kind() == libc::S_IFDIR && found.nlink > 0 && found.mnt_id.is_some();
    let found = Some(OpenFile::linked(found));
    if let Some(known) = memo.0.iter().find(|known| known.file == found) {
        return Some(known.clone());
    }
    let link = Link { text: text(dir, which, b, log)?, file: found };
    if certain && memo.0.len() < MAX_MEMO && !link.text.is_empty() {
        memo.0.push(link.clone());
    }
    Some(link)
}

/// One link: its text and the file behind it. A text that cannot be had (longer than a page) leaves the text empty.
fn link(dir: &Dir, which: Which, b: &mut Buffers, log: &mut UncheckedList) -> Option<Link> {
    let text = text(dir, which, b, log)?;
    let file = log.take(dir.stat(which.0), dir.pid, None, which.1).map(OpenFile::linked);
    Some(Link { text, file })
}

fn text(dir: &Dir, which: Which, b: &mut Buffers, log: &mut UncheckedList) -> Option<Bytes> {
    match dir.link(which.0, &mut b.link) {
        Seen::Seen(text) => Some(owned(text)),
        // A kernel thread has no exe, a dead process none of them.
        Seen::Gone => None,
        Seen::Denied(errno) => {
            log.deny(dir.pid, None, which.1, errno);
            Some(Bytes::default())
        }
    }
}

const AT_NULL: u64 = 0;
/// Size of an ELF program header: 56 bytes in the 64-bit class, 32 in the 32-bit one.
const AT_PHENT: u64 = 4;
/// The entry of the 32-bit vdso (arch/x86/include/asm/elf.h, ARCH_DLINFO_IA32).
const AT_SYSINFO: u64 = 32;

/// The class of the program, from the auxiliary vector the kernel made for it at exec (`create_elf_tables` in
/// fs/binfmt_elf.c): the words have the size of the class. Opening the exe could wait for the FUSE server it lies on.
///
/// On x86 a 32-bit vector without AT_SYSINFO is not distinguished from x32, which runs in 64-bit mode: not known.
fn elf_class(auxv: &[u8]) -> Option<u8> {
    let pair64 = |p: &[u8]| {
        let (key, value) = p.split_at_checked(8)?;
        Some((u64::from_ne_bytes(key.try_into().ok()?), u64::from_ne_bytes(value.try_into().ok()?)))
    };
    let pair32 = |p: &[u8]| {
        let (key, value) = p.split_at_checked(4)?;
        Some((u32::from_ne_bytes(key.try_into().ok()?).into(), u32::from_ne_bytes(value.try_into().ok()?).into()))
    };
    if value(auxv.chunks_exact(16).filter_map(pair64), AT_PHENT) == Some(56) {
        return Some(2);
    }
    let narrow = || auxv.chunks_exact(8).filter_map(pair32);
    let x86 = cfg!(target_arch = "x86_64");
    (value(narrow(), AT_PHENT) == Some(32) && (!x86 || value(narrow(), AT_SYSINFO).is_some())).then_some(1)
}

fn value(pairs: impl Iterator<Item = (u64, u64)>, wanted: u64) -> Option<u64> {
    pairs.take_while(|(key, _)| *key != AT_NULL).find(|(key, _)| *key == wanted).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_of_our_own_program() {
        let auxv = std::fs::read("/proc/self/auxv").unwrap();
        assert_eq!(elf_class(&auxv), Some(if cfg!(target_pointer_width = "64") { 2 } else { 1 }));
    }

    fn narrow(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|w| w.to_ne_bytes()).collect()
    }

    #[test]
    fn class_of_a_32_bit_program() {
        // The head of the vector of an i386 program on a 64-bit kernel.
        assert_eq!(
            elf_class(&narrow(&[32, 0xf7f0_5550, 33, 0xf7f0_5000, 16, 0x1f8b_fbff, 4, 32, 5, 9, 0, 0])),
            Some(1)
        );
        let x32 = elf_class(&narrow(&[33, 0xf7f0_5000, 16, 0x1f8b_fbff, 4, 32, 5, 9, 0, 0]));
        assert_eq!(x32, if cfg!(target_arch = "x86_64") { None } else { Some(1) });
        assert_eq!(elf_class(b""), None);
        assert_eq!(elf_class(b"\x04"), None);
    }
}
