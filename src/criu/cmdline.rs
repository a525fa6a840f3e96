//! Options that CRIU keeps where no symbol leads (`--enable-fs`, `--skip-mnt`: static lists of criu/filesystems.c and
//! criu/mount.c), read where CRIU itself has read them: its configuration files and its command line.
//!
//! A request over a socket can carry them too, and that is gone: then they are known only for the runtimes that never send
//! them.

use crate::bytes::Bytes;
use crate::config;
use crate::criu::{settings, Runtime};
use crate::scan::sys;
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The values given for both options, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub enable_fs: Vec<Bytes>,
    pub skip_mnt: Vec<Bytes>,
}

/// Shortest spellings that getopt_long takes for them beside CRIU's other options (`enable-external-...`,
/// `skip-in-flight`, `skip-file-rwx-check`).
const ENABLE_FS: (&[u8], usize) = (b"enable-fs", "enable-f".len());
const SKIP_MNT: (&[u8], usize) = (b"skip-mnt", "skip-m".len());

/// Reads them. `None`: this process has no command line of CRIU's to show, or one of its files cannot be found from here.
pub fn read() -> Option<Found> {
    of(&sys::read_file(Path::new("/proc/self/cmdline")).ok()?)
}

fn of(cmdline: &[u8]) -> Option<Found> {
    let args: Vec<&[u8]> = cmdline.strip_suffix(&[0]).unwrap_or(cmdline).split(|b| *b == 0).collect();
    // RPC and service replace it by a title.
    if !args.iter().any(|a| matches!(*a, b"dump" | b"pre-dump")) {
        return None;
    }
    let mut found = Found::default();
    found.in_files(&files(&args)?)?;
    found.in_args(&args)?;
    Some(found)
}

/// The same for a CRIU that was asked over a socket, by a runtime whose requests have neither `enable_fs` nor `skip_mnt`.
/// `config`: the file that the request names.
pub fn read_rpc(runtime: Runtime, config: Option<&[u8]>) -> Option<Found> {
    use Runtime::{Containerd, Crun, PodmanCrun, PodmanRunc, Runc, Youki};
    if !matches!(runtime, Runc | Crun | Containerd | PodmanCrun | PodmanRunc | Youki) {
        return None;
    }
    // `criu swrk FD` has no options, so its own files are the usual ones.
    let mut files = files(&[])?;
    let named = config.map(|c| PathBuf::from(std::ffi::OsString::from_vec(c.to_vec())));
    files.extend(named);
    files.retain(|f| !f.as_os_str().is_empty());
    let mut found = Found::default();
    files.iter().all(|f| f.is_absolute()).then_some(())?;
    found.in_files(&files)?;
    Some(found)
}

/// The files in CRIU's order (next_config, criu/config.c).
fn files(args: &[&[u8]]) -> Option<Vec<PathBuf>> {
    let mut named = None;
    let mut defaults = true;
    for (i, arg) in args.iter().enumerate() {
        let value = match arg.strip_prefix(b"--config") {
            Some([]) => Some(*args.get(i.checked_add(1)?)?),
            Some([b'=', value @ ..]) => Some(value),
            _ => None,
        };
        if value.is_some() || *arg == b"--no-default-config" {
            defaults = false;
        }
        named = value.or(named);
    }
    let mut out = Vec::new();
    if defaults {
        out.push(PathBuf::from("/etc/criu/default.conf"));
        if let Some(home) = std::env::var_os("HOME") {
            out.push(Path::new(&home).join(".criu/default.conf"));
        }
    }
    out.extend(std::env::var_os("CRIU_CONFIG_FILE").map(PathBuf::from));
    out.extend(named.map(|n| PathBuf::from(std::ffi::OsString::from_vec(n.to_vec()))));
    // CRIU has left the directory in which it was started.
    out.iter().all(|p| p.is_absolute() || p.as_os_str().as_bytes().is_empty()).then_some(out)
}

impl Found {
    fn in_files(&mut self, files: &[PathBuf]) -> Option<()> {
        for file in files {
            match settings::read_file(file) {
                Ok(text) => self.in_file(&text)?,
                // What CRIU cannot open it does without (parse_config, criu/config.c).
                Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                Err(_) => return None,
            }
        }
        Some(())
    }

    fn in_file(&mut self, text: &[u8]) -> Option<()> {
        for line in text.split(|b| *b == b'\n') {
            // A line that CRIU does not understand would have ended it.
            let Ok(Ok(Some((name, value)))) = std::str::from_utf8(line).map(config::statement) else { continue };
            if let Some(list) = self.list(name.as_bytes()) {
                list.push(value?.as_str().into());
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
            if let Some(list) = self.list(name) {
                list.push(Bytes::from(match value {
                    Some(value) => value,
                    None => *rest.next()?,
                }));
            }
        }
        Some(())
    }

    fn list(&mut self, name: &[u8]) -> Option<&mut Vec<Bytes>> {
        let is = |(full, least): (&[u8], usize)| name.len() >= least && full.starts_with(name);
        if is(ENABLE_FS) {
            Some(&mut self.enable_fs)
        } else if is(SKIP_MNT) {
            Some(&mut self.skip_mnt)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut found = Found::default();
        found.in_args(&args).unwrap();
        assert_eq!(found.enable_fs, [Bytes::from("hugetlbfs,nfs"), Bytes::from("all")]);
        assert_eq!(found.skip_mnt, [Bytes::from("/a"), Bytes::from("/b")]);
        assert_eq!(found.in_args(&[b"--enable-fs"]), None);
    }

    #[test]
    fn the_files_of_criu() {
        let mut found = Found::default();
        found.in_file(b"# x\ntcp-close\nenable-fs \"nfs\"\nskip-mnt /a b\nskip-mnt=/c # d\n").unwrap();
        assert_eq!(found, Found { enable_fs: vec!["nfs".into()], skip_mnt: vec!["/c".into()] });
        let named = files(&[b"criu", b"--config=/x.conf"]).unwrap();
        assert!(named.contains(&PathBuf::from("/x.conf")) && !named.contains(&PathBuf::from("/etc/criu/default.conf")));
        let both = files(&[b"criu", b"dump"]).unwrap();
        assert_eq!(both.first(), Some(&PathBuf::from("/etc/criu/default.conf")));
        assert_eq!(files(&[b"criu", b"--config", b"here.conf"]), None);
    }

    #[test]
    fn a_runtime_that_never_sends_them_is_known_by_its_file() {
        let dir = std::env::temp_dir().join(format!("preflight-rpc-config-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let conf = dir.join("runc.conf");
        std::fs::write(&conf, "tcp-established\nenable-fs squashfs\n").unwrap();
        let conf = conf.as_os_str().as_bytes();
        let found = read_rpc(Runtime::Runc, Some(conf)).unwrap();
        assert!(found.enable_fs.contains(&"squashfs".into()));
        let none = read_rpc(Runtime::PodmanCrun, None).unwrap();
        assert!(!none.enable_fs.contains(&"squashfs".into()));
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
        assert_eq!(given.skip_mnt, [Bytes::from("/x")]);
    }
}
