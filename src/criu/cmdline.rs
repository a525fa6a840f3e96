//! Options that CRIU keeps where no symbol leads (`--enable-fs`, `--skip-mnt`: static lists of criu/filesystems.c and
//! criu/mount.c), read where CRIU itself has read them: its configuration files and its command line.
//!
//! A request over a socket can carry them too, and that is gone: then they are known only for the runtimes that never send
//! them.

use crate::config;
use crate::criu::config_files::{self, ConfigFiles};
use crate::criu::options::{self, Kept, Options, Takes, OPTIONS};
use crate::criu::{Host, Release, Runtime};
use crate::scan::sys;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The options that are read so.
#[derive(Debug, PartialEq)]
pub(crate) struct Found(Options);

/// Reads them. `None`: this process has no command line of CRIU's to show, or one of its files cannot be found from here.
pub(crate) fn read() -> Option<Found> {
    of(&sys::read_file(Path::new("/proc/self/cmdline")).ok()?)
}

fn of(cmdline: &[u8]) -> Option<Found> {
    let args: Vec<&[u8]> = cmdline.strip_suffix(&[0]).unwrap_or(cmdline).split(|b| *b == 0).collect();
    // RPC and service replace it by a title.
    if !args.iter().any(|a| matches!(*a, b"dump" | b"pre-dump")) {
        return None;
    }
    let mut given = Given::new();
    let ConfigFiles { usual, named } = config_files::of(&args)?;
    given.in_files(usual.into_iter().chain(named))?;
    given.in_args(&args)?;
    Some(given.found())
}

/// The same for a CRIU that was asked over a socket, by a runtime whose requests have neither `enable_fs` nor `skip_mnt`.
/// `config`: the file that the request names.
pub(crate) fn read_rpc(runtime: Runtime, config: Option<&[u8]>) -> Option<Found> {
    use Runtime::{Containerd, ContainerdCrun, Crio, CrioCrun, Crun, PodmanCrun, PodmanRunc, Runc, Youki};
    let is_known = matches!(
        runtime,
        Runc | Crun | Containerd | ContainerdCrun | Crio | CrioCrun | PodmanCrun | PodmanRunc | Youki
    );
    if !is_known {
        return None;
    }
    // `criu swrk FD` has no options, so its own files are the usual ones.
    let usual = config_files::of(&[] as &[&[u8]])?.usual;
    let named = config.map(|c| PathBuf::from(std::ffi::OsStr::from_bytes(c)));
    let mut given = Given::new();
    given.in_files(usual.into_iter().chain(named))?;
    Some(given.found())
}

impl Found {
    pub(crate) fn copy_to(&self, options: &mut Options) {
        for option in OPTIONS {
            if let Kept::CommandLine { copy } = option.kept {
                copy(&self.0, options);
            }
        }
    }
}

/// What is given, of these options alone.
struct Given(Host);

impl Given {
    fn new() -> Self {
        Given(Host::dry_run(Release::NEWEST))
    }

    fn found(self) -> Found {
        let found = Found(self.0.options);
        let mut these = Options::default();
        found.copy_to(&mut these);
        Found(these)
    }

    fn in_files(&mut self, files: impl Iterator<Item = PathBuf>) -> Option<()> {
        for file in files.filter(|f| !f.as_os_str().is_empty()) {
            // CRIU has left the directory in which it was started.
            let text = file.is_absolute().then(|| config_files::read(&file).ok())??;
            self.in_file(&text.unwrap_or_default())?;
        }
        Some(())
    }

    fn in_file(&mut self, text: &[u8]) -> Option<()> {
        for line in text.split(|b| *b == b'\n') {
            // A line that CRIU does not understand would have ended it.
            let Ok(Ok(Some((name, value)))) = std::str::from_utf8(line).map(config::statement) else { continue };
            if let Some(set) = option(name.as_bytes()) {
                self.set(set, value?.as_bytes());
            }
        }
        Some(())
    }

