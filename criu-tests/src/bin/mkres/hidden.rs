//! What nobody outside can see before CRIU stumbles over it.

use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[
    Kind {
        name: "landlocked",
        help: "but=DIR: from now on this process, and its children, may read no file and no directory but below DIR (Landlock)",
        make: landlocked,
    },
    Kind {
        name: "sealed",
        help: "prot=none|read (none): private memory of that protection, sealed by mseal; open: not sealed",
        make: sealed,
    },
    Kind {
        name: "rseq",
        help: "area=read|none|gone|write: the page with the thread's memory for rseq(2) is protected so, or unmapped, while it waits; unregistered: it is no longer registered",
        make: rseq,
    },
];

fn landlocked(_: &mut Ctx, a: &Args) -> Res {
    // LANDLOCK_ACCESS_FS_READ_FILE and _READ_DIR.
    const READ: u64 = 0b1100;
    const LANDLOCK_RULE_PATH_BENEATH: u64 = 1;
    let [create, add, restrict] = [444, 445, 446];
    let handled = READ;
    let rules = sys::call("landlock_create_ruleset", create, [&raw const handled as u64, 8, 0, 0, 0])?;
    if let Some(dir) = a.get("but") {
        let dir = sys::open(dir, libc::O_PATH | libc::O_DIRECTORY)?;
        // struct landlock_path_beneath_attr is packed: 64 bits of rights, 32 of the descriptor.
        let mut beneath = [0u8; 12];
        beneath[..8].copy_from_slice(&READ.to_ne_bytes());
        beneath[8..].copy_from_slice(&dir.to_ne_bytes());
        let rule = [rules as u64, LANDLOCK_RULE_PATH_BENEATH, beneath.as_ptr() as u64, 0, 0];
        sys::call("landlock_add_rule", add, rule)?;
        sys::close(dir);
    }
    sys::ok("no_new_privs", unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    sys::call("landlock_restrict_self", restrict, [rules as u64, 0, 0, 0, 0])?;
    sys::close(rules);
    Ok(())
}

fn sealed(cx: &mut Ctx, a: &Args) -> Res {
    const SYS_MSEAL: libc::c_long = 462;
    let prot = if a.get("prot") == Some("read") { libc::PROT_READ } else { libc::PROT_NONE };
    let at = sys::mmap("anonymous", 2 * 4096, prot, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)?;
    if !a.has("open") {
        sys::call("mseal", SYS_MSEAL, [at as u64, 2 * 4096, 0, 0, 0])?;
    }
    cx.fact("addr", format!("{at:x}"));
    Ok(())
}

/// The C library registers memory for every thread, at this distance from the thread's pointer (glibc 2.35).
fn rseq(cx: &mut Ctx, a: &Args) -> Res {
    let offset = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__rseq_offset".as_ptr()) }.cast::<isize>();
    if offset.is_null() {
        return Err(Fail::Skip("the C library uses no rseq".into()));
    }
    if !cfg!(target_arch = "x86_64") {
        return Err(Fail::Skip("where a thread's pointer leads to is known for x86-64 alone".into()));
    }
    let (area, unregistered) = (a.need("area")?, a.has("unregistered"));
    if area != "write" && !unregistered && kernel()? >= (6, 19) {
        return Err(Fail::Skip("kernels from 6.19 do not write there each time that a thread goes on".into()));
    }
    let offset = unsafe { *offset };
    let (tx, rx) = std::sync::mpsc::channel::<(usize, i32)>();
    std::thread::spawn(move || {
        // On x86-64 that is the thread's pointer.
        let thread = unsafe { libc::pthread_self() } as usize;
        let tid = unsafe { libc::syscall(libc::SYS_gettid) } as i32;
        if unregistered {
            // RSEQ_FLAG_UNREGISTER, and RSEQ_SIG of x86.
            unsafe { libc::syscall(libc::SYS_rseq, thread.wrapping_add_signed(offset), 32, 1, 0x5305_3053) };
        }
        let _ = tx.send((thread, tid));
        loop {
            unsafe { libc::pause() };
        }
    });
    let (thread, tid) = rx.recv().map_err(|_| Fail::Skip("no thread".into()))?;
    // From now on it does not run: it would end the process.
    let sleeps = || {
        let call = std::fs::read_to_string(format!("/proc/self/task/{tid}/syscall"))?;
        Ok::<bool, std::io::Error>(call.starts_with(&format!("{} ", libc::SYS_pause)))
    };
    while !sleeps().map_err(|e| Fail::Skip(format!("its system call: {e}")))? {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let page = (thread.wrapping_add_signed(offset) & !4095) as *mut libc::c_void;
    let done = match area {
        "gone" => unsafe { libc::munmap(page, 4096) },
        "read" => unsafe { libc::mprotect(page, 4096, libc::PROT_READ) },
        "none" => unsafe { libc::mprotect(page, 4096, libc::PROT_NONE) },
        _ => 0,
    };
    sys::ok("the area", done)?;
    cx.pids.push(("rseq.tid".into(), tid));
    Ok(())
}

fn kernel() -> Res<(u32, u32)> {
    let release =
        std::fs::read_to_string("/proc/sys/kernel/osrelease").map_err(|e| Fail::Skip(format!("osrelease: {e}")))?;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|n| n.parse().ok());
    let both = numbers.next().zip(numbers.next());
    both.ok_or_else(|| Fail::Skip(format!("kernel {release}?")))
}
