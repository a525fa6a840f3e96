//! The kinds of moving trees, one file per group.

mod files;
mod locks;
mod memory;
mod mounts;
mod names;
mod sockets;
mod states;
mod tasks;
mod tcp;
mod threads;
mod tty;
mod unix;

pub use tasks::again;

use crate::world::World;
use std::io;

pub struct Kind {
    pub name: &'static str,
    /// What moves, one line.
    pub what: &'static str,
    /// CRIU's options.
    pub opts: &'static [&'static str],
    /// Has IP sockets, which CRIU up to 4.1.1 refuses on Linux 6.16 and later.
    pub inet: bool,
    /// Has a root directory and mount namespace of its own.
    pub rooted: bool,
    /// Stops and traces processes itself.
    pub stops: bool,
    /// What CRIU alone refuses at times, and the rule that says so.
    pub claims: &'static [Claim],
    /// Makes the processes that move, in the root of the tree.
    pub run: fn(&mut World) -> io::Result<()>,
}

/// A refusal that can be right for this kind: CRIU alone has to be seen to fail with `text`, as often.
pub struct Claim {
    pub rule: &'static str,
    pub text: &'static str,
    /// Without `rc-`: how the process that has it begins to be called.
    pub who: &'static str,
}

/// A kind that CRIU alone always dumps.
const fn kind(name: &'static str, what: &'static str, run: fn(&mut World) -> io::Result<()>) -> Kind {
    Kind { name, what, opts: &[], inet: false, rooted: false, stops: false, claims: &[], run }
}

impl Kind {
    const fn opts(self, opts: &'static [&'static str]) -> Kind {
        Kind { opts, ..self }
    }
    const fn inet(self) -> Kind {
        Kind { inet: true, ..self }
    }
    const fn rooted(self) -> Kind {
        Kind { rooted: true, ..self }
    }
    const fn stops(self) -> Kind {
        Kind { stops: true, ..self }
    }
    const fn claims(self, claims: &'static [Claim]) -> Kind {
        Kind { claims, ..self }
    }
}

const GROUPS: &[&[Kind]] = &[
    names::KINDS,
    files::KINDS,
    memory::KINDS,
    locks::KINDS,
    unix::KINDS,
    sockets::KINDS,
    tcp::KINDS,
    tasks::KINDS,
    threads::KINDS,
    states::KINDS,
    mounts::KINDS,
    tty::KINDS,
];

pub fn all() -> impl Iterator<Item = &'static Kind> {
    GROUPS.iter().flat_map(|g| g.iter())
}

pub fn find(name: &str) -> Option<&'static Kind> {
    all().find(|k| k.name == name)
}
