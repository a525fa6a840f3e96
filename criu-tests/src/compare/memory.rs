//! Mappings, their flags, and what is in those that the process can have written.

use super::{read, Look};
use std::os::unix::fs::FileExt;

/// Of one mapping.
const MOST: usize = 1 << 20;

/// One, or several that lie side by side and are alike: the kernel joins them or not, as they were made.
struct Mapping {
    start: usize,
    end: usize,
    perms: String,
    /// Of a file; of nothing.
    offset: String,
    name: String,
    flags: Vec<String>,
}

impl Mapping {
    /// The first line of an entry of /proc/PID/smaps.
    fn of(line: &str) -> Option<Mapping> {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let number = |n: &str| usize::from_str_radix(n, 16).ok();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let [perms, offset, _, inode, name @ ..] = fields.as_slice() else { return None };
        let offset = if *inode == "0" { "" } else { offset };
        let (start, end) = (number(start)?, number(end)?);
        let (perms, offset, name) = (perms.to_string(), offset.to_string(), name.join(" "));
        Some(Mapping { start, end, perms, offset, name, flags: Vec::new() })
    }

    fn continues(&self, before: &Mapping) -> bool {
        let number = |offset: &str| usize::from_str_radix(offset, 16).ok();
        let same_file = match (number(&before.offset), number(&self.offset)) {
            (Some(was), Some(is)) => was + (before.end - before.start) == is,
            (was, is) => was == is,
        };
        // What the kernel has put there has a name, and stays as it is.
        let own = !self.name.starts_with('[');
        own && same_file && before.end == self.start && self.perms == before.perms && self.name == before.name
    }

    fn of_process(&self) -> bool {
        let of_kernel = self.name.starts_with("[v") || self.name == "[uprobes]";
        let written = self.perms.contains('w') || self.name.contains("(deleted)") || self.offset.is_empty();
        !of_kernel && written && self.end - self.start <= MOST
    }
}

fn mappings(pid: i32) -> Vec<Mapping> {
    let mut all: Vec<Mapping> = Vec::new();
    for line in read(&format!("/proc/{pid}/smaps")).lines() {
        if let Some(mapping) = Mapping::of(line) {
            all.push(mapping);
        } else if let (Some(flags), Some(last)) = (line.strip_prefix("VmFlags:"), all.last_mut()) {
            // Not whether it was written to since somebody asked last, nor whether it was writable when it was made.
            last.flags = flags.split_whitespace().filter(|f| !["sd", "ac"].contains(f)).map(String::from).collect();
            let last = all.pop();
            match (last, all.last_mut()) {
                // One with a guard region may be joined to one without.
                (Some(m), Some(before)) if m.continues(before) => {
                    before.end = m.end;
                    let new: Vec<String> = m.flags.into_iter().filter(|f| !before.flags.contains(f)).collect();
                    before.flags.extend(new);
                }
                (last, _) => all.extend(last),
            }
        }
    }
    all
}

pub fn see(look: &mut Look, pid: i32, label: &str) {
    let Ok(mem) = std::fs::File::open(format!("/proc/{pid}/mem")) else { return };
    let stacks = super::process::stack_pointers(pid);
    for m in mappings(pid) {
        let at = format!("map {:x}-{:x}", m.start, m.end);
        let shown = look.link(&m.name);
        look.note(label, &at, format!("{} {} {shown}", m.perms, m.offset));
        look.note(label, &format!("{at} VmFlags"), m.flags.join(" "));
        if !m.of_process() {
            continue;
        }
        let mut bytes = vec![0; m.end - m.start];
        // A hole of a file, guard pages: as far as it goes.
        for (nth, page) in bytes.chunks_mut(4096).enumerate() {
            let _ = mem.read_at(page, (m.start + nth * 4096) as u64);
        }
        // What a stack had before means nothing.
        if let Some(sp) = stacks.iter().find(|sp| (m.start..m.end).contains(sp)) {
            bytes[..sp - m.start].fill(0);
        }
        look.state.memory.insert(format!("{label} {at} contents"), bytes);
    }
}
