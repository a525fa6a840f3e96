//! Processor modes: a 32-bit program, code run through a descriptor of its own (x86-64 only).

use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[
    Kind { name: "compat32", help: "a child that runs a 32-bit program", make: compat32 },
    Kind {
        name: "ldt",
        help: "a child whose code selector is in its LDT; unused: the entry is made, not used",
        make: ldt,
    },
];

/// `for (;;) pause();` by int 0x80.
const PAUSE_32: [u8; 9] = [0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7];

/// The smallest static i386 program around `PAUSE_32`.
fn elf32() -> Vec<u8> {
    const BASE: u32 = 0x0804_8000;
    let size = (52 + 32 + PAUSE_32.len()) as u32;
    let mut e = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    e.extend([2u16, 3].iter().flat_map(|v| v.to_le_bytes())); // executable, i386
    e.extend([1u32, BASE + 84, 52, 0, 0].iter().flat_map(|v| v.to_le_bytes())); // version, entry, headers, flags
    e.extend([52u16, 32, 1, 0, 0, 0].iter().flat_map(|v| v.to_le_bytes()));
    e.extend([1u32, 0, BASE, BASE, size, size, 5, 0x1000].iter().flat_map(|v| v.to_le_bytes())); // one PT_LOAD, r-x
    e.extend(PAUSE_32);
    e
}

fn compat32(cx: &mut Ctx, _: &Args) -> Res {
    let path = cx.path("elf32");
    std::fs::write(&path, elf32()).map_err(|e| Fail::Skip(format!("{path}: {e}")))?;
    let c = sys::cstr(&path);
    sys::ok("chmod", unsafe { libc::chmod(c.as_ptr(), 0o755) })?;
    let pid = sys::fork()?;
    if pid == 0 {
        sys::close_all_but(&[0, 1, 2]);
        let argv = [c.as_ptr(), std::ptr::null()];
        unsafe { libc::execv(c.as_ptr(), argv.as_ptr()) };
        unsafe { libc::_exit(1) };
    }
    cx.pids.push(("compat32.child".into(), pid));
    settled(pid, |link| link == path, "no 32-bit program runs here")
}

#[cfg(target_arch = "x86_64")]
fn ldt(cx: &mut Ctx, a: &Args) -> Res {
    let unused = a.has("unused");
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
    let prot = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let page = sys::mmap("low page", 8192, prot, flags, -1, 0)?;
    unsafe { (page as *mut u8).copy_from_nonoverlapping(PAUSE_32.as_ptr(), PAUSE_32.len()) };
    // struct user_desc: entry 0, base 0, limit, flags (32 bit, code, pages).
    let desc: [u32; 4] = [0, 0, 0xf_ffff, 1 | (2 << 1) | (1 << 4)];
    let nr = libc::SYS_modify_ldt;
    sys::call("modify_ldt", nr, [0x11, desc.as_ptr() as u64, 16, 0, 0])?;
    let pid = sys::fork()?;
    if pid == 0 {
        sys::close_all_but(&[0, 1, 2]);
        if unused {
            crate::ctx::wait_with(&[]);
        }
        // A far return to selector 7 (entry 0 of the LDT, ring 3), on a stack that fits 32 bits.
        unsafe {
            std::arch::asm!(
                "mov rsp, {stack}", "push 7", "push {code}", "retfq",
                stack = in(reg) page + 8192 - 16, code = in(reg) page, options(noreturn)
            )
        }
    }
    cx.pids.push(("ldt.child".into(), pid));
    std::thread::sleep(std::time::Duration::from_millis(30));
    if unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) } != 0 {
        return Err(Fail::Skip("the program with a code selector in its LDT was killed".into()));
    }
    Ok(())
}

#[cfg(not(target_arch = "x86_64"))]
fn ldt(_: &mut Ctx, _: &Args) -> Res {
    Err(Fail::Skip("x86-64 only".into()))
}

fn settled(pid: i32, is: impl Fn(&str) -> bool, otherwise: &str) -> Res {
    for _ in 0..200 {
        if let Ok(exe) = std::fs::read_link(format!("/proc/{pid}/exe")) {
            if is(&exe.to_string_lossy()) {
                return Ok(());
            }
        }
        if unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) } != 0 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Err(Fail::Skip(otherwise.into()))
}
