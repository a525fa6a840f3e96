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
use criu_preflight::criu::config_files::{self, ConfigFiles};
use criu_preflight::criu::{Host, Release};
use lexopt::Parser;
use std::ffi::OsString;
use std::io::{ErrorKind, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The newest CRIU with what its configuration files give it.
pub fn start(args: &[OsString]) -> Result<Host, String> {
    let mut host = Host::dry_run(Release::NEWEST);
    let ConfigFiles { usual, named } = files(args)?;
    for file in usual {
        match apply(&mut host, &file) {
            // CRIU goes on without what it cannot open; a file of another type, or a very long one, it reads and we do not.
            Err(Wrong::Unreadable(e)) if e.kind() != ErrorKind::Other => {}
            applied => drop(applied.map_err(|why| why.of(&file))?),
        }
    }
    apply_option(&mut host, named.as_deref())?;
    Ok(host)
}

/// Only the file that the arguments name: what the others say is in a saved check.
pub fn apply_named(host: &mut Host, args: &[OsString]) -> Result<(), String> {
    apply_option(host, files(args)?.named.as_deref())
}

/// The file of `--config`. Runtimes name one whether it is there or not, and CRIU goes on without it.
fn apply_option(host: &mut Host, named: Option<&Path>) -> Result<(), String> {
    let Some(file) = named else { return Ok(()) };
    if !apply(host, file).map_err(|why| why.of(file))? {
        let name = escape(file.as_os_str().as_bytes());
        let _ = writeln!(std::io::stderr(), "criu-preflight: --config {name}: no such file, CRIU goes on without it");
    }
    Ok(())
}

/// The file that a runtime's request names. CRIU goes on without one that is not there.
pub fn apply_of_request(host: &mut Host, file: &Path) -> Result<(), String> {
    apply(host, file).map(drop).map_err(|why| why.of(file))
}

fn files(args: &[OsString]) -> Result<ConfigFiles, String> {
    let args: Vec<&[u8]> = args.iter().map(|word| word.as_bytes()).collect();
    config_files::of(&args).ok_or_else(|| "--config: it wants a value".into())
}

/// What is wrong with a file.
enum Wrong {
    Unreadable(std::io::Error),
    /// A line.
    Line(usize, String),
}

impl Wrong {
    fn of(self, path: &Path) -> String {
        let path = escape(path.as_os_str().as_bytes());
        match self {
            Wrong::Unreadable(e) => format!("{path}: {e}"),
            Wrong::Line(number, why) => format!("{path}:{number}: {why}"),
        }
    }
}

/// Whether the file is there.
fn apply(host: &mut Host, path: &Path) -> Result<bool, Wrong> {
    match config_files::read(path).map_err(Wrong::Unreadable)? {
        Some(text) => read(host, &text).map(|()| true),
        None => Ok(false),
    }
}

fn read(host: &mut Host, text: &[u8]) -> Result<(), Wrong> {
    for (number, line) in (1..).zip(text.split(|b| *b == b'\n')) {
        let wrong = |why: String| Wrong::Line(number, why);
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
        let (option, on) = criu_options::find(&arg).ok_or_else(unknown)?;
        option.apply(host, on, &mut parser).map_err(wrong)?;
    }
    Ok(())
}
