//! What only a tracer can read: the register set of a stopped thread. Reads, and changes nothing.

use crate::scan::passes::PassContext;
use crate::scan::task::links;
use crate::snapshot::{Probe, Regs, Task};
use nix::errno::Errno;

/// NT_PRSTATUS (linux/elf.h): the general purpose registers.
const NT_PRSTATUS: libc::c_int = 1;

/// Fills in the registers of all threads, and of tasks whose leader's cannot be read the class of their program.
pub(crate) fn collect(cx: &mut PassContext) {
    let live = |t: &&mut Task| !t.is_zombie();
    let tasks = &mut cx.snap.tasks;
    let tids: Vec<i32> = tasks.iter_mut().filter(live).flat_map(|t| &t.threads).map(|t| t.tid).collect();
    let threads = tasks.iter_mut().filter(live).flat_map(|t| &mut t.threads);
    for (thread, regs) in threads.zip((cx.registers)(&tids)) {
        thread.regs = regs;
    }
    for task in tasks.iter_mut().filter(live) {
        if task.threads.first().is_some_and(|leader| leader.regs.is_none()) {
            // What a rule reads there: of no other architecture.
            if cfg!(target_arch = "x86_64") {
                cx.log.deny(task.pid, None, Probe::Registers, 0);
            }
            if let Some(dir) = cx.log.take(cx.proc.process(task.pid), task.pid, None, Probe::Process) {
                links::program(task, &dir, cx.b, cx.log);
            }
        }
    }
}

/// The general purpose registers of a thread that the calling thread traces and that is stopped. `None`: it is not.
///
/// The size tells the mode the thread is in right now, which is what CRIU judges (`arch_can_dump_task` in
/// compel/arch/x86): the register set of a task in 32-bit mode is the shorter one, whatever its executable is.
pub(crate) fn read(tid: i32) -> Option<Regs> {
    // More than any architecture has in this set (x86-64: 216 bytes, arm64: 272).
    let mut set = [0u8; 1024];
    let mut iov = libc::iovec { iov_base: set.as_mut_ptr().cast(), iov_len: set.len() };
    // SAFETY: the kernel writes at most `iov_len` bytes to `iov_base`, which is `set`, and the new length to `iov_len`.
    let r = unsafe { libc::ptrace(libc::PTRACE_GETREGSET, tid, NT_PRSTATUS, std::ptr::from_mut(&mut iov)) };
    Errno::result(r).ok()?;
    let filled = set.get(..iov.iov_len)?;
    Some(Regs { size: filled.len(), cs: code_segment(filled), rseq: rseq(tid) })
}

/// The address that such a thread has given to rseq(2), 0 for none (`ptrace_get_rseq_configuration`, kernel/ptrace.c, Linux 5.13).
fn rseq(tid: i32) -> u64 {
    const PTRACE_GET_RSEQ_CONFIGURATION: libc::c_uint = 0x420f;
    // struct ptrace_rseq_configuration: address, size, signature, flags, padding.
    let mut asked = [0u64; 3];
    let size = std::mem::size_of_val(&asked);
    // SAFETY: the kernel writes at most `size` bytes to `asked`.
    let r = unsafe { libc::ptrace(PTRACE_GET_RSEQ_CONFIGURATION, tid, size, asked.as_mut_ptr()) };
    Errno::result(r).map_or(0, |_| asked.first().copied().unwrap_or_default())
}

/// The code segment selector of an x86 register set, 0 elsewhere: word 17 of `struct user_regs_struct`, word 13 of
/// `struct user_regs_struct32` (arch/x86/include/asm/user_64.h, user32.h).
fn code_segment(set: &[u8]) -> u64 {
    if !cfg!(any(target_arch = "x86_64", target_arch = "x86")) {
        return 0;
    }
    let wide = || Some(u64::from_ne_bytes(set.get(17 * 8..18 * 8)?.try_into().ok()?));
    let narrow = || Some(u64::from(u32::from_ne_bytes(set.get(13 * 4..14 * 4)?.try_into().ok()?)));
    wide().or_else(narrow).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::ptrace;
    use nix::unistd::Pid;

    #[test]
    fn registers_of_a_stopped_child() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert_eq!(read(pid), None, "not traced");
        ptrace::seize(Pid::from_raw(pid), ptrace::Options::empty()).unwrap();
        ptrace::interrupt(Pid::from_raw(pid)).unwrap();
        test_signals::wait(pid, 0).unwrap();
        let regs = read(pid).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        if cfg!(target_arch = "x86_64") {
            assert_eq!((regs.size, regs.cs), (216, 0x33));
        }
        // glibc registers one for each thread from 2.35 on.
        if regs.rseq != 0 {
            assert!(regs.rseq % 32 == 0, "{regs:?}");
        }
    }

    #[test]
    fn the_selector_by_size() {
        if cfg!(target_arch = "x86_64") {
            let mut wide = [0u8; 216];
            wide[17 * 8] = 0x33;
            assert_eq!(code_segment(&wide), 0x33);
            let mut narrow = [0u8; 68];
            narrow[13 * 4] = 0x23;
            assert_eq!(code_segment(&narrow), 0x23);
        }
    }
}
