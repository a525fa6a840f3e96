//! Lines that CRIU and the plugin print about fixtures, kept for the documents: `src/report/examples.txt`.

use crate::criu::Criu;
use crate::fixtures::{self, Fixture};
use crate::tree::Tree;
use crate::trial::names;
use criu_preflight::report::examples::{fills, parse, Example};
use criu_preflight::rules::registry;
use serde_json::Value;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;

/// Examples of a rule that are kept at most: another one is, if it fills the words of another remedy.
const MOST: usize = 3;
/// What CRIU says at the end of every dump that fails.
const LAST_WORDS: &str = "Dumping FAILED";
/// Stand in for the pid of the root of a tree, and those of the others.
const FIRST_PID: i32 = 4211;

/// What a run has come upon.
#[derive(Default)]
pub struct Examples(Mutex<Vec<Found>>);

struct Found {
    version: Vec<u32>,
    /// Rules that the fixture names; more, where the thing lies in a queue, which is not what it mostly is like.
    beside: usize,
    nth: usize,
    example: Example,
}

/// One dump with the plugin, and what is known of it.
pub struct Seen<'a> {
    pub fixture: &'a Fixture,
    pub criu: &'a Criu,
    pub tree: &'a Tree,
    pub dir: &'a Path,
    /// What CRIU says without the plugin.
    pub alone: Option<&'a str>,
    /// Where the plugin's lines are: CRIU's log, and what the command has printed.
    pub text: &'a str,
    pub findings: Vec<&'a Value>,
}

impl Examples {
    /// Takes what was named at these places.
    pub fn take(&self, seen: &Seen, named: &[(&str, i32, Option<i32>)]) {
        let rules: BTreeSet<&str> = named.iter().map(|(rule, ..)| *rule).collect();
        for (rule, pid, fd) in named {
            let here = |f: &&&Value| f["rule"] == *rule && names(f, *pid, *fd);
            let Some(finding) = seen.findings.iter().find(here) else { continue };
            let Some(line) = line_of(seen.text, finding) else { continue };
            let Ok(mut all) = self.0.lock() else { return };
            let mut facts: BTreeMap<String, String> =
                finding["facts"].as_object().into_iter().flatten().map(|(k, v)| (k.clone(), plain(v))).collect();
            for name in ["pid", "tid", "fd", "comm"] {
                if !finding[name].is_null() {
                    facts.insert(name.into(), plain(&finding[name]));
                }
            }
            let same = Same::of(seen);
            let in_queue = finding["queued"].as_array().is_some_and(|path| !path.is_empty());
            // Of several things CRIU names one, and what lies in a queue it names by the queue.
            let queued = seen.fixture.in_queue || seen.fixture.tree.contains("in-queue");
            let said = seen.alone.filter(|line| rules.len() == 1 && !queued && !line.contains(LAST_WORDS));
            let example = Example {
                rule: rule.to_string(),
                from: format!("CRIU {}::{}", seen.criu.version, seen.fixture.name),
                criu: said.map(|line| same.directory(&without_time(line))),
                line: same.all(line),
                facts: facts.into_iter().map(|(name, value)| (name, same.all(&value))).collect(),
            };
            all.push(Found {
                version: seen.criu.version.split('.').map(|n| n.parse().unwrap_or(0)).collect(),
                beside: rules.len().saturating_add(usize::from(in_queue) * 100),
                nth: fixtures::all().position(|f| f.name == seen.fixture.name).unwrap_or(usize::MAX),
                example,
            });
        }
    }

