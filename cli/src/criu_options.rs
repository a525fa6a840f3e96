//! CRIU's own options: those that decide what it refuses, and those that do not matter here but may stand on a command
//! line that is pasted.
//!
//! Names, letters and values are those of `parse_options` (criu/config.c, 3.17 to 4.3). The same table reads a command line
//! and CRIU's configuration files, which CRIU itself makes into a command line.

use criu_preflight::bytes::{escape, Bytes};
use criu_preflight::criu::options::SWITCHES;
use criu_preflight::criu::{Host, LockMethod};
use lexopt::{Arg, Parser};
use std::os::unix::ffi::OsStrExt;

type Value = fn(&mut Host, &[u8]) -> Result<(), String>;
type Optional = fn(&mut Host, Option<&[u8]>) -> Result<(), String>;

/// What an option does.
#[derive(Clone, Copy)]
pub enum Takes {
    /// `--NAME`, and `--no-NAME` where CRIU has it: the one of this name in [`SWITCHES`].
    Switch,
    Value(Value),
    /// `--NAME` or `--NAME=VALUE`, never `--NAME VALUE`.
    Optional(Optional),
    /// It changes nothing that CRIU refuses: taken and passed over.
    Nothing,
    NothingWithValue,
    NothingWithOptional,
}

use Takes::{NothingWithOptional, NothingWithValue, Optional as OptionalValue};

/// Long name, letter.
pub struct Opt {
    pub name: &'static str,
    pub letter: Option<char>,
    pub takes: Takes,
}

const fn opt(name: &'static str, takes: Takes) -> Opt {
    Opt { name, letter: None, takes }
}

const fn short(letter: char, name: &'static str, takes: Takes) -> Opt {
    Opt { name, letter: Some(letter), takes }
}

/// Those that matter first.
pub const OPTIONS: &[Opt] = &[
    opt("tcp-established", Takes::Switch),
    opt("tcp-close", Takes::Switch),
    opt("skip-in-flight", Takes::Switch),
    short('x', "ext-unix-sk", OptionalValue(ext_unix_sk)),
    short('j', "shell-job", Takes::Switch),
    short('l', "file-locks", Takes::Switch),
    opt("link-remap", Takes::Switch),
    opt("ghost-limit", Takes::Value(ghost_limit)),
    opt("evasive-devices", Takes::Switch),
    opt("force-irmap", Takes::Switch),
    opt("irmap-scan-path", Takes::Value(irmap_scan_path)),
    opt("external", Takes::Value(external)),
    short('M', "ext-mount-map", Takes::Value(ext_mount_map)),
    opt("enable-fs", Takes::Value(|h, v| push(&mut h.options.enable_fs, v))),
    opt("skip-mnt", Takes::Value(|h, v| push(&mut h.options.skip_mnt, v))),
    opt("enable-external-sharing", Takes::Switch),
    opt("enable-external-masters", Takes::Switch),
    opt("inherit-fd", Takes::Value(inherit_fd)),
    opt("allow-uprobes", Takes::Switch),
    opt("network-lock", Takes::Value(network_lock)),
    opt("empty-ns", Takes::Value(empty_ns)),
    opt(
        "freeze-cgroup",
        Takes::Value(|h, v| {
            h.options.freeze_cgroup = Some(Some(v.into()));
            Ok(())
        }),
    ),
    opt("manage-cgroups", OptionalValue(manage_cgroups)),
    opt(
        "cgroup-dump-controller",
        Takes::Value(|h, v| {
            h.options.dump_controllers.get_or_insert_default().get_or_insert_default().push(v.into());
            Ok(())
        }),
    ),
    opt("file-validation", Takes::Value(file_validation)),
    opt("unprivileged", Takes::Switch),
    opt("lazy-pages", Takes::Switch),
    opt(
        "lsm-profile",
        Takes::Value(|h, _| {
            h.options.lsm_supplied = Some(true);
            Ok(())
        }),
    ),
    opt("timeout", Takes::Value(timeout)),
    // From here on nothing that CRIU refuses depends on them.
    short('s', "leave-stopped", Takes::Nothing),
    short('R', "leave-running", Takes::Nothing),
    short('D', "images-dir", NothingWithValue),
    short('W', "work-dir", NothingWithValue),
    short('o', "log-file", NothingWithValue),
    short('v', "verbosity", NothingWithOptional),
    short('L', "libdir", NothingWithValue),
    short('r', "root", NothingWithValue),
    opt("log-pid", Takes::Nothing),
    opt("display-stats", Takes::Nothing),
    opt("pidfile", NothingWithValue),
    opt("action-script", NothingWithValue),
    opt("status-fd", NothingWithValue),
    opt("prev-images-dir", NothingWithValue),
    opt("track-mem", Takes::Nothing),
    opt("auto-dedup", Takes::Nothing),
    opt("page-server", Takes::Nothing),
    opt("address", NothingWithValue),
    opt("port", NothingWithValue),
    opt("ps-socket", NothingWithValue),
    opt("stream", Takes::Nothing),
    opt("tls", Takes::Nothing),
    opt("tls-cacert", NothingWithValue),
    opt("tls-cacrl", NothingWithValue),
    opt("tls-cert", NothingWithValue),
    opt("tls-key", NothingWithValue),
    opt("tls-no-cn-verify", Takes::Nothing),
    opt("cpu-cap", NothingWithOptional),
    opt("cgroup-root", NothingWithValue),
    opt("cgroup-props", NothingWithValue),
    opt("cgroup-props-file", NothingWithValue),
    opt("cgroup-yard", NothingWithValue),
    opt("lsm-mount-context", NothingWithValue),
    opt("ghost-fiemap", Takes::Nothing),
    opt("weak-sysctls", Takes::Nothing),
    opt("deprecated", Takes::Nothing),
    opt("plugin-option", NothingWithValue),
    // Restore's, which may stand in a configuration file.
    short('d', "restore-detached", Takes::Nothing),
    short('S', "restore-sibling", Takes::Nothing),
    short('J', "join-ns", NothingWithValue),
    opt("veth-pair", NothingWithValue),
    opt("mntns-compat-mode", Takes::Nothing),
    opt("skip-file-rwx-check", Takes::Nothing),
    opt("exec-cmd", Takes::Nothing),
];

