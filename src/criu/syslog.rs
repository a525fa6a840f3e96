//! One line to the system log: containerd, LXC and older runc and crun show nothing of what CRIU says.
//!
//! Not by syslog(3), whose connection and identity are the whole process's and would be CRIU's from then on.

use std::os::unix::net::UnixDatagram;

/// LOG_DAEMON | LOG_ERR (syslog.h).
const PRIORITY: u32 = (3 << 3) | 3;
/// RFC 3164; longer ones are cut by some daemons.
const MAX: usize = 1024;

/// Sends the line without ever waiting. No system log is no error.
pub(crate) fn send(text: &str) {
    send_to("/dev/log", text);
}

fn send_to(path: &str, text: &str) {
    let clean: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    let mut message = format!("<{PRIORITY}>criu-preflight[{}]: {clean}", std::process::id());
    while message.len() > MAX {
        message.pop();
    }
    let Ok(socket) = UnixDatagram::unbound() else { return };
    // A full queue of the daemon must not hold up a checkpoint.
    if socket.set_nonblocking(true).is_ok() && socket.connect(path).is_ok() {
        drop(socket.send(message.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sends_one_datagram_and_never_waits() {
        let dir = std::env::temp_dir().join(format!("preflight-syslog-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let path = path.to_str().unwrap();
        send_to(path, "a\nb");
        let mut buf = [0; 2048];
        let n = daemon.recv(&mut buf).unwrap();
        let text = String::from_utf8_lossy(&buf[..n]).into_owned();
        assert!(text.starts_with("<27>criu-preflight[") && text.ends_with("]: a?b"), "{text}");
        // More than any daemon's queue takes: this returns.
        for _ in 0..1000 {
            send_to(path, &"ü".repeat(3000));
        }
        drop(daemon);
        send_to(path, "no listener");
        std::fs::remove_dir_all(&dir).unwrap();
        send_to(path, "nothing there");
    }
}
