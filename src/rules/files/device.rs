//! Opened device nodes.

use crate::bytes::Bytes;
use crate::criu::Hook;
use crate::criu_model::devices::{is_accepted, tty_external};
use crate::parse::devices::TtyDriver;
use crate::rules::{Ctx, Evidence, Finding, Phase, Remedy, Rule, Sink, Value, Versions, When};
use crate::snapshot::device::major;
use crate::snapshot::{Dev, Kernel, OpenFile};

/// The name of the driver behind a device number: /proc/misc for major 10, /proc/tty/drivers for a terminal's where it was
/// read, else /proc/devices.
pub(crate) fn driver(kernel: &Kernel, rdev: Dev, block: bool) -> Option<Bytes> {
    let range = |d: &&TtyDriver| d.major == rdev.major && (d.minors.0..=d.minors.1).contains(&rdev.minor);
    if let Some(tty) = kernel.ttys.iter().filter(|_| !block).find(range) {
        return Some(tty.name.clone());
    }
    let table = if block { &kernel.blkdev } else { &kernel.chrdev };
    match rdev.major {
        major::MISC if !block => kernel.misc.get(&rdev.minor).or_else(|| table.get(&rdev.major)),
        major => table.get(&major),
    }
    .cloned()
}

pub(crate) static FD_CHRDEV: Rule = Rule {
    id: "fd-chrdev",
    summary: "An open device file whose driver CRIU knows nothing of: /dev/fuse, /dev/kvm, a GPU, a sound card.",
    group: "Devices",
    condition:
        "A character device is open that is not one of: major 1 (null, zero, random, mem, ...), tun (10:200), autofs \
           (10:235), terminals (4:1 to 4:63, 5:0 to 5:2, majors 128 to 136, 188 and 204), or a device named by an \
           external or inherited tty[...] key.",
    message: "character device {dev}[, driver {driver}][, {path}]",
    criu: &["Can't dump file %d of that type [%o] (chr %d:%d)"],
    source: "criu/files-ext.c:dump_unsupp_fd, criu/files.c:dump_chrdev",
    versions: Versions::All,
    remedies: &[Remedy::Workload("close {path} before the dump"), Remedy::Hook(Hook::DumpExtFile)],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (task, file) in ctx.files().filter(|(_, f)| f.is_chrdev() && !is_accepted(f.attr.rdev)) {
            let driver = driver(&ctx.snap.kernel, file.attr.rdev, false);
            let gate = tty_external(ctx.host, file).or(ctx.host.gate_gpu(driver.as_deref()));
            sink.push_unless(gate, device_finding(rule, ctx, task, file, false));
        }
    },
};

pub(crate) static FD_BLKDEV: Rule = Rule {
    id: "fd-blkdev",
    summary: "An open disk or partition (block device).",
    group: "Devices",
    condition: "A block device is open.",
    message: "block device {dev}[, driver {driver}][, {path}]",
    criu: &["Can't dump file %d of that type [%o] (unknown %s)"],
    source: "criu/files.c:dump_one_file",
    versions: Versions::All,
    remedies: &[Remedy::Workload("close {path} before the dump"), Remedy::Hook(Hook::DumpExtFile)],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink| {
        for (task, file) in ctx.files().filter(|(_, f)| f.is_blkdev()) {
            sink.push(device_finding(rule, ctx, task, file, true));
        }
    },
};

fn device_finding(rule: &Rule, ctx: &Ctx, task: &crate::snapshot::Task, file: &OpenFile, block: bool) -> Finding {
    Finding::on_file(rule, task, file)
        .fact("dev", Value::Dev(file.attr.rdev))
        .fact_opt("driver", driver(&ctx.snap.kernel, file.attr.rdev, block).map(Value::Text))
}

