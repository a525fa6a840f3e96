//! Packet sockets (criu/sk-packet.c).

use crate::criu_model::sockets::Sock;
use crate::hash::Map;
use crate::rules::sockets::common::list_ends_before;
use crate::rules::{number, Ctx, Evidence, Finding, Phase, Remedy, Rule, Sink, Versions, When};
use std::borrow::Cow;

/// PACKET_MR_UNICAST, the last kind of membership that CRIU knows (PROMISC, ALLMULTI and MULTICAST come before it).
const LAST_KNOWN: u16 = 3;

pub(crate) static PACKET_MISSING: Rule = Rule {
    id: "packet-missing",
    summary: "A packet socket that the kernel did not list to CRIU.",
    group: "Packet sockets",
    condition: "A packet socket is not among those that CRIU has listed: the kernel cannot list them (af_packet_diag), it belongs \
           to a network namespace that CRIU does not list, or the kernel's list, for which CRIU has room in pieces of 16384 \
           bytes, ends before it: at a packet socket of that namespace, of any process, with more than some 370 memberships.",
    message: "packet socket (inode {ino})[ of network namespace {netns}]: {why?netns-unknown=not listed by sock_diag, and its network \
           namespace is not known|netns=CRIU does not list the sockets of that namespace\
           |netns-outside=perhaps no process of the tree is in that namespace|module=this kernel cannot list packet sockets\
           |list-ends=the kernel's list ends for CRIU at a record that is longer than 16384 bytes\
           |list-empty=the kernel's list is empty, its first record being too long for a first answer|list-lacks=the kernel's list lacks it}\
           [ (inode {record}: {length} bytes)]",
    criu: &["Can't find packet socket %lu", "Sockets (family 17 proto 0) are not collected"],
    source: "criu/sk-packet.c:dump_one_packet_fd",
    versions: Versions::All,
    remedies: &[
        Remedy::Workload("load the kernel module {module}"),
        Remedy::Workload("drop memberships of socket inode {record}, or close that, before the dump"),
        Remedy::Workload("close the socket before the dump"),
    ],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for s in packet_sockets(ctx).filter(|s| s.packet().is_none()) {
            let f = s.finding(rule, &ctx.index);
            let Some(netns) = s.netns() else {
                sink.push(f.term("why", "netns-unknown").doubt());
                continue;
            };
            let f = f.fact("netns", number(netns));
            match ctx.socks.collects(netns) {
                Some(false) => sink.push(f.term("why", "netns")),
                None => sink.push(f.term("why", "netns-outside").doubt()),
                Some(true) if ctx.socks.diag_missing(netns, libc::AF_PACKET, 0).is_some() => {
                    let f = f.term("module", "af_packet_diag");
                    sink.push(f.term("why", "module"));
                }
                Some(true) => {
                if let Some((gate, f)) = list_ends_before(f, &ctx.socks, s, netns, libc::AF_PACKET) {
                    sink.push_unless(gate, f);
                }
            }
            }
        }
    },
};

pub(crate) static PACKET_MCLIST: Rule = Rule {
    id: "packet-mclist",
    summary: "A packet socket that has joined a group twice, or in an unknown way.",
    group: "Packet sockets",
    condition:
        "A packet socket has joined the same group more than once, or has a membership of a kind other than multicast, \
           promiscuous, all-multicast and unicast.",
    message: "packet socket (inode {ino}): {kind} membership on interface number {interface}, joined {count} times",
    criu: &["Multiple MC membership not supported (but can be)", "Unknown mc membership type %d"],
    source: "criu/sk-packet.c:dump_mreqs",
    versions: Versions::All,
    remedies: &[Remedy::Workload("let the process drop the membership, or close the socket, before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for s in packet_sockets(ctx) {
            let memberships = s.packet().and_then(|p| p.mclist.as_deref()).unwrap_or_default();
            if let Some(m) = memberships.iter().find(|m| m.count != 1 || m.type_ > LAST_KNOWN) {
                let f = s.finding(rule, &ctx.index).term("kind", membership(m.type_)).num("interface", m.index);
                sink.push(f.num("count", m.count));
            }
        }
    },
};

/// PACKET_MR_*, linux/if_packet.h
fn membership(kind: u16) -> Cow<'static, str> {
    Cow::Borrowed(match kind {
        0 => "multicast",
        1 => "promiscuous",
        2 => "all-multicast",
        3 => "unicast",
        n => return Cow::Owned(format!("unknown (type {n})")),
    })
}

