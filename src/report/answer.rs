//! The answer that settles it: what to give at once, and what stays then. Everything that is refused is judged again with the
//! remedies given, for an option may bring refusals of its own.

use crate::config::Config;
use crate::criu::{Host, Opt};
use crate::criu_model::watches::is_any_left;
use crate::engine::judge;
use crate::report::hints;
use crate::report::route::way;
use crate::report::setting::Setting;
use crate::rules::{registry, Finding, Verdict, WarnReason};
use crate::snapshot::Snapshot;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};

/// An answer with more options is of no use.
const MAX_SETTINGS: usize = 64;
/// How often what is given may bring something new.
const ROUNDS: usize = 4;

/// What to give at once, and what stays then.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    settings: Vec<Setting>,
    /// Rules that refuse then, and how often.
    pub remain: Vec<Remaining>,
    /// Something else may refuse then, which only the frozen tree or CRIU itself decides.
    pub doubtful: bool,
}

/// A rule that would refuse still.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Remaining {
    pub rule: String,
    pub count: usize,
}

/// The answer to these findings. `None`: no option helps, or too many would be needed.
pub(crate) fn of(snap: &Snapshot, host: &Host, config: &Config, findings: &[Finding]) -> Option<Answer> {
    // What two looks did not agree on is no refusal with the options either.
    let doubted: HashSet<(&str, &str)> =
        findings.iter().filter(|f| f.verdict != Verdict::Refuse).map(|f| (&*f.rule, &*f.key)).collect();
    let mut given = host.clone();
    let mut settings: Vec<Setting> = Vec::new();
    let mut refused: Vec<Finding> = findings.iter().filter(|f| f.verdict == Verdict::Refuse).cloned().collect();
    let mut last = Vec::new();
    for _ in 0..ROUNDS {
        let before = settings.clone();
        for finding in &refused {
            let Some(rule) = registry::by_id(&finding.rule) else { continue };
            let mut of_rule = hints::settings(rule, finding, &given).into_iter().filter(|s| fits(s, &settings));
            let Some(setting) = of_rule.next() else { continue };
            add(&mut settings, setting);
            if settings.len() > MAX_SETTINGS {
                return None;
            }
        }
        if settings == before {
            break;
        }
        given = host.clone();
        settings.iter().for_each(|setting| setting.give(&mut given));
        last = judge::judge(snap, &given, config);
        let refuses = |f: &&Finding| f.verdict == Verdict::Refuse && !doubted.contains(&(&*f.rule, &*f.key));
        refused = last.iter().filter(refuses).cloned().collect();
    }
    if settings.is_empty() {
        return None;
    }
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for finding in &refused {
        let count = counts.entry(&finding.rule).or_default();
        *count = count.saturating_add(1);
    }
    let remain = counts.into_iter().map(|(rule, count)| Remaining { rule: rule.to_owned(), count }).collect();
    let may_refuse =
        |f: &Finding| !matches!(f.warns, Some(WarnReason::Lost | WarnReason::RestoreOption | WarnReason::Allowed));
    let doubtful = last.iter().any(|f| f.verdict == Verdict::Warn && may_refuse(f))
        || !snap.unchecked.is_empty()
        || is_any_left(snap, &given);
    Some(Answer { settings, remain, doubtful })
}

/// Whether it can be given along with the others, and says what is to be given.
fn fits(setting: &Setting, others: &[Setting]) -> bool {
    // Which directory to search only the reader knows.
    let is_open = setting.name == "irmap-scan-path";
    let contradicts = |other: &Setting| {
        matches!(
            (setting.opt, other.opt),
            (Some(Opt::TcpClose), Some(Opt::TcpEstablished)) | (Some(Opt::TcpEstablished), Some(Opt::TcpClose))
        )
    };
    !is_open && !others.iter().any(contradicts)
}

/// Adds one. A limit is given once, the highest; a name of one's own choice is another each time.
fn add(settings: &mut Vec<Setting>, mut setting: Setting) {
    if setting.name == "ghost-limit" {
        let size = |s: &Setting| s.values.first().and_then(|v| v.parse::<u64>().ok());
        if let Some(other) = settings.iter_mut().find(|s| s.name == setting.name) {
            if size(other) < size(&setting) {
                *other = setting;
            }
            return;
        }
    }
    let named = settings.iter().filter(|s| s.name == "external").count().saturating_add(1);
    for value in &mut setting.values {
        if let Some(key) = value.strip_suffix(":NAME") {
            let prefix = format!("{key}:");
            if settings.iter().flat_map(|s| &s.values).any(|v| v.starts_with(&prefix)) {
                return;
            }
            *value = format!("{prefix}ext{named}");
        }
    }
    if !settings.contains(&setting) {
        settings.push(setting);
    }
}

impl Answer {
    /// As arguments of criu, quoted for a shell.
    pub(crate) fn flags(&self) -> Vec<String> {
        self.settings.iter().map(Setting::flag).collect()
    }

    /// The same, one argument a string.
    pub(crate) fn arguments(&self) -> Vec<String> {
        self.settings.iter().flat_map(Setting::arguments).collect()
    }

    /// What the restore is given then.
    pub(crate) fn at_restore(&self) -> Vec<String> {
        let mut all: Vec<String> = Vec::new();
        for setting in &self.settings {
            let text = match (setting.is_given_again(), setting.at_restore()) {
                (true, _) => setting.flag(),
                (false, Some(text)) => text,
                (false, None) => continue,
            };
            if !all.contains(&text) {
                all.push(text);
            }
        }
        all
    }

