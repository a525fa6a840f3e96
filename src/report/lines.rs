//! Lines for CRIU's log and the system log.
//!
//! Who reads them shapes them: an RPC client is handed CRIU's first error line and no more than 1023 bytes of it; runc and
//! crun quote every line of the log with the word `Error` in it, each alone. So the first line is the summary, every
//! blocker is one self-contained line, and no other line of ours holds that word, not even in a name from the tree.

use crate::bytes::escape;
use crate::config::Mode;
use crate::criu::{Host, Stage};
use crate::report::folded::folded;
use crate::report::hints::{cure, Hint, Rank};
use crate::report::{fact_text, probe_text, reason, render_value, sentence, Outcome, Report};
use crate::rules::{Finding, Holder, Other, Phase, Place, Proof, Value, Verdict};
use crate::scan::ScanError;
use crate::snapshot::{ScanPhase, Unchecked};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Bytes of a line. CRIU keeps 1023 of its first error for the RPC answer (`cr_errmsg`).
pub(super) const LINE: usize = 1000;
/// Bytes of a line that its cure may take: it stands at the end and is what the reader came for.
const CURE: usize = 420;
/// A cure longer than this is written once per kind.
const REPEATED_CURE: usize = 200;
/// Instead of a cure that stands in a line above.
const AS_ABOVE: &str = "remedy as above";
/// Bytes of a name from the tree within a line.
const NAME: usize = 240;
/// Findings of one kind that have lines of their own.
const FULL: usize = 3;
/// Error lines, warning lines. The whole list is in `preflight.json`.
const ERRORS: usize = 100;
const WARNINGS: usize = 40;
/// Pids, descriptors, holders listed before "and N more".
const LIST: usize = 40;
const SHORT_LIST: usize = 3;

/// What is said of a thread that hangs in the kernel.
const STUCK: &str = "hangs in the kernel (state D: a dead file server?), and CRIU cannot stop it before it comes back";

/// What is said of a finding that could be a coincidence of two moments.
const UNSETTLED: &str = "; the tree did not stand still meanwhile, so only a stopped tree decides";

/// Why a tree could not be looked at.
impl std::fmt::Display for ScanError {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            ScanError::NoSuchTask => write!(f, "there is no such process"),
            ScanError::NoProc(errno) => {
                write!(f, "/proc cannot be used ({})", std::io::Error::from_raw_os_error(*errno))
            }
            ScanError::NoChildren => {
                write!(f, "this kernel has no /proc/PID/task/TID/children, which CRIU needs too")
            }
            ScanError::Stuck { pid, tid } => write!(f, "thread {tid} of process {pid} {}", STUCK),
        }
    }
}

const ERROR_PREFIX: &str = "Error (preflight): ";
const WARN_PREFIX: &str = "Warn  (preflight): ";

/// The error lines of a refusal, the summary first; empty when the dump is not refused.
pub fn lines(report: &Report, host: &Host) -> Vec<String> {
    if report.verdict() != Outcome::Refuse {
        return Vec::new();
    }
    let kinds = kinds(report, host, Verdict::Refuse);
    let head = format!("{ERROR_PREFIX}{}", refusal(report, host.stage));
    let mut out = vec![answered(summary(&head, report, &kinds), report, host)];
    body(&mut out, ERROR_PREFIX, ERRORS, report, &kinds);
    out.into_iter().map(one_line).collect()
}

/// The summary with what to give, if there is room in what an RPC client is handed.
fn answered(summary: String, report: &Report, host: &Host) -> String {
    let Some(answer) = report.answer.as_ref().map(|a| a.text(host)) else { return summary };
    if summary.len().saturating_add(answer.len()).saturating_add(2) <= LINE {
        return format!("{summary}; {answer}");
    }
    // The options stand in the lines below.
    let remaining = report.answer.as_ref().map(|a| a.remaining()).unwrap_or_default();
    cut(&format!("{summary}; with the options below {remaining}"), LINE)
}

