//! Where the report goes: into CRIU's work directory, or, where the program that drives CRIU is known to remove that, into a
//! directory of ours that stays.
//!
//! Docker, containerd and its CRI remove `criu-work` and `ctrd-checkpoint` whether the dump went through or not, Incus the
//! `state` of a snapshot that failed. The system log would name a file that is gone. Not below /run: what a node could not
//! checkpoint is often looked into after it was started again.

use crate::criu::workdir::{Replacement, REPORT};
use crate::criu::Runtime;
use crate::scan::sys::retry;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, AT_FDCWD};
use nix::sys::stat::Mode;
use nix::unistd::UnlinkatFlags;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) const DEFAULT_DIRECTORY: &str = "/var/lib/criu-preflight";

/// The oldest are removed beyond these.
const MAX_REPORTS: usize = 64;
const MAX_BYTES: u64 = 128 << 20;
/// More files than this are not ours.
const MAX_ENTRIES: usize = 4096;
/// Of a container's name in that of its report.
const MAX_NAME: usize = 80;

/// One dump has one place: its second look replaces the report of its first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    WorkDirectory,
    /// A file of this name in this directory.
    Kept {
        dir: PathBuf,
        name: String,
    },
}

impl Place {
    /// For the dump of this process, whose current directory is CRIU's work directory.
    pub(crate) fn of_dump(runtime: Runtime, directory: &Path) -> Place {
        let container = std::env::current_dir().ok().and_then(|work| removed_with(runtime, &work));
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        match container {
            Some(container) => {
                let name = format!("{}-{container}-{}.json", utc(seconds), std::process::id());
                Place::Kept { dir: directory.to_owned(), name }
            }
            None => Place::WorkDirectory,
        }
    }

    pub(crate) fn create(&self) -> io::Result<Replacement> {
        match self {
            Place::WorkDirectory => Replacement::create(None, REPORT),
            Place::Kept { dir, name } => {
                let dir = open(dir)?;
                prune(&dir);
                Replacement::create(Some(dir), name)
            }
        }
    }

    /// Removes what an attempt has left there; that there is none is as good.
    pub(crate) fn remove(&self) {
        let _ = match self {
            Place::WorkDirectory => nix::unistd::unlinkat(AT_FDCWD, REPORT, UnlinkatFlags::NoRemoveDir),
            Place::Kept { dir, name } => match open(dir) {
                Ok(dir) => nix::unistd::unlinkat(&dir, name.as_str(), UnlinkatFlags::NoRemoveDir),
                Err(_) => return,
            },
        };
    }

    /// As lines name it.
    pub(crate) fn path(&self) -> io::Result<Vec<u8>> {
        let path = match self {
            Place::WorkDirectory => std::env::current_dir()?.join(REPORT),
            Place::Kept { dir, name } => dir.join(name),
        };
        Ok(path.into_os_string().into_vec())
    }
}

/// The name of the container whose work directory this is, if it will be removed.
fn removed_with(runtime: Runtime, work: &Path) -> Option<String> {
    let up = |n: usize| work.ancestors().nth(n).and_then(Path::file_name);
    let containerd = matches!(runtime, Runtime::Containerd | Runtime::ContainerdCrun);
    let container = match work.file_name()?.as_bytes() {
        // BUNDLE/work/criu-work, the bundle named by the id; BUNDLE/work is a link to ROOT/.../NAMESPACE/ID.
        b"criu-work" if containerd => match up(1) {
            Some(name) if name == "work" => up(2),
            name => name,
        },
        // .../containers/ID/ctrd-checkpoint
        b"ctrd-checkpoint" if containerd => up(1),
        // .../NAME/state, of a snapshot .../NAME/SNAPSHOT/state
        b"state" if runtime == Runtime::Lxc => up(1),
        _ => return None,
    };
    Some(plain(container.unwrap_or(OsStr::new("container"))))
}

