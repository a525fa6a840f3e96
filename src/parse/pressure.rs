//! The names of the files of pressure stall information.

/// /proc/pressure/NAME (`psi_proc_init`, kernel/sched/psi.c) or NAME.pressure of a cgroup (`cgroup_psi_files`,
/// kernel/cgroup/cgroup.c). cgroup.pressure is none of them: it switches the accounting.
pub(crate) fn is_pressure(path: &[u8]) -> bool {
    let mut parts = path.rsplit(|b| *b == b'/');
    let Some(name) = parts.next() else { return false };
    let resource = match name.strip_suffix(b".pressure") {
        Some(resource) => resource,
        None if parts.next() == Some(b"pressure") => name,
        None => return false,
    };
    matches!(resource, b"cpu" | b"memory" | b"io" | b"irq")
}

#[cfg(test)]
mod tests {
    use super::is_pressure;

    #[test]
    fn names() {
        for yes in ["/proc/pressure/irq", "/sys/fs/cgroup/memory.pressure", "io.pressure", "pressure/cpu"] {
            assert!(is_pressure(yes.as_bytes()), "{yes}");
        }
        for no in
            ["", "/", "/proc/pressure", "/proc/pressure/", "/x/cgroup.pressure", "/x/memory", "/x/.pressure", "memory"]
        {
            assert!(!is_pressure(no.as_bytes()), "{no}");
        }
    }
}
