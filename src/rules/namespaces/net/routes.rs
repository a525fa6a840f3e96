//! Routes that CRIU dumps by `ip route save`, and cannot restore, or does not dump (criu/net.c:dump_route, restore_route).

use super::{dumped, Dumped};
use crate::bytes::Bytes;
use crate::parse::diag::Route;
use crate::rules::{Evidence, Finding, Phase, Remedy, Rule, Value, Versions, When};
use std::net::{IpAddr, Ipv4Addr};

pub(crate) static ROUTE_LINKDOWN: Rule = Rule {
    id: "route-linkdown",
    summary: "An IPv4 route over an interface without carrier, like the bridge of Docker without containers.",
    group: "Dumped, but not restored",
    condition: "A network namespace that is dumped with the tree has an IPv4 route in its main table with the flag linkdown or dead: \
           its interface, or that of one of several next hops, is up and has no carrier, or is down. `ip route restore` gives the \
           kernel the route with that flag, and it takes none that has it. It takes IPv6 routes with it. The flag comes up to a \
           second after the carrier has gone.",
    message: "network namespace {netns} has the IPv4 route {route}[ over {device}] without carrier[ and {more} more such routes], which \
           the kernel does not take from a restore",
    criu: &["{at the restore, of ip} Error: Invalid rtm_flags - can not contain DEAD or LINKDOWN."],
    source: "criu/net.c:restore_route",
    versions: Versions::All,
    remedies: &[
        Remedy::Workload("give the interface a carrier, take it down or delete the route before the dump"),
        Remedy::Modelled("external", "net[{netns}]:NAME"),
        Remedy::Modelled("empty-ns", "net"),
    ],
    phase: Phase::Restore,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for ns in dumped(ctx) {
            if let Some(f) = first(&ns, &ns.table.routes.down, || ns.finding(rule, ctx)) {
                sink.push_unless(ns.external.or(ns.empty), f);
            }
        }
    },
};

pub(crate) static ROUTE_NEXTHOP: Rule = Rule {
    id: "route-nexthop",
    summary: "A route by a nexthop object (ip nexthop), as routing daemons make them.",
    group: "Dumped, but not restored",
    condition: "A network namespace that is dumped with the tree has a route in its main table, of IPv4 or IPv6, that goes by a nexthop \
           object. CRIU does not save the objects; `ip route restore` gives the kernel the route with the object's number and what is \
           in it, which the kernel does not take together (or, with net.ipv4.nexthop_compat_mode 0, with a number that is \
           not there).",
    message: "network namespace {netns} has the route {route}[ over {device}] by nexthop object {nexthop}[ and {more} more such \
           routes], which the kernel does not take from a restore",
    criu: &["{at the restore, of ip} Error: Nexthop specification and nexthop id are mutually exclusive."],
    source: "criu/net.c:restore_route",
    versions: Versions::All,
    remedies: &[
        Remedy::Workload("replace the route by one that names its gateway and interface itself before the dump"),
        Remedy::Modelled("external", "net[{netns}]:NAME"),
        Remedy::Modelled("empty-ns", "net"),
    ],
    phase: Phase::Restore,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for ns in dumped(ctx) {
            if let Some(f) = first(&ns, &ns.table.routes.by_nexthop, || ns.finding(rule, ctx)) {
                sink.push_unless(ns.external.or(ns.empty), f);
            }
        }
    },
};

pub(crate) static LOST_ROUTE_TABLE: Rule = Rule {
    id: "lost-route-table",
    summary: "Routes in other tables than main, as of policy routing: they are lost.",
    group: "Dumped, and lost",
    condition: "A network namespace that is dumped with the tree has routes in a table that is neither main nor local. CRIU saves the \
           rules (ip rule) that lead to it, and not its routes.",
    message: "network namespace {netns} has routes in table {table}[ and {more} more tables], which are lost",
    criu: &[],
    source: "criu/net.c:dump_route",
    versions: Versions::All,
    remedies: &[Remedy::Workload("add the routes again after the restore")],
    phase: Phase::Never,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for ns in dumped(ctx) {
            let tables = &ns.table.routes.others;
            let (Some(table), Some(f)) = (tables.first(), ns.finding(rule, ctx)) else { continue };
            let f = f.key(format!("routes:{}", ns.table.netns)).num("table", *table);
            sink.push_unless(ns.external.or(ns.empty), f.fact_opt("more", more(tables)));
        }
    },
};

