//! Who started criu, because a hint must name the place where *this* user can write the option.

use serde::{Deserialize, Serialize};

/// The program that drives criu, told by criu's parent process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Runtime {
    /// A command line, a script: options go on criu's own command line.
    Cli,
    Runc,
    Crun,
    /// runc below containerd's shim.
    Containerd,
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
