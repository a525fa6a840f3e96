//! Names that change while what they named stays open: files, directories, watches.

use super::{kind, Claim, Kind};
use crate::world::{ok, World};
use std::collections::VecDeque;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;

pub const KINDS: &[Kind] = &[
    kind("rename-over", "workers write a file beside, rename it over the old one and keep it open", rename_over),
    kind("log-rotate", "a log is renamed, made anew and its oldest copy removed, while others append", log_rotate),
    kind("unlink-open", "files are open and have no name any more", unlink_open),
    kind("link-unlink", "one of two names of an open file comes and goes", link_unlink).opts(&["--link-remap"]),
    kind("link-remap", "the same, without the option for it", link_unlink).claims(&[Claim {
        rule: "link-remap-needed",
        text: "Can't create link remap for",
        who: "link",
    }]),
    kind("directories", "directories that are worked in and open are renamed", directories),
    kind("directories-removed", "directories that are worked in are removed and made anew", directories_removed),
    kind("ghosts", "large files are open and have no name any more: now and then beyond CRIU's limit", ghosts)
        .claims(&[Claim { rule: "ghost-too-big", text: "Can't dump ghost file", who: "ghost" }]),
    kind("inotify-removed", "watches on files that are removed and made anew", inotify_removed),
    kind("inotify", "watches come and go on files that are renamed", inotify),
];

fn rename_over(w: &mut World) -> io::Result<()> {
    let micros = [0, 100, 200, 1000][w.rng.below(4)];
    for n in 0..w.between(2, 6) {
        w.worker("ren", move |w| {
            let (name, beside) = (format!("state{n}"), format!("state{n}.tmp"));
            // Always the same number: the file behind it is another each time.
            let kept = File::create(&name)?;
            loop {
                let new = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&beside)?;
                fs::rename(&beside, &name)?;
                // SAFETY: two descriptors of this process.
                ok(unsafe { libc::dup2(new.as_raw_fd(), kept.as_raw_fd()) })?;
                drop(new);
                if micros > 0 {
                    w.nap(micros * 2);
                }
            }
        })?;
    }
    Ok(())
}

fn log_rotate(w: &mut World) -> io::Result<()> {
    let append = || OpenOptions::new().append(true).create(true).open("log");
    for _ in 0..w.between(1, 3) {
        w.worker("log", move |w| loop {
            let mut log = append()?;
            for _ in 0..w.between(1, 20) {
                log.write_all(b"a line\n")?;
                w.nap(100);
            }
        })?;
    }
    w.worker("rotate", move |w| loop {
        append()?;
        fs::rename("log", "log.1")?;
        w.nap(200);
        if w.rng.chance(50) {
            fs::remove_file("log.1")?;
        }
        w.nap(500);
    })?;
    Ok(())
}

fn unlink_open(w: &mut World) -> io::Result<()> {
    for n in 0..w.between(1, 4) {
        w.worker("unlink", move |w| {
            let mut open = VecDeque::new();
            for i in 0_usize.. {
                let name = format!("gone{n}.{}", i % 8);
                let mut file = File::create(&name)?;
                file.write_all(b"content")?;
                w.nap(100);
                fs::remove_file(&name)?;
                open.push_back(file);
                if open.len() > w.between(1, 6) {
                    open.pop_front();
                }
                w.nap(100);
            }
            Ok(())
        })?;
    }
    Ok(())
}

fn link_unlink(w: &mut World) -> io::Result<()> {
    for n in 0..w.between(1, 4) {
        w.worker("link", move |w| loop {
            let (one, two) = (format!("one{n}"), format!("two{n}"));
            let _kept = File::create(&one)?;
            fs::hard_link(&one, &two)?;
            w.nap(100);
            fs::remove_file(&one)?;
            w.nap(200);
            fs::rename(&two, &one)?;
            w.nap(100);
            fs::remove_file(&one)?;
        })?;
    }
    Ok(())
}

