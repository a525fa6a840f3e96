//! The lines that the processes of the tree send to the process that was started, and the one line of JSON made of them.

use crate::ctx::{Ctx, Fail};
use crate::sys;
use std::fmt::Write;

/// Shorter than PIPE_BUF, so lines of several processes do not mix.
pub fn send(fd: i32, cx: &Ctx) {
    sys::write_all(fd, line(cx).as_bytes());
}

pub fn send_failure(fd: i32, e: &Fail) {
    sys::write_all(fd, failure(e).as_bytes());
}

/// One process's line: `ok NODE {json}`.
pub fn line(cx: &Ctx) -> String {
    let mut s = String::new();
    let pid = unsafe { libc::getpid() };
    let _ = write!(s, "{{\"node\":{},\"pid\":{pid}", cx.node);
    let number = |v: &i32| v.to_string();
    object(&mut s, "fds", &cx.fds, number);
    object(&mut s, "pids", &cx.pids, number);
    object(&mut s, "outside", &cx.outside, number);
    object(&mut s, "facts", &cx.facts, |v| quote(v));
    s.push('}');
    format!("ok {} {s}\n", cx.node)
}

pub fn failure(e: &Fail) -> String {
    let word = if matches!(e, Fail::Skip(_)) { "skip" } else { "broken" };
    format!("{word} {e}\n")
}

/// `{"ready":true,"pid":ROOT,"kind":SPEC,"nodes":[...]}`. A node's `pid` is what it sees itself; only in a pid namespace
/// of its own does that differ from the root's `pid`, which is the caller's view.
pub fn assemble(lines: &str, root: i32, spec: &str) -> Result<String, Fail> {
    let mut nodes: Vec<(usize, &str)> = Vec::new();
    for line in lines.lines() {
        match line.split_once(' ') {
            Some(("ok", rest)) => {
                let (n, json) = rest.split_once(' ').unwrap_or((rest, ""));
                nodes.push((n.parse().unwrap_or(usize::MAX), json));
            }
            Some(("skip", why)) => return Err(Fail::Skip(why.into())),
            Some(("broken", why)) => return Err(Fail::Broken(why.into())),
            _ => return Err(Fail::Broken(line.into())),
        }
    }
    nodes.sort();
    if nodes.first().is_none_or(|(n, _)| *n != 0) {
        return Err(Fail::Broken("the root of the tree died".into()));
    }
    let nodes: Vec<&str> = nodes.into_iter().map(|(_, j)| j).collect();
    Ok(format!("{{\"ready\":true,\"pid\":{root},\"kind\":{},\"nodes\":[{}]}}\n", quote(spec), nodes.join(",")))
}

fn object<T>(s: &mut String, key: &str, pairs: &[(String, T)], value: impl Fn(&T) -> String) {
    let all: Vec<String> = pairs.iter().map(|(k, v)| format!("{}:{}", quote(k), value(v))).collect();
    let _ = write!(s, ",\"{key}\":{{{}}}", all.join(","));
}

fn quote(v: &str) -> String {
    let mut s = String::from("\"");
    for c in v.chars() {
        match c {
            '"' | '\\' => {
                s.push('\\');
                s.push(c);
            }
            c if (c as u32) < 0x20 => {
                let _ = write!(s, "\\u{:04x}", c as u32);
            }
            c => s.push(c),
        }
    }
    s.push('"');
    s
}
