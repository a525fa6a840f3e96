//! Random trees and options. What a tree may hold comes from the fixtures, so that a new one is soon met in company.

use super::random::Random;
use super::{mounts, Case};
use crate::fixtures::{self, As, Expect};
use std::collections::BTreeSet;
use std::sync::LazyLock;

/// Something a process can hold, and the options its fixture goes with.
#[derive(Clone, Copy)]
struct Thing {
    /// One word of mkres, or several for a child process of their own.
    words: &'static str,
    opts: &'static str,
    refused: bool,
    /// Its dump is not restored: seldom taken, for nothing else in the tree is, then.
    unrestorable: bool,
}

/// Arguments that have no fixture of their own.
const MORE: &[(&str, bool)] = &[
    ("unix-pair:type=seqpacket,data", false),
    ("unix-pair:type=dgram", false),
    ("unix-pair:passsec", false),
    ("tcp-pair:v4mapped,data", true),
    ("tcp-pair:v6,data", true),
    ("tcp-outside:state=close_wait,v6", true),
    ("tcp-outside:state=dissolved,v6", false),
    ("tcp-listen:v6,backlog", true),
    ("udp:v6,more", false),
    ("udp:v6,uncork", false),
    ("unix-outside:type=dgram,name=path,data", true),
    ("unix-outside:type=dgram,name=abstract", true),
    ("unix-outside:name=abstract,data", true),
    ("unix-waiting:client=outside,data", false),
    ("lock:type=posix,mode=read,by=outside", false),
    ("lock:type=ofd,mode=read,by=outside", false),
    ("lock:type=ofd,mode=read,by=outside,shared", true),
    ("lock:type=flock,mode=read,by=outside,shared", true),
    ("file:unlinked,map", false),
    ("file:unlinked,map,closed", false),
    ("file:relinked,map", true),
    ("file:relinked,map,closed", true),
    ("file:unlinked,size=1048576", false),
    ("memfd:map", false),
    ("inotify:path=/tmp", false),
    ("inotify:path=/dev", false),
    ("sock:domain=2,type=1", false),
    ("sock:domain=10,type=2", false),
    ("sock:domain=1,type=2", false),
    ("sock:domain=16,type=3,proto=15", false),
    ("cwd:path=/tmp", false),
    ("cwd:path=/proc", false),
    ("opath:path=/dev/null", false),
    ("opath:path=/etc/passwd", false),
    ("bpf-map:map", true),
    ("io-uring", true),
    ("pipes:n=40", false),
    ("uid", true),
];

/// What takes CRIU seconds, or a lease its 45: seldom taken.
const SLOW: &[&str] = &["traced", "pipes:n=1", "lease"];

/// These want to be alone in a process: what comes after them in it cannot be made.
const LONELY: &[&str] =
    &["uid", "nofile", "newns", "time-for-children", "no-setsid", "inherit", "setsid", "landlocked", "exec-map"];

/// These need what a root directory of the tree's own has not: devices, terminals, other programs.
const NOT_IN_ROOT: &[&str] = &[
    "dev",
    "opath",
    "tty",
    "inotify",
    "fanotify",
    "kvm",
    "tun",
    "compat32",
    "unix-queued-file",
    "blk",
    "bpf",
    "chr",
    "cwd",
];

/// Not `--cgroup-root`: of one that is not there the inventory tells (cg-mount/walk), and one that is holds other trees' groups.
const OPTIONS: &[(&str, usize)] = &[
    ("--network-lock skip", 85),
    ("--network-lock nftables", 5),
    ("--network-lock iptables", 1),
    ("--tcp-established", 25),
    ("--tcp-close", 10),
    ("--skip-in-flight", 20),
    ("--ext-unix-sk", 25),
    ("--file-locks", 40),
    ("--shell-job", 25),
    ("--link-remap", 30),
    ("--ghost-limit 4M", 20),
    ("--ghost-limit 1k", 3),
    ("--ghost-fiemap", 5),
    ("--file-validation filesize", 30),
    ("--manage-cgroups=ignore", 15),
    ("--manage-cgroups=none", 3),
    ("--manage-cgroups=full", 3),
    ("--manage-cgroups=strict", 3),
    ("--cgroup-dump-controller cpu", 2),
    ("--evasive-devices", 10),
    ("--force-irmap", 10),
    ("--irmap-scan-path /tmp", 4),
    ("--leave-running", 15),
    ("--leave-stopped", 5),
    ("--timeout 60", 5),
    ("--enable-fs all", 4),
    ("--enable-fs ramfs,bpf", 4),
    ("--skip-mnt /mnt", 4),
    ("--empty-ns net", 4),
    ("--enable-external-sharing", 3),
    ("--enable-external-masters", 3),
    ("--ext-mount-map auto", 3),
    ("--unprivileged", 3),
    ("--allow-uprobes", 10),
    ("--auto-dedup", 2),
    ("--weak-sysctls", 2),
    ("--log-pid", 1),
    ("--external dev[1/3]:nothing", 3),
    ("--external net[4026531840]:host", 3),
    ("--external pid[4026531836]:host", 2),
    ("--external mnt[/mnt]:given", 4),
    ("--external unix[1]", 5),
    ("--external tty[8801:1b]", 4),
    ("--external file[1:2]", 4),
];

