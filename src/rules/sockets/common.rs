//! What CRIU asks of every socket, whatever its family (criu/sockets.c).

use crate::criu::Gate;
use crate::criu::{Cap, Release};
use crate::criu_model::sockets::{Sock, Socks};
use crate::parse::sockets::family_name;
use crate::rules::{number, Ctx, Evidence, Finding, Other, Phase, Place, Remedy, Rule, Value, Versions, When};
use crate::snapshot::Index;

impl<'a> Sock<'a> {
    /// A finding about this socket, with every descriptor that refers to it.
    pub(crate) fn finding(&self, rule: &Rule, index: &Index<'a>) -> Finding {
        let mut f = Finding::on_file(rule, self.task, self.file).key(format!("socket:{}", self.ino));
        f.also = index.socket_holders(self.ino).skip(1).map(|(task, file)| Place::of(task, file)).collect();
        f.fact("ino", number(self.ino))
    }
}

impl Finding {
    /// The other end is the socket with this inode.
    pub(crate) fn peer_socket(self, ino: u32) -> Self {
        self.other(Other::Socket(u64::from(ino))).num("peer", ino)
    }
}

/// Adds to a finding about a socket of a namespace that CRIU lists why that list lacks it, if it does.
pub(crate) fn list_ends_before(
    f: Finding,
    socks: &Socks,
    s: &Sock,
    netns: u64,
    family: i32,
) -> Option<(Gate, Finding)> {
    if let Some(end) = s.unreached() {
        let f = f.term("why", "list-ends");
        return Some((Gate::InForce, f.num("record", end.ino).fact("length", number(end.length))));
    }
    if s.diag().is_some() || !socks.listed_whole(netns, family, 0) {
        return None;
    }
    // One that should be in a list with others may have come while we looked.
    let (gate, why) = match socks.lists_none(netns, family) {
        true => (Gate::InForce, "list-empty"),
        false => (Gate::FACT_UNKNOWN, "list-lacks"),
    };
    Some((gate, f.term("why", why)))
}

pub(crate) static SOCKET_FAMILY: Rule = Rule {
    id: "socket-family",
    summary: "A socket of a family CRIU cannot save: vsock, AF_ALG, CAN, XDP, Bluetooth.",
    group: "Other sockets",
    condition: "A socket of another address family than UNIX, IPv4, IPv6, netlink and packet: vsock, AF_ALG, CAN, XDP, Bluetooth, \
           RDS, TIPC, SMC, KCM, key management and so on. There is no option, and no plugin is asked: DUMP_EXT_FILE is not for \
           sockets.",
    message: "{family} socket (inode {ino})",
    criu: &["BUG! Unknown socket collected (family %d)"],
    source: "criu/sockets.c:dump_socket",
    versions: Versions::All,
    remedies: &[Remedy::Workload("close the socket before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for s in &ctx.socks.all {
            if let Some(family) = s.family().filter(|f| !supported(*f)) {
                sink.push(s.finding(rule, &ctx.index).term("family", family_name(family)));
            }
        }
    },
};

pub(crate) static SOCKET_O_PATH: Rule = Rule {
    id: "socket-o-path",
    summary: "A socket that was opened as a mere path (O_PATH).",
    group: "Other sockets",
    condition: "A socket file, or a socket through /proc/PID/fd, was opened with O_PATH. CRIU takes the descriptor for a socket, and \
           asks it for options that only a socket has.",
    message: "{what}[ {path}] opened with O_PATH, which CRIU takes for a socket",
    criu: &["Can't get 1:39 opt: Bad file descriptor"],
    source: "criu/sockets.c:dump_socket",
    versions: Versions::All,
    remedies: &[Remedy::Workload("close the descriptor before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (task, file) in ctx.files().filter(|(_, f)| f.is_socket() && f.socket().is_some_and(|s| s.o_path)) {
            // Each descriptor is one to be closed, whatever else refers to the file.
            let f = Finding::on_file(rule, task, file).key(format!("fd:{}:{}", task.pid, file.origin));
            // The link is read of a socket file only.
            let what = if file.link.is_some() { "socket file" } else { "socket" };
            sink.push(f.term("what", what).count("ino", file.attr.ino));
        }
    },
};

