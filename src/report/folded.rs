//! The findings of one kind that have no line of their own: one line that names the place of each.

use crate::report::lines::{short_text, LINE};
use crate::report::render_value;
use crate::rules::{Finding, Value};
use std::collections::HashSet;

/// Places listed before "and N more".
const MOST: usize = 40;
/// Findings that are looked at for what tells them apart.
const SAMPLE: usize = 200;
/// Bytes of a line that the end of it may need.
const END: usize = 60;

/// `tcp-connected: and 212 more of this kind: pid 1 fds 3, 4, pid 2 fd 3`: by what tells them apart.
pub(super) fn folded(prefix: &str, rule: &str, rest: &[&Finding]) -> String {
    let head = format!("{prefix}{rule}: and {} more of this kind: ", rest.len());
    let room = LINE.saturating_sub(head.len()).saturating_sub(END);
    let fact = distinguishing(rest);
    let place = |at: usize| rest.get(at).map(|f| Place::of(f, fact));
    let (mut out, mut before, mut listed) = (String::new(), None, 0_usize);
    let mut next = place(0);
    for at in 0..rest.len() {
        let Some(this) = next.take() else { break };
        next = place(at.saturating_add(1));
        // Several findings in one place tell no more than one.
        if before.as_ref() != Some(&this) {
            let item = this.text(before.as_ref(), next.as_ref());
            if listed >= MOST || (listed > 0 && out.len().saturating_add(item.len()) > room) {
                out.push_str(&format!(" and {} more", rest.len().saturating_sub(at)));
                break;
            }
            out.push_str(if listed == 0 { "" } else { ", " });
            out.push_str(&item);
            listed = listed.saturating_add(1);
        }
        before = Some(this);
    }
    format!("{head}{out}")
}

/// Where a finding is: in a process, or at one of its descriptors, addresses, threads, or at something with a name.
#[derive(PartialEq)]
struct Place {
    pid: i32,
    kind: Kind,
    which: String,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Process,
    Descriptor,
    Address,
    Thread,
    Named,
}

impl Place {
    fn of(f: &Finding, fact: Option<&str>) -> Place {
        let named = || match f.get(fact?)? {
            Value::Text(bytes) => Some(short_text(bytes)),
            value => Some(render_value(value)),
        };
        let (kind, which) = if let Some(fd) = f.fd {
            (Kind::Descriptor, fd.to_string())
        } else if let Some(addr) = f.addr {
            (Kind::Address, format!("{addr:x}"))
        } else if let Some(name) = named() {
            (Kind::Named, name)
        } else if let Some(tid) = f.tid {
            (Kind::Thread, tid.to_string())
        } else {
            (Kind::Process, String::new())
        };
        Place { pid: f.pid, kind, which }
    }

    /// The text, which after a place of the same kind in the same process is what differs alone.
    fn text(&self, before: Option<&Place>, after: Option<&Place>) -> String {
        let same = |other: Option<&Place>| other.is_some_and(|o| (o.pid, o.kind) == (self.pid, self.kind));
        if same(before) {
            return self.which.clone();
        }
        let more = same(after) && after != Some(self);
        let (pid, which, s) = (self.pid, &self.which, if more { "s" } else { "" });
        match self.kind {
            Kind::Process => format!("pid {pid}"),
            Kind::Descriptor => format!("pid {pid} fd{s} {which}"),
            Kind::Address => format!("pid {pid} address{} {which}", if more { "es" } else { "" }),
            Kind::Thread => format!("pid {pid} thread{s} {which}"),
            Kind::Named => format!("pid {pid} {which}"),
        }
    }
}

/// The fact with the most values among those that have neither descriptor nor address, a name before a number: of mounts, where
/// they are mounted. `None`: all are alike.
fn distinguishing<'a>(rest: &[&'a Finding]) -> Option<&'a str> {
    let first = rest.iter().take(SAMPLE).copied();
    let unplaced: Vec<&Finding> = first.filter(|f| f.fd.is_none() && f.addr.is_none()).collect();
    let values = |name: &str| {
        let texts: HashSet<Option<String>> = unplaced.iter().map(|f| f.get(name).map(render_value)).collect();
        texts.len()
    };
    let facts = unplaced.first()?.facts.iter();
    let ranked = facts.map(|(name, value)| (matches!(value, Value::Text(_)), values(name), &**name));
    // `max_by_key` takes the last of equals, and the first fact is what the sentence is about.
    let best = ranked.filter(|(_, count, _)| *count > 1).rev().max_by_key(|(text, count, _)| (*text, *count));
    best.map(|(_, _, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::registry;
    use crate::rules::testkit::{file, task};
    use expect_test::expect;

    fn of(rule: &str, rest: Vec<Finding>) -> String {
        folded("", rule, &rest.iter().collect::<Vec<_>>())
    }

    fn on_task(pid: i32) -> Finding {
        Finding::on_task(registry::by_id("mount-table").unwrap_or(registry::RULES[0]), &task(pid))
    }

    fn on_fd(pid: i32, fd: i32) -> Finding {
        Finding::on_file(registry::RULES[0], &task(pid), &file(fd, libc::S_IFCHR, 9))
    }

    #[test]
    fn by_what_tells_them_apart() {
        let mount = |id: i64, on: &str| on_task(7).num("mnt_id", id).text("fstype", "xfs").text("mountpoint", on);
        let mapping = |pid, start| Finding::on_mapping(registry::RULES[0], &task(pid), start, start + 1);
        let thread = |tid| on_task(5).tid(tid);
        let netns = |pid: i32, ns: i64| on_task(pid).num("ns", ns);
        let lines = [
            of("mounts", vec![mount(1, "/a"), mount(2, "/b\n"), mount(3, "/c")]),
            of("mappings", vec![mapping(5, 0x1000), mapping(5, 0x3000), mapping(6, 0x1000)]),
            of("descriptors", vec![on_fd(5, 3), on_fd(5, 4), on_fd(6, 3), on_fd(7, 3), on_fd(7, 9)]),
            of("threads", vec![thread(6), thread(8)]),
            of("numbers", vec![netns(5, 11), netns(6, 12), netns(6, 13)]),
            of("tasks", vec![on_task(5), on_task(5), on_task(6)]),
            of("mixed", vec![on_task(5), on_fd(5, 3)]),
        ];
        expect![[r#"
            mounts: and 3 more of this kind: pid 7 /a, /b\n, /c
            mappings: and 3 more of this kind: pid 5 addresses 1000, 3000, pid 6 address 1000
            descriptors: and 5 more of this kind: pid 5 fds 3, 4, pid 6 fd 3, pid 7 fds 3, 9
            threads: and 2 more of this kind: pid 5 threads 6, 8
            numbers: and 3 more of this kind: pid 5 11, pid 6 12, 13
            tasks: and 3 more of this kind: pid 5, pid 6
            mixed: and 2 more of this kind: pid 5, pid 5 fd 3"#]]
        .assert_eq(&lines.join("\n"));
    }

    #[test]
    fn what_is_not_listed_is_counted() {
        let many = of("many", (0..100_000).map(|fd| on_fd(5, fd)).collect());
        assert!(many.ends_with("37, 38, 39 and 99960 more"), "{many}");
        let long =
            of("long", (0..50).map(|n| on_task(5).text("path", format!("{n}{}", "x".repeat(200)).as_str())).collect());
        assert!(long.len() <= LINE && long.ends_with("x and 46 more"), "{long}");
    }
}