static THINGS: LazyLock<(Vec<Thing>, Vec<Thing>)> = LazyLock::new(things);

/// What goes into any process; and what goes into the first one of a tree with a root directory of its own.
fn things() -> (Vec<Thing>, Vec<Thing>) {
    let mut all: Vec<Thing> =
        MORE.iter().map(|(words, refused)| Thing { words, opts: "", refused: *refused, unrestorable: false }).collect();
    let mut rooted = Vec::new();
    for f in fixtures::all() {
        let (to, words) = match f.tree.strip_prefix("--root {root} ") {
            Some(words) => (&mut rooted, words),
            None => (&mut all, f.tree),
        };
        // Which /proc CRIU then comes by, others of the root's things decide.
        let of_root = words.contains("landlocked") && words != f.tree;
        let elsewhere = of_root
            || words.contains("{btrfs")
            || words.contains("{bound}")
            || words.contains("--")
            || words.contains("no-setsid");
        // Only the root process's is short of room by what is read before; else see cg-mount/walk in the inventory.
        let root_only = f.name == "cg-too-long";
        if elsewhere
            || root_only
            || f.dies
            || f.unforeseeable.is_some()
            || f.run_as != As::Root
            || words.split_whitespace().count() > 8
        {
            continue;
        }
        let refused = matches!(f.expect, Expect::Refuse(_));
        // Any tree may be frozen by a group, see [`Case`]; one of another kind is no place to look for that group.
        let opts = if f.opts.contains("--freeze-cgroup") { "" } else { f.opts };
        to.push(Thing { words, opts, refused, unrestorable: f.no_restore.is_some() });
    }
    (all, rooted)
}

fn kind(word: &str) -> &str {
    word.split(':').next().unwrap_or(word)
}

/// One process: its words, and where its parent is.
struct Process {
    parent: usize,
    words: Vec<&'static str>,
}

/// Only the leader of a session can be given a terminal.
fn wants_session(words: &str) -> bool {
    words.starts_with("dev-tty") || words.contains("ctty")
}

