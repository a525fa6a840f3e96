//! Packet sockets (criu/sk-packet.c).

use super::sock::{number, Sock};
use super::{Ctx, Lift, Phase, Rule, When};
use crate::host::Gate;

/// PACKET_MR_UNICAST, the last kind of membership that CRIU knows (PROMISC, ALLMULTI and MULTICAST come before it).
const LAST_KNOWN: u16 = 3;

pub static MISSING: Rule = Rule {
    id: "packet-missing",
    group: "Packet sockets",
    what: "A packet socket is not among those that CRIU has listed: the kernel cannot list them (af_packet_diag), or it belongs \
           to a network namespace that CRIU does not list.",
    says: "packet socket (inode {ino})[ of network namespace {netns}]: {why}",
    criu: "Can't find packet socket %lu / Sockets (family 17 proto 0) are not collected",
    source: "criu/sk-packet.c:dump_one_packet_fd",
    versions: "all",
    lifts: &[Lift::Workload("close the socket before the dump, or load the kernel module af_packet_diag if it is missing")],
    phase: Phase::P3,
    when: When::Early,
    check: |rule, ctx, sink| {
        for s in packet_sockets(ctx).filter(|s| s.packet().is_none()) {
            let f = s.finding(rule, &ctx.index);
            let Some(netns) = s.netns() else {
                sink.push(Gate::Unknown, f.term("why", "not listed by sock_diag, and its network namespace is not known"));
                continue;
            };
            let f = f.fact("netns", number(netns));
            match ctx.socks.collects(netns) {
                Some(false) => sink.push(Gate::Stands, f.term("why", "CRIU does not list the sockets of that namespace")),
                None => sink.push(Gate::Unknown, f.term("why", "perhaps no process of the tree is in that namespace")),
                Some(true) if ctx.socks.diag_missing(netns, libc::AF_PACKET, 0).is_some() => {
                    sink.push(Gate::Stands, f.term("why", "this kernel cannot list packet sockets (af_packet_diag)"));
                }
                Some(true) => {}
            }
        }
    },
};

pub static MCLIST: Rule = Rule {
    id: "packet-mclist",
    group: "Packet sockets",
    what:
        "A packet socket has joined the same group more than once, or has a membership of a kind other than multicast, \
           promiscuous, all-multicast and unicast.",
    says: "packet socket (inode {ino}) with a membership of type {type} on interface {interface}, joined {count} times",
    criu: "Multiple MC membership not supported (but can be) / Unknown mc membership type %d",
    source: "criu/sk-packet.c:dump_mreqs",
    versions: "all",
    lifts: &[Lift::Workload("let the process drop the membership, or close the socket, before the dump")],
    phase: Phase::P3,
    when: When::Early,
    check: |rule, ctx, sink| {
        for s in packet_sockets(ctx) {
            let memberships = s.packet().and_then(|p| p.mclist.as_deref()).unwrap_or_default();
            if let Some(m) = memberships.iter().find(|m| m.count != 1 || m.type_ > LAST_KNOWN) {
                let f = s.finding(rule, &ctx.index).num("type", m.type_).num("interface", m.index);
                sink.push(Gate::Stands, f.num("count", m.count));
            }
        }
    },
};

fn packet_sockets<'c, 'a>(ctx: &'c Ctx<'a>) -> impl Iterator<Item = &'c Sock<'a>> {
    ctx.socks.all.iter().filter(|s| s.family() == Some(libc::AF_PACKET))
}
