//! Options of sockets that come back with other values.

use crate::criu_model::socket_options::UNSAVED;
use crate::parse::sockets::family_name;
use crate::rules::{Evidence, Phase, Remedy, Rule, Value, Versions, When};

pub(crate) static LOST_SOCKET_OPTION: Rule = Rule {
    id: "lost-socket-option",
    summary: "A socket with options that CRIU does not save, like IP_TRANSPARENT, UDP_GRO or TCP_DEFER_ACCEPT.",
    group: "Dumped, and lost",
    condition: "A UNIX, IP or netlink socket has another value than the default of an option that CRIU neither saves nor sets: of \
           SOL_SOCKET, IP, IPv6, TCP, UDP and netlink some forty, which the message names. At most 128 sockets of a tree are \
           asked, in the last look. Options whose default is a sysctl (TCP_CONGESTION, IP_MTU_DISCOVER, ...) are lost as well, and not \
           named.",
    message: "{family} socket (inode {ino})[ {local}]: {options} set, which the restore leaves at the default",
    criu: &[],
    source: "criu/sockets.c:dump_socket_opts, criu/sk-inet.c:dump_ip_opts",
    versions: Versions::All,
    remedies: &[Remedy::Workload("have the program set the options again after the restore")],
    phase: Phase::Never,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for s in &ctx.socks.all {
            let Some(changed) = s.facts().map(|f| &f.unsaved_options).filter(|list| !list.is_empty()) else { continue };
            let named = UNSAVED.iter().filter(|option| changed.contains(&(option.level, option.number)));
            let names: Vec<&str> = named.map(|option| option.name).collect();
            let Some(family) = s.family().filter(|_| !names.is_empty()) else { continue };
            let f = s.finding(rule, &ctx.index).term("family", family_name(family)).term("options", names.join(", "));
            sink.push(f.fact_opt("local", s.local().filter(|a| a.port() != 0).map(Value::Addr)));
        }
    },
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::{Snapshot, SocketFacts};

    fn with(options: &[(i32, i32)]) -> Snapshot {
        let facts =
            SocketFacts { domain: Some(libc::AF_INET), unsaved_options: options.to_vec(), ..SocketFacts::default() };
        snap(vec![socket_with(3, 1, facts)])
    }

    #[test]
    fn options_are_named() {
        let s = with(&[(libc::SOL_UDP, 104), (libc::SOL_IP, 19)]);
        assert_eq!(verdict(&LOST_SOCKET_OPTION, &s, &host()), Some(Verdict::Warn));
        let findings = found(&LOST_SOCKET_OPTION, &s, &host());
        assert_eq!(findings[0].get("options"), Some(&Value::Term("IP_TRANSPARENT, UDP_GRO".into())));
        assert_eq!(verdict(&LOST_SOCKET_OPTION, &with(&[]), &host()), None);
        // Of a newer version.
        assert_eq!(verdict(&LOST_SOCKET_OPTION, &with(&[(9, 9)]), &host()), None);
    }
}
