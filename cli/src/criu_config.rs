//! CRIU's configuration files: what they say holds for a dump whether anybody types it or not.
//!
//! As CRIU does (criu/config.c: pre_parse, next_config, parse_statement): `/etc/criu/default.conf`, then
//! `$HOME/.criu/default.conf`, then the file of `CRIU_CONFIG_FILE`, then that of `--config` (which switches the first two
//! off), then the command line. A line is a long option without its dashes and perhaps a value, which CRIU hands to getopt
//! as two words; so a blank before the value of an option that may have one loses it.

use crate::args::escape_error;
use crate::criu_options;
use criu_preflight::bytes::escape;
use criu_preflight::config::{beginning, statement};
use criu_preflight::criu::settings::read_file;
use criu_preflight::criu::{Host, Release};
use lexopt::Parser;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The newest CRIU with what its configuration files give it.
pub fn start(args: &[OsString]) -> Result<Host, String> {
    let mut host = Host::dry_run(Release::NEWEST);
    apply(&mut host, files(args))?;
    Ok(host)
}

/// Only the file that the arguments name: what the others say is in a saved check.
pub fn apply_named(host: &mut Host, args: &[OsString]) -> Result<(), String> {
    apply(host, files(args).into_iter().filter(|(_, named)| *named))
}

fn apply(host: &mut Host, files: impl IntoIterator<Item = (PathBuf, bool)>) -> Result<(), String> {
    for (path, named) in files {
        match read_file(&path) {
            Ok(text) => read(host, &path, &text)?,
            // Other than CRIU we do not read what is no regular file, or a very long one.
            Err(e) if named || e.kind() == std::io::ErrorKind::Other => return Err(format!("{}: {e}", display(&path))),
            // CRIU goes on without it, too.
            Err(_) => {}
        }
    }
    Ok(())
}

/// The files in the order CRIU reads them; true: somebody has named this one.
fn files(args: &[OsString]) -> Vec<(PathBuf, bool)> {
    let (mut defaults, mut named) = (true, None);
    let mut words = args.iter();
    while let Some(word) = words.next() {
        if word == "--no-default-config" {
            defaults = false;
        } else if word == "--config" {
            named = words.next().map(PathBuf::from);
            defaults = false;
        } else if let Some(path) = word.as_bytes().strip_prefix(b"--config=") {
            named = Some(PathBuf::from(OsStr::from_bytes(path)));
            defaults = false;
        }
    }
    let mut out = Vec::new();
    if defaults {
        out.push((PathBuf::from("/etc/criu/default.conf"), false));
        out.extend(std::env::var_os("HOME").map(|home| (Path::new(&home).join(".criu/default.conf"), false)));
    }
    out.extend(std::env::var_os("CRIU_CONFIG_FILE").map(|path| (path.into(), false)));
    out.extend(named.map(|path| (path, true)));
    out
}

fn read(host: &mut Host, path: &Path, text: &[u8]) -> Result<(), String> {
    for (number, line) in (1..).zip(text.split(|b| *b == b'\n')) {
        let wrong = |why: String| format!("{}:{number}: {why}", display(path));
        let line = std::str::from_utf8(line).map_err(|_| wrong("not UTF-8".into()))?;
        let Some((name, value)) = statement(line).map_err(wrong)? else { continue };
        let joined = line.trim_start().get(name.len()..).is_some_and(|rest| rest.starts_with('='));
        let words = match value {
            Some(value) if joined => vec![format!("--{name}={value}")],
            Some(value) => vec![format!("--{name}"), value],
            None => vec![format!("--{name}")],
        };
        let mut parser = Parser::from_args(words);
        let Some(arg) = parser.next().map_err(|e| wrong(escape_error(e)))? else { continue };
        let unknown = || wrong(format!("CRIU has no option '{}'", beginning(&name)));
        let (opt, on) = criu_options::find(&arg).ok_or_else(unknown)?;
        criu_options::apply(host, opt, on, &mut parser).map_err(wrong)?;
    }
    Ok(())
}

fn display(path: &Path) -> String {
    escape(path.as_os_str().as_bytes())
}
