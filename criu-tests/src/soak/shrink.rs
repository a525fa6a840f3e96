//! The smallest tree and the fewest options that CRIU and the plugin still disagree on.

use super::{check, Case, Kind, Verdict};
use crate::criu::Criu;
use crate::trial::Setup;
use std::path::Path;

/// At most so many trials: a disagreement is not worth the whole night.
const TRIALS: usize = 60;

/// Takes away whatever can go with the disagreement staying of the same kind.
pub fn shrink(case: &Case, kind: Kind, criu: &Criu, setup: &Setup, dir: &Path) -> Case {
    let mut best = case.clone();
    let mut left = TRIALS;
    let mut stays = |c: &Case| {
        left = left.saturating_sub(1);
        left > 0 && matches!(check(c, criu, setup, dir), Verdict::Disagree(d) if d.kind == kind)
    };
    loop {
        let smaller = smaller(&best);
        let Some(next) = smaller.into_iter().find(|c| stays(c)) else { return best };
        best = next;
    }
}

/// Every case with one thing less: whole processes first, then options, then single resources.
fn smaller(case: &Case) -> Vec<Case> {
    let mut all = Vec::new();
    let words = &case.words;
    for (i, _) in words.iter().enumerate().filter(|(_, w)| *w == "[") {
        if let Some(end) = closing(words, i) {
            all.push(without(case, i, end + 1));
        }
    }
    // The biggest first.
    all.sort_by_key(|c| c.words.len());
    if case.freeze_cgroup {
        all.push(Case { freeze_cgroup: false, ..case.clone() });
    }
    for i in 0..case.opts.len() {
        let mut c = case.clone();
        c.opts.remove(i);
        all.push(c);
    }
    for (i, w) in words.iter().enumerate() {
        match w.as_str() {
            "[" | "]" | "{root}" => {}
            "--root" => all.push(without(case, i, i + 2)),
            _ => all.push(without(case, i, i + 1)),
        }
    }
    all
}

fn without(case: &Case, from: usize, to: usize) -> Case {
    let mut c = case.clone();
    c.words.drain(from..to.min(c.words.len()));
    c
}

pub(super) fn closing(words: &[String], open: usize) -> Option<usize> {
    let mut depth = 0;
    for (i, w) in words.iter().enumerate().skip(open) {
        match w.as_str() {
            "[" => depth += 1,
            "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(i);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_smaller_case_lacks_one_thing() {
        let words = "a [ b [ c ] ]".split(' ').map(String::from).collect();
        let case = Case { words, opts: vec!["-x".into()], freeze_cgroup: true };
        let all: Vec<String> = smaller(&case).iter().map(|c| c.to_string()).collect();
        assert_eq!(
            all,
            [
                "a  criu: -x --freeze-cgroup",
                "a [ b ]  criu: -x --freeze-cgroup",
                "a [ b [ c ] ]  criu: -x",
                "a [ b [ c ] ]  criu:  --freeze-cgroup",
                "[ b [ c ] ]  criu: -x --freeze-cgroup",
                "a [ [ c ] ]  criu: -x --freeze-cgroup",
                "a [ b [ ] ]  criu: -x --freeze-cgroup",
            ]
        );
    }
}
