//! Other plugins in the directory, in both load orders, with real CRIU.

mod support;

use std::any::Any;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{cc, criu_all, dump, one_at_a_time, plugin, Criu, Run, Scratch, Target};

/// A directory where CRIU meets the plugins in this order. It takes them as readdir gives them, which only the file system
/// knows: names are tried until it does.
fn ordered(scratch: &Scratch, name: &str, files: &[&Path]) -> PathBuf {
    let order = |dir: &Path| -> Vec<Vec<u8>> {
        std::fs::read_dir(dir).unwrap().flatten().map(|e| std::fs::read(e.path()).unwrap()).collect()
    };
    let want: Vec<Vec<u8>> = files.iter().map(|f| std::fs::read(f).unwrap()).collect();
    for attempt in 0..2000 {
        let dir = scratch.dir(&format!("{name}-{attempt}"));
        for (i, content) in want.iter().enumerate() {
            std::fs::write(dir.join(format!("p{attempt}x{}.so", i * 7 + attempt)), content).unwrap();
        }
        if order(&dir) == want {
            return dir;
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
    panic!("no names give the order wanted");
}

fn sibling(scratch: &Scratch, name: &str, flags: &[&str]) -> PathBuf {
    let out = scratch.0.join(format!("{name}.so"));
    cc("gcc", "sibling.c", &out, &[flags, &["-shared", "-fPIC"]].concat());
    out
}

fn each(name: &str, body: impl Fn(&Criu, &Scratch)) {
    let _one = one_at_a_time();
    for criu in criu_all() {
        eprintln!("-- {name} with CRIU {}", criu.version);
        body(criu, &Scratch::new(name));
    }
}

/// One dump with the early look off, so that only the frozen one can say anything.
fn frozen_dump(criu: &Criu, target: &Target, lib: &Path, scratch: &Scratch) -> Run {
    dump(&criu.path, target, lib, scratch.0.join("i"), &[], &[("CRIU_PREFLIGHT_EARLY", "off")])
}

fn frozen_looks(run: &Run) -> usize {
    run.ours("preflight: frozen look at ").len()
}

#[test]
fn one_that_answers_0_hides_nothing() {
    each("zero", |criu, scratch| {
        let ours = plugin();
        let zero = sibling(scratch, "zero", &["-DANSWER=0"]);
        let quiet = sibling(scratch, "quiet", &["-DANSWER=-95"]);
        let orders: [&[&Path]; 5] = [
            &[&zero, &ours],
            &[&ours, &zero],
            &[&quiet, &zero, &ours],
            &[&zero, &quiet, &ours],
            &[&quiet, &ours, &zero],
        ];
        for (i, order) in orders.into_iter().enumerate() {
            let lib = ordered(scratch, &format!("o{i}"), order);
            let mut device = Target::with_device();
            let run = frozen_dump(criu, &device, &lib, scratch);
            assert_eq!(run.output.status.code(), Some(1), "{i}: {}", run.log);
            assert!(run.has("Error (preflight): fd-chrdev: "), "{i}: {}", run.log);
            assert_eq!(frozen_looks(&run), 1, "{i}: {}", run.log);
            assert!(!run.has("sibling: checkpoint_devices"), "{i}: {}", run.log);
            assert_eq!(run.pages(), 0);
            device.assert_untouched();

            // A good dump stays good, and the others are asked as ever.
            let good = Target::good();
            let run = frozen_dump(criu, &good, &lib, scratch);
            assert_eq!(run.output.status.code(), Some(0), "{i}: {}", run.log);
            assert_eq!(frozen_looks(&run), 1, "{i}: {}", run.log);
            assert!(run.has(&format!("sibling: checkpoint_devices {}", good.pid())), "{i}: {}", run.log);
            assert!(run.has("sibling: exit 0 0"), "{i}: {}", run.log);
            // We stand in front only when somebody was before us.
            let in_front = order.first() != Some(&ours.as_path());
            assert_eq!(run.has("preflight: in front of plugin sibling"), in_front, "{i}: {}", run.log);
        }
    });
}

#[test]
fn one_that_takes_the_device_is_not_overruled() {
    each("claim", |criu, scratch| {
        let ours = plugin();
        let claim = sibling(scratch, "claim", &["-DANSWER=-95", "-DCLAIM"]);
        let orders: [&[&Path]; 2] = [&[&claim, &ours], &[&ours, &claim]];
        for order in orders {
            let lib = ordered(scratch, "o", order);
            let device = Target::with_device();
            let run = dump(&criu.path, &device, &lib, scratch.0.join("i"), &[], &[]);
            assert_eq!(run.output.status.code(), Some(0), "{}", run.log);
            assert!(run.has("sibling: dump_ext_file"), "{}", run.log);
            assert_eq!(run.ours("Error (preflight)"), [""; 0]);
            std::fs::remove_dir_all(&lib).unwrap();
        }
    });
}

/// A process with a resource, and what must live as long.
type Made = (Target, Box<dyn Any>);

/// What a sibling takes is dumped in either order, and with the sibling alone; without it we refuse by `rule`.
fn left_to(name: &str, flag: &str, call: &str, rule: &str, make: &dyn Fn(&Scratch) -> Option<Made>) {
    left_to_with(name, flag, call, rule, &[], make);
}

fn left_to_with(
    name: &str,
    flag: &str,
    call: &str,
    rule: &str,
    args: &[&str],
    make: &dyn Fn(&Scratch) -> Option<Made>,
) {
    each(name, |criu, scratch| {
        let ours = plugin();
        let claim = sibling(scratch, name, &["-DANSWER=-95", flag]);
        let orders: [&[&Path]; 4] = [&[&claim], &[&claim, &ours], &[&ours, &claim], &[&ours]];
        for (i, order) in orders.into_iter().enumerate() {
            let lib = ordered(scratch, &format!("o{i}"), order);
            let Some((mut target, _other_end)) = make(scratch) else { return };
            let run = dump(&criu.path, &target, &lib, scratch.0.join("i"), args, &[]);
            if order.contains(&claim.as_path()) {
                assert_eq!(run.output.status.code(), Some(0), "{i}: {}", run.log);
                assert!(run.has(&format!("sibling: {call} ")), "{i}: {}", run.log);
                assert_eq!(run.ours("Error (preflight)"), [""; 0]);
            } else {
                assert_eq!(run.output.status.code(), Some(1), "{i}: {}", run.log);
                assert!(run.has(&format!("Error (preflight): {rule}: ")), "{i}: {}", run.log);
            }
            target.assert_untouched();
        }
    });
}

#[test]
fn one_that_takes_a_mapping_of_a_device() {
    left_to("vma", "-DCLAIM_VMA", "handle_device_vma", "vma-device", &|scratch| {
        let program = scratch.0.join("mapper");
        if !program.exists() {
            cc("gcc", "mapper.c", &program, &[]);
        }
        let mut command = Command::new(&program);
        command.arg("/dev/loop0");
        let target = Target::start(command, Stdio::null());
        let maps = format!("/proc/{}/maps", target.pid());
        let end = Instant::now() + Duration::from_secs(5);
        while !std::fs::read_to_string(&maps).unwrap_or_default().contains("/dev/loop0") {
            if Instant::now() > end {
                eprintln!("SKIP /dev/loop0 cannot be mapped here");
                return None;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Some((target, Box::new(())))
    });
}

#[test]
fn one_that_takes_a_socket_whose_other_end_is_outside() {
    left_to("unix", "-DCLAIM_UNIX", "dump_unix_sk", "unix-external-nameless", &|_| {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        Some((Target::sleep(Stdio::from(OwnedFd::from(theirs))), Box::new(ours)))
    });
}

/// Waits until the process is what it is going to be.
fn becomes(target: &Target, there: impl Fn(&Path) -> bool) -> bool {
    let proc = PathBuf::from(format!("/proc/{}", target.pid()));
    let end = Instant::now() + Duration::from_secs(10);
    while !there(&proc) {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

#[test]
fn one_that_takes_a_mount_from_outside() {
    left_to("mount", "-DCLAIM_MOUNT", "dump_ext_mount", "mnt-no-root-mount", &|scratch| {
        let program = scratch.0.join("rooted");
        if !program.exists() {
            cc("gcc", "rooted.c", &program, &["-static"]);
        }
        let mut command = Command::new(&program);
        command.arg(scratch.dir("root")).arg(scratch.dir("other"));
        let target = Target::start(command, Stdio::null());
        if !becomes(&target, |p| std::fs::read_link(p.join("exe")).is_ok_and(|l| l == Path::new("/rooted"))) {
            eprintln!("SKIP no mount namespace can be made here");
            return None;
        }
        Some((target, Box::new(())))
    });
}

#[test]
fn one_that_takes_a_network_link() {
    let args = ["--network-lock", "skip"];
    left_to_with("link", "-DCLAIM_LINK", "dump_ext_link", "link-unsupported", &args, &|_| {
        let mut command = Command::new("unshare");
        command.args(["-n", "sh", "-c", "ip link add odd type ifb && exec sleep 1000"]);
        let target = Target::start(command, Stdio::null());
        if !becomes(&target, |p| std::fs::read(p.join("comm")).is_ok_and(|c| c == b"sleep\n")) {
            eprintln!("SKIP no link of type ifb can be made here");
            return None;
        }
        Some((target, Box::new(())))
    });
}

#[test]
fn one_that_fails_fails_the_dump_by_itself() {
    each("fails", |criu, scratch| {
        let ours = plugin();
        let fails = sibling(scratch, "fails", &["-DANSWER=-1"]);
        let orders: [&[&Path]; 2] = [&[&fails, &ours], &[&ours, &fails]];
        for order in orders {
            let lib = ordered(scratch, "o", order);
            let mut good = Target::good();
            let run = frozen_dump(criu, &good, &lib, scratch);
            assert_eq!(run.output.status.code(), Some(1), "{}", run.log);
            assert_eq!(run.ours("Error (preflight)"), [""; 0]);
            assert!(run.has("sibling: exit 0 -1"), "{}", run.log);
            good.assert_untouched();
            std::fs::remove_dir_all(&lib).unwrap();
        }
    });
}

#[test]
fn one_whose_descriptor_is_constant_is_said_to_be_in_front() {
    each("constant", |criu, scratch| {
        let ours = plugin();
        let constant = sibling(scratch, "constant", &["-DANSWER=0", "-DCONSTANT", "-Wl,-z,relro,-z,now"]);
        let lib = ordered(scratch, "o", &[&constant, &ours]);
        let good = Target::good();
        let run = frozen_dump(criu, &good, &lib, scratch);
        assert_eq!(run.output.status.code(), Some(0), "{}", run.log);
        assert!(run.has("plugin sibling was loaded first and its descriptor is read-only"), "{}", run.log);
        // The early look is what remains.
        let mut device = Target::with_device();
        let run = dump(&criu.path, &device, &lib, scratch.0.join("i"), &[], &[]);
        assert_eq!(run.output.status.code(), Some(1), "{}", run.log);
        assert!(run.has("Error (preflight): fd-chrdev: "), "{}", run.log);
        device.assert_untouched();
    });
}

#[test]
fn two_names_of_one_file_are_one_plugin() {
    each("twice", |criu, scratch| {
        let lib = support::libdir(scratch);
        std::os::unix::fs::symlink("preflight_plugin.so", lib.join("again.so")).unwrap();
        let good = Target::good();
        let run = dump(&criu.path, &good, &lib, scratch.0.join("i"), &[], &[]);
        assert_eq!(run.output.status.code(), Some(0), "{}", run.log);
        assert_eq!(frozen_looks(&run), 1, "{}", run.log);
        assert_eq!(run.ours("preflight: early look at ").len(), 1, "{}", run.log);
        let mut device = Target::with_device();
        let run = dump(&criu.path, &device, &lib, scratch.0.join("i"), &[], &[]);
        assert_eq!(run.output.status.code(), Some(1), "{}", run.log);
        device.assert_untouched();
    });
}