/// The warning lines: what may fail, what mode `warn` lets through, and one line for all that could not be looked at.
pub fn warnings(report: &Report, host: &Host) -> Vec<String> {
    let mut out = Vec::new();
    if report.mode != Mode::Enforce {
        let refused = kinds(report, host, Verdict::Refuse);
        if !refused.is_empty() {
            let head = format!("{WARN_PREFIX}mode warn, CRIU goes on, but it will fail: {}", root(report));
            out.push(summary(&head, report, &refused));
            body(&mut out, WARN_PREFIX, WARNINGS, report, &refused);
        }
    }
    let unrestorable = kinds(report, host, Verdict::Unrestorable);
    if !unrestorable.is_empty() {
        let head = format!("{WARN_PREFIX}{}", no_restore(report));
        out.push(summary(&head, report, &unrestorable));
        body(&mut out, WARN_PREFIX, WARNINGS, report, &unrestorable);
    }
    let mut warned = kinds(report, host, Verdict::Warn);
    // What is lost in a dump that goes through is in `preflight.json`, for those who ask.
    warned.retain(|k| !report.rules.iter().any(|r| r.id == k.rule && r.phase == Phase::Never));
    body(&mut out, WARN_PREFIX, WARNINGS, report, &warned);
    out.extend(unchecked(report, WARN_PREFIX));
    // The word that the runtimes look for stays out, also where a name from the tree holds it.
    out.into_iter().map(|line| one_line(line.replace("Error", "\\x45rror"))).collect()
}

/// One line for the system log: containerd, LXC, youki and older runc and crun show their user nothing of CRIU's log.
/// `report_path`: where the whole report is, if it could be written.
pub(crate) fn syslog_summary(report: &Report, host: &Host, report_path: Option<&[u8]>) -> String {
    let line = match report.verdict() {
        Outcome::Refuse => summary(&refusal(report, host.stage), report, &kinds(report, host, Verdict::Refuse)),
        _ => summary(&no_restore(report), report, &kinds(report, host, Verdict::Unrestorable)),
    };
    let place = report_path.map(|p| format!("; report: {}", short_text(p))).unwrap_or_default();
    one_line(format!("{}{place}", cut(&line, LINE.saturating_sub(place.len()))))
}

pub(super) fn root(report: &Report) -> String {
    format!("pid {} ({})", report.root.0, report.root.1.escaped())
}

fn no_restore(report: &Report) -> String {
    format!("a dump of {} cannot be restored", root(report))
}

fn refusal(report: &Report, stage: Stage) -> String {
    match (stage, report.look) {
        (Stage::DryRun, _) => format!("a dump of {} would be refused", root(report)),
        (_, ScanPhase::Early) => format!("refusing to dump {}, nothing was frozen", root(report)),
        (_, ScanPhase::Frozen) => {
            format!("refusing to dump {}, the tree was frozen briefly, nothing was written", root(report))
        }
    }
}

/// Findings of one rule, in the order of the report, with their cures.
pub(super) struct Kind<'a> {
    rule: &'a str,
    rank: Rank,
    pub(super) found: Vec<(&'a Finding, Hint)>,
}

/// The kinds of one verdict: what an option allows first, then what a change mends, then what has no remedy.
pub(super) fn kinds<'a>(report: &'a Report, host: &Host, verdict: Verdict) -> Vec<Kind<'a>> {
    let mut kinds: Vec<Kind> = Vec::new();
    for finding in report.findings.iter().filter(|f| f.verdict == verdict) {
        let mut cure = match report.rule_of(finding) {
            Some(rule) => cure(rule, finding, host),
            None => Hint { rank: Rank::NoRemedy, text: "this version does not know the rule".to_string() },
        };
        if finding.proof == Proof::Lacking {
            cure.text.push_str(UNSETTLED);
        }
        match kinds.iter_mut().find(|k| k.rule == finding.rule) {
            Some(kind) => {
                kind.rank = kind.rank.min(cure.rank);
                kind.found.push((finding, cure));
            }
            None => kinds.push(Kind { rule: &finding.rule, rank: cure.rank, found: vec![(finding, cure)] }),
        }
    }
    kinds.sort_by_key(|k| k.rank);
    kinds
}

/// `HEAD: 3 blockers in 2 of 17 tasks: tcp-connected x1, ...`, with as many kinds as fit.
pub(super) fn summary(head: &str, report: &Report, kinds: &[Kind]) -> String {
    let count: usize = kinds.iter().map(|k| k.found.len()).sum();
    let pids: BTreeSet<i32> = kinds
        .iter()
        .flat_map(|k| &k.found)
        .flat_map(|(f, _)| std::iter::once(f.pid).chain(f.also.iter().map(|p| p.pid)))
        .collect();
    let blockers = if count == 1 { "blocker" } else { "blockers" };
    let tasks = if report.tasks == 1 { "task" } else { "tasks" };
    let mut line = format!("{head}: {count} {blockers} in {} of {} {tasks}: ", pids.len(), report.tasks);
    for (i, kind) in kinds.iter().enumerate() {
        let item = format!("{}{} x{}", if i == 0 { "" } else { ", " }, kind.rule, kind.found.len());
        // 24: " and 4294967295 more kinds".
        if line.len().saturating_add(item.len()).saturating_add(26) > LINE {
            line.push_str(&format!(" and {} more kinds", kinds.len().saturating_sub(i)));
            break;
        }
        line.push_str(&item);
    }
    line
}