    fn in_args(&mut self, args: &[&[u8]]) -> Option<()> {
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            let Some(long) = arg.strip_prefix(b"--") else { continue };
            let mut parts = long.splitn(2, |b| *b == b'=');
            let (name, value) = (parts.next()?, parts.next());
            if let Some(set) = option(name) {
                let value = match value {
                    Some(value) => value,
                    None => *rest.next()?,
                };
                self.set(set, value);
            }
        }
        Some(())
    }

    /// With a value that CRIU does not understand it would have ended.
    fn set(&mut self, set: Set, value: &[u8]) {
        let _ = set(&mut self.0, value);
    }
}

type Set = fn(&mut Host, &[u8]) -> Result<(), String>;

/// What takes the value of the option that getopt_long finds for a name, if it is one of these.
fn option(name: &[u8]) -> Option<Set> {
    let option = options::abbreviated(std::str::from_utf8(name).ok()?)?;
    match (&option.kept, option.takes) {
        (Kept::CommandLine { .. }, Takes::Value(_, set)) => Some(set),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::Bytes;

    fn list(items: &[&str]) -> Option<Vec<Bytes>> {
        Some(items.iter().map(|i| Bytes::from(*i)).collect())
    }

    #[test]
    fn every_spelling_of_the_command_line_and_no_other_option() {
        let args: [&[u8]; 12] = [
            b"criu",
            b"dump",
            b"--enable-fs",
            b"hugetlbfs,nfs",
            b"--enable-f=all",
            b"--skip-mnt=/a",
            b"--skip-m",
            b"/b",
            b"--enable-external-sharing",
            b"--skip-in-flight",
            b"--enable-e",
            b"x",
        ];
        let mut given = Given::new();
        given.in_args(&args).unwrap();
        assert_eq!(given.in_args(&[b"--enable-fs"]), None);
        let found = given.found().0;
        assert_eq!(found.enable_fs, list(&["hugetlbfs,nfs", "all"]));
        assert_eq!(found.skip_mnt, list(&["/a", "/b"]));
        // What CRIU's memory has is not known by them.
        assert_eq!((found.skip_in_flight, found.ghost_limit, found.irmap_scan_paths), (None, None, None));
    }

    #[test]
    fn the_files_of_criu() {
        let mut given = Given::new();
        given.in_file(b"# x\ntcp-close\nenable-fs \"nfs\"\nskip-mnt /a b\nskip-mnt=/c # d\n").unwrap();
        let found = given.found().0;
        assert_eq!((found.enable_fs, found.skip_mnt), (list(&["nfs"]), list(&["/c"])));
        assert_eq!(of(b"criu\0dump\0--config\0here.conf\0"), None);
    }

    #[test]
    fn a_runtime_that_never_sends_them_is_known_by_its_file() {
        let dir = std::env::temp_dir().join(format!("preflight-rpc-config-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let conf = dir.join("runc.conf");
        std::fs::write(&conf, "tcp-established\nenable-fs squashfs\n").unwrap();
        let conf = conf.as_os_str().as_bytes();
        let found = read_rpc(Runtime::Runc, Some(conf)).unwrap();
        assert!(found.0.enable_fs.unwrap().contains(&"squashfs".into()));
        let none = read_rpc(Runtime::PodmanCrun, None).unwrap();
        assert!(!none.0.enable_fs.unwrap().contains(&"squashfs".into()));
        assert_eq!(read_rpc(Runtime::Crun, Some(b"here.conf")), None);
        assert_eq!(read_rpc(Runtime::Rpc, Some(conf)), None);
        assert_eq!(read_rpc(Runtime::Runc, Some(b"/no/such/file")), read_rpc(Runtime::Runc, None));
        // CRIU may have read more of it than is read here.
        std::fs::write(dir.join("runc.conf"), vec![b'#'; 100_000]).unwrap();
        assert_eq!(read_rpc(Runtime::Runc, Some(conf)), None);
        assert_eq!(read_rpc(Runtime::Runc, Some(dir.as_os_str().as_bytes())), None);
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn a_title_is_no_command_line() {
        assert_eq!(of(b"criu: dump --rpc -t 77\0"), None);
        assert_eq!(of(b""), None);
        let given = of(b"criu\0dump\0--no-default-config\0--skip-mnt\0/x\0").unwrap();
        assert_eq!(given.0.skip_mnt, list(&["/x"]));
    }
}
