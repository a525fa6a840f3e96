//! The options CRIU was given, each known or not.
//!
//! [`table`] has one row for each. From it come where CRIU keeps it by release ([`super::layout`], [`super::cmdline`]), the C
//! functions' struct ([`c_api`]), the command line and the configuration files of `cli/`, the lists in its help and manual, and
//! how hints write it.

pub(crate) mod c_api;
pub mod ignored;
pub(in crate::criu) mod memory;
#[macro_use]
mod row;
mod table;
mod written;

use crate::criu::Host;
pub(crate) use row::Note;
pub(in crate::criu) use row::{note, Kept, Layout};
pub use row::{CriuOption, Takes};
use serde::{Deserialize, Serialize};
pub(crate) use table::Opt;
pub use table::{Options, OPTIONS, RESOURCES};

/// The only namespace that `--empty-ns` takes.
pub(crate) const CLONE_NEWNET: u32 = 0x4000_0000;

/// `opts.network_lock_method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockMethod {
    Iptables,
    Nftables,
    Skip,
}

/// The option with this name, among those that decide anything. `None`: none, or CRIU's dump has it and does not care.
pub(crate) fn named(name: &str) -> Option<&'static CriuOption> {
    let mut written = all().filter(|option| !matches!(option.takes, Takes::NotWritten));
    written.find(|option| option.name == Some(name))
}

/// The same as getopt_long finds it, which takes the beginning of a name where no other begins so.
pub(in crate::criu) fn abbreviated(name: &str) -> Option<&'static CriuOption> {
    let mut options = all().filter_map(|option| option.name);
    let ambiguous = |full: &str| {
        let others = all().filter_map(|o| o.name).chain(ignored::IGNORED.iter().map(|o| o.name));
        others.filter(|other| *other != full).any(|other| other.starts_with(name))
    };
    let full = options.find(|full| *full == name || (full.starts_with(name) && !ambiguous(full)))?;
    named(full)
}

/// What stands between the name of an option and its value on a command line.
fn separator(name: &str) -> char {
    let is_optional = |o: &ignored::Ignored| o.name == name && o.argument == ignored::Argument::Optional;
    match ignored::IGNORED.iter().any(is_optional) {
        true => '=',
        false => ' ',
    }
}

/// An option as it stands on a command line, with its value if it takes one.
pub(crate) fn written(name: &str, value: &str) -> String {
    match value {
        "" => format!("--{name}"),
        _ => format!("--{name}{}{value}", separator(name)),
    }
}

fn all() -> impl Iterator<Item = &'static CriuOption> {
    OPTIONS.iter().chain(RESOURCES)
}

impl Opt {
    pub(crate) fn row(self) -> Option<&'static CriuOption> {
        OPTIONS.iter().find(|option| option.opt == Some(self))
    }

    /// See [`CriuOption::name`].
    pub(crate) fn name(self) -> Option<&'static str> {
        self.row()?.name
    }

    /// See [`CriuOption::rpc_field`].
    pub(crate) fn rpc_field(self) -> Option<&'static str> {
        self.row()?.rpc_field
    }

    /// See [`CriuOption::is_known_to`].
    pub(crate) fn is_known_to(self, host: &Host) -> bool {
        self.row().is_some_and(|option| option.is_known_to(host))
    }
}

impl Options {
    /// Whether `--skip-mnt` is known to name this mountpoint: CRIU leaves such mounts out of its tables
    /// (`should_skip_mount`, criu/proc_parse.c).
    pub(crate) fn skips(&self, mountpoint: &[u8]) -> bool {
        self.skip_mnt.iter().flatten().any(|given| is_same_path(given, mountpoint))
    }
}

/// is_same_path of criu/util.c: empty components and "." do not count.
fn is_same_path(a: &[u8], b: &[u8]) -> bool {
    fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
        path.split(|b| *b == b'/').filter(|p| !matches!(*p, b"" | b"."))
    }
    parts(a).eq(parts(b))
}

/// An option with a value in JSON, where null cannot be both not known and not given: the latter is an empty list.
mod known {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<T: Serialize, S: Serializer>(
        value: &Option<Option<T>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().map(|given| given.iter().collect::<Vec<_>>()).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Option<T>>, D::Error> {
        Ok(Option::<Vec<T>>::deserialize(from)?.map(|given| given.into_iter().next()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_option_has_one_row() {
        let written = all().filter_map(|o| o.name).chain(ignored::IGNORED.iter().map(|o| o.name));
        let mut names: Vec<&str> = written.collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count, "two rows of one name");
        for option in all() {
            assert!(option.name.is_some() || option.rpc_field.is_some());
            let is_switch = matches!(option.takes, Takes::Switch | Takes::NotWritten);
            assert!(!is_switch || option.opt.is_some(), "{:?}: a boolean option has a variant", option.name);
        }
    }

    #[test]
    fn the_beginning_of_a_name_is_taken_as_getopt_takes_it() {
        let is = |beginning, name| abbreviated(beginning).map(|o| o.name) == name;
        for (beginning, name) in [("enable-f", "enable-fs"), ("enable-fs", "enable-fs"), ("skip-m", "skip-mnt")] {
            assert!(is(beginning, Some(Some(name))), "{beginning}");
        }
        // Others begin so, or are not in the table that matters.
        for beginning in ["enable-e", "enable-", "skip-", "tcp-", "", "tree", "verb", "nonsense"] {
            assert!(is(beginning, None), "{beginning}");
        }
    }

    /// The scanner is sent them so, and a check is saved so.
    #[test]
    fn not_given_is_not_unknown_after_json() {
        let given = Options {
            freeze_cgroup: Some(Some("/a".into())),
            dump_controllers: Some(Some(vec!["cpu".into(), "".into()])),
            ..Options::none_given()
        };
        for options in [Options::none_given(), Options::default(), given] {
            let json = serde_json::to_vec(&options).unwrap();
            assert_eq!(serde_json::from_slice::<Options>(&json).unwrap(), options);
        }
    }
}
