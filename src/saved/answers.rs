//! What was found out about findings after judging, by finding.

use crate::bytes::Bytes;
use crate::rules::{Finding, Holder, Other};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Which finding an answer is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    pub rule: String,
    pub pid: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tid: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fd: Option<i32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queued: Vec<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addr: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<Other>,
    /// See [`Finding::key`]. Another version may spell it differently: it only tells apart what is equal in all else.
    pub key: String,
}

impl Subject {
    pub(crate) fn of(f: &Finding) -> Subject {
        Subject {
            rule: f.rule.clone().into_owned(),
            pid: f.pid,
            tid: f.tid,
            fd: f.fd,
            queued: f.queued.clone(),
            addr: f.addr,
            other: f.other.clone(),
            key: f.key.clone(),
        }
    }

    fn is_about(&self, f: &Finding) -> bool {
        (&*self.rule, self.tid, &self.queued, self.addr, &self.other) == (&*f.rule, f.tid, &f.queued, f.addr, &f.other)
    }
}

/// Who holds the other end of a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherEnd {
    #[serde(flatten)]
    pub subject: Subject,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<Holder>,
    /// See [`Finding::outside`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<bool>,
}

/// The text of a descriptor's link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Name {
    pub pid: i32,
    pub fd: i32,
    pub path: Bytes,
}

/// What was asked about the findings of one look. What was not asked is taken to have stayed as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answers {
    /// About what did not stay the same until the next look.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unsteady: Vec<Subject>,
    /// About a path that was not the same when it was looked up again together with the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_path: Vec<Subject>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_ends: Vec<OtherEnd>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Name>,
}

/// Finds the answer to a finding.
pub(crate) struct Lookup<'a, T> {
    by_place: HashMap<(i32, Option<i32>), Vec<Answer<'a, T>>>,
}
type Answer<'a, T> = (&'a Subject, T);

impl<'a, T> Lookup<'a, T> {
    pub(crate) fn new(answers: impl Iterator<Item = (&'a Subject, T)>) -> Self {
        let mut by_place: HashMap<_, Vec<_>> = HashMap::new();
        for (subject, answer) in answers {
            by_place.entry((subject.pid, subject.fd)).or_default().push((subject, answer));
        }
        Lookup { by_place }
    }

    pub(crate) fn of(&self, f: &Finding) -> Option<&T> {
        let here = self.by_place.get(&(f.pid, f.fd))?;
        let of_key = here.iter().find(|(subject, _)| subject.key == f.key && subject.is_about(f));
        of_key.or_else(|| here.iter().find(|(subject, _)| subject.is_about(f))).map(|(_, answer)| answer)
    }
}