/// The blockers' own lines, at most `limit` of them.
pub(super) fn body(out: &mut Vec<String>, prefix: &str, limit: usize, report: &Report, kinds: &[Kind]) {
    let mut printed = 0_usize;
    for (i, kind) in kinds.iter().enumerate() {
        // One more is as long as the line that would say so.
        let full = if kind.found.len() <= FULL.saturating_add(1) { kind.found.len() } else { FULL };
        if printed.saturating_add(full).saturating_add(1) > limit {
            let rest: usize = kinds.iter().skip(i).map(|k| k.found.len()).sum();
            let place = report.written.as_ref().map(|p| format!(": see {}", short_text(p))).unwrap_or_default();
            out.push(format!("{prefix}and {rest} more of {} other kinds{place}", kinds.len().saturating_sub(i)));
            return;
        }
        let mut long: HashSet<&str> = HashSet::new();
        for (finding, cure) in kind.found.iter().take(full) {
            let repeated = cure.text.len() > REPEATED_CURE && !long.insert(&cure.text);
            out.push(line(prefix, report, finding, if repeated { AS_ABOVE } else { &cure.text }));
        }
        printed = printed.saturating_add(full);
        if kind.found.len() > full {
            let rest: Vec<&Finding> = kind.found.iter().skip(full).map(|(f, _)| *f).collect();
            out.push(folded(prefix, kind.rule, &rest));
            printed = printed.saturating_add(1);
        }
    }
}

/// `tcp-connected: pid 4213 (nginx) fd 12: SAYS; other end: ...; also ...; CURE`.
fn line(prefix: &str, report: &Report, finding: &Finding, cure: &str) -> String {
    let rule = report.rule_of(finding);
    let says = sentence(rule, finding, &|name| match finding.get(name) {
        Some(Value::Text(bytes)) => Some(short_text(bytes)),
        Some(value) => Some(render_value(value)),
        None => fact_text(finding, name),
    });
    let mut text = format!("{prefix}{}: {}: {says}", finding.rule, place(finding, rule.map_or("", |r| r.message)));
    if let Some(end) = other_end(finding) {
        text.push_str("; ");
        text.push_str(&end);
    }
    let also = also(finding);
    if !also.is_empty() {
        text.push_str("; also ");
        text.push_str(&also);
    }
    let cure = cut(cure, CURE);
    format!("{}; {cure}", cut(&text, LINE.saturating_sub(cure.len()).saturating_sub(2)))
}

/// Whose it is: process, thread, descriptor or address (unless the sentence tells the mapping itself).
pub(super) fn place(finding: &Finding, says: &str) -> String {
    let mut text = format!("pid {} ({})", finding.pid, finding.comm.escaped());
    if let Some(tid) = finding.tid {
        text.push_str(&format!(" thread {tid}"));
    }
    if let Some(fd) = finding.fd {
        text.push_str(&format!(" fd {fd}{}", in_queue(&finding.queued)));
    }
    if let Some(addr) = finding.addr.filter(|_| !says.contains("{range}") && !says.contains("{addr}")) {
        text.push_str(&format!(" address {addr:x}"));
    }
    text
}

/// Queues within queues that are all named.
const QUEUES: usize = 3;

/// `, descriptor 2 in its queue`: of what lies in the queue of the socket that was named.
fn in_queue(path: &[u32]) -> String {
    let of = |nth: usize| if nth == 0 { "its queue" } else { "the queue of that" };
    match path {
        [first, .., last] if path.len() > QUEUES => {
            format!(", descriptor {first} in its queue, and so on to descriptor {last}, {} queues deep", path.len())
        }
        _ => path.iter().enumerate().map(|(nth, at)| format!(", descriptor {at} in {}", of(nth))).collect(),
    }
}

fn other_end(finding: &Finding) -> Option<String> {
    let label = match finding.other {
        Some(Other::Socket(_)) => "other end",
        Some(Other::Process(_)) => "other process",
        Some(Other::OpenFile) => "also open in",
        None => "held by",
    };
    let who = |h: &Holder| match h.fd {
        Some(fd) => format!("pid {} ({}) fd {fd}", h.pid, h.comm.escaped()),
        None => format!("pid {} ({})", h.pid, h.comm.escaped()),
    };
    match (finding.holders.is_empty(), &finding.other) {
        (false, _) => Some(format!("{label}: {}", list(finding.holders.iter().map(who), SHORT_LIST, LINE))),
        (true, Some(Other::Process(pid))) => Some(format!("{label}: pid {pid}")),
        (true, _) => None,
    }
}

