//! UDP and UDP-Lite (criu/sk-inet.c:do_dump_one_inet_fd).

use crate::rules::sockets::tcp::local;
use crate::rules::{Evidence, Phase, Remedy, Rule, Versions, When};

pub(crate) static UDP_CORKED: Rule = Rule {
    id: "udp-corked",
    summary: "A UDP socket that holds its data back (UDP_CORK).",
    group: "UDP sockets",
    condition: "A UDP or UDP-Lite socket has the option UDP_CORK set. CRIU refuses even when nothing is held back; data held back \
           by MSG_MORE alone is lost instead.",
    message: "{protocol} socket[ {local}] (inode {ino}) with UDP_CORK set",
    criu: &["Can't dump corked dgram socket %x"],
    source: "criu/sk-inet.c:do_dump_one_inet_fd",
    versions: Versions::All,
    remedies: &[Remedy::Workload("let the process clear UDP_CORK before the dump")],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for s in ctx.socks.all.iter().filter(|s| s.is_ip() && s.ip_type() != Some(libc::SOCK_RAW)) {
            let protocol = match s.ip_protocol() {
                Some(libc::IPPROTO_UDP) => "UDP",
                Some(libc::IPPROTO_UDPLITE) => "UDP-Lite",
                _ => continue,
            };
            if s.fact(|f| f.udp_cork) == Some(true) {
                let f = s.finding(rule, &ctx.index).term("protocol", protocol);
                sink.push(f.fact_opt("local", s.inet().map(local)));
            }
        }
    },
};
