//! Who started criu, because a hint must name the place where *this* user can write the option.

use crate::bytes::file_name;
use crate::scan::sys;
use serde::{Deserialize, Serialize};
use std::os::unix::ffi::OsStrExt;

/// The program that drives criu, recognised by criu's parent process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// A command line, a script: options go on criu's own command line.
    Cli,
    Runc,
    Crun,
    /// runc or crun below containerd's shim: Docker, Kubernetes.
    Containerd,
    ContainerdCrun,
    /// runc or crun below CRI-O.
    Crio,
    CrioCrun,
    /// crun or runc below podman or conmon.
    PodmanCrun,
    PodmanRunc,
    Lxc,
    Youki,
    /// RPC by something else.
    Rpc,
    /// No CRIU: the dry run.
    None,
}

impl Runtime {
    /// As its users call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Runtime::Cli | Runtime::None => "criu",
            Runtime::Runc => "runc",
            Runtime::Crun => "crun",
            Runtime::Containerd | Runtime::ContainerdCrun => "containerd",
            Runtime::Crio | Runtime::CrioCrun => "CRI-O",
            Runtime::PodmanCrun | Runtime::PodmanRunc => "podman",
            Runtime::Lxc => "LXC",
            Runtime::Youki => "youki",
            Runtime::Rpc => "the client of CRIU",
        }
    }
}

/// A process above criu, nearest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ancestor {
    /// At most 15 bytes (TASK_COMM_LEN).
    pub comm: Vec<u8>,
    /// File name of the executable; empty when it cannot be read.
    pub exe: Vec<u8>,
    /// File name of `argv[0]`, which tells a script's or a re-executed program's own name.
    pub arg0: Vec<u8>,
}

/// How far up is looked: criu, runtime, shim or monitor, engine.
const MAX_ANCESTORS: usize = 5;

/// The processes above this one, as far as this pid namespace shows them.
pub(crate) fn ancestors() -> Vec<Ancestor> {
    let mut out = Vec::new();
    let mut pid = i32::try_from(std::os::unix::process::parent_id()).unwrap_or(0);
    while pid > 0 && out.len() < MAX_ANCESTORS {
        let dir = std::path::PathBuf::from(format!("/proc/{pid}"));
        let mut comm = sys::read_file(&dir.join("comm")).unwrap_or_default();
        if comm.last() == Some(&b'\n') {
            comm.pop();
        }
        let exe = std::fs::read_link(dir.join("exe"))
            .ok()
            .and_then(|p| p.file_name().map(|n| n.as_bytes().to_vec()))
            .unwrap_or_default();
        let cmdline = sys::read_file(&dir.join("cmdline")).unwrap_or_default();
        let arg0 = cmdline.split(|b| *b == 0).next().unwrap_or_default();
        let arg0 = file_name(arg0).to_vec();
        out.push(Ancestor { comm, exe, arg0 });
        let Some(parent) = parent_of(&dir) else { break };
        pid = parent;
    }
    out
}

/// PPid of status.
fn parent_of(dir: &std::path::Path) -> Option<i32> {
    let status = sys::read_file(&dir.join("status")).ok()?;
    let line = status.split(|b| *b == b'\n').find_map(|l| l.strip_prefix(b"PPid:"))?;
    std::str::from_utf8(line).ok()?.trim().parse().ok()
}

impl Ancestor {
    fn is(&self, name: &[u8]) -> bool {
        let comm = name.split_at_checked(15).map_or(name, |(head, _)| head);
        self.comm == comm || self.exe == name || self.arg0 == name
    }

    fn starts(&self, name: &[u8]) -> bool {
        self.comm.starts_with(name) || self.exe.starts_with(name)
    }
}

/// The runtime by its process names. `rpc`: criu was asked over a socket, not by a command line.
pub(crate) fn classify(above: &[Ancestor], rpc: bool) -> Runtime {
    let Some((parent, beyond)) = above.split_first() else {
        return if rpc { Runtime::Rpc } else { Runtime::Cli };
    };
    // A container of CRI-O has conmon above it, too, but criu has not: CRI-O runs the runtime itself.
    let crio = || beyond.iter().any(|a| a.is(b"crio"));
    let podman = || beyond.iter().any(|a| a.is(b"podman") || a.is(b"conmon"));
    let shim = || beyond.iter().any(|a| a.starts(b"containerd-shim"));
    // [by itself, below podman, below containerd, below CRI-O]
    let below = |[alone, in_podman, in_containerd, in_crio]: [Runtime; 4]| match (crio(), podman(), shim()) {
        (true, _, _) => in_crio,
        (_, true, _) => in_podman,
        (_, _, true) => in_containerd,
        _ => alone,
    };
    if parent.is(b"runc") {
        return below([Runtime::Runc, Runtime::PodmanRunc, Runtime::Containerd, Runtime::Crio]);
    }
    if parent.is(b"crun") {
        return below([Runtime::Crun, Runtime::PodmanCrun, Runtime::ContainerdCrun, Runtime::CrioCrun]);
    }
    if parent.starts(b"lxc-") || parent.is(b"lxd") || parent.is(b"incusd") {
        return Runtime::Lxc;
    }
    if parent.is(b"youki") {
        return Runtime::Youki;
    }
    if rpc {
        Runtime::Rpc
    } else {
        Runtime::Cli
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(names: &[&str]) -> Vec<Ancestor> {
        let cut = |n: &str| n.as_bytes()[..n.len().min(15)].to_vec();
        names.iter().map(|n| Ancestor { comm: cut(n), exe: n.as_bytes().to_vec(), arg0: Vec::new() }).collect()
    }

    #[test]
    fn the_parent_tells_the_runtime_and_its_own_parents_the_engine() {
        for (names, rpc, runtime) in [
            (&["runc", "bash"][..], true, Runtime::Runc),
            (&["runc", "containerd-shim-runc-v2", "systemd"], true, Runtime::Containerd),
            (&["runc", "podman", "bash"], true, Runtime::PodmanRunc),
            (&["crun", "podman"], true, Runtime::PodmanCrun),
            (&["crun", "conmon"], true, Runtime::PodmanCrun),
            (&["crun", "sh"], true, Runtime::Crun),
            (&["crun", "containerd-shim-runc-v2", "systemd"], true, Runtime::ContainerdCrun),
            (&["runc", "crio", "systemd"], true, Runtime::Crio),
            (&["crun", "crio", "systemd"], true, Runtime::CrioCrun),
            (&["lxc-checkpoint", "bash"], false, Runtime::Lxc),
            (&["youki"], true, Runtime::Youki),
            (&["bash", "podman"], false, Runtime::Cli),
            (&["python3"], true, Runtime::Rpc),
            (&[], false, Runtime::Cli),
        ] {
            assert_eq!(classify(&chain(names), rpc), runtime, "{names:?}");
        }
    }

    #[test]
    fn we_have_a_parent() {
        assert!(!ancestors().first().unwrap().comm.is_empty());
    }
}