fn directories(w: &mut World) -> io::Result<()> {
    for n in 0..w.between(2, 4) {
        w.worker("dir", move |w| {
            let base = std::env::current_dir()?.join(format!("d{n}"));
            fs::create_dir_all(base.join("a/in"))?;
            loop {
                std::env::set_current_dir(base.join("a/in"))?;
                let _open = [File::open("../in")?, File::create("file")?];
                w.nap(100);
                fs::rename(base.join("a"), base.join("b"))?;
                w.nap(200);
                std::env::set_current_dir(base.join("b"))?;
                fs::rename(base.join("b"), base.join("a"))?;
                w.nap(100);
            }
        })?;
    }
    Ok(())
}

fn directories_removed(w: &mut World) -> io::Result<()> {
    for n in 0..w.between(1, 3) {
        w.worker("rmdir", move |w| {
            let base = std::env::current_dir()?;
            loop {
                let at = base.join(format!("r{n}"));
                fs::create_dir(&at)?;
                std::env::set_current_dir(&at)?;
                let _open = File::open(".")?;
                w.nap(200);
                fs::remove_dir(&at)?;
                w.nap(300);
                std::env::set_current_dir(&base)?;
                w.nap(100);
            }
        })?;
    }
    Ok(())
}

fn inotify(w: &mut World) -> io::Result<()> {
    for n in 0..w.between(1, 3) {
        w.worker("inotify", move |w| {
            let names: Vec<String> = (0..6).map(|i| format!("watched{n}.{i}")).collect();
            for name in &names {
                fs::write(name, "content")?;
            }
            // SAFETY: plain system calls on strings that live through them.
            unsafe {
                let fd = ok(libc::inotify_init1(libc::IN_NONBLOCK))?;
                let mut watches = VecDeque::new();
                loop {
                    let name = &names[w.rng.below(names.len())];
                    let path = CString::new(name.as_str())?;
                    watches.push_back(ok(libc::inotify_add_watch(fd, path.as_ptr(), libc::IN_DELETE_SELF))?);
                    let beside = format!("{name}.tmp");
                    fs::rename(name, &beside)?;
                    w.nap(50);
                    fs::rename(&beside, name)?;
                    // The same file again has the same watch: what is gone already is no failure.
                    if watches.len() > 3 {
                        watches.pop_front().map(|wd| libc::inotify_rm_watch(fd, wd));
                    }
                    let mut events = [0u8; 4096];
                    while libc::read(fd, events.as_mut_ptr().cast(), events.len()) > 0 {}
                    w.nap(100);
                }
            }
        })?;
    }
    Ok(())
}

fn ghosts(w: &mut World) -> io::Result<()> {
    w.worker("ghost", |w| loop {
        let file = File::create("large")?;
        fs::remove_file("large")?;
        for _ in 0..5 {
            w.nap(2000);
            (&file).write_all(&[1; 256 << 10])?;
        }
        w.nap(2000);
    })?;
    Ok(())
}

fn inotify_removed(w: &mut World) -> io::Result<()> {
    for n in 0..w.between(1, 2) {
        w.worker("inotify", move |w| {
            // SAFETY: plain system calls on strings and a buffer that live through them.
            unsafe {
                let fd = ok(libc::inotify_init1(libc::IN_NONBLOCK))?;
                let name = format!("watched{n}");
                let path = CString::new(name.as_str())?;
                loop {
                    fs::write(&name, "content")?;
                    ok(libc::inotify_add_watch(fd, path.as_ptr(), libc::IN_MODIFY))?;
                    w.nap(200);
                    // The watch goes with the file.
                    fs::remove_file(&name)?;
                    w.nap(200);
                    let mut events = [0u8; 4096];
                    while libc::read(fd, events.as_mut_ptr().cast(), events.len()) > 0 {}
                }
            }
        })?;
    }
    Ok(())
}