/// The option of CRIU that this is, and whether it is switched on; `None`: none of CRIU's.
pub fn find(arg: &Arg) -> Option<(&'static Opt, bool)> {
    match arg {
        Arg::Short(letter) => OPTIONS.iter().find(|o| o.letter == Some(*letter)).map(|o| (o, true)),
        Arg::Long(name) => OPTIONS.iter().find(|o| o.name == *name).map(|o| (o, true)).or_else(|| {
            let name = name.strip_prefix("no-")?;
            let flag = |o: &&Opt| o.name == name && matches!(o.takes, Takes::Switch | Takes::Nothing);
            OPTIONS.iter().find(flag).map(|o| (o, false))
        }),
        Arg::Value(_) => None,
    }
}

/// Takes the option, and its value from the parser.
pub fn apply(host: &mut Host, opt: &Opt, on: bool, parser: &mut Parser) -> Result<(), String> {
    let wrong = |why: String| format!("--{}: {why}", opt.name);
    let value = |parser: &mut Parser| parser.value().map_err(|_| wrong("it wants a value".into()));
    match opt.takes {
        Takes::Switch => {
            let switch = SWITCHES.iter().find(|switch| switch.name == Some(opt.name));
            switch.ok_or_else(|| wrong("no such option".into()))?.set(&mut host.options, Some(on));
        }
        Takes::Value(set) => set(host, value(parser)?.as_bytes()).map_err(wrong)?,
        Takes::Optional(set) => set(host, parser.optional_value().as_deref().map(OsStrExt::as_bytes)).map_err(wrong)?,
        Takes::Nothing => {}
        Takes::NothingWithValue => drop(value(parser)?),
        Takes::NothingWithOptional => drop(parser.optional_value()),
    }
    Ok(())
}

fn push(list: &mut Option<Vec<Bytes>>, value: &[u8]) -> Result<(), String> {
    list.get_or_insert_with(Vec::new).push(value.into());
    Ok(())
}

/// CRIU puts each one in front of the others (`add_external`).
fn add_external(host: &mut Host, key: Vec<u8>) {
    host.externals.get_or_insert_with(Vec::new).insert(0, Bytes(key));
}

fn display(value: &[u8]) -> String {
    escape(value)
}

/// The number at the start of a text, as `atol` reads it; `None` where that would read nothing.
fn leading_number(value: &[u8]) -> Option<u64> {
    let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(value.get(..digits)?).ok()?.parse().ok()
}

fn ext_unix_sk(host: &mut Host, value: Option<&[u8]>) -> Result<(), String> {
    let list = value.unwrap_or_default();
    for inode in list.split(|b| *b == b',').filter(|i| !i.is_empty()) {
        match leading_number(inode).filter(|n| *n != 0 && n.to_string().len() == inode.len()) {
            Some(inode) => add_external(host, format!("unix[{inode}]").into_bytes()),
            None => return Err(format!("'{}' is not the inode of a socket", display(inode))),
        }
    }
    host.options.ext_unix_sk = Some(true);
    Ok(())
}

fn ghost_limit(host: &mut Host, value: &[u8]) -> Result<(), String> {
    let unit: u64 = match value.iter().find(|b| b"KMG".contains(b)) {
        Some(b'K') => 1 << 10,
        Some(b'M') => 1 << 20,
        Some(_) => 1 << 30,
        None => 1,
    };
    let number = leading_number(value).and_then(|n| n.checked_mul(unit));
    host.options.ghost_limit =
        Some(number.ok_or_else(|| format!("'{}' is not a size (1048576, 1024K, 1M)", display(value)))?);
    Ok(())
}

