//! Copies out of (and into) the memory of the process we live in that answer with `None` where a wrong address would
//! otherwise be a SIGSEGV in CRIU.
//!
//! CRIU's structures are read by offsets that may be wrong for an unknown build. `process_vm_readv` on ourselves
//! copies in the kernel and answers EFAULT; a kernel without it (CONFIG_CROSS_MEMORY_ATTACH) leaves everything unknown.

use nix::sys::uio::{process_vm_readv, process_vm_writev, RemoteIoVec};
use nix::unistd::Pid;
use std::io::{IoSlice, IoSliceMut};

const PAGE: usize = 4096;

/// Fills the buffer from our own memory; `None` unless all of it could be read.
pub(crate) fn read(addr: usize, buf: &mut [u8]) -> Option<()> {
    let len = buf.len();
    let remote = [RemoteIoVec { base: addr, len }];
    let got = process_vm_readv(Pid::this(), &mut [IoSliceMut::new(buf)], &remote).ok()?;
    (got == len).then_some(())
}

/// Writes to our own memory where its protection allows it, all or nothing as far as it does not cross a page.
pub(crate) fn write(addr: usize, bytes: &[u8]) -> Option<()> {
    let remote = [RemoteIoVec { base: addr, len: bytes.len() }];
    let put = process_vm_writev(Pid::this(), &[IoSlice::new(bytes)], &remote).ok()?;
    (put == bytes.len()).then_some(())
}

/// N bytes.
pub(crate) fn array<const N: usize>(addr: usize) -> Option<[u8; N]> {
    let mut buf = [0; N];
    read(addr, &mut buf)?;
    Some(buf)
}

pub(crate) fn u8(addr: usize) -> Option<u8> {
    array(addr).map(u8::from_ne_bytes)
}

pub(crate) fn u32(addr: usize) -> Option<u32> {
    array(addr).map(u32::from_ne_bytes)
}

pub(crate) fn i32(addr: usize) -> Option<i32> {
    array(addr).map(i32::from_ne_bytes)
}

pub(crate) fn u64(addr: usize) -> Option<u64> {
    array(addr).map(u64::from_ne_bytes)
}

/// A pointer or size_t.
pub(crate) fn word(addr: usize) -> Option<usize> {
    array(addr).map(usize::from_ne_bytes)
}

/// A terminated string of less than `max` bytes, without its terminator.
pub(crate) fn cstr(addr: usize, max: usize) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut at = addr;
    if addr == 0 {
        return None;
    }
    while out.len() < max {
        // Never over a page boundary: what follows the string may not be mapped.
        let mut buf = vec![0; (PAGE - at % PAGE).min(256).min(max - out.len())];
        read(at, &mut buf)?;
        if let Some((text, _)) = buf.iter().position(|b| *b == 0).and_then(|end| buf.split_at_checked(end)) {
            out.extend_from_slice(text);
            return Some(out);
        }
        at = at.checked_add(buf.len())?;
        out.append(&mut buf);
    }
    None
}

/// The nodes of a `struct list_head` ring, first to last, without the head. CRIU's has `prev` before `next`
/// (include/common/list.h). `None`: it is not a ring (a back pointer is wrong, an address cannot be read, it has more
/// than `max` nodes).
pub(crate) fn list(head: usize, max: usize) -> Option<Vec<usize>> {
    let next = |node: usize| word(node.checked_add(8)?);
    let mut nodes = Vec::new();
    let mut before = head;
    let mut at = next(head)?;
    while at != head {
        if nodes.len() >= max || word(at)? != before {
            return None;
        }
        nodes.push(at);
        before = at;
        at = next(at)?;
    }
    (word(head)? == before).then_some(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_there_and_survives_what_is_not() {
        let value = 0x1122_3344_u32;
        assert_eq!(u32(&raw const value as usize), Some(value));
        for nowhere in [0, 8, 4095, usize::MAX, usize::MAX - 3, 0xffff_8000_0000_0000] {
            assert_eq!(u32(nowhere), None, "{nowhere:#x}");
            assert_eq!(cstr(nowhere, 100), None, "{nowhere:#x}");
            assert_eq!(list(nowhere, 100), None, "{nowhere:#x}");
        }
    }

    #[test]
    fn strings_end_at_their_terminator_or_not_at_all() {
        let text = [b"abc".as_slice(), &[0], &[b'x'; 600], &[0]].concat();
        let at = text.as_ptr() as usize;
        assert_eq!(cstr(at, 10).as_deref(), Some(b"abc".as_slice()));
        assert_eq!(cstr(at + 4, 1000), Some(vec![b'x'; 600]));
        assert_eq!(cstr(at + 4, 600), None);
    }

    #[test]
    fn a_ring_is_a_ring_in_both_directions() {
        let mut nodes = [[0_usize; 2]; 3];
        let at: Vec<usize> = (0..3).map(|i| nodes.as_ptr() as usize + i * 16).collect();
        for (i, node) in nodes.iter_mut().enumerate() {
            *node = [at[(i + 2) % 3], at[(i + 1) % 3]];
        }
        assert_eq!(list(at[0], 10), Some(vec![at[1], at[2]]));
        assert_eq!(list(at[0], 1), None);
        nodes[2][0] = at[0];
        assert_eq!(list(std::hint::black_box(&nodes).as_ptr() as usize, 10), None);
    }

    #[test]
    fn writes_only_where_it_may() {
        let mut word = 1_u64;
        assert_eq!(write(&raw mut word as usize, &2_u64.to_ne_bytes()), Some(()));
        assert_eq!(std::hint::black_box(word), 2);
        static CONSTANT: u64 = 7;
        assert_eq!(write(&raw const CONSTANT as usize, &2_u64.to_ne_bytes()), None);
        assert_eq!(std::hint::black_box(&raw const CONSTANT), &raw const CONSTANT);
    }
}
