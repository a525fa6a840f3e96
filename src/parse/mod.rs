//! Bytes to values: what the kernel prints about a task, and what it answers on a sock_diag socket.
//!
//! Everything here is pure (`&[u8]` in, owned values out, no I/O) and total: no input makes it panic, and a strange entry
//! costs that entry, never the table. Names stay raw ([`crate::bytes::Bytes`]).
//!
//! Why not the crate procfs (0.18): it has no fdinfo parser, panics on a mapped file named `/SYSVx`, and gives up a whole
//! file for one odd line: `maps` for a name that is not UTF-8, `status` for such a comm. It also cuts a comm in `status`
//! at its first colon and replaces bytes in that of `stat`. A tree's owner can do each of these on purpose. What procfs
//! reads well serves as the second opinion in the tests here (`procfs_tests.rs`).

pub(crate) mod capability;
pub mod cgroup;
pub mod devices;
pub mod diag;
pub mod fdinfo;
pub mod idmap;
pub mod limits;
pub mod locks;
pub mod maps;
pub mod mountinfo;
pub mod nslink;
pub(crate) mod pressure;
pub(crate) mod proc_net;
#[cfg(test)]
mod procfs_tests;
pub(crate) mod sockets;
pub mod stat;
pub mod status;
pub(crate) mod text;

/// A table, as far as it was understood.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Parsed<T> {
    /// The entries, in the order of the file.
    pub items: Vec<T>,
    /// How many lines were not understood and are missing in `items`.
    pub bad: usize,
}

// Not derived: that would ask for `T: Default`.
impl<T> Default for Parsed<T> {
    fn default() -> Self {
        Parsed { items: Vec::new(), bad: 0 }
    }
}

impl<T> Parsed<T> {
    fn push(&mut self, item: Option<T>) {
        match item {
            Some(item) => self.items.push(item),
            None => self.bad = self.bad.saturating_add(1),
        }
    }
}

/// One entry a line.
fn table<T>(text: &[u8], line: impl Fn(&[u8]) -> Option<T>) -> Parsed<T> {
    let mut parsed = Parsed::default();
    text::lines(text).for_each(|l| parsed.push(line(l)));
    parsed
}
