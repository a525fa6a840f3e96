//! `/proc/PID/mountinfo` (`show_mountinfo()` in fs/proc_namespace.c).
//!
//! Fields are separated by exactly one blank: a source can be the empty string. Names have `\ooo` for blank, tab,
//! newline, backslash and, since 5.x, `#`.
use crate::bytes::Bytes;
use crate::parse::text::{dec, split_once, unescape_octal};
use crate::parse::Parsed;

/// One mount. Names are unescaped, except for the options, see [`MountInfo::super_option`].
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct MountInfo {
    pub mnt_id: i32,
    pub parent: i32,
    pub major: u32,
    pub minor: u32,
    /// The part of the filesystem that is mounted; `//deleted` at the end if it is gone, `net:[..]` for nsfs.
    pub root: Bytes,
    /// Seen from the root directory of the task.
    pub mountpoint: Bytes,
    /// Per-mount options, as printed.
    pub options: Bytes,
    pub shared: Option<u32>,
    pub master: Option<u32>,
    pub propagate_from: Option<u32>,
    pub unbindable: bool,
    /// `fuse` of `fuse.sshfs`.
    pub fstype: Bytes,
    /// `sshfs` of `fuse.sshfs`.
    pub subtype: Option<Bytes>,
    pub source: Bytes,
    /// Options of the filesystem, as printed.
    pub super_options: Bytes,
    /// Bytes of the whole line, without its newline.
    #[serde(default)]
    pub length: usize,
}

impl MountInfo {
    /// A filesystem option: `Some(None)` for a bare `key`, `Some(Some(value))`, unescaped, for `key=value`.
    /// The first one counts.
    pub(crate) fn super_option(&self, key: &[u8]) -> Option<Option<Bytes>> {
        option(&self.super_options, key)
    }

    /// The value of a filesystem option `key=value`: `fd`, `pipe_ino`, `subvol`, `lowerdir`, ...
    pub fn super_value(&self, key: &[u8]) -> Option<Bytes> {
        self.super_option(key).flatten()
    }

    /// All values of an option that may be given more than once: `lowerdir+`.
    pub(crate) fn super_values<'a>(&'a self, key: &'a [u8]) -> impl Iterator<Item = Bytes> + 'a {
        let words = self.super_options.split(|&b| b == b',').filter_map(|word| split_once(word, b'='));
        words.filter(move |(k, _)| *k == key).map(|(_, value)| unescape_octal(value))
    }

    /// True if the per-mount options list `key` (`ro`, `nosuid`, ...).
    pub(crate) fn has_option(&self, key: &[u8]) -> bool {
        option(&self.options, key).is_some()
    }
}

fn option(options: &[u8], key: &[u8]) -> Option<Option<Bytes>> {
    options.split(|&b| b == b',').find_map(|word| match split_once(word, b'=') {
        Some((k, value)) => (k == key).then(|| Some(unescape_octal(value))),
        None => (word == key).then_some(None),
    })
}

/// Parses the table.
pub fn parse(text: &[u8]) -> Parsed<MountInfo> {
    crate::parse::table(text, line)
}

