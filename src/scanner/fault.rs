//! Faults on demand, only in builds made for the test of what becomes of them.

/// Carries out what CRIU_PREFLIGHT_FAULT names, in the early or the frozen look: `early-panic`, `frozen-hang`, ... `send` sends a
/// packet to CRIU's process.
#[allow(clippy::panic)]
// In a build with faults the rest is linked code all the same, but this is not shipped.
pub(crate) fn inject(frozen: bool, send: &dyn Fn(&[u8])) {
    let Ok(fault) = std::env::var("CRIU_PREFLIGHT_FAULT") else { return };
    let Some((phase, what)) = fault.split_once('-') else { return };
    if phase != if frozen { "frozen" } else { "early" } {
        return;
    }
    let signal = |number| {
        // SAFETY: a signal to this very process.
        unsafe { libc::kill(libc::getpid(), number) };
    };
    match what {
        "panic" => panic!("injected fault"),
        "abort" => std::process::abort(),
        // SAFETY: ends the process.
        "exit" => unsafe { libc::_exit(3) },
        "kill" => signal(libc::SIGKILL),
        "stop" => signal(libc::SIGSTOP),
        "hang" => loop {
            std::thread::sleep(std::time::Duration::from_secs(1));
        },
        // A file whose server never answers: state D, and no signal ends it.
        "stuck" => drop(std::env::var_os("CRIU_PREFLIGHT_FAULT_FILE").map(std::fs::File::open)),
        "memory" => {
            let mut all: Vec<Vec<u8>> = Vec::new();
            loop {
                all.push(vec![1; 1 << 20]);
            }
        }
        "stack" => drop(deep(u64::MAX)),
        "garbage" => send(b"\xff\0garbage"),
        "forged" => send(b"l\x01Error (preflight): two\nlines"),
        "reasonless" => send(b"v\x01"),
        "long" => send(&[b'r'; 100_000]),
        "flood" => loop {
            send(b"l\x04preflight: again");
        },
        _ => {}
    }
}

#[allow(unconditional_recursion)]
fn deep(n: u64) -> u64 {
    std::hint::black_box([n; 64]).iter().fold(deep(n.wrapping_sub(1)), |all, one| all ^ one)
}
