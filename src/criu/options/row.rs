//! What the rows of [`super::table`] are made of.

use super::c_api::criu_preflight_options;
use super::Options;
use crate::bytes::Bytes;
use crate::criu::{Cap, Host};
use std::ffi::c_char;

/// One of CRIU's options, wherever it is named.
pub struct CriuOption {
    /// It is a boolean one, and this is its state in [`Options`].
    pub opt: Option<super::Opt>,
    /// As it is written on criu's command line and in its configuration files, without the dashes. `None`: RPC only.
    pub name: Option<&'static str>,
    pub letter: Option<char>,
    pub takes: Takes,
    /// The field of `criu_opts` (images/rpc.proto of CRIU 4.2). `None`: the request has none.
    pub rpc_field: Option<&'static str>,
    /// What a CRIU without the option lacks. `None`: each release that is known has it.
    pub since: Option<Cap>,
    pub(in crate::criu) kept: Kept,
    pub(crate) from_c: Option<FromC>,
    /// For hints; none where no rule names it as a remedy.
    pub notes: &'static [Note],
}

/// What comes with giving an option. CRIU's manual and sources say so; what a restore of CRIU 4.3 refuses without, it was seen to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// With this value alone; empty: with any.
    pub value: &'static str,
    pub costs: &'static str,
    /// What the restore then needs.
    pub restore: &'static str,
}

pub(in crate::criu) const fn note(costs: &'static str, restore: &'static str) -> Note {
    note_of("", costs, restore)
}

pub(super) const fn note_of(value: &'static str, costs: &'static str, restore: &'static str) -> Note {
    Note { value, costs, restore }
}

/// How an option stands on a command line.
#[derive(Clone, Copy)]
pub enum Takes {
    /// `--NAME` and `--no-NAME`.
    Switch,
    /// `--NAME VALUE`: what the value is called, and what takes it.
    Value(&'static str, fn(&mut Host, &[u8]) -> Result<(), String>),
    /// `--NAME` or `--NAME=VALUE`, never `--NAME VALUE`.
    Optional(&'static str, fn(&mut Host, Option<&[u8]>) -> Result<(), String>),
    /// RPC only, or written as the value of another option.
    NotWritten,
}

/// Where CRIU keeps it.
pub(in crate::criu) enum Kept {
    Member(Member),
    /// Where no symbol leads: it is read where CRIU has read it itself ([`crate::criu::cmdline`]).
    CommandLine {
        /// Copies it.
        copy: fn(&Options, &mut Options),
    },
    /// [`crate::criu::gather`] asks CRIU for it.
    Asked,
}

/// A member of `struct cr_options` (criu/include/cr_options.h).
pub(in crate::criu) struct Member {
    pub name: &'static str,
    /// Its offset from that layout on.
    pub places: &'static [(Layout, usize)],
    /// Reads it at an address. `None`: what is there is no value of it.
    pub read: fn(usize, &mut Options) -> Option<()>,
    /// A CRIU without the option behaves as one whose option is not given.
    pub absent: fn(&mut Options),
}

impl Member {
    /// Its offset in this layout. `None`: the release has no such option.
    pub(crate) fn place(&self, layout: Layout) -> Option<usize> {
        self.places.iter().rev().find(|(since, _)| *since <= layout).map(|(_, offset)| *offset)
    }
}

/// The layouts that `struct cr_options` has had, each named by the first release that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::criu) enum Layout {
    V3_17,
    V3_18,
    V4_2,
    V4_3,
}

/// The text a member of the C struct points to; `None`: NULL.
pub(crate) type TextOf<'a> = &'a dyn Fn(*const c_char) -> Option<Bytes>;

/// Takes the option from the struct of the C functions.
pub(crate) type FromC = fn(&criu_preflight_options, TextOf, &mut Options);

impl CriuOption {
    /// An option of which nothing is known, for those whose rows are written by hand.
    pub(super) const BLANK: CriuOption = CriuOption {
        opt: None,
        name: None,
        letter: None,
        takes: Takes::NotWritten,
        rpc_field: None,
        since: None,
        kept: Kept::Asked,
        from_c: None,
        notes: &[],
    };

    /// What comes with giving it, with this value if it has one.
    pub(crate) fn note(&self, value: &str) -> Option<Note> {
        self.notes.iter().copied().find(|note| note.value.is_empty() || note.value == value)
    }

    pub(in crate::criu) fn member(&self) -> Option<&Member> {
        match &self.kept {
            Kept::Member(member) => Some(member),
            Kept::CommandLine { .. } | Kept::Asked => None,
        }
    }

