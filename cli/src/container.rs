//! Which runtime a process is in a container of: recognised by the processes above it, or by the state that a runtime keeps of a
//! container whose starter has ended.

use std::path::Path;

/// How far up is looked: a monitor is above the first process of the container, and that is above all others.
const MOST_ANCESTORS: usize = 64;
/// A state file is some tens of KiB.
const LONGEST_STATE: u64 = 4 << 20;

/// Where runc and crun keep the state of containers that were started by hand, and what tells the pid in it.
const STATES: &[State] = &[
    State { runtime: "runc", dir: "/run/runc", file: "state.json", pid: "init_process_pid" },
    State { runtime: "crun", dir: "/run/crun", file: "status", pid: "pid" },
];

struct State {
    runtime: &'static str,
    dir: &'static str,
    file: &'static str,
    pid: &'static str,
}

/// The runtime, by its name for `--as`. `None`: the process is in no container, or in one of a runtime that is not known.
pub fn runtime_of(pid: i32) -> Option<&'static str> {
    let namespace = |of: &str| std::fs::read_link(format!("/proc/{of}/ns/mnt")).ok();
    if namespace(&pid.to_string())? == namespace("self")? {
        return None;
    }
    let mut above = Process::parent_of(pid);
    for _ in 0..MOST_ANCESTORS {
        let Some(process) = above else { break };
        if let Some(runtime) = process.runs_containers_of() {
            return Some(runtime);
        }
        above = Process::parent_of(process.pid);
    }
    STATES.iter().find(|state| state.has(pid)).map(|state| state.runtime)
}

/// A process above the container's.
struct Process {
    pid: i32,
    arguments: Vec<Vec<u8>>,
}

impl Process {
    /// The parent of a process; `None`: there is none that this /proc shows.
    fn parent_of(pid: i32) -> Option<Process> {
        let status = std::fs::read(format!("/proc/{pid}/status")).ok()?;
        let line = status.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"PPid:"))?;
        let pid = std::str::from_utf8(line).ok()?.trim().parse().ok().filter(|pid| *pid > 0)?;
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        Some(Process { pid, arguments: arguments.split(|b| *b == 0).map(<[u8]>::to_vec).collect() })
    }

    /// The runtime whose monitor of a container it is.
    fn runs_containers_of(&self) -> Option<&'static str> {
        let program = file_name(self.arguments.first()?);
        let after = |names: &[&[u8]]| {
            let at = self.arguments.iter().position(|a| names.contains(&a.as_slice()))?;
            self.arguments.get(at.checked_add(1)?)
        };
        match program {
            p if p.starts_with(b"containerd-shim") => match after(&[b"-namespace"]).map(Vec::as_slice) {
                Some(b"moby") => Some("docker"),
                _ => Some("containerd"),
            },
            b"conmon" | b"conmonrs" => {
                let of_crio = |a: &Vec<u8>| a.windows(4).any(|part| part == b"crio");
                let runtime = after(&[b"-r", b"--runtime"]).map(|path| file_name(path));
                match runtime {
                    _ if self.arguments.iter().any(of_crio) => Some("cri-o"),
                    Some(b"runc") => Some("podman-runc"),
                    _ => Some("podman"),
                }
            }
            b"runc" => Some("runc"),
            b"crun" => Some("crun"),
            // The monitor writes its own title: `[lxc monitor] /var/lib/lxc NAME`.
            p if p.starts_with(b"lxc-") || self.arguments.first()?.starts_with(b"[lxc monitor]") => Some("lxc"),
            _ => None,
        }
    }
}

fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|b| *b == b'/').next().unwrap_or(path)
}

impl State {
    /// Whether a container of this runtime has this process as its first.
    fn has(&self, pid: i32) -> bool {
        let Ok(containers) = std::fs::read_dir(self.dir) else { return false };
        containers.flatten().any(|container| self.pid_in(&container.path().join(self.file)) == Some(pid.into()))
    }

    fn pid_in(&self, file: &Path) -> Option<i64> {
        if std::fs::metadata(file).ok()?.len() > LONGEST_STATE {
            return None;
        }
        let state: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
        state.get(self.pid)?.as_i64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(command: &str) -> Option<&'static str> {
        let arguments = command.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        Process { pid: 1, arguments }.runs_containers_of()
    }

    #[test]
    fn the_monitor_tells_the_runtime() {
        for (command, runtime) in [
            (
                "/usr/bin/containerd-shim-runc-v2 -namespace moby -id 4f1 -address /run/containerd/containerd.sock",
                "docker",
            ),
            ("/usr/bin/containerd-shim-runc-v2 -namespace k8s.io -id 4f1", "containerd"),
            ("/usr/bin/conmon --api-version 1 -c 4f1 -u 4f1 -r /usr/bin/crun -b /var/lib/containers", "podman"),
            ("/usr/bin/conmon --api-version 1 -c 4f1 -u 4f1 -r /usr/bin/runc -b /var/lib/containers", "podman-runc"),
            ("/usr/bin/conmon -b /run/containers -c 4f1 --exit-dir /var/run/crio/exits -r /usr/bin/runc", "cri-o"),
            ("runc run web", "runc"),
            ("/usr/bin/crun run web", "crun"),
            ("lxc-start -n web", "lxc"),
        ] {
            assert_eq!(of(command), Some(runtime), "{command}");
        }
        let title = Process { pid: 1, arguments: vec![b"[lxc monitor] /var/lib/lxc web".to_vec()] };
        assert_eq!(title.runs_containers_of(), Some("lxc"));
        for other in ["bash", "/usr/bin/podman run web", "runcible", "containerd", ""] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn a_state_file_names_its_first_process() {
        let dir = std::env::temp_dir().join(format!("preflight-state-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("web")).unwrap();
        let path: &'static str = Box::leak(dir.to_str().unwrap().to_owned().into_boxed_str());
        let state = State { runtime: "runc", dir: path, file: "state.json", pid: "init_process_pid" };
        assert!(!state.has(4211));
        std::fs::write(dir.join("web/state.json"), r#"{"id":"web","init_process_pid":4211,"x":{"pid":7}}"#).unwrap();
        assert!(state.has(4211) && !state.has(7));
        std::fs::write(dir.join("web/state.json"), "{").unwrap();
        assert!(!state.has(4211));
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn what_shares_our_mounts_is_in_no_container() {
        assert_eq!(runtime_of(std::process::id().cast_signed()), None);
        assert_eq!(runtime_of(i32::MAX), None);
    }
}
