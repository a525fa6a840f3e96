//! From a line of CRIU's log to the rules that tell what is behind it.

use crate::report::criu_text::{self, Pattern};
use crate::rules::Rule;
use std::collections::BTreeSet;

/// What a line means.
pub(crate) enum Meaning<'r> {
    /// CRIU says so of what these rules are about; the most telling of its texts first.
    Rules(Vec<&'r Rule>),
    /// It is nothing that a rule quotes. These quote the most like it, if any.
    Unknown(Vec<&'r Rule>),
}

/// Rules that are named where none has the text.
const NEAREST: usize = 3;
/// What is shorter than this stands in too many texts.
const SHORT: usize = 8;
/// Longer lines than CRIU writes are compared no further.
const LINE: usize = 4096;

/// The rules that quote the text: as it is; else in a part of it, or a part of theirs.
pub(crate) fn meaning<'r>(rules: &[&'r Rule], line: &str) -> Meaning<'r> {
    let line = line.get(..(0..=LINE).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0)).unwrap_or(line);
    let text = message(line);
    // A part of CRIU may put its name before what it says: `inet: `.
    let bare = text.split_once(": ").filter(|(name, _)| !name.contains(' ')).map_or(text, |(_, bare)| bare);
    let whole = matching(rules, |p| p.prints(text) || p.prints(bare));
    let around = || matching(rules, |p| p.fixed() >= SHORT && p.is_in(text));
    let within = || rules_holding(rules, text);
    let found = [whole, around(), within(), named(rules, text)].into_iter().find(|found| !found.is_empty());
    found.map_or_else(|| Meaning::Unknown(nearest(rules, text)), Meaning::Rules)
}

/// What CRIU says in a line of its log: without time, process, severity and place in its sources.
fn message(line: &str) -> &str {
    let line = line.trim().trim_matches(['"', '`']);
    for severity in ["Error (", "Warn  ("] {
        let place_and_message = line.split_once(severity).and_then(|(_, tail)| tail.split_once("): "));
        if let Some((_, message)) = place_and_message.filter(|(place, _)| !place.contains(' ')) {
            return message.trim();
        }
    }
    let timed = line.strip_prefix('(').and_then(|tail| tail.split_once(") "));
    let after_time = timed.filter(|(time, _)| time.chars().all(|c| c.is_ascii_digit() || c == '.'));
    after_time.map_or(line, |(_, message)| message.trim())
}

/// Those with a text that fits, the one with the most fixed text first.
fn matching<'r>(rules: &[&'r Rule], fits: impl Fn(&Pattern) -> bool) -> Vec<&'r Rule> {
    let mut found: Vec<(usize, &Rule)> = Vec::new();
    for rule in rules {
        let patterns = criu_text::of(rule).filter_map(|t| t.text).map(Pattern::new).filter(&fits);
        if let Some(fixed) = patterns.map(|p| p.fixed()).max() {
            found.push((fixed, rule));
        }
    }
    found.sort_by_key(|(fixed, _)| std::cmp::Reverse(*fixed));
    found.into_iter().map(|(_, rule)| rule).collect()
}

/// Those with a text that the given one is a part of, whatever numbers stand in it.
fn rules_holding<'r>(rules: &[&'r Rule], text: &str) -> Vec<&'r Rule> {
    let part = shape(text);
    let holds = |r: &&Rule| {
        criu_text::of(r).filter_map(|t| t.text).any(|text| shape(&Pattern::new(text).filled()).contains(&part))
    };
    rules.iter().copied().filter(|r| text.len() >= SHORT && holds(r)).collect()
}

/// The text with a `#` for each number, so that two that differ in numbers alone are the same.
fn shape(text: &str) -> String {
    let is_number = |word: &str| {
        let digits = word.trim_start_matches(['-', '+']);
        digits.starts_with(|c: char| c.is_ascii_digit()) && digits.chars().all(|c| c.is_ascii_hexdigit() || c == 'x')
    };
    let mut out = String::with_capacity(text.len());
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric() && c != '-') {
        let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric() && c != '-');
        if is_number(bare) {
            out.push('#');
            out.push_str(word.get(bare.len()..).unwrap_or_default());
        } else {
            out.push_str(word);
        }
    }
    out
}

/// Of a line of our own: the rules that it names.
fn named<'r>(rules: &[&'r Rule], text: &str) -> Vec<&'r Rule> {
    let words: BTreeSet<&str> = text.split([' ', ':', ',']).collect();
    rules.iter().copied().filter(|r| words.contains(r.id)).collect()
}

/// Words of letters only: the rest is numbers, or stands for what differs each time.
fn words(text: &str) -> BTreeSet<String> {
    let all = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '%');
    let word = |w: &&str| w.len() > 2 && w.chars().all(|c| c.is_ascii_alphabetic());
    all.filter(word).map(str::to_ascii_lowercase).collect()
}

