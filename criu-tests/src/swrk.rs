//! A client of `criu swrk`, as container runtimes are one: a request over a socket, an answer. The few fields that are
//! needed of protobuf are written and read by hand (CRIU: images/rpc.proto).

use crate::criu::Criu;
use std::fs::File;
use std::io::{Error, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// One field of a message.
#[derive(Clone, Debug)]
pub enum Field {
    Num(u64, u64),
    Text(u64, String),
    Message(u64, Vec<Field>),
}

/// What a request came to.
pub struct Answer {
    pub success: bool,
    /// CRIU's log.
    pub log: String,
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn message(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields {
        match field {
            Field::Num(number, value) => {
                varint(number << 3, &mut out);
                varint(*value, &mut out);
            }
            Field::Text(number, text) => bytes(*number, text.as_bytes(), &mut out),
            Field::Message(number, fields) => bytes(*number, &message(fields), &mut out),
        }
    }
    out
}

fn bytes(number: u64, content: &[u8], out: &mut Vec<u8>) {
    varint(number << 3 | 2, out);
    varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

/// `success` of a criu_resp: its second field; the first, the type of the answer, is a number too.
fn success(answer: &[u8]) -> bool {
    matches!(answer, [8, _, 16, 1, ..])
}

/// The type of a request to dump.
const DUMP: u64 = 1;

/// Asks for a dump of `pid` that leaves it running, with these options and the plugins of `libdir`; images and log go to
/// `dir`, which is made. `hang_up`: the client goes as soon as it has asked.
pub fn dump(
    criu: &Criu,
    pid: i32,
    options: &[Field],
    libdir: &Path,
    dir: &Path,
    hang_up: bool,
) -> Result<Answer, String> {
    let io = |e: Error| format!("{}: {e}", dir.display());
    std::fs::create_dir_all(dir).map_err(io)?;
    let images = File::open(dir).map_err(io)?;
    let (mut ours, theirs) = pair().map_err(io)?;
    let mut command = Command::new(&criu.path);
    command.args(["swrk", "3"]).env("CRIU_LIBS_DIR", libdir).env("CRIU_PREFLIGHT_SYSLOG", "off");
    command.env_remove("CRIU_PREFLIGHT_MODE").env("CRIU_PREFLIGHT_CONFIG", "/dev/null");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let fd = theirs.as_raw_fd();
    // SAFETY: only async-signal-safe calls between fork and exec.
    unsafe {
        command.pre_exec(move || {
            libc::setsid();
            let ret = if fd == 3 { libc::fcntl(3, libc::F_SETFD, 0) } else { libc::dup2(fd, 3) };
            if ret < 0 {
                return Err(Error::last_os_error());
            }
            Ok(())
        })
    };
    let mut child = command.spawn().map_err(io)?;
    drop(theirs);
    let mut opts = message(&[
        Field::Num(1, images.as_raw_fd() as u64),
        Field::Num(2, pid as u64),
        Field::Num(3, 1),
        Field::Num(9, 4),
        Field::Text(10, "log".into()),
    ]);
    opts.extend(message(options));
    let mut request = message(&[Field::Num(1, DUMP)]);
    bytes(2, &opts, &mut request);
    ours.write_all(&request).map_err(io)?;
    let mut answer = vec![0; 65536];
    let mut length = 0;
    if hang_up {
        // The descriptor it is handed is one of ours: it has to have been opened.
        std::thread::sleep(Duration::from_millis(5));
    } else {
        ours.set_read_timeout(Some(Duration::from_secs(60))).map_err(io)?;
        length = ours.read(&mut answer).unwrap_or(0);
    }
    drop(ours);
    child.wait().map_err(io)?;
    let log = String::from_utf8_lossy(&std::fs::read(dir.join("log")).unwrap_or_default()).into_owned();
    Ok(Answer { success: success(&answer[..length]), log })
}

/// A pair of SOCK_SEQPACKET sockets that no child inherits by itself.
fn pair() -> std::io::Result<(UnixStream, UnixStream)> {
    let mut fds = [0; 2];
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: two fresh descriptors, owned by nobody else.
    unsafe {
        if libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) != 0 {
            return Err(Error::last_os_error());
        }
        Ok((UnixStream::from_raw_fd(fds[0]), UnixStream::from_raw_fd(fds[1])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_protobuf_says() {
        assert_eq!(message(&[Field::Num(1, 300)]), [8, 0xac, 2]);
        assert_eq!(message(&[Field::Text(37, "ab".into())]), [0xaa, 2, 2, b'a', b'b']);
        let nested = Field::Message(23, vec![Field::Text(1, "a".into()), Field::Text(2, "b".into())]);
        assert_eq!(message(&[nested]), [0xba, 1, 6, 0x0a, 1, b'a', 0x12, 1, b'b']);
        assert!(success(&[8, 1, 16, 1, 0x4a, 2, b'h', b'i']));
        assert!(!success(&[8, 1, 16, 0]));
        assert!(!success(&[]));
    }
}
