//! An option that is to be given: how it is written, what the restore is then given, and what it decides.

use crate::criu::options::{self, CriuOption, Note, Takes};
use crate::criu::{externals, Host, Opt};

/// An option to be given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub opt: Option<Opt>,
    pub name: &'static str,
    /// All of them are needed, each with the name.
    pub values: Vec<String>,
}

/// A value for a shell.
pub(super) fn quoted(value: &str) -> String {
    let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || "_./:=,@%+-".contains(c));
    if plain {
        value.to_string()
    } else {
        format!("'{}'", value.replace('\'', "'\\''"))
    }
}

impl Setting {
    /// For a command line, quoted for a shell where that is needed: brackets are patterns there.
    pub(crate) fn flag(&self) -> String {
        if self.values.is_empty() {
            return format!("--{}", self.name);
        }
        let flags: Vec<String> = self.values.iter().map(|v| format!("--{} {}", self.name, quoted(v))).collect();
        flags.join(" ")
    }

    /// As arguments, one a string.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let flag = format!("--{}", self.name);
        match self.values.as_slice() {
            [] => vec![flag],
            values => values.iter().flat_map(|value| [flag.clone(), value.clone()]).collect(),
        }
    }

    /// For a configuration file: without dashes; a value with a blank in double quotes (criu/config.c:parse_statement).
    pub(crate) fn config_lines(&self) -> String {
        if self.values.is_empty() {
            return format!("'{}'", self.name);
        }
        let line = |value: &String| match value.contains([' ', '\t', '"', '#']) {
            true => format!("'{} \"{}\"'", self.name, value.replace('"', "\\\"")),
            false => format!("'{} {value}'", self.name),
        };
        let lines: Vec<String> = self.values.iter().map(line).collect();
        lines.join(" and ")
    }

    pub(crate) fn field(&self, field: &str) -> String {
        // `external mnt[]` has a field of its own.
        if self.opt.is_some() || self.values.is_empty() {
            return format!("{field} = true");
        }
        let values: Vec<String> = self.values.iter().map(|value| format!("{field} = {value}")).collect();
        values.join(" and ")
    }

    fn row(&self) -> Option<&'static CriuOption> {
        self.opt.map_or_else(|| options::named(self.name), Opt::row)
    }

    fn note(&self) -> Option<Note> {
        match self.values.first() {
            Some(key) if self.name == "external" => externals::note_of(key),
            value => self.row()?.note(value.map_or("", String::as_str)),
        }
    }

    /// What the restore is given then: `--file-locks again`. `None`: no option.
    pub(crate) fn at_restore(&self) -> Option<String> {
        let text = self.restore_words()?;
        let value = self.values.first().map_or("", String::as_str);
        let name = value.rsplit_once("]:").map_or("NAME", |(_, name)| name);
        Some(text.replace("KEY", value).replace("NAME", name))
    }

    fn restore_words(&self) -> Option<&'static str> {
        let text = self.note()?.restore;
        let ends = [", ", ": ", " (", "; "].iter().filter_map(|end| text.find(end));
        let short = text.get(..ends.min().unwrap_or(text.len())).unwrap_or(text);
        text.starts_with("--").then(|| short.trim_end_matches('.'))
    }

    /// The restore is given the same once more.
    pub(crate) fn is_given_again(&self) -> bool {
        self.restore_words().is_some_and(|text| text.ends_with(" again"))
    }

    /// The restore needs a descriptor handed in, which only criu's own command line and RPC clients can do.
    pub(crate) fn hands_in(&self) -> bool {
        self.restore_words().is_some_and(|text| text.starts_with("--inherit-fd"))
    }

    /// What a host is with it.
    pub(crate) fn give(&self, host: &mut Host) {
        let Some(option) = self.row() else { return };
        match (self.opt, option.takes) {
            (Some(opt), _) => *host.options.flag_mut(opt) = Some(true),
            (None, Takes::Value(_, take)) => {
                for value in &self.values {
                    // What a remedy says is what CRIU takes.
                    let _ = take(host, value.as_bytes());
                }
            }
            (None, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The short forms are the beginnings of the notes: one that is reworded has to stay something that can be typed.
    #[test]
    fn what_the_restore_is_given_in_short() {
        let setting = |opt: Option<Opt>, name, value: &str| Setting {
            opt,
            name,
            values: if value.is_empty() { Vec::new() } else { vec![value.to_owned()] },
        };
        let options = options::OPTIONS.iter().filter_map(|o| Some(setting(o.opt, o.name?, "")));
        let keys =
            ["unix[7]", "file[1:2]", "tty[8800:1a]", "mnt[/a]:ext1", "dev[0/39]:ext1", "net[9]:NAME", "pid[9]:pidns"];
        let all = options.chain(keys.iter().map(|key| setting(None, "external", key)));
        let short: BTreeSet<String> = all.filter_map(|s| s.at_restore()).collect();
        expect_test::expect![[r#"
            --allow-uprobes again
            --empty-ns net again
            --ext-unix-sk again
            --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]'
            --external 'dev[ext1]:/dev/DEVICE'
            --external 'mnt[]' again
            --external 'mnt[ext1]:PATH'
            --file-locks again
            --inherit-fd 'fd[N]:NAME'
            --inherit-fd 'fd[N]:file[1:2]'
            --inherit-fd 'fd[N]:pidns'
            --inherit-fd 'fd[N]:tty[8800:1a]'
            --shell-job again
            --tcp-close again
            --tcp-established again
            --unprivileged again"#]]
        .assert_eq(&short.into_iter().collect::<Vec<_>>().join("\n"));
    }
}
