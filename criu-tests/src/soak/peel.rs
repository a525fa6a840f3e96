//! A refused tree until CRIU dumps it: what the plugin names is lifted by the option that it names, or taken away. Then one
//! thing is put back. So each finding is held against CRIU by itself, and everything that was not named, too.

use super::back::{self, Ready};
use super::{answer, disagree, dump, judge, missed, outcome, passed, unmade, warned, Case, Kind, Random, Verdict};
use crate::criu::Criu;
use crate::fixtures;
use crate::tree::Tree;
use crate::trial::{set, Outcome, Setup, Stage};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// Trees that are made of one at most, the one with something put back not counted.
const ROUNDS: usize = 10;

/// What became of it.
pub struct Peeled {
    /// What is left, and what CRIU and the plugin say of it.
    pub rest: (Case, Verdict),
    /// The same with one thing put back.
    pub one: Option<(Case, Verdict)>,
    /// Options that lifted something.
    pub lifted: usize,
    /// Words that were taken away.
    pub taken: usize,
}

/// A finding that refuses.
struct Finding {
    rule: String,
    places: Vec<(i32, Option<i32>)>,
    /// The options that its hint names, each with its value.
    options: Vec<String>,
    message: String,
}

/// One thing that was done about a finding.
#[derive(Clone)]
enum Step {
    Option(String),
    /// Indices of the words of the whole tree.
    Taken(BTreeSet<usize>),
}

impl Finding {
    fn of(v: &Value) -> Option<Finding> {
        let place = |v: &Value| {
            let pid = v["tid"].as_i64().filter(|_| v["fd"].is_null()).or(v["pid"].as_i64())?;
            Some((pid as i32, v["fd"].as_i64().map(|fd| fd as i32)))
        };
        let also = v["also"].as_array().into_iter().flatten();
        let places = std::iter::once(v).chain(also).filter_map(place).collect();
        let text = |key: &str| v[key].as_str().map(String::from);
        let options = named_options(v["hint"].as_str()?);
        Some(Finding { rule: text("rule")?, places, options, message: text("message")? })
    }

    fn still_in(&self, later: &[Finding]) -> bool {
        later.iter().any(|f| f.rule == self.rule && f.places == self.places && f.message == self.message)
    }
}

/// `pass --a (again to the restore) or --b 'v'; or do something else`: the options.
fn named_options(hint: &str) -> Vec<String> {
    let ways = hint.split(';').find_map(|part| part.trim().strip_prefix("pass "));
    let without = |o: &str| o.split(" (").next().unwrap_or(o).replace('\'', "");
    let option = |o: &str| o.starts_with("--").then(|| without(o));
    ways.map(|ways| ways.split(" or ").filter_map(option).collect()).unwrap_or_default()
}

fn kind(word: &str) -> &str {
    word.split(':').next().unwrap_or(word)
}

/// The process that each word is about; none for a bracket and for the options of mkres itself.
fn processes(words: &[String]) -> Vec<Option<u64>> {
    let (mut open, mut count) = (vec![0], 1);
    let mut of = |w: &String| match w.as_str() {
        "[" => {
            open.push(count);
            count += 1;
            None
        }
        "]" => {
            open.pop();
            None
        }
        "--root" | "{root}" => None,
        _ => open.last().copied(),
    };
    words.iter().map(&mut of).collect()
}

/// From the bracket that opens the process to the one that closes it.
fn span(words: &[String], node: u64) -> BTreeSet<usize> {
    let opening = words.iter().enumerate().filter(|(_, w)| *w == "[").nth((node as usize).wrapping_sub(1));
    let Some((open, _)) = opening else { return BTreeSet::new() };
    super::shrink::closing(words, open).map(|close| (open..=close).collect()).unwrap_or_default()
}

/// The kinds of resources of the trees that fixtures blame this rule for.
fn kinds_of(rule: &str) -> BTreeSet<&'static str> {
    let blaming = fixtures::all().filter(|f| {
        let others = f.other_blames.iter().flat_map(|(_, b)| b.iter());
        f.blames.iter().chain(f.warns).chain(others).any(|b| b.rule == rule)
    });
    blaming.flat_map(|f| f.tree.split_whitespace().map(kind)).collect()
}

/// The words that the finding is about. Where only the process is known, `some` takes one of those that may be meant.
fn words_of(
    f: &Finding,
    words: &[String],
    tree: &Tree,
    some: &mut impl FnMut(Vec<usize>) -> Vec<usize>,
) -> BTreeSet<usize> {
    let processes = processes(words);
    let mut all = BTreeSet::new();
    for (pid, fd) in &f.places {
        let Some((node, name)) = tree.named(*pid, *fd) else { continue };
        let here: Vec<usize> = (0..words.len()).filter(|i| processes.get(*i) == Some(&Some(node))).collect();
        let of_kinds = |is: &dyn Fn(&str) -> bool| -> Vec<usize> {
            here.iter().copied().filter(|i| words.get(*i).is_some_and(|w| is(kind(w)))).collect()
        };
        let named = name.as_deref().and_then(|n| n.split('.').next());
        let exact = of_kinds(&|k| named == Some(k));
        if !exact.is_empty() {
            all.extend(exact);
            continue;
        }
        let by_rule = kinds_of(&f.rule);
        let likely = of_kinds(&|k| by_rule.contains(k));
        let any = if likely.is_empty() { here } else { likely };
        match any.is_empty() {
            true => all.extend(span(words, node)),
            false => all.extend(some(any)),
        }
    }
    all
}

