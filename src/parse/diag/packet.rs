//! AF_PACKET: net/packet/diag.c, linux/packet_diag.h.
use crate::parse::diag::Reader;

/// One packet socket.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PacketDiag {
    /// SOCK_RAW 3, SOCK_DGRAM 2, SOCK_PACKET 10.
    pub type_: u8,
    /// ETH_P_* in host order; 0 for none.
    pub num: u16,
    pub ino: u32,
    pub cookie: u64,
    pub info: Option<PacketInfo>,
    /// Memberships; `Some` of an empty list if there are none.
    pub mclist: Option<Vec<PacketMcList>>,
    /// PACKET_RX_RING; `None` if not set up.
    pub rx_ring: Option<PacketRing>,
    pub tx_ring: Option<PacketRing>,
    /// PACKET_FANOUT: id in the low half, type in the high one.
    pub fanout: Option<u32>,
    /// Bytes of the whole record.
    #[serde(default)]
    pub length: u32,
}

/// PACKET_DIAG_INFO
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PacketInfo {
    /// Interface bound to; 0 for all.
    pub index: u32,
    /// TPACKET_V1 0, V2 1, V3 2.
    pub version: u32,
    pub reserve: u32,
    pub copy_thresh: u32,
    pub tstamp: u32,
    /// PDI_RUNNING 1, AUXDATA 2, ORIGDEV 4, VNETHDR 8, LOSS 16.
    pub flags: u32,
}

/// One PACKET_ADD_MEMBERSHIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PacketMcList {
    /// Interface.
    pub index: u32,
    pub count: u32,
    /// PACKET_MR_*
    pub type_: u16,
    /// Length of the address in bytes.
    pub alen: u16,
}

/// `struct packet_diag_ring`, the first four numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PacketRing {
    pub block_size: u32,
    pub block_nr: u32,
    pub frame_size: u32,
    pub frame_nr: u32,
}

/// Decodes `struct packet_diag_msg` and its attributes; `None` if it is not of that form.
pub fn packet(payload: &[u8]) -> Option<PacketDiag> {
    let mut msg = Reader(payload);
    let (_family, type_, num) = (msg.u8()?, msg.u8()?, msg.u16()?);
    let mut socket = PacketDiag {
        type_,
        num,
        ino: msg.u32()?,
        cookie: msg.cookie()?,
        info: None,
        mclist: None,
        rx_ring: None,
        tx_ring: None,
        fanout: None,
        length: crate::parse::diag::length(payload),
    };
    for (kind, value) in msg.attributes()? {
        let mut v = Reader(value);
        match kind {
            0 => {
                socket.info = Some(PacketInfo {
                    index: v.u32()?,
                    version: v.u32()?,
                    reserve: v.u32()?,
                    copy_thresh: v.u32()?,
                    tstamp: v.u32()?,
                    flags: v.u32()?,
                });
            }
            1 => socket.mclist = Some(mclist(value)?),
            2 => socket.rx_ring = Some(ring(v)?),
            3 => socket.tx_ring = Some(ring(v)?),
            4 => socket.fanout = Some(v.u32()?),
            _ => {}
        }
    }
    Some(socket)
}

/// `struct packet_diag_mclist` is 12 bytes and an address of MAX_ADDR_LEN (32).
fn mclist(value: &[u8]) -> Option<Vec<PacketMcList>> {
    let one = |raw: &[u8]| {
        let mut v = Reader(raw);
        let entry = PacketMcList { index: v.u32()?, count: v.u32()?, type_: v.u16()?, alen: v.u16()? };
        v.array::<32>()?;
        Some(entry)
    };
    value.chunks(44).map(one).collect()
}

fn ring(mut v: Reader<'_>) -> Option<PacketRing> {
    Some(PacketRing { block_size: v.u32()?, block_nr: v.u32()?, frame_size: v.u32()?, frame_nr: v.u32()? })
}
