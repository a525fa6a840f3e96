//! IPv4 and IPv6 sockets of every protocol: which of them CRIU knows, lists and can bind again (criu/sk-inet.c).

use crate::criu::{Cap, Gate};
use crate::criu_model::sockets::{module_missing, Sock};
use crate::parse::diag::InetDiag;
use crate::parse::sockets::protocol_name;
use crate::parse::sockets::state::ESTABLISHED;
use crate::parse::sockets::type_name;
use crate::rules::sockets::tcp::{accepted_by_option, local, remote};
use crate::rules::{number, Ctx, Evidence, Finding, Phase, Remedy, Rule, Sink, Value, Versions, When};
use crate::snapshot::Task;
use std::borrow::Cow;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

pub(crate) static IP_PROTO: Rule = Rule {
    id: "ip-proto",
    summary: "A socket of another protocol than TCP, UDP and ping: MPTCP (Go servers), SCTP, DCCP, L2TP, SMC.",
    group: "IP sockets",
    condition: "An IPv4 or IPv6 socket of another protocol than TCP, UDP, UDP-Lite and, from CRIU 4.2 on, ICMP and ICMPv6 ping \
           sockets: MPTCP (which servers written in Go use by default since Go 1.24), SCTP, DCCP, L2TP, SMC. Raw sockets \
           of any protocol pass. There is neither an option nor a plugin hook for it.",
    message: "{protocol} socket (inode {ino})[ {local}][ <-> {remote}]",
    criu: &["Unsupported proto %d for socket %x"],
    source: "criu/sk-inet.c:can_dump_ipproto",
    versions: Versions::Partly("ICMP up to 4.1.1"),
    remedies: &[
        Remedy::Workload("start it with GODEBUG={godebug} if it is a Go program, or else make it use plain TCP"),
        Remedy::Workload("use CRIU {since} or newer"),
        Remedy::Workload("close the socket before the dump"),
    ],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for s in ctx.socks.all.iter().filter(|s| s.is_ip()) {
            let Some(protocol) = s.ip_protocol().filter(|p| !known_protocol(ctx, *p)) else { continue };
            let gate = match s.ip_type() {
                Some(libc::SOCK_RAW) => continue,
                Some(_) => Gate::InForce,
                None if protocol == libc::IPPROTO_MPTCP => Gate::InForce,
                None => Gate::FACT_UNKNOWN,
            };
            let mut f = with_addresses(s.finding(rule, &ctx.index).term("protocol", protocol_name(protocol)), s);
            if protocol == libc::IPPROTO_MPTCP {
                f = f.term("godebug", "multipathtcp=0");
            } else if is_icmp(protocol) {
                f = f.term("since", "4.2");
            }
            sink.push_unless(gate, f);
        }
    },
};

pub(crate) static RAW_CONNECTED: Rule = Rule {
    id: "raw-connected",
    summary: "A connected raw socket, which CRIU takes for a TCP connection.",
    group: "IP sockets",
    condition: "A raw socket is connected, and the kernel can list raw sockets (raw_diag, as those of distributions can): CRIU takes \
           it for a TCP connection, and wants one of the options for those, which then do nothing to it.",
    message: "raw socket of IP protocol {protocol} (inode {ino}) connected to {remote}",
    criu: &["Connected TCP socket, consider using --tcp-established option."],
    source: "criu/sk-inet.c:can_dump_inet_sk",
    versions: Versions::All,
    remedies: &accepted_by_option(
        "let the process dissolve the association (connect to AF_UNSPEC), or close the socket, before the dump",
    ),
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let connected = |t: &&InetDiag| i32::from(t.protocol) == libc::IPPROTO_RAW && t.state == ESTABLISHED;
        let found = ctx.socks.all.iter().filter_map(|s| {
            let t = s.inet().filter(connected)?;
            // A raw socket has its protocol in place of a port.
            let f = s.finding(rule, &ctx.index).num("protocol", t.raw_protocol.map_or(t.sport, u16::from));
            Some(f.fact("remote", Value::Text(t.dst.to_string().as_str().into())))
        });
        found.for_each(|f| sink.push(f));
    },
};

pub(crate) static IP_TYPE: Rule = Rule {
    id: "ip-type",
    summary: "An IP socket of an unknown type.",
    group: "IP sockets",
    condition: "An IPv4 or IPv6 socket that is neither stream nor datagram nor raw.",
    message: "{type} IP socket (inode {ino})",
    criu: &["Can't dump %d inet socket %x. Only stream, dgram and raw are supported."],
    source: "criu/sk-inet.c:can_dump_inet_sk",
    versions: Versions::All,
    remedies: &[Remedy::Workload("close the socket before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for s in ctx.socks.all.iter().filter(|s| s.is_ip()) {
            // CRIU looks at the protocol first, and one that it does not know is reported by ip-proto.
            let known = s.ip_protocol().is_none_or(|p| known_protocol(ctx, p));
            let kind = s.ip_type().filter(|k| ![libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW].contains(k));
            if let Some(kind) = kind.filter(|_| known) {
                sink.push(s.finding(rule, &ctx.index).term("type", type_name(kind)));
            }
        }
    },
};