/// A finding for all routes of the namespace that are of a kind, by the first.
fn first(ns: &Dumped, routes: &[Route], finding: impl FnOnce() -> Option<Finding>) -> Option<Finding> {
    let route = routes.first()?;
    let index = route.oif;
    let device = ns.table.links.iter().find(|link| Some(link.index) == index).map(|link| link.name.clone());
    let f = finding()?.key(format!("routes:{}", ns.table.netns)).text("route", written(route));
    let f = f
        .fact_opt("device", device.map(Value::Text))
        .fact_opt("nexthop", route.nexthop.map(|id| Value::Num(id.into())));
    Some(f.fact_opt("more", more(routes)))
}

fn more<T>(all: &[T]) -> Option<Value> {
    let others = all.len().checked_sub(1).filter(|n| *n > 0)?;
    i64::try_from(others).ok().map(Value::Num)
}

/// As ip(8) writes it, but of a default route tells the family.
fn written(route: &Route) -> Bytes {
    let everywhere = || IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let text = match (route.dst, u16::from(route.family)) {
        (None, family) if family == libc::AF_INET6 as u16 => "::/0".to_string(),
        (dst, _) => format!("{}/{}", dst.unwrap_or_else(everywhere), route.dst_len),
    };
    text.as_str().into()
}

#[cfg(test)]
mod tests {
    use super::super::testkit::{nic, own, with_empty_ns};
    use super::*;
    use crate::rules::testkit::*;
    use crate::rules::Verdict;
    use crate::snapshot::{RouteTables, Snapshot};

    fn to(dst: &str, dst_len: u8) -> Route {
        let dst: Option<IpAddr> = dst.parse().ok();
        let family = if dst.is_some_and(|dst| dst.is_ipv6()) { libc::AF_INET6 } else { libc::AF_INET };
        let family = u8::try_from(family).unwrap();
        Route { family, table: 254, dst, dst_len, oif: Some(2), down: true, nexthop: None, cloned: false }
    }

    fn with(routes: RouteTables) -> Snapshot {
        let mut s = own(vec![nic(1, Some("bridge"), "br0")]);
        s.links.first_mut().unwrap().routes = routes;
        s
    }

    fn facts(rule: &Rule, s: &Snapshot) -> Vec<Option<Value>> {
        let found = found(rule, s, &host());
        assert_eq!(found.len(), 1);
        ["route", "device", "more", "nexthop"].iter().map(|name| found[0].get(name).cloned()).collect()
    }

    #[test]
    fn what_a_restore_fails_of() {
        let down = with(RouteTables { down: vec![to("10.9.9.0", 24)], ..RouteTables::default() });
        let nexthop = Route { nexthop: Some(5), ..to("fd00::", 64) };
        let by_nexthop = with(RouteTables { by_nexthop: vec![nexthop], ..RouteTables::default() });
        for (rule, s, other) in [(&ROUTE_LINKDOWN, &down, &by_nexthop), (&ROUTE_NEXTHOP, &by_nexthop, &down)] {
            assert_eq!(verdict(rule, s, &host()), Some(Verdict::Unrestorable));
            assert_eq!(verdict(rule, s, &with_external("net[9]:x")), None);
            assert_eq!(verdict(rule, s, &with_empty_ns()), None);
            assert_eq!(verdict(rule, other, &host()), None);
        }
    }

    #[test]
    fn what_is_told_of_it() {
        let text = |text: &str| Some(Value::Text(text.into()));
        let one = with(RouteTables { down: vec![to("10.9.9.0", 24)], ..RouteTables::default() });
        assert_eq!(facts(&ROUTE_LINKDOWN, &one), [text("10.9.9.0/24"), text("br0"), None, None]);
        let elsewhere = Route { oif: Some(3), ..to("", 0) };
        let two = with(RouteTables { down: vec![elsewhere.clone(), elsewhere], ..RouteTables::default() });
        assert_eq!(facts(&ROUTE_LINKDOWN, &two), [text("0.0.0.0/0"), None, Some(Value::Num(1)), None]);
        let v6 = Route { family: libc::AF_INET6 as u8, nexthop: Some(7), ..to("", 0) };
        let v6 = with(RouteTables { by_nexthop: vec![v6], ..RouteTables::default() });
        assert_eq!(facts(&ROUTE_NEXTHOP, &v6), [text("::/0"), text("br0"), None, Some(Value::Num(7))]);
    }

    #[test]
    fn tables_that_are_lost() {
        let s = with(RouteTables { others: vec![100, 101], ..RouteTables::default() });
        assert_eq!(verdict(&LOST_ROUTE_TABLE, &s, &host()), Some(Verdict::Warn));
        assert_eq!(verdict(&LOST_ROUTE_TABLE, &s, &with_external("net[9]:x")), None);
        assert_eq!(verdict(&LOST_ROUTE_TABLE, &with(RouteTables::default()), &host()), None);
    }
}
