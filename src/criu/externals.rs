//! `--external KEY`: what lies outside of the tree and stays there. What keys there are, how they are made and how CRIU looks
//! for one.
//!
//! Source: criu/external.c, the same from 3.17.1 to 4.2, and who calls it.

use crate::bytes::{escape, Bytes};
use crate::criu::options::{note, Note};
use crate::criu::{Gate, Host, Opt};
use std::ffi::CStr;

/// A kind of key, `NAME[...]`.
pub struct Kind {
    pub name: &'static CStr,
    /// What is in the brackets.
    pub inside: &'static str,
    pub lookup: Lookup,
    /// None where no dump takes it.
    pub note: Option<Note>,
}

/// How a dump looks for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// `external_lookup_id`: the whole text is the key.
    Whole,
    /// `external_lookup_by_key`: the key, a colon and a name for the image.
    Named,
    /// No dump looks for it, a restore does.
    RestoreOnly,
}

const fn kind(name: &'static CStr, inside: &'static str, lookup: Lookup, note: Note) -> Kind {
    Kind { name, inside, lookup, note: Some(note) }
}

const fn of_restore(name: &'static CStr, inside: &'static str) -> Kind {
    Kind { name, inside, lookup: Lookup::RestoreOnly, note: None }
}

/// Of files and terminals.
const HANDED_IN: Note = note(
    "What it names is not saved.",
    "--inherit-fd 'fd[N]:KEY', KEY being tty[...] or file[...] as in the dump, which hands in such a thing (a file of the same \
     type, size and mode).",
);

/// All of them, with who looks for one. `mnt[]` is none: see [`parse`].
pub const KINDS: &[Kind] = &[
    // unix_sk_exception_lookup_id, criu/sk-unix.c.
    kind(
        c"unix",
        "INODE",
        Lookup::Whole,
        note(
            "The socket is saved without its other end.",
            "--ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]', which connects it anew to \
             that name or hands in a connected socket (the second colon is not in CRIU's manual; a datagram socket cannot be \
             handed in, and with --ext-unix-sk CRIU crashes where there is no name).",
        ),
    ),
    // dump_one_reg_file, criu/files-reg.c.
    kind(c"file", "MNT_ID:INODE", Lookup::Whole, HANDED_IN),
    // get_tty_driver, criu/tty.c; a key of --inherit-fd does as well.
    kind(c"tty", "RDEV:DEV", Lookup::Whole, HANDED_IN),
    // ext_mount_lookup, criu/mount.c.
    kind(
        c"mnt",
        "MOUNTPOINT",
        Lookup::Named,
        note(
            "What is in the mount is not saved.",
            "--external 'mnt[NAME]:PATH', PATH being what is to be mounted there.",
        ),
    ),
    // try_resolve_ext_mount, criu/mount.c.
    kind(
        c"dev",
        "MAJOR/MINOR",
        Lookup::Named,
        note("What is on the device is not saved.", "--external 'dev[NAME]:/dev/DEVICE'."),
    ),
    // collect_net_ns, criu/net.c.
    kind(
        c"net",
        "INODE",
        Lookup::Named,
        note("The network namespace is not saved.", "--inherit-fd 'fd[N]:NAME', which hands in another."),
    ),
    // dump_namespaces and collect_pid_ns, criu/namespaces.c.
    kind(
        c"pid",
        "INODE",
        Lookup::Named,
        note(
            "The pid namespace is not saved.",
            "--inherit-fd 'fd[N]:pidns', which hands in another, with the pids free in it.",
        ),
    ),
    // All criu/net.c.
    of_restore(c"veth", "INTERFACE"),
    of_restore(c"netdev", "INTERFACE"),
    of_restore(c"macvlan", "INTERFACE"),
];

/// What comes with giving `--external KEY`.
pub(crate) fn note_of(key: &str) -> Option<Note> {
    if key.starts_with("mnt[]") {
        return Opt::AutodetectExtMounts.row()?.note("");
    }
    // Where the key itself is a fact that is not known, it is of one of these.
    kind_of(key).map_or(Some(HANDED_IN), |kind| kind.note)
}

fn kind_of(key: &str) -> Option<&'static Kind> {
    let (name, _) = key.split_once('[')?;
    KINDS.iter().find(|kind| kind.name.to_bytes() == name.as_bytes())
}

