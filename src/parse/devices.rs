//! Names of device numbers: `/proc/devices` (fs/proc/devices.c), `/proc/misc` (drivers/char/misc.c) and `/proc/tty/drivers`.
use crate::bytes::Bytes;
use crate::parse::text::{dec, fields, lines, split_once, trim, trim_start};
use crate::parse::Parsed;

/// A number with a driver's name: a major in `/proc/devices`, a minor of major 10 in `/proc/misc`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NamedNumber {
    pub number: u32,
    pub name: Bytes,
}

/// `/proc/devices`.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Devices {
    pub chars: Vec<NamedNumber>,
    pub blocks: Vec<NamedNumber>,
    /// Lines that were not understood.
    pub bad: usize,
}

/// Parses `/proc/devices`.
pub fn parse(text: &[u8]) -> Devices {
    let mut devices = Devices::default();
    let mut blocks = false;
    for line in lines(text) {
        match (trim(line), named_number(line)) {
            (b"Character devices:", _) => blocks = false,
            (b"Block devices:", _) => blocks = true,
            (_, Some(device)) if blocks => devices.blocks.push(device),
            (_, Some(device)) => devices.chars.push(device),
            (_, None) => devices.bad = devices.bad.saturating_add(1),
        }
    }
    devices
}

/// Parses `/proc/misc`: minors of major 10.
pub fn parse_misc(text: &[u8]) -> Parsed<NamedNumber> {
    crate::parse::table(text, named_number)
}

/// A line of `/proc/tty/drivers` (`show_tty_range()` in fs/proc/proc_tty.c): several can share a major.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TtyDriver {
    pub name: Bytes,
    pub major: u32,
    /// The first minor of its range, and the last.
    pub minors: (u32, u32),
}

/// Parses `/proc/tty/drivers`.
pub fn parse_tty(text: &[u8]) -> Parsed<TtyDriver> {
    crate::parse::table(text, |line| {
        let mut fields = fields(line);
        let (name, _node, major, range) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let minors = match split_once(range, b'-') {
            Some((first, last)) => (dec(first)?, dec(last)?),
            None => (dec(range)?, dec(range)?),
        };
        Some(TtyDriver { name: name.into(), major: dec(major)?, minors })
    })
}

fn named_number(line: &[u8]) -> Option<NamedNumber> {
    let (number, name) = split_once(trim_start(line), b' ')?;
    Some(NamedNumber { number: dec(number)?, name: name.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn real_tables() {
        // Linux 6.18, shortened.
        let devices = parse(b"Character devices:\n  1 mem\n  4 /dev/vc/0\n  4 tty\n 10 misc\n203 cpu/cpuid\n511 odd name\n\nBlock devices:\n  7 loop\n259 blkext\n");
        assert_eq!((devices.chars.len(), devices.blocks.len(), devices.bad), (6, 2, 0));
        let named = |number, name: &str| NamedNumber { number, name: name.into() };
        assert_eq!(devices.chars.get(1..3), Some(&[named(4, "/dev/vc/0"), named(4, "tty")][..]));
        assert_eq!(devices.chars.last(), Some(&named(511, "odd name")));
        assert_eq!(devices.blocks, [named(7, "loop"), named(259, "blkext")]);

        let misc = parse_misc(b"234 btrfs-control\n200 tun\n 59 cpu_dma_latency\nx y\n");
        assert_eq!(misc.items, [named(234, "btrfs-control"), named(200, "tun"), named(59, "cpu_dma_latency")]);
        assert_eq!(misc.bad, 1);
        assert_eq!(parse(b"Character devices:\n 1\n-1 x\n 2 y\n").bad, 2);
    }

    #[test]
    fn terminals_share_majors() {
        let text = b"/dev/vc/0            /dev/vc/0       4       0 system:vtmaster\n\
                     serial               /dev/ttyS       4 64-95 serial\nx y\n\
                     unknown              /dev/tty        4 1-63 console\n";
        let drivers = parse_tty(text);
        let driver = |name: &str, minors| TtyDriver { name: name.into(), major: 4, minors };
        let expected = [driver("/dev/vc/0", (0, 0)), driver("serial", (64, 95)), driver("unknown", (1, 63))];
        assert_eq!(drivers.items, expected);
        assert_eq!(drivers.bad, 1);
    }

    proptest! {
        #[test]
        fn any_bytes(raw: Vec<u8>) {
            parse(&raw);
            parse_misc(&raw);
            parse_tty(&raw);
        }
    }
}
