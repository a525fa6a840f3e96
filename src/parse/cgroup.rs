//! `/proc/PID/cgroup` (`proc_cgroup_show()` in kernel/cgroup/cgroup.c). A cgroup's name cannot contain a newline.
use crate::bytes::Bytes;
use crate::parse::text::{dec, split_once};
use crate::parse::Parsed;

/// The place of a task in one hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Cgroup {
    /// 0 is the unified one (cgroup v2).
    pub hierarchy: u32,
    /// Version 1 controllers, or `name=...`; empty for version 2.
    pub controllers: Vec<Bytes>,
    /// From the root of the reader's cgroup namespace (`/../..` outside of it), raw; ` (deleted)` at the end if removed.
    pub path: Bytes,
}

impl Cgroup {
    pub(crate) fn is_v2(&self) -> bool {
        self.hierarchy == 0 && self.controllers.is_empty()
    }

    /// The hierarchy as the file names it: controllers with commas between; empty for version 2.
    pub(crate) fn name(&self) -> Bytes {
        let parts: Vec<&[u8]> = self.controllers.iter().map(|c| c.0.as_slice()).collect();
        Bytes(parts.join(&b','))
    }
}

/// Parses the table.
pub fn parse(text: &[u8]) -> Parsed<Cgroup> {
    crate::parse::table(text, |line| {
        let (hierarchy, rest) = split_once(line, b':')?;
        // A path may contain colons, a controller list may not (a named hierarchy's name is [a-zA-Z0-9_.-]).
        let (controllers, path) = split_once(rest, b':')?;
        let controllers = controllers.split(|&b| b == b',').filter(|c| !c.is_empty()).map(Bytes::from).collect();
        path.starts_with(b"/").then_some(())?;
        Some(Cgroup { hierarchy: dec(hierarchy)?, controllers, path: path.into() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn real_table() {
        let table = parse(b"9:name=systemd:/\n4:memory:/process_api/ef5ac61b\n3:cpu,cpuacct:/a:b\xff (deleted)\n0::/../x\nz:a:/\n1:cpu\n1:cpu:x\n");
        assert_eq!((table.items.len(), table.bad), (4, 3));
        assert_eq!(table.items[0].controllers, ["name=systemd".into()]);
        assert_eq!(
            table.items[2],
            Cgroup {
                hierarchy: 3,
                controllers: vec!["cpu".into(), "cpuacct".into()],
                path: b"/a:b\xff (deleted)".into()
            }
        );
        assert!(table.items[3].is_v2() && !table.items[0].is_v2());
    }

    proptest! {
        #[test]
        fn any_bytes(raw: Vec<u8>) {
            parse(&raw);
        }
    }
}