    /// Writes the best of them into the file, beside what is there of other rules; to standard output, if it is `-`.
    pub fn write(&self, path: &Path) -> Result<(), String> {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let comment: String = text.lines().take_while(|l| l.starts_with('#')).map(|l| format!("{l}\n")).collect();
        let kept = parse(&text)?;
        let mut found = self.0.lock().map_err(|e| e.to_string())?;
        found.sort_by_key(|f| (Reverse(f.version.clone()), f.beside, f.nth));
        let mut out = comment;
        for rule in registry::RULES {
            let mut filled = vec![false; rule.remedies.len()];
            let mut chosen: Vec<&Example> = Vec::new();
            let new = found.iter().map(|f| &f.example);
            for example in new.chain(&kept).filter(|e| e.rule == rule.id) {
                let now = fills(rule, example);
                let more = chosen.is_empty() || filled.iter().zip(&now).any(|(old, new)| !old && *new);
                if more && chosen.len() < MOST {
                    filled = filled.iter().zip(&now).map(|(a, b)| *a || *b).collect();
                    chosen.push(example);
                }
            }
            for example in chosen {
                out.push_str(&format!("\n{example}"));
            }
        }
        if path.as_os_str() == "-" {
            println!("{out}");
            return Ok(());
        }
        std::fs::write(path, out).map_err(|e| format!("{}: {e}", path.display()))
    }
}

/// The line of the plugin about this finding.
fn line_of<'a>(text: &'a str, finding: &Value) -> Option<&'a str> {
    let rule = finding["rule"].as_str()?;
    let mut head = format!("{rule}: pid {} (", finding["pid"]);
    let place = finding["fd"].as_i64().map(|fd| format!(" fd {fd}"));
    let fits = |line: &&str| {
        line.contains(&head)
            && place.as_ref().is_none_or(|place| {
                let after = line.split_once(place.as_str()).map(|(_, rest)| rest);
                after.is_some_and(|rest| rest.starts_with([':', ',']))
            })
    };
    let line = text.lines().find(fits)?;
    head = ["Error (preflight): ", "Warn  (preflight): ", "warning: "]
        .into_iter()
        .find(|severity| line.contains(severity))
        .map(String::from)?;
    line.find(&head).and_then(|at| line.get(at..))
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), String::from)
}

fn without_time(line: &str) -> String {
    let line = line.split_once(") ").filter(|(time, _)| time.starts_with('(')).map_or(line, |(_, rest)| rest);
    criu_preflight::bytes::escape(line.trim().as_bytes())
}

/// What differs in each run.
struct Same {
    pids: BTreeMap<String, i32>,
    directories: Vec<(String, &'static str)>,
}

impl Same {
    fn of(seen: &Seen) -> Same {
        let mut pids: Vec<i32> = vec![seen.tree.pid];
        pids.extend(seen.tree.inside.iter().chain(seen.tree.outside()).filter(|p| **p != seen.tree.pid));
        pids.extend(seen.findings.iter().filter_map(|f| f["tid"].as_i64()).map(|tid| tid as i32));
        let numbered = (FIRST_PID..).zip(pids).map(|(same, pid)| (pid.to_string(), same)).collect();
        let mut directories = Vec::new();
        for dir in [seen.dir.to_path_buf(), seen.dir.with_file_name("alone")] {
            let files = dir.join("files").to_string_lossy().into_owned();
            directories.push((crate::cgroups::name(&files), "app"));
            directories.push((files, "/srv/app"));
            directories.push((dir.to_string_lossy().into_owned(), "/srv/run"));
        }
        Same { pids: numbered, directories }
    }

    fn directory(&self, text: &str) -> String {
        self.directories.iter().fold(text.to_string(), |text, (is, be)| text.replace(is, be))
    }

    /// Numbers of processes as words of their own.
    fn all(&self, text: &str) -> String {
        let text = self.directory(text);
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mut out = String::new();
        let mut word = String::new();
        for c in text.chars().chain(['\n']) {
            if is_word(c) {
                word.push(c);
                continue;
            }
            match self.pids.get(&word) {
                Some(same) => out.push_str(&same.to_string()),
                None => out.push_str(&word),
            }
            word.clear();
            out.push(c);
        }
        out.pop();
        out
    }
}
