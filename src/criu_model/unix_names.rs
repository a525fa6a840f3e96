//! Where a restore binds a UNIX socket that has a name in the file system (`bind_unix_sk`, criu/sk-unix.c).

use crate::bytes::Bytes;
use crate::parse::diag::UnixDiag;
use crate::parse::sockets::state;

/// What the kernel adds to the path of a file without a name.
const DELETED: &[u8] = b" (deleted)";

/// A connected stream or seqpacket socket is not bound: it has the name of the listening one.
pub(crate) fn is_bound_again(socket: &UnixDiag) -> bool {
    i32::from(socket.type_) == libc::SOCK_DGRAM || socket.state != state::ESTABLISHED
}

/// Whether CRIU takes the file for deleted, by the kernel's text for it.
pub(crate) fn is_deleted(file: &[u8]) -> bool {
    file.ends_with(DELETED)
}

/// The directory: that of an absolute name as it was bound, that of a relative one as the kernel knows it now. `None`: CRIU
/// cannot tell, and refuses the dump.
pub(crate) fn directory(name: &[u8], file: &[u8]) -> Option<Bytes> {
    let dir = match name.starts_with(b"/") {
        true => name.get(..name.iter().rposition(|b| *b == b'/')?)?,
        false => before(file, name)?,
    };
    Some(if dir.is_empty() { b"/".as_slice().into() } else { dir.into() })
}

/// What is left of the file's path without a relative name at its end (`cut_path_ending`, criu/util.c).
pub(crate) fn before<'f>(file: &'f [u8], name: &[u8]) -> Option<&'f [u8]> {
    let file = file.strip_suffix(DELETED).unwrap_or(file);
    let name = name.strip_prefix(b"./").unwrap_or(name);
    file.strip_suffix(name)?.strip_suffix(b"/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_a_name() {
        for (name, file, expect) in [
            ("/run/a/s", "/run/b/s", Some("/run/a")),
            ("/s", "/s", Some("/")),
            ("s", "/run/b/s", Some("/run/b")),
            ("s", "/s (deleted)", Some("/")),
            ("./a/s", "/run/a/s (deleted)", Some("/run")),
            ("s", "/run/xs", None),
            ("s", "/run/t", None),
        ] {
            let dir = directory(name.as_bytes(), file.as_bytes());
            assert_eq!(dir, expect.map(Bytes::from), "{name} {file}");
        }
    }
}
