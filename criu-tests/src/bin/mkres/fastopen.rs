//! TCP Fast Open: a connection that is accepted before its handshake is over.

use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{base, netdev, sys, Kind};

pub const KINDS: &[Kind] = &[Kind {
    name: "tcp-fastopen",
    help: "accepted in SYN_RECV, the client never answers; done: it does (after newns:net)",
    make: fastopen,
}];

const SERVER: [u8; 4] = [10, 0, 0, 1];
const CLIENT: [u8; 4] = [10, 0, 0, 2];
const NOBODY: [u8; 6] = [2, 0, 0, 0, 0, 2];
const PORTS: (u16, u16) = (40000, 5000);
const SYN: u8 = 2;
const ACK: u8 = 16;

/// The interface of the server and its other end, on which we are the client: no address, so that nobody answers for it.
fn fastopen(cx: &mut Ctx, a: &Args) -> Res {
    base::only_in_own(libc::CLONE_NEWNET)?;
    // Data in a SYN is taken, without a cookie.
    let file = "/proc/sys/net/ipv4/tcp_fastopen";
    std::fs::write(file, "515").map_err(|e| Fail::Skip(format!("{file}: {e}")))?;
    netdev::make("veth", "server7")?;
    let far = unsafe { libc::if_nametoindex(c"veth0".as_ptr()) };
    let control = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let request = |name: &str| {
        let mut r: libc::ifreq = unsafe { std::mem::zeroed() };
        r.ifr_name.iter_mut().zip(name.bytes()).for_each(|(d, s)| *d = s as _);
        r
    };
    let ask = |what: &str, nr: libc::c_ulong, r: &libc::ifreq| sys::ioctl(what, control, nr, &raw const *r as u64);
    let mut r = request("server7");
    r.ifr_ifru.ifru_addr = address(SERVER, 0);
    ask("SIOCSIFADDR", libc::SIOCSIFADDR as _, &r)?;
    for name in ["server7", "veth0"] {
        let mut r = request(name);
        r.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as _;
        ask("SIOCSIFFLAGS", libc::SIOCSIFFLAGS as _, &r)?;
    }
    let r = request("server7");
    ask("SIOCGIFHWADDR", libc::SIOCGIFHWADDR as _, &r)?;
    let hardware = unsafe { r.ifr_ifru.ifru_hwaddr.sa_data };
    neighbour(control)?;
    sys::close(control);

    let l = sys::socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_TCP)?;
    sys::bind("10.0.0.1", l, &address(SERVER, PORTS.1), 16)?;
    sys::setsockopt(l, libc::IPPROTO_TCP, libc::TCP_FASTOPEN, 16)?;
    sys::listen(l, 4)?;
    let wire = sys::socket(libc::AF_PACKET, libc::SOCK_RAW, i32::from((libc::ETH_P_IP as u16).to_be()))?;
    let mut there: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    (there.sll_family, there.sll_ifindex) = (libc::AF_PACKET as u16, far as i32);
    there.sll_protocol = (libc::ETH_P_IP as u16).to_be();
    sys::bind("veth0", wire, &there, size_of_val(&there) as u32)?;
    let to: Vec<u8> = hardware.iter().take(6).map(|b| *b as u8).collect();
    let frame = |packet: Vec<u8>| [to.as_slice(), &NOBODY, &[8, 0], &packet].concat();
    sys::send(wire, &frame(segment(1000, 0, SYN)), 0)?;
    let mut poll = libc::pollfd { fd: l, events: libc::POLLIN, revents: 0 };
    if unsafe { libc::poll(&mut poll, 1, 3000) } != 1 {
        return Err(Fail::Skip("the kernel takes no data in a SYN".into()));
    }
    let s = sys::accept(l)?;
    if a.has("done") {
        let mut answer = [0u8; 128];
        let n = sys::ok("SYN-ACK", unsafe { libc::recv(wire, answer.as_mut_ptr().cast(), answer.len(), 0) })?;
        // Behind the headers of Ethernet and IP, and the ports: its sequence number.
        let seq = answer.get(38..42).filter(|_| n >= 42).and_then(|seq| seq.try_into().ok()).map(u32::from_be_bytes);
        let seq = seq.ok_or_else(|| Fail::Broken("a short SYN-ACK".into()))?;
        sys::send(wire, &frame(segment(1000 + 1 + DATA.len() as u32, seq.wrapping_add(1), ACK)), 0)?;
    }
    super::tcp::until(s, if a.has("done") { 1 } else { 3 })?;
    sys::close(wire);
    sys::close(l);
    cx.fd("", s);
    Ok(())
}

fn address(ip: [u8; 4], port: u16) -> libc::sockaddr {
    let mut data = [0u8; 14];
    data[..2].copy_from_slice(&port.to_be_bytes());
    data[2..6].copy_from_slice(&ip);
    libc::sockaddr { sa_family: libc::AF_INET as u16, sa_data: data.map(|b| b as _) }
}

/// Where the client is, so that nobody is asked for it.
fn neighbour(control: i32) -> Res {
    const ATF_COM_PERM: i32 = 2 | 4;
    let mut arp: libc::arpreq = unsafe { std::mem::zeroed() };
    arp.arp_pa = address(CLIENT, 0);
    arp.arp_ha.sa_family = libc::ARPHRD_ETHER;
    arp.arp_ha.sa_data.iter_mut().zip(NOBODY).for_each(|(d, s)| *d = s as _);
    arp.arp_flags = ATF_COM_PERM;
    arp.arp_dev.iter_mut().zip(b"server7").for_each(|(d, s)| *d = *s as _);
    sys::ioctl("SIOCSARP", control, libc::SIOCSARP as _, &raw const arp as u64).map(|_| ())
}

const DATA: &[u8] = b"early";

/// An IPv4 packet of the client: a SYN with the option of Fast Open and data, or a bare ACK.
fn segment(seq: u32, ack: u32, flags: u8) -> Vec<u8> {
    let syn = flags == SYN;
    // MSS 1460; a request for a cookie, padded.
    let options: &[u8] = if syn { &[2, 4, 5, 180, 34, 2, 1, 1] } else { &[] };
    let mut tcp = [PORTS.0.to_be_bytes(), PORTS.1.to_be_bytes()].concat();
    tcp.extend([seq.to_be_bytes(), ack.to_be_bytes()].concat());
    tcp.extend([((5 + options.len() / 4) << 4) as u8, flags, 0xfd, 0xe8, 0, 0, 0, 0]);
    tcp.extend(options);
    tcp.extend(if syn { DATA } else { &[] });
    let pseudo = [&CLIENT[..], &SERVER, &[0, 6], &(tcp.len() as u16).to_be_bytes(), &tcp].concat();
    tcp[16..18].copy_from_slice(&checksum(&pseudo));
    let mut ip =
        [&[0x45, 0][..], &(20 + tcp.len() as u16).to_be_bytes(), &[0, 1, 0, 0, 64, 6, 0, 0], &CLIENT, &SERVER].concat();
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum);
    ip.extend(tcp);
    ip
}

fn checksum(data: &[u8]) -> [u8; 2] {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |b| u32::from(*b));
    let mut sum: u32 = data.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}
