//! The table of CRIU's options: all that is known of one stands in its row, and where it is named comes from there.
//!
//! Offsets: criu/include/cr_options.h at v3.17.1, v3.18, v4.0, v4.1.1, v4.2 (x86_64); 4.3 from the binary's accesses.

use super::row::{note, note_of, CriuOption, Kept, Layout, Member, Takes};
use super::{memory, written, LockMethod};
use crate::bytes::Bytes;
use crate::criu::{externals, Cap};
use serde::{Deserialize, Serialize};

options! {
    (TcpEstablished) tcp_established: bool = Some(false) => {
        name: "tcp-established",
        takes: [switch],
        rpc_field: "tcp_established",
        kept: [memory::int "tcp_established_ok" V3_17 = 32],
        c_api: [flag],
        notes: [
            note(
                "The other side sees a pause: until the restore, CRIU blocks the connection's traffic.",
                "--tcp-established again, the same addresses, and traffic that was blocked all the time.",
            ),
        ],
    }
    (TcpClose) tcp_close: bool = Some(false) => {
        name: "tcp-close",
        takes: [switch],
        rpc_field: "tcp_close",
        kept: [memory::int "tcp_close" V3_17 = 36],
        c_api: [flag],
        notes: [
            note("Connections are not saved: the program finds them closed.", "--tcp-close again."),
        ],
    }
    (SkipInFlight) skip_in_flight: bool = Some(false) => {
        name: "skip-in-flight",
        takes: [switch],
        rpc_field: "tcp_skip_in_flight",
        kept: [memory::int "tcp_skip_in_flight" V3_17 = 352, V3_18 = 360, V4_3 = 384],
        c_api: [flag],
        notes: [
            note("Clients that were not accepted yet have to connect again.", "no option."),
        ],
    }
    (ExtUnixSk) ext_unix_sk: bool = Some(false) => {
        name: "ext-unix-sk",
        letter: 'x',
        takes: [optional "INODE,..." written::ext_unix_sk],
        rpc_field: "ext_unix_sk",
        kept: [memory::byte "ext_unix_sk" V3_17 = 20],
        c_api: [flag],
        notes: [
            note(
                "The connection is cut, and made anew at the restore.",
                "--ext-unix-sk again, and somebody who is bound to the peer's name: without it the socket comes back \
                 unconnected, and nothing says so.",
            ),
        ],
    }
    (ShellJob) shell_job: bool = Some(false) => {
        name: "shell-job",
        letter: 'j',
        takes: [switch],
        rpc_field: "shell_job",
        kept: [memory::int "shell_job" V3_17 = 24],
        c_api: [flag],
        notes: [
            note(
                "The processes come back in the session and on the terminal of the process that restores them.",
                "--shell-job again, and a terminal to start it from.",
            ),
        ],
    }
    (FileLocks) file_locks: bool = Some(false) => {
        name: "file-locks",
        letter: 'l',
        takes: [switch],
        rpc_field: "file_locks",
        kept: [memory::int "handle_file_locks" V3_17 = 28],
        c_api: [flag],
        notes: [
            note(
                "It is safe as long as no process outside of the tree wants the same locks.",
                "--file-locks again: without it the processes come back without their locks, and nothing says so.",
            ),
        ],
    }
    (LinkRemap) link_remap: bool = Some(false) => {
        name: "link-remap",
        takes: [switch],
        rpc_field: "link_remap",
        kept: [memory::int "link_remap_ok" V3_17 = 44],
        c_api: [flag],
        notes: [
            note(
                "A hard link, link_remap.N, is made beside the file and stays there until the restore.",
                "no option, but that link. It is used up: such images can be restored once.",
            ),
        ],
    }
    /// The tree runs on after the dump.
    (LeaveRunning) leave_running: bool = Some(false) => {
        name: "leave-running",
        letter: 'R',
        takes: [switch],
        rpc_field: "leave_running",
        kept: [memory::is_alive "final_state" V3_17 = 0],
    }
    /// Bytes.
    ghost_limit: u64 = Some(1 << 20) => {
        name: "ghost-limit",
        takes: ["SIZE" written::size],
        rpc_field: "ghost_limit",
        kept: [memory::size "ghost_limit" V3_17 = 296, V3_18 = 304, V4_3 = 328],
        c_api: [|c, _text| (c.ghost_limit != 0).then_some(c.ghost_limit)],
        notes: [
            note("The file's contents go into the images.", "no option."),
        ],
    }
    (EvasiveDevices) evasive_devices: bool = Some(false) => {
        name: "evasive-devices",
        takes: [switch],
        rpc_field: "evasive_devices",
        kept: [memory::int "evasive_devices" V3_17 = 40],
        c_api: [flag],
        notes: [
            note("CRIU takes another path to the same device.", "no option, but that path."),
        ],
    }
    (ForceIrmap) force_irmap: bool = Some(false) => {
        name: "force-irmap",
        takes: [switch],
        rpc_field: "force_irmap",
        kept: [memory::int "force_irmap" V3_17 = 208, V4_3 = 232],
        c_api: [flag],
    }
    /// In order.
    irmap_scan_paths: Vec<Bytes> = Some(Vec::new()) => {
        name: "irmap-scan-path",
        takes: ["PATH" written::item],
        rpc_field: "irmap_scan_paths",
        kept: [memory::irmap_paths "irmap_scan_paths" V3_17 = 304, V3_18 = 312, V4_3 = 336],
        notes: [
            note(
                "CRIU searches that directory, which takes its time while the tree is frozen.",
                "no option, but the file in its place.",
            ),
        ],
    }
    /// Comma separated lists.
    enable_fs: Vec<Bytes> = Some(Vec::new()) => {
        name: "enable-fs",
        takes: ["FS,..." written::item],
        rpc_field: "enable_fs",
        kept: [command_line],
        notes: [
            note("What is in it is not saved: it is mounted again from its source.", "no option, but the same source."),
        ],
    }
    skip_mnt: Vec<Bytes> = Some(Vec::new()) => {
        name: "skip-mnt",
        takes: ["PATH" written::item],
        rpc_field: "skip_mnt",
        kept: [command_line],
    }
    /// Set by `mnt[]:s` too.
    (EnableExternalSharing) enable_external_sharing: bool = Some(false) => {
        name: "enable-external-sharing",
        takes: [switch],
        rpc_field: "ext_sharing",
        kept: [memory::int "enable_external_sharing" V3_17 = 284, V4_3 = 308],
        c_api: [flag],
    }
    /// Set by `mnt[]:m` too.
    (EnableExternalMasters) enable_external_masters: bool = Some(false) => {
        name: "enable-external-masters",
        takes: [switch],
        rpc_field: "ext_masters",
        kept: [memory::int "enable_external_masters" V3_17 = 288, V4_3 = 312],
        c_api: [flag],
    }
    (AutodetectExtMounts) autodetect_ext_mounts: bool = Some(false) => {
        name: "external mnt[]",
        takes: [nothing],
        rpc_field: "auto_ext_mnt",
        kept: [memory::byte "autodetect_ext_mounts" V3_17 = 280, V4_3 = 304],
        c_api: [flag],
        notes: [
            note("What is in these mounts is not saved.", "--external 'mnt[]' again, and the same things mounted."),
        ],
    }
    (AllowUprobes) allow_uprobes: bool = Some(false) => {
        name: "allow-uprobes",
        takes: [switch],
        since: Cap::Uprobes,
        kept: [memory::int "allow_uprobes" V4_2 = 384, V4_3 = 408],
        c_api: [flag],
        notes: [
            note(
                "The area is left out of the images.",
                "--allow-uprobes again, and the same uprobes: where one is missing, a process gets SIGTRAP.",
            ),
        ],
    }
    /// Which is the default depends on the build from CRIU 4.1 on (NETWORK_LOCK_DEFAULT): see [`crate::criu::Host::dry_run`].
    network_lock: LockMethod = None => {
        name: "network-lock",
        takes: ["METHOD" written::lock_method],
        rpc_field: "network_lock",
        kept: [memory::lock_method "network_lock_method" V3_17 = 368, V3_18 = 376, V4_3 = 400],
        notes: [
            note_of("nftables", "None, where CRIU is built with nftables.", "no option: the images name the method."),
            note_of(
                "skip",
                "Nothing blocks the traffic of the tree between dump and restore: peers may be answered by a reset.",
                "no option.",
            ),
        ],
    }
    /// CLONE_NEW* bits.
    empty_ns: u32 = Some(0) => {
        name: "empty-ns",
        takes: ["net" written::empty_ns],
        kept: [memory::empty_ns "empty_ns" V3_17 = 348, V3_18 = 356, V4_3 = 380],
        notes: [
            note(
                "Interfaces, addresses and routes of the network namespace are not saved.",
                "--empty-ns net again (without it CRIU wants iptables-restore), and somebody who sets the network up: before the \
                 sockets are restored (an action script at setup-namespaces or post-setup-namespaces), if one is connected or bound to an address, or the \
                 restore fails (Network is unreachable, Cannot assign requested address).",
            ),
        ],
    }
    /// Outer None not known, inner None not given.
    #[serde(default, with = "super::known")]
    freeze_cgroup: Option<Bytes> = Some(None) => {
        name: "freeze-cgroup",
        takes: ["DIR" written::text],
        rpc_field: "freeze_cgroup",
        kept: [memory::text "freeze_cgroup" V3_17 = 88],
        c_api: [|c, text| Some(text(c.freeze_cgroup))],
    }
    /// Outer None not known, inner None not given. CRIU overwrites it when it has checked it, before it freezes the tree.
    #[serde(default, with = "super::known")]
    lsm_profile: Option<Bytes> = Some(None) => {
        name: "lsm-profile",
        takes: ["TYPE:NAME" written::text],
        rpc_field: "lsm_profile",
        kept: [memory::text "lsm_profile" V3_17 = 328, V3_18 = 336, V4_3 = 360],
    }
    /// Outer None not known, inner None not given; else the only hierarchies of cgroups that CRIU looks at, named as in
    /// /proc/PID/cgroup (cgroup v2: the empty name).
    #[serde(default, with = "super::known")]
    dump_controllers: Option<Vec<Bytes>> = Some(None) => {
        name: "cgroup-dump-controller",
        takes: ["NAME" written::first_or_next],
        rpc_field: "cgroup_dump_controller",
        kept: [asked],
    }
    /// True for `filesize`: no build-id is read, no file is opened.
    validate_by_size: bool = Some(false) => {
        name: "file-validation",
        takes: ["METHOD" written::file_validation],
        kept: [memory::is_file_size "file_validation_method" V3_17 = 456, V3_18 = 464, V4_2 = 472, V4_3 = 512],
        notes: [
            note("Whether a file is still the same, the restore tells by its size alone.", "no option."),
        ],
    }
    (Unprivileged) unprivileged: bool = Some(false) => {
        name: "unprivileged",
        takes: [switch],
        rpc_field: "unprivileged",
        kept: [memory::int "unprivileged" V3_18 = 500, V4_2 = 508, V4_3 = 548],
        c_api: [flag],
        notes: [
            note("CRIU can do no more than that user may.", "--unprivileged again."),
        ],
    }
    (OrphanPtsMaster) orphan_pts_master: bool = Some(false) => {
        takes: [nothing],
        rpc_field: "orphan_pts_master",
        kept: [memory::byte "orphan_pts_master" V3_17 = 388, V3_18 = 400, V4_2 = 404, V4_3 = 428],
        c_api: [flag],
        notes: [
            note(
                "The other side of the terminal is not saved.",
                "orphan_pts_master again: CRIU makes a new one, and hands it out with the notification \
                 orphan-pts-master.",
            ),
        ],
    }
}

/// Those whose values are lists of the host's, not of [`Options`].
pub const RESOURCES: &[CriuOption] = &[
    CriuOption {
        name: Some("external"),
        takes: Takes::Value("KEY", externals::parse),
        rpc_field: Some("external"),
        ..CriuOption::BLANK
    },
    CriuOption {
        name: Some("ext-mount-map"),
        letter: Some('M'),
        takes: Takes::Value("KEY:VALUE", externals::parse_mount_map),
        rpc_field: Some("ext_mnt"),
        ..CriuOption::BLANK
    },
    CriuOption {
        name: Some("inherit-fd"),
        takes: Takes::Value("fd[N]:KEY", written::inherit_fd),
        rpc_field: Some("inherit_fd"),
        ..CriuOption::BLANK
    },
];