pub(crate) static PACKET_RING_UNOPENED: Rule = Rule {
    id: "packet-ring-unopened",
    summary: "The mapped ring of a packet socket whose descriptor is closed.",
    group: "Packet sockets",
    condition: "The ring of a packet socket is mapped, and neither this process nor one that CRIU dumps before it has a descriptor \
           of the socket; or what is mapped is no packet socket that CRIU has listed.",
    message: "mapping {range} of socket inode {ino}, which {why?unlisted=CRIU has not listed|no-packet=is no packet socket\
           |unopened=neither it nor a process before it has a descriptor of}",
    criu: &["Mmap-ed socket %u not open", "Can't find packet socket %u to mmap"],
    source: "criu/sk-packet.c:dump_socket_map",
    versions: Versions::All,
    remedies: &[Remedy::Workload("have the program unmap it, or keep its descriptor open, before the dump")],
    phase: Phase::AfterPages,
    when: When::Early,
    evidence: Evidence::Tree,
    find: ring_unopened,
};

fn ring_unopened(rule: &Rule, ctx: &Ctx, sink: &mut Sink) {
    let socks: Map<u64, &Sock> = ctx.socks.all.iter().map(|s| (s.ino, s)).collect();
    let mut hidden = None;
    for (at, task) in ctx.snap.tasks.iter().enumerate() {
        for m in &task.maps {
            let Some(ino) = m.file.as_ref().filter(|f| f.is_socket()).map(|f| f.attr.ino) else { continue };
            // The owner of a shared table comes first.
            let opened = ctx.index.first_holder(ino).is_some_and(|first| first <= at);
            let mut whole = true;
            let why = match socks.get(&ino) {
                Some(s) if opened && s.packet().is_some() => continue,
                Some(s) if opened && s.family() == Some(libc::AF_PACKET) => {
                    whole = s.netns().is_some_and(|ns| ctx.socks.is_answered(ns, libc::AF_PACKET));
                    "unlisted"
                }
                Some(_) if opened => "no-packet",
                _ => "unopened",
            };
            let f = Finding::on_mapping(rule, task, m.vma.start, m.vma.end)
                .key(format!("ring:{}:{ino}", task.pid))
                .fact("ino", number(ino))
                .term("why", why);
            // A descriptor that lies in a queue counts too.
            let queued =
                !opened && *hidden.get_or_insert_with(|| crate::rules::sockets::unix_queue::may_hold_descriptors(ctx));
            sink.push(if queued || !whole { f.doubt() } else { f });
        }
    }
}

pub(crate) static PACKET_RING_INHERITED: Rule = Rule {
    id: "packet-ring-inherited",
    summary: "The mapped ring of a packet socket in a process that does not have the socket open itself.",
    group: "Dumped, but not restored",
    condition: "The ring of a packet socket is mapped in a process that has no descriptor of the socket in a descriptor table of its \
           own, as in a child that has closed it; a process before it has one (else the dump is refused: packet-ring-unopened). \
           The restore maps the ring by a descriptor of the process itself.",
    message: "mapping {range} of packet socket inode {ino}, of which the process has no descriptor of its own",
    criu: &["{at the restore} No open packet socket %x by %d"],
    source: "criu/sk-packet.c:open_socket_map",
    versions: Versions::All,
    remedies: &[Remedy::Workload("have the program unmap it there, or keep its descriptor open, before the dump")],
    phase: Phase::Restore,
    when: When::Early,
    evidence: Evidence::Tree,
    find: ring_inherited,
};

fn ring_inherited(rule: &Rule, ctx: &Ctx, sink: &mut Sink) {
    let socks: Map<u64, &Sock> = ctx.socks.all.iter().map(|s| (s.ino, s)).collect();
    let mut hidden = None;
    for (at, task) in ctx.snap.tasks.iter().enumerate() {
        for m in &task.maps {
            let Some(ino) = m.file.as_ref().filter(|f| f.is_socket()).map(|f| f.attr.ino) else { continue };
            let listed = socks.get(&ino).is_some_and(|s| s.packet().is_some());
            let opened = ctx.index.first_holder(ino).is_some_and(|first| first <= at);
            let own = ctx.index.socket_holders(ino).any(|(holder, _)| holder.pid == task.pid);
            if !listed || !opened || own {
                continue;
            }
            let f = Finding::on_mapping(rule, task, m.vma.start, m.vma.end);
            let f = f.key(format!("ring:{}:{ino}", task.pid)).fact("ino", number(ino));
            // One that lies in a queue of this process's socket does as well.
            let queued = *hidden.get_or_insert_with(|| crate::rules::sockets::unix_queue::may_hold_descriptors(ctx));
            sink.push(if queued { f.doubt() } else { f });
        }
    }
}

fn packet_sockets<'c, 'a>(ctx: &'c Ctx<'a>) -> impl Iterator<Item = &'c Sock<'a>> {
    ctx.socks.all.iter().filter(|s| s.family() == Some(libc::AF_PACKET))
}
