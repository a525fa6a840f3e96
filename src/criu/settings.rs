//! Where the administrator's settings come from: the file, the environment and CRIU's command line, weakest first.

use crate::config::{self, Config};
use crate::criu::{safe_read as mem, symbols};
use crate::scan::sys;
use nix::fcntl::{OFlag, AT_FDCWD};
use std::ffi::{c_char, c_int, CString};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// Read unless CRIU_PREFLIGHT_CONFIG names another.
pub(crate) const DEFAULT_FILE: &str = "/etc/criu/preflight.conf";
const MAX_FILE: u64 = 64 * 1024;
const MAX_ARGS: usize = 4096;
/// How many complaints are logged, and how long each may be: the log is for other things.
const MAX_PROBLEMS: usize = 8;
const MAX_PROBLEM: usize = 240;
/// Of the name of a file in them.
const MAX_PATH: usize = 120;

/// The configuration in force, and a line for everything in it that was not understood.
pub fn load() -> (Config, Vec<String>) {
    let mut config = Config::default();
    let mut problems = Vec::new();

    let mut named = std::env::var_os("CRIU_PREFLIGHT_CONFIG").filter(|v| !v.is_empty());
    if named.is_some() && has_more_rights_than_its_user() {
        named = None;
        problems.push("CRIU_PREFLIGHT_CONFIG: ignored, criu may read more than its user".to_owned());
    }
    let path = named.clone().unwrap_or_else(|| DEFAULT_FILE.into());
    let shown = cut(crate::bytes::escape(path.as_bytes()), MAX_PATH);
    match read_file(path.as_ref()) {
        Ok(text) => {
            for (line, problem) in config::apply_file(&mut config, &text) {
                problems.push(format!("{shown}:{line}: {problem}"));
            }
        }
        // Having none is the usual case, unless somebody has named it.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && named.is_none() => {}
        Err(e) => problems.push(format!("{shown}: {e}; file ignored")),
    }
    for name in config::NAMES {
        let variable = format!("CRIU_PREFLIGHT_{}", name.replace('-', "_").to_ascii_uppercase());
        if let Some(value) = std::env::var_os(&variable).filter(|v| !v.is_empty()) {
            let applied = std::str::from_utf8(value.as_bytes())
                .map_err(|_| "not UTF-8".to_owned())
                .and_then(|value| config::apply_list(&mut config, name, value));
            if let Err(problem) = applied {
                problems.push(format!("{variable}: {problem}"));
            }
        }
    }
    for arg in plugin_options() {
        let applied = std::str::from_utf8(&arg)
            .map_err(|_| "not UTF-8".to_owned())
            .and_then(|text| config::apply_argument(&mut config, text));
        if let Err(problem) = applied {
            let name = arg.split(|b| *b == b'=').next().unwrap_or_default();
            let name = cut(crate::bytes::escape(name), MAX_PATH);
            problems.push(format!("--plugin-option preflight.{name}: {problem}"));
        }
    }
    (config, capped(problems))
}

/// The first complaints, none of them long, and how many there are besides.
fn capped(problems: Vec<String>) -> Vec<String> {
    let more = problems.len().saturating_sub(MAX_PROBLEMS);
    let mut logged: Vec<String> = problems.into_iter().take(MAX_PROBLEMS).map(|p| cut(p, MAX_PROBLEM)).collect();
    if more > 0 {
        logged.push(format!("{more} more settings were not understood"));
    }
    logged
}

fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        let mut end = max;
        while !text.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        text.truncate(end);
        text.push_str("...");
    }
    text
}

