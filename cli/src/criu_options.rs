//! CRIU's own options on the command line and in its configuration files, which CRIU itself makes into a command line: those of
//! the library's table, and those that are taken and change nothing.

use criu_preflight::criu::options::ignored::{Argument, Ignored, IGNORED};
use criu_preflight::criu::options::{CriuOption, Takes, OPTIONS, RESOURCES};
use criu_preflight::criu::Host;
use lexopt::{Arg, Parser};
use std::os::unix::ffi::OsStrExt;

/// An option of CRIU.
#[derive(Clone, Copy)]
pub enum Found {
    Decides(&'static str, &'static CriuOption),
    Ignored(&'static Ignored),
}

/// Those that decide what CRIU refuses and can be written, with their names.
pub fn deciding() -> impl Iterator<Item = (&'static str, &'static CriuOption)> {
    let written = |option: &'static CriuOption| match option.takes {
        Takes::NotWritten => None,
        _ => Some((option.name?, option)),
    };
    OPTIONS.iter().chain(RESOURCES).filter_map(written)
}

/// The option of CRIU that this is, and whether it is switched on; `None`: none of CRIU's.
pub fn find(arg: &Arg) -> Option<(Found, bool)> {
    let name = match arg {
        Arg::Short(letter) => {
            let of_table = deciding().find(|(_, o)| o.letter == Some(*letter)).map(|(name, _)| name);
            of_table.or(IGNORED.iter().find(|o| o.letter == Some(*letter)).map(|o| o.name))?
        }
        Arg::Long(name) => name,
        Arg::Value(_) => return None,
    };
    by_name(name).map(|found| (found, true)).or_else(|| {
        let found = by_name(name.strip_prefix("no-")?)?;
        found.is_switch().then_some((found, false))
    })
}

fn by_name(name: &str) -> Option<Found> {
    let found = deciding().find(|(n, _)| *n == name).map(|(name, option)| Found::Decides(name, option));
    found.or_else(|| IGNORED.iter().find(|o| o.name == name).map(Found::Ignored))
}

impl Found {
    fn is_switch(self) -> bool {
        match self {
            Found::Decides(_, option) => matches!(option.takes, Takes::Switch),
            Found::Ignored(option) => option.argument == Argument::None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Found::Decides(name, _) => name,
            Found::Ignored(option) => option.name,
        }
    }

    /// Takes the option, and its value from the parser.
    pub fn apply(self, host: &mut Host, on: bool, parser: &mut Parser) -> Result<(), String> {
        let wrong = |why: String| format!("--{}: {why}", self.name());
        let value = |parser: &mut Parser| parser.value().map_err(|_| wrong("it wants a value".into()));
        let optional = |parser: &mut Parser| parser.optional_value();
        match self {
            Found::Decides(_, option) => match (option.takes, option.opt) {
                (Takes::Switch, Some(opt)) => *host.options.flag_mut(opt) = Some(on),
                (Takes::Value(_, set), _) => set(host, value(parser)?.as_bytes()).map_err(wrong)?,
                (Takes::Optional(_, set), _) => {
                    set(host, optional(parser).as_deref().map(OsStrExt::as_bytes)).map_err(wrong)?;
                }
                (Takes::Switch | Takes::NotWritten, _) => return Err(wrong("it cannot be given here".into())),
            },
            Found::Ignored(option) => match option.argument {
                Argument::None => {}
                Argument::Required => drop(value(parser)?),
                Argument::Optional => drop(optional(parser)),
            },
        }
        Ok(())
    }
}

/// For the help: `--NAME`, `--NAME VALUE` or `--NAME[=VALUE]`.
pub fn usage(name: &str, option: &CriuOption) -> String {
    match option.takes {
        Takes::Value(what, _) => format!("--{name} {what}"),
        Takes::Optional(what, _) => format!("--{name}[={what}]"),
        Takes::Switch | Takes::NotWritten => format!("--{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use criu_preflight::criu::externals::{Kind, Lookup, KINDS};

    /// For the manual (mdoc).
    fn manual(name: &str, option: &CriuOption) -> String {
        match option.takes {
            Takes::Value(what, _) => format!(".Fl -{name} Ar {what}"),
            Takes::Optional(what, _) => format!(".Fl -{name} Ns Op = Ns Ar {what}"),
            Takes::Switch | Takes::NotWritten => format!(".Fl -{name}"),
        }
    }

    /// The kinds of keys of --external.
    fn keys() -> impl Iterator<Item = String> {
        let looked_for = KINDS.iter().filter(|kind| kind.lookup != Lookup::RestoreOnly);
        let one = |kind: &Kind| {
            let name = if kind.lookup == Lookup::Named { ":NAME" } else { "" };
            format!(".Ql {}[{}]{name}", kind.name.to_str().unwrap(), kind.inside)
        };
        looked_for.map(one).chain([".Ql mnt[]".into()])
    }

    /// The page with this list between its marks.
    fn with_list(page: &str, name: &str, lines: &[String], end: &str) -> String {
        let (start, stop) = (format!(".\\\" {name}: made by UPDATE_DOCS=1\n"), format!(".\\\" /{name}\n"));
        let (before, rest) = page.split_once(&start).expect("the mark where the list starts");
        let (_, after) = rest.split_once(&stop).expect("the mark where the list ends");
        let (last, others) = lines.split_last().unwrap();
        format!("{before}{start}{} ,\nand\n{last}{end}\n{stop}{after}", others.join(" ,\n"))
    }

    /// The committed manual lists what the tables have. `UPDATE_DOCS=1` writes it.
    #[test]
    fn the_manual_lists_every_option_that_decides() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/criu-preflight.1");
        let old = std::fs::read_to_string(path).unwrap();
        let options: Vec<String> = deciding().map(|(name, option)| manual(name, option)).collect();
        let new = with_list(&old, "options", &options, " .");
        let new = with_list(&new, "keys", &keys().collect::<Vec<_>>(), "");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, &new).unwrap();
        }
        let now = std::fs::read_to_string(path).unwrap();
        assert!(now == new, "docs/criu-preflight.1 is not what the tables make: run `make docs`");
    }
}
