//! What lifts a rule, in words: how it is written, what it costs, and what the restore then needs.

use crate::report::examples::Example;
use crate::report::hints::quoted;
use crate::report::template::{self, Style};
use crate::rules::{Remedy, Rule};

/// What comes with a remedy.
struct Note {
    /// How it is written, or the beginning of that.
    written: &'static str,
    costs: &'static str,
    restore: &'static str,
}

const NO_OPTION: &str = "no option.";

/// CRIU's manual and sources say so; what a restore of CRIU 4.3 refuses without, it was seen to.
const NOTES: &[Note] = &[
    Note {
        written: "--tcp-established",
        costs: "The other side sees a pause: until the restore, CRIU blocks the connection's traffic.",
        restore: "--tcp-established again, the same addresses, and traffic that was blocked all the time.",
    },
    Note {
        written: "--tcp-close",
        costs: "Connections are not saved: the program finds them closed.",
        restore: "--tcp-close again.",
    },
    Note {
        written: "--skip-in-flight",
        costs: "Clients that were not accepted yet have to connect again.",
        restore: NO_OPTION,
    },
    Note {
        written: "--ext-unix-sk",
        costs: "The connection is cut, and made anew at the restore.",
        restore: "--ext-unix-sk again, and somebody who is bound to the peer's name: without it the socket comes back \
                  unconnected, and nothing says so.",
    },
    Note {
        written: "--external 'unix[",
        costs: "The socket is saved without its other end.",
        restore: "a connected socket in its place, handed in by --inherit-fd 'fd[N]:socket:[INO]' (with the second colon, which \
                  CRIU's manual lacks).",
    },
    Note {
        written: "--shell-job",
        costs: "The processes come back in the session and on the terminal of whoever restores them.",
        restore: "--shell-job again, and a terminal to start it from.",
    },
    Note {
        written: "--file-locks",
        costs: "It is safe as long as nobody outside of the tree wants the same locks.",
        restore: "--file-locks again: without it the processes come back without their locks, and nothing says so.",
    },
    Note {
        written: "--link-remap",
        costs: "A hard link, link_remap.N, is made beside the file and stays there until the restore.",
        restore: "no option, but that link. It is used up: such images can be restored once.",
    },
    Note { written: "--ghost-limit", costs: "The file's contents go into the images.", restore: NO_OPTION },
    Note {
        written: "--evasive-devices",
        costs: "CRIU takes another path to the same device.",
        restore: "no option, but that path.",
    },
    Note {
        written: "--irmap-scan-path",
        costs: "CRIU searches that directory, which takes its time while the tree is frozen.",
        restore: "no option, but the file in its place.",
    },
    Note {
        written: "--file-validation filesize",
        costs: "Whether a file is still the same, the restore tells by its size alone.",
        restore: NO_OPTION,
    },
    Note {
        written: "--network-lock nftables",
        costs: "None, where CRIU is built with nftables.",
        restore: "no option: the images name the method.",
    },
    Note {
        written: "--network-lock skip",
        costs: "Nothing blocks the traffic of the tree between dump and restore: peers may be answered by a reset.",
        restore: NO_OPTION,
    },
    Note {
        written: "--allow-uprobes",
        costs: "The area is left out of the images.",
        restore: "--allow-uprobes again, and the same uprobes: where one is missing, a process gets SIGTRAP.",
    },
    Note {
        written: "--enable-fs",
        costs: "What is in it is not saved: it is mounted again from its source.",
        restore: "no option, but the same source.",
    },
    Note {
        written: "--external 'mnt[]",
        costs: "What is in these mounts is not saved.",
        restore: "--external 'mnt[]' again, and the same things mounted.",
    },
    Note {
        written: "--external 'mnt[",
        costs: "What is in the mount is not saved.",
        restore: "--external 'mnt[NAME]:PATH', PATH being what is to be mounted there.",
    },
    Note {
        written: "--external 'dev[",
        costs: "What is on the device is not saved.",
        restore: "--external 'dev[NAME]:/dev/DEVICE'.",
    },
    Note {
        written: "--external 'net[",
        costs: "The network namespace is not saved.",
        restore: "another in its place, handed in by --inherit-fd 'fd[N]:NAME'.",
    },
    Note {
        written: "--external 'pid[",
        costs: "The pid namespace is not saved.",
        restore: "another in its place, handed in by --inherit-fd 'fd[N]:pidns', with the pids free in it.",
    },
    Note {
        written: "--external ",
        costs: "What it names is not saved.",
        restore: "such a thing (a file of the same type and mode) in its place, handed in by --inherit-fd 'fd[N]:KEY', KEY being tty[...] or file[...] as in the dump.",
    },
    Note {
        written: "--empty-ns net",
        costs: "Interfaces, addresses and routes of the network namespace are not saved.",
        restore: "--empty-ns net again (without it CRIU wants iptables-restore), and somebody who sets the network up.",
    },
    Note {
        written: "--unprivileged",
        costs: "CRIU can do no more than that user may.",
        restore: "--unprivileged again.",
    },
    Note {
        written: "orphan_pts_master",
        costs: "The other side of the terminal is not saved.",
        restore: "orphan_pts_master again: CRIU makes a new one, and hands it out with the notification orphan-pts-master.",
    },
    Note { written: "plugin hook", costs: "The plugin decides.", restore: "the same plugin." },
    Note { written: "CRIU ", costs: "None.", restore: "that CRIU, too." },
];

