//! Memory in the way of CRIU's own code.

use crate::ctx::{Args, Ctx, Fail, Res};
use crate::task::{bare, in_state};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[
    Kind {
        name: "exec-map",
        help: "a mapping that is executable, shared and not writable, below all others; high: above them; how=private|writable: that",
        make: exec_map,
    },
    Kind {
        name: "address-space",
        help: "left=BYTES: a child whose RLIMIT_AS leaves so many; limit=data: its RLIMIT_DATA instead, which is below what it has",
        make: address_space,
    },
    Kind { name: "criu-leftover", help: "map, closed: what CRIU leaves in a process that it could not infect", make: leftover },
];

fn exec_map(cx: &mut Ctx, a: &Args) -> Res {
    let (mut prot, mut flags) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
    match a.get("how") {
        None => {}
        Some("writable") => prot |= libc::PROT_WRITE,
        Some("private") => flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
        Some(how) => return Err(Fail::Broken(format!("how={how}"))),
    }
    let low = 0x1000_0000 as *mut libc::c_void;
    let (at, fixed) = if a.has("high") { (std::ptr::null_mut(), 0) } else { (low, libc::MAP_FIXED_NOREPLACE) };
    let at = unsafe { libc::mmap(at, 65536, prot, flags | fixed, -1, 0) };
    if at == libc::MAP_FAILED {
        return Err(Fail::Skip(format!("mmap: {}", std::io::Error::last_os_error())));
    }
    cx.fact("addr", format!("{:x}", at as usize));
    Ok(())
}

/// Fields of statm: all of it, and data with stack.
fn in_use(field: usize) -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(field).and_then(|pages| pages.trim().parse::<u64>().ok()).unwrap_or(0) * 4096
}

fn address_space(cx: &mut Ctx, a: &Args) -> Res {
    let left = a.num("left", 0)? as u64;
    let data = a.get("limit") == Some("data");
    let limited = move || {
        let (which, now) = if data { (libc::RLIMIT_DATA, in_use(5) / 2) } else { (libc::RLIMIT_AS, in_use(0)) };
        let limit = libc::rlimit { rlim_cur: now + left, rlim_max: libc::RLIM_INFINITY };
        if unsafe { libc::setrlimit(which, &limit) } != 0 {
            unsafe { libc::_exit(1) };
        }
    };
    let pid = bare(cx, limited, in_state('S'))?;
    let line = if data { "Max data size" } else { "Max address space" };
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", sys::shown(pid)?)).unwrap_or_default();
    let soft = limits.lines().find_map(|l| l.strip_prefix(line)?.split_whitespace().next());
    match soft.is_some_and(|soft| soft != "unlimited") {
        true => Ok(()),
        false => Err(Fail::Skip("the child has no limit".into())),
    }
}

fn leftover(cx: &mut Ctx, a: &Args) -> Res {
    let fd = sys::ok("memfd_create", unsafe { libc::memfd_create(c"CRIUMFD".as_ptr(), 0) })?;
    sys::ok("ftruncate", unsafe { libc::ftruncate(fd, 65536) })?;
    if a.has("map") {
        let at = sys::mmap("the memfd", 65536, libc::PROT_READ | libc::PROT_EXEC, libc::MAP_SHARED, fd, 0)?;
        cx.fact("addr", format!("{at:x}"));
    }
    if a.has("closed") {
        sys::close(fd);
    } else {
        cx.fd("", fd);
    }
    Ok(())
}