pub(crate) static TUN_HOST_NETNS: Rule = Rule {
    id: "tun-host-netns",
    summary: "An open /dev/net/tun in a tree that uses the host's network namespace.",
    group: "Devices",
    condition:
        "/dev/net/tun is open and the root task lives in CRIU's own network namespace: the interface could only be \
           recreated in a namespace of its own.",
    message: "TUN/TAP descriptor[ of interface {name}] in a tree that shares CRIU's network namespace",
    criu: &["Net namespace is required to dump tun link"],
    source: "criu/tun.c:dump_tunfile",
    versions: Versions::All,
    remedies: &[Remedy::Workload(
        "run the tree in a network namespace of its own, or close the descriptor before the dump",
    )],
    phase: Phase::BeforePages,
    when: When::Early,
    evidence: Evidence::Object,
    find: |rule, ctx, sink: &mut Sink| {
        if ctx.snap.root_shares(|n| n.net) != Some(true) {
            return;
        }
        for (task, file) in ctx.files().filter(|(_, f)| is_tun(f)) {
            let name = file.tun().and_then(|t| t.name.clone()).or_else(|| file.info.as_ref()?.iff.clone());
            let name = name.filter(|n| !n.is_empty());
            let finding = Finding::on_file(rule, task, file)
                .key(format!("tun:{}:{}", task.pid, file.origin))
                .fact_opt("name", name.map(Value::Text));
            sink.push(finding);
        }
    },
};