/// A UNIX socket, by its inode.
pub(crate) fn unix(inode: u64) -> String {
    format!("unix[{inode}]")
}

/// A file of a mount; both numbers in hexadecimal.
pub(crate) fn file(mnt_id: u32, inode: u64) -> String {
    format!("file[{mnt_id:x}:{inode:x}]")
}

/// A terminal, and any other character device: by its own number and that of the file system its node is on, as stat has
/// them, in hexadecimal.
pub(crate) fn tty(rdev: u64, dev: u64) -> String {
    format!("tty[{rdev:x}:{dev:x}]")
}

/// A mount, by its mountpoint.
pub(crate) fn mnt(mountpoint: &[u8]) -> Vec<u8> {
    [b"mnt[", mountpoint, b"]"].concat()
}

/// A file system, by its device.
pub(crate) fn dev(major: u32, minor: u32) -> String {
    format!("dev[{major}/{minor}]")
}

/// A network namespace.
pub(crate) fn net(inode: u64) -> String {
    format!("net[{inode}]")
}

/// A pid namespace.
pub(crate) fn pid(inode: u64) -> String {
    format!("pid[{inode}]")
}

impl Host {
    /// What a key of [`Lookup::Whole`] decides.
    pub(crate) fn gate_external(&self, key: &[u8]) -> Gate {
        gate(&self.externals, |list| list.iter().any(|given| **given == *key))
    }

    /// What a key of [`Lookup::Named`] decides: the first that begins so counts, and one without a name is none.
    pub(crate) fn gate_named_external(&self, key: &[u8]) -> Gate {
        gate(&self.externals, |list| {
            let named = list.iter().find_map(|given| match given.strip_prefix(key)? {
                [] => Some(false),
                [b':', ..] => Some(true),
                _ => None,
            });
            named == Some(true)
        })
    }

    /// The same for a key that is looked for among those of `--inherit-fd` too. Mostly none of this kind is given, and none need
    /// be made.
    pub(crate) fn gate_external_or_inherited(&self, kind: &[u8], key: impl Fn() -> String) -> Gate {
        let has = |list: &[Bytes]| list.iter().any(|given| given.starts_with(kind) && **given == *key().as_bytes());
        gate(&self.externals, has).or(gate(&self.inherit_ids, has))
    }
}

fn gate(list: &Option<Vec<Bytes>>, is_given: impl FnOnce(&[Bytes]) -> bool) -> Gate {
    match list {
        None => Gate::OPTION_UNKNOWN,
        Some(list) if is_given(list) => Gate::Waived,
        Some(_) => Gate::InForce,
    }
}

/// Gives the host a key (`add_external`): in front of the others.
pub(crate) fn add(host: &mut Host, key: Vec<u8>) {
    host.externals.get_or_insert_default().insert(0, Bytes(key));
}

/// The value of `--external`. `mnt[]` finds mounts by itself (`ext_mount_parse_auto`, criu/mount.c): one letter after a colon
/// lets it take slaves or shared ones too, and CRIU does not look at a second one.
pub(crate) fn parse(host: &mut Host, value: &[u8]) -> Result<(), String> {
    let Some(flags) = value.strip_prefix(b"mnt[]") else {
        add(host, value.to_vec());
        return Ok(());
    };
    host.options.autodetect_ext_mounts = Some(true);
    match flags.strip_prefix(b":").and_then(<[u8]>::first) {
        Some(b'm') => host.options.enable_external_masters = Some(true),
        Some(b's') => host.options.enable_external_sharing = Some(true),
        Some(_) => return Err(format!("'{}': after 'mnt[]:' comes m or s", escape(value))),
        None => {}
    }
    Ok(())
}

/// The values by which CRIU would find a mount of this propagation by itself (`resolve_external_mounts`, criu/mount.c), with a blank
/// between them. `None`: what it takes is given.
pub(crate) fn auto(host: &Host, shared: bool, slave: bool) -> Option<&'static str> {
    let lacks = |given: Option<bool>| given != Some(true);
    let masters = slave && lacks(host.options.enable_external_masters);
    let sharing = shared && lacks(host.options.enable_external_sharing);
    match (masters, sharing) {
        (true, true) => Some("mnt[]:m mnt[]:s"),
        (true, false) => Some("mnt[]:m"),
        (false, true) => Some("mnt[]:s"),
        (false, false) => lacks(host.options.autodetect_ext_mounts).then_some("mnt[]"),
    }
}

