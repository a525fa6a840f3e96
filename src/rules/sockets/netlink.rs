//! Netlink sockets (criu/sk-netlink.c).

use crate::criu_model::sockets::Sock;
use crate::parse::sockets::netlink_protocol_name;
use crate::rules::{number, Ctx, Evidence, Finding, Phase, Remedy, Rule, Versions, When};
use std::borrow::Cow;

pub(crate) static NETLINK_DATA: Rule = Rule {
    id: "netlink-data",
    summary: "A netlink socket with unread messages of the kernel.",
    group: "Netlink sockets",
    condition: "A netlink socket has something to read: an answer, a multicast message or an error. CRIU saves no netlink queue. \
           Any event of the kernel may fill it again, also one that the dump itself causes.",
    message: "netlink {protocol} socket (inode {ino}) with unread data[, multicast groups: {groups}]",
    criu: &["The socket has data to read"],
    source: "criu/sk-netlink.c:can_dump_netlink_sk",
    versions: Versions::All,
    remedies: &[Remedy::Workload("let the process read its netlink socket, or close it, before the dump")],
    phase: Phase::BeforePages,
    when: When::Volatile,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for s in netlink_sockets(ctx) {
            let listed = s.netlink().and_then(|n| n.rmem).map(|bytes| bytes > 0);
            if s.fact(|f| f.readable).or(listed) == Some(true) {
                sink.push(finding(rule, ctx, s));
            }
        }
    },
};

pub(crate) static NETLINK_GROUPS32: Rule = Rule {
    id: "netlink-groups32",
    summary: "A netlink socket in a multicast group above 32.",
    group: "Netlink sockets",
    condition: "A netlink socket is in a multicast group above 32, or was in one, or its protocol has more than 64 groups: CRIU \
           takes the bit map of the socket's groups without a last word of zeros and has room for one word.",
    message: "netlink {protocol} socket (inode {ino})[, multicast groups: {groups}], room for {room} groups: CRIU saves no more \
           than 32",
    criu: &["The netlink socket 0x%x has more than 32 groups"],
    source: "criu/sk-netlink.c:dump_one_netlink_fd",
    versions: Versions::All,
    remedies: &[Remedy::Workload("close the socket before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for s in netlink_sockets(ctx) {
            let Some(groups) = s.netlink().and_then(|n| n.groups.as_deref()) else { continue };
            if too_many(groups) {
                let room = number(groups.len().saturating_mul(32));
                sink.push(finding(rule, ctx, s).fact("room", room));
            }
        }
    },
};

pub(crate) static NETLINK_GROUP_NO_PORT: Rule = Rule {
    id: "netlink-group-no-port",
    summary: "A netlink socket in a multicast group that has no port.",
    group: "Netlink sockets",
    condition: "A netlink socket is in a multicast group, or was in one, but is not bound to a port.",
    message: "netlink {protocol} socket (inode {ino})[, multicast groups: {groups}], without a port",
    criu: &["The netlink socket 0x%x is bound to groups but not to portid"],
    source: "criu/sk-netlink.c:dump_one_netlink_fd",
    versions: Versions::All,
    remedies: &[Remedy::Workload("let the process bind() the socket, or close it, before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for s in netlink_sockets(ctx) {
            let Some(n) = s.netlink().filter(|n| n.portid == 0) else { continue };
            if n.groups.as_deref().is_some_and(|g| !too_many(g)) {
                sink.push(finding(rule, ctx, s));
            }
        }
    },
};

fn netlink_sockets<'c, 'a>(ctx: &'c Ctx<'a>) -> impl Iterator<Item = &'c Sock<'a>> {
    ctx.socks.all.iter().filter(|s| s.family() == Some(libc::AF_NETLINK))
}

/// More than one word remains once a last word of zeros is dropped.
fn too_many(groups: &[u32]) -> bool {
    match groups {
        [rest @ .., 0] => rest.len() > 1,
        all => all.len() > 1,
    }
}

fn finding<'a>(rule: &Rule, ctx: &Ctx<'a>, s: &Sock<'a>) -> Finding {
    let protocol = s.netlink().map(|n| i32::from(n.protocol)).or_else(|| s.fact(|f| f.protocol));
    let f = s
        .finding(rule, &ctx.index)
        .term("protocol", protocol.map_or(Cow::Borrowed("protocol ?"), netlink_protocol_name));
    match s.netlink().and_then(|n| n.groups.as_deref()).map(numbers).filter(|g| !g.is_empty()) {
        Some(groups) => f.term("groups", groups),
        None => f,
    }
}

/// `1, 5, 33`
fn numbers(groups: &[u32]) -> String {
    let in_word = |(at, word): (usize, &u32)| {
        let word = *word;
        (0..32usize).filter(move |bit| word >> bit & 1 == 1).map(move |bit| (at * 32 + bit + 1).to_string())
    };
    groups.iter().enumerate().flat_map(in_word).collect::<Vec<_>>().join(", ")
}
