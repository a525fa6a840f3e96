//! The interfaces and routes of the network namespaces whose contents CRIU dumps.

use crate::parse::diag;
use crate::scan::net::diag::{net_admin, open_in_netns, routes, DiagSocket};
use crate::scan::passes::PassContext;
use crate::snapshot::{LinkTable, Probe, RouteTables};

/// Fills in [`crate::snapshot::Snapshot::links`]: one table per network namespace of the tasks other than the observer's, in the order they are met.
///
/// The root of the tree has to have some namespace of its own, or CRIU dumps the contents of none (`cr_dump_tasks()`,
/// `dump_namespaces()`).
pub(crate) fn collect(cx: &mut PassContext) {
    let (tasks, observer) = (&cx.snap.tasks, &cx.snap.criu.ns);
    let mut tables = Vec::<LinkTable>::new();
    if tasks.first().is_none_or(|root| !root.ns.differ(observer)) {
        return;
    }
    for task in tasks {
        let Some(net) = task.ns.net.filter(|net| Some(*net) != observer.net) else { continue };
        if tables.iter().any(|t| t.netns == net) {
            continue;
        }
        let answer = match open_in_netns(net, libc::NETLINK_ROUTE, &[task.pid]) {
            Ok(None) => continue,
            Ok(Some(socket)) => {
                let mut wire = DiagSocket::new(&socket);
                let dump = wire.once(diag::link_request, diag::link);
                let links = dump.and_then(|dump| match (dump.end, dump.bad) {
                    (Some(0), 0) if !dump.interrupted => Ok(dump.sockets),
                    (Some(0), _) => Err(0),
                    (end, _) => Err(end.unwrap_or(libc::EIO)),
                });
                links.map(|links| {
                    let routes = routes::of(&mut wire).unwrap_or_else(|errno| {
                        cx.log.deny(task.pid, None, Probe::Routes { net }, errno);
                        RouteTables::default()
                    });
                    LinkTable { netns: net, pid: task.pid, links, routes, net_admin: net_admin(&socket) }
                })
            }
            Err((_, errno)) => Err(errno as i32),
        };
        match answer {
            Ok(table) => tables.push(table),
            Err(errno) => {
                cx.log.deny(task.pid, None, Probe::Interfaces { net }, errno);
            }
        }
    }
    cx.snap.links = tables;
}
