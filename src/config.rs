//! What the administrator decided: mode, switched-off rules, allowed resources.

use crate::rules::Finding;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// What a refusal does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It stops the dump.
    #[default]
    Enforce,
    /// It is reported, CRIU goes on.
    Warn,
    /// The plugin does nothing.
    Off,
}

/// When `preflight.json` is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReportFile {
    /// Always: a reader can tell that nothing was found from a plugin that was not loaded.
    #[default]
    Always,
    /// Only when there is something to report.
    Findings,
    Never,
}

/// The configuration in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub mode: Mode,
    /// Look before anything is frozen, too.
    pub early: bool,
    /// Rule ids that are switched off.
    pub disabled: Vec<String>,
    /// RULE:RESOURCE pairs that only warn.
    pub allowed: Vec<(String, String)>,
    /// Refuse what can be dumped and not be restored.
    pub refuse_unrestorable: bool,
    /// Whether `preflight.json` is written into the work directory.
    pub report: ReportFile,
    /// Where the report goes when the work directory will be removed.
    pub report_directory: String,
    /// Send the summary of a refusal to the system log.
    pub syslog: bool,
    /// What the look at the running tree may take.
    pub early_limit: Duration,
    /// What the look at the frozen tree may take.
    pub frozen_limit: Duration,
    /// Bytes of memory that the process of the looks may have besides what it has of CRIU's.
    pub memory_limit: u64,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            mode: Mode::Enforce,
            early: true,
            disabled: Vec::new(),
            allowed: Vec::new(),
            refuse_unrestorable: false,
            report: ReportFile::Always,
            report_directory: crate::criu::report_place::DEFAULT_DIRECTORY.to_owned(),
            syslog: true,
            early_limit: Duration::from_secs(30),
            frozen_limit: Duration::from_secs(10),
            memory_limit: 512 << 20,
        }
    }
}

impl Config {
    pub(crate) fn is_disabled(&self, rule: &str) -> bool {
        self.disabled.iter().any(|d| d == rule)
    }

    /// Whether the finding's resource is allowed: an `allow RULE:RESOURCE` whose RESOURCE is the text of one of its facts.
    pub(crate) fn allows(&self, finding: &Finding) -> bool {
        self.allowed.iter().any(|(rule, resource)| {
            rule == finding.rule.as_ref()
                && finding.facts.iter().any(|(_, v)| crate::report::render_value(v) == *resource)
        })
    }
}

/// Every setting, as it is spelled in the file and after `--plugin-option preflight.`; in the environment in capitals
/// after `CRIU_PREFLIGHT_`.
pub const NAMES: [&str; 11] = [
    "mode",
    "early",
    "disable",
    "allow",
    "unrestorable",
    "report",
    "report-directory",
    "syslog",
    "early-limit",
    "frozen-limit",
    "memory-limit",
];

/// Applies one setting. Lists grow: what the file switches off stays off. `Err`: what is wrong with it, and nothing was
/// changed.
pub(crate) fn apply(config: &mut Config, name: &str, value: Option<&str>) -> Result<(), String> {
    let flag = || match value {
        None | Some("on" | "yes" | "true" | "1") => Ok(true),
        Some("off" | "no" | "false" | "0") => Ok(false),
        Some(other) => Err(format!("{name} is 'on' or 'off', not '{}'", beginning(other))),
    };
    match (name, value) {
        ("mode", Some("enforce")) => config.mode = Mode::Enforce,
        ("mode", Some("warn")) => config.mode = Mode::Warn,
        ("mode", Some("off")) => config.mode = Mode::Off,
        ("mode", Some(other)) => return Err(format!("mode is 'enforce', 'warn' or 'off', not '{}'", beginning(other))),
        ("unrestorable", Some("refuse")) => config.refuse_unrestorable = true,
        ("unrestorable", Some("warn")) => config.refuse_unrestorable = false,
        ("unrestorable", Some(other)) => {
            return Err(format!("unrestorable is 'refuse' or 'warn', not '{}'", beginning(other)))
        }
        ("early", _) => config.early = flag()?,
        ("report", Some("findings")) => config.report = ReportFile::Findings,
        ("report", _) => {
            config.report = match flag().map_err(|why| why.replace("or 'off'", "'findings' or 'off'"))? {
                true => ReportFile::Always,
                false => ReportFile::Never,
            }
        }
        ("report-directory", Some(dir)) if dir.starts_with('/') => dir.clone_into(&mut config.report_directory),
        ("report-directory", Some(_)) => return Err("report-directory is an absolute path".to_owned()),
        ("syslog", _) => config.syslog = flag()?,
        ("early-limit", Some(text)) => config.early_limit = time(name, text)?,
        ("frozen-limit", Some(text)) => config.frozen_limit = time(name, text)?,
        ("memory-limit", Some(text)) => config.memory_limit = memory(name, text)?,
        ("disable", Some(rule)) if crate::rules::registry::by_id(rule).is_some() => {
            config.disabled.push(rule.to_owned());
        }
        ("allow", Some(pair)) => match pair.split_once(':') {
            Some((rule, resource)) if !resource.is_empty() && crate::rules::registry::by_id(rule).is_some() => {
                config.allowed.push((rule.to_owned(), resource.to_owned()));
            }
            Some((_, "")) | None => return Err(format!("allow wants RULE:RESOURCE, not '{}'", beginning(pair))),
            Some((rule, _)) => return Err(format!("there is no rule '{}'", beginning(rule))),
        },
        ("disable", Some(rule)) => return Err(format!("there is no rule '{}'", beginning(rule))),
        (
            "mode" | "disable" | "allow" | "unrestorable" | "report-directory" | "early-limit" | "frozen-limit"
            | "memory-limit",
            None,
        ) => return Err(format!("{name} wants a value")),
        _ => return Err(format!("there is no setting '{}'", beginning(name))),
    }
    Ok(())
}

