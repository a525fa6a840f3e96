//! `/proc/PID/net/raw`, `raw6`, `icmp`, `icmp6`: one socket a line, with what lies in its queues (`raw_sock_seq_show()`,
//! net/ipv4/raw.c; `ping_v4_format_sock()`, net/ipv4/ping.c; `__ip6_dgram_sock_seq_show()`, net/ipv6/datagram.c).

use crate::parse::text::{dec, fields, hex, lines, split_once};
use serde::{Deserialize, Serialize};

/// The queues of a socket, in bytes of the kernel's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketQueues {
    pub ino: u64,
    pub unsent: u32,
    pub unread: u32,
}

/// Each socket of a table. A line that is not understood, such as the head, is passed over.
pub(crate) fn parse(text: &[u8]) -> impl Iterator<Item = SocketQueues> + '_ {
    lines(text).filter_map(socket)
}

/// `   1: 00000000:0001 00000000:0000 07 00000000:00000300 00:00000000 00000000     0        0 9617 2 ffff888 0`
fn socket(line: &[u8]) -> Option<SocketQueues> {
    let mut fields = fields(line);
    let (unsent, unread) = split_once(fields.nth(4)?, b':')?;
    // After the timer, the number of retransmissions, the owner and the timeout.
    let ino = dec(fields.nth(4)?)?;
    Some(SocketQueues { ino, unsent: hex(unsent)?, unread: hex(unread)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_of_raw_and_icmp_sockets() {
        let text = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
            \x20  1: 00000000:0001 00000000:0000 07 00000000:00000300 00:00000000 00000000     0        0 9617 2 00000000c0ffee00 0\n\
            255: 0100007F:00FF 0100007F:0000 01 00000A00:00000000 00:00000000 00000000  1000        0 9618 2 00000000c0ffee01 0\n\
            \x20 58: 00000000000000000000000000000000:003A 00000000000000000000000000000000:0000 07 00000000:00000001 00:00000000 00000000     0        0 4294967296 2 00000000c0ffee02 0\n\
            torn: 0100007F:00FF 0100007F";
        let queues = |ino, unsent, unread| SocketQueues { ino, unsent, unread };
        let expected = [queues(9617, 0, 768), queues(9618, 2560, 0), queues(1 << 32, 0, 1)];
        assert_eq!(parse(text).collect::<Vec<_>>(), expected);
    }
}
