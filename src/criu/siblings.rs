//! The other plugins of the directory and the hooks they claim.

use crate::criu::safe_read as mem;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

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
    pub(crate) fn name(self) -> &'static str {
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
    /// The program that the CUDA plugin drives is there: without it that plugin switches itself off.
    #[serde(default)]
    pub cuda_checkpoint: bool,
}

impl Siblings {
    /// Whether CRIU's CUDA plugin is loaded and enabled. It has no hook that accepts a descriptor: between
    /// CHECKPOINT_DEVICES and the dump it makes the devices of a process disappear (plugins/cuda/cuda_plugin.c, the same
    /// from 4.0 to 4.3). That needs the driver too, but without the driver no process has its device open.
    pub(crate) fn cuda(&self) -> bool {
        /// CR_PLUGIN_HOOK__CHECKPOINT_DEVICES.
        const CHECKPOINT_DEVICES: u32 = 11;
        let is = |s: &Sibling| *s.name == *b"cuda_plugin" && s.hooks.contains(&CHECKPOINT_DEVICES);
        self.cuda_checkpoint && self.loaded.iter().any(is)
    }

    /// Whether a loaded plugin has the hook.
    pub(crate) fn claims(&self, hook: Hook) -> bool {
        self.loaded.iter().any(|s| s.hooks.contains(&(hook as u32)))
    }
}

/// `plugin_desc_t` (criu/include/plugin.h): descriptor pointer, list node, dlopen handle, chains.
const NODE_IN_PLUGIN: usize = 8;
const HANDLE_AFTER_NODE: usize = 16;
/// `cr_plugin_desc_t` (criu/include/criu-plugin.h).
const DESC_MAX_HOOKS: usize = 28;
const DESC_HOOKS: usize = 32;
/// Far more plugins, and hooks, than any host has.
const MAX_PLUGINS: usize = 1024;
const MAX_HOOKS: usize = 64;

/// A plugin as CRIU's list has it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Loaded {
    /// Address of its descriptor.
    pub desc: usize,
    pub sibling: Sibling,
    /// The path it was loaded by.
    pub path: Option<Vec<u8>>,
}

impl Loaded {
    /// Where in its descriptor the pointer of this hook is; `None`: it does not have that many hooks.
    pub(crate) fn hook_slot(&self, hook: u32) -> Option<usize> {
        (hook < mem::u32(self.desc.checked_add(DESC_MAX_HOOKS)?)?)
            .then(|| self.desc.checked_add(DESC_HOOKS + 8 * hook as usize))
            .flatten()
    }
}

/// All plugins CRIU has loaded, in its order, ours among them. In `init` those are the ones loaded before us and
/// ourselves (cr_lib_load puts a plugin into the list before it calls its `init`). `None`: the list is not as known.
pub(crate) fn loaded(cr_plugin_ctl: usize) -> Option<Vec<Loaded>> {
    let nodes = mem::list(cr_plugin_ctl, MAX_PLUGINS)?;
    nodes
        .into_iter()
        .map(|node| {
            let desc = mem::word(node.checked_sub(NODE_IN_PLUGIN)?)?;
            let name = mem::word(desc).and_then(|p| mem::cstr(p, 256)).unwrap_or_default();
            let max = (mem::u32(desc.checked_add(DESC_MAX_HOOKS)?)? as usize).min(MAX_HOOKS);
            let mut pointers = vec![0; 8 * max];
            mem::read(desc.checked_add(DESC_HOOKS)?, &mut pointers)?;
            let filled = |(_, pointer): &(u32, &[u8])| pointer.iter().any(|b| *b != 0);
            let hooks = (0..).zip(pointers.chunks_exact(8)).filter(filled).map(|(number, _)| number).collect();
            let handle = mem::word(node.checked_add(HANDLE_AFTER_NODE)?)?;
            Some(Loaded {
                desc,
                sibling: Sibling { name: name.into(), hooks },
                path: (handle != 0).then(|| crate::criu::symbols::path_of_handle(handle)).flatten(),
            })
        })
        .collect()
}

/// Whether the plugin directory has plugins that are not in the list yet. CRIU takes every name that ends in `.so`
/// (cr_plugin_init); one file under two names is one plugin.
pub(crate) fn pending(libdir: &Path, loaded: &[Loaded]) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
    let known: Vec<_> = loaded
        .iter()
        .filter_map(|l| l.path.as_deref())
        .filter_map(|p| identity(Path::new(std::ffi::OsStr::from_bytes(p))))
        .collect();
    // Where they cannot be listed to the end, it cannot be said that there are none.
    let Ok(mut entries) = std::fs::read_dir(libdir) else { return true };
    entries.any(|entry| {
        entry.map_or(true, |e| {
            let is_plugin = e.file_name().as_bytes().ends_with(b".so");
            is_plugin && !identity(&e.path()).is_some_and(|id| known.contains(&id))
        })
    })
}

/// Whether `cuda-checkpoint` is, or may be, in the PATH that the CUDA plugin searches it in.
pub(crate) fn cuda_checkpoint() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let absent = |e: &std::io::Error| matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
    std::env::split_paths(&path).any(|dir| match std::fs::metadata(dir.join("cuda-checkpoint")) {
        Ok(found) => found.is_file(),
        Err(e) => !absent(&e),
    })
}