/// Only what needs no escaping anywhere.
fn plain(name: &OsStr) -> String {
    let ok = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    name.as_bytes().iter().take(MAX_NAME).map(|b| if ok(b) { char::from(*b) } else { '_' }).collect()
}

/// `20261201T021530Z`: the order of names is that of time.
fn utc(seconds: u64) -> String {
    const DAY: u64 = 24 * 60 * 60;
    let (mut days, of_day) = (seconds / DAY, seconds % DAY);
    let leap = |year: u64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    let mut year = 1970_u64;
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if days < length || year >= 9999 {
            break;
        }
        days = days.saturating_sub(length);
        year = year.saturating_add(1);
    }
    let mut month = 1;
    for length in [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days = days.saturating_sub(length);
        month += 1;
    }
    let day = days.saturating_add(1);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// Opens the directory, made 0700 if it is not there. No link is followed on the way, and only we and root could have
/// put something in its place.
fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    if !path.is_absolute() {
        return Err(refused(path, "it is no absolute path"));
    }
    let mut names: Vec<&OsStr> = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir => {}
            Component::Normal(name) => names.push(name),
            _ => return Err(refused(path, "it has '..' in it")),
        }
    }
    let (last, parents) = names.split_last().ok_or_else(|| refused(path, "it is no directory of ours"))?;
    let mut dir = retry(|| nix::fcntl::open("/", flags, Mode::empty()))?;
    let mut above = PathBuf::from("/");
    for name in parents {
        dir = retry(|| nix::fcntl::openat(&dir, *name, flags, Mode::empty()))?;
        above.push(name);
        let stat = nix::sys::stat::fstat(&dir)?;
        let writable = stat.st_mode & (libc::S_IWGRP | libc::S_IWOTH) != 0 && stat.st_mode & libc::S_ISVTX == 0;
        if writable || (stat.st_uid != 0 && stat.st_uid != nix::unistd::geteuid().as_raw()) {
            return Err(refused(&above, "others may write in it"));
        }
    }
    match nix::sys::stat::mkdirat(&dir, *last, Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let own = retry(|| nix::fcntl::openat(&dir, *last, flags, Mode::empty()))?;
    let stat = nix::sys::stat::fstat(&own)?;
    if stat.st_uid != nix::unistd::geteuid().as_raw() || stat.st_mode & 0o077 != 0 {
        return Err(refused(path, "it is not ours alone (mode 0700)"));
    }
    Ok(own)
}

fn refused(path: &Path, why: &str) -> io::Error {
    io::Error::other(format!("{}: {why}", crate::bytes::escape(path.as_os_str().as_bytes())))
}

