//! The options as the C functions take them ([`crate::capi`]).

use std::ffi::c_char;
use std::mem::{offset_of, size_of};

/// What the dump would be asked for. All zero but `size` is `criu dump` without any option, by the newest CRIU known.
///
/// The single bytes are CRIU's options of the same name; nonzero: given.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct criu_preflight_options {
    /// sizeof(struct criu_preflight_options): a later version may append fields.
    pub size: usize,
    /// The release line to judge as: "3.17", "3.18" (also 3.19), "4.0", "4.1", "4.2" or "4.3". NULL: the newest.
    pub release: *const c_char,
    /// `--external` strings, `unix[1234]` and the like.
    pub externals: *const *const c_char,
    pub n_externals: usize,
    /// `--freeze-cgroup`; NULL: not given.
    pub freeze_cgroup: *const c_char,
    /// `--ghost-limit` in bytes; 0: CRIU's own default, 1 MiB.
    pub ghost_limit: u64,
    pub ext_unix_sk: u8,
    pub shell_job: u8,
    pub file_locks: u8,
    pub tcp_established: u8,
    pub tcp_close: u8,
    pub skip_in_flight: u8,
    pub evasive_devices: u8,
    pub link_remap: u8,
    pub force_irmap: u8,
    pub enable_external_sharing: u8,
    pub enable_external_masters: u8,
    /// `--external mnt[]`.
    pub autodetect_ext_mounts: u8,
    pub allow_uprobes: u8,
    pub unprivileged: u8,
    /// RPC only: orphan_pts_master.
    pub orphan_pts_master: u8,
    /// Changes nothing: CRIU refuses the same with and without it.
    pub lazy_pages: u8,
    /// A CRIU built with libbpf, which dumps BPF maps.
    pub libbpf: u8,
    /// Zero.
    pub reserved: [u8; 7],
}

// No padding: what a caller leaves uninitialised is nowhere.
const _: () = assert!(size_of::<criu_preflight_options>() == offset_of!(criu_preflight_options, reserved) + 7);
