//! How many system calls each of the two looks makes, counted with ptrace(2), those of its helpers too.

use std::collections::HashMap;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Tells the process that looks that it is counted: it stops before, between and after the looks.
pub const COUNTED: &str = "PREFLIGHT_SCALE_COUNTED";

/// System calls by number.
pub type Calls = HashMap<u64, u64>;

/// Of the early and of the frozen look.
pub fn calls(pid: i32) -> io::Result<[Calls; 2]> {
    let mut cmd = Command::new(std::env::current_exe()?);
    cmd.args(["--measure", &pid.to_string()]).env(COUNTED, "").stdin(Stdio::null()).stdout(Stdio::null());
    // SAFETY: one system call between fork and exec.
    unsafe { cmd.pre_exec(|| ask(libc::PTRACE_TRACEME, 0, 0)) };
    let child = cmd.spawn()?;
    let counted = follow(child.id() as i32)?;
    Ok(counted)
}

fn ask(request: libc::c_uint, pid: i32, data: u64) -> io::Result<()> {
    // SAFETY: no request that is made here writes to memory.
    match unsafe { libc::ptrace(request, pid, 0u64, data) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn follow(main: i32) -> io::Result<[Calls; 2]> {
    const SYSCALL: i32 = libc::SIGTRAP | 0x80;
    let mut counted = [Calls::new(), Calls::new()];
    // Stops of `main` so far: before the first look, between the two, after the second.
    let mut phase = 0usize;
    // By thread: whether it is in a system call.
    let mut inside: HashMap<i32, bool> = HashMap::new();
    let mut begun = false;
    loop {
        let mut status = 0;
        // SAFETY: the kernel writes one number.
        let pid = unsafe { libc::waitpid(-1, &mut status, libc::__WALL) };
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        if !libc::WIFSTOPPED(status) {
            inside.remove(&pid);
            if pid == main {
                return if phase == 3 && status == 0 {
                    Ok(counted)
                } else {
                    Err(io::Error::other("it has not looked"))
                };
            }
            continue;
        }
        let mut signal = 0;
        match libc::WSTOPSIG(status) {
            SYSCALL => {
                let entered = inside.entry(pid).or_insert(false);
                *entered = !*entered;
                if let Some(calls) = entered.then(|| counted.get_mut(phase.wrapping_sub(1usize))).flatten() {
                    *calls.entry(number(pid)?).or_default() += 1;
                }
            }
            // Of the exec, or the news of a new thread or process, which comes to us stopped.
            libc::SIGTRAP => {
                if !begun {
                    begun = true;
                    let follow = libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_TRACEFORK | libc::PTRACE_O_TRACEVFORK;
                    let options = follow | libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL;
                    ask(libc::PTRACE_SETOPTIONS, pid, options as u64)?;
                }
            }
            libc::SIGSTOP => {
                if pid == main {
                    phase += 1;
                }
            }
            other => signal = other,
        }
        match ask(libc::PTRACE_SYSCALL, pid, signal as u64) {
            // It was killed meanwhile; that is told by the next wait.
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => {}
            other => other?,
        }
    }
}

/// Which system call it is entering.
fn number(pid: i32) -> io::Result<u64> {
    // SAFETY: the kernel fills in the registers of a stopped task of ours.
    unsafe {
        let mut info: libc::ptrace_syscall_info = std::mem::zeroed();
        let size = std::mem::size_of_val(&info);
        if libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, pid, size, &mut info) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(info.u.entry.nr)
    }
}
