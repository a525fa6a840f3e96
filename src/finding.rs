//! A finding: facts about one offending resource, no words.

use crate::bytes::Bytes;
use crate::criu::Missing;
use crate::rules::Rule;
use crate::snapshot::{Dev, OpenFile, Task};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::net::SocketAddr;

/// What a finding means for the dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// May fail, or is lost silently.
    Warn,
    /// CRIU dumps it, and the restore of that dump fails for certain, on this host.
    Unrestorable,
    /// No path to success.
    Refuse,
}

impl Verdict {
    /// It says that something fails for certain: it needs the same evidence, whether that is the dump or the restore.
    pub(crate) fn is_certain(self) -> bool {
        self > Verdict::Warn
    }
}

/// Why a finding that CRIU may refuse for does not stop the dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WarnReason {
    /// Something that decides could not be found out.
    FactUnknown,
    /// It is not known whether an option is given that would allow it.
    OptionUnknown,
    /// Other plugins, whose hooks could accept it, are not loaded yet.
    PluginsUnknown,
    /// CRIU dumps it, and it is lost or changed in the restored tree.
    Lost,
    /// CRIU dumps it, and the restore fails without the option that the remedy names.
    RestoreOption,
    /// This release of CRIU is not known.
    UnknownRelease,
    /// A pre-dump refuses nothing.
    PreDump,
    /// The administrator allows it (setting `allow`).
    Allowed,
    /// It depends on all of the tree, and not all of it could be looked at.
    Incomplete,
    /// It changes by itself, and the tree runs: the look at the frozen tree decides.
    Volatile,
    /// A second look did not see the same.
    NotConfirmed,
    /// Two looks agree, but it could be a coincidence of two moments: the look at the frozen tree decides.
    Unproved,
}

impl From<Missing> for WarnReason {
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Option => WarnReason::OptionUnknown,
            Missing::Plugins => WarnReason::PluginsUnknown,
            Missing::Fact => WarnReason::FactUnknown,
        }
    }
}

/// A fact's value. Text from the tree stays bytes until the report escapes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Value {
    Text(Bytes),
    /// A term of CRIU or the kernel chosen by the rule (`ESTABLISHED`, `SOCK_DGRAM`): never from the tree.
    Term(Cow<'static, str>),
    Num(i64),
    Hex(u64),
    Octal(u32),
    Dev(Dev),
    Addr(SocketAddr),
    /// Start and end of a mapping.
    Range(u64, u64),
    Pids(Vec<i32>),
}

/// A process that holds something, in or outside of the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    pub pid: i32,
    pub comm: Bytes,
    pub fd: Option<i32>,
}

/// The other end of a resource, to be looked up after judging (only a refused dump pays for the search).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Other {
    /// The holders of the socket with this inode.
    Socket(u64),
    /// This process (a tracer, a session leader, a lock owner).
    Process(i32),
    /// The other holders of the finding's own open file, an epoll file.
    OpenFile,
}

/// Another place in the tree with the same resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    pub pid: i32,
    pub fd: Option<i32>,
    /// Not this descriptor, but one in its queue: see [`crate::snapshot::Queued::path`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queued: Vec<u32>,
}

impl Place {
    /// A descriptor of a process, or what lies in its queue.
    pub(crate) fn of(task: &Task, file: &OpenFile) -> Place {
        match file.queued() {
            Some(at) => Place { pid: task.pid, fd: Some(at.fd), queued: at.path.clone() },
            None => Place { pid: task.pid, fd: file.fd(), queued: Vec::new() },
        }
    }
}

/// One offending resource.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub rule: Cow<'static, str>,
    pub verdict: Verdict,
    /// Why it is only a warning; the first reason that was met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warns: Option<WarnReason>,
    pub pid: i32,
    pub start_time: u64,
    pub comm: Bytes,
    /// A thread other than the leader.
    pub tid: Option<i32>,
    pub fd: Option<i32>,
    /// See [`Place::queued`].
    #[serde(default)]
    pub queued: Vec<u32>,
    /// Start of the mapping.
    pub addr: Option<u64>,
    /// What it is, by name; the rule's template refers to them.
    pub facts: Vec<(Cow<'static, str>, Value)>,
    /// Identity of the resource: equal keys of one rule are the same thing, reported once, with the other places in `also`;
    /// a second look confirms a finding by it.
    pub key: String,
    pub also: Vec<Place>,
    pub other: Option<Other>,
    /// Filled in after judging.
    pub holders: Vec<Holder>,
    /// With the holders: whether the other end was found, and its holder is not in the tree (`Some(false)`: it is, and has
    /// come since the look). `None`: not found, or not known.
    #[serde(skip)]
    pub outside: Option<bool>,
    /// Of the task's own links, the one that it is about.
    #[serde(skip)]
    pub link: Option<TaskLink>,
    /// It lasts, and keeps CRIU from getting as far as the frozen look: reported before.
    #[serde(skip)]
    pub lasts: bool,
    /// Of a look at a running tree: whether this was seen in one piece, as its [`crate::rules::Evidence`] asks for.
    #[serde(skip)]
    pub proof: Proof,
    /// Whether it was the same when it was asked again, see [`crate::enrich::recheck`]; `None`: it was not asked.
    #[serde(skip)]
    pub held: Option<bool>,
}