pub(crate) fn is_tun(file: &OpenFile) -> bool {
    file.is_chrdev() && file.attr.rdev == Dev::TUN
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::criu::Host;
    use crate::parse::fdinfo::FdInfo;
    use crate::rules::testkit::*;
    use crate::snapshot::{Namespaces, Snapshot};

    fn chr(major: u32, minor: u32) -> Snapshot {
        let mut f = file(3, libc::S_IFCHR, 77);
        f.attr.rdev = Dev { major, minor };
        f.attr.dev = Dev { major: 0, minor: 6 };
        f.link = Some("/dev/x".into());
        snap(vec![f])
    }

    #[test]
    fn chrdev_list_is_crius() {
        for (major, minor) in [
            (1, 3),
            (1, 1),
            (1, 11),
            (10, 200),
            (10, 235),
            (4, 1),
            (4, 63),
            (5, 0),
            (5, 2),
            (128, 0),
            (135, 9),
            (136, 0),
            (188, 0),
            (204, 64),
        ] {
            assert_eq!(verdict(&FD_CHRDEV, &chr(major, minor), &host()), None, "{major}:{minor}");
        }
        for (major, minor) in
            [(10, 229), (10, 232), (4, 0), (4, 64), (5, 3), (127, 0), (137, 0), (143, 0), (195, 255), (226, 128)]
        {
            assert_eq!(
                verdict(&FD_CHRDEV, &chr(major, minor), &host()),
                Some(crate::rules::Verdict::Refuse),
                "{major}:{minor}"
            );
        }
    }

    #[test]
    fn chrdev_is_lifted_by_key_and_plugin() {
        let kvm = chr(10, 232);
        assert_eq!(verdict(&FD_CHRDEV, &kvm, &with_external("tty[ae8:6]")), None);
        assert_eq!(verdict(&FD_CHRDEV, &kvm, &with_hook(Hook::DumpExtFile)), None);
        let inherited = Host { inherit_ids: Some(vec!["tty[ae8:6]".into()]), ..host() };
        assert_eq!(verdict(&FD_CHRDEV, &kvm, &inherited), None);
        let unknown = Host { externals: None, ..host() };
        assert_eq!(verdict(&FD_CHRDEV, &kvm, &unknown), Some(crate::rules::Verdict::Warn));
        assert!(verdict(&FD_CHRDEV, &kvm, &with_hook(Hook::DumpUnixSk)).is_some());
    }

    #[test]
    fn the_devices_of_cuda_are_left_to_its_plugin_if_that_is_enabled() {
        let mut nvidia = chr(195, 255);
        nvidia.kernel.chrdev.insert(195, "nvidia-frontend".into());
        let with = |name: &str, cuda_checkpoint, pending| {
            let plugin = crate::criu::Sibling { name: name.into(), hooks: vec![10, 11] };
            Host { siblings: crate::criu::Siblings { loaded: vec![plugin], pending, cuda_checkpoint }, ..host() }
        };
        assert_eq!(verdict(&FD_CHRDEV, &nvidia, &with("cuda_plugin", true, false)), None);
        let refuse = Some(crate::rules::Verdict::Refuse);
        assert_eq!(verdict(&FD_CHRDEV, &nvidia, &with("cuda_plugin", false, false)), refuse);
        assert_eq!(verdict(&FD_CHRDEV, &nvidia, &with("other", true, false)), refuse);
        assert_eq!(verdict(&FD_CHRDEV, &chr(10, 232), &with("cuda_plugin", true, false)), refuse);
        // It may be the next one to be loaded.
        let warn = Some(crate::rules::Verdict::Warn);
        assert_eq!(verdict(&FD_CHRDEV, &nvidia, &with("other", true, true)), warn);
    }

    #[test]
    fn blkdev() {
        let mut f = file(3, libc::S_IFBLK, 5);
        f.attr.rdev = Dev { major: 7, minor: 0 };
        let s = snap(vec![f]);
        assert!(verdict(&FD_BLKDEV, &s, &host()).is_some());
        assert_eq!(verdict(&FD_CHRDEV, &s, &host()), None);
        assert_eq!(verdict(&FD_BLKDEV, &s, &with_hook(Hook::DumpExtFile)), None);
    }

    #[test]
    fn tun_in_the_host_netns_only() {
        let mut s = chr(10, 200);
        assert!(verdict(&TUN_HOST_NETNS, &s, &host()).is_some());
        // fdinfo has an empty line for a descriptor that is attached to none.
        for (iff, named) in [("", false), ("tun0", true)] {
            s.tasks[0].files[0].info = Some(Box::new(FdInfo { iff: Some(iff.into()), ..FdInfo::default() }));
            let findings = found(&TUN_HOST_NETNS, &s, &host());
            assert_eq!(findings[0].facts.iter().any(|f| f.0 == "name"), named);
        }
        let root = s.tasks.first_mut().unwrap();
        root.ns = Namespaces { net: Some(9), ..root.ns };
        assert_eq!(verdict(&TUN_HOST_NETNS, &s, &host()), None);
        s.tasks.first_mut().unwrap().ns.net = None;
        assert_eq!(verdict(&TUN_HOST_NETNS, &s, &host()), None);
    }

    #[test]
    fn driver_names() {
        let mut k = Kernel::default();
        k.chrdev.insert(506, "gdrdrv".into());
        k.chrdev.insert(10, "misc".into());
        k.misc.insert(232, "kvm".into());
        let name = |major, minor| driver(&k, Dev { major, minor }, false).map(|b| b.escaped());
        assert_eq!(name(506, 0).as_deref(), Some("gdrdrv"));
        assert_eq!(name(10, 232).as_deref(), Some("kvm"));
        assert_eq!(name(10, 1).as_deref(), Some("misc"));
        assert_eq!(name(99, 1), None);
        // Several share the number: /proc/devices does not tell their ranges.
        k.chrdev.insert(4, "/dev/vc/0".into());
        let serial = |k: &Kernel| driver(k, Dev { major: 4, minor: 65 }, false).map(|b| b.escaped());
        assert_eq!(serial(&k).as_deref(), Some("/dev/vc/0"));
        let tty = |name: &str, minors| TtyDriver { name: name.into(), major: 4, minors };
        k.ttys = vec![tty("/dev/vc/0", (0, 0)), tty("serial", (64, 67))];
        assert_eq!(serial(&k).as_deref(), Some("serial"));
    }
}