pub(crate) static IP_NOT_COLLECTED: Rule = Rule {
    id: "ip-not-collected",
    summary: "Sockets that this kernel cannot list, because a module of sock_diag is missing.",
    group: "IP sockets",
    condition: "The kernel cannot list the sockets of a protocol (tcp_diag, udp_diag, inet_diag, af_packet_diag, unix_diag \
           not built or not loaded). When a network namespace is dumped with the tree this ends the dump for any protocol but \
           raw, without a word why; otherwise only when such a socket is open. Ping sockets need no list, and of netlink CRIU \
           goes on without (but for the EINVAL of old kernels). UDP-Lite is gone from the kernel in 7.1, which CRIU 4.2.1 knows \
           and earlier ones do not.",
    message: "this kernel cannot list {protocol} sockets (sock_diag: error {errno})[, and network namespace {netns} is dumped]\
           [; socket inode {ino} is one]",
    criu: &["Sockets (family %d proto %d) are not collected", "{in a dumped network namespace: nothing}"],
    source: "criu/sockets.c:lookup_socket, collect_sockets",
    versions: Versions::All,
    remedies: &[Remedy::Workload("load the kernel module that lists {protocol} sockets: {module}")],
    phase: Phase::Collecting,
    when: When::Early,
    evidence: Evidence::Tree,
    find: not_collected,
};

