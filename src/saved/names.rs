//! Other names for those of a tree and its machine: the same for the same, as long as before, one path below another if it was.

use crate::bytes::Bytes;
use crate::parse::text::unescape_octal;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Parts of paths, interfaces and words that are CRIU's, the kernel's or everybody's: rules compare some, and none tells anything.
const COMMON: &[&str] = &[
    "bin",
    "dev",
    "etc",
    "home",
    "lib",
    "lib32",
    "lib64",
    "mnt",
    "opt",
    "proc",
    "root",
    "run",
    "sbin",
    "srv",
    "sys",
    "tmp",
    "usr",
    "var",
    "attr",
    "cgroup",
    "comm",
    "cwd",
    "environ",
    "exe",
    "fd",
    "fdinfo",
    "fs",
    "map_files",
    "maps",
    "mem",
    "mountinfo",
    "mounts",
    "net",
    "ns",
    "self",
    "stat",
    "status",
    "task",
    "thread-self",
    "ipc",
    "mnt",
    "pid",
    "time",
    "user",
    "uts",
    "unified",
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "cpu,cpuacct",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
    "misc",
    "systemd",
    "mqueue",
    "pts",
    "shm",
    "secretmem",
    "anon_hugepage",
    "lo",
    "sit0",
    "gre0",
    "gretap0",
    "tunl0",
    "ip6tnl0",
    "cuda_plugin",
    "amdgpu_plugin",
    "on",
    "off",
    "auto",
    "all",
    "none",
    "async",
    "sync",
    "strict",
    "nofollow",
    "follow",
    "ordered",
    "writeback",
    "journal",
    "continue",
    "v1",
    "v2",
    "overlay",
    "tmpfs",
    "udev",
    "devtmpfs",
    "devpts",
    "proc",
    "sysfs",
    "cgroup2",
    "bpf",
    "debugfs",
    "tracefs",
    "securityfs",
    "pstore",
    "fusectl",
    "configfs",
    "hugetlbfs",
    "binfmt_misc",
    "ramfs",
    "rootfs",
    "autofs",
    "nsfs",
    "fuse",
    "tty",
    "null",
    "ptmx",
];

/// What a name that was deleted has at its end.
const ENDS: [&[u8]; 2] = [b" (deleted)", b"//deleted"];

/// The names that were given in place of others.
#[derive(Default)]
pub(crate) struct Names {
    words: HashMap<Vec<u8>, Vec<u8>>,
    given: HashSet<Vec<u8>>,
    /// By length, how many were tried.
    tried: HashMap<usize, u64>,
    addresses: HashMap<IpAddr, IpAddr>,
}

impl Names {
    /// A name without slashes.
    pub(crate) fn word(&mut self, word: &[u8]) -> Vec<u8> {
        if is_kept(word) {
            return word.to_vec();
        }
        if let Some(known) = self.words.get(word) {
            return known.clone();
        }
        let new = self.fresh(word);
        self.given.insert(new.clone());
        self.words.insert(word.to_vec(), new.clone());
        new
    }

    /// Of the same length, if there is one left of it; bytes that are written in another way somewhere stay where they are.
    fn fresh(&mut self, word: &[u8]) -> Vec<u8> {
        let places = word.iter().filter(|b| !is_special(**b)).count();
        loop {
            let tried = self.tried.entry(places).or_default();
            let mut letters = letters(*tried, places).into_iter();
            *tried = tried.saturating_add(1);
            let mut new: Vec<u8> =
                word.iter().map(|b| if is_special(*b) { *b } else { letters.next().unwrap_or(b'x') }).collect();
            new.extend(letters);
            if new != word && !is_kept(&new) && !self.given.contains(&new) {
                return new;
            }
        }
    }

    /// A path, a link of /proc, the name of a socket.
    pub(crate) fn text(&mut self, text: &[u8]) -> Vec<u8> {
        if let Some((end, head)) = ENDS.iter().find_map(|end| Some((*end, text.strip_suffix(*end)?))) {
            return [&*self.text(head), end].concat();
        }
        if text.starts_with(b"anon_inode:") || is_numbered(text) {
            return text.to_vec();
        }
        let parts: Vec<&[u8]> = text.split(|b| *b == b'/').collect();
        let mut out = Vec::with_capacity(parts.len());
        let mut before: &[u8] = b"";
        for (nth, part) in parts.iter().enumerate() {
            // What is directly in /dev has the name of a driver, and a terminal, the whole of a devpts, a process and a thread
            // their numbers.
            let device = matches!(parts.as_slice(), [b"", b"dev", _]) && nth == 2;
            let number = (matches!(before, b"pts" | b"proc" | b"task") || parts.len() == 2)
                && part.iter().all(u8::is_ascii_digit);
            out.push(if device || number { part.to_vec() } else { self.part(part) });
            before = part;
        }
        out.join(&b'/')
    }

    fn part(&mut self, part: &[u8]) -> Vec<u8> {
        for (start, end) in [(&b"memfd:"[..], &b""[..]), (b"[anon:", b"]"), (b"[anon_shmem:", b"]")] {
            if let Some(name) = part.strip_prefix(start).and_then(|rest| rest.strip_suffix(end)) {
                return [start, &self.word(name), end].concat();
            }
        }
        self.word(part)
    }

    /// Options of a file system as the kernel prints them.
    pub(crate) fn options(&mut self, text: &[u8]) -> Vec<u8> {
        let options: Vec<Vec<u8>> = text.split(|b| *b == b',').map(|option| self.option(option)).collect();
        options.join(&b',')
    }

