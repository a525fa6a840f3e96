//! A process and its threads.

use super::{link_at, read, Look};

/// Lines of /proc/PID/status.
const STATUS: &[&str] = &[
    "Name",
    "Umask",
    "Tgid",
    "Ngid",
    "Uid",
    "Gid",
    "Groups",
    "NSpid",
    "NSpgid",
    "NSsid",
    "SigPnd",
    "ShdPnd",
    "SigBlk",
    "SigIgn",
    "SigCgt",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "Seccomp_filters",
    "Speculation_Store_Bypass",
    "SpeculationIndirectBranch",
    "Cpus_allowed",
    "Mems_allowed",
    "THP_enabled",
    "CoreDumping",
    "Threads",
    "x86_Thread_features",
    "SigQ",
];

/// Files of /proc/PID, whole.
const FILES: &[&str] = &[
    "cmdline",
    "environ",
    "auxv",
    "loginuid",
    "oom_score_adj",
    "personality",
    "limits",
    "coredump_filter",
    "timerslack_ns",
    "cgroup",
    "attr/current",
    "uid_map",
    "gid_map",
    "setgroups",
    "timers",
];

pub fn threads(pid: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|t| t.file_name().to_string_lossy().parse().ok()).collect()
}

pub fn children(pid: i32) -> Vec<i32> {
    let of = |tid: i32| read(&format!("/proc/{pid}/task/{tid}/children"));
    let lists = threads(pid).into_iter().map(of).collect::<String>();
    lists.split_whitespace().filter_map(|p| p.parse().ok()).collect()
}

/// In the order of the numbers that they have in their own pid namespace.
pub fn sorted(pids: &[i32]) -> Vec<i32> {
    let own = |pid: &i32| -> i32 {
        let status = read(&format!("/proc/{pid}/status"));
        let numbers = field(&status, "NSpid").split_whitespace().last().map(String::from);
        numbers.and_then(|n| n.parse().ok()).unwrap_or(*pid)
    };
    let mut all = pids.to_vec();
    all.sort_by_key(own);
    all
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim()
}

pub fn see(look: &mut Look, pid: i32, label: &str) {
    for name in FILES {
        let text = read(&format!("/proc/{pid}/{name}"));
        look.note(label, name, text.trim_end());
    }
    for name in ["cwd", "root", "exe"] {
        let link = look.proc_link(&link_at(&format!("/proc/{pid}/{name}")));
        look.note(label, name, link);
    }
    for tid in sorted(&threads(pid)) {
        let at = look.labels.get(&tid).cloned().unwrap_or_default();
        thread(look, pid, tid, &at);
    }
}

/// Waits until no thread runs any more; a moment is enough for what mkres makes.
pub fn settle(root: i32) {
    let rests = |tid: &i32| {
        let stat = read(&format!("/proc/{tid}/stat"));
        stat.rsplit(") ").next().is_some_and(|s| !s.starts_with('R'))
    };
    let mut calm = 0;
    for _ in 0..200 {
        let all = crate::tree::descendants(root);
        let quiet = all.iter().flat_map(|pid| threads(*pid)).all(|tid| rests(&tid));
        calm = if quiet { calm + 1 } else { 0 };
        if calm == 3 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Where the stacks of its threads, which sleep, begin.
pub fn stack_pointers(pid: i32) -> Vec<usize> {
    let of = |tid: i32| {
        let call = read(&format!("/proc/{pid}/task/{tid}/syscall"));
        let sp = call.split_whitespace().rev().nth(1)?.strip_prefix("0x")?.to_string();
        usize::from_str_radix(&sp, 16).ok()
    };
    threads(pid).into_iter().filter_map(of).collect()
}

fn thread(look: &mut Look, pid: i32, tid: i32, at: &str) {
    let dir = format!("/proc/{pid}/task/{tid}");
    let status = read(&format!("{dir}/status"));
    let is_dead = field(&status, "State").starts_with('Z');
    for name in STATUS.iter().filter(|name| !is_dead || !name.starts_with("Sig")) {
        let value = field(&status, name);
        let value = match *name {
            // What every user's processes have pending together.
            // sigwaitinfo(2), in which every process of mkres is, takes what it waits for out of the mask.
            "SigBlk" => &format!("{:x}", u64::from_str_radix(value, 16).unwrap_or(0) & !(1 << (libc::SIGUSR1 - 1))),
            "SigQ" => value.split_once('/').map_or("", |(_, limit)| limit),
            // Only the own number is the tree's.
            "NSpid" | "NSpgid" | "NSsid" | "Tgid" => {
                value.split_whitespace().last().filter(|_| *name != "Tgid").unwrap_or_default()
            }
            _ => value,
        };
        look.note(at, name, value);
    }
    let stat = read(&format!("{dir}/stat"));
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split_whitespace().collect();
    let stopped = fields.first().is_some_and(|s| matches!(*s, "T" | "Z" | "t"));
    look.note(at, "state", if stopped { fields[0] } else { "runs" });
    // proc(5) counts from 1, with the pid and the name.
    for (name, nth) in [("tty_nr", 7), ("nice", 19), ("exit_signal", 38), ("rt_priority", 40), ("policy", 41)] {
        look.note(at, name, fields.get(nth - 3).unwrap_or(&""));
    }
    let ioprio = unsafe { libc::syscall(libc::SYS_ioprio_get, 1, tid) };
    look.note(at, "ioprio", ioprio);
    let mut attr = [0u32; 14];
    unsafe { libc::syscall(libc::SYS_sched_getattr, tid, attr.as_mut_ptr(), 56, 0) };
    look.note(at, "sched_attr", format!("{attr:x?}"));
    let (mut head, mut len) = (0usize, 0usize);
    unsafe { libc::syscall(libc::SYS_get_robust_list, tid, &raw mut head, &raw mut len) };
    look.note(at, "robust list", format!("{head:x}"));
}