/// Those that have the most words in common with the text, the rarer the better, and at least half of their own.
fn nearest<'r>(rules: &[&'r Rule], text: &str) -> Vec<&'r Rule> {
    let asked = words(text);
    let quoted: Vec<(&Rule, BTreeSet<String>)> =
        rules.iter().flat_map(|r| criu_text::of(r).filter_map(|t| Some((*r, words(t.text?))))).collect();
    let worth = |word: &String| {
        let texts = quoted.iter().filter(|(_, words)| words.contains(word)).count();
        1000_usize.checked_div(texts).unwrap_or(0)
    };
    let mut found: Vec<(usize, &Rule)> = Vec::new();
    for (rule, words) in &quoted {
        let common: usize = words.intersection(&asked).map(worth).sum();
        let all: usize = words.iter().map(worth).sum();
        let known = found.iter().any(|(_, r)| r.id == rule.id);
        if common > 0 && common.saturating_mul(2) >= all && !known {
            found.push((common, rule));
        }
    }
    found.sort_by_key(|(common, _)| std::cmp::Reverse(*common));
    found.into_iter().map(|(_, rule)| rule).take(NEAREST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::registry::RULES;

    /// The ids, or `? ` and those of the nearest.
    fn of(line: &str) -> String {
        let ids = |rules: Vec<&Rule>| rules.iter().map(|r| r.id).collect::<Vec<_>>().join(" ");
        match meaning(RULES, line) {
            Meaning::Rules(rules) => ids(rules),
            Meaning::Unknown(rules) => format!("? {}", ids(rules)).trim_end().to_string(),
        }
    }

    #[test]
    fn every_rule_is_found_by_its_own_texts() {
        for rule in RULES {
            for text in criu_text::of(rule).filter_map(|t| t.text) {
                let Meaning::Rules(found) = meaning(RULES, text) else { panic!("{}: {text}", rule.id) };
                assert!(found.iter().any(|r| r.id == rule.id), "{}: {text}", rule.id);
                let filled = Pattern::new(text).filled();
                assert!(of(&filled).split(' ').any(|id| id == rule.id), "{}: {filled}", rule.id);
            }
        }
    }

    #[test]
    fn what_stands_around_a_message_does_not_matter() {
        for line in [
            "(00.012345) Error (criu/sk-inet.c:200): Connected TCP socket, consider using --tcp-established option.",
            "(00.012345)  4211: Error (criu/sk-inet.c:200): Connected TCP socket, consider using --tcp-established option.\n",
            "time=\"2026-01-01\" msg=\"(00.1) Error (criu/sk-inet.c:200): Connected TCP socket, consider using --tcp-established option.",
            "Connected TCP socket, consider using --tcp-established option",
            "`Connected TCP socket, consider using --tcp-established option.`",
        ] {
            assert_eq!(of(line), "tcp-connected raw-connected", "{line}");
        }
        // At the restore, too.
        assert_eq!(of("Connected TCP socket"), "tcp-connected raw-connected tcp-reset");
        assert_eq!(of("pie: 21866: Error (criu/pie/parasite.c:602): send_fds failed (-22)"), "fd-io-uring");
        assert_eq!(
            of("(00.5) Warn  (criu/x.c:1): Unable to interrupt task: 12 (No such process)").split(' ').count(),
            4
        );
    }

    #[test]
    fn the_more_telling_text_comes_first() {
        let of_fd = |what| of(&format!("Error (criu/files-ext.c:94): Can't dump file 4 of that type [600] ({what})"));
        assert_eq!(of_fd("anon anon_inode:[perf_event]"), "fd-anon");
        assert_eq!(of_fd("anon anon_inode:[io_uring]"), "fd-io-uring fd-anon");
        assert_eq!(of_fd("chr 10:229"), "fd-chrdev");
        assert_eq!(
            of("Error (criu/sockets.c:448): Sockets (family 17 proto 0) are not collected"),
            "packet-missing ip-not-collected"
        );
    }

    #[test]
    fn a_part_is_enough() {
        assert_eq!(of("Can't dump file 11 of that type").split(' ').next(), Some("fd-chrdev"));
        assert_eq!(of("Can't get bound dev"), "socket-bound-dev");
        assert_eq!(
            of("Error (criu/files-reg.c:1): Can't dump ghost file /tmp/x of 9000 size, increase limit: more"),
            "ghost-too-big"
        );
    }

    #[test]
    fn a_line_of_ours_names_its_rules() {
        let line = "Error (preflight): lock-kind: pid 7 (a) fd 3: write lock of class LAYOUT on /x; close the file before the dump";
        assert_eq!(of(line), "lock-kind");
        let summary = "Error (preflight): refusing to dump pid 1 (a), nothing was frozen: 2 blockers in 1 of 1 task: lock-kind x1, udp-corked x1";
        assert_eq!(of(summary), "lock-kind udp-corked");
    }

    #[test]
    fn what_no_rule_has_is_unknown_and_its_likes_are_named() {
        assert_eq!(of("Error (criu/cr-dump.c:2005): Dumping FAILED."), "?");
        assert_eq!(of(""), "?");
        assert_eq!(of("%s"), "?");
        assert_eq!(of("Unix socket without a peer"), "? unix-peer-uncollected unix-not-collected");
        assert_eq!(of(&"Can't dump ".repeat(100_000)), "?");
    }
}
