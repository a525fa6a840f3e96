//! Values of options as CRIU has them in its memory. `None`: what is there is no such value.

use super::LockMethod;
use crate::bytes::Bytes;
use crate::criu::safe_read as mem;

/// More than any command line can hold.
pub(in crate::criu) const MAX_NODES: usize = 100_000;
/// Of one text.
const MAX_TEXT: usize = 4096;

/// An int that is true or false.
pub(crate) fn int(at: usize) -> Option<bool> {
    truth(mem::u32(at)?)
}

/// A bool.
pub(crate) fn byte(at: usize) -> Option<bool> {
    truth(mem::u8(at)?.into())
}

fn truth(value: u32) -> Option<bool> {
    match value {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

/// A state of tasks (compel/include/uapi/task-state.h: alive, dead, stopped): whether it is COMPEL_TASK_ALIVE.
pub(crate) fn is_alive(at: usize) -> Option<bool> {
    match mem::u32(at)? {
        1 => Some(true),
        2 | 3 => Some(false),
        _ => None,
    }
}

/// size_t.
pub(crate) fn size(at: usize) -> Option<u64> {
    mem::u64(at)
}

/// `char *`; NULL: not given.
pub(crate) fn text(at: usize) -> Option<Option<Bytes>> {
    match mem::word(at)? {
        0 => Some(None),
        text => Some(Some(Bytes(mem::cstr(text, MAX_TEXT)?))),
    }
}

/// `enum NETWORK_LOCK_METHOD`.
pub(crate) fn lock_method(at: usize) -> Option<LockMethod> {
    match mem::u32(at)? {
        0 => Some(LockMethod::Iptables),
        1 => Some(LockMethod::Nftables),
        2 => Some(LockMethod::Skip),
        _ => None,
    }
}

/// `enum FILE_VALIDATION_OPTIONS`: whether it is FILE_VALIDATION_FILE_SIZE.
pub(crate) fn is_file_size(at: usize) -> Option<bool> {
    Some(!truth(mem::u32(at)?)?)
}

/// CLONE_NEW* bits, of which `--empty-ns` takes CLONE_NEWNET alone.
pub(crate) fn empty_ns(at: usize) -> Option<u32> {
    mem::u32(at).filter(|bits| matches!(*bits, 0 | super::CLONE_NEWNET))
}

/// A list of `struct irmap_path_opt { struct list_head; struct irmap *ir; }`, the path at 16 of struct irmap (criu/irmap.c).
pub(crate) fn irmap_paths(head: usize) -> Option<Vec<Bytes>> {
    each(head, |node| {
        let irmap = mem::word(node.checked_add(16)?)?;
        mem::word(irmap.checked_add(16)?).and_then(|p| mem::cstr(p, MAX_TEXT))
    })
}

/// A list of `struct inherit_fd { struct list_head; char *inh_id; int inh_fd; ... }` (criu/files.c): the keys.
pub(crate) fn inherit_ids(head: usize) -> Option<Vec<Bytes>> {
    each(head, |node| mem::word(node.checked_add(16)?).and_then(|p| mem::cstr(p, MAX_TEXT)))
}

fn each(head: usize, text: impl Fn(usize) -> Option<Vec<u8>>) -> Option<Vec<Bytes>> {
    mem::list(head, MAX_NODES)?.into_iter().map(|node| text(node).map(Bytes)).collect()
}
