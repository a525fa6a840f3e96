//! The routes of a network namespace, as far as they make a restore fail or are lost in it.

use crate::parse::diag;
use crate::parse::sockets::family::{INET, INET6};
use crate::scan::net::diag::DiagSocket;
use crate::snapshot::RouteTables;

/// Answers of at most 32 KiB, some 400 routes each. A router may have a million.
pub(super) const MOST_DATAGRAMS: usize = 32;
/// Of each kind.
const MOST_KEPT: usize = 16;

const RT_TABLE_MAIN: u32 = 254;
const RT_TABLE_LOCAL: u32 = 255;

/// What the namespace of this NETLINK_ROUTE socket has; the error is the kernel's errno.
///
/// A route that was seen is there, whether or not all were seen: an answer that is cut short, or changes meanwhile, only lacks
/// some.
pub(super) fn of(socket: &mut DiagSocket) -> Result<RouteTables, i32> {
    let mut found = RouteTables::default();
    let mut whole = true;
    for family in [INET, INET6] {
        if !whole {
            break;
        }
        let dump = socket.first(|seq| diag::route_request(seq, family), diag::route, MOST_DATAGRAMS)?;
        match dump.end {
            Some(0 | libc::EOPNOTSUPP | libc::EAFNOSUPPORT) => {}
            Some(errno) => return Err(errno),
            // There are more.
            None => whole = false,
        }
        // Without IPv6 the kernel answers with what it has.
        let of_family = dump.sockets.into_iter().filter(|route| route.family == family && !route.cloned);
        for route in of_family {
            if ![RT_TABLE_MAIN, RT_TABLE_LOCAL].contains(&route.table) {
                if !found.others.contains(&route.table) && found.others.len() < MOST_KEPT {
                    found.others.push(route.table);
                }
            } else if route.table == RT_TABLE_MAIN {
                let kind = match route.nexthop {
                    Some(_) => &mut found.by_nexthop,
                    None if route.down && family == INET => &mut found.down,
                    None => continue,
                };
                if kind.len() < MOST_KEPT {
                    kind.push(route);
                }
            }
        }
    }
    Ok(found)
}