    /// Whether this CRIU has the option.
    pub(crate) fn is_known_to(&self, host: &Host) -> bool {
        self.since.is_none_or(|cap| host.has(cap))
    }
}

/// The table: makes [`Options`], [`Opt`](super::Opt) and [`OPTIONS`](super::table::OPTIONS) of its rows. A row is
///
/// ```text
/// (VARIANT) FIELD: TYPE = what holds when it is not given => {
///     name: "NAME", letter: 'N',           as it is written; absent: RPC only
///     takes: [switch],                     or ["PLACEHOLDER" parser of the field]
///                                          or [optional "PLACEHOLDER" parser of the host] or [nothing]
///     rpc_field: "FIELD",                  of criu_opts; absent: none
///     since: CAP,                          absent: each release has it
///     kept: [READER "MEMBER" LAYOUT = OFFSET, ...],     or [command_line] or [asked]
///     c_api: [flag],                       the byte of the same name in the C struct
///                                          or [|c, text| Option<TYPE>]; absent: it is not in there
///     notes: [NOTE, ...],                  absent: no rule names it as a remedy
/// }
/// ```
///
/// with a variant for boolean options alone.
macro_rules! options {
    ($(
        $(#[$meta:meta])*
        $(($opt:ident))? $field:ident: $type:ty = $default:expr => {
            $(name: $name:literal,)?
            $(letter: $letter:literal,)?
            takes: [$($takes:tt)*],
            $(rpc_field: $rpc_field:literal,)?
            $(since: $since:expr,)?
            kept: [$($kept:tt)*],
            $(c_api: [$($c_api:tt)*],)?
            $(notes: [$($note:expr),* $(,)?],)?
        }
    )*) => {
        /// The state of each option. `None`: not known.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        pub struct Options {
            $($(#[$meta])* pub $field: Option<$type>,)*
        }

        /// A boolean option.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Opt {
            $($($opt,)?)*
        }

        impl Options {
            /// What holds when `criu dump` is given no option at all (`init_opts`, criu/config.c).
            pub fn none_given() -> Self {
                Options { $($field: $default,)* }
            }

            /// The state of a boolean option.
            pub(crate) fn flag(&self, opt: Opt) -> Option<bool> {
                match opt {
                    $($(Opt::$opt => self.$field,)?)*
                }
            }

            pub fn flag_mut(&mut self, opt: Opt) -> &mut Option<bool> {
                match opt {
                    $($(Opt::$opt => &mut self.$field,)?)*
                }
            }
        }

        /// Those that decide what CRIU refuses, in the order in which documents list them.
        pub const OPTIONS: &[CriuOption] = &[$(CriuOption {
            opt: optional!($(Opt::$opt)?),
            name: optional!($($name)?),
            letter: optional!($($letter)?),
            takes: takes!($field $($takes)*),
            rpc_field: optional!($($rpc_field)?),
            since: optional!($($since)?),
            kept: kept!($field, $default, $($kept)*),
            from_c: optional!($(from_c!($field, $type, $($c_api)*))?),
            notes: &[$($($note),*)?],
        },)*];
    };
}

macro_rules! optional {
    () => { None };
    ($($value:tt)+) => { Some($($value)+) };
}

macro_rules! takes {
    ($field:ident switch) => {
        Takes::Switch
    };
    ($field:ident nothing) => {
        Takes::NotWritten
    };
    ($field:ident optional $what:literal $parse:path) => {
        Takes::Optional($what, $parse)
    };
    ($field:ident $what:literal $parse:path) => {
        Takes::Value($what, |host, text| $parse(&mut host.options.$field, text))
    };
}

macro_rules! kept {
    ($field:ident, $default:expr, asked) => { Kept::Asked };
    ($field:ident, $default:expr, command_line) => {
        Kept::CommandLine { copy: |from, to| to.$field.clone_from(&from.$field) }
    };
    ($field:ident, $default:expr, $($read:ident)::+ $name:literal $($layout:ident = $offset:literal),+) => {
        Kept::Member(Member {
            name: $name,
            places: &[$((Layout::$layout, $offset)),+],
            read: |at, options| {
                options.$field = Some($($read)::+(at)?);
                Some(())
            },
            absent: |options| options.$field = $default,
        })
    };
}

macro_rules! from_c {
    ($field:ident, $type:ty, flag) => {
        |given, _, options| options.$field = Some(given.$field != 0)
    };
    ($field:ident, $type:ty, |$given:ident, $text:ident| $value:expr) => {
        |$given, $text, options| {
            let value: Option<$type> = $value;
            if value.is_some() {
                options.$field = value;
            }
        }
    };
}
