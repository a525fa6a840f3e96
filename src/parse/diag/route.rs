//! RTM_GETROUTE: the routes of a network namespace. Not sock_diag, but the same netlink: `fib_dump_info()` in
//! net/ipv4/fib_semantics.c, `rt6_fill_node()` in net/ipv6/route.c, linux/rtnetlink.h.
use crate::parse::diag::Reader;
use std::net::IpAddr;

/// The type of the request is RTM_GETROUTE (26), that of each answer this.
pub(super) const RTM_NEWROUTE: u16 = 24;

/// RTM_F_CLONED: made by the kernel for a single destination.
const CLONED: u32 = 0x200;
/// RTNH_F_DEAD, RTNH_F_LINKDOWN.
const DOWN: u32 = 1 | 16;

/// One route.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Route {
    /// AF_INET or AF_INET6.
    pub family: u8,
    /// RT_TABLE_MAIN is 254.
    pub table: u32,
    /// RTA_DST; `None`: everywhere.
    pub dst: Option<IpAddr>,
    pub dst_len: u8,
    /// RTA_OIF, or that of the first nexthop of several that is down.
    pub oif: Option<i32>,
    /// Its interface, or that of one of several nexthops, has no carrier (RTNH_F_LINKDOWN) or is down (RTNH_F_DEAD).
    pub down: bool,
    /// RTA_NH_ID: it goes by a nexthop object (Linux 5.3+).
    pub nexthop: Option<u32>,
    /// RTM_F_CLONED
    pub cloned: bool,
}

/// Decodes `struct rtmsg` and its attributes; `None` if it is not of that form.
pub fn route(payload: &[u8]) -> Option<Route> {
    let mut msg = Reader(payload);
    let (family, dst_len, _src_len, _tos) = (msg.u8()?, msg.u8()?, msg.u8()?, msg.u8()?);
    let (table, _protocol, _scope, _type) = (msg.u8()?, msg.u8()?, msg.u8()?, msg.u8()?);
    let flags = msg.u32()?;
    let mut route = Route {
        family,
        table: table.into(),
        dst: None,
        dst_len,
        oif: None,
        down: flags & DOWN != 0,
        nexthop: None,
        cloned: flags & CLONED != 0,
    };
    for (attribute, value) in msg.attributes()? {
        match attribute {
            1 => route.dst = Some(address(value)?),
            4 => route.oif = Some(Reader(value).i32()?),
            9 => nexthops(value, &mut route)?,
            15 => route.table = Reader(value).u32()?,
            30 => route.nexthop = Some(Reader(value).u32()?),
            _ => {}
        }
    }
    Some(route)
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => value.try_into().ok().map(|octets: [u8; 4]| octets.into()),
        _ => value.try_into().ok().map(|octets: [u8; 16]| octets.into()),
    }
}

/// RTA_MULTIPATH: several `struct rtnexthop`, each with attributes of its own.
fn nexthops(value: &[u8], route: &mut Route) -> Option<()> {
    let mut rest = value;
    while !rest.is_empty() {
        let mut one = Reader(rest);
        let len = usize::from(one.u16()?);
        let (flags, _weight, oif) = (one.u8()?, one.u8()?, one.i32()?);
        if u32::from(flags) & DOWN != 0 && !route.down {
            route.down = true;
            route.oif = Some(oif);
        }
        // At least its own eight bytes: an end comes.
        rest = rest.get(len.max(8).checked_next_multiple_of(4)?..).unwrap_or_default();
    }
    Some(())
}