/// The case without these words, and which those are that are left.
fn without(case: &Case, taken: &BTreeSet<usize>) -> (Case, Vec<usize>) {
    let left: Vec<usize> = (0..case.words.len()).filter(|i| !taken.contains(i)).collect();
    let words = left.iter().filter_map(|i| case.words.get(*i).cloned()).collect();
    (Case { words, ..case.clone() }, left)
}

/// The case after these steps.
fn after(case: &Case, steps: &[Step]) -> (Case, Vec<usize>) {
    let taken = steps.iter().flat_map(|s| if let Step::Taken(t) = s { t.clone() } else { BTreeSet::new() }).collect();
    let (mut rest, left) = without(case, &taken);
    rest.opts.extend(steps.iter().filter_map(|s| if let Step::Option(o) = s { Some(o.clone()) } else { None }));
    (rest, left)
}

/// Peels a case that both refuse.
pub fn peel(case: &Case, r: &mut Random, criu: &Criu, setup: &Setup, dir: &Path) -> Peeled {
    let mut steps = Vec::new();
    let verdict = whittle(case, &mut steps, r, criu, setup, &dir.join("peeled")).unwrap_or_else(outcome);
    let rest = after(case, &steps).0;
    let dumped = matches!(verdict, Verdict::Dumped(_));
    let one = r.pick(&(0..steps.len()).collect::<Vec<_>>()).copied().filter(|_| dumped).map(|i| {
        let mut fewer = steps.clone();
        fewer.remove(i);
        let more = after(case, &fewer).0;
        let verdict = judge(&more, criu, setup, &dir.join("one")).unwrap_or_else(outcome);
        (more, verdict)
    });
    if std::env::var_os("KEEP").is_none() {
        let _ = std::fs::remove_dir_all(dir);
    }
    let lifted = steps.iter().filter(|s| matches!(s, Step::Option(_))).count();
    Peeled { rest: (rest, verdict), one, lifted, taken: steps.len() - lifted }
}

/// Takes away until nothing is refused, or it cannot go on.
fn whittle(
    case: &Case,
    steps: &mut Vec<Step>,
    r: &mut Random,
    criu: &Criu,
    setup: &Setup,
    dir: &Path,
) -> Result<Verdict, Outcome> {
    let mut rules = BTreeSet::new();
    for round in 0..ROUNDS {
        let (mut rest, left) = after(case, steps);
        let mut stage = match set(&rest.words.join(" "), setup, dir) {
            Ok(stage) => stage,
            Err(Outcome::Skipped(why) | Outcome::Failed(why)) => {
                // It stood on something that was taken away.
                let Some((word, _)) = unmade(&rest, &why) else { return Ok(Verdict::NotMade(why)) };
                let all = left.iter().copied().filter(|i| case.words.get(*i) == Some(&word));
                steps.push(Step::Taken(all.collect()));
                continue;
            }
            Err(passed) => return Err(passed),
        };
        let mut findings = match look(&rest, &mut stage, criu, setup, dir)? {
            Ok(verdict) => return Ok(verdict),
            Err(findings) => findings,
        };
        let options = offered(&findings, r);
        if !options.is_empty() {
            let given: BTreeSet<&String> = options.iter().map(|(_, o)| o).collect();
            steps.extend(given.iter().map(|o| Step::Option(o.to_string())));
            rest.opts.extend(given.into_iter().cloned());
            let later = match look(&rest, &mut stage, criu, setup, dir)? {
                Ok(verdict) => return Ok(verdict),
                Err(findings) => findings,
            };
            // What mnt[] finds depends on the mounts that CRIU has itself.
            let certain = |o: &str| !o.contains("mnt[]");
            if let Some((f, option)) = options.iter().find(|(f, o)| certain(o) && f.still_in(&later)) {
                let at = f.places.first().map_or(0, |(pid, _)| *pid);
                return Ok(disagree(Kind::Cure, format!("{}: pid {at}: {}: refused with {option}", f.rule, f.message)));
            }
            findings = later;
        }
        rules = findings.iter().map(|f| f.rule.clone()).collect();
        let one_only = round < ROUNDS / 2 && r.chance(50);
        let mut some = |any: Vec<usize>| if one_only { r.pick(&any).copied().into_iter().collect() } else { any };
        let mut taken = BTreeSet::new();
        for f in &findings {
            let words = words_of(f, &rest.words, &stage.tree, &mut some);
            let words: BTreeSet<usize> = words.iter().filter_map(|i| left.get(*i).copied()).collect();
            let new: BTreeSet<usize> = words.difference(&taken).copied().collect();
            taken.extend(&new);
            steps.extend((!new.is_empty()).then_some(Step::Taken(new)));
        }
        if taken.is_empty() {
            break;
        }
    }
    Ok(Verdict::NotMade(format!("still refused, and nothing more to take away: {rules:?}")))
}

