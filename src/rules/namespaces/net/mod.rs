//! What is in the network namespaces that CRIU dumps with the tree, and how it locks them (criu/net.c).

pub(crate) mod links;
pub(crate) mod netns;
pub(crate) mod peers;
pub(crate) mod routes;
#[cfg(test)]
mod testkit;
pub(crate) mod tun;

use crate::criu::{externals, Gate};
use crate::rules::{Ctx, Finding, Rule};
use crate::snapshot::LinkTable;

/// linux/if_arp.h
const ARPHRD_ETHER: u16 = 1;

/// A network namespace that CRIU dumps, and what its options say about the contents.
struct Dumped<'a> {
    table: &'a LinkTable,
    /// It is the root task's: the only one that `--empty-ns net` can leave out.
    root: bool,
    /// `--external net[INO]:NAME`.
    external: Gate,
    /// `--empty-ns net`.
    empty: Gate,
}

impl Dumped<'_> {
    fn finding(&self, rule: &Rule, ctx: &Ctx) -> Option<Finding> {
        let task = ctx.index.task(self.table.pid)?;
        Some(Finding::on_task(rule, task).count("netns", self.table.netns))
    }
}

/// The namespaces that `dump_namespaces()` goes into. It skips CRIU's own, and all of them if the root has no namespace of
/// its own (the scan lists none then).
fn dumped<'a>(ctx: &Ctx<'a>) -> Vec<Dumped<'a>> {
    let of_root = ctx.snap.root_task().and_then(|t| t.ns.net);
    let empty = match ctx.host.options.empty_ns {
        None => Gate::OPTION_UNKNOWN,
        Some(bits) if bits & libc::CLONE_NEWNET as u32 != 0 => Gate::Waived,
        Some(_) => Gate::InForce,
    };
    let one = |table: &'a LinkTable| Dumped {
        table,
        root: of_root == Some(table.netns),
        external: ctx.host.gate_named_external(externals::net(table.netns).as_bytes()),
        empty,
    };
    ctx.snap.links.iter().map(one).collect()
}
