//! What the hints name under each runtime, and what they leave out.

use super::*;

#[test]
fn the_hint_names_the_place_of_the_runtime() {
    let findings = [
        tcp(1, 1),
        finding(&SHELL, 1, "a", None),
        finding(&GHOST, 1, "a", Some(3)).text("path", "/tmp/x (deleted)").num("size", 2_000_000),
        finding(&UNIX, 1, "a", Some(4)).num("peer", 4711),
        finding(&PTS, 1, "a", Some(5)).text("path", "/dev/pts/3"),
    ];
    let mut text = String::new();
    for runtime in [
        Runtime::Cli,
        Runtime::Runc,
        Runtime::Crun,
        Runtime::Containerd,
        Runtime::ContainerdCrun,
        Runtime::Crio,
        Runtime::CrioCrun,
        Runtime::PodmanCrun,
        Runtime::PodmanRunc,
        Runtime::Lxc,
        Runtime::Youki,
        Runtime::Rpc,
    ] {
        for release in [Release::V4_1, Release::V4_2] {
            let crun = format!("{runtime:?}").ends_with("Crun");
            if release == Release::V4_1 && !crun {
                continue;
            }
            let host = Host { release, ..host(runtime) };
            text.push_str(&format!("{runtime:?}{}\n", if release == Release::V4_1 { ", libcriu 4.1" } else { "" }));
            for f in &findings {
                let rule = RULES.iter().find(|r| r.id == f.rule).unwrap();
                let cure = hints::cure(rule, f, &host);
                text.push_str(&format!("  {:?}: {}\n", cure.rank, cure.text));
            }
        }
    }
    expect![[r#"
        Cli
          Option: pass --tcp-established or --tcp-close (again to the restore); or close the connection
          Option: pass --shell-job (again to the restore)
          Option: pass --ghost-limit 2000000
          Option: pass --external 'unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]'); or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: no workaround known
        Runc
          Option: pass --tcp-established to runc checkpoint (again to the restore), or write 'tcp-established' or 'tcp-close' in /etc/criu/runc.conf; or close the connection
          Option: pass --shell-job to runc checkpoint (again to the restore), or write 'shell-job' in /etc/criu/runc.conf
          Option: write 'ghost-limit 2000000' in /etc/criu/runc.conf
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/runc.conf; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: no workaround known
        Crun, libcriu 4.1
          Option: pass --tcp-established to crun checkpoint (again to the restore), or write 'tcp-close' in /etc/criu/default.conf; or close the connection
          Option: pass --shell-job to crun checkpoint (again to the restore)
          Option: write 'ghost-limit 2000000' in /etc/criu/default.conf
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/default.conf; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: no workaround known
        Crun
          Option: pass --tcp-established to crun checkpoint (again to the restore), or write 'tcp-established' or 'tcp-close' in /etc/criu/crun.conf; or close the connection
          Option: pass --shell-job to crun checkpoint (again to the restore), or write 'shell-job' in /etc/criu/crun.conf
          Option: write 'ghost-limit 2000000' in /etc/criu/crun.conf
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/crun.conf; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: no workaround known
        Containerd
          Option: write 'tcp-established' or 'tcp-close' in /etc/criu/runc.conf; or close the connection
          Option: write 'shell-job' in /etc/criu/runc.conf
          Option: write 'ghost-limit 2000000' in /etc/criu/runc.conf
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/runc.conf; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: no workaround known
        ContainerdCrun, libcriu 4.1
          Option: write 'tcp-close' in /etc/criu/default.conf; or close the connection; containerd gives crun no flags, and crun reads /etc/criu/crun.conf only with libcriu 4.2 or newer
          NoRemedy: containerd gives crun no flags, and crun reads /etc/criu/crun.conf only with libcriu 4.2 or newer
          Option: write 'ghost-limit 2000000' in /etc/criu/default.conf
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/default.conf; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: no workaround known
        ContainerdCrun
          Option: write 'tcp-established' or 'tcp-close' in /etc/criu/crun.conf; or close the connection
          Option: write 'shell-job' in /etc/criu/crun.conf
          Option: write 'ghost-limit 2000000' in /etc/criu/crun.conf
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/crun.conf; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: no workaround known
        Crio
          Option: write 'tcp-established' or 'tcp-close' in /etc/criu/runc.conf; or close the connection
          Option: write 'shell-job' in /etc/criu/runc.conf
          Option: write 'ghost-limit 2000000' in /etc/criu/runc.conf
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/runc.conf; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: no workaround known
        CrioCrun, libcriu 4.1
          Option: write 'tcp-close' in /etc/criu/default.conf; or close the connection; CRI-O gives crun no flags, and crun reads /etc/criu/crun.conf only with libcriu 4.2 or newer
          NoRemedy: CRI-O gives crun no flags, and crun reads /etc/criu/crun.conf only with libcriu 4.2 or newer
          Option: write 'ghost-limit 2000000' in /etc/criu/default.conf
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/default.conf; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: no workaround known
        CrioCrun
          Option: write 'tcp-established' or 'tcp-close' in /etc/criu/crun.conf; or close the connection
          Option: write 'shell-job' in /etc/criu/crun.conf
          Option: write 'ghost-limit 2000000' in /etc/criu/crun.conf
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/crun.conf; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: no workaround known
        PodmanCrun, libcriu 4.1
          Option: pass --tcp-established to podman container checkpoint (again to the restore), or write 'tcp-close' in /etc/criu/default.conf; or close the connection
          NoRemedy: podman has no flag for --shell-job, and crun reads /etc/criu/crun.conf only with libcriu 4.2 or newer
          Option: write 'ghost-limit 2000000' in /etc/criu/default.conf
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/default.conf; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: no workaround known
        PodmanCrun
          Option: pass --tcp-established to podman container checkpoint (again to the restore), or write 'tcp-established' or 'tcp-close' in /etc/criu/crun.conf (or the file of annotation org.criu.config); or close the connection
          Option: write 'shell-job' in /etc/criu/crun.conf (or the file of annotation org.criu.config)
          Option: write 'ghost-limit 2000000' in /etc/criu/crun.conf (or the file of annotation org.criu.config)
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/crun.conf (or the file of annotation org.criu.config); or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: no workaround known
        PodmanRunc
          Option: pass --tcp-established to podman container checkpoint (again to the restore), or write 'tcp-established' or 'tcp-close' in /etc/criu/runc.conf (or the file of annotation org.criu.config); or close the connection
          Option: write 'shell-job' in /etc/criu/runc.conf (or the file of annotation org.criu.config)
          Option: write 'ghost-limit 2000000' in /etc/criu/runc.conf (or the file of annotation org.criu.config)
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/runc.conf (or the file of annotation org.criu.config); or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: no workaround known
        Lxc
          Option: write 'tcp-established' or 'tcp-close' in /etc/criu/default.conf; or close the connection
          Option: write 'shell-job' in /etc/criu/default.conf
          Option: write 'ghost-limit 2000000' in /etc/criu/default.conf
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/default.conf; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: no workaround known
        Youki
          Option: pass --tcp-established to youki's checkpoint command (again to the restore), or write 'tcp-close' in /etc/criu/default.conf; or close the connection
          Option: pass --shell-job to youki's checkpoint command (again to the restore)
          Option: write 'ghost-limit 2000000' in /etc/criu/default.conf
          Option: write 'external unix[4711]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/default.conf; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          NoRemedy: no workaround known
        Rpc
          Option: set tcp_established = true or tcp_close = true in the RPC request (again to the restore); or close the connection
          Option: set shell_job = true in the RPC request (again to the restore)
          Option: set ghost_limit = 2000000 in the RPC request
          Option: set external = unix[4711] (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in the RPC request; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)
          Option: set orphan_pts_master = true in the RPC request
    "#]].assert_eq(&text);
}

/// An annotation's file is read in place of the runtime's own, and so is runc.conf by crun where there is no crun.conf.
#[test]
fn the_hint_names_the_file_that_the_request_names() {
    let ghost = finding(&GHOST, 1, "a", Some(3)).text("path", "/x (deleted)").num("size", 2_000_000);
    let mut text = String::new();
    for (runtime, file) in [
        (Runtime::Runc, "/etc/criu/runc.conf"),
        (Runtime::Containerd, "/srv/a\nb.conf"),
        (Runtime::Crun, "/etc/criu/runc.conf"),
        (Runtime::PodmanCrun, "/etc/criu/crun.conf"),
        (Runtime::PodmanRunc, "/srv/c.conf"),
        (Runtime::Youki, "/srv/c.conf"),
    ] {
        let host = Host { config_file: Some(file.into()), ..host(runtime) };
        text.push_str(&format!("{runtime:?}: {}\n", hints::cure(&GHOST, &ghost, &host).text));
    }
    expect![[r#"
        Runc: write 'ghost-limit 2000000' in /etc/criu/runc.conf
        Containerd: write 'ghost-limit 2000000' in /srv/a\nb.conf
        Crun: write 'ghost-limit 2000000' in /etc/criu/runc.conf
        PodmanCrun: write 'ghost-limit 2000000' in /etc/criu/crun.conf (or the file of annotation org.criu.config)
        PodmanRunc: write 'ghost-limit 2000000' in /srv/c.conf
        Youki: write 'ghost-limit 2000000' in /etc/criu/default.conf
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_hint_leaves_out_what_does_not_help() {
    let mut host = host(Runtime::Cli);
    host.options.tcp_established = Some(true);
    assert_eq!(
        hints::cure(&TCP, &tcp(1, 1), &host).text,
        "pass --tcp-close (again to the restore); or close the connection"
    );
    host.release = Release::V4_3;
    assert_eq!(hints::cure(&DEVICE, &device(), &host).text, "close /dev/gdrdrv");
    let lock = |release| hints::cure(&LOCK, &finding(&LOCK, 1, "a", None), &Host { release, ..host.clone() }).text;
    assert_eq!(lock(Release::V3_18), "pass --network-lock nftables or --network-lock skip");
    assert_eq!(lock(Release::V3_17), "pass --network-lock nftables", "it knows no other");
    let uprobes = |host: &Host| hints::cure(&UPROBES, &finding(&UPROBES, 1, "a", None), host).text;
    let old = Host { release: Release::V4_1, ..host.clone() };
    assert_eq!(uprobes(&old), "use CRIU 4.2 or newer", "the option is not known there");
    let new = Host { caps: Caps { uprobes: true, ..Caps::default() }, ..host.clone() };
    assert_eq!(uprobes(&new), "pass --allow-uprobes (again to the restore)");
    // The fact that the option's value needs is not known.
    assert_eq!(hints::cure(&GHOST, &finding(&GHOST, 1, "a", None), &host).text, "no workaround known");
    let odd = finding(&UNIX, 1, "a", None).text("peer", "it's 5");
    let given = Host { externals: Some(vec!["unix[it's 5]".into()]), ..host.clone() };
    assert_eq!(hints::cure(&UNIX, &odd, &given).text, "load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)");
    let text = |runtime| hints::cure(&UNIX, &odd, &Host { runtime, ..host.clone() }).text;
    expect![[r#"pass --external 'unix[it'\''s 5]' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]'); or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)"#]]
        .assert_eq(&text(Runtime::Cli));
    expect![[r#"write 'external "unix[it's 5]"' (restore with --ext-unix-sk where its other end has a name and else --inherit-fd 'fd[N]:socket:[INO]') in /etc/criu/default.conf; or load a CRIU plugin that accepts it (DUMP_UNIX_SK hook)"#]].assert_eq(&text(Runtime::Lxc));
}
