//! What a link in /proc/PID/{fd,ns,map_files,cwd,root,exe} says (`do_proc_readlink()`, `d_path()` in fs/d_path.c).
//!
//! Such a text is a hint, no proof: the kernel does not mark where a name ends and ` (deleted)` begins, so a file may be
//! called `/x (deleted)` or `/memfd:x (deleted)`. Only fstat and fstatfs know. What has no leading `/` cannot be forged.
use crate::bytes::Bytes;
use crate::parse::text::dec;

/// A link's text, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum LinkTarget {
    /// `net:[4026531840]`; the kind is `net`, `uts`, `ipc`, `pid`, `user`, `mnt`, `cgroup` or `time`.
    Ns { kind: Bytes, ino: u64 },
    /// `socket:[123]`
    Socket(u64),
    /// `pipe:[123]`
    Pipe(u64),
    /// `pidfd:[123]`
    PidFd(u64),
    /// `anon_inode:[io_uring]`, `anon_inode:inotify`: what follows the colon, brackets and all.
    AnonInode(Bytes),
    /// `/memfd:name (deleted)`
    MemFd { name: Bytes },
    /// A path from the reader's root.
    Path {
        path: Bytes,
        /// The text ends in ` (deleted)`, which is not part of `path`.
        deleted: bool,
        /// The text began with `(unreachable)`, which is not part of `path`: a mount that is not below the reader's root.
        unreachable: bool,
    },
    /// Anything else, as it is.
    Other(Bytes),
}

impl LinkTarget {
    /// `io_uring` of `anon_inode:[io_uring]`, `inotify` of `anon_inode:inotify`.
    pub fn anon_class(&self) -> Option<&[u8]> {
        let LinkTarget::AnonInode(name) = self else { return None };
        Some(name.strip_prefix(b"[").and_then(|n| n.strip_suffix(b"]")).unwrap_or(name))
    }
}

/// Takes a link's text apart.
pub fn parse(text: &[u8]) -> LinkTarget {
    try_parse(text).unwrap_or_else(|| LinkTarget::Other(text.into()))
}

fn try_parse(text: &[u8]) -> Option<LinkTarget> {
    if text.starts_with(b"/") {
        let (path, deleted) = strip_deleted(text);
        return Some(match path.strip_prefix(b"/memfd:") {
            Some(name) if deleted => LinkTarget::MemFd { name: name.into() },
            _ => LinkTarget::Path { path: path.into(), deleted, unreachable: false },
        });
    }
    if let Some(path) = text.strip_prefix(b"(unreachable)") {
        let (path, deleted) = strip_deleted(path);
        return Some(LinkTarget::Path { path: path.into(), deleted, unreachable: true });
    }
    let (kind, rest) = crate::parse::text::split_once(text, b':')?;
    if kind == b"anon_inode" {
        return Some(LinkTarget::AnonInode(rest.into()));
    }
    let ino = dec(rest.strip_prefix(b"[")?.strip_suffix(b"]")?)?;
    Some(match kind {
        b"socket" => LinkTarget::Socket(ino),
        b"pipe" => LinkTarget::Pipe(ino),
        b"pidfd" => LinkTarget::PidFd(ino),
        b"net" | b"uts" | b"ipc" | b"pid" | b"user" | b"mnt" | b"cgroup" | b"time" => {
            LinkTarget::Ns { kind: kind.into(), ino }
        }
        _ => return None,
    })
}

fn strip_deleted(text: &[u8]) -> (&[u8], bool) {
    match text.strip_suffix(b" (deleted)") {
        Some(path) => (path, true),
        None => (text, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn links() {
        let path = |p: &[u8], deleted, unreachable| LinkTarget::Path { path: p.into(), deleted, unreachable };
        for (text, target) in [
            (&b"net:[4026531840]"[..], LinkTarget::Ns { kind: "net".into(), ino: 4026531840 }),
            (b"time:[4026531834]", LinkTarget::Ns { kind: "time".into(), ino: 4026531834 }),
            (b"socket:[14377]", LinkTarget::Socket(14377)),
            (b"pipe:[13309]", LinkTarget::Pipe(13309)),
            (b"pidfd:[7]", LinkTarget::PidFd(7)),
            (b"anon_inode:[io_uring]", LinkTarget::AnonInode("[io_uring]".into())),
            (b"anon_inode:inotify", LinkTarget::AnonInode("inotify".into())),
            (b"/memfd:m\nx (deleted)", LinkTarget::MemFd { name: "m\nx".into() }),
            (b"/memfd:real-file", path(b"/memfd:real-file", false, false)),
            (b"/tmp/a\nb \xff (deleted) (deleted)", path(b"/tmp/a\nb \xff (deleted)", true, false)),
            (b"(unreachable)/x (deleted)", path(b"/x", true, true)),
            (b"/SYSV00000000 (deleted)", path(b"/SYSV00000000", true, false)),
            (b"socket:[x]", LinkTarget::Other("socket:[x]".into())),
            (b"dmabuf:[1]", LinkTarget::Other("dmabuf:[1]".into())),
            (b"", LinkTarget::Other("".into())),
        ] {
            assert_eq!(parse(text), target);
        }
        assert_eq!(parse(b"anon_inode:[io_uring]").anon_class(), Some(&b"io_uring"[..]));
        assert_eq!(parse(b"anon_inode:inotify").anon_class(), Some(&b"inotify"[..]));
        assert_eq!(parse(b"/inotify").anon_class(), None);
    }

    proptest! {
        #[test]
        fn any_bytes(raw: Vec<u8>) {
            parse(&raw);
        }

        #[test]
        fn paths_stay_whole(name: Vec<u8>) {
            let text = [&b"/dir/"[..], &name, b" (deleted)"].concat();
            let path = [&b"/dir/"[..], &name].concat().into();
            prop_assert_eq!(parse(&text), LinkTarget::Path { path, deleted: true, unreachable: false });
        }
    }
}
