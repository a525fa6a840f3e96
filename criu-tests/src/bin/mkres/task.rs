//! States of processes, and what they share with each other.

use crate::ctx::{wait_with, Args, Ctx, Fail, Res};
use crate::{sys, Kind};

pub const KINDS: &[Kind] = &[
    Kind {
        name: "share",
        help: "what=vm|fs|files|sighand: a child that shares it with us; files-sibling: two children",
        make: share,
    },
    Kind { name: "vfork", help: "a child waiting for its vfork child", make: vfork },
    Kind { name: "leader-exit", help: "a child whose first thread has ended, the second has not", make: leader_exit },
    Kind { name: "pending", help: "sig=N (5, SIGTRAP): a child that has it blocked and pending", make: pending },
    Kind { name: "stopped", help: "sig=N (19, SIGSTOP): a child stopped by it", make: stopped },
    Kind { name: "zombie", help: "a dead child", make: zombie },
    Kind { name: "groups", help: "n=N: so many supplementary groups, numbered from base=4000000000", make: groups },
    Kind { name: "guard", help: "a mapping with a guard region (MADV_GUARD_INSTALL)", make: guard },
    Kind {
        name: "vvar-gap",
        help:
            "[vvar] and [vvar_vclock] moved elsewhere, a page apart; unreadable: [vvar_vclock] without access instead",
        make: vvar_gap,
    },
    Kind {
        name: "uprobes",
        help: "a function of ours was probed once, by perf; never: nobody called it",
        make: uprobes,
    },
    Kind {
        name: "dead-proc",
        help: "the /proc directory of a dead child is open; reused: a thread has its number now; in=NAME: a directory in it; \
               enter: we are in it",
        make: dead_proc,
    },
    Kind { name: "no-exec", help: "a child all of whose memory has lost PROT_EXEC while it waits", make: no_exec },
    Kind { name: "seccomp", help: "a filter that lets everything pass", make: seccomp },
    Kind { name: "ionice", help: "an I/O priority of its own", make: ionice },
    Kind { name: "deadline", help: "scheduled by SCHED_DEADLINE", make: deadline },
    Kind { name: "nofile", help: "n=N: the limit of open files", make: nofile },
    Kind {
        name: "time-for-children",
        help: "our children would live in a new time namespace",
        make: time_for_children,
    },
];

/// fork with clone flags, on a stack of its own. Unless it shares ours, the child's descriptor table is emptied: a copy
/// of the report pipe in it would keep the report from ending. Where it shares our memory it shares the allocator's state
/// as well, at the same time as we go on: it may do nothing but system calls.
fn clone_child(flags: i32) -> Res<i32> {
    extern "C" fn rest(own_table: *mut libc::c_void) -> i32 {
        if !own_table.is_null() {
            unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
        }
        loop {
            unsafe { libc::pause() };
        }
    }
    let stack = Box::leak(vec![0u64; 8192].into_boxed_slice());
    let own_table = usize::from(flags & libc::CLONE_FILES == 0) as *mut libc::c_void;
    let top = stack.as_mut_ptr_range().end.cast();
    unsafe { test_signals::clone_at(rest, top, flags | libc::SIGCHLD, own_table) }
        .map_err(|e| Fail::Skip(format!("clone: {e}")))
}

fn share(cx: &mut Ctx, a: &Args) -> Res {
    let flags = match a.need("what")? {
        "vm" => libc::CLONE_VM,
        "fs" => libc::CLONE_FS,
        "files" => libc::CLONE_FILES,
        "sighand" => libc::CLONE_SIGHAND | libc::CLONE_VM,
        "files-sibling" => {
            // The child makes its brother: same parent, one descriptor table, and not the parent's.
            let first = cx.child("first", &[], || clone_child(libc::CLONE_FILES | libc::CLONE_PARENT).map(|_| ()))?;
            let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
            let mut after = children.split_whitespace().filter_map(|p| p.parse().ok()).skip_while(|p| *p != first);
            let brother = after.nth(1).ok_or_else(|| Fail::Broken(format!("no brother of {first}: {children}")))?;
            cx.pids.push((format!("{}.brother", cx.kind), brother));
            return Ok(());
        }
        w => return Err(Fail::Broken(format!("what={w}"))),
    };
    let pid = clone_child(flags)?;
    cx.pids.push((format!("{}.child", cx.kind), pid));
    Ok(())
}

