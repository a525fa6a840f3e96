//! `preflight.json`: the same findings for programs, complete and unfolded. Its schema: `docs/preflight.schema.json`.

use crate::bytes::{to_hex, Bytes};
use crate::config::Mode;
use crate::criu::{Caps, Host, Release, Runtime, Stage};
use crate::report::answer::Remaining;
use crate::report::hints::cure;
use crate::report::{message, probe_text, reason, render_value, LookedAt, Outcome, Report};
use crate::rules::{Finding, Place, Value, Verdict, WarnReason};
use crate::snapshot::ScanPhase;
use serde::Serialize;
use std::collections::BTreeMap;

/// Raised when a reader of an older file would misunderstand a new one.
pub(crate) const SCHEMA: u32 = 1;

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    plugin: &'static str,
    verdict: Outcome,
    mode: Mode,
    look: ScanPhase,
    criu: Criu,
    runtime: Runtime,
    root: Process,
    tasks: usize,
    looked_at: LookedAt,
    findings: Vec<Item<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<Given<'a>>,
    unchecked: Vec<Gap>,
    /// The lines as they stand in CRIU's log.
    log: Vec<String>,
}

/// What to give at once, what the restore is given then, and what would refuse still.
#[derive(Serialize)]
struct Given<'a> {
    options: Vec<String>,
    restore: Vec<String>,
    remain: &'a [Remaining],
    certain: bool,
}

#[derive(Serialize)]
struct Criu {
    stage: Stage,
    release: Release,
    caps: Caps,
    /// Whether the options CRIU was given could be read.
    options_known: bool,
}

#[derive(Serialize)]
struct Process {
    pid: i32,
    /// Escaped, as in the log.
    comm: String,
}

#[derive(Serialize)]
struct Item<'a> {
    rule: &'a str,
    verdict: Verdict,
    /// Why it is only a warning.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<WarnReason>,
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    tid: Option<i32>,
    comm: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fd: Option<i32>,
    #[serde(skip_serializing_if = "<[u32]>::is_empty")]
    queued: &'a [u32],
    /// Hexadecimal: a JSON number cannot hold every address.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    facts: BTreeMap<&'a str, Fact>,
    /// Facts whose text had to be escaped, as they really are.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    raw_hex: BTreeMap<&'a str, String>,
    holders: Vec<Owner>,
    also: &'a [Place],
    message: String,
    hint: String,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Fact {
    Num(i64),
    Text(String),
}

#[derive(Serialize)]
struct Owner {
    pid: i32,
    comm: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fd: Option<i32>,
}

#[derive(Serialize)]
struct Gap {
    pid: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    fd: Option<i32>,
    what: String,
    errno: i32,
    /// The errno's name, or that it was not understood.
    reason: String,
}

/// The report as a file, ending in a newline. Fails only as `serde_json` does, which for these types means never.
pub fn to_vec(report: &Report, host: &Host) -> serde_json::Result<Vec<u8>> {
    let document = Document {
        schema: SCHEMA,
        plugin: env!("CARGO_PKG_VERSION"),
        verdict: report.verdict(),
        mode: report.mode,
        look: report.look,
        criu: Criu {
            stage: host.stage,
            release: host.release,
            caps: host.caps,
            options_known: host.options.tcp_established.is_some(),
        },
        runtime: host.runtime,
        root: Process { pid: report.root.0, comm: report.root.1.escaped() },
        tasks: report.tasks,
        looked_at: report.looked_at,
        findings: report.findings.iter().map(|f| item(report, f, host)).collect(),
        answer: report.answer.as_ref().map(|a| Given {
            options: a.arguments(),
            restore: a.at_restore(),
            remain: &a.remain,
            certain: !a.doubtful,
        }),
        unchecked: report
            .unchecked
            .iter()
            .map(|u| Gap {
                pid: u.pid,
                fd: u.fd,
                what: probe_text(u.probe).into_owned(),
                errno: u.errno,
                reason: reason(u.errno),
            })
            .collect(),
        log: crate::report::lines::lines(report, host)
            .into_iter()
            .chain(crate::report::lines::warnings(report, host))
            .collect(),
    };
    let mut out = serde_json::to_vec_pretty(&document)?;
    out.push(b'\n');
    Ok(out)
}

fn item<'a>(report: &Report, finding: &'a Finding, host: &Host) -> Item<'a> {
    let rule = report.rule_of(finding);
    let fact = |value: &Value| match value {
        Value::Num(n) => Fact::Num(*n),
        other => Fact::Text(render_value(other)),
    };
    let raw = |value: &Value| match value {
        Value::Text(bytes) => hex_if_escaped(bytes),
        _ => None,
    };
    Item {
        rule: &finding.rule,
        verdict: finding.verdict,
        reason: finding.warns,
        pid: finding.pid,
        tid: finding.tid,
        comm: finding.comm.escaped(),
        fd: finding.fd,
        queued: &finding.queued,
        address: finding.addr.map(|a| format!("{a:#x}")),
        facts: finding.facts.iter().map(|(name, value)| (name.as_ref(), fact(value))).collect(),
        raw_hex: finding.facts.iter().filter_map(|(name, value)| Some((name.as_ref(), raw(value)?))).collect(),
        holders: finding.holders.iter().map(|h| Owner { pid: h.pid, comm: h.comm.escaped(), fd: h.fd }).collect(),
        also: &finding.also,
        message: message(rule, finding),
        hint: rule.map(|r| cure(r, finding, host).text).unwrap_or_default(),
    }
}

fn hex_if_escaped(bytes: &Bytes) -> Option<String> {
    (bytes.escaped().as_bytes() != bytes.0.as_slice()).then(|| to_hex(bytes))
}
