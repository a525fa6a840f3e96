//! The command as people run it, on small trees of its own.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A tree that ends with the test, in a directory of its own.
struct Tree {
    root: Child,
    dir: PathBuf,
}

impl Tree {
    /// `sh -c SCRIPT`, in a session of its own, once it has written `ready`.
    fn new(name: &str, script: &str) -> Tree {
        let dir = std::env::temp_dir().join(format!("criu-preflight-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).current_dir(&dir);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // SAFETY: both are async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                // The caller of the tests may have left us descriptors, of another mount namespace perhaps.
                libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
                libc::setsid();
                Ok(())
            });
        }
        let tree = Tree { root: command.spawn().unwrap(), dir };
        for _ in 0..500 {
            if tree.dir.join("ready").exists() {
                return tree;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("{name}: the tree did not get ready");
    }

    fn check(&self, args: &[&str]) -> Output {
        let pid = self.root.id().to_string();
        let mut all = vec!["check", pid.as_str()];
        all.extend(args);
        run(&all, &self.dir)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = self.root.kill();
        let _ = self.root.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The command without this machine's own settings.
fn run(args: &[&str], home: &Path) -> Output {
    let empty = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-settings.conf");
    std::fs::write(&empty, "").unwrap();
    Command::new(env!("CARGO_BIN_EXE_criu-preflight"))
        .args(args)
        .env("HOME", home)
        .env("CRIU_PREFLIGHT_CONFIG", empty)
        .env_remove("CRIU_CONFIG_FILE")
        .env_remove("CRIU_PREFLIGHT_DISABLE")
        .env_remove("CRIU_PREFLIGHT_ALLOW")
        .output()
        .unwrap()
}

/// Exit status, standard output, standard error.
fn output_of(out: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (out.status.code().unwrap(), text(&out.stdout), text(&out.stderr))
}

/// A lock that only an option lets through, held by the root itself.
const LOCK: &str = "exec 9>lock; flock 9; : >ready; exec sleep 100";

#[test]
fn a_clean_tree_can_be_dumped() {
    let tree = Tree::new("clean", ": >ready; exec sleep 100");
    let (status, out, err) = output_of(&tree.check(&[]));
    assert_eq!((status, err.as_str()), (0, ""), "{out}");
    let want = format!("pid {} (sleep) can be dumped by CRIU 4.3: 1 task was looked at\n", tree.root.id());
    assert_eq!(out, want);
}

/// The report of a saved check is the one that was printed, for anybody, and by other options another.
#[test]
fn what_was_saved_is_judged_again() {
    let tree = Tree::new("saved", LOCK);
    let file = tree.dir.join("saved.json");
    let file = file.to_str().unwrap();
    let checked = output_of(&tree.check(&["--save", file]));
    assert_eq!(checked.0, 1);
    let judge = |args: &[&str]| output_of(&run(&[&["judge", file][..], args].concat(), &tree.dir));
    assert_eq!(judge(&[]), checked);
    // CRIU's configuration files were read then.
    std::fs::create_dir(tree.dir.join(".criu")).unwrap();
    std::fs::write(tree.dir.join(".criu/default.conf"), "file-locks\n").unwrap();
    assert_eq!(judge(&[]), checked);
    let (status, out, _) = judge(&["--file-locks", "--criu", "4.1.1"]);
    assert!(status == 0 && out.contains("can be dumped by CRIU 4.1:"), "{out}");
    let named = tree.dir.join(".criu/default.conf");
    assert_eq!(judge(&["--config", named.to_str().unwrap()]).0, 0);

    let json = tree.dir.join("json.json");
    let checked = output_of(&tree.check(&["--json", "--no-default-config", "--save", json.to_str().unwrap()]));
    let again = output_of(&run(&["judge", json.to_str().unwrap(), "--json"], &tree.dir));
    assert_eq!(again, checked);

    let (status, out, err) = output_of(&tree.check(&["--save", file]));
    assert_eq!((status, out.as_str(), err), (2, "", format!("criu-preflight: {file}: it exists already\n")));
    let whole = std::fs::read(file).unwrap();
    std::fs::write(file, &whole[..whole.len() / 2]).unwrap();
    let (status, out, err) = judge(&[]);
    assert_eq!((status, out.as_str(), err.lines().count()), (2, "", 1));
    assert!(err.starts_with(&format!("criu-preflight: {file}: not a saved check: EOF ")), "{err}");
}

#[test]
fn a_saved_check_with_other_names_has_none_of_the_old_ones() {
    let tree = Tree::new("anonymous", "exec 9>geheimnis; flock 9; : >ready; exec sleep 100");
    let file = tree.dir.join("other.json");
    let file = file.to_str().unwrap();
    let checked = output_of(&tree.check(&["--save", file, "--anonymize"]));
    assert!(checked.0 == 1 && checked.1.contains("geheimnis"), "{checked:?}");
    let text = std::fs::read_to_string(file).unwrap();
    assert!(!text.contains("geheimnis") && !text.contains("sleep"), "{text}");
    let (status, out, _) = output_of(&run(&["judge", file], &tree.dir));
    let lock = format!("\n  lock-not-allowed: pid {} (", tree.root.id());
    assert!(status == 1 && out.contains(&lock) && out.contains(" fd 9: "), "{out}");
}

#[test]
fn a_lock_is_refused_until_its_option_is_given_in_any_of_its_places() {
    let tree = Tree::new("lock", LOCK);
    let pid = tree.root.id();
    let (status, out, _) = output_of(&tree.check(&[]));
    assert_eq!(status, 1, "{out}");
    let head =
        format!("pid {pid} (sleep) cannot be dumped by CRIU 4.3: 1 blocker in 1 of 1 task: lock-not-allowed x1\n");
    assert!(out.starts_with(&head), "{out}");
    assert!(out.contains(&format!("\n  lock-not-allowed: pid {pid} (sleep) fd 9: ")), "{out}");
    assert!(out.contains("pass --file-locks"), "{out}");

    let (status, out, _) = output_of(&tree.check(&["--criu", "4.1.1", "--file-locks"]));
    assert_eq!(status, 0, "{out}");
    assert!(out.contains("can be dumped by CRIU 4.1:"), "{out}");

    let conf = tree.dir.join("runc.conf");
    std::fs::write(&conf, "# for runc\nfile-locks # yes\nlog-file \"/a b\"\n").unwrap();
    let conf = conf.to_str().unwrap();
    assert_eq!(output_of(&tree.check(&["--config", conf])).0, 0);
    assert_eq!(output_of(&tree.check(&["--config", conf, "--no-file-locks"])).0, 1);

    std::fs::create_dir_all(tree.dir.join(".criu")).unwrap();
    std::fs::write(tree.dir.join(".criu/default.conf"), "file-locks\n").unwrap();
    assert_eq!(output_of(&tree.check(&[])).0, 0);
    assert_eq!(output_of(&tree.check(&["--no-default-config"])).0, 1);
}

#[test]
fn a_configuration_that_criu_would_not_take_is_not_guessed_at() {
    let tree = Tree::new("conf", ": >ready; exec sleep 100");
    let conf = tree.dir.join("bad.conf");
    std::fs::write(&conf, "file-locks\nno-such-option\n").unwrap();
    let (status, out, err) = output_of(&tree.check(&["--config", conf.to_str().unwrap()]));
    assert_eq!((status, out.as_str()), (2, ""));
    assert_eq!(err, format!("criu-preflight: {}:2: CRIU has no option 'no-such-...'\n", conf.display()));
    // What was no configuration at all.
    std::fs::write(&conf, "root:$6$pepper$Q3lkf9/zzz:19000:0:99999:7:::\n").unwrap();
    let (status, _, err) = output_of(&tree.check(&["--config", conf.to_str().unwrap()]));
    assert_eq!(status, 2);
    assert_eq!(err, format!("criu-preflight: {}:1: CRIU has no option 'root...'\n", conf.display()));
    let fifo = tree.dir.join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let (status, _, err) = output_of(&tree.check(&["--config", fifo.to_str().unwrap()]));
    assert_eq!(status, 2);
    assert_eq!(err, format!("criu-preflight: {}: not a regular file\n", fifo.display()));
}

/// Runtimes name their file whether it is there or not, and `parse_config` (criu/config.c) is content without it.
#[test]
fn a_configuration_that_is_not_there_is_none() {
    let tree = Tree::new("no-conf", LOCK);
    for file in ["/no/such/file", "/etc/passwd/below-a-file"] {
        let missing = tree.check(&["--config", file, "--file-locks"]);
        let note = format!("criu-preflight: --config {file}: no such file, CRIU goes on without it\n");
        let (status, _, err) = output_of(&missing);
        assert_eq!((status, err), (0, note));
        assert_eq!(output_of(&tree.check(&["--config", file])).0, 1);
    }
    // It is in place of the usual ones nevertheless.
    std::fs::create_dir_all(tree.dir.join(".criu")).unwrap();
    std::fs::write(tree.dir.join(".criu/default.conf"), "file-locks\n").unwrap();
    assert_eq!(output_of(&tree.check(&["--config=/no/such/file"])).0, 1);
    assert_eq!(output_of(&tree.check(&[])).0, 0);
}

#[test]
fn json_is_the_whole_report() {
    let tree = Tree::new("json", LOCK);
    let (status, out, err) = output_of(&tree.check(&["--json"]));
    assert_eq!((status, err.as_str()), (1, ""));
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["verdict"], "refuse");
    assert_eq!(report["criu"]["stage"], "dry-run");
    assert_eq!(report["findings"][0]["rule"], "lock-not-allowed");
    assert_eq!(report["findings"][0]["fd"], 9);
    assert_eq!(report["findings"][0]["pid"], tree.root.id());
}

#[test]
fn names_from_the_tree_do_nothing_to_the_terminal() {
    let script = "n=$(printf '\\033[31m\\nError\\377'); cp /bin/sleep \"$n\"; exec 9>\"lock$n\"; flock 9; : >ready; exec \"./$n\" 100";
    let tree = Tree::new("hostile", script);
    for _ in 0..100 {
        let comm = std::fs::read(format!("/proc/{}/comm", tree.root.id())).unwrap();
        if comm.starts_with(b"\x1b") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let (status, out, _) = output_of(&tree.check(&[]));
    assert_eq!(status, 1, "{out}");
    assert!(out.contains("(\\x1b[31m\\nError\\xff) fd 9"), "{out}");
    assert!(out.contains("lock\\x1b[31m\\nError\\xff"), "{out}");
    assert!(out.lines().all(|l| !l.contains(char::is_control)), "{out:?}");
    // The summary, the finding, and what to give: no name makes a line of its own.
    let settling = ["with these options none would remain:", "  --file-locks", "and at the restore:", "  --file-locks"];
    assert_eq!(out.lines().skip(2).collect::<Vec<_>>(), settling, "{out}");
    let (_, out, _) = output_of(&tree.check(&["--json"]));
    serde_json::from_str::<serde_json::Value>(&out).unwrap();
    assert!(!out.contains('\x1b'));
}

#[test]
fn what_cannot_be_told_is_not_an_answer() {
    let home = std::env::temp_dir();
    let gone = {
        let tree = Tree::new("gone", ": >ready; exec sleep 100");
        tree.root.id().to_string()
    };
    let (status, out, err) = output_of(&run(&["check", &gone], &home));
    assert_eq!(
        (status, out.as_str(), err),
        (2, "", format!("criu-preflight: process {gone}: there is no such process\n"))
    );
    let (status, out, err) = output_of(&run(&["check", "1", "--file-lokcs"], &home));
    assert_eq!((status, out.as_str()), (2, ""));
    assert_eq!(err, "criu-preflight: there is no option --file-lokcs. See criu-preflight --help\n");
}

#[test]
fn the_rules_are_told_one_by_one_and_all_together() {
    let home = std::env::temp_dir();
    let (status, list, _) = output_of(&run(&["rules"], &home));
    assert_eq!(status, 0);
    let (_, array, _) = output_of(&run(&["rules", "--json"], &home));
    let array: serde_json::Value = serde_json::from_str(&array).unwrap();
    let ids: Vec<&str> = array.as_array().unwrap().iter().map(|r| r["id"].as_str().unwrap()).collect();
    assert!(ids.contains(&"tcp-connected") && ids.contains(&"lock-not-allowed"));
    for id in ids {
        assert!(list.contains(&format!("\n  {id} ")), "{id}");
        let (status, text, _) = output_of(&run(&["explain", id], &home));
        assert_eq!(status, 0);
        assert!(text.starts_with(&format!("{id} (")), "{text}");
    }
    let (status, out, err) = output_of(&run(&["explain", "no-such"], &home));
    assert_eq!((status, out.as_str()), (2, ""));
    assert_eq!(err, "criu-preflight: there is no rule 'no-such'; criu-preflight rules lists them\n");
}

#[test]
fn a_rule_is_found_by_what_criu_says() {
    let explain = |text: &str| output_of(&run(&["explain", text], &std::env::temp_dir()));
    let (status, text, err) = explain("(00.019) Error (criu/sk-inet.c:155): Can't dump corked dgram socket 1f");
    assert_eq!((status, err.as_str()), (0, ""));
    assert!(text.starts_with("udp-corked ("), "{text}");
    let (status, text, _) = explain("Connected TCP socket, consider using --tcp-established option.");
    assert_eq!(status, 0);
    assert!(text.contains("\n  tcp-connected ") && text.contains("\n  raw-connected "), "{text}");
    let (status, out, err) = explain("the socket is no good");
    assert_eq!((status, out.as_str()), (2, ""));
    assert!(err.starts_with("criu-preflight: no rule has this text of CRIU: 'the socket is no good'"), "{err}");
}

#[test]
fn the_usage_names_every_option_that_decides() {
    let (status, help, _) = output_of(&run(&["--help"], &std::env::temp_dir()));
    assert_eq!(status, 0);
    for option in ["--tcp-established", "--external", "--ghost-limit", "--criu", "--json", "--config"] {
        assert!(help.contains(option), "{option}");
    }
    let (status, version, _) = output_of(&run(&["--version"], &std::env::temp_dir()));
    assert_eq!((status, version.as_str()), (0, concat!("criu-preflight ", env!("CARGO_PKG_VERSION"), "\n")));
}

#[test]
fn a_trace_tells_why_a_rule_did_not_refuse() {
    let tree = Tree::new("trace", "touch ready; sleep 60");
    let (status, out, err) = output_of(&tree.check(&["--trace", "pidfd-old", "--criu", "4.3"]));
    assert_eq!(
        (status, out.as_str(), err.as_str()),
        (0, "pidfd-old: not a rule for this CRIU, only for: 3.17.1-4.0\n", "")
    );
    let (status, _, err) = output_of(&tree.check(&["--trace", "nonsense"]));
    assert_eq!(
        (status, err.as_str()),
        (2, "criu-preflight: there is no rule 'nonsense': criu-preflight rules lists them\n")
    );
}

/// The hints of a container are for the runtime that checkpoints it, which gives CRIU more than its user types.
#[test]
fn as_a_runtime() {
    let tree = Tree::new("as", "exec 3>lock; flock 3; : > ready; exec sleep 1000");
    let text = |args: &[&str]| {
        let out = tree.check(args);
        (out.status.code(), String::from_utf8(out.stdout).unwrap() + &String::from_utf8(out.stderr).unwrap())
    };
    let (status, output) = text(&["--no-default-config", "--as", "docker"]);
    assert_eq!(status, Some(1), "{output}");
    assert!(output.contains("file-lock") && output.contains("write 'file-locks' in /etc/criu/runc.conf"), "{output}");
    let (_, output) = text(&["--no-default-config", "--as", "cri-o"]);
    assert!(!output.contains("file-lock:"), "{output}");
    let (status, output) = text(&["--as", "rkt"]);
    assert_eq!(status, Some(2));
    assert!(output.contains("--as rkt: known are criu|runc|"), "{output}");
}