pub(crate) static SOCKET_EBPF_FILTER: Rule = Rule {
    id: "socket-ebpf-filter",
    summary: "A socket with an eBPF filter, which the kernel does not give back.",
    group: "Other sockets",
    condition: "A socket has an eBPF filter (SO_ATTACH_BPF), which the kernel does not give out again; CRIU can save only classic \
           filters.",
    message: "{family} socket (inode {ino}) with an eBPF filter",
    criu: &["Can't get socket filter len"],
    source: "criu/sockets.c:dump_socket_filter",
    versions: Versions::All,
    remedies: &[Remedy::Workload("let the process detach the filter (SO_DETACH_BPF), or close the socket, before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (s, family) in supported_sockets(ctx) {
            if s.fact(|f| f.filter.errno()) == Some(libc::EACCES) {
                sink.push(s.finding(rule, &ctx.index).term("family", family_name(family)));
            }
        }
    },
};

pub(crate) static SOCKET_BOUND_DEV: Rule = Rule {
    id: "socket-bound-dev",
    summary: "A socket bound to a network interface that is gone.",
    group: "Other sockets",
    condition: "A socket is bound to an interface (SO_BINDTODEVICE, or an IPv6 address with a scope), and the interface has been \
           deleted or moved to another network namespace since. UNIX sockets count, for which that means nothing.",
    message: "{family} socket (inode {ino})[ {local}] bound to an interface that is gone[ (number {index})]",
    criu: &["Can't get bound dev: No such device", "can't get ifname: No such device"],
    source: "criu/sockets.c:dump_bound_dev",
    versions: Versions::All,
    remedies: &[Remedy::Workload(
        "let the process bind it anew (SO_BINDTODEVICE, an empty name for none), or close it, before the dump",
    )],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (s, family) in supported_sockets(ctx) {
            if s.fact(|f| f.bound_device.errno()).is_some() {
                let f = s
                    .finding(rule, &ctx.index)
                    .term("family", family_name(family))
                    .fact_opt("local", s.local().filter(|a| a.port() != 0).map(Value::Addr))
                    .fact_opt("index", s.inet().map(|t| number(t.if_)));
                sink.push(f);
            }
        }
    },
};

pub(crate) static SOCKET_OPT_PASSCRED: Rule = Rule {
    id: "socket-opt-passcred",
    summary: "Any IP or packet socket, on a kernel from 6.16 on with a CRIU before 4.2.",
    group: "Other sockets",
    condition: "CRIU up to 4.1.1 asks every socket for SO_PASSCRED and SO_PASSSEC. Linux 6.16 and later answer that only for UNIX, \
           netlink and Bluetooth sockets, so no process with an IP or packet socket can be dumped.",
    message: "{family} socket (inode {ino}): CRIU asks it for SO_PASSCRED, which this kernel (6.16 or later) refuses",
    criu: &["Can't get 1:16 opt: Operation not supported"],
    source: "criu/sockets.c:dump_socket_opts",
    versions: Versions::Without(Cap::PasscredUnasked),
    remedies: &[Remedy::Release(Release::V4_2), Remedy::Workload("run a kernel before 6.16")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        if ctx.snap.kernel.passcred_refused != Some(true) {
            return;
        }
        for (s, family) in supported_sockets(ctx) {
            if ![libc::AF_UNIX, libc::AF_NETLINK].contains(&family) {
                sink.push(s.finding(rule, &ctx.index).term("family", family_name(family)));
            }
        }
    },
};

fn supported(family: i32) -> bool {
    [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK, libc::AF_PACKET].contains(&family)
}

fn supported_sockets<'c, 'a>(ctx: &'c Ctx<'a>) -> impl Iterator<Item = (&'c Sock<'a>, i32)> {
    ctx.socks.all.iter().filter_map(|s| s.family().filter(|f| supported(*f)).map(|f| (s, f)))
}

#[cfg(test)]
#[path = "common_tests.rs"]
mod tests;
