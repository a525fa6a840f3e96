//! `/proc/PID/uid_map` and `gid_map` (`uid_m_show()` in kernel/user_namespace.c).
use crate::parse::text::{dec, fields};
use crate::parse::Parsed;

/// `count` ids from `inside` on are those from `outside` on in the user namespace of the reader (or, for the reader's
/// own, in its parent).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct IdRange {
    pub inside: u32,
    /// 4294967295 if it has no number there.
    pub outside: u32,
    pub count: u32,
}

/// Parses the table.
pub fn parse(text: &[u8]) -> Parsed<IdRange> {
    crate::parse::table(text, |line| {
        let mut numbers = fields(line).map(dec);
        let range = IdRange { inside: numbers.next()??, outside: numbers.next()??, count: numbers.next()?? };
        numbers.next().is_none().then_some(range)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn real_map() {
        let map = parse(b"         0          0 4294967295\n      1000     100000      65536\n1 2\n1 2 3 4\n-1 0 1\n");
        let ranges = [
            IdRange { inside: 0, outside: 0, count: u32::MAX },
            IdRange { inside: 1000, outside: 100000, count: 65536 },
        ];
        assert_eq!((map.items.as_slice(), map.bad), (&ranges[..], 3));
    }

    proptest! {
        #[test]
        fn any_bytes(raw: Vec<u8>) {
            parse(&raw);
        }
    }
}