/// A remedy as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// An option, or words.
    pub written: String,
    /// It goes on a command line.
    pub is_code: bool,
    pub costs: Option<&'static str>,
    pub restore: Option<&'static str>,
}

/// All remedies of a rule, with what the examples tell in the place of facts.
pub fn of(rule: &Rule, examples: &[&Example]) -> Vec<Shown> {
    rule.remedies.iter().map(|remedy| shown(remedy, examples)).collect()
}

fn shown(remedy: &Remedy, examples: &[&Example]) -> Shown {
    let (written, is_code) = match remedy {
        Remedy::Option(opt) | Remedy::OptionFor(opt, _) => match opt.name() {
            Some(name) => (format!("--{name}"), true),
            None => ("orphan_pts_master in an RPC request".to_string(), false),
        },
        Remedy::External(value) => (option("external", value, examples), true),
        Remedy::Modelled(name, value) => (option(name, value, examples), true),
        Remedy::AtRestore(name, value) => {
            let value = quoted(&fill(value, Style::OptionValue, examples));
            return Shown {
                written: format!("at the restore: --{name} {value}"),
                is_code: false,
                costs: None,
                restore: None,
            };
        }
        Remedy::Hook(hook) => (format!("plugin hook {}", hook.name()), false),
        Remedy::Release(release) => (format!("CRIU {} or newer", release.first()), false),
        Remedy::Workload(words) => (fill(words, Style::Sentence, examples), false),
    };
    let is_words = matches!(remedy, Remedy::Workload(_));
    let note = NOTES.iter().find(|n| !is_words && written.starts_with(n.written));
    Shown { written, is_code, costs: note.map(|n| n.costs), restore: note.map(|n| n.restore) }
}

fn option(name: &str, value: &str, examples: &[&Example]) -> String {
    format!("--{name} {}", quoted(&fill(value, Style::OptionValue, examples)))
}

/// Facts that are there to say that a remedy applies, and the only value they have.
const ONE_VALUE: &[(&str, &str)] = &[("apart", "criu"), ("right", "CAP_NET_ADMIN")];

/// The template with the facts of the first example that has them all; else what is lacking stands there by its name.
fn fill(text: &str, style: Style, examples: &[&Example]) -> String {
    let filled = examples.iter().map(|e| template::render(text, style, &|name| e.facts.get(name).cloned()));
    if let Some(full) = filled.into_iter().find(|r| r.complete) {
        return full.text;
    }
    let needed = template::needed(text, style);
    let fact = |name: &str| {
        let told = examples.first().and_then(|e| e.facts.get(name).cloned());
        let only = ONE_VALUE.iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_string());
        told.or(only).or_else(|| needed.contains(&name).then(|| name.to_uppercase()))
    };
    template::render(text, style, &fact).text
}

impl Shown {
    /// `WRITTEN. COSTS For the restore: RESTORE`.
    pub fn sentence(&self, code: impl Fn(&str) -> String, plain: impl Fn(&str) -> String) -> String {
        let mut out = if self.is_code { code(&self.written) } else { plain(&self.written) };
        if let Some(costs) = self.costs {
            out.push_str(". ");
            out.push_str(&plain(costs));
        }
        if let Some(restore) = self.restore {
            out.push_str(" The restore needs ");
            out.push_str(&plain(restore));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::examples;
    use crate::rules::registry::RULES;

    /// Of a rule, what is shown on its page.
    fn shown_of(rule: &'static Rule) -> Vec<Shown> {
        let all = examples::all();
        let of_rule: Vec<&Example> = all.iter().filter(|e| e.rule == rule.id).collect();
        of(rule, &of_rule)
    }

    #[test]
    fn every_option_says_what_it_costs_and_every_note_is_of_use() {
        let all: Vec<(&str, Shown)> = RULES.iter().flat_map(|r| shown_of(r).into_iter().map(|s| (r.id, s))).collect();
        for (id, s) in &all {
            assert!(!s.is_code || s.costs.is_some(), "{id}: {}", s.written);
        }
        for note in NOTES {
            let used = |s: &Shown| s.costs == Some(note.costs) && s.written.starts_with(note.written);
            assert!(all.iter().any(|(_, s)| used(s)), "{}", note.written);
            assert!(note.costs.ends_with('.') && note.restore.ends_with('.'), "{}", note.written);
        }
    }

    /// Names of facts that say what they stand for.
    const PLAIN: &[&str] = &["DIR", "HOME", "INO", "KEY", "NAME", "PATH", "PID"];

    #[test]
    fn what_a_remedy_names_is_from_an_example() {
        let mut unfilled = Vec::new();
        for rule in RULES {
            for shown in shown_of(rule) {
                let words = shown.written.split(|c: char| !c.is_ascii_uppercase() && c != '_');
                let templates = || rule.remedies.iter().filter_map(examples::remedy_template);
                let names: Vec<String> =
                    templates().flat_map(|(text, style)| template::names(text, style)).map(str::to_uppercase).collect();
                let own = |word: &str| templates().any(|(text, _)| text.contains(word));
                let open = |word: &&str| names.contains(&word.to_string()) && !PLAIN.contains(word) && !own(word);
                unfilled.extend(words.filter(open).map(|word| format!("{}: {word} in {}", rule.id, shown.written)));
            }
        }
        assert_eq!(unfilled, Vec::<String>::new());
    }
}
