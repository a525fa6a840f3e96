// `cargo +nightly fuzz run NAME`, from the directory above.
//
// One function per fuzz target, the same for the fuzzer (fuzz_targets/) and for `cargo test` (tests/parse_corpus.rs),
// which replays corpus/NAME/*. Each parses, checks what must hold for any input, and returns how many entries it did not
// understand.

use criu_preflight::bytes::{escape, Bytes};
use criu_preflight::parse::*;
use serde::{de::DeserializeOwned, Serialize};
use std::fmt::Debug;

pub type Target = fn(&[u8]) -> usize;

// The names of the targets, also those of their corpus directories, and their functions.
pub const ALL: &[(&str, Target)] = &[
    ("bytes", bytes),
    ("cgroup", cgroup),
    ("devices", devices),
    ("diag", diag),
    ("fdinfo", fdinfo),
    ("idmap", idmap),
    ("judge", judge),
    ("limits", limits),
    ("locks", locks),
    ("maps", maps),
    ("misc", misc),
    ("mountinfo", mountinfo),
    ("nslink", nslink),
    ("stat", stat),
    ("status", status),
    ("wire", wire),
];

// A snapshot is replayed from its JSON: nothing may get lost or change on the way.
fn stored<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) -> T {
    let json = serde_json::to_vec(&value).expect("stored");
    assert_eq!(serde_json::from_slice::<T>(&json).expect("read back"), value);
    value
}

pub fn bytes(data: &[u8]) -> usize {
    stored(Bytes::from(data));
    assert!(!escape(data).chars().any(char::is_control));
    0
}

pub fn cgroup(data: &[u8]) -> usize {
    stored(cgroup::parse(data)).bad
}

pub fn devices(data: &[u8]) -> usize {
    stored(devices::parse(data)).bad
}

pub fn diag(data: &[u8]) -> usize {
    // Each decoder takes any payload; of a real answer only its own family makes sense, so nothing is counted.
    for message in diag::messages(data) {
        let payload = match message {
            diag::Message::Socket { payload, .. } => payload,
            _ => data,
        };
        stored(diag::unix(payload));
        stored(diag::inet(payload, 6));
        stored(diag::packet(payload));
        stored(diag::netlink(payload));
        stored(diag::link(payload));
        stored(diag::route(payload));
    }
    0
}

pub fn fdinfo(data: &[u8]) -> usize {
    stored(fdinfo::parse(data)).bad
}

pub fn idmap(data: &[u8]) -> usize {
    stored(idmap::parse(data)).bad
}

// A saved check may come from any source. It is judged and reported, and stays what it is.
pub fn judge(data: &[u8]) -> usize {
    use criu_preflight::report::{json, terminal};
    let Ok(check) = criu_preflight::saved::read(data).map(stored) else { return 1 };
    if let Ok(report) = check.judge() {
        let text = terminal::text(&report, &check.host);
        assert!(!text.replace('\n', "").chars().any(char::is_control));
        json::to_vec(&report, &check.host).expect("written");
    }
    0
}

pub fn limits(data: &[u8]) -> usize {
    stored(limits::parse(data)).bad
}

pub fn locks(data: &[u8]) -> usize {
    stored(locks::parse(data)).bad
}

pub fn maps(data: &[u8]) -> usize {
    let maps = stored(maps::parse(data));
    for vma in &maps.items {
        assert!(!vma.path.contains(&b'\n'));
        vma.unescaped();
    }
    maps.bad
}

pub fn misc(data: &[u8]) -> usize {
    stored(devices::parse_tty(data));
    stored(devices::parse_misc(data)).bad
}

pub fn mountinfo(data: &[u8]) -> usize {
    let table = stored(mountinfo::parse(data));
    for mount in &table.items {
        mount.super_value(b"fd");
    }
    table.bad
}

pub fn nslink(data: &[u8]) -> usize {
    stored(nslink::parse(data)).anon_class();
    0
}

pub fn stat(data: &[u8]) -> usize {
    usize::from(stored(stat::parse(data)).is_none())
}

pub fn status(data: &[u8]) -> usize {
    stored(status::parse(data)).bad
}

// What CRIU's process reads from the scanner is as hostile as the tree.
pub fn wire(data: &[u8]) -> usize {
    use criu_preflight::scanner::wire::{FromScanner, ToScanner};
    if let Some(message) = ToScanner::parse(data) {
        assert_eq!(ToScanner::parse(&message.to_packet()).as_ref(), Some(&message));
    }
    match FromScanner::parse(data) {
        Ok(message) => {
            assert_eq!(message.to_packet(), data);
            if let FromScanner::Line(_, text) | FromScanner::Syslog(text) | FromScanner::Panic(text) = message {
                assert!(text.len() <= 4000 && !text.chars().any(char::is_control));
            }
            0
        }
        Err(_) => 1,
    }
}
