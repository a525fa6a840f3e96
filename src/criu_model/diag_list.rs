//! Sockets that the kernel's list, as CRIU reads it, does not reach.
//!
//! CRIU has room for 16384 bytes of one answer (`do_rtnl_req()`, criu/libnetlink.c). The kernel fills no more than that at a
//! time, and ends the list, without an error, before a record that is longer (`netlink_dump()`, `packet_diag_dump()`,
//! `unix_diag_dump()`). Two kinds of records can be: a packet socket's with its memberships, and that of a UNIX socket with the
//! connections that wait for accept. We have room for twice as much.

use crate::hash::Map;
use crate::snapshot::SocketTable;

/// Bytes of one record with its header.
const CRIU_NL_BUF: u32 = 16384;

/// The record at which CRIU's list ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub ino: u32,
    pub length: u32,
}

/// The sockets of these tables that CRIU does not learn of, by inode.
pub(crate) fn unreached(tables: &[SocketTable]) -> Map<u64, End> {
    let mut all = Map::default();
    for table in tables {
        behind(table.unix.iter().map(|s| (s.ino, s.length)), &mut all);
        behind(table.packet.iter().map(|s| (s.ino, s.length)), &mut all);
    }
    all
}

fn behind(records: impl Iterator<Item = (u32, u32)> + Clone, all: &mut Map<u64, End>) {
    let Some((ino, length)) = records.clone().find(|(_, length)| *length > CRIU_NL_BUF) else { return };
    let rest = records.skip_while(|(other, _)| *other != ino);
    all.extend(rest.map(|(behind, _)| (u64::from(behind), End { ino, length })));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit::*;

    #[test]
    fn the_list_ends_at_the_record_that_is_too_long() {
        let records = |lengths: &[u32]| {
            let unix = lengths
                .iter()
                .zip(1..)
                .map(|(length, ino)| crate::parse::diag::UnixDiag { length: *length, ..unix(ino, 0) });
            let table = SocketTable { unix: unix.collect(), ..table() };
            let mut lost: Vec<_> = unreached(&[table]).into_iter().map(|(ino, end)| (ino, end.ino)).collect();
            lost.sort_unstable();
            lost
        };
        assert_eq!(records(&[CRIU_NL_BUF, 100, CRIU_NL_BUF]), []);
        assert_eq!(records(&[100, CRIU_NL_BUF + 1, 100]), [(2, 2), (3, 2)]);
        assert_eq!(records(&[]), []);
    }
}
