//! What can be seen of a process tree from outside, taken before its dump and after its restore.
//!
//! Facts are read from /proc and from the kernel through duplicates of the tree's descriptors, not through the plugin's scan:
//! the two must not share a defect. Numbers that the kernel gives anew (inodes, mount and process ids) are replaced by the
//! order in which they are met, so that what is shared before has to be shared after.

mod files;
mod memory;
mod namespaces;
mod process;
mod sockets;

use std::collections::{BTreeMap, HashMap};

/// Everything seen of a tree.
#[derive(Default)]
pub struct State {
    facts: BTreeMap<String, String>,
    memory: BTreeMap<String, Vec<u8>>,
}

/// One fact that is not as it was; empty where it is not there at all.
#[derive(Clone, Debug)]
pub struct Difference {
    /// `PROCESS fd 3 IP_TTL`: the process by its place in the tree, what it has, and which fact.
    pub at: String,
    pub was: String,
    pub is: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let short = |s: &str| s.chars().take(200).collect::<String>();
        write!(f, "{}: was “{}”, is “{}”", self.at, short(&self.was), short(&self.is))
    }
}

/// rseq areas and the like, which the kernel writes when a thread runs.
const KERNEL_WRITES: usize = 64;

impl State {
    /// Of the process with this pid and all below it, once they are at rest.
    pub fn of(root: i32) -> State {
        process::settle(root);
        let mut look = Look::of(root);
        for (pid, label) in look.order.clone() {
            process::see(&mut look, pid, &label);
            files::see(&mut look, pid, &label);
            memory::see(&mut look, pid, &label);
            namespaces::see(&mut look, pid, &label);
        }
        look.state
    }

    /// What of this is not the same later.
    pub fn differences(&self, later: &State) -> Vec<Difference> {
        let keys = self.facts.keys().chain(later.facts.keys().filter(|k| !self.facts.contains_key(*k)));
        let value = |of: &State, key: &str| of.facts.get(key).cloned().unwrap_or_default();
        let one = |key: &String| Difference { at: key.clone(), was: value(self, key), is: value(later, key) };
        let mut all: Vec<Difference> = keys.map(one).filter(|d| d.was != d.is && !self.of_connection(&d.at)).collect();
        for (key, was) in &self.memory {
            let Some(is) = later.memory.get(key) else { continue };
            let changed = was.iter().zip(is).filter(|(a, b)| a != b).count();
            if changed > KERNEL_WRITES || was.len() != is.len() {
                let is = format!("{changed} other bytes of {}", is.len());
                all.push(Difference { at: key.clone(), was: format!("{} bytes", was.len()), is });
            }
        }
        all
    }
}

/// What CRIU gives every TCP connection that it restores; the first two follow from where it is connected from now, the third
/// lets it bind the address, the last is the kernel's own for a socket that is not accepted from a listener.
const OF_CONNECTIONS: &[&str] = &["TCP_MAXSEG", "TCP_WINDOW_CLAMP", "SO_REUSEPORT", "IP_MULTICAST_TTL"];

impl State {
    fn of_connection(&self, at: &str) -> bool {
        let Some((fd, what)) = at.rsplit_once(' ') else { return false };
        let state = self.facts.get(&format!("{fd} state")).and_then(|s| s.parse::<u8>().ok());
        // Whether a closed one was connected is not to be seen; a listening one was not.
        OF_CONNECTIONS.contains(&what) && state.is_some_and(|s| s != 10)
    }
}

/// A look that is under way.
struct Look {
    state: State,
    /// All processes, the root first, with their labels.
    order: Vec<(i32, String)>,
    labels: HashMap<i32, String>,
    numbers: HashMap<String, usize>,
    /// Descriptors by what they show, the first of each open file.
    open_files: HashMap<String, Vec<(i32, i32, usize)>>,
    /// Namespaces whose insides are seen.
    entered: Vec<String>,
}

impl Look {
    fn of(root: i32) -> Look {
        let mut look = Look {
            state: State::default(),
            order: Vec::new(),
            labels: HashMap::new(),
            numbers: HashMap::new(),
            open_files: HashMap::new(),
            entered: Vec::new(),
        };
        look.label(root, "0".into());
        look
    }

    /// By their own numbers, which a restore keeps.
    fn label(&mut self, pid: i32, label: String) {
        self.order.push((pid, label.clone()));
        for (nth, tid) in process::sorted(&process::threads(pid)).into_iter().enumerate() {
            let name = if tid == pid { label.clone() } else { format!("{label}/{nth}") };
            self.labels.insert(tid, name);
        }
        for (nth, child) in process::sorted(&process::children(pid)).into_iter().enumerate() {
            self.label(child, format!("{label}.{nth}"));
        }
    }

    fn note(&mut self, at: &str, what: &str, value: impl ToString) {
        self.state.facts.insert(format!("{at} {what}"), value.to_string());
    }

    /// How often a number of this kind was met before.
    fn number(&mut self, kind: &str, number: &str) -> String {
        let next = self.numbers.keys().filter(|k| k.starts_with(kind)).count();
        format!("#{}", self.numbers.entry(format!("{kind} {number}")).or_insert(next))
    }

    /// A process as the tree knows it.
    fn who(&self, pid: i32) -> String {
        self.labels.get(&pid).map_or_else(|| pid.to_string(), |label| format!("<{label}>"))
    }

    /// `socket:[5]` with the number replaced.
    fn link(&mut self, link: &str) -> String {
        let parts = link.strip_suffix(']').and_then(|l| l.split_once(":["));
        match parts {
            Some((kind, number)) if number.bytes().all(|b| b.is_ascii_digit()) && !kind.contains('/') => {
                format!("{kind}:[{}]", self.number(kind, number))
            }
            _ => self.proc_link(link),
        }
    }

    /// `/proc/5/stat` with the process replaced.
    fn proc_link(&self, link: &str) -> String {
        let named = link.strip_prefix("/proc/").and_then(|rest| {
            let (pid, tail) = rest.split_once('/').unwrap_or((rest, ""));
            Some((pid.parse::<i32>().ok()?, tail))
        });
        named.map_or_else(|| link.to_string(), |(pid, tail)| format!("/proc/{}/{tail}", self.who(pid)))
    }
}

fn read(path: &str) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

fn link_at(path: &str) -> String {
    std::fs::read_link(path).map(|l| l.to_string_lossy().into_owned()).unwrap_or_default()
}