/// `30`, `30s` or `500ms`: at least a millisecond, at most a day.
fn time(name: &str, text: &str) -> Result<Duration, String> {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let (number, unit) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
        (Some(number), _) => (number, 1),
        (None, Some(number)) => (number, 1000),
        (None, None) => (text, 1000),
    };
    let millis = digits(number).and_then(|n| n.checked_mul(unit)).map(Duration::from_millis);
    millis.filter(|t| (Duration::from_millis(1)..=DAY).contains(t)).ok_or_else(|| {
        format!(
            "{name} is a number of seconds, or of milliseconds as in '500ms', from 1ms to a day, not '{}'",
            beginning(text)
        )
    })
}

/// `512` or `512M`, `2G`: at least a MiB, at most a TiB.
fn memory(name: &str, text: &str) -> Result<u64, String> {
    let (number, shift) = match (text.strip_suffix('M'), text.strip_suffix('G')) {
        (Some(number), _) => (number, 20),
        (None, Some(number)) => (number, 30),
        (None, None) => (text, 20),
    };
    let bytes = digits(number).and_then(|n| n.checked_mul(1 << shift));
    bytes
        .filter(|n| (1 << 20..=1 << 40).contains(n))
        .ok_or_else(|| format!("{name} is a number of MiB, or as '2G', from 1M to 1024G, not '{}'", beginning(text)))
}

/// A number without sign or blanks.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A setting from the environment: `disable` and `allow` may hold several, separated by commas.
pub(crate) fn apply_list(config: &mut Config, name: &str, value: &str) -> Result<(), String> {
    if !matches!(name, "disable" | "allow") {
        return apply(config, name, Some(value.trim()));
    }
    let wrong: Vec<String> = value
        .split(',')
        .map(str::trim)
        .filter(|one| !one.is_empty())
        .filter_map(|one| apply(config, name, Some(one)).err())
        .collect();
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(wrong.join("; "))
    }
}

/// `NAME[=VALUE]` of `--plugin-option`.
pub(crate) fn apply_argument(config: &mut Config, text: &str) -> Result<(), String> {
    match text.split_once('=') {
        Some((name, value)) => apply(config, name, Some(value)),
        None => apply(config, text, None),
    }
}

/// Applies a file in the syntax of CRIU's own configuration files (criu(8), criu/config.c:parse_statement): one setting
/// a line, `#` starts a comment, a value may be quoted with `"`, in which `\"` is a quote. `NAME VALUE` and `NAME=VALUE` mean
/// the same; inside of quotes a `#` is itself.
///
/// Returns the line numbers that were not understood and why; all others hold.
pub fn apply_file(config: &mut Config, text: &[u8]) -> Vec<(usize, String)> {
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(text.split(|b| *b == b'\n')) {
        let applied =
            std::str::from_utf8(line).map_err(|_| "not UTF-8".to_owned()).and_then(statement).and_then(|setting| {
                match setting {
                    Some((name, value)) => apply(config, &name, value.as_deref()),
                    None => Ok(()),
                }
            });
        if let Err(problem) = applied {
            problems.push((number, problem));
        }
    }
    problems
}

/// One line of a file in CRIU's syntax, name and value; `None`: nothing on it.
pub fn statement(line: &str) -> Result<Option<(String, Option<String>)>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let end = line.find(|c: char| c == '=' || c == '#' || c.is_whitespace()).unwrap_or(line.len());
    let (name, rest) = line.split_at_checked(end).unwrap_or((line, ""));
    let mut rest = rest.trim_start();
    rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
    if name.is_empty() {
        return Err("no name before '='".to_owned());
    }
    let (value, rest) = match rest.strip_prefix('"') {
        Some(quoted) => {
            let (value, rest) = unquote(quoted).ok_or("the quote is not closed")?;
            (Some(value), rest)
        }
        None => {
            let end = rest.find(|c: char| c == '#' || c.is_whitespace()).unwrap_or(rest.len());
            let (value, rest) = rest.split_at_checked(end).unwrap_or((rest, ""));
            ((!value.is_empty()).then(|| value.to_owned()), rest)
        }
    };
    let rest = rest.trim_start();
    if rest.is_empty() || rest.starts_with('#') {
        Ok(Some((name.to_owned(), value)))
    } else {
        Err("more than one value; a value with blanks needs quotes".to_owned())
    }
}