/// Parses one line.
pub(crate) fn line(line: &[u8]) -> Option<MountInfo> {
    let mut rest = line;
    let mut next = || {
        let (field, tail) = split_once(rest, b' ')?;
        rest = tail;
        Some(field)
    };
    let mnt_id = dec(next()?)?;
    let parent = dec(next()?)?;
    let (major, minor) = split_once(next()?, b':')?;
    let root = unescape_octal(next()?);
    let mountpoint = unescape_octal(next()?);
    let options = next()?.into();
    let (mut shared, mut master, mut propagate_from, mut unbindable) = (None, None, None, false);
    loop {
        let field = next()?;
        match split_once(field, b':') {
            Some((b"shared", group)) => shared = Some(dec(group)?),
            Some((b"master", group)) => master = Some(dec(group)?),
            Some((b"propagate_from", group)) => propagate_from = Some(dec(group)?),
            None if field == b"unbindable" => unbindable = true,
            None if field == b"-" => break,
            // proc(5): parsers must pass over optional fields they do not know.
            _ => {}
        }
    }
    let fstype = next()?;
    let (fstype, subtype) = match split_once(fstype, b'.') {
        Some((fstype, subtype)) => (fstype, Some(unescape_octal(subtype))),
        None => (fstype, None),
    };
    let source = unescape_octal(next()?);
    Some(MountInfo {
        mnt_id,
        parent,
        major: dec(major)?,
        minor: dec(minor)?,
        root,
        mountpoint,
        options,
        shared,
        master,
        propagate_from,
        unbindable,
        fstype: unescape_octal(fstype),
        subtype,
        source,
        super_options: rest.into(),
        length: line.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The first four were printed by Linux 6.18, the others follow show_mountinfo().
    const TABLE: &[u8] = b"\
22 27 0:21 / /proc rw,relatime - proc proc rw
24 27 0:6 / /dev rw,relatime - devtmpfs devtmpfs rw,size=12334524k,nr_inodes=3083631,mode=755
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard,resv_strict,resuid=65534,resgid=65534
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
50 27 0:40 / /mnt/a\\040b\\134\\012 ro,nosuid shared:7 master:3 propagate_from:2 - fuse.ssh.fs x\\043:/ rw,user_id=0
51 27 0:41 / /auto rw - autofs  rw,fd=6,pgrp=1,timeout=0,pipe_ino=4242,direct
52 27 0:4 net:[4026531840] /run/ns rw unbindable novel:1 - nsfs nsfs rw
53 27 254:0 /tmp/x//deleted /y rw - overlay overlay rw,lowerdir=/a\\054b:/c=d,xino
";

    #[test]
    fn real_and_odd_mounts() {
        let table = parse(TABLE);
        assert_eq!((table.items.len(), table.bad), (8, 0));
        let root = &table.items[2];
        assert_eq!((root.mnt_id, root.parent, root.major, root.minor), (27, 1, 254, 0));
        assert_eq!((&root.fstype, &root.source), (&"ext4".into(), &"/dev/vda".into()));
        assert_eq!(root.super_value(b"resuid"), Some("65534".into()));
        assert_eq!(root.length, TABLE.split(|b| *b == b'\n').nth(2).unwrap().len());
        assert_eq!((root.super_option(b"discard"), root.super_option(b"disc")), (Some(None), None));
        assert_eq!(table.items[3].super_value(b"name"), Some("systemd".into()));

        let fuse = &table.items[4];
        assert_eq!(fuse.mountpoint, "/mnt/a b\\\n".into());
        assert_eq!((fuse.shared, fuse.master, fuse.propagate_from), (Some(7), Some(3), Some(2)));
        assert_eq!(
            (&fuse.fstype, &fuse.subtype, &fuse.source),
            (&"fuse".into(), &Some("ssh.fs".into()), &"x#:/".into())
        );
        assert!(fuse.has_option(b"nosuid") && !fuse.has_option(b"suid"));

        let autofs = &table.items[5];
        assert_eq!((&autofs.source, autofs.super_value(b"fd")), (&"".into(), Some("6".into())));
        assert_eq!(autofs.super_value(b"pipe_ino"), Some("4242".into()));

        assert_eq!((&table.items[6].root, table.items[6].unbindable), (&"net:[4026531840]".into(), true));
        assert!(table.items[7].root.ends_with(b"//deleted"));
        assert_eq!(table.items[7].super_value(b"lowerdir"), Some("/a,b:/c=d".into()));
    }

    #[test]
    fn odd_lines_cost_themselves() {
        let table = parse(
            b"22 27 0:21 / /proc rw - proc proc rw\n22 27 0:21 / /proc rw proc proc rw\nx\n\xff 1 0:1 / / rw - a b c\n",
        );
        assert_eq!((table.items.len(), table.bad), (1, 3));
    }

    fn mangle(name: &[u8]) -> String {
        name.iter()
            .map(|b| if b" \t\n\\#".contains(b) { format!("\\{b:03o}") } else { char::from(*b).into() })
            .collect()
    }

    proptest! {
        #[test]
        fn any_bytes(raw: Vec<u8>) {
            parse(&raw);
        }

        #[test]
        fn round_trip(mnt_id: i32, name in "[ -~\\n\\t]{0,20}", source in "[ -~\\n\\t]{0,20}") {
            let text = format!("{mnt_id} 1 0:7 / /{} rw shared:1 - tmpfs {} rw\n", mangle(name.as_bytes()), mangle(source.as_bytes()));
            let table = parse(text.as_bytes());
            prop_assert_eq!(table.bad, 0);
            let mount = table.items.first().unwrap();
            prop_assert_eq!(&mount.mountpoint, &Bytes::from(format!("/{name}").as_str()));
            prop_assert_eq!((&mount.source, mount.mnt_id), (&Bytes::from(source.as_str()), mnt_id));
        }
    }
}