/// A bare child that runs `f`, reported as soon as `/proc/PID/status` has a line that `is` what we wait for.
pub fn bare(cx: &mut Ctx, f: impl FnOnce(), is: impl Fn(&str) -> bool) -> Res<i32> {
    let pid = sys::fork()?;
    if pid == 0 {
        sys::close_all_but(&[0, 1, 2]);
        f();
        wait_with(&[]);
    }
    cx.pids.push((format!("{}.child", cx.kind), pid));
    let shown = sys::shown(pid)?;
    for _ in 0..400 {
        let status = std::fs::read_to_string(format!("/proc/{shown}/status")).unwrap_or_default();
        if status.lines().any(&is) {
            return Ok(pid);
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Err(Fail::Skip("the child does not come into that state".into()))
}

pub fn in_state(letter: char) -> impl Fn(&str) -> bool {
    move |l| l.strip_prefix("State:").is_some_and(|s| s.trim_start().starts_with(letter))
}

fn vfork(cx: &mut Ctx, _: &Args) -> Res {
    let flags = libc::CLONE_VM | libc::CLONE_VFORK;
    bare(cx, move || drop(clone_child(flags)), in_state('D')).map(|_| ())
}

fn leader_exit(cx: &mut Ctx, _: &Args) -> Res {
    let f = || {
        std::thread::spawn(|| loop {
            unsafe { libc::pause() };
        });
        unsafe { libc::syscall(libc::SYS_exit, 0) };
    };
    bare(cx, f, in_state('Z')).map(|_| ())
}

fn pending(cx: &mut Ctx, a: &Args) -> Res {
    let sig = a.num("sig", libc::SIGTRAP as i64)? as i32;
    let f = move || unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigaddset(&mut set, sig);
        libc::sigprocmask(libc::SIG_BLOCK, &set, std::ptr::null_mut());
        let _ = test_signals::signal_self(sig);
    };
    let has = |l: &str| l.strip_prefix("ShdPnd:").is_some_and(|m| m.trim().chars().any(|c| c != '0'));
    bare(cx, f, has).map(|_| ())
}

fn stopped(cx: &mut Ctx, a: &Args) -> Res {
    let sig = a.num("sig", libc::SIGSTOP as i64)? as i32;
    let f = move || unsafe {
        // In our group, with a parent outside the session, the terminal's stop signals would be ignored.
        libc::setpgid(0, 0);
        let _ = test_signals::signal_self(sig);
    };
    bare(cx, f, in_state('T')).map(|_| ())
}

fn zombie(cx: &mut Ctx, _: &Args) -> Res {
    bare(cx, || unsafe { libc::_exit(3) }, in_state('Z')).map(|_| ())
}

fn groups(_: &mut Ctx, a: &Args) -> Res {
    let base = a.num("base", 4_000_000_000)?;
    let ids: Vec<u32> = (0..a.num("n", 1)?).map(|i| (base + i) as u32).collect();
    sys::ok("setgroups", unsafe { libc::setgroups(ids.len(), ids.as_ptr()) }).map(|_| ())
}

fn guard(cx: &mut Ctx, _: &Args) -> Res {
    let prot = libc::PROT_READ | libc::PROT_WRITE;
    let at = sys::mmap("anonymous", 16 * 4096, prot, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)?;
    unsafe { (at as *mut u8).write_bytes(1, 16 * 4096) };
    let middle = (at + 8 * 4096) as *mut libc::c_void;
    sys::ok("MADV_GUARD_INSTALL", unsafe { libc::madvise(middle, 4096, 102) })?;
    cx.fact("addr", format!("{:x}", middle as usize));
    Ok(())
}

/// Ends of the mappings named `name`.
fn named(name: &str) -> Vec<(usize, usize)> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    maps.lines().filter(|l| l.ends_with(name)).filter_map(range).collect()
}

fn vvar_gap(_: &mut Ctx, a: &Args) -> Res {
    let (data, clocks) = (named("[vvar]"), named("[vvar_vclock]"));
    let (Some(data), Some(clocks)) = (data.first(), clocks.first()) else {
        return Err(Fail::Skip("this kernel has no [vvar_vclock]".into()));
    };
    if a.has("unreadable") {
        let (at, len) = (clocks.0 as *mut libc::c_void, clocks.1 - clocks.0);
        return sys::ok("mprotect", unsafe { libc::mprotect(at, len, libc::PROT_NONE) }).map(|_| ());
    }
    // Both go to a free place, a page apart.
    let (data_len, clocks_len) = (data.1 - data.0, clocks.1 - clocks.0);
    let room = data_len + clocks_len + 4096;
    let to = sys::mmap("room", room, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)?;
    sys::ok("munmap", unsafe { libc::munmap(to as *mut libc::c_void, room) })?;
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    for (from, len, to) in [(data.0, data_len, to), (clocks.0, clocks_len, to + data_len + 4096)] {
        let moved = unsafe { libc::mremap(from as *mut libc::c_void, len, len, flags, to) };
        sys::ok("mremap", moved as isize)?;
    }
    Ok(())
}