    /// `with --file-locks --tcp-established none would remain`, in the words of who drives CRIU.
    pub(crate) fn text(&self, host: &Host) -> String {
        let (mut flags, mut fields, mut lines) = (Vec::new(), Vec::new(), Vec::new());
        let (mut command, mut file) = ("", String::new());
        for setting in &self.settings {
            let way = way(setting, host);
            if let Some(to) = way.flag {
                flags.push(setting.flag());
                command = to;
            } else if let Some(field) = way.field {
                fields.push(setting.field(field));
            } else if let Some(of) = way.file {
                lines.push(setting.config_lines());
                file = of;
            }
        }
        let mut ways = Vec::new();
        if !flags.is_empty() {
            let to = if command.is_empty() { String::new() } else { format!(" to {command}") };
            ways.push(format!("{}{to}", flags.join(" ")));
        }
        if !fields.is_empty() {
            ways.push(format!("{} in the RPC request", fields.join(", ")));
        }
        if !lines.is_empty() {
            ways.push(format!("{} in {file}", lines.join(", ")));
        }
        format!("with {} {}", ways.join(" and "), self.remaining())
    }

    /// `none would remain`, `2 would remain: fd-io-uring x1, pipe-packet x1`.
    pub(crate) fn remaining(&self) -> String {
        let count: usize = self.remain.iter().map(|r| r.count).sum();
        if count == 0 {
            return if self.doubtful { "none would remain for certain" } else { "none would remain" }.to_owned();
        }
        let rules: Vec<String> = self.remain.iter().map(|r| format!("{} x{}", r.rule, r.count)).collect();
        format!("{count} would remain: {}", rules.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::criu::Runtime;
    use crate::parse::fdinfo::FdInfo;
    use crate::parse::locks;
    use crate::rules::testkit::{file, host, inet, snap, socket_with, table};
    use crate::snapshot::{Detail, Dev, HandleAnswers, SocketFacts, Watch, WatchFacts};

    /// What it comes to for a tree, with all rules.
    fn answer(snap: &Snapshot, host: &Host) -> Option<Answer> {
        of(snap, host, &Config::default(), &judge::judge(snap, host, &Config::default()))
    }

    #[test]
    fn options_that_settle_it_and_what_they_bring() {
        let facts = SocketFacts {
            domain: Some(libc::AF_INET),
            protocol: Some(libc::IPPROTO_TCP),
            kind: Some(libc::SOCK_STREAM),
            ..SocketFacts::default()
        };
        let mut s = snap(vec![socket_with(3, 77, facts)]);
        let mut t = table();
        t.inet.push(inet(77, 6, 1));
        s.sockets.push(t);
        let host = Host { runtime: Runtime::Runc, ..host() };
        let settled = answer(&s, &host).unwrap();
        assert_eq!(settled.text(&host), "with --tcp-established to runc checkpoint none would remain");
        assert_eq!(
            (settled.flags(), settled.at_restore()),
            (vec!["--tcp-established".into()], vec!["--tcp-established".into()])
        );
        // Which then has no iptables to lock with, and goes another way.
        s.criu.iptables = Some(false);
        let settled = answer(&s, &host).unwrap();
        assert_eq!(settled.flags(), ["--tcp-established", "--network-lock nftables"]);
        assert_eq!(
            settled.text(&host),
            "with --tcp-established to runc checkpoint and 'network-lock nftables' in /etc/criu/runc.conf none would remain"
        );
    }

    #[test]
    fn what_no_option_allows_remains() {
        let mut locked = file(3, libc::S_IFREG, 9);
        let locks = vec![locks::line(b"1: FLOCK  ADVISORY  WRITE 100 08:01:9 0 EOF").unwrap()];
        locked.info = Some(Box::new(FdInfo { locks, ..FdInfo::default() }));
        let mut device = file(4, libc::S_IFCHR, 10);
        device.attr.rdev = Dev { major: 10, minor: 237 };
        let settled = answer(&snap(vec![locked, device.clone()]), &host()).unwrap();
        assert_eq!(settled.text(&host()), "with --file-locks 1 would remain: fd-chrdev x1");
        assert_eq!(answer(&snap(vec![device]), &host()), None);
    }

    #[test]
    fn what_only_the_frozen_look_finds_out_leaves_a_doubt() {
        let mut locked = file(3, libc::S_IFREG, 9);
        let locks = vec![locks::line(b"1: FLOCK  ADVISORY  WRITE 100 08:01:9 0 EOF").unwrap()];
        locked.info = Some(Box::new(FdInfo { locks, ..FdInfo::default() }));
        for (deferred, expected) in [(false, "none would remain"), (true, "none would remain for certain")] {
            let mut marks = file(4, 0, 10);
            let handle = Some(HandleAnswers { path: !deferred, deferred, ..HandleAnswers::default() });
            let watches = vec![Watch { dev: Dev::default(), ino: 1, handle, search: None }];
            marks.detail = Some(Box::new(Detail::Watch(WatchFacts { watches, unread: None })));
            let settled = answer(&snap(vec![locked.clone(), marks]), &host()).unwrap();
            assert_eq!(settled.remaining(), expected);
        }
    }
}
