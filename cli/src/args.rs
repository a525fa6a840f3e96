//! The command line.

use crate::criu_options;
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
  --json                the whole report as JSON
  --trace RULE          instead of the report: each candidate of one rule, and why it is or is not a finding
of check only:
  --save FILE           save what the report is made of in a new file, for criu-preflight judge
  --anonymize           save it with other names of processes, files, sockets, ...

and the options that `criu dump` would be given, by their own names:
";

const USAGE_TAIL: &str = "\
All others of criu dump are taken and change nothing. Of a container, give
--external 'mnt[]:m' --external 'mnt[]:s' for the mounts that its runtime names
to CRIU by itself.

Exit status of both: 0 it can be dumped, 1 it cannot, 2 it could not be told, 3 it can be dumped,
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
    save: Option<PathBuf>,
    anonymize: bool,
    trace: Option<&'static Rule>,
    /// What is no option, and the value of `--tree`.
    values: Vec<OsString>,
}

/// Reads all that is left, and gives the host CRIU's options.
fn read(host: &mut Host, args: Vec<OsString>) -> Result<Given, String> {
    let mut given = Given::default();
    let mut parser = Parser::from_args(args);
    while let Some(arg) = parser.next().map_err(escape_error)? {
        match arg {
            Arg::Long("help") | Arg::Short('h') => given.help = true,
            Arg::Long("json") => given.json = true,
            Arg::Long("save") => given.save = Some(parser.value().map_err(escape_error)?.into()),
            Arg::Long("anonymize") => given.anonymize = true,
            Arg::Long("trace") => given.trace = Some(rule(&parser.value().map_err(escape_error)?)?),
            Arg::Long("criu") => judged_as(host, &parser.value().map_err(escape_error)?)?,
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
    // CRIU reads its configuration files before its command line, whatever stands where: so this line is read twice.
    let rest: Vec<OsString> = parser.raw_args().map_err(escape_error)?.collect();
    let mut host = crate::criu_config::start(&rest)?;
    let Given { help, json, save, anonymize, trace, values } = read(&mut host, rest)?;
    if help {
        return Ok(Command::Help);
    }
    let mut pid = None;
    values.iter().try_for_each(|value| set_pid(&mut pid, value))?;
    let pid = pid.ok_or("missing PID: criu-preflight check PID")?;
    if anonymize && save.is_none() {
        return Err("--anonymize wants --save FILE".into());
    }
    Ok(Command::Check(Box::new(Check { pid, json, host, save, anonymize, trace })))
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
fn judged_as(host: &mut Host, value: &OsStr) -> Result<(), String> {
    let release = value.as_bytes().first().is_some_and(u8::is_ascii_digit) && !value.as_bytes().contains(&b'/');
    let like = if release {
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
mod tests {
    use super::*;
    use criu_preflight::bytes::Bytes;
    use criu_preflight::criu::options::ignored::{Argument, IGNORED};
    use criu_preflight::criu::options::Takes;
    use criu_preflight::criu::{Caps, LockMethod, Options};

    /// The dump that `check 1 ARGS` describes, with no configuration file.
    fn host(args: &str) -> Host {
        let words = ["check", "1", "--no-default-config"].into_iter().chain(args.split_whitespace());
        match parse(words.map(OsString::from)) {
            Ok(Command::Check(check)) => check.host,
            Ok(_) => panic!("{args}: another command"),
            Err(why) => panic!("{args}: {why}"),
        }
    }

    fn wrong(args: &str) -> String {
        match parse(args.split_whitespace().map(OsString::from)) {
            Err(why) => why,
            Ok(_) => panic!("{args}: understood"),
        }
    }

    /// Each option alone changes its own field and no other.
    #[test]
    fn options_of_criu_one_to_one() {
        let yes = Some(true);
        let none = Options::none_given;
        let bytes = |list: &[&str]| Some(list.iter().map(|s| Bytes::from(*s)).collect::<Vec<_>>());
        for (args, options) in [
            ("", none()),
            ("--tcp-established", Options { tcp_established: yes, ..none() }),
            ("--tcp-close", Options { tcp_close: yes, ..none() }),
            ("--skip-in-flight", Options { skip_in_flight: yes, ..none() }),
            ("--ext-unix-sk", Options { ext_unix_sk: yes, ..none() }),
            ("-x", Options { ext_unix_sk: yes, ..none() }),
            ("--shell-job", Options { shell_job: yes, ..none() }),
            ("-j", Options { shell_job: yes, ..none() }),
            ("--file-locks", Options { file_locks: yes, ..none() }),
            ("-l", Options { file_locks: yes, ..none() }),
            ("-lj", Options { file_locks: yes, shell_job: yes, ..none() }),
            ("-l --no-file-locks", none()),
            ("--link-remap", Options { link_remap: yes, ..none() }),
            ("--ghost-limit 5", Options { ghost_limit: Some(5), ..none() }),
            ("--ghost-limit=2K", Options { ghost_limit: Some(2 << 10), ..none() }),
            ("--ghost-limit 3M", Options { ghost_limit: Some(3 << 20), ..none() }),
            ("--ghost-limit 1G", Options { ghost_limit: Some(1 << 30), ..none() }),
            ("--evasive-devices", Options { evasive_devices: yes, ..none() }),
            ("--force-irmap", Options { force_irmap: yes, ..none() }),
            ("--irmap-scan-path /a --irmap-scan-path /b", Options { irmap_scan_paths: bytes(&["/a", "/b"]), ..none() }),
            ("--external mnt[]", Options { autodetect_ext_mounts: yes, ..none() }),
            ("-M auto", Options { autodetect_ext_mounts: yes, ..none() }),
            ("--external mnt[]:m", Options { autodetect_ext_mounts: yes, enable_external_masters: yes, ..none() }),
            ("--external mnt[]:s", Options { autodetect_ext_mounts: yes, enable_external_sharing: yes, ..none() }),
            ("--enable-fs a,b --enable-fs c", Options { enable_fs: bytes(&["a,b", "c"]), ..none() }),
            ("--skip-mnt /a", Options { skip_mnt: bytes(&["/a"]), ..none() }),
            ("--enable-external-sharing", Options { enable_external_sharing: yes, ..none() }),
            ("--enable-external-masters", Options { enable_external_masters: yes, ..none() }),
            ("--allow-uprobes", Options { allow_uprobes: yes, ..none() }),
            ("--network-lock nftables", Options { network_lock: Some(LockMethod::Nftables), ..none() }),
            ("--network-lock skip", Options { network_lock: Some(LockMethod::Skip), ..none() }),
            ("--empty-ns net", Options { empty_ns: Some(0x4000_0000), ..none() }),
            ("--freeze-cgroup /a", Options { freeze_cgroup: Some(Some("/a".into())), ..none() }),
            (
                "--cgroup-dump-controller a --cgroup-dump-controller b,c",
                Options { dump_controllers: Some(bytes(&["a", "b,c"])), ..none() },
            ),
            ("--file-validation filesize", Options { validate_by_size: yes, ..none() }),
            ("--unprivileged", Options { unprivileged: yes, ..none() }),
            ("-D /img -W /w -o dump.log -v4 -R --leave-stopped -L /lib --track-mem --cpu-cap=none", none()),
            ("--manage-cgroups=full --lazy-pages --lsm-profile selinux:x --timeout 20", none()),
        ] {
            assert_eq!(host(args).options, options, "{args}");
        }
    }

    #[test]
    fn external_resources_as_criu_keeps_them() {
        let of = |args| host(args).externals.unwrap();
        assert_eq!(of("--external unix[7] --external dev[8/0]:a"), ["dev[8/0]:a".into(), Bytes::from("unix[7]")]);
        assert_eq!(of("-x5,6"), ["unix[6]".into(), Bytes::from("unix[5]")]);
        assert_eq!(of("--ext-unix-sk=5"), [Bytes::from("unix[5]")]);
        assert_eq!(of("-M /data:vol"), [Bytes::from("mnt[/data]:vol")]);
        assert_eq!(host("--inherit-fd fd[3]:tty[1:2]").inherit_ids, Some(vec!["tty[1:2]".into()]));
    }

    #[test]
    fn every_option_of_the_table_is_understood() {
        for (name, option) in criu_options::deciding() {
            let value = match name {
                "external" => "unix[1]",
                "ext-mount-map" => "auto",
                "inherit-fd" => "fd[1]:a",
                "network-lock" => "skip",
                "empty-ns" => "net",
                "file-validation" => "buildid",
                _ => "1",
            };
            let before = host("");
            let after = if matches!(option.takes, Takes::Value(..)) {
                assert_eq!(wrong(&format!("check 1 --{name}")), format!("--{name}: it wants a value"));
                host(&format!("--{name} {value}"))
            } else {
                host(&format!("--{name}"))
            };
            // What decides changes what is judged by, except for the value that is the default.
            assert!(after != before || value == "buildid", "--{name}");
        }
        for option in IGNORED {
            let after = match option.argument {
                Argument::Required => {
                    let lacking = format!("--{}: it wants a value", option.name);
                    assert_eq!(wrong(&format!("check 1 --{}", option.name)), lacking);
                    host(&format!("--{} 1", option.name))
                }
                Argument::None | Argument::Optional => host(&format!("--{}", option.name)),
            };
            assert_eq!(after, host(""), "--{}", option.name);
        }
    }

    #[test]
    fn judged_as_a_release() {
        assert_eq!(host("").release, Release::NEWEST);
        let old = host("--criu 3.17.1 --tcp-close");
        assert_eq!((old.release, old.caps), (Release::V3_17, Caps::of(Release::V3_17)));
        assert_eq!(old.options.tcp_close, Some(true));
        // The builds of newer ones differ in their default.
        assert_eq!((old.options.network_lock, host("").options.network_lock), (Some(LockMethod::Iptables), None));
        assert_eq!(host("--network-lock skip --criu 3.17").options.network_lock, Some(LockMethod::Skip));
        assert_eq!(
            wrong("check 1 --criu 5.0"),
            "CRIU 5.0 is not known here: 3.17, 3.18, 3.19, 4.0, 4.1, 4.2 and 4.3 are"
        );
        assert!(wrong("check 1 --criu ./none").starts_with("--criu ./none: No such file"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (args, says) in [
            ("", "no command given. See criu-preflight --help"),
            ("chekc", "there is no command 'chekc'. See criu-preflight --help"),
            ("check", "missing PID: criu-preflight check PID"),
            ("check x", "'x' is not a pid"),
            ("check 0", "'0' is not a pid"),
            ("check -- -1", "'-1' is not a pid"),
            ("check 1 2", "one tree at a time, not 1 and 2"),
            ("check 1 --no", "there is no option --no. See criu-preflight --help"),
            ("check 1 --no-network-lock", "there is no option --no-network-lock. See criu-preflight --help"),
            ("check 1 -q", "there is no option -q. See criu-preflight --help"),
            ("check 1 --tcp\u{1b}", "there is no option --tcp\\x1b. See criu-preflight --help"),
            ("check 1 --ghost-limit x", "--ghost-limit: 'x' is not a size (1048576, 1024K, 1M)"),
            ("check 1 --network-lock x", "--network-lock: 'x' is not iptables, nftables or skip"),
            ("check 1 -x5x", "--ext-unix-sk: '5x' is not the inode of a socket"),
            ("check 1 --external mnt[]:x", "--external: 'mnt[]:x': after 'mnt[]:' comes m or s"),
            ("judge", "missing FILE: criu-preflight judge FILE"),
            ("judge a b", "what is 'b' for? See criu-preflight --help"),
            ("judge a --save b", "--save is an option of check"),
            ("judge a --anonymize", "--anonymize is an option of check"),
            ("check 1 --anonymize", "--anonymize wants --save FILE"),
            ("judge a --ghost-limit x", "--ghost-limit: 'x' is not a size (1048576, 1024K, 1M)"),
            ("explain", "which rule? criu-preflight explain RULE|TEXT"),
            ("explain a b", "what is 'b' for? See criu-preflight --help"),
            ("rules --all", "there is no option --all. See criu-preflight --help"),
        ] {
            assert_eq!(wrong(args), says, "{args}");
        }
    }

    #[test]
    fn the_help_lists_every_option_that_decides() {
        let usage = usage();
        for (name, option) in criu_options::deciding() {
            assert!(usage.contains(&criu_options::usage(name, option)), "{name}");
        }
        assert!(usage.lines().all(|line| line.len() <= 108), "{usage}");
    }
}
