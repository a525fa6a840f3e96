//! `/proc/PID/maps` and `/proc/PID/smaps` (`show_map_vma()`, `show_smap()` in fs/proc/task_mmu.c).
use crate::bytes::Bytes;
use crate::parse::text::{dec, hex, split_once, take_field, trim_start};
use crate::parse::Parsed;

/// One mapping.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Vma {
    pub start: u64,
    /// First address behind the mapping.
    pub end: u64,
    pub read: bool,
    pub write: bool,
    pub exec: bool,
    /// `s` in the fourth place: MAP_SHARED (VM_MAYSHARE).
    pub shared: bool,
    /// In the file, bytes.
    pub offset: u64,
    pub major: u32,
    pub minor: u32,
    pub ino: u64,
    /// As printed: a newline is `\012`, nothing else is escaped. Empty for plain anonymous memory.
    pub path: Bytes,
    /// smaps only.
    pub flags: Option<VmFlags>,
}

impl Vma {
    /// The path with the newlines the kernel hid. A file whose name really contains the four characters `\012` looks
    /// the same in the kernel's text and comes out wrong; /proc/PID/map_files knows better.
    pub fn unescaped(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.path.len());
        let mut rest: &[u8] = &self.path;
        while let Some((&first, tail)) = rest.split_first() {
            match rest.strip_prefix(br"\012") {
                Some(tail) => {
                    out.push(b'\n');
                    rest = tail;
                }
                None => {
                    out.push(first);
                    rest = tail;
                }
            }
        }
        Bytes(out)
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// True if smaps was read and lists this flag.
    pub(crate) fn has_flag(&self, flag: &[u8; 2]) -> bool {
        self.flags.as_ref().is_some_and(|flags| flags.has(flag))
    }
}

/// The two-letter codes of a `VmFlags:` line (`show_smap_vma_flags()`), in its order: `io`, `pf`, `ht`, `sh`, `mt`, ...
/// Stored as the text `rd wr mr`.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(from = "Bytes", into = "Bytes")]
pub struct VmFlags(pub Vec<[u8; 2]>);

impl VmFlags {
    pub(crate) fn has(&self, flag: &[u8; 2]) -> bool {
        self.0.contains(flag)
    }
}

impl From<VmFlags> for Bytes {
    fn from(flags: VmFlags) -> Self {
        Bytes(flags.0.join(&b' '))
    }
}

impl From<Bytes> for VmFlags {
    fn from(text: Bytes) -> Self {
        vm_flags(&text)
    }
}

fn vm_flags(text: &[u8]) -> VmFlags {
    VmFlags(crate::parse::text::fields(text).filter_map(|flag| flag.try_into().ok()).collect())
}

/// Parses `maps`, and the header lines of `smaps` with their `VmFlags:`. One pass; every other line of smaps is known
/// by its first byte and passed over.
pub fn parse(text: &[u8]) -> Parsed<Vma> {
    let mut vmas: Parsed<Vma> = Parsed::default();
    // The flags belong to the header line right before them, and to none if that line was not understood.
    let mut header_ok = false;
    for line in crate::parse::text::lines(text) {
        match line.first() {
            Some(b'0'..=b'9' | b'a'..=b'f') => {
                let vma = line_of_maps(line);
                header_ok = vma.is_some();
                vmas.push(vma);
            }
            Some(b'V') if header_ok => {
                if let (Some(flags), Some(vma)) = (line.strip_prefix(b"VmFlags:"), vmas.items.last_mut()) {
                    vma.flags = Some(vm_flags(flags));
                }
            }
            Some(b'A'..=b'Z') => {}
            _ => vmas.push(None),
        }
    }
    vmas
}

/// Parses one line of `maps`.
pub(crate) fn line_of_maps(line: &[u8]) -> Option<Vma> {
    let (range, rest) = take_field(line)?;
    let (start, end) = split_once(range, b'-')?;
    let (perms, rest) = take_field(rest)?;
    let &[r, w, x, s] = perms else { return None };
    let (offset, rest) = take_field(rest)?;
    let (dev, rest) = take_field(rest)?;
    let (major, minor) = split_once(dev, b':')?;
    let (ino, rest) = take_field(rest)?;
    let shared = match s {
        b's' => true,
        b'p' => false,
        _ => return None,
    };
    Some(Vma {
        start: hex(start)?,
        end: hex(end)?,
        read: letter(r, b'r')?,
        write: letter(w, b'w')?,
        exec: letter(x, b'x')?,
        shared,
        offset: hex(offset)?,
        major: hex(major)?,
        minor: hex(minor)?,
        ino: dec(ino)?,
        // No name the kernel prints begins with a blank; one at the end belongs to the name.
        path: trim_start(rest).into(),
        flags: None,
    })
}

