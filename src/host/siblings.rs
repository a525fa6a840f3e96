//! The other plugins of the directory and the hooks they claim.

use serde::{Deserialize, Serialize};

/// Hooks by which another plugin can accept what CRIU itself refuses (numbers: enum in criu-plugin.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hook {
    DumpUnixSk = 0,
    DumpExtFile = 2,
    DumpExtMount = 4,
    DumpExtLink = 6,
    HandleDeviceVma = 7,
}

impl Hook {
    /// CRIU's own name of the hook.
    pub fn name(self) -> &'static str {
        match self {
            Hook::DumpUnixSk => "DUMP_UNIX_SK",
            Hook::DumpExtFile => "DUMP_EXT_FILE",
            Hook::DumpExtMount => "DUMP_EXT_MOUNT",
            Hook::DumpExtLink => "DUMP_EXT_LINK",
            Hook::HandleDeviceVma => "HANDLE_DEVICE_VMA",
        }
    }
}

/// One other plugin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sibling {
    /// The name of its descriptor, or of its file while it is not loaded yet.
    pub name: crate::bytes::Bytes,
    /// Numbers of the hooks it has filled in.
    pub hooks: Vec<u32>,
}

/// All other plugins that are known about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Siblings {
    pub loaded: Vec<Sibling>,
    /// The directory holds plugins that CRIU will load after us: what they claim is not known yet. Never true in the
    /// frozen look.
    pub pending: bool,
}

impl Siblings {
    /// Whether a loaded plugin has the hook.
    pub fn claims(&self, hook: Hook) -> bool {
        self.loaded.iter().any(|s| s.hooks.contains(&(hook as u32)))
    }
}
