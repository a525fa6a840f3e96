//! Open namespace files.

use super::{Ctx, Finding, Lift, Phase, Rule, Value, When};
use crate::host::Gate;
use crate::parse::nslink::{self, LinkTarget};
use crate::snapshot::Namespaces;

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

/// Whether a process of the tree or CRIU lives in that namespace; `None`: not all of theirs are known.
fn is_collected(ctx: &Ctx, kind: &[u8], ino: u64) -> Option<bool> {
    let all = || std::iter::once(&ctx.snap.criu.ns).chain(ctx.live_tasks().map(|t| &t.ns));
    if all().any(|ns| of_kind(ns, kind) == Some(ino)) {
        return Some(true);
    }
    all().all(|ns| of_kind(ns, kind).is_some()).then_some(false)
}

pub static NSFD_OUTSIDE: Rule = Rule {
    id: "nsfd-outside",
    group: "Namespaces",
    what: "A namespace file is open and no process of the tree, nor CRIU, lives in that namespace: it is held only by \
           descriptors or bind mounts, or by processes outside.",
    says: "descriptor of {kind} namespace {ino}, in which no process of the tree lives",
    criu: "No NS ID with kid %u",
    source: "criu/namespaces.c:dump_one_ns_file",
    versions: "all",
    lifts: &[Lift::Workload("close it, or put the processes of that namespace into the tree, before the dump")],
    phase: Phase::P3,
    when: When::Early,
    check: |rule, ctx, sink| {
        for (task, file) in ctx.files().filter(|(_, f)| f.kind() == libc::S_IFREG) {
            let Some(LinkTarget::Ns { kind, ino }) = file.link.as_deref().map(nslink::parse) else { continue };
            let gate = match is_collected(ctx, &kind, ino) {
                Some(true) => continue,
                Some(false) => Gate::Stands,
                None => Gate::Unknown,
            };
            let f = Finding::on_file(rule, task, file)
                .key(format!("ns:{}:{ino}", kind.escaped()))
                .fact("kind", Value::Text(kind))
                .num("ino", i64::try_from(ino).unwrap_or(i64::MAX));
            sink.push(gate, f);
        }
    },
};