fn dead_proc(cx: &mut Ctx, a: &Args) -> Res {
    let child = sys::fork()?;
    if child == 0 {
        wait_with(&[]);
    }
    let inside = a.get("in").unwrap_or_default();
    let fd = sys::open(&format!("/proc/{child}/{inside}"), libc::O_RDONLY | libc::O_DIRECTORY)?;
    sys::end(child)?;
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    if inside == "fd" && unsafe { libc::fstat(fd, &mut stat) } == 0 {
        return Err(Fail::Skip("this kernel still tells of it (before 6.2)".into()));
    }
    if a.has("enter") {
        sys::ok("fchdir", unsafe { libc::fchdir(fd) })?;
        sys::close(fd);
        return Ok(());
    }
    cx.fd("", fd);
    if !a.has("reused") {
        return Ok(());
    }
    std::fs::write("/proc/sys/kernel/ns_last_pid", (child - 1).to_string())
        .map_err(|e| Fail::Skip(format!("ns_last_pid: {e}")))?;
    let (tx, rx) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let _ = tx.send(unsafe { libc::syscall(libc::SYS_gettid) } as i32);
        loop {
            unsafe { libc::pause() };
        }
    });
    match rx.recv() {
        Ok(tid) if tid == child => Ok(()),
        _ => Err(Fail::Skip("another was faster to get the number".into())),
    }
}

#[inline(never)]
extern "C" fn probed(n: u64) -> u64 {
    std::hint::black_box(n) + 1
}

/// The kernel makes the area when a probe is hit, and leaves it when the probe has gone.
fn uprobes(_: &mut Ctx, a: &Args) -> Res {
    let number = std::fs::read_to_string("/sys/bus/event_source/devices/uprobe/type").unwrap_or_default();
    let kind: u64 = number.trim().parse().map_err(|_| Fail::Skip("this kernel has no uprobes of perf".into()))?;
    let at = probed as *const () as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let offset = maps.lines().find_map(|l| {
        let (start, end) = range(l)?;
        let inside = (start..end).contains(&at);
        let offset = usize::from_str_radix(l.split_whitespace().nth(2)?, 16).ok()?;
        inside.then_some(at - start + offset)
    });
    let offset = offset.ok_or_else(|| Fail::Broken("our own code is not in maps".into()))?;
    let file = std::fs::read_link("/proc/self/exe").unwrap_or_default();
    let file = sys::cstr(&file.to_string_lossy());
    // Of struct perf_event_attr: type and size, config (1: at the return), config1 and config2 (file and offset).
    let mut attr = [0u64; 14];
    attr[0] = kind | (112 << 32);
    attr[1] = 1;
    attr[7] = file.as_ptr() as u64;
    attr[8] = offset as u64;
    let fd = sys::call("perf_event_open", libc::SYS_perf_event_open, [attr.as_ptr() as u64, 0, u64::MAX, u64::MAX, 0])?;
    if !a.has("never") {
        std::hint::black_box(probed(1));
        if named("[uprobes]").is_empty() {
            return Err(Fail::Skip("the probe was hit, and no [uprobes] came".into()));
        }
    }
    sys::close(fd);
    Ok(())
}

/// Machine code that calls mprotect(start, length, PROT_READ) for each pair of a list, for ever: the last is its own page.
#[rustfmt::skip]
const TAKE_EXEC: [u8; 28] = [
    0x48, 0x89, 0xfb,             // mov rbx, rdi
    0x48, 0x8b, 0x3b,             // mov rdi, [rbx]
    0x48, 0x8b, 0x73, 0x08,       // mov rsi, [rbx + 8]
    0xba, 0x01, 0x00, 0x00, 0x00, // mov edx, PROT_READ
    0xb8, 0x0a, 0x00, 0x00, 0x00, // mov eax, SYS_mprotect
    0x0f, 0x05,                   // syscall
    0x48, 0x83, 0xc3, 0x10,       // add rbx, 16
    0xeb, 0xe7,                   // jmp to the second
];