    fn option(&mut self, option: &[u8]) -> Vec<u8> {
        let Some(at) = option.iter().position(|b| *b == b'=') else { return option.to_vec() };
        let (key, value) = option.split_at(at.saturating_add(1));
        if is_number(value) {
            return option.to_vec();
        }
        let value = unescape_octal(value);
        // Layers of overlayfs.
        let parts: Vec<Vec<u8>> = value.split(|b| *b == b':').map(|part| self.text(part)).collect();
        [key, &escape_octal(&parts.join(&b':'))].concat()
    }

    /// An `--external` string or the key of an inherited descriptor: `TYPE[NAME]:NAME`.
    pub(crate) fn external(&mut self, text: &[u8]) -> Vec<u8> {
        let parts = text.iter().position(|b| *b == b'[').zip(text.iter().rposition(|b| *b == b']'));
        let Some((open, close)) = parts.filter(|(open, close)| open < close) else { return self.text(text) };
        let (kind, rest) = text.split_at(open.saturating_add(1));
        let (name, after) = rest.split_at(close.saturating_sub(kind.len()));
        let name = match kind {
            b"mnt[" | b"veth[" | b"macvlan[" | b"netdev[" => self.text(name),
            _ => name.to_vec(),
        };
        let (colon, value) = after.split_at(after.len().min(2));
        [kind, &name, colon, &self.text(value)].concat()
    }

    /// An address, alone or with a port.
    pub(crate) fn address(&mut self, text: &str) -> String {
        if let Ok(ip) = text.parse::<IpAddr>() {
            self.ip(ip).to_string()
        } else if let Ok(mut address) = text.parse::<SocketAddr>() {
            address.set_ip(self.ip(address.ip()));
            address.to_string()
        } else {
            String::from_utf8(self.word(text.as_bytes())).unwrap_or_default()
        }
    }

    /// Of the same kind. 198.18.0.0/15 and 2001:db8::/32 belong to no network.
    fn ip(&mut self, ip: IpAddr) -> IpAddr {
        if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
            return ip;
        }
        if let Some(known) = self.addresses.get(&ip) {
            return *known;
        }
        let nth = u32::try_from(self.addresses.len()).unwrap_or(u32::MAX);
        let new = match ip {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(0xc612_0001_u32.wrapping_add(nth % 0x1_fffe))),
            IpAddr::V6(v6) => match v6.to_ipv4_mapped().map(|v4| self.ip(IpAddr::V4(v4))) {
                Some(IpAddr::V4(v4)) => IpAddr::V6(v4.to_ipv6_mapped()),
                _ => {
                    let net: u128 = if v6.is_unicast_link_local() { 0xfe80 << 112 } else { 0x2001_0db8 << 96 };
                    IpAddr::V6(Ipv6Addr::from_bits(net | u128::from(nth).saturating_add(1)))
                }
            },
        };
        self.addresses.insert(ip, new);
        new
    }
}

/// In base 26, at least so many letters.
fn letters(mut number: u64, at_least: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while number > 0 || out.len() < at_least.max(1) {
        out.push(b'a'.saturating_add(u8::try_from(number % 26).unwrap_or_default()));
        number /= 26;
    }
    out.reverse();
    out
}

fn is_kept(word: &[u8]) -> bool {
    let special = word.iter().all(|b| is_special(*b) || *b == b'.');
    let small_number = word.len() <= 3 && word.iter().all(u8::is_ascii_digit);
    // The kernel's own names: of an AIO ring, of a part of memory.
    let bracketed = word.starts_with(b"[") && word.ends_with(b"]");
    // What NFS renames an open file to.
    let silly =
        word.strip_prefix(b".nfs").is_some_and(|rest| rest.len() >= 24 && rest.iter().all(u8::is_ascii_hexdigit));
    let segment =
        word.strip_prefix(b"SYSV").is_some_and(|rest| rest.len() == 8 && rest.iter().all(u8::is_ascii_hexdigit));
    special || small_number || bracketed || silly || segment || COMMON.iter().any(|c| c.as_bytes() == word)
}

/// These are escaped in one place or another, or part words.
fn is_special(byte: u8) -> bool {
    byte.is_ascii_control() || matches!(byte, b' ' | b'\\' | b'#' | b',' | b':' | b'=')
}

/// `socket:[123]`, `pipe:[7]`, `net:[4026531840]`.
fn is_numbered(text: &[u8]) -> bool {
    let inside = text.iter().position(|b| *b == b':').and_then(|at| text.get(at.saturating_add(1)..));
    let number = inside.and_then(|rest| rest.strip_prefix(b"[")).and_then(|rest| rest.strip_suffix(b"]"));
    number.is_some_and(|n| !n.is_empty() && n.iter().all(u8::is_ascii_digit))
}

/// `0`, `755`, `1024k`, `0x1f`.
fn is_number(value: &[u8]) -> bool {
    value.first().is_some_and(u8::is_ascii_digit)
        && value
            .iter()
            .all(|b| b.is_ascii_hexdigit() || matches!(b, b'x' | b'k' | b'K' | b'm' | b'M' | b'g' | b'G' | b'%'))
}

/// As the kernel prints options.
fn escape_octal(text: &[u8]) -> Vec<u8> {
    let one = |b: &u8| match b {
        b' ' | b'\t' | b'\n' | b'\\' | b',' => format!("\\{b:03o}").into_bytes(),
        b => vec![*b],
    };
    text.iter().flat_map(one).collect()
}

/// A path as /proc/PID/maps has it, where only newlines are escaped.
pub(crate) fn mapped(names: &mut Names, path: &[u8]) -> Bytes {
    let new = names.text(&unescape_octal(path));
    let one = |b: u8| if b == b'\n' { b"\\012".to_vec() } else { vec![b] };
    Bytes(new.into_iter().flat_map(one).collect())
}