/// Whether this program was given rights by its file (set-user-ID, capabilities) that its caller has not.
fn has_more_rights_than_its_user() -> bool {
    // SAFETY: takes a number.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// At most 64 KiB of a regular file; /dev/null is an empty one. Nothing else is even opened: a FIFO would let its writer
/// know, a device might do something.
pub(crate) fn read_file(path: &std::path::Path) -> std::io::Result<Vec<u8>> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let place = std::fs::File::from(sys::open(AT_FDCWD, &name, OFlag::O_PATH)?);
    let meta = place.metadata()?;
    if meta.file_type().is_char_device() && meta.rdev() == libc::makedev(1, 3) {
        return Ok(Vec::new());
    }
    if !meta.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    if meta.len() > MAX_FILE {
        return Err(std::io::Error::other("more than 64 KiB"));
    }
    // Files that the kernel makes up have no length: some wait for a reader, some change by being read.
    let mut text = vec![0; usize::try_from(meta.len()).unwrap_or(0)];
    let mut used = 0usize;
    if !text.is_empty() {
        // That very file, whatever has its name by now.
        let name = CString::new(format!("/proc/self/fd/{}", place.as_raw_fd()))?;
        let file = sys::open(AT_FDCWD, &name, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
        loop {
            let room = text.get_mut(used..).unwrap_or_default();
            match sys::retry(|| nix::unistd::read(&file, &mut *room))? {
                0 => break,
                n => used = used.saturating_add(n),
            }
        }
    }
    text.truncate(used);
    Ok(text)
}

/// The `NAME[=VALUE]` of every `--plugin-option preflight.NAME[=VALUE]`, in order (CRIU 4.3).
///
/// CRIU hands every plugin the same argv, `criu-plugin --PLUGIN.NAME[=VALUE] ...`, its own memory: nothing of it is
/// changed, and what belongs to others is passed over.
fn plugin_options() -> Vec<Vec<u8>> {
    let Some(get) = symbols::table().ok().and_then(|t| t.get_options) else { return Vec::new() };
    let mut argc: c_int = 0;
    let mut argv: *mut *mut c_char = std::ptr::null_mut();
    // SAFETY: CRIU writes a number and a pointer to these two locals.
    if unsafe { get(&raw mut argc, &raw mut argv) } != 0 || argv.is_null() {
        return Vec::new();
    }
    let count = usize::try_from(argc).unwrap_or(0).min(MAX_ARGS);
    (1..count)
        .filter_map(|i| mem::word((argv as usize).checked_add(i.checked_mul(8)?)?))
        .filter_map(|p| mem::cstr(p, 8192))
        .filter_map(|arg| arg.strip_prefix(b"--preflight.").map(<[u8]>::to_vec))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::Path;

    #[test]
    fn complaints_are_few_and_short() {
        assert_eq!(capped(vec!["x".to_owned(); MAX_PROBLEMS]), vec!["x"; MAX_PROBLEMS]);
        let many = capped(vec!["\u{e9}".repeat(5000); 20_000]);
        assert_eq!(many.len(), MAX_PROBLEMS + 1);
        assert!(many.iter().all(|line| line.len() <= MAX_PROBLEM + "...".len()), "{many:?}");
        assert_eq!(many[MAX_PROBLEMS], "19992 more settings were not understood");
    }

    #[test]
    fn only_a_short_regular_file_is_read() {
        let dir = std::env::temp_dir().join(format!("preflight-settings-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let at = |name: &str| dir.join(name);
        let why = |path: &Path| read_file(path).unwrap_err().to_string();
        std::fs::write(at("full"), vec![b'#'; 64 * 1024]).unwrap();
        assert_eq!(read_file(&at("full")).unwrap().len(), 64 * 1024);
        std::fs::write(at("long"), vec![b'#'; 64 * 1024 + 1]).unwrap();
        assert_eq!(why(&at("long")), "more than 64 KiB");
        std::fs::write(at("empty"), "").unwrap();
        std::os::unix::fs::symlink("full", at("link")).unwrap();
        assert_eq!((read_file(&at("empty")).unwrap().len(), read_file(&at("link")).unwrap().len()), (0, 64 * 1024));

        // A writer that waits for a reader of the FIFO is not let go.
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        let writer = || std::fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(at("fifo"));
        for special in [at("fifo"), at("socket"), dir.clone(), "/dev/zero".into(), "/dev/tty".into()] {
            assert_eq!(why(&special), "not a regular file", "{}", special.display());
        }
        assert_eq!(writer().unwrap_err().raw_os_error(), Some(libc::ENXIO));
        // This one waits for a message of the kernel, and takes it away from other readers.
        for made_up in ["/proc/kmsg", "/proc/self/mem", "/dev/null"] {
            assert!(read_file(Path::new(made_up)).unwrap().is_empty(), "{made_up}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
