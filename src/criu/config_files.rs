//! CRIU's configuration files (`next_config`, `parse_config`, criu/config.c, the same from 3.17.1 to 4.2).

use crate::criu::settings;
use std::ffi::OsStr;
use std::io::{Error, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Those that CRIU reads with a command line, in its order.
pub struct ConfigFiles {
    /// Whatever the command line says, `--no-default-config` and `--config` apart.
    pub usual: Vec<PathBuf>,
    /// That of `--config`.
    pub named: Option<PathBuf>,
}

/// Of the arguments after `criu`. `None`: `--config` is the last one.
pub fn of(args: &[impl AsRef<[u8]>]) -> Option<ConfigFiles> {
    let (mut defaults, mut named) = (true, None);
    let mut words = args.iter().map(AsRef::as_ref);
    while let Some(word) = words.next() {
        match word.strip_prefix(b"--config") {
            Some([]) => named = Some(words.next()?),
            Some([b'=', file @ ..]) => named = Some(file),
            _ if word == b"--no-default-config" => {}
            _ => continue,
        }
        defaults = false;
    }
    let path = |bytes: &[u8]| PathBuf::from(OsStr::from_bytes(bytes));
    let mut usual = Vec::new();
    if defaults {
        usual.push(path(b"/etc/criu/default.conf"));
        usual.extend(std::env::var_os("HOME").map(|home| Path::new(&home).join(".criu/default.conf")));
    }
    usual.extend(std::env::var_os("CRIU_CONFIG_FILE").map(PathBuf::from));
    Some(ConfigFiles { usual, named: named.map(path) })
}

/// The text of one. `None`: there is none, and CRIU goes on without it, also when somebody has named it. `Err`: CRIU may have
/// read more of it than is read here.
pub fn read(file: &Path) -> Result<Option<Vec<u8>>, Error> {
    match settings::read_file(file) {
        Ok(text) => Ok(Some(text)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(e),
    }
}