/// What runs cannot do without executable memory, so another process in the same memory takes it away, and falls by it.
/// The child is in a system call meanwhile; it lives as long as nothing makes it return from there.
fn no_exec(cx: &mut Ctx, _: &Args) -> Res {
    extern "C" fn take(list: *mut libc::c_void) -> i32 {
        let moment = libc::timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        unsafe {
            libc::nanosleep(&moment, std::ptr::null_mut());
            // The last pair is the page of the code.
            let mut last = list.cast::<[usize; 2]>();
            while (*last.add(1))[0] != 0 {
                last = last.add(1);
            }
            let code: extern "C" fn(*mut libc::c_void) = std::mem::transmute((*last)[0]);
            code(list);
        }
        0
    }
    let pid = sys::fork()?;
    if pid == 0 {
        sys::close_all_but(&[0, 1, 2]);
        // No core file of the one that falls.
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &none) };
        let all = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        let Ok(page) = sys::mmap("code", 4096, all, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0) else {
            unsafe { libc::_exit(1) }
        };
        unsafe { std::ptr::copy_nonoverlapping(TAKE_EXEC.as_ptr(), page as *mut u8, TAKE_EXEC.len()) };
        let mut list: Vec<[usize; 2]> = executable("self").iter().map(|(start, end)| [*start, end - start]).collect();
        list.retain(|[start, _]| *start != page);
        list.extend([[page, 4096], [0, 0]]);
        let stack = vec![0u64; 8192].leak();
        let top = stack.as_mut_ptr_range().end.cast();
        let list = list.leak().as_mut_ptr().cast();
        let _ = unsafe { test_signals::clone_at(take, top, libc::CLONE_VM | libc::SIGCHLD, list) };
        loop {
            unsafe { libc::pause() };
        }
    }
    cx.pids.push((format!("{}.child", cx.kind), pid));
    let pid = sys::shown(pid)?;
    for _ in 0..400 {
        // The one that took it has to have fallen, or the tree changes under whoever looks.
        if executable(&pid.to_string()).is_empty() && children(pid).into_iter().all(is_dead) {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Err(Fail::Skip("the child keeps executable memory".into()))
}

fn children(pid: i32) -> Vec<i32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|p| p.parse().ok()).collect()
}

fn is_dead(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

/// The executable mappings of a process, but for the one that belongs to the kernel.
fn executable(pid: &str) -> Vec<(usize, usize)> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let is = |l: &&str| l.split_whitespace().nth(1).is_some_and(|p| p.contains('x')) && !l.ends_with("[vsyscall]");
    maps.lines().filter(is).filter_map(range).collect()
}

/// Start and end of a line of maps.
fn range(line: &str) -> Option<(usize, usize)> {
    let (start, end) = line.split_whitespace().next()?.split_once('-')?;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

fn ionice(_: &mut Ctx, _: &Args) -> Res {
    // IOPRIO_WHO_PROCESS; class best-effort, level 3.
    sys::call("ioprio_set", libc::SYS_ioprio_set, [1, 0, (2 << 13) | 3, 0, 0]).map(|_| ())
}

fn deadline(_: &mut Ctx, _: &Args) -> Res {
    // struct sched_attr: size and policy, flags, nice and priority, runtime, deadline, period. It may take a tenth of
    // each second: CRIU's parasite has to do its work in that.
    let attr = [48 | (6 << 32), 0u64, 0, 100_000_000, 1_000_000_000, 1_000_000_000];
    sys::call("sched_setattr", libc::SYS_sched_setattr, [0, attr.as_ptr() as u64, 0, 0, 0]).map(|_| ())
}

fn nofile(_: &mut Ctx, a: &Args) -> Res {
    let n = a.num("n", 3)? as u64;
    let lim = libc::rlimit { rlim_cur: n, rlim_max: n };
    sys::ok("setrlimit", unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &lim) }).map(|_| ())
}

fn time_for_children(_: &mut Ctx, _: &Args) -> Res {
    sys::ok("unshare(CLONE_NEWTIME)", unsafe { libc::unshare(0x80) }).map(|_| ())
}

fn seccomp(_: &mut Ctx, _: &Args) -> Res {
    // BPF_RET | BPF_K, SECCOMP_RET_ALLOW.
    let mut allow = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 };
    let program = libc::sock_fprog { len: 1, filter: &raw mut allow };
    sys::ok("no_new_privs", unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    sys::ok("seccomp", unsafe { libc::prctl(libc::PR_SET_SECCOMP, 2, &raw const program) }).map(|_| ())
}