/// The value of `--ext-mount-map`, an older way to write `mnt[]` and `mnt[KEY]:VALUE`.
pub(crate) fn parse_mount_map(host: &mut Host, value: &[u8]) -> Result<(), String> {
    if value == b"auto" {
        host.options.autodetect_ext_mounts = Some(true);
        return Ok(());
    }
    let at = value.iter().position(|b| *b == b':').ok_or_else(|| format!("'{}' is not KEY:VALUE", escape(value)))?;
    let (key, rest) = value.split_at(at);
    add(host, [mnt(key), rest.to_vec()].concat());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::testkit::host;
    use crate::rules::{registry, Remedy};

    /// Whether a key with a name is one for these.
    fn named(given: &[&str]) -> Gate {
        let externals = Some(given.iter().map(|g| Bytes::from(*g)).collect());
        Host { externals, ..host() }.gate_named_external(net(9).as_bytes())
    }

    #[test]
    fn a_key_is_looked_for_as_criu_does() {
        assert_eq!(named(&["net[9]:a"]), Gate::Waived);
        assert_eq!(named(&["net[9]:"]), Gate::Waived);
        for none in [&["net[9]"], &["net[99]:a"], &["net[9]x:a"], &["mnt[9]:a"]] {
            assert_eq!(named(none), Gate::InForce, "{none:?}");
        }
        // The first that begins so counts, unless it goes on otherwise.
        assert_eq!(named(&["net[9]", "net[9]:a"]), Gate::InForce);
        assert_eq!(named(&["net[9]x", "net[9]:a"]), Gate::Waived);
        assert_eq!(Host { externals: None, ..host() }.gate_named_external(b"net[9]"), Gate::OPTION_UNKNOWN);
        let whole = Host { externals: Some(vec!["unix[9]:a".into(), "unix[8]".into()]), ..host() };
        assert_eq!(whole.gate_external(b"unix[9]"), Gate::InForce);
        assert_eq!(whole.gate_external(b"unix[8]"), Gate::Waived);
    }

    #[test]
    fn made_as_criu_makes_them() {
        let made = [unix(12), file(31, 43), tty(0xae8, 6), dev(8, 1), net(7), pid(5)];
        assert_eq!(made, ["unix[12]", "file[1f:2b]", "tty[ae8:6]", "dev[8/1]", "net[7]", "pid[5]"]);
        assert_eq!(mnt(b"/a b"), b"mnt[/a b]");
        assert!(made.iter().all(|key| kind_of(key).is_some()));
    }

    #[test]
    fn a_mount_is_found_by_what_is_said_to_find_it() {
        for (shared, slave) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut host = host();
            for value in auto(&host, shared, slave).unwrap().split(' ') {
                parse(&mut host, value.as_bytes()).unwrap();
            }
            let o = &host.options;
            let given = (o.autodetect_ext_mounts, o.enable_external_sharing, o.enable_external_masters);
            assert_eq!(given, (Some(true), Some(shared), Some(slave)));
            assert_eq!(auto(&host, shared, slave), None);
        }
    }

    /// What a hint says has to be what CRIU looks for.
    #[test]
    fn every_key_of_a_remedy_is_one() {
        for rule in registry::RULES {
            for remedy in rule.remedies {
                let (key, lookup) = match remedy {
                    Remedy::Modelled("external", value) if value.starts_with("mnt[]") => {
                        assert_eq!(parse(&mut host(), value.as_bytes()), Ok(()), "{}: {value}", rule.id);
                        continue;
                    }
                    Remedy::Modelled("external", value) => (value, Lookup::Named),
                    Remedy::External(value) | Remedy::ExternalInVain(value) => (value, Lookup::Whole),
                    _ => continue,
                };
                // The whole key may be a fact, which the rule has made here.
                if let (true, Some(kind)) = (!key.starts_with('{'), kind_of(key)) {
                    let has_name = key.contains("]:");
                    assert_eq!((kind.lookup, has_name), (lookup, lookup == Lookup::Named), "{}: {key}", rule.id);
                } else {
                    assert!(key.starts_with('{'), "{}: {key}", rule.id);
                }
            }
        }
    }
}