fn letter(found: u8, yes: u8) -> Option<bool> {
    match found {
        b'-' => Some(false),
        _ if found == yes => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Printed by Linux 6.18; the file is called `a<newline>b <0xff>\c (deleted)` and has been deleted.
    const MAPS: &[u8] = b"\
56135b373000-56135b374000 r--p 00001000 fe:00 18504                      /usr/bin/python3.11
561383223000-56138347d000 rw-p 00000000 00:00 0                          [heap]
7fa4a5d42000-7fa4a5e42000 rw-p 00000000 00:00 0 
7fa4a6bba000-7fa4a6bbb000 rw-s 00000000 00:01 0                          /SYSV00000000 (deleted)
7fa4a6bbb000-7fa4a6bbc000 rw-s 00000000 00:01 1033                       /dev/zero (deleted)
7fa4a6bbc000-7fa4a6bbd000 rw-s 00000000 00:01 1032                       /memfd:m\\012x (deleted)
7fa4a6cd0000-7fa4a6cd2000 rw-s 00000000 fe:00 10010877                   /tmp/parse/a\\012b \xff\\c (deleted) (deleted)
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
";

    #[test]
    fn real_maps() {
        let maps = parse(MAPS);
        assert_eq!((maps.items.len(), maps.bad), (8, 0));
        assert_eq!(
            maps.items[0],
            Vma {
                start: 0x56135b373000,
                end: 0x56135b374000,
                read: true,
                write: false,
                exec: false,
                shared: false,
                offset: 0x1000,
                major: 0xfe,
                minor: 0,
                ino: 18504,
                path: "/usr/bin/python3.11".into(),
                flags: None,
            }
        );
        assert_eq!(maps.items[2].path, Bytes::default());
        assert_eq!((maps.items[4].shared, maps.items[4].ino), (true, 1033));
        assert_eq!(maps.items[5].unescaped(), "/memfd:m\nx (deleted)".into());
        assert_eq!(maps.items[6].unescaped(), b"/tmp/parse/a\nb \xff\\c (deleted) (deleted)".into());
        assert!(maps.items[7].exec && !maps.items[7].read);
        assert_eq!(maps.items[7].len(), 4096);
    }

    /// Printed by Linux 6.18, some keys left out.
    const SMAPS: &[u8] = b"\
7fa4a6cd0000-7fa4a6cd2000 rw-s 00000000 fe:00 10010877                   /x\\012VmFlags: io
Size:                  8 kB
KernelPageSize:        4 kB
Rss:                   0 kB
THPeligible:           0
VmFlags: rd wr sh mr mw me ms 
7fa4a6cdb000-7fa4a6cdf000 r--p 00000000 00:00 0                          [vvar]
Size:                 16 kB
VmFlags: rd mr pf io de dd 
";

    #[test]
    fn real_smaps() {
        let smaps = parse(SMAPS);
        assert_eq!((smaps.items.len(), smaps.bad), (2, 0));
        assert_eq!(smaps.items[0].flags, Some(VmFlags(vec![*b"rd", *b"wr", *b"sh", *b"mr", *b"mw", *b"me", *b"ms"])));
        assert!(smaps.items[1].has_flag(b"io") && !smaps.items[0].has_flag(b"io"));
        let json = serde_json::to_string(&smaps).unwrap();
        assert!(json.contains(r#""rd mr pf io de dd""#), "{json}");
        assert_eq!(serde_json::from_str::<Parsed<Vma>>(&json).unwrap(), smaps);
    }

    #[test]
    fn odd_lines_cost_themselves() {
        let maps = parse(b"1000-2000 rw-p 0 00:00 0 /SYSVx\n1000-zz rw-p 0 00:00 0\nVmFlags: io\n-\n3000-4000 rwxp 0 00:00 0  [anon: a b ]\n");
        assert_eq!(maps.items.iter().map(|v| v.path.escaped()).collect::<Vec<_>>(), ["/SYSVx", "[anon: a b ]"]);
        assert_eq!((maps.bad, &maps.items[0].flags), (2, &None));
    }

    proptest! {
        #[test]
        fn any_bytes(raw: Vec<u8>) {
            parse(&raw).items.iter().for_each(|vma| drop(vma.unescaped()));
        }

        #[test]
        fn round_trip(start: u64, end: u64, offset: u64, major in 0u32..4096, ino: u64, name: Vec<u8>) {
            let name: Vec<u8> = [&b"/"[..], &name].concat().into_iter().filter(|&b| b != b'\n' && b != 0).collect();
            let mut text = format!("{start:08x}-{end:08x} r-xs {offset:08x} {major:02x}:2a {ino} \t   ").into_bytes();
            text.extend_from_slice(&name);
            let vma = line_of_maps(&text).unwrap();
            prop_assert_eq!((vma.start, vma.end, vma.offset, vma.major, vma.minor, vma.ino), (start, end, offset, major, 0x2a, ino));
            prop_assert_eq!(&*vma.path, name.as_slice());
        }
    }
}
