//! Open namespace files.

use crate::bytes::Bytes;
use crate::criu::Gate;
use crate::hash::Set;
use crate::parse::nslink::{self, LinkTarget};
use crate::rules::{Ctx, Evidence, Finding, Phase, Remedy, Rule, Value, Versions, When};
use crate::snapshot::Namespaces;
use std::collections::HashMap;

fn of_kind(ns: &Namespaces, kind: &[u8]) -> Option<u64> {
    match kind {
        b"mnt" => ns.mnt,
        b"net" => ns.net,
        b"pid" => ns.pid,
        b"ipc" => ns.ipc,
        b"uts" => ns.uts,
        b"user" => ns.user,
        b"cgroup" => ns.cgroup,
        b"time" => ns.time,
        _ => None,
    }
}

/// The namespaces of one kind in which a process of the tree or CRIU lives, and whether all of theirs are known.
struct Collected {
    inodes: Set<u64>,
    complete: bool,
}

impl Collected {
    fn of(ctx: &Ctx, kind: &[u8]) -> Collected {
        let all =
            || std::iter::once(&ctx.snap.criu.ns).chain(ctx.live_tasks().map(|t| &t.ns)).map(|ns| of_kind(ns, kind));
        Collected { inodes: all().flatten().collect(), complete: all().all(|ino| ino.is_some()) }
    }

    /// `None`: not known.
    fn has(&self, ino: u64) -> Option<bool> {
        match self.inodes.contains(&ino) {
            true => Some(true),
            false => self.complete.then_some(false),
        }
    }
}

pub(crate) static NSFD_OUTSIDE: Rule = Rule {
    id: "nsfd-outside",
    summary: "An open namespace file (as of ip netns) of a namespace that no process of the tree lives in.",
    group: "Namespaces",
    condition:
        "A namespace file is open and no process of the tree, nor CRIU, lives in that namespace: it is held only by \
           descriptors or bind mounts, or by processes outside.",
    message: "descriptor of {kind} namespace {ino}, in which no process of the tree lives",
    criu: &["No NS ID with kid %u"],
    source: "criu/namespaces.c:dump_one_ns_file",
    versions: Versions::All,
    remedies: &[Remedy::Workload("close it, or put the processes of that namespace into the tree, before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        let mut collected: HashMap<Bytes, Collected> = HashMap::new();
        for (task, file) in ctx.files().filter(|(_, f)| f.kind() == libc::S_IFREG) {
            let Some(LinkTarget::Ns { kind, ino }) = file.link.as_deref().map(nslink::parse) else { continue };
            let gate = match collected.entry(kind.clone()).or_insert_with(|| Collected::of(ctx, &kind)).has(ino) {
                Some(true) => continue,
                Some(false) => Gate::InForce,
                None => Gate::FACT_UNKNOWN,
            };
            let f = Finding::on_file(rule, task, file)
                .key(format!("ns:{}:{ino}", kind.escaped()))
                .fact("kind", Value::Text(kind))
                .count("ino", ino);
            sink.push_unless(gate, f);
        }
    },
};