/// The tree and options of one seed.
pub fn case(seed: u64) -> Case {
    let mut r = Random::new(seed);
    let in_root = r.chance(25);
    let most = if r.chance(10) { 20 } else { 1 + r.below(20) };
    let count = 1 + r.below(most);
    let mut tree: Vec<Process> = (0..count).map(|i| Process { parent: r.below(i.min(6)), words: Vec::new() }).collect();
    let (all, rooted) = &*THINGS;
    let usable = |t: &&Thing| {
        let fits = |w: &str| !NOT_IN_ROOT.iter().any(|n| w.starts_with(n));
        !in_root || t.words.split_whitespace().all(fits)
    };
    let split_up = |from: &[Thing]| from.iter().copied().partition::<Vec<Thing>, _>(|t| t.refused);
    let (refused, accepted) = split_up(&all.iter().filter(usable).copied().collect::<Vec<_>>());
    let (refused_roots, accepted_roots) = split_up(rooted);
    let refusals = [0, 0, 0, 0, 0, 0, 1, 1, 2, 3][r.below(10)];
    let mut opts: Vec<&'static str> = Vec::new();
    // What CRIU dumps it mostly dumps with its options only.
    let mut with = |t: &Thing, r: &mut Random| {
        let needed = !t.opts.is_empty() && r.chance(if t.refused { 50 } else { 92 });
        opts.extend(needed.then_some(t.opts));
    };
    let mut base = "";
    if in_root && r.chance(50) {
        let from = if refusals > 0 && r.chance(40) { &refused_roots } else { &accepted_roots };
        if let Some(t) = r.pick(from) {
            base = t.words;
            with(t, &mut r);
        }
    }
    for i in 0..refusals + 1 + r.below(2 * count + 4) {
        let from = if i < refusals { &refused } else { &accepted };
        let Some(t) = r.pick(from) else { continue };
        let slow = SLOW.iter().any(|s| t.words.contains(s));
        // Mostly a namespace that only the root may have: the same.
        let seldom = t.unrestorable || t.words.contains("newns:");
        if (slow && !r.chance(15)) || (seldom && !r.chance(20)) {
            continue;
        }
        if put(&mut tree, t.words, &mut r) {
            with(t, &mut r);
        }
    }
    opts.extend(OPTIONS.iter().filter(|(_, percent)| r.chance(*percent)).map(|(o, _)| *o));
    let mut given = BTreeSet::new();
    opts.retain(|o| given.insert(*o));
    // With a freezer of cgroup v1 CRIU itself never ends on a stopped task: attaching to it waits for it to move.
    let stopped = tree.iter().flat_map(|p| &p.words).any(|w| w.contains("stopped"));
    let freeze_cgroup = r.chance(8) && !stopped;
    let mut words = Vec::new();
    if in_root {
        words.push("--root {root}");
        words.extend(["newns:pid", "newns:net", "newns:ipc", "newns:uts"].iter().filter(|_| r.chance(30)));
        words.extend(["mount:fs=tmpfs,to=/mnt", "bind:from=/files,to=/mnt2"].iter().filter(|_| r.chance(30)));
        words.extend(["mount:fs=ramfs,to=/mnt3", "mount:fs=bpf,to=/mnt4"].iter().filter(|_| r.chance(4)));
        words.push(base);
    } else {
        words.extend(["no-setsid"].iter().filter(|_| r.chance(6)));
        words.extend(["newns:net", "newns:ipc", "newns:uts"].iter().filter(|_| r.chance(8)));
    }
    let split = |w: &[&str]| w.iter().flat_map(|w| w.split_whitespace()).map(String::from).collect::<Vec<_>>();
    let mut words = split(&words);
    let mut opts: Vec<String> = opts.iter().map(|o| o.replace("{netlock}", "--network-lock skip")).collect();
    if in_root && base.is_empty() && r.chance(50) {
        words.extend(mounts::words(&mut r));
        opts.extend(mounts::options(&mut r));
    }
    let mut rest = Vec::new();
    print(&tree, 0, &mut rest);
    words.extend(split(&rest));
    Case { words, opts, freeze_cgroup }
}

/// Puts it into a process that has nothing of its kind yet (names of files and interfaces would meet), or a new one.
fn put(tree: &mut Vec<Process>, words: &'static str, r: &mut Random) -> bool {
    let single = words.split_whitespace().count() == 1;
    let lonely = !single || LONELY.contains(&kind(words)) || wants_session(words);
    let at = r.below(tree.len());
    let Some(p) = tree.get_mut(at) else { return false };
    if lonely || p.words.len() > 5 {
        if tree.len() >= 20 {
            return false;
        }
        tree.push(Process { parent: at, words: vec![words] });
        return true;
    }
    let met = p.words.iter().any(|w| kind(w) == kind(words));
    let crowd = p.words.iter().any(|w| w.contains(' ') || LONELY.contains(&kind(w)) || wants_session(w));
    if met || crowd {
        return false;
    }
    p.words.push(words);
    true
}

fn print(tree: &[Process], at: usize, out: &mut Vec<&'static str>) {
    let Some(p) = tree.get(at) else { return };
    // A child made first inherits nothing; what wants a child of its own comes after what its parent holds.
    out.extend(["setsid"].iter().filter(|_| at > 0 && p.words.iter().any(|w| wants_session(w))));
    out.extend(&p.words);
    for (i, child) in tree.iter().enumerate().skip(1) {
        if child.parent == at && i != at {
            out.push("[");
            print(tree, i, out);
            out.push("]");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_one_tree() {
        assert_eq!(case(7), case(7));
        assert_ne!(case(7), case(8));
    }

    #[test]
    fn brackets_close_and_trees_stay_small() {
        for seed in 0..500 {
            let words = case(seed).words;
            let open = words.iter().filter(|w| *w == "[").count();
            assert_eq!(open, words.iter().filter(|w| *w == "]").count(), "{words:?}");
            // Fixtures of several words bring children with them.
            assert!(open <= 60, "{words:?}");
        }
    }
}
