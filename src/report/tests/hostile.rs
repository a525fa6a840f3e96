//! Names, numbers and nesting as a hostile tree has them.

use super::*;

#[test]
fn names_from_the_tree_are_harmless() {
    let mut f = finding(&DEVICE, 5, "Error\n\x1b[2J", Some(1))
        .text("path", &b"/tmp/\xff\xfe Error: \n(00.1) Error (cr-dump.c:1): \x1b[31m"[..])
        .text("driver", "a\u{202e}b")
        .text("dev", "x".repeat(5000).as_str());
    f.holders = vec![Holder { pid: 1, comm: "Error\r".into(), fd: None }];
    check(
        &lines(&report(vec![f.clone()]), &host(Runtime::Cli)),
        expect![[r#"
        Error (preflight): refusing to dump pid 4211 (nginx), nothing was frozen: 1 blocker in 1 of 17 tasks: fd-chrdev x1
        Error (preflight): fd-chrdev: pid 5 (Error\n\x1b[2J) fd 1: character device xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...(5000 bytes)...xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx (a\u{202e}b) /tmp/\xff\xfe Error: \n(00.1) Error (cr-dump.c:1): \x1b[31m; held by: pid 1 (Error\r); close /tmp/\xff\xfe Error: \n(00.1) Error (cr-dump.c:1): \x1b[31m; or use CRIU 4.3 or newer
    "#]],
    );
    let mut warned = report(vec![f.doubt()]);
    warned.root.1 = "Error".into();
    warned.unchecked = vec![
        Unchecked { pid: 7, fd: Some(3), probe: Probe::FdInfo, errno: libc::EACCES },
        Unchecked { pid: 8, fd: None, probe: Probe::Sockets { net: 4 }, errno: 0 },
        Unchecked { pid: 9, fd: Some(4), probe: Probe::FdInfo, errno: libc::EACCES },
    ];
    let lines = warnings(&warned, &host(Runtime::Cli));
    assert!(lines.iter().all(|l| !l.contains("Error")));
    check(
        &lines,
        expect![[r#"
        Warn  (preflight): fd-chrdev: pid 5 (\x45rror\n\x1b[2J) fd 1: character device xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...(5000 bytes)...xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx (a\u{202e}b) /tmp/\xff\xfe \x45rror: \n(00.1) \x45rror (cr-dump.c:1): \x1b[31m; held by: pid 1 (\x45rror\r); close /tmp/\xff\xfe \x45rror: \n(00.1) \x45rror (cr-dump.c:1): \x1b[31m; or use CRIU 4.3 or newer
        Warn  (preflight): 3 things could not be looked at: fdinfo EACCES (pid 7 fd 3 and 1 more), sockets of net:[4] not understood (pid 8)
    "#]],
    );
    assert_eq!(warned.verdict(), Outcome::Warn);
    assert_eq!(crate::report::lines::lines(&warned, &host(Runtime::Cli)), Vec::<String>::new());
}

/// A finding of any bytes.
fn hostile(comm: Vec<u8>, path: Vec<u8>) -> Finding {
    let mut f = finding(&UNIX, 1, "", Some(1)).text("path", path.clone()).text("peer", path);
    f.comm = Bytes(comm.clone());
    f.holders = vec![Holder { pid: 2, comm: Bytes(comm), fd: None }];
    f
}

proptest! {
    #[test]
    fn any_name_makes_good_lines_and_good_json(
        comm in "(Error|[\\n\\\\\\x1b\\u{202e}a-e]){0,15}",
        mut path: Vec<u8>,
        times in 1_usize..80,
    ) {
        path.extend_from_slice(b"Error");
        let f = hostile(comm.into_bytes(), path.repeat(times));
        let mut report = report(vec![f.clone(), f.doubt()]);
        let host = host(Runtime::PodmanCrun);
        let errors = lines(&report, &host);
        prop_assert_eq!(errors.len(), 2);
        let warned = warnings(&report, &host);
        prop_assert!(warned.iter().all(|l| !l.contains("Error")));
        for line in errors.iter().chain(&warned).chain([&syslog_summary(&report, &host, Some(&path))]) {
            prop_assert!(line.len() <= 1000 && !line.contains(char::is_control), "{line:?}");
        }
        prop_assert!(errors[1].contains("; pass --external ") || errors[1].contains("'external "));
        report.mode = Mode::Warn;
        let json = json::to_vec(&report, &host).unwrap();
        prop_assert!(serde_json::from_slice::<serde_json::Value>(&json).is_ok());
    }
}

#[test]
fn queues_within_queues() {
    let lines = [vec![2], vec![2, 1], vec![2, 1, 7], vec![2, 1, 1, 7], vec![1; 64]].map(|queued| {
        let report = report(vec![Finding { queued, ..device() }]);
        lines(&report, &host(Runtime::Cli)).remove(1)
    });
    check(
        &lines,
        expect![[r#"
            Error (preflight): fd-chrdev: pid 4220 (worker) fd 7, descriptor 2 in its queue: character device 506:0 (gdrdrv) /dev/gdrdrv; close /dev/gdrdrv; or use CRIU 4.3 or newer
            Error (preflight): fd-chrdev: pid 4220 (worker) fd 7, descriptor 2 in its queue, descriptor 1 in the queue of that: character device 506:0 (gdrdrv) /dev/gdrdrv; close /dev/gdrdrv; or use CRIU 4.3 or newer
            Error (preflight): fd-chrdev: pid 4220 (worker) fd 7, descriptor 2 in its queue, descriptor 1 in the queue of that, descriptor 7 in the queue of that: character device 506:0 (gdrdrv) /dev/gdrdrv; close /dev/gdrdrv; or use CRIU 4.3 or newer
            Error (preflight): fd-chrdev: pid 4220 (worker) fd 7, descriptor 2 in its queue, and so on to descriptor 7, 4 queues deep: character device 506:0 (gdrdrv) /dev/gdrdrv; close /dev/gdrdrv; or use CRIU 4.3 or newer
            Error (preflight): fd-chrdev: pid 4220 (worker) fd 7, descriptor 1 in its queue, and so on to descriptor 1, 64 queues deep: character device 506:0 (gdrdrv) /dev/gdrdrv; close /dev/gdrdrv; or use CRIU 4.3 or newer
        "#]],
    );
}

#[test]
fn a_hundred_thousand_places_are_a_short_line_and_a_whole_list() {
    const PLACES: i32 = 100_000;
    let mut everywhere = device();
    everywhere.also = (8..PLACES + 7)
        .map(|nth| Place { pid: 4220 + nth / 20_000, fd: Some(nth % 20_000), ..Place::default() })
        .collect();
    // Beside many that are not the same.
    let all = std::iter::once(everywhere).chain((0..10_000).map(|fd| tcp(4213, fd))).collect();
    let (report, host) = (report(all), host(Runtime::Cli));
    check(
        &lines(&report, &host),
        expect![[r#"
            Error (preflight): refusing to dump pid 4211 (nginx), nothing was frozen: 10001 blockers in 7 of 17 tasks: tcp-connected x10000, fd-chrdev x1
            Error (preflight): tcp-connected: pid 4213 (nginx) fd 0: TCP 10.0.0.2:443 <- 10.0.0.9:51514 ESTABLISHED; pass --tcp-established or --tcp-close (again to the restore); or close the connection
            Error (preflight): tcp-connected: pid 4213 (nginx) fd 1: TCP 10.0.0.2:443 <- 10.0.0.9:51514 ESTABLISHED; pass --tcp-established or --tcp-close (again to the restore); or close the connection
            Error (preflight): tcp-connected: pid 4213 (nginx) fd 2: TCP 10.0.0.2:443 <- 10.0.0.9:51514 ESTABLISHED; pass --tcp-established or --tcp-close (again to the restore); or close the connection
            Error (preflight): tcp-connected: and 9997 more of this kind: pid 4213 fds 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42 and 9957 more
            Error (preflight): fd-chrdev: pid 4220 (worker) fd 7: character device 506:0 (gdrdrv) /dev/gdrdrv; also fd 8, fd 9, fd 10 and 99996 more; close /dev/gdrdrv; or use CRIU 4.3 or newer
        "#]],
    );
    let json: serde_json::Value = serde_json::from_slice(&json::to_vec(&report, &host).unwrap()).unwrap();
    let findings = json["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 10_001);
    let also = findings[0]["also"].as_array().unwrap();
    assert_eq!(also.len(), 99_999);
    assert_eq!((&also[99_998]["pid"], &also[99_998]["fd"]), (&4225.into(), &6.into()));
}