/// Whether what two looks agree on could be a coincidence of two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proof {
    #[default]
    NotAsked,
    /// It could: only a tree that stands still decides.
    Lacking,
    /// It could not.
    Given,
}

/// A link of /proc/PID to a file that is no descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskLink {
    Exe,
    Cwd,
    Root,
}

/// An unsigned number as a fact.
pub(crate) fn number(n: impl TryInto<i64>) -> Value {
    Value::Num(n.try_into().unwrap_or(i64::MAX))
}

impl Finding {
    /// A finding about the task itself.
    pub(crate) fn on_task(rule: &Rule, task: &Task) -> Self {
        Finding {
            rule: Cow::Borrowed(rule.id),
            verdict: Verdict::Refuse,
            warns: None,
            pid: task.pid,
            start_time: task.start_time,
            comm: task.comm.clone(),
            tid: None,
            fd: None,
            queued: Vec::new(),
            addr: None,
            facts: Vec::new(),
            key: format!("task:{}", task.pid),
            also: Vec::new(),
            other: None,
            holders: Vec::new(),
            outside: None,
            link: None,
            lasts: false,
            proof: Proof::NotAsked,
            held: None,
        }
    }

    /// A finding about a descriptor; its key is the file's device and inode. `path` is given when the link was read.
    pub(crate) fn on_file(rule: &Rule, task: &Task, file: &OpenFile) -> Self {
        let mut f = Finding::on_task(rule, task);
        Place { fd: f.fd, queued: f.queued, .. } = Place::of(task, file);
        f.key = format!("file:{}:{}:{}", file.attr.dev.major, file.attr.dev.minor, file.attr.ino);
        if let Some(link) = &file.link {
            f = f.fact("path", Value::Text(link.clone()));
        }
        f
    }

    /// A finding about a mapping.
    pub(crate) fn on_mapping(rule: &Rule, task: &Task, start: u64, end: u64) -> Self {
        let mut f = Finding::on_task(rule, task);
        f.addr = Some(start);
        f.key = format!("map:{}:{start:x}", task.pid);
        f.fact("range", Value::Range(start, end))
    }

    pub(crate) fn fact(mut self, name: &'static str, value: Value) -> Self {
        self.facts.push((Cow::Borrowed(name), value));
        self
    }
    /// A fact that may be absent: nothing is added for `None`.
    pub(crate) fn fact_opt(self, name: &'static str, value: Option<Value>) -> Self {
        match value {
            Some(v) => self.fact(name, v),
            None => self,
        }
    }
    pub(crate) fn text(self, name: &'static str, value: impl Into<Bytes>) -> Self {
        self.fact(name, Value::Text(value.into()))
    }
    pub(crate) fn term(self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.fact(name, Value::Term(value.into()))
    }
    pub(crate) fn num(self, name: &'static str, value: impl Into<i64>) -> Self {
        self.fact(name, Value::Num(value.into()))
    }
    /// A number of any width; one that does not fit is the largest.
    pub(crate) fn count(self, name: &'static str, value: impl TryInto<i64>) -> Self {
        self.num(name, value.try_into().unwrap_or(i64::MAX))
    }
    /// Where it is.
    pub fn place(&self) -> Place {
        Place { pid: self.pid, fd: self.fd, queued: self.queued.clone() }
    }
    pub(crate) fn tid(mut self, tid: i32) -> Self {
        self.tid = Some(tid);
        self
    }
    pub(crate) fn key(mut self, key: String) -> Self {
        self.key = key;
        self
    }
    pub(crate) fn other(mut self, other: Other) -> Self {
        self.other = Some(other);
        self
    }
    /// Something that decides could not be found out: it may fail.
    pub(crate) fn doubt(mut self) -> Self {
        self.demote(WarnReason::FactUnknown);
        self
    }
    /// CRIU dumps it, and the restore fails for certain.
    pub(crate) fn unrestorable(mut self) -> Self {
        self.verdict = Verdict::Unrestorable;
        self
    }
    /// Lets it only warn; the first reason stays.
    pub(crate) fn demote(&mut self, reason: WarnReason) {
        self.verdict = Verdict::Warn;
        self.warns = self.warns.or(Some(reason));
    }
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.facts.iter().find(|(n, _)| n == name).map(|(_, v)| v)
    }
}
