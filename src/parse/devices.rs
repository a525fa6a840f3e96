//! Names of device numbers: `/proc/devices` (fs/proc/devices.c) and `/proc/misc` (drivers/char/misc.c).
use super::text::{dec, lines, split_once, trim, trim_start};
use super::Parsed;
use crate::bytes::Bytes;

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

impl Devices {
    /// The driver of a character major; where several share it (4: tty, ttyS), the first.
    pub fn char_name(&self, major: u32) -> Option<&Bytes> {
        name(&self.chars, major)
    }

    /// The driver of a block major.
    pub fn block_name(&self, major: u32) -> Option<&Bytes> {
        name(&self.blocks, major)
    }

    /// All character majors of a driver. Dynamic ones can be several (`usbmon`, `ttyACM`).
    pub fn char_majors<'a>(&'a self, driver: &'a [u8]) -> impl Iterator<Item = u32> + 'a {
        self.chars.iter().filter(move |d| &*d.name == driver).map(|d| d.number)
    }
}

/// The name of a number in one of these tables.
pub fn name(table: &[NamedNumber], number: u32) -> Option<&Bytes> {
    table.iter().find(|entry| entry.number == number).map(|entry| &entry.name)
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
    super::table(text, named_number)
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
        assert_eq!(devices.char_name(4), Some(&"/dev/vc/0".into()));
        assert_eq!((devices.char_name(7), devices.block_name(7)), (None, Some(&"loop".into())));
        assert_eq!(devices.char_name(511), Some(&"odd name".into()));
        assert_eq!(devices.char_majors(b"tty").collect::<Vec<_>>(), [4]);

        let misc = parse_misc(b"234 btrfs-control\n200 tun\n 59 cpu_dma_latency\nx y\n");
        assert_eq!(
            (name(&misc.items, 200), name(&misc.items, 59), misc.bad),
            (Some(&"tun".into()), Some(&"cpu_dma_latency".into()), 1)
        );
        assert_eq!(parse(b"Character devices:\n 1\n-1 x\n 2 y\n").bad, 2);
    }

    proptest! {
        #[test]
        fn any_bytes(raw: Vec<u8>) {
            parse(&raw);
            parse_misc(&raw);
        }
    }
}