/// The other places, but those that are named as the other end.
fn also(finding: &Finding) -> String {
    let is_end = |p: &&Place| finding.holders.iter().any(|h| (h.pid, h.fd) == (p.pid, p.fd));
    let places: Vec<&Place> = finding.also.iter().filter(|p| !is_end(p)).collect();
    let mut last = Some(finding.pid);
    let places = places.into_iter().map(|p| {
        let same = last == Some(p.pid);
        last = Some(p.pid);
        match p.fd {
            Some(fd) if same => format!("fd {fd}{}", in_queue(&p.queued)),
            Some(fd) => format!("pid {} fd {fd}{}", p.pid, in_queue(&p.queued)),
            None => format!("pid {}", p.pid),
        }
    });
    list(places, SHORT_LIST, LINE)
}

/// Everything that could not be looked at, most frequent cause first.
pub(super) fn unchecked(report: &Report, prefix: &str) -> Option<String> {
    let mut causes: BTreeMap<(Cow<str>, i32), Vec<&Unchecked>> = BTreeMap::new();
    for u in &report.unchecked {
        causes.entry((probe_text(u.probe), u.errno)).or_default().push(u);
    }
    let mut causes: Vec<_> = causes.into_values().collect();
    causes.sort_by_key(|same| std::cmp::Reverse(same.len()));
    let causes = causes.iter().filter_map(|same| same.first().map(|first| (first, same.len())));
    let texts: Vec<String> = causes
        .map(|(first, count)| {
            let fd = first.fd.map(|fd| format!(" fd {fd}")).unwrap_or_default();
            let more = if count > 1 { format!(" and {} more", count.saturating_sub(1)) } else { String::new() };
            format!("{} {} (pid {}{fd}{more})", probe_text(first.probe), reason(first.errno), first.pid)
        })
        .collect();
    let things = if report.unchecked.len() == 1 { "thing" } else { "things" };
    let head = format!("{prefix}{} {things} could not be looked at: ", report.unchecked.len());
    let room = LINE.saturating_sub(head.len()).saturating_sub(20);
    (!report.unchecked.is_empty()).then(|| format!("{head}{}", list(texts.into_iter(), LIST, room)))
}

/// `a, b, c and 4 more`: at most `most` items and `room` bytes, but always the first. What is not listed is not made.
fn list(mut items: impl ExactSizeIterator<Item = String>, most: usize, room: usize) -> String {
    let mut out = items.next().unwrap_or_default();
    for listed in 1.. {
        let left = items.len();
        let Some(item) = items.next() else { break };
        if listed >= most || out.len().saturating_add(item.len()) > room {
            out.push_str(&format!(" and {left} more"));
            break;
        }
        out.push_str(", ");
        out.push_str(&item);
    }
    out
}

/// A name from the tree, escaped; of a long one the beginning and the end, where a path tells most.
pub(super) fn short_text(bytes: &[u8]) -> String {
    let whole = escape(bytes);
    if whole.len() <= NAME {
        return whole;
    }
    // Bytes escape to at most five times their number, so the halves are cut again where that is needed.
    let is_start = |at: &usize| bytes.get(*at).is_none_or(|b| b & 0xc0 != 0x80);
    let head_end = (0..=NAME / 4).rev().find(is_start).unwrap_or(0);
    let tail_start = (bytes.len().saturating_sub(NAME / 2)..bytes.len()).find(is_start).unwrap_or(bytes.len());
    match (bytes.get(..head_end), bytes.get(tail_start.max(head_end)..)) {
        (Some(head), Some(tail)) if bytes.len() > NAME => {
            format!("{}...({} bytes)...{}", cut(&escape(head), NAME), bytes.len(), cut(&escape(tail), NAME))
        }
        _ => cut(&whole, NAME),
    }
}

/// The text within `limit` bytes; what is cut off is counted at the end.
fn cut(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_string();
    }
    let keep = limit.saturating_sub("...(4294967295 bytes cut)".len());
    let end = (0..=keep).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let kept = text.get(..end).unwrap_or_default();
    format!("{kept}...({} bytes cut)", text.len().saturating_sub(kept.len()))
}

/// The last check: whatever was put together is one line and not too long.
pub(super) fn one_line(text: String) -> String {
    let text = if text.contains(char::is_control) { text.replace(char::is_control, "?") } else { text };
    cut(&text, LINE)
}
