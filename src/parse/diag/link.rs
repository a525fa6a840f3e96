//! RTM_GETLINK: the interfaces of a network namespace. Not sock_diag, but the same netlink: `rtnl_fill_ifinfo()` in
//! net/core/rtnetlink.c, linux/if_link.h.
use crate::bytes::Bytes;
use crate::parse::diag::Reader;

/// The type of the request is RTM_GETLINK (18), that of each answer this.
pub(super) const RTM_NEWLINK: u16 = 16;

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NetLink {
    pub index: i32,
    /// ARPHRD_* of linux/if_arp.h: 1 Ethernet, 772 loopback, 65534 none.
    pub type_: u16,
    /// IFLA_IFNAME
    pub name: Bytes,
    /// IFLA_INFO_KIND (`veth`, `bridge`): the driver's; `None` for hardware.
    pub kind: Option<Bytes>,
    /// IFLA_CARRIER (Linux 3.9+). A tun has it only while a descriptor is attached (`__tun_detach`, `tun_net_change_carrier`).
    #[serde(default)]
    pub carrier: Option<bool>,
    /// IFLA_LINK: the index of the peer of a veth or the lower interface of a macvlan, in the namespace `link_netnsid`.
    #[serde(default)]
    pub link: Option<i32>,
    /// IFLA_LINK_NETNSID: the number that this namespace has for that one, if it is another.
    #[serde(default)]
    pub link_netnsid: Option<i32>,
    /// IFLA_TUN_PERSIST of a tun or tap (Linux 4.18+).
    pub tun_persist: Option<bool>,
    /// IFLA_TUN_MULTI_QUEUE, likewise.
    #[serde(default)]
    pub tun_multi_queue: Option<bool>,
}

/// Decodes `struct ifinfomsg` and its attributes; `None` if it is not of that form.
pub fn link(payload: &[u8]) -> Option<NetLink> {
    let mut msg = Reader(payload);
    let (_family, _pad, type_, index) = (msg.u8()?, msg.u8()?, msg.u16()?, msg.i32()?);
    let (_flags, _change) = (msg.u32()?, msg.u32()?);
    let mut link = NetLink {
        index,
        type_,
        name: Bytes::default(),
        kind: None,
        carrier: None,
        link: None,
        link_netnsid: None,
        tun_persist: None,
        tun_multi_queue: None,
    };
    for (attribute, value) in msg.attributes()? {
        match attribute {
            3 => link.name = text(value),
            5 => link.link = Some(Reader(value).i32()?),
            18 => info(value, &mut link)?,
            33 => link.carrier = Some(*value.first()? != 0),
            37 => link.link_netnsid = Some(Reader(value).i32()?),
            _ => {}
        }
    }
    Some(link)
}

/// IFLA_LINKINFO. IFLA_INFO_DATA means what the kind says, and comes after it.
fn info(value: &[u8], link: &mut NetLink) -> Option<()> {
    for (attribute, value) in Reader(value).attributes()? {
        match attribute {
            1 => link.kind = Some(text(value)),
            2 if link.kind.as_ref().is_some_and(|kind| **kind == *b"tun") => {
                for (attribute, value) in Reader(value).attributes()? {
                    let on = value.first().map(|byte| *byte != 0);
                    match attribute {
                        6 => link.tun_persist = on,
                        7 => link.tun_multi_queue = on,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    Some(())
}

/// Up to the NUL.
fn text(value: &[u8]) -> Bytes {
    value.split(|b| *b == 0).next().unwrap_or_default().into()
}
