//! A saved check with other names: whatever is text and is not known to be the kernel's or CRIU's own word is replaced.

use super::names::{mapped, Names};
use super::SavedCheck;
use crate::bytes::Bytes;
use crate::rules::{Place, Verdict};
use serde_json::Value;

/// Members of the document whose text is no name: words of the kernel, of CRIU and of ours. A new member is replaced until it
/// is listed here.
const WORDS: &[&str] = &[
    "access",
    "blkdev",
    "chrdev",
    "disabled",
    "enable_fs",
    "flags",
    "fstype",
    "hooks",
    "kind",
    "look",
    "mismatch",
    "misc",
    "mode",
    "network_lock",
    "origin",
    "phase",
    "pipe",
    "probe",
    "proc_self",
    "proc_alive",
    "release",
    "rule",
    "runtime",
    "stage",
    "state",
    "thread_features",
    "ttys",
    "ulp",
    "version",
];

/// Addresses.
const ADDRESSES: &[&str] = &["dst", "local", "peer", "src"];

impl SavedCheck {
    /// The same check with other names. Numbers stay: pids, ids, descriptors, inodes, devices, ports, sizes, times.
    ///
    /// `Err`: a rule would find another thing by these names.
    pub fn anonymize(&self) -> Result<SavedCheck, String> {
        let mut document = serde_json::to_value(self).map_err(|e| e.to_string())?;
        Walk::default().value(&mut document, "", "");
        let mut new: SavedCheck = serde_json::from_value(document).map_err(|e| e.to_string())?;
        new.anonymized = true;
        let (old, other) = (self.found()?, new.found()?);
        // Found by one of them only.
        let apart = |a: &[Found], b: &[Found]| a.iter().find(|f| !b.contains(f)).map(|f| f.0.clone());
        let number = (old.len() != other.len()).then(|| "number of findings".to_owned());
        match apart(&old, &other).or_else(|| apart(&other, &old)).or(number) {
            Some(rule) => Err(format!("with other names the report would differ ({rule})")),
            None => Ok(new),
        }
    }

    /// What the report has besides words.
    fn found(&self) -> Result<Vec<Found>, String> {
        let report = self.judge().map_err(|e| e.to_string())?;
        let one = |f: &crate::rules::Finding| {
            let mut places = f.also.clone();
            places.push(f.place());
            places.sort_by_key(|p| (p.pid, p.fd, p.queued.clone()));
            (f.rule.clone().into_owned(), f.verdict, f.tid, f.addr, places, f.holders.iter().map(|h| h.pid).collect())
        };
        let mut found: Vec<Found> = report.findings.iter().map(one).collect();
        found.sort_by_cached_key(|f| format!("{f:?}"));
        Ok(found)
    }
}

type Found = (String, Verdict, Option<i32>, Option<u64>, Vec<Place>, Vec<i32>);

#[derive(Default)]
struct Walk {
    names: Names,
}

impl Walk {
    /// `key`: the member this is in, or in a list of; `above`: the one around that.
    fn value(&mut self, value: &mut Value, key: &str, above: &str) {
        match value {
            // RULE, RESOURCE.
            Value::Array(pair) if above == "allowed" => pair.iter_mut().skip(1).for_each(|v| self.value(v, key, "")),
            Value::Array(list) if key == "allowed" => list.iter_mut().for_each(|v| self.value(v, key, key)),
            Value::Array(list) => list.iter_mut().for_each(|v| self.value(v, key, above)),
            Value::Object(members) if is_raw(members) => self.leaf(value, key, above),
            Value::Object(members) => {
                for (name, v) in members {
                    // What a program has given epoll to be handed back.
                    if key == "epoll" && name == "data" {
                        *v = 0.into();
                    } else if WORDS.contains(&key) && v.is_string() {
                        // A table of numbers and words.
                    } else {
                        self.value(v, name, key);
                    }
                }
            }
            Value::String(_) => self.leaf(value, key, above),
            _ => {}
        }
    }

    fn leaf(&mut self, value: &mut Value, key: &str, above: &str) {
        // The drivers of terminals have names of the kernel.
        if WORDS.contains(&key) || WORDS.contains(&above) {
            return;
        }
        if let (true, Value::String(text)) = (ADDRESSES.contains(&key), &*value) {
            *value = self.names.address(text).into();
            return;
        }
        let Ok(bytes) = serde_json::from_value::<Bytes>(value.clone()) else { return };
        let new = match (above, key) {
            (_, "key") => Bytes(self.key(&bytes)),
            (_, "handle") => Bytes(vec![0; bytes.len()]),
            (_, "controllers" | "dump_controllers") => Bytes(self.controller(&bytes)),
            (_, "super_options" | "options") => Bytes(self.names.options(&bytes)),
            (_, "externals" | "inherit_ids" | "allowed") => Bytes(self.names.external(&bytes)),
            ("vma", "path") => mapped(&mut self.names, &bytes),
            _ => Bytes(self.names.text(&bytes)),
        };
        *value = serde_json::to_value(new).unwrap_or_default();
    }

    /// A hierarchy of cgroups: the kernel's name of a controller, or somebody's.
    fn controller(&mut self, name: &[u8]) -> Vec<u8> {
        match name.strip_prefix(b"name=") {
            Some(name) => [b"name=", &*self.names.word(name)].concat(),
            None => name.to_vec(),
        }
    }

    /// Parts with colons between: the first is a word of ours, and so is what has no lower-case letter but its later ones.
    fn key(&mut self, key: &[u8]) -> Vec<u8> {
        let ours = |part: &[u8]| part.len() < 20 && part.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
        let mut parts = Vec::new();
        for (nth, part) in key.split(|b| *b == b':').enumerate() {
            let number = part.iter().all(u8::is_ascii_hexdigit);
            let word = part.first().is_some_and(u8::is_ascii_uppercase) || nth == 0;
            parts.push(if number || (word && ours(part)) { part.to_vec() } else { self.names.text(part) });
        }
        parts.join(&b':')
    }
}

/// How [`Bytes`] that are no UTF-8 are written.
fn is_raw(members: &serde_json::Map<String, Value>) -> bool {
    members.len() == 1 && members.get("hex").is_some_and(Value::is_string)
}