/// The text up to the closing quote and what follows it.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return Some((out, chars.as_str())),
            '\\' if chars.as_str().starts_with('"') => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    None
}

/// The beginning of a word that was not understood, enough to find it by. The file may be none of settings and hold secrets,
/// and others than its owner read the log.
pub fn beginning(word: &str) -> String {
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let mut shown: String = word.chars().take_while(plain).take(SHOWN).collect();
    if shown.len() < word.len() {
        shown.push_str("...");
    }
    shown
}
const SHOWN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_file_in_crius_own_syntax() {
        let mut config = Config::default();
        let text = b"# comment\n\n  mode warn # trailing\nearly=off\n\treport = \"no\"\r\nsyslog\n";
        assert_eq!(apply_file(&mut config, text), []);
        let want = Config { mode: Mode::Warn, early: false, report: ReportFile::Never, ..Config::default() };
        assert_eq!(config, want);
    }

    #[test]
    fn a_broken_line_costs_that_line() {
        let mut config = Config::default();
        let text = b"mode maybe\nmode\n=x\nspeed 9\nearly \"off\nearly off on\nallow x\ndisable no-such\nallow no-such:/x\n\xff\nmode off";
        let problems = apply_file(&mut config, text);
        let want = [
            (1, "mode is 'enforce', 'warn' or 'off', not 'maybe'"),
            (2, "mode wants a value"),
            (3, "no name before '='"),
            (4, "there is no setting 'speed'"),
            (5, "the quote is not closed"),
            (6, "more than one value; a value with blanks needs quotes"),
            (7, "allow wants RULE:RESOURCE, not 'x'"),
            (8, "there is no rule 'no-such'"),
            (9, "there is no rule 'no-such'"),
            (10, "not UTF-8"),
        ];
        assert_eq!(problems, want.map(|(n, s)| (n, s.to_owned())));
        assert_eq!(config, Config { mode: Mode::Off, ..Config::default() });
    }

    /// The user who may name the file need not be allowed to read it.
    #[test]
    fn what_is_not_understood_is_not_told() {
        let secrets = ["$6$pepper", "AAAAB3NzaC1yc2E", "correct", "horse", "longer2", "0123456789abcdef"];
        let text =
            b"root:$6$pepper$Q3lkf9/zzz:19000:0:99999:7:::\nssh-rsa AAAAB3NzaC1yc2E= me@here\nthe correct horse\n\
            token=hunterlonger2\n= hunterlonger2\nearly hunterlonger2 hunterlonger2\nxxxxxxxx0123456789abcdef\n\"hunterlonger2\"\n\x1b[31mhunterlonger2\n\
            disable /hunterlonger2\nallow :hunterlonger2\nallow ?hunterlonger2:/x\nmode =hunterlonger2\nearly (hunterlonger2)\n";
        let problems = apply_file(&mut Config::default(), text);
        assert_eq!(problems.len(), text.split(|b| *b == b'\n').count() - 1);
        for (line, problem) in &problems {
            assert!(problem.is_ascii() && !secrets.iter().any(|s| problem.contains(s)), "{line}: {problem}");
        }
        let want = ["there is no setting 'root...'", "more than one value; a value with blanks needs quotes"];
        assert_eq!(problems[..2].iter().map(|(_, problem)| problem.as_str()).collect::<Vec<_>>(), want);
        assert_eq!(problems[6].1, "there is no setting 'xxxxxxxx...'");
    }

    #[test]
    fn quotes_hold_blanks_comments_and_quotes() {
        let line = r#"allow "a:/x y#z \"q\" \n" # why"#;
        let want = ("allow".to_owned(), Some(r#"a:/x y#z "q" \n"#.to_owned()));
        assert_eq!(statement(line), Ok(Some(want)));
        assert_eq!(statement("mode \"\""), Ok(Some(("mode".to_owned(), Some(String::new())))));
    }

    #[test]
    fn rules_are_switched_off_by_their_id() {
        let Some(rule) = crate::rules::registry::RULES.first() else { return };
        let mut config = Config::default();
        assert!(apply_list(&mut config, "disable", &format!("{} , no-such", rule.id)).is_err());
        assert!(config.is_disabled(rule.id));
        apply_argument(&mut config, &format!("allow={}:/dev/x:y", rule.id)).unwrap();
        assert_eq!(config.allowed, [(rule.id.to_owned(), "/dev/x:y".to_owned())]);
    }

    proptest! {
        #[test]
        fn no_file_breaks_the_parser(text: Vec<u8>) {
            apply_file(&mut Config::default(), &text);
        }

        #[test]
        fn what_is_quoted_comes_back(value in "[^\\n\\r\\\\\"]{0,20}") {
            let line = format!("allow \"{value}\"");
            prop_assert_eq!(statement(&line), Ok(Some(("allow".to_owned(), Some(value)))));
        }
    }
}
