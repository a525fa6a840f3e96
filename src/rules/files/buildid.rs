//! Files that CRIU opens a second time, for the build-id it validates them by.

use crate::criu::Gate;
use crate::criu_model::paths::external_key;
use crate::rules::{Evidence, Finding, Phase, Remedy, Rule, Versions, When};
use crate::snapshot::OpenFile;

/// SELFMAG + 1 (`store_validation_data_build_id`): smaller files are not opened.
const SMALLEST: u64 = 5;
const APPEND_ONLY: i32 = libc::O_WRONLY | libc::O_APPEND;

/// `should_check_size`: a log file is not looked into.
fn is_log(file: &OpenFile) -> Option<bool> {
    let flags = file.flags.or_else(|| file.info.as_ref()?.flags)? as i32;
    Some(flags & libc::O_ACCMODE == libc::O_WRONLY && flags & APPEND_ONLY == APPEND_ONLY)
}

/// By the only name such a file has (mm/secretmem.c).
fn named_secret(file: &OpenFile) -> bool {
    file.link.as_ref().is_some_and(|l| **l == *b"/secretmem (deleted)")
}

pub(crate) static BUILDID_OPEN: Rule = Rule {
    id: "buildid-open",
    summary: "An open file that cannot be opened for reading, as CRIU does it.",
    group: "Paths",
    condition: "A file is open that cannot be opened for reading, not even by root: a control file of a driver in sysfs, or a memfd_secret that \
           --external file[...] names. CRIU opens every regular file a second time to look for a build-id, unless it is open for \
           appending only.",
    message: "open file[ {path}], which CRIU cannot open for reading: \
           {why?write-only=it is write-only|secret=memory of memfd_secret cannot be opened again}",
    criu: &["Build-ID (For validation) could not be obtained for file %s because can't open the file"],
    source: "criu/files-reg.c:store_validation_data_build_id",
    versions: Versions::All,
    remedies: &[
        Remedy::Modelled("file-validation", "filesize"),
        Remedy::Workload("close it before the dump"),
    ],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        let gate = match ctx.host.options.validate_by_size {
            Some(true) => return,
            Some(false) => Gate::InForce,
            None => Gate::OPTION_UNKNOWN,
        };
        // Elsewhere CRIU's capabilities are above the mode; the kernel itself refuses this (`kernfs_fop_open`).
        let unreadable = |f: &OpenFile| {
            f.kind() == libc::S_IFREG && f.attr.size >= SMALLEST && (f.attr.mode & 0o444 == 0 || named_secret(f))
        };
        for (task, file) in ctx.files().filter(|(_, f)| unreadable(f)) {
            let Some(mnt_id) = file.attr.mnt_id else { continue };
            let (gate, why) = match ctx.mounts.by_id(mnt_id) {
                Some(n) if *n.info.fstype == *b"sysfs" && file.attr.mode & 0o444 == 0 => (gate, "write-only"),
                // Its mount is the kernel's own: that ends the dump before, unless it is external.
                None if named_secret(file) => match external_key(file).map(|k| ctx.host.gate_external(k.as_bytes())) {
                    Some(Gate::Waived) => (gate, "secret"),
                    _ => continue,
                },
                _ => continue,
            };
            if is_log(file) == Some(false) {
                sink.push_unless(gate, Finding::on_file(rule, task, file).term("why", why));
            }
        }
    },
};
