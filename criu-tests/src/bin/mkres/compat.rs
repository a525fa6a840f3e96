//! Programs of our own making: a 32-bit one, code run through a descriptor of its own, one that leaves its file (x86-64
//! only).

use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[
    Kind { name: "compat32", help: "a child that runs a 32-bit program", make: compat32 },
    Kind {
        name: "ldt",
        help: "a child whose code selector is in its LDT; unused: the entry is made, not used",
        make: ldt,
    },
    Kind {
        name: "exe-memfd",
        help: "a child that runs from a memfd, of which no mapping is left; kept: its mapping is",
        make: exe_memfd,
    },
    Kind {
        name: "exe-unlinked",
        help: "a child that runs from a file, of which no mapping and not the name is left, but another name; named: the name is; in=DIR; \
               deep: by a name too long for a path",
        make: exe_unlinked,
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

/// Where the program is loaded.
const BASE: u32 = 0x40_0000;

/// Makes a page, copies what follows into it and goes there.
#[rustfmt::skip]
const MOVE_OUT: [u8; 54] = [
    0x31, 0xff,                               // xor edi, edi
    0xbe, 0x00, 0x10, 0x00, 0x00,             // mov esi, 4096
    0xba, 0x07, 0x00, 0x00, 0x00,             // mov edx, PROT_READ | PROT_WRITE | PROT_EXEC
    0x41, 0xba, 0x22, 0x00, 0x00, 0x00,       // mov r10d, MAP_PRIVATE | MAP_ANONYMOUS
    0x49, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff, // mov r8, -1
    0x45, 0x31, 0xc9,                         // xor r9d, r9d
    0xb8, 0x09, 0x00, 0x00, 0x00,             // mov eax, SYS_mmap
    0x0f, 0x05,                               // syscall
    0x48, 0x89, 0xc7,                         // mov rdi, rax
    0x48, 0x8d, 0x35, 0x09, 0x00, 0x00, 0x00, // lea rsi, [rip + 9]
    0xb9, 0x1a, 0x00, 0x00, 0x00,             // mov ecx, 26
    0xf3, 0xa4,                               // rep movsb
    0xff, 0xe0,                               // jmp rax
];

/// There: gives the program's own page up, and waits for ever.
#[rustfmt::skip]
const FORGET: [u8; 26] = [
    0xbf, 0x00, 0x00, 0x40, 0x00,             // mov edi, BASE
    0xbe, 0x00, 0x10, 0x00, 0x00,             // mov esi, 4096
    0xb8, 0x0b, 0x00, 0x00, 0x00,             // mov eax, SYS_munmap
    0x0f, 0x05,                               // syscall
    0xb8, 0x22, 0x00, 0x00, 0x00,             // mov eax, SYS_pause
    0x0f, 0x05,                               // syscall
    0xeb, 0xf7,                               // jmp back
];

/// `for (;;) pause();`
const PAUSE_64: [u8; 9] = [0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];

/// The smallest static x86-64 program around this code.
fn elf64(code: &[u8]) -> Vec<u8> {
    let (base, size) = (u64::from(BASE), (64 + 56 + code.len()) as u64);
    let mut e = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    e.extend([2u16, 62].iter().flat_map(|v| v.to_le_bytes())); // executable, x86-64
    e.extend(1u32.to_le_bytes());
    e.extend([base + 120, 64, 0].iter().flat_map(|v| v.to_le_bytes())); // entry, headers
    e.extend(0u32.to_le_bytes());
    e.extend([64u16, 56, 1, 0, 0, 0].iter().flat_map(|v| v.to_le_bytes()));
    e.extend([1u32, 5].iter().flat_map(|v| v.to_le_bytes())); // one PT_LOAD, r-x
    e.extend([0, base, base, size, size, 0x1000].iter().flat_map(|v| v.to_le_bytes()));
    e.extend(code);
    e
}

fn exe_memfd(cx: &mut Ctx, a: &Args) -> Res {
    let code = if a.has("kept") { PAUSE_64.to_vec() } else { [MOVE_OUT.as_slice(), &FORGET].concat() };
    let fd = sys::call("memfd_create", libc::SYS_memfd_create, [c"program".as_ptr() as u64, 1, 0, 0, 0])?;
    sys::write_all(fd, &elf64(&code));
    let pid = execute(fd)?;
    sys::close(fd);
    cx.pids.push(("exe-memfd.child".into(), pid));
    settled(pid, |link| link.starts_with("/memfd:"), "no program runs from a memfd here")?;
    if a.has("kept") {
        return Ok(());
    }
    left(pid, "/memfd:program")
}

fn exe_unlinked(cx: &mut Ctx, a: &Args) -> Res {
    let path = a.get("in").map_or_else(|| cx.path("program"), |dir| format!("{dir}/program"));
    let other = cx.path("other-name");
    if a.has("deep") {
        let fd = crate::paths::deep_file(cx, 4300)?;
        sys::write_all(fd, &elf64(&[MOVE_OUT.as_slice(), &FORGET].concat()));
        sys::ok("fchmod", unsafe { libc::fchmod(fd, 0o755) })?;
        let program = sys::open(&format!("/proc/self/fd/{fd}"), libc::O_RDONLY)?;
        sys::close(fd);
        let pid = execute(program)?;
        sys::close(program);
        cx.pids.push(("exe-unlinked.child".into(), pid));
        return left(pid, &cx.dir);
    }
    let io = |e: std::io::Error| Fail::Skip(format!("{path}: {e}"));
    std::fs::write(&path, elf64(&[MOVE_OUT.as_slice(), &FORGET].concat())).map_err(io)?;
    sys::ok("chmod", unsafe { libc::chmod(sys::cstr(&path).as_ptr(), 0o755) })?;
    let fd = sys::open(&path, libc::O_RDONLY)?;
    let pid = execute(fd)?;
    sys::close(fd);
    cx.pids.push(("exe-unlinked.child".into(), pid));
    settled(pid, |link| link == path, "no program of our own making runs here")?;
    left(pid, &path)?;
    if a.has("named") {
        return Ok(());
    }
    std::fs::hard_link(&path, other).and_then(|()| std::fs::remove_file(&path)).map_err(io)
}

/// A child that runs the program in `fd`, which it does not keep.
fn execute(fd: i32) -> Res<i32> {
    let pid = sys::fork()?;
    if pid == 0 {
        sys::close_all_but(&[0, 1, 2, fd]);
        unsafe {
            libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC);
            let (argv, none) = ([c"program".as_ptr(), std::ptr::null()], [std::ptr::null()]);
            libc::fexecve(fd, argv.as_ptr(), none.as_ptr());
            libc::_exit(1)
        }
    }
    Ok(pid)
}

/// Waits until no mapping of it is left.
fn left(pid: i32, path: &str) -> Res {
    let pid = sys::shown(pid)?;
    for _ in 0..200 {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        if !maps.is_empty() && !maps.contains(path) {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Err(Fail::Broken("the program does not leave its file".into()))
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
    if ended(pid) {
        return Err(Fail::Skip("the program with a code selector in its LDT was killed".into()));
    }
    Ok(())
}

#[cfg(not(target_arch = "x86_64"))]
fn ldt(_: &mut Ctx, _: &Args) -> Res {
    Err(Fail::Skip("x86-64 only".into()))
}

fn ended(child: i32) -> bool {
    !matches!(test_signals::wait(child, libc::WNOHANG), Ok(None))
}

fn settled(pid: i32, is: impl Fn(&str) -> bool, otherwise: &str) -> Res {
    let shown = sys::shown(pid)?;
    for _ in 0..200 {
        if let Ok(exe) = std::fs::read_link(format!("/proc/{shown}/exe")) {
            if is(&exe.to_string_lossy()) {
                return Ok(());
            }
        }
        if ended(pid) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Err(Fail::Skip(otherwise.into()))
}
