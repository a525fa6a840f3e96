//! Programs of the host that CRIU runs in a dump: whether they would be found, as CRIU's own child looks for them.

use nix::errno::Errno;
use nix::unistd::{access, AccessFlags};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// What execvp(3) searches without a PATH. The C libraries differ; these are all that any of them has.
const WITHOUT_PATH: &str = "/usr/local/bin:/bin:/usr/bin";

/// Whether execvp(3) would find it (`cr_system`, criu/util.c). `None`: perhaps, in a directory that depends on where CRIU is
/// by then.
pub(crate) fn by_execvp(program: &str) -> Option<bool> {
    find(&std::env::var_os("PATH").unwrap_or_else(|| OsString::from(WITHOUT_PATH)), program)
}

/// Whether a shell would; without a PATH each has its own.
pub(crate) fn by_shell(program: &str) -> Option<bool> {
    find(&std::env::var_os("PATH")?, program)
}

/// The tool for addresses and routes, which a variable may name (`run_ip_tool`, criu/net.c).
pub(crate) fn ip() -> Option<bool> {
    let Some(named) = std::env::var_os("CR_IP_TOOL") else { return by_execvp("ip") };
    by_execvp(named.to_str()?)
}

fn find(path: &OsStr, program: &str) -> Option<bool> {
    if program.contains('/') {
        return program.starts_with('/').then(|| runs(Path::new(program))).flatten();
    }
    let (fixed, relative): (Vec<_>, Vec<_>) = std::env::split_paths(path).partition(|dir| dir.is_absolute());
    let mut all_known = relative.is_empty() && !path.as_bytes().is_empty();
    for dir in fixed {
        match runs(&dir.join(program)) {
            Some(true) => return Some(true),
            Some(false) => {}
            None => all_known = false,
        }
    }
    all_known.then_some(false)
}

/// Whether it can be run. `None`: that could not be asked.
fn runs(file: &Path) -> Option<bool> {
    match access(file, AccessFlags::X_OK) {
        Ok(()) => Some(true),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENAMETOOLONG) => Some(false),
        // It may not be run; or we may not ask.
        Err(Errno::EACCES) => {
            let found = std::fs::metadata(file).ok()?;
            (!found.is_file() || found.permissions().mode() & 0o111 == 0).then_some(false)
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_program_is_looked_for() {
        let at = |path: &str, program| find(OsStr::new(path), program);
        assert_eq!(at("/nowhere:/bin", "sh"), Some(true));
        assert_eq!(at("/nowhere", "sh"), Some(false));
        assert_eq!(at("/nowhere", "/bin/sh"), Some(true));
        assert_eq!(at("/bin", "/nowhere/sh"), Some(false));
        // There, but not to be run.
        assert_eq!(at("/etc", "passwd"), Some(false));
        for of_the_working_directory in ["", ".", "/nowhere:", "bin:/nowhere"] {
            assert_eq!(at(of_the_working_directory, "sh"), None, "{of_the_working_directory}");
        }
        assert_eq!(at("bin:/bin", "sh"), Some(true));
        assert_eq!(at("/bin", "bin/sh"), None);
    }
}
