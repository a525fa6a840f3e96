//! A TCP connection that is closed by now, but not by its owner (criu/sk-inet.c:tcp_connection).

use super::tcp::closed_peer;
use crate::criu::Opt;
use crate::rules::{Evidence, Phase, Remedy, Rule, Value, Versions, When};

pub(crate) static TCP_RESET: Rule = Rule {
    id: "tcp-reset",
    summary: "A TCP connection that was reset: its restore needs the option for connections, its dump does not.",
    group: "Dumped, but not restored",
    condition: "A TCP socket in CLOSE that once was connected (the other side has reset it, or both have shut it) still knows its \
           peer. CRIU dumps it without any option for connections, and saves the peer's port; to the restore every TCP socket with \
           one is a connection, and it wants --tcp-established or --tcp-close.",
    message: "TCP socket (inode {ino}), closed, once connected to {remote}: the restore takes it for a connection",
    criu: &["{at the restore} Connected TCP socket in image"],
    source: "criu/sk-inet.c:tcp_connection, open_inet_sk",
    versions: Versions::All,
    remedies: &[
        Remedy::AtRestore("tcp-established", ""),
        Remedy::Workload("have the program close the socket before the dump"),
    ],
    phase: Phase::Restore,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let gate = ctx.host.gate(&[Opt::TcpEstablished, Opt::TcpClose]);
        for s in ctx.socks.all.iter().filter(|s| s.is_tcp()) {
            if let Some(remote) = closed_peer(s) {
                sink.push_unless(gate, s.finding(rule, &ctx.index).fact("remote", Value::Addr(remote)));
            }
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::WarnReason;
    use crate::rules::testkit::*;
    use crate::snapshot::{Snapshot, SocketFacts, SocketTable, TcpFacts};

    fn closed(state: u8, peer: Option<&str>) -> Snapshot {
        let tcp = TcpFacts { state: Some(state), peer: peer.map(|peer| peer.parse().unwrap()), ..TcpFacts::default() };
        let facts = SocketFacts { domain: Some(2), kind: Some(1), protocol: Some(6), tcp, ..SocketFacts::default() };
        let mut s = snap(vec![socket_with(3, 1, facts)]);
        s.sockets = vec![SocketTable { inet: vec![inet(1, 6, state)], ..table() }];
        s
    }

    #[test]
    fn one_that_still_knows_its_peer() {
        let s = closed(7, Some("10.0.0.1:80"));
        let warns: Vec<_> = found(&TCP_RESET, &s, &host()).iter().map(|f| f.warns).collect();
        assert_eq!(warns, [Some(WarnReason::RestoreOption)]);
        for opt in [Opt::TcpEstablished, Opt::TcpClose] {
            assert_eq!(found(&TCP_RESET, &s, &with(opt)), []);
            assert_eq!(found(&TCP_RESET, &s, &unknown(opt)).len(), 1);
        }
        assert_eq!(found(&TCP_RESET, &closed(7, Some("10.0.0.1:0")), &host()), [], "dissolved");
        assert_eq!(found(&TCP_RESET, &closed(7, None), &host()), []);
        assert_eq!(found(&TCP_RESET, &closed(1, Some("10.0.0.1:80")), &host()), [], "it is tcp-connected");
    }
}