/// For some of the findings, an option that their hints name.
fn offered<'a>(findings: &'a [Finding], r: &mut Random) -> Vec<(&'a Finding, String)> {
    let mut all: Vec<(&Finding, String)> = Vec::new();
    for f in findings {
        let Some(option) = r.pick(&f.options).filter(|_| r.chance(70)) else { continue };
        // Of an option that is given once, the last one counts.
        let name = option.split(' ').next().unwrap_or(option);
        let met = |o: &str| o != option && name != "--external" && o.starts_with(name);
        if !all.iter().any(|(_, o)| met(o)) {
            all.push((f, option.clone()));
        }
    }
    all
}

/// A dump with the plugin: the verdict, or what it refuses.
fn look(
    case: &Case,
    stage: &mut Stage,
    criu: &Criu,
    setup: &Setup,
    dir: &Path,
) -> Result<Result<Verdict, Vec<Finding>>, Outcome> {
    let Some(plugin) = &setup.plugin else { return Err(Outcome::Skipped("no plugin".into())) };
    let ready = Ready::of(case, stage, dir).map_err(Outcome::Failed)?;
    let ran = dump(case, criu, stage, plugin, dir)?;
    let report = match answer(&ran, dir) {
        Ok(report) => report,
        Err(verdict) => return Ok(Ok(verdict)),
    };
    if ran.ok {
        return Ok(Ok(passed(&report, || back::restore(case, &ready, criu, stage, plugin, dir, &report))));
    }
    let findings: Vec<Finding> = report.refusals().filter_map(Finding::of).collect();
    if !findings.is_empty() {
        return Ok(Err(findings));
    }
    if warned(&report, &ran, criu) {
        return Ok(Ok(Verdict::Warned));
    }
    let alone = dump(case, criu, stage, &setup.no_plugins, &dir.join("alone"))?;
    Ok(Ok(missed(&ran, &alone)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(String::from).collect()
    }

    #[test]
    fn options_are_what_stands_behind_pass() {
        assert_eq!(
            named_options("pass --shell-job or --external 'tty[8800:1a]'; or start it detached"),
            ["--shell-job", "--external tty[8800:1a]"]
        );
        assert_eq!(
            named_options("pass --ext-unix-sk (again to the restore) or --external 'unix[5]' (restore with --ext-unix-sk); or end it"),
            ["--ext-unix-sk", "--external unix[5]"]
        );
        assert_eq!(named_options("release the lock before the dump"), Vec::<String>::new());
    }

    #[test]
    fn each_word_belongs_to_a_process() {
        let all = processes(&words("--root {root} a [ b [ c ] d ] e [ f ]"));
        let of: Vec<u64> = all.iter().filter_map(|n| *n).collect();
        assert_eq!(of, [0, 1, 2, 1, 0, 3]);
        assert_eq!(span(&words("a [ b [ c ] ] [ d ]"), 1), (1..=6).collect());
        assert_eq!(span(&words("a [ b [ c ] ] [ d ]"), 3), (7..=9).collect());
        assert_eq!(span(&words("a [ b ]"), 0), BTreeSet::new());
    }

    #[test]
    fn a_finding_takes_the_words_that_it_is_about() {
        let nodes = serde_json::json!([
            {"node": 0, "pid": 10, "fds": {"lock": 3}, "pids": {}},
            {"node": 1, "pid": 11, "fds": {"tcp-pair.server": 5}, "pids": {"stopped.child": 12}},
            {"node": 2, "pid": 13, "fds": {}, "pids": {}},
        ]);
        let tree = Tree::reported(serde_json::json!({"pid": 10, "nodes": nodes}));
        let words = words("lock eventfd [ tcp-pair:v6 stopped:sig=21 eventfd ] [ ]");
        let of = |rule: &str, pid, fd| {
            let f = Finding { rule: rule.into(), places: vec![(pid, fd)], options: vec![], message: String::new() };
            words_of(&f, &words, &tree, &mut |any| any).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(of("lock-not-allowed", 10, Some(3)), [0]);
        assert_eq!(of("tcp-connected", 11, Some(5)), [3]);
        assert_eq!(of("stop-signal-unsupported", 12, None), [4]);
        assert_eq!(of("tcp-connected", 11, Some(9)), [3], "by what its fixtures hold");
        assert_eq!(of("no-such-rule", 11, None), [3, 4, 5]);
        assert_eq!(of("no-such-rule", 13, None), [7, 8], "the whole process");
    }

    #[test]
    fn steps_are_taken_of_the_whole_tree() {
        let case = Case { words: words("a [ b ] c"), opts: vec!["-x".into()], freeze_cgroup: false };
        let steps = [Step::Taken([2].into()), Step::Option("-y".into())];
        let (rest, left) = after(&case, &steps);
        assert_eq!((rest.to_string().as_str(), left), ("a [ ] c  criu: -x -y", vec![0, 1, 3, 4]));
    }
}
