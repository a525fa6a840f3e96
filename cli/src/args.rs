//! The command line.

use crate::container;
use crate::criu_options;
use crate::driver;
use crate::file_caps::{self, FileCaps};
use criu_preflight::bytes::escape;
use criu_preflight::criu::{Host, Release};
use criu_preflight::rules::{registry, Rule};
use lexopt::{Arg, Parser};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// What is asked for.
pub enum Command {
    Check(Box<Check>),
    Judge(Judge),
    Explain(String),
    Rules { json: bool },
    Version,
    Help,
}

/// `criu-preflight check`.
pub struct Check {
    pub pid: i32,
    pub json: bool,
    /// The CRIU to be judged as, with the options that its dump would be given.
    pub host: Host,
    /// The runtime as which it is judged, if no `--as` says another: that of the container.
    pub detected: Option<&'static str>,
    /// What its executable gives the process that runs it.
    pub file_caps: Option<FileCaps>,
    /// Where to save what was seen, and whether with other names.
    pub save: Option<PathBuf>,
    pub anonymize: bool,
    /// Not the report, but how this rule came to its findings.
    pub trace: Option<&'static Rule>,
}

/// `criu-preflight judge`.
pub struct Judge {
    pub file: PathBuf,
    pub json: bool,
    /// As of [`Check`].
    pub trace: Option<&'static Rule>,
    /// The options of CRIU, for [`Judge::apply`]: what they change is in the file.
    options: Vec<OsString>,
}

impl Judge {
    /// Gives the saved host the options of this command line.
    pub fn apply(&self, host: &mut Host) -> Result<(), String> {
        crate::criu_config::apply_named(host, &self.options)?;
        read(host, self.options.clone()).map(drop)
    }
}

/// The help: how each command is called.
pub fn usage() -> String {
    let options: Vec<String> =
        criu_options::deciding().map(|(name, option)| criu_options::usage(name, option)).collect();
    let options = options.iter().map(String::as_str).chain(["--config FILE", "--no-default-config"]);
    [USAGE_HEAD, &wrapped(options), USAGE_TAIL].concat()
}

/// In lines that fit into a terminal, indented.
fn wrapped<'a>(words: impl Iterator<Item = &'a str>) -> String {
    const WIDTH: usize = 79;
    let mut out = String::new();
    let mut line = String::from(" ");
    for word in words {
        if line.len() + 1 + word.len() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = String::from(" ");
        }
        line.push(' ');
        line.push_str(word);
    }
    out + &line + "\n"
}

const USAGE_HEAD: &str = "\
criu-preflight names everything in a process tree that CRIU could not dump

  criu-preflight check PID [OPTION...]   look at the running process and its descendants
  criu-preflight judge FILE [OPTION...]  the report of a check that was saved
  criu-preflight explain RULE|TEXT       what a rule means, or an error of CRIU: a line of its log
  criu-preflight rules [--json]          all rules

Options of check and judge:
  --criu PATH|VERSION   judge as this CRIU, a binary or a release (default: the newest known, 4.3)
  --as RUNTIME          give what this runtime gives CRIU by itself: criu (nothing), runc, crun, docker,
                        containerd, cri-o, podman, podman-runc, lxc (default of check: the one whose
                        container it is)
  --json                the whole report as JSON
  --trace RULE          instead of the report: each candidate of one rule, and why it is or is not a finding
of check only:
  --save FILE           save what the report is made of in a new file, for criu-preflight judge
  --anonymize           save it with other names of processes, files, sockets, ...

and the options that `criu dump` would be given, by their own names:
";

const USAGE_TAIL: &str = "\
All others of criu dump are taken and change nothing. A container
is judged as the program that runs it would checkpoint it, unless --as says another.

Exit status of both: 0 it can be dumped, 1 it cannot, 2 it is not known, 3 it can be dumped,
but that dump cannot be restored.
";

