//! The kept snapshots: each is judged to what it was judged before, and whatever is done to it, nothing worse than an error comes of it.
//!
//! `UPDATE_EXPECT=1 cargo test --test saved` writes the reports anew; read the difference. A new one, say of a user's
//! `check --save FILE --anonymize`: put it here, or what `snapshots reduce` makes of it.

use criu_preflight::criu::{Host, Release};
use criu_preflight::report::{json, terminal};
use criu_preflight::rules::{registry, Verdict};
use criu_preflight::saved::{self, SavedCheck};
use expect_test::expect_file;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

fn kept() -> Vec<(String, SavedCheck)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots");
    let paths = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    let mut paths: Vec<_> = paths.filter(|p| p.extension().is_some_and(|e| e == "json")).collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let check = saved::read_file(path).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        (path.file_stem().unwrap().to_string_lossy().into_owned(), check)
    };
    paths.iter().map(read).collect()
}

fn text(check: &SavedCheck) -> String {
    terminal::text(&check.judge().unwrap(), &check.host)
}

/// The report, and by what it would be refused, warned of and not be restored in other releases.
fn reports(mut check: SavedCheck) -> String {
    let mut out = text(&check);
    let taken = check.host.clone();
    for release in [Release::V3_17, Release::V3_18, Release::V4_0, Release::V4_1, Release::V4_2, Release::V4_3] {
        if release == taken.release {
            continue;
        }
        check.host = Host { release, caps: Host::dry_run(release).caps, ..taken.clone() };
        let report = check.judge().unwrap();
        let rules = |verdict: Verdict| -> String {
            let found = report.findings.iter().filter(|f| f.verdict == verdict).map(|f| f.rule.as_ref());
            found.collect::<BTreeSet<_>>().into_iter().map(|rule| format!(" {rule}")).collect()
        };
        let unrestorable = rules(Verdict::Unrestorable);
        let third = if unrestorable.is_empty() { unrestorable } else { format!(" | restore:{unrestorable}") };
        out.push_str(&format!("{}:{} |{}{third}\n", release.name(), rules(Verdict::Refuse), rules(Verdict::Warn)));
    }
    out
}

#[test]
fn every_kept_snapshot_is_judged_as_before() {
    let all: String = kept().into_iter().map(|(name, check)| format!("== {name}\n{}\n", reports(check))).collect();
    expect_file!["snapshots/reports.txt"].assert_eq(&all);
}

/// So that nothing private is in the repository, and that the file still means the same when it is read back.
#[test]
fn kept_snapshots_are_anonymous_and_small() {
    for (name, check) in kept() {
        assert!(check.anonymized, "{name}");
        let json = serde_json::to_vec(&check).unwrap();
        assert!(json.len() < 64 << 10, "{name}: {} bytes; see `snapshots reduce`", json.len());
        assert_eq!(saved::read(&json).unwrap(), check, "{name}");
        // Other names change nothing.
        check.anonymize().unwrap_or_else(|why| panic!("{name}: {why}"));
    }
}

#[test]
fn the_kept_snapshots_meet_most_rules() {
    let met: BTreeSet<String> = kept()
        .iter()
        .flat_map(|(_, check)| check.judge().unwrap().findings.into_iter().map(|f| f.rule.into_owned()))
        .collect();
    let all = registry::RULES.len();
    assert!(met.len() * 3 >= all * 2, "{} of {all}", met.len());
}

/// Numbers of a small generator (xorshift): a run can be repeated.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most.max(1) as u64) as usize
    }
}

/// Where the numbers are, and where the lists.
fn places(value: &Value, at: String, numbers: &mut Vec<String>, lists: &mut Vec<String>) {
    match value {
        Value::Number(_) => numbers.push(at),
        Value::Array(list) => {
            lists.push(at.clone());
            list.iter().enumerate().for_each(|(n, v)| places(v, format!("{at}/{n}"), numbers, lists));
        }
        Value::Object(members) => members.iter().for_each(|(k, v)| places(v, format!("{at}/{k}"), numbers, lists)),
        _ => {}
    }
}

/// Parents that are their own children, places that are not there, ranges that end before they begin: whatever the types allow.
#[test]
fn nothing_that_can_be_read_breaks_the_judgement() {
    const EXTREMES: [i64; 8] = [0, 1, -1, 100, i32::MAX as i64, i32::MIN as i64, u32::MAX as i64, i64::MAX];
    let mut judged = 0;
    for (nth, (name, check)) in kept().into_iter().enumerate() {
        let whole = serde_json::to_value(&check).unwrap();
        let (mut numbers, mut lists) = (Vec::new(), Vec::new());
        places(&whole, String::new(), &mut numbers, &mut lists);
        let mut random = Numbers(0x9e37_79b9 + nth as u64);
        for round in 0..30 {
            let mut value = whole.clone();
            for _ in 0..=random.below(6) {
                let at = &numbers[random.below(numbers.len())];
                let new = match random.below(2) {
                    0 => EXTREMES[random.below(EXTREMES.len())].into(),
                    // The number of another thing of the same kind, mostly.
                    _ => {
                        let member = |p: &str| p.rsplit('/').next().map(str::to_owned);
                        let same: Vec<&String> = numbers.iter().filter(|p| member(p) == member(at)).collect();
                        whole.pointer(same[random.below(same.len())]).unwrap().clone()
                    }
                };
                if let Some(place) = value.pointer_mut(at) {
                    *place = new;
                }
                // Twice the same, or in another order.
                if let Some(Value::Array(list)) = value.pointer_mut(&lists[random.below(lists.len())]) {
                    if let Some(one) = list.first().cloned() {
                        list.push(one);
                    }
                }
            }
            let Ok(check) = saved::read(value.to_string().as_bytes()) else { continue };
            let report = check.judge().unwrap_or_else(|e| panic!("{name}, round {round}: {e}"));
            terminal::text(&report, &check.host);
            json::to_vec(&report, &check.host).unwrap();
            judged += 1;
        }
    }
    assert!(judged > 500, "{judged}");
}
