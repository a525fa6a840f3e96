//! The table of all plans, and the offenders.

use crate::verdict::{Harm, Harmed, HARMS};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const KINDS: usize = HARMS.len();

/// What a plan has come to.
pub struct Line {
    pub met: bool,
    pub took: Duration,
    pub harms: Vec<Harmed>,
}

/// Plans of which the same comes.
#[derive(Default)]
struct Alike {
    plans: usize,
    errnos: BTreeSet<String>,
    trees: BTreeSet<String>,
    first: String,
}

/// Prints the table and `show` offenders of each kind of harm. Whether there was no harm.
pub fn tell(all: &[Value], show: usize) -> bool {
    let mut table: BTreeMap<String, [usize; KINDS + 2]> = BTreeMap::new();
    let mut offenders: BTreeMap<(usize, String, String), Alike> = BTreeMap::new();
    let mut slowest = (0, String::new());
    let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
    for v in all {
        if let Some(note) = v["note"].as_str() {
            println!("{note}");
            continue;
        }
        let tree = format!("{} {}", text(&v["tree"]), text(&v["mode"]));
        let (call, errno) = (text(&v["call"]), text(&v["errno"]));
        let row = table.entry(tree.clone()).or_default();
        row[0] += 1;
        row[1] += usize::from(v["met"] == false);
        let took = v["ms"].as_u64().unwrap_or(0);
        if took > slowest.0 {
            slowest = (took, format!("{tree}: {call} {errno}"));
        }
        let mut met = BTreeSet::new();
        for harm in v["harms"].as_array().into_iter().flatten() {
            let kind = harm[0].as_u64().unwrap_or(0) as usize;
            met.insert(kind);
            let alike = offenders.entry((kind, text(&harm[1]), call.clone())).or_default();
            if alike.plans == 0 {
                alike.first = format!("nth {}, {}", v["nth"], text(&harm[2]));
            }
            alike.plans += 1;
            alike.errnos.insert(errno.clone());
            alike.trees.insert(tree.clone());
        }
        met.into_iter().for_each(|kind| row[2 + kind] += 1);
    }
    let mut sum = [0; KINDS + 2];
    let line = |name: &str, row: &[usize]| {
        let numbers: Vec<String> = row.iter().map(|n| format!("{n:>10}")).collect();
        println!("{name:<24}{}", numbers.concat());
    };
    println!("{:<24}{:>10}{:>10}{}", "", "plans", "not met", HARMS.map(|(_, name)| format!("{name:>10}")).concat());
    for (tree, row) in &table {
        line(tree, row);
        sum.iter_mut().zip(row).for_each(|(s, n)| *s += n);
    }
    line("all", &sum);
    println!("the longest: {} ms, {}", slowest.0, slowest.1);
    let mut shown = [0; KINDS];
    for ((kind, about, call), alike) in &offenders {
        shown[*kind] += 1;
        if shown[*kind] <= show {
            let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(",");
            let (name, of) = (HARMS[*kind].1, list(&alike.errnos));
            println!("{name}: {about}: {call} [{of}] x{}, in {}; {}", alike.plans, list(&alike.trees), alike.first);
        }
    }
    for (kind, n) in shown.iter().enumerate().filter(|(_, n)| **n > show) {
        println!("{}: {} more", HARMS[kind].1, n - show);
    }
    sum[0] > 0 && sum[2..2 + Harm::ALL_HARMFUL].iter().all(|n| *n == 0)
}
