//! Which namespaces a process is in, and what is in those that are not the runner's.

use super::{link_at, read, Look};
use std::process::{Command, Stdio};

const KINDS: &[&str] =
    &["cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts"];

/// By kind of namespace: the flag of nsenter, and what shows its inside, each line a fact. Of those that are the runner's own other
/// trees change the insides meanwhile. Link-local addresses are tried for a second, and have a route after that.
const INSIDES: [(&str, &str, &str); 3] = [
    (
        "net",
        "-n",
        "ip -o link; ip -o addr | sed 's/ tentative//'; \
         { ip route show table all; ip -6 route show table all; } | grep -v '^local fe80:'; ip rule; ip -6 rule; ip neigh; \
         cat /proc/net/igmp /proc/net/igmp6; grep -s . /proc/sys/net/core/somaxconn /proc/sys/net/unix/* \
         /proc/sys/net/ipv4/* /proc/sys/net/ipv4/conf/*/* /proc/sys/net/ipv6/conf/*/*;",
    ),
    (
        "ipc",
        "-i",
        "ipcs; grep -s . /proc/sys/kernel/shm* /proc/sys/kernel/msg* /proc/sys/kernel/sem /proc/sys/fs/mqueue/*;",
    ),
    ("uts", "-u", "grep -s . /proc/sys/kernel/hostname /proc/sys/kernel/domainname;"),
];

pub fn see(look: &mut Look, pid: i32, label: &str) {
    let mut apart = Vec::new();
    for kind in KINDS {
        let link = link_at(&format!("/proc/{pid}/ns/{kind}"));
        let ours = link_at(&format!("/proc/self/ns/{kind}"));
        let shown = if link == ours { "ours".into() } else { look.link(&link) };
        // CRIU makes a new one of time for everything that it restores.
        if !kind.starts_with("time") {
            look.note(label, &format!("namespace {kind}"), shown);
        }
        let new = link != ours && !link.is_empty() && !look.entered.contains(&link);
        if new {
            look.entered.push(link);
            apart.push(*kind);
        }
    }
    if apart.contains(&"mnt") {
        mounts(look, pid, label);
    }
    let shown: Vec<_> = INSIDES.iter().filter(|(kind, ..)| apart.contains(kind)).collect();
    if !shown.is_empty() {
        let flags: Vec<&str> = shown.iter().map(|(_, flag, _)| *flag).collect();
        inside(look, pid, label, &flags, &shown.iter().map(|(.., script)| *script).collect::<String>());
    }
}

fn mounts(look: &mut Look, pid: i32, label: &str) {
    let mut seen = std::collections::HashMap::new();
    for line in read(&format!("/proc/{pid}/mountinfo")).lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let Some((head, tail)) = fields.iter().position(|f| *f == "-").map(|at| fields.split_at(at)) else { continue };
        let [_, _, _, root, place, options, optional @ ..] = head else { continue };
        let optional: Vec<String> = optional.iter().map(|o| group(look, o)).collect();
        let nth = seen.entry(place.to_string()).or_insert(0);
        *nth += 1;
        // That of autofs names a pipe.
        let shown = |o: &&str| !o.starts_with("pipe_ino=");
        let super_options: Vec<&str> = tail.get(3).unwrap_or(&"").split(',').filter(shown).collect();
        let kind = tail.get(1).unwrap_or(&"");
        look.note(
            label,
            &format!("mount {place} {nth}"),
            format!("{root} {options} {} {kind} {}", optional.join(","), super_options.join(",")),
        );
        let at = format!("/proc/{pid}/root{place}");
        if *kind == "tmpfs" && *root == "/" && crate::mounts::is_on_tmpfs(std::path::Path::new(&at)) {
            content(look, label, &at, place, 0);
        }
    }
}

/// `shared:5` with the number replaced.
fn group(look: &mut Look, optional: &str) -> String {
    match optional.split_once(':') {
        Some((kind, number)) => format!("{kind}:{}", look.number("peer group", number)),
        None => optional.into(),
    }
}

fn content(look: &mut Look, label: &str, at: &str, shown: &str, depth: usize) {
    use std::os::unix::fs::MetadataExt;
    let mut entries: Vec<_> = std::fs::read_dir(at).into_iter().flatten().flatten().collect();
    entries.sort_by_key(|e| e.file_name());
    for e in entries.into_iter().take(50) {
        let Ok(m) = std::fs::symlink_metadata(e.path()) else { continue };
        let name = format!("{shown}/{}", e.file_name().to_string_lossy());
        let size = if m.is_dir() { 0 } else { m.size() };
        look.note(label, &format!("in {name}"), format!("{:o} {}:{} {size}", m.mode(), m.uid(), m.gid()));
        let same = std::fs::metadata(at).is_ok_and(|above| above.dev() == m.dev());
        if m.is_dir() && same && depth < 3 {
            content(look, label, &e.path().to_string_lossy(), &name, depth + 1);
        }
    }
}

fn inside(look: &mut Look, pid: i32, label: &str, flags: &[&str], script: &str) {
    let mut cmd = Command::new("nsenter");
    cmd.args(["-t", &pid.to_string()]).args(flags).args(["sh", "-c", script]).stdin(Stdio::null());
    let Ok(out) = cmd.stderr(Stdio::null()).output() else { return };
    let mut seen = std::collections::HashMap::new();
    for line in String::from_utf8_lossy(&out.stdout).lines() {
        let (name, value) = match line.strip_prefix("/proc/sys/").and_then(|l| l.split_once(':')) {
            Some((name, value)) => (name.to_string(), value.to_string()),
            None => (settled(line), "there".to_string()),
        };
        let count = seen.entry(name.clone()).or_insert(0);
        *count += 1;
        look.note(label, &format!("inside {name} {count}"), value);
    }
}

/// Without what the kernel finds out later, of a link: whether it has a carrier.
fn settled(line: &str) -> String {
    let line = line.replace("NO-CARRIER,", "").replace(",LOWER_UP", "");
    let mut words: Vec<&str> = line.split_whitespace().collect();
    if let Some(at) = words.iter().position(|w| *w == "state") {
        words.drain(at..(at + 2).min(words.len()));
    }
    words.retain(|w| *w != "linkdown");
    words.join(" ")
}
