//! A check that is kept in a file and judged again: what was seen, what was found out after judging, and what the judgement
//! depends on besides (the host, the settings).
//!
//! The file is one JSON document. It is read as anything that comes from outside: with a limit, and nothing in it is trusted
//! but what the scanner of a hostile tree could have seen, too. Joins are made anew from it.

mod anonymize;
mod answers;
mod file;
mod names;
mod record;
mod replay;

pub(crate) use answers::Answers;
pub(crate) use file::FORMAT;
pub use file::{read, read_file, write_new};
pub use record::record;

use crate::config::Config;
use crate::criu::Host;
use crate::snapshot::Snapshot;
use serde::{Deserialize, Serialize};

/// Everything that one report was made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedCheck {
    /// See [`FORMAT`]; first in the file.
    pub format: u32,
    /// The version of criu-preflight that wrote it: for people, nothing depends on it.
    pub version: String,
    /// Names were replaced.
    #[serde(default)]
    pub anonymized: bool,
    pub host: Host,
    /// Rule ids that were switched off, and RULE, RESOURCE pairs that only warn.
    #[serde(default)]
    pub disabled: Vec<String>,
    #[serde(default)]
    pub allowed: Vec<(String, String)>,
    /// In the order they were taken: one, or as many as it took to confirm what the first one refused.
    pub snapshots: Vec<SavedSnapshot>,
}

/// One look at the tree and what was asked about its findings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedSnapshot {
    pub snapshot: Snapshot,
    #[serde(default)]
    pub answers: Answers,
}

impl SavedCheck {
    pub fn new(host: &Host, config: &Config, snapshots: Vec<SavedSnapshot>) -> SavedCheck {
        SavedCheck {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            anonymized: false,
            host: host.clone(),
            disabled: config.disabled.clone(),
            allowed: config.allowed.clone(),
            snapshots,
        }
    }

    /// The settings under which it was judged. A saved check has no dump to stop: a refusal always is one.
    pub fn config(&self) -> Config {
        Config { disabled: self.disabled.clone(), allowed: self.allowed.clone(), ..Config::default() }
    }
}

#[cfg(test)]
mod tests;
