//! Runs a program with a time limit, for `criu restore`: if it fails, nothing that it has started is left.
//!
//! ```text
//! supervise SECONDS PROGRAM [ARG]...
//! ```
//!
//! What loses its parent comes to this process, and is known by that; if the program succeeds, to the one that has started this.
//! With a terminal as standard input it is run as a shell runs it: in a session that has that terminal, whose leader stays until the
//! terminal is hung up.
//!
//! The exit status is the program's, 124 after the limit, 128 and more if a signal ended it.

use criu_tests::tree::{descendants, end};
use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let limit = args.next().and_then(|s| s.to_str()?.parse().ok()).map(Duration::from_secs);
    let (Some(limit), Some(program)) = (limit, args.next()) else {
        eprintln!("supervise SECONDS PROGRAM [ARG]...");
        return ExitCode::from(2);
    };
    let args: Vec<OsString> = args.collect();
    match unsafe { libc::isatty(0) } {
        1 => in_terminal(limit, &program, &args),
        _ => ExitCode::from(run(limit, &program, &args)),
    }
}

fn in_terminal(limit: Duration, program: &OsString, args: &[OsString]) -> ExitCode {
    let (Ok((mut read, mut write)), Ok(child)) = (UnixStream::pair(), unsafe { test_signals::fork() }) else {
        return ExitCode::from(2);
    };
    if child == 0 {
        drop(read);
        unsafe {
            libc::setsid();
            libc::ioctl(0, libc::TIOCSCTTY, 0);
        }
        let _ = write.write_all(&[run(limit, program, args)]);
        drop(write);
        // The kernel ends the leader of a session whose terminal hangs up; no tree is looked at for so long.
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(120) {
            test_signals::reap_all();
            std::thread::sleep(Duration::from_millis(20));
        }
        std::process::exit(0);
    }
    drop(write);
    let mut code = [2];
    let _ = read.read_exact(&mut code);
    ExitCode::from(code[0])
}

fn run(limit: Duration, program: &OsString, args: &[OsString]) -> u8 {
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    let start = Instant::now();
    let mut child = match Command::new(program).args(args).spawn() {
        Ok(child) => child,
        Err(e) => {
            eprintln!("{}: {e}", program.display());
            return 2;
        }
    };
    let code = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status.code().unwrap_or(128 + status.signal().unwrap_or(0)),
            Ok(None) if start.elapsed() < limit => std::thread::sleep(Duration::from_millis(2)),
            _ => break 124,
        }
    };
    if code != 0 {
        let own = std::process::id().cast_signed();
        // A process may be on its way to us while we look.
        for _ in 0..10 {
            let mut left = descendants(own);
            left.remove(&own);
            if left.is_empty() {
                break;
            }
            end(&left);
        }
    }
    u8::try_from(code).unwrap_or(255)
}