/// Reads the arguments, the program's name not among them.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, String> {
    let mut parser = Parser::from_args(args);
    let command = match parser.next().map_err(escape_error)? {
        None => return Err("no command given. See criu-preflight --help".into()),
        Some(Arg::Long("help") | Arg::Short('h')) => return Ok(Command::Help),
        Some(Arg::Long("version") | Arg::Short('V')) => return Ok(Command::Version),
        Some(Arg::Value(word)) => word,
        Some(other) => return Err(unknown(&other)),
    };
    match command.as_bytes() {
        b"check" => check(&mut parser),
        b"judge" => judge(&mut parser),
        b"explain" => explain(&mut parser),
        b"rules" => rules(&mut parser),
        b"help" => Ok(Command::Help),
        _ => Err(format!("there is no command '{}'. See criu-preflight --help", display(&command))),
    }
}

/// The options of check and judge besides CRIU's own.
#[derive(Default)]
struct Given {
    help: bool,
    json: bool,
    driver: Option<OsString>,
    save: Option<PathBuf>,
    anonymize: bool,
    trace: Option<&'static Rule>,
    file_caps: Option<FileCaps>,
    /// What is no option, and the value of `--tree`.
    values: Vec<OsString>,
}

/// Reads all that is left, and gives the host CRIU's options: those of a runtime first, for what its user types comes after it.
fn read(host: &mut Host, args: Vec<OsString>) -> Result<Given, String> {
    if let Some(runtime) = walk(&mut host.clone(), args.clone())?.driver {
        driver::apply(host, &runtime)?;
    }
    walk(host, args)
}

fn walk(host: &mut Host, args: Vec<OsString>) -> Result<Given, String> {
    let mut given = Given::default();
    let mut parser = Parser::from_args(args);
    while let Some(arg) = parser.next().map_err(escape_error)? {
        match arg {
            Arg::Long("help") | Arg::Short('h') => given.help = true,
            Arg::Long("json") => given.json = true,
            Arg::Long("save") => given.save = Some(parser.value().map_err(escape_error)?.into()),
            Arg::Long("anonymize") => given.anonymize = true,
            Arg::Long("trace") => given.trace = Some(rule(&parser.value().map_err(escape_error)?)?),
            Arg::Long("criu") => {
                let criu = parser.value().map_err(escape_error)?;
                judged_as(host, &criu)?;
                given.file_caps = if is_release(&criu) { None } else { file_caps::of(criu.as_ref()) };
            }
            Arg::Long("as") => given.driver = Some(parser.value().map_err(escape_error)?),
            Arg::Long("config") => drop(parser.value().map_err(escape_error)?),
            Arg::Long("no-default-config") => {}
            Arg::Long("tree") | Arg::Short('t') => given.values.push(parser.value().map_err(escape_error)?),
            Arg::Value(value) => given.values.push(value),
            other => match criu_options::find(&other) {
                Some((option, on)) => option.apply(host, on, &mut parser)?,
                None => return Err(unknown(&other)),
            },
        }
    }
    Ok(given)
}

fn check(parser: &mut Parser) -> Result<Command, String> {
    // CRIU reads its configuration files before its command line, in whatever order: so this line is read twice.
    let rest: Vec<OsString> = parser.raw_args().map_err(escape_error)?.collect();
    let start = crate::criu_config::start(&rest)?;
    let mut host = start.clone();
    let Given { help, json, driver, save, anonymize, trace, file_caps, values } = read(&mut host, rest.clone())?;
    if help {
        return Ok(Command::Help);
    }
    let mut pid = None;
    values.iter().try_for_each(|value| set_pid(&mut pid, value))?;
    let pid = pid.ok_or("missing PID: criu-preflight check PID")?;
    let detected = if driver.is_some() { None } else { container::runtime_of(pid) };
    if let Some(runtime) = detected {
        // What its user types comes after what the runtime gives.
        host = start;
        driver::apply(&mut host, OsStr::new(runtime))?;
        read(&mut host, rest)?;
    }
    if anonymize && save.is_none() {
        return Err("--anonymize wants --save FILE".into());
    }
    Ok(Command::Check(Box::new(Check { pid, json, host, detected, file_caps, save, anonymize, trace })))
}