pub(crate) static IP_NETNS_EXTERNAL: Rule = Rule {
    id: "ip-netns-external",
    summary: "A socket of a network namespace that no process of the tree is in.",
    group: "IP sockets",
    condition: "The root process has a network namespace of its own, and an IPv4, IPv6 or netlink socket belongs to one that neither \
           a process of the tree nor CRIU is in.",
    message: "{family} socket (inode {ino}) of network namespace {netns}, which no process of the tree is in",
    criu: &["Unable to dump a socket from an external network namespace"],
    source: "criu/net.c:get_socket_ns",
    versions: Versions::All,
    remedies: &[Remedy::Workload("close the socket before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Tree,
    find: |rule, ctx, sink| {
        let gate = match ctx.snap.root_shares(|ns| ns.net) {
            Some(true) => return,
            Some(false) => Gate::InForce,
            None => Gate::FACT_UNKNOWN,
        };
        for s in ctx.socks.all.iter().filter(|s| s.diag().is_none()) {
            let family = match s.family() {
                Some(libc::AF_INET) => "IPv4",
                Some(libc::AF_INET6) => "IPv6",
                Some(libc::AF_NETLINK) => "netlink",
                _ => continue,
            };
            let Some(netns) = s.netns() else { continue };
            let gate = match ctx.socks.knows(netns) {
                Some(true) => continue,
                Some(false) => gate,
                None => Gate::FACT_UNKNOWN,
            };
            sink.push_unless(gate, s.finding(rule, &ctx.index).term("family", family).fact("netns", number(netns)));
        }
    },
};

pub(crate) static IP6_NO_SCOPE_DEV: Rule = Rule {
    id: "ip6-no-scope-dev",
    summary: "A socket bound to a link-local IPv6 address (fe80::) without an interface.",
    group: "IP sockets",
    condition: "An IPv6 socket is bound to a link-local address (fe80::/10) and a port, but to no interface: restore could not bind \
           it again. (CRIU's test for multicast addresses never fires.)",
    message: "IPv6 socket (inode {ino}) bound to {local}, a link-local address, without an interface",
    criu: &["couldn't find ifname for %d, can't bind"],
    source: "criu/sk-inet.c:do_dump_one_inet_fd, needs_scope_id",
    versions: Versions::All,
    remedies: &[Remedy::Workload("bind the socket to its interface (SO_BINDTODEVICE), or close it, before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for s in ctx.socks.all.iter().filter(|s| s.has_device() == Some(false)) {
            let Some(local) = s.local().filter(|a| a.port() != 0) else { continue };
            if matches!(local.ip(), IpAddr::V6(src) if is_link_local(src)) {
                sink.push(s.finding(rule, &ctx.index).fact("local", Value::Addr(local)));
            }
        }
    },
};

fn is_icmp(protocol: i32) -> bool {
    matches!(protocol, libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6)
}

fn known_protocol(ctx: &Ctx, protocol: i32) -> bool {
    match protocol {
        libc::IPPROTO_IP | libc::IPPROTO_TCP | libc::IPPROTO_UDP | libc::IPPROTO_UDPLITE => true,
        p if is_icmp(p) => ctx.host.has(Cap::IcmpSockets),
        _ => false,
    }
}

fn with_addresses(f: Finding, s: &Sock) -> Finding {
    let t = s.inet();
    f.fact_opt("local", t.filter(|t| t.sport != 0).map(local))
        .fact_opt("remote", t.filter(|t| t.dport != 0).map(remote))
}

fn is_link_local(ip: Ipv6Addr) -> bool {
    let [first, ..] = ip.segments();
    first & 0xffc0 == 0xfe80
}

fn not_collected(rule: &Rule, ctx: &Ctx, sink: &mut Sink) {
    let criu = ctx.snap.criu.ns.net;
    let first: HashMap<u64, &Task> =
        ctx.snap.tasks.iter().rev().filter(|t| !t.is_zombie()).filter_map(|t| Some((t.ns.net?, t))).collect();
    // A dumped namespace: every kind that CRIU asks for has to be there.
    for table in ctx.snap.sockets.iter().filter(|t| criu.is_some() && Some(t.netns) != criu) {
        if ctx.socks.collects(table.netns) != Some(true) {
            continue;
        }
        let Some(task) = first.get(&table.netns).copied() else { continue };
        for failed in table.failed.iter().filter(|f| module_missing(f)) {
            let (family, protocol) = (i32::from(failed.0), i32::from(failed.1));
            let Some(gate) = required(ctx, family, protocol) else { continue };
            let f = Finding::on_task(rule, task)
                .key(format!("diag:{}:{family}:{protocol}", table.netns))
                .fact("netns", number(table.netns));
            sink.push_unless(gate, list(f, family, protocol, failed.2));
        }
    }
    // CRIU's own namespace: only what is open counts.
    for s in &ctx.socks.all {
        let Some(netns) = s.netns().filter(|ns| s.diag().is_none() && Some(*ns) == criu) else { continue };
        if ctx.socks.collects(netns) != Some(true) || s.ip_type() == Some(libc::SOCK_RAW) {
            continue;
        }
        let (family, protocol) = match s.family() {
            Some(family @ (libc::AF_INET | libc::AF_INET6)) => match s.ip_protocol() {
                Some(p @ (libc::IPPROTO_TCP | libc::IPPROTO_UDP | libc::IPPROTO_UDPLITE)) => (family, p),
                _ => continue,
            },
            Some(libc::AF_NETLINK) => (libc::AF_NETLINK, 0),
            _ => continue,
        };
        if let Some(errno) = ctx.socks.diag_missing(netns, family, protocol) {
            sink.push(list(s.finding(rule, &ctx.index), family, protocol, errno));
        }
    }
}

/// Whether CRIU asks for this list in a namespace that it dumps and fails without it; `None`: it does not.
fn required(ctx: &Ctx, family: i32, protocol: i32) -> Option<Gate> {
    match (family, protocol) {
        (libc::AF_UNIX | libc::AF_PACKET | libc::AF_NETLINK, _) => Some(Gate::InForce),
        (libc::AF_INET | libc::AF_INET6, libc::IPPROTO_TCP | libc::IPPROTO_UDP) => Some(Gate::InForce),
        (libc::AF_INET | libc::AF_INET6, libc::IPPROTO_UDPLITE) if ctx.host.has(Cap::NoUdpLite) => None,
        // 4.2 does, 4.2.1 does not.
        (libc::AF_INET | libc::AF_INET6, libc::IPPROTO_UDPLITE) if ctx.host.has(Cap::IcmpSockets) => {
            Some(Gate::FACT_UNKNOWN)
        }
        (libc::AF_INET | libc::AF_INET6, libc::IPPROTO_UDPLITE) => Some(Gate::InForce),
        _ => None,
    }
}

fn list(f: Finding, family: i32, protocol: i32, errno: i32) -> Finding {
    let (name, module) = match family {
        libc::AF_UNIX => (Cow::Borrowed("UNIX"), "unix_diag"),
        libc::AF_PACKET => (Cow::Borrowed("packet"), "af_packet_diag"),
        libc::AF_NETLINK => (Cow::Borrowed("netlink"), "netlink_diag"),
        _ if protocol == libc::IPPROTO_TCP => (Cow::Borrowed("TCP"), "tcp_diag"),
        _ => (protocol_name(protocol), "udp_diag"),
    };
    f.term("protocol", name).term("module", module).num("errno", errno)
}

#[cfg(test)]
#[path = "ip_tests.rs"]
mod tests;
