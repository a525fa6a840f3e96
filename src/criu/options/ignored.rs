//! Options on which nothing depends that CRIU refuses: they may stand on a command line that is pasted.

/// Whether a value belongs to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    None,
    Required,
    /// `--NAME=VALUE`, never `--NAME VALUE`.
    Optional,
}

pub struct Ignored {
    pub name: &'static str,
    pub letter: Option<char>,
    pub argument: Argument,
}

const fn long(name: &'static str, argument: Argument) -> Ignored {
    Ignored { name, letter: None, argument }
}

const fn short(letter: char, name: &'static str, argument: Argument) -> Ignored {
    Ignored { name, letter: Some(letter), argument }
}

use Argument::{None as Nothing, Optional, Required};

/// `parse_options` (criu/config.c, 3.17 to 4.2, and 4.3's `criu --help`).
pub const IGNORED: &[Ignored] = &[
    short('s', "leave-stopped", Nothing),
    short('D', "images-dir", Required),
    short('W', "work-dir", Required),
    short('o', "log-file", Required),
    short('v', "verbosity", Optional),
    short('L', "libdir", Required),
    short('r', "root", Required),
    long("log-pid", Nothing),
    long("display-stats", Nothing),
    long("pidfile", Required),
    long("action-script", Required),
    long("status-fd", Required),
    long("prev-images-dir", Required),
    long("pre-dump-mode", Required),
    long("track-mem", Nothing),
    long("auto-dedup", Nothing),
    long("lazy-pages", Nothing),
    long("page-server", Nothing),
    long("address", Required),
    long("port", Required),
    long("ps-socket", Required),
    long("stream", Nothing),
    long("tls", Nothing),
    long("tls-cacert", Required),
    long("tls-cacrl", Required),
    long("tls-cert", Required),
    long("tls-key", Required),
    long("tls-no-cn-verify", Nothing),
    long("cpu-cap", Optional),
    long("manage-cgroups", Optional),
    long("cgroup-root", Required),
    long("cgroup-props", Required),
    long("cgroup-props-file", Required),
    long("cgroup-yard", Required),
    long("lsm-mount-context", Required),
    long("ghost-fiemap", Nothing),
    long("timeout", Required),
    long("weak-sysctls", Nothing),
    long("deprecated", Nothing),
    long("plugin-option", Required),
    // Restore's, which may stand in a configuration file.
    short('d', "restore-detached", Nothing),
    short('S', "restore-sibling", Nothing),
    short('J', "join-ns", Required),
    long("veth-pair", Required),
    long("mntns-compat-mode", Nothing),
    long("skip-file-rwx-check", Nothing),
    long("exec-cmd", Nothing),
];