/// Removes the oldest, so that one more fits.
fn prune(dir: &OwnedFd) {
    let Ok(entries) = std::fs::read_dir(format!("/proc/self/fd/{}", dir.as_raw_fd())) else { return };
    let mut reports: Vec<(OsString, u64)> = entries
        .take(MAX_ENTRIES)
        .filter_map(Result::ok)
        .map(|entry| entry.file_name())
        .filter(|name| is_report(name.as_bytes()))
        .filter_map(|name| {
            let stat = nix::sys::stat::fstatat(dir, name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
            Some((name, u64::try_from(stat.st_size).unwrap_or(0)))
        })
        .collect();
    reports.sort();
    let mut bytes = reports.iter().fold(0_u64, |sum, (_, size)| sum.saturating_add(*size));
    let mut count = reports.len();
    for (name, size) in &reports {
        if count < MAX_REPORTS && bytes <= MAX_BYTES {
            break;
        }
        let _ = nix::unistd::unlinkat(dir, name.as_os_str(), UnlinkatFlags::NoRemoveDir);
        count = count.saturating_sub(1);
        bytes = bytes.saturating_sub(*size);
    }
}

/// A name of [`Place::of_dump`], not what somebody keeps beside them.
fn is_report(name: &[u8]) -> bool {
    let digits = |range| name.get::<std::ops::Range<usize>>(range).is_some_and(|d| d.iter().all(u8::is_ascii_digit));
    digits(0..8)
        && name.get(8) == Some(&b'T')
        && digits(9..15)
        && name.get(15) == Some(&b'Z')
        && name.ends_with(b".json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{symlink, PermissionsExt};

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().canonicalize().unwrap().join(format!("preflight-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir(&dir).unwrap();
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).unwrap();
        dir
    }

    fn kept(dir: &Path, name: &str) -> Place {
        Place::Kept { dir: dir.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn who_removes_the_work_directory_and_of_which_container() {
        for (runtime, work, container) in [
            (Runtime::Containerd, "/run/t/moby/0a1b/work/criu-work", Some("0a1b")),
            (Runtime::Containerd, "/d/io.containerd.runtime.v2.task/moby/0a1b/criu-work", Some("0a1b")),
            (Runtime::ContainerdCrun, "/r/containers/77/ctrd-checkpoint", Some("77")),
            (Runtime::Lxc, "/i/snapshots/i1/s 1/state", Some("s_1")),
            (Runtime::Containerd, "/home/me/w", None),
            (Runtime::Runc, "/home/me/criu-work", None),
        ] {
            assert_eq!(removed_with(runtime, Path::new(work)).as_deref(), container, "{work}");
        }
    }

    #[test]
    fn the_time_in_a_name() {
        for (seconds, text) in
            [(0, "19700101T000000Z"), (951_782_399, "20000228T235959Z"), (1_709_251_199, "20240229T235959Z")]
        {
            assert_eq!(utc(seconds), text);
        }
    }

    #[test]
    fn the_directory_is_ours_alone_and_no_link_leads_there() {
        let dir = scratch("place");
        let new = dir.join("new");
        let place = kept(&new, "20260101T000000Z-c-1.json");
        let mut report = place.create().unwrap();
        report.write(b"{}").unwrap();
        report.commit().unwrap();
        assert_eq!(new.metadata().unwrap().permissions().mode() & 0o7777, 0o700);
        let path = PathBuf::from(OsString::from_vec(place.path().unwrap()));
        assert_eq!(std::fs::read(&path).unwrap(), b"{}");
        place.remove();
        assert!(!path.exists());

        symlink(&new, dir.join("link")).unwrap();
        assert!(kept(&dir.join("link"), "a").create().is_err());
        assert!(kept(&dir.join("link/below"), "a").create().is_err());
        assert!(kept(Path::new("relative"), "a").create().is_err());
        assert!(kept(&dir.join("../x"), "a").create().is_err());
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(place.create().unwrap_err().to_string().ends_with("new: it is not ours alone (mode 0700)"));
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o777)).unwrap();
        let why = kept(&new.join("below"), "a").create().unwrap_err().to_string();
        assert!(why.ends_with("new: others may write in it"), "{why}");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn the_oldest_are_removed_and_what_is_not_ours_stays() {
        let dir = scratch("prune");
        for n in 0..MAX_REPORTS + 3 {
            std::fs::write(dir.join(format!("20260101T0000{n:02}Z-c-1.json")), "").unwrap();
        }
        std::fs::write(dir.join("mine.json"), "").unwrap();
        let big = dir.join("20250101T000000Z-big-1.json");
        std::fs::File::create(&big).unwrap().set_len(MAX_BYTES + 1).unwrap();
        let mut report = kept(&dir, "20260102T000000Z-c-1.json").create().unwrap();
        report.write(b"{}").unwrap();
        report.commit().unwrap();
        let mut left: Vec<String> =
            std::fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left.len(), MAX_REPORTS + 1);
        assert_eq!(left.first().unwrap(), "20260101T000004Z-c-1.json");
        assert!(left.contains(&"mine.json".to_owned()) && !big.exists());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
