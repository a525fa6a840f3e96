//! Where the administrator's settings come from: the file, the environment and CRIU's command line, weakest first.

use super::{safe_read as mem, symbols};
use crate::config::{self, Config};
use std::ffi::{c_char, c_int};
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;

/// Read unless CRIU_PREFLIGHT_CONFIG names another.
pub const DEFAULT_FILE: &str = "/etc/criu/preflight.conf";
const MAX_FILE: u64 = 64 * 1024;
const MAX_ARGS: usize = 4096;

/// The configuration in force, and a line for everything in it that was not understood.
pub fn load() -> (Config, Vec<String>) {
    let mut config = Config::default();
    let mut problems = Vec::new();

    let named = std::env::var_os("CRIU_PREFLIGHT_CONFIG").filter(|v| !v.is_empty());
    let path = named.clone().unwrap_or_else(|| DEFAULT_FILE.into());
    let shown = crate::bytes::escape(path.as_bytes());
    match read_file(path.as_ref()) {
        Ok(text) => {
            for (line, problem) in config::apply_file(&mut config, &text) {
                problems.push(format!("{shown}:{line}: {problem}"));
            }
        }
        // Having none is the usual case, unless somebody has named it.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && named.is_none() => {}
        Err(e) => problems.push(format!("{shown}: {e}; its settings do not hold")),
    }
    for name in config::NAMES {
        let variable = format!("CRIU_PREFLIGHT_{}", name.replace('-', "_").to_ascii_uppercase());
        if let Some(value) = std::env::var_os(&variable).filter(|v| !v.is_empty()) {
            let applied = std::str::from_utf8(value.as_bytes())
                .map_err(|_| "not UTF-8".to_owned())
                .and_then(|value| config::apply_list(&mut config, name, value));
            if let Err(problem) = applied {
                problems.push(format!("{variable}: {problem}"));
            }
        }
    }
    for arg in plugin_options() {
        let applied = std::str::from_utf8(&arg)
            .map_err(|_| "not UTF-8".to_owned())
            .and_then(|text| config::apply_argument(&mut config, text));
        if let Err(problem) = applied {
            problems.push(format!("--plugin-option preflight.{}: {problem}", crate::bytes::escape(&arg)));
        }
    }
    (config, problems)
}

/// At most 64 KiB of a regular file; a FIFO or a device in its place is not waited for.
pub(super) fn read_file(path: &std::path::Path) -> std::io::Result<Vec<u8>> {
    let file = std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    let mut text = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(std::io::Error::other("more than 64 KiB"));
    }
    Ok(text)
}

/// The `NAME[=VALUE]` of every `--plugin-option preflight.NAME[=VALUE]`, in order (CRIU 4.3).
///
/// CRIU hands every plugin the same argv, `criu-plugin --PLUGIN.NAME[=VALUE] ...`, its own memory: nothing of it is
/// changed, and what belongs to others is passed over.
fn plugin_options() -> Vec<Vec<u8>> {
    let Some(get) = symbols::table().ok().and_then(|t| t.get_options) else { return Vec::new() };
    let mut argc: c_int = 0;
    let mut argv: *mut *mut c_char = std::ptr::null_mut();
    // SAFETY: CRIU writes a number and a pointer to these two locals.
    if unsafe { get(&raw mut argc, &raw mut argv) } != 0 || argv.is_null() {
        return Vec::new();
    }
    let count = usize::try_from(argc).unwrap_or(0).min(MAX_ARGS);
    (1..count)
        .filter_map(|i| mem::word((argv as usize).checked_add(i.checked_mul(8)?)?))
        .filter_map(|p| mem::cstr(p, 8192))
        .filter_map(|arg| arg.strip_prefix(b"--preflight.").map(<[u8]>::to_vec))
        .collect()
}