fn judge(parser: &mut Parser) -> Result<Command, String> {
    let options: Vec<OsString> = parser.raw_args().map_err(escape_error)?.collect();
    let given = read(&mut Host::dry_run(Release::NEWEST), options.clone())?;
    if given.help {
        return Ok(Command::Help);
    }
    for (name, given) in [("save", given.save.is_some()), ("anonymize", given.anonymize)] {
        if given {
            return Err(format!("--{name} is an option of check"));
        }
    }
    match given.values.as_slice() {
        [file] => Ok(Command::Judge(Judge { file: file.into(), json: given.json, trace: given.trace, options })),
        [] => Err("missing FILE: criu-preflight judge FILE".into()),
        [_, other, ..] => Err(unknown(&Arg::Value(other.clone()))),
    }
}

/// The rule with this id.
fn rule(id: &OsStr) -> Result<&'static Rule, String> {
    let known = id.to_str().and_then(registry::by_id);
    known.ok_or_else(|| format!("there is no rule '{}': criu-preflight rules lists them", display(id)))
}

fn set_pid(pid: &mut Option<i32>, value: &OsStr) -> Result<(), String> {
    let number = value.to_str().and_then(|v| v.parse().ok()).filter(|n| *n > 0);
    match (number, *pid) {
        (None, _) => Err(format!("'{}' is not a pid", display(value))),
        (Some(new), Some(old)) if new != old => Err(format!("one tree at a time, not {old} and {new}")),
        (number, _) => {
            *pid = number;
            Ok(())
        }
    }
}

/// A release begins with a digit; anything else is a file.
fn is_release(value: &OsStr) -> bool {
    value.as_bytes().first().is_some_and(u8::is_ascii_digit) && !value.as_bytes().contains(&b'/')
}

fn judged_as(host: &mut Host, value: &OsStr) -> Result<(), String> {
    let like = if is_release(value) {
        let known = Release::by_name(value.as_bytes());
        Host::dry_run(
            known.ok_or_else(|| format!("CRIU {} is not known here: {} are", display(value), Release::names()))?,
        )
    } else {
        let (caps, release) =
            crate::elf::identify(value.as_ref()).map_err(|why| format!("--criu {}: {why}", display(value)))?;
        Host { caps, ..Host::dry_run(release) }
    };
    host.release = like.release;
    host.caps = like.caps;
    host.options.network_lock = host.options.network_lock.or(like.options.network_lock);
    Ok(())
}

fn explain(parser: &mut Parser) -> Result<Command, String> {
    let mut rule = None;
    while let Some(arg) = parser.next().map_err(escape_error)? {
        match arg {
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            Arg::Value(value) if rule.is_none() => rule = Some(value.to_string_lossy().into_owned()),
            other => return Err(unknown(&other)),
        }
    }
    rule.map(Command::Explain).ok_or_else(|| "which rule? criu-preflight explain RULE|TEXT".into())
}

fn rules(parser: &mut Parser) -> Result<Command, String> {
    let mut json = false;
    while let Some(arg) = parser.next().map_err(escape_error)? {
        match arg {
            Arg::Long("help") | Arg::Short('h') => return Ok(Command::Help),
            Arg::Long("json") => json = true,
            other => return Err(unknown(&other)),
        }
    }
    Ok(Command::Rules { json })
}

fn unknown(arg: &Arg) -> String {
    match arg {
        Arg::Short(letter) => {
            format!("there is no option -{}. See criu-preflight --help", escape(letter.to_string().as_bytes()))
        }
        Arg::Long(name) => format!("there is no option --{}. See criu-preflight --help", escape(name.as_bytes())),
        Arg::Value(value) => format!("what is '{}' for? See criu-preflight --help", display(value)),
    }
}

/// The parser's own complaint, without whatever the terminal could make of an argument.
pub fn escape_error(e: lexopt::Error) -> String {
    escape(e.to_string().as_bytes())
}

fn display(value: &OsStr) -> String {
    escape(value.as_bytes())
}

#[cfg(test)]
#[path = "args_tests.rs"]
mod tests;
