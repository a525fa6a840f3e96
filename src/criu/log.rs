//! CRIU's log, or stderr when there is no CRIU.

use crate::criu::symbols;
use std::ffi::{c_uint, CString};
use std::io::Write as _;

/// CRIU's levels (criu/include/criu-log.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Error = 1,
    Warn = 2,
    Info = 3,
    Debug = 4,
}

/// CRIU formats into a buffer of 8192 bytes and, when the text is longer, writes what follows the buffer in its memory
/// (vprint_on_level, seen in 3.17.1 to 4.2).
const MAX_LINE: usize = 4000;

/// Writes one line as it is; the newline is added here. Never fails and leaves errno as it was.
pub(crate) fn line(level: Level, text: &str) {
    let saved = nix::errno::Errno::last_raw();
    let mut end = text.len().min(MAX_LINE);
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    let (shown, cut) = text.split_at_checked(end).unwrap_or((text, ""));
    let tail = if cut.is_empty() { "\n" } else { "...\n" };
    // One line, whatever a caller let through: nothing after a newline or a NUL may look like a line of CRIU.
    let clean: Vec<u8> =
        shown.bytes().map(|b| if b.is_ascii_control() { b'?' } else { b }).chain(tail.bytes()).collect();
    match symbols::print_on_level() {
        Some(print) => {
            if let Ok(clean) = CString::new(clean) {
                // SAFETY: a constant format with one terminated string, which CRIU copies before it returns.
                unsafe { print(level as c_uint, c"%s".as_ptr(), clean.as_ptr()) };
            }
        }
        // A closed stderr is no reason to fail.
        None if level != Level::Debug => drop(std::io::stderr().write_all(&clean)),
        None => {}
    }
    nix::errno::Errno::set_raw(saved);
}

/// As CRIU marks its warnings (`Warn  (file:line): `).
pub(crate) fn warn(text: &str) {
    line(Level::Warn, &format!("Warn  (preflight): {text}"));
}

pub(crate) fn info(text: &str) {
    line(Level::Info, &format!("preflight: {text}"));
}

pub(crate) fn debug(text: &str) {
    line(Level::Debug, &format!("preflight: {text}"));
}
