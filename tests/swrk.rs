//! CRIU asked over a socket, as container runtimes do it: `criu swrk FD`.

mod support;

use nix::sys::socket::{socketpair, AddressFamily, SockFlag, SockType};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use support::{criu_all, libdir, one_at_a_time, Run, Scratch, Target};

/// One field of a protobuf message: a number or bytes.
enum Field<'a> {
    Num(u64, u64),
    Bytes(u64, &'a [u8]),
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
            Field::Bytes(number, bytes) => {
                varint(number << 3 | 2, &mut out);
                varint(bytes.len() as u64, &mut out);
                out.extend_from_slice(bytes);
            }
        }
    }
    out
}

fn read_varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = bytes[0];
        *bytes = &bytes[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// success and cr_errmsg of a criu_resp.
fn answer(mut bytes: &[u8]) -> (bool, String) {
    let (mut success, mut text) = (false, String::new());
    while !bytes.is_empty() {
        let key = read_varint(&mut bytes);
        let value = read_varint(&mut bytes);
        match (key >> 3, key & 7) {
            (2, 0) => success = value != 0,
            (number, 2) => {
                let (content, rest) = bytes.split_at(value as usize);
                if number == 9 {
                    text = String::from_utf8_lossy(content).into_owned();
                }
                bytes = rest;
            }
            _ => {}
        }
    }
    (success, text)
}

/// A request to a new `criu swrk`; success and first error line, and what the run left behind.
fn request(
    criu: &Path,
    kind: u64,
    options: &[Field],
    target: &Target,
    lib: &Path,
    images: &Path,
) -> (bool, String, Run) {
    let _ = std::fs::remove_dir_all(images);
    std::fs::create_dir_all(images).unwrap();
    let dir = std::fs::File::open(images).unwrap();
    let config = images.with_extension("conf");
    std::fs::write(&config, "").unwrap();
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
    let mut command = Command::new(criu);
    command
        .args(["swrk", "3"])
        .env("CRIU_LIBS_DIR", lib)
        .env("CRIU_PREFLIGHT_CONFIG", &config)
        .env("CRIU_PREFLIGHT_SYSLOG", "off")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let raw = theirs.as_raw_fd();
    // SAFETY: dup2 is async-signal-safe; when the socket is 3 itself, only its close-on-exec has to go.
    unsafe {
        command.pre_exec(move || {
            let ret = if raw == 3 { libc::fcntl(3, libc::F_SETFD, 0) } else { libc::dup2(raw, 3) };
            if ret < 0 {
                Err(io::Error::last_os_error())
            } else {
                Ok(())
            }
        })
    };
    let mut child = command.spawn().unwrap();
    drop(theirs);

    let mut opts = message(&[
        Field::Num(1, dir.as_raw_fd() as u64),
        Field::Num(2, target.pid() as u64),
        Field::Num(3, 1),
        Field::Num(9, 4),
        Field::Bytes(10, b"log"),
    ]);
    opts.extend(message(options));
    let request = message(&[Field::Num(1, kind), Field::Bytes(2, &opts)]);
    assert_eq!(nix::unistd::write(&ours, &request).unwrap(), request.len());
    let mut buf = vec![0; 65536];
    let n = nix::unistd::read(&ours, &mut buf).unwrap();
    let (success, text) = answer(&buf[..n]);
    drop(ours);
    let status = child.wait().unwrap();
    let log = String::from_utf8_lossy(&std::fs::read(images.join("log")).unwrap_or_default()).into_owned();
    let output = std::process::Output { status, stdout: Vec::new(), stderr: Vec::new() };
    (success, text, Run { output, log, images: images.to_path_buf() })
}

const DUMP: u64 = 1;
const SINGLE_PRE_DUMP: u64 = 13;

#[test]
fn the_request_is_what_we_judge_by() {
    let _one = one_at_a_time();
    for criu in criu_all() {
        eprintln!("-- swrk with CRIU {}", criu.version);
        let scratch = Scratch::new("swrk");
        let (lib, images) = (libdir(&scratch), scratch.0.join("i"));

        let mut good = Target::good();
        let options = [
            Field::Num(8, 1),        // file_locks
            Field::Num(5, 1),        // tcp_established
            Field::Num(35, 7 << 20), // ghost_limit
            Field::Bytes(37, b"unix[5]"),
            Field::Bytes(37, b"mnt[/x]:y"),
            Field::Bytes(32, b"overlay,ramfs,nosuchfs"), // enable_fs
        ];
        let (success, text, run) = request(&criu.path, DUMP, &options, &good, &lib, &images);
        assert!(success, "{text} {}", run.log);
        assert!(run.has(&format!("preflight: root {} in {{", good.pid())), "{}", run.log);
        let host = run.host();
        assert_eq!(host["runtime"], "rpc");
        assert_eq!(host["release"], criu.line());
        assert_eq!(host["options"]["file_locks"], true);
        assert_eq!(host["options"]["tcp_established"], true);
        assert_eq!(host["options"]["shell_job"], false);
        // By CRIU's own function, of the kernel's file systems: also those that it knows by itself.
        let enabled = host["options"]["enable_fs"].as_array().unwrap();
        for (name, taken) in [("ramfs", true), ("proc", true), ("sockfs", false), ("nosuchfs", false)] {
            assert_eq!(enabled.contains(&name.into()), taken, "{name}: {enabled:?}");
        }
        assert_eq!(host["options"]["skip_mnt"], serde_json::Value::Null);
        assert_eq!(host["options"]["ghost_limit"], 7 << 20);
        assert_eq!(host["externals"].as_array().unwrap().len(), 2);
        assert_ne!(host["service_sk_ino"], u32::MAX);
        assert_eq!(run.ours("preflight: frozen look at ").len(), 1, "{}", run.log);
        good.assert_untouched();

        let mut device = Target::with_device();
        let (success, text, run) = request(&criu.path, DUMP, &[], &device, &lib, &images);
        assert!(!success, "{}", run.log);
        assert_eq!(run.ours("Error (preflight): ").len(), 2, "{}", run.log);
        assert_eq!(run.pages(), 0);
        // The client is handed CRIU's first error line: ours, unless CRIU itself had to complain before it asked us.
        let first = run.lines().find(|l| l.starts_with("Error (")).unwrap();
        if first.contains("(preflight)") {
            assert!(text.contains("refusing to dump pid"), "{text}");
        } else {
            assert!(first.contains("RLIMIT_NOFILE"), "{first}");
        }
        device.assert_untouched();

        // A pre-dump is never refused by us; whether CRIU can make it at all is the kernel's business.
        let (success, text, run) = request(&criu.path, SINGLE_PRE_DUMP, &[], &device, &lib, &images);
        if !run.has("preflight: root ") {
            eprintln!("SKIP pre-dump with CRIU {}: {}", criu.version, text.trim());
            continue;
        }
        assert_eq!(run.ours("Error (preflight)"), [""; 0], "{success}");
        assert_eq!(run.ours("Warn  (preflight): fd-chrdev: ").len(), 1, "{}", run.log);
        device.assert_untouched();
    }
}

/// Keeps the helper honest: what it writes is what protobuf says.
#[test]
fn varints() {
    assert_eq!(message(&[Field::Num(1, 300)]), [8, 0xac, 2]);
    assert_eq!(message(&[Field::Bytes(37, b"ab")]), [0xaa, 2, 2, b'a', b'b']);
    assert_eq!(answer(&[8, 1, 16, 1, 0x4a, 2, b'h', b'i']), (true, "hi".to_owned()));
}