fn irmap_scan_path(host: &mut Host, value: &[u8]) -> Result<(), String> {
    push(&mut host.options.irmap_scan_paths, value)
}

/// `add_external` (criu/external.c), `ext_mount_parse_auto` (criu/mount.c).
fn external(host: &mut Host, value: &[u8]) -> Result<(), String> {
    let Some(flags) = value.strip_prefix(b"mnt[]") else {
        add_external(host, value.to_vec());
        return Ok(());
    };
    host.options.autodetect_ext_mounts = Some(true);
    // It looks at one letter only.
    match flags.strip_prefix(b":").and_then(<[u8]>::first) {
        Some(b'm') => host.options.enable_external_masters = Some(true),
        Some(b's') => host.options.enable_external_sharing = Some(true),
        Some(_) => return Err(format!("'{}': after 'mnt[]:' comes m or s", display(value))),
        None => {}
    }
    Ok(())
}

fn ext_mount_map(host: &mut Host, value: &[u8]) -> Result<(), String> {
    if value == b"auto" {
        host.options.autodetect_ext_mounts = Some(true);
        return Ok(());
    }
    let at = value.iter().position(|b| *b == b':').ok_or_else(|| format!("'{}' is not KEY:VALUE", display(value)))?;
    let (key, rest) = value.split_at(at);
    add_external(host, [b"mnt[", key, b"]", rest].concat());
    Ok(())
}

/// `fd[NUMBER]:KEY` (criu/files.c:inherit_fd_parse).
fn inherit_fd(host: &mut Host, value: &[u8]) -> Result<(), String> {
    let key = value.strip_prefix(b"fd[").and_then(|rest| {
        let end = rest.iter().position(|b| *b == b']')?;
        rest.get(end + 1..)?.strip_prefix(b":")
    });
    match key {
        Some(key) => push(&mut host.inherit_ids, key),
        None => Err(format!("'{}' is not fd[NUMBER]:KEY", display(value))),
    }
}

fn network_lock(host: &mut Host, value: &[u8]) -> Result<(), String> {
    host.options.network_lock = Some(match value {
        b"iptables" => LockMethod::Iptables,
        b"nftables" => LockMethod::Nftables,
        b"skip" | b"none" => LockMethod::Skip,
        _ => return Err(format!("'{}' is not iptables, nftables or skip", display(value))),
    });
    Ok(())
}

fn empty_ns(host: &mut Host, value: &[u8]) -> Result<(), String> {
    /// CLONE_NEWNET.
    const NET: u32 = 0x4000_0000;
    match value {
        b"net" => host.options.empty_ns = Some(host.options.empty_ns.unwrap_or(0) | NET),
        _ => return Err(format!("'{}' is not net", display(value))),
    }
    Ok(())
}

/// CG_MODE_* (criu/include/cr_options.h).
fn manage_cgroups(host: &mut Host, value: Option<&[u8]>) -> Result<(), String> {
    host.options.manage_cgroups = Some(match value {
        Some(b"ignore") => 0,
        Some(b"none") => 1 << 0,
        Some(b"props") => 1 << 1,
        None | Some(b"soft") => 1 << 2,
        Some(b"full") => 1 << 3,
        Some(b"strict") => 1 << 4,
        Some(other) => return Err(format!("'{}' is not ignore, none, props, soft, full or strict", display(other))),
    });
    Ok(())
}

fn file_validation(host: &mut Host, value: &[u8]) -> Result<(), String> {
    host.options.validate_by_size = Some(match value {
        b"filesize" => true,
        b"buildid" => false,
        _ => return Err(format!("'{}' is not filesize or buildid", display(value))),
    });
    Ok(())
}

fn timeout(host: &mut Host, value: &[u8]) -> Result<(), String> {
    let seconds = leading_number(value).and_then(|n| u32::try_from(n).ok());
    host.options.timeout = Some(seconds.ok_or_else(|| format!("'{}' is not a number of seconds", display(value)))?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both manual page and usage name what can be given.
    #[test]
    fn every_switch_can_be_given_and_is_documented() {
        let manual = include_str!("../../docs/criu-preflight.1").replace('\\', "");
        for name in SWITCHES.iter().filter_map(|switch| switch.name).filter(|name| !name.contains(' ')) {
            let takes = OPTIONS.iter().find(|opt| opt.name == name).map(|opt| opt.takes);
            // --ext-unix-sk has an optional value.
            assert!(matches!(takes, Some(Takes::Switch | Takes::Optional(_))), "--{name}");
            assert!(crate::args::USAGE.contains(&format!("--{name}")), "--{name} in the usage");
            assert!(manual.contains(name), "--{name} in the manual");
        }
    }
}
