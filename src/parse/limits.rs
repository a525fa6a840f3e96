//! `/proc/PID/limits` (`proc_pid_limits()` in fs/proc/base.c).
use crate::bytes::Bytes;
use crate::parse::text::{dec, fields};
use crate::parse::Parsed;

/// One resource limit.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limit {
    /// `Max open files`, `Max address space`, ...
    pub name: Bytes,
    /// In the unit of the limit; `None` is unlimited.
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

/// RLIMIT_NOFILE
pub(crate) const OPEN_FILES: &[u8] = b"Max open files";
/// RLIMIT_AS
pub(crate) const ADDRESS_SPACE: &[u8] = b"Max address space";

impl Parsed<Limit> {
    /// The limit of this name.
    pub(crate) fn get(&self, name: &[u8]) -> Option<&Limit> {
        self.items.iter().find(|limit| &*limit.name == name)
    }
}

/// Parses the table. Its heading is passed over.
pub fn parse(text: &[u8]) -> Parsed<Limit> {
    let body = text
        .strip_prefix(b"Limit ")
        .and_then(|t| crate::parse::text::split_once(t, b'\n'))
        .map_or(text, |(_, body)| body);
    crate::parse::table(body, |line| {
        // "%-25s %-20s %-20s %-10s", and no name is longer.
        let (name, values) = line.split_at_checked(26)?;
        let mut values = fields(values).map(value);
        Some(Limit { name: crate::parse::text::trim(name).into(), soft: values.next()??, hard: values.next()?? })
    })
}

fn value(field: &[u8]) -> Option<Option<u64>> {
    if field == b"unlimited" {
        return Some(None);
    }
    dec(field).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Linux 6.18, shortened.
    const TABLE: &[u8] = b"\
Limit                     Soft Limit           Hard Limit           Units     
Max cpu time              unlimited            unlimited            seconds   
Max stack size            8388608              unlimited            bytes     
Max open files            20000                20001                files     
Max address space         unlimited            18446744073709551614 bytes     
Max nice priority         0                    0                    
Max realtime timeout      unlimited            unlimited            us        
";

    #[test]
    fn real_table() {
        let limits = parse(TABLE);
        assert_eq!((limits.items.len(), limits.bad), (6, 0));
        let nofile = limits.get(OPEN_FILES).unwrap();
        assert_eq!((nofile.soft, nofile.hard), (Some(20000), Some(20001)));
        let space = limits.get(b"Max address space").unwrap();
        assert_eq!((space.soft, space.hard), (None, Some(u64::MAX - 1)));
        assert_eq!(limits.get(b"Max nice priority").unwrap().hard, Some(0));
        assert_eq!(limits.get(b"Max nothing"), None);
        assert_eq!(parse(b"Max open files            x 1\nshort\n").bad, 2);
    }

    proptest! {
        #[test]
        fn any_bytes(raw: Vec<u8>) {
            parse(&raw);
        }
    }
}
