//! The trees that are looked at, and the dumps that they are judged for.

use criu_preflight::criu::{Host, LockMethod, Options, Release, Stage};
use criu_tests::tree::{NoTree, Tree};
use std::path::Path;

pub struct Subject {
    pub name: &'static str,
    /// The CRIU that would dump it.
    release: Release,
    /// Groups of words for mkres; a group that this machine cannot make is left out.
    words: &'static [&'static str],
    /// With the options that CRIU needs to dump it.
    generous: bool,
    /// A whole look finds nothing to refuse in it.
    pub clean: bool,
    /// It can be seized.
    pub stops: bool,
}

const fn subject(name: &'static str, words: &'static [&'static str]) -> Subject {
    Subject { name, release: Release::NEWEST, words, generous: false, clean: false, stops: true }
}

const fn clean(name: &'static str, words: &'static [&'static str]) -> Subject {
    Subject { generous: true, clean: true, ..subject(name, words) }
}

pub const SUBJECTS: &[Subject] = &[
    clean("clean", CLEAN),
    Subject { release: Release::V4_1, ..clean("clean-mnt", CLEAN_MNT) },
    clean("clean-net", CLEAN_NET),
    clean("clean-user", &["--root {root} --userns 604 pipe file", "unix-pair:data [ eventfd inotify:path=/files ]"]),
    subject("rich", RICH),
    subject("rich-mnt", RICH_MNT),
    subject("rich-net", RICH_NET),
    Subject { stops: false, ..subject("vfork", &["vfork no-exec", "io-uring tcp-outside unix-outside"]) },
];

const CLEAN: &[&str] = &[
    "eventfd timerfd signalfd epoll epoll:target=dup pidfd pidfd:of=child memfd memfd:map,closed aio",
    "inotify:path=/etc fanotify:path=/etc fanotify:path=/etc,mark=mount",
    "pipe pipe:data fifo file file:map,closed file:unlinked [ file:relinked ] dev:path=/dev/null dev:path=/dev/urandom",
    "chr:maj=1,min=3 dev-map:path=/dev/zero cwd:path=/tmp",
    "unix-pair:data unix-pair:type=dgram unix-listen:name=path unix-listen:name=abstract unix-waiting unix-reset",
    "unix-queued:peer=inside unix-queued-file netlink netlink:bind tcp tcp-listen tcp-listen:v6 raw udp udp:v6 tcp-pair",
    "tcp-pair:data",
    "lock:type=posix [ lock:type=flock ] [ lock:type=ofd,released ] [ lock:type=posix,by=outside ]",
    "dev-tty",
    "[ name:how=linked ]",
    "[ name:how=late ]",
    "[ inherit epoll:inherited ] [ eventfd in-queue ] zombie thread share:what=files",
    "[ setsid stopped ]",
    "[ pending:sig=12 ]",
    "compat32",
    "sysv-shm:detached",
];

const CLEAN_MNT: &[&str] = &[
    "--root {root} newns:ipc,uts",
    "mount:fs=tmpfs,to=/mnt file:path=/mnt/file make-shared:at=/mnt bind:from=/files,to=/m mount:fs=proc,to=/p",
    "mount:fs=mqueue,to=/q mount:fs=devpts,to=/dp",
    "autofs:closed",
    "sysv-shm:keep unix-listen:name=path eventfd pipe file file:map,closed inotify:path=/files fanotify:path=/files",
    "[ eventfd epoll ] [ unix-pair:data ]",
    "[ unix-named:path=rs ]",
];

const CLEAN_NET: &[&str] = &[
    "newns:net,uts,ipc tun",
    "tun:tap,name=faulttap",
    "netlink:bind,proto=0 unix-listen:name=path unix-waiting:client=outside,many=3 udp tcp-listen tcp-pair",
    "iface:kind=veth,name=v0",
    "packet raw",
    "cgroup:in=a newns:cgroup cgroup:in=a/b",
    "sysv-shm:keep [ eventfd unix-pair ]",
];

const RICH: &[&str] = &[
    "io-uring io-uring:map perf-event bpf-map bpf-prog memfd-secret mqueue userfaultfd landlock fscontext",
    "timerfd:clock=8 epoll:target=escaped pidfd:of=outside inotify:path=/proc fanotify:path=/etc,mark=mount nsfd:of=outside",
    "chr:maj=10,min=229 blk:maj=7,min=0 dev:path=/dev/fuse dev-map:path=/dev/loop0,ro tun opath:of=socket unix-opath",
    "pipe-packet fifo:opath file:relinked ghost:alloc=3000000 file:unlinked,size=2097152",
    "[ name:how=replaced ]",
    "[ name:how=late ]",
    "[ name:how=long ]",
    "[ name:how=long-cwd ]",
    "[ lock:type=posix ] [ lock:type=flock ] [ lock:type=ofd ] [ lease:mode=read ]",
    "unix-outside unix-outside:type=dgram unix-waiting:client=gone unix-reset:data unix-reconnected",
    "[ unix-named:path=../rs ]",
    "unix-pair:passcred,data unix-pair:passpidfd,data unix-queued:peer=outside unix-queued-file:tty othernet:what=udp",
    "othernet:what=unix othernet-peer othernet:what=netlink",
    "tcp-outside tcp-pair vsock packet packet:ring=open udp:cork filtered:domain=2,type=2",
    "netlink:data mptcp raw sock:domain=2,type=3,proto=1",
    "tcp-listen:backlog",
    "tty-slave tty-hungup tty-hungup:vhangup dev-tty:alone",
    "tty-pair:ldisc=27 tty-master:slave=outside sysv-shm aio:bad=tail guard seccomp",
    "[ newns:ipc,uts ] [ newns:net ] [ newns:cgroup ] [ eventfd chr:maj=10,min=229 in-queue:together ] zombie",
    "dead-proc leader-exit pending:sig=5 share:what=vm share:what=fs share:what=files share:what=sighand thread:own=files",
    "[ groups:n=3 ] ldt vvar-gap",
    "[ traced:who=child,detached ]",
];

const RICH_MNT: &[&str] = &[
    "--root {root} newns:net,ipc,uts,cgroup",
    "mount:fs=ramfs,to=/mnt mount:fs=tmpfs,to=/m make-slave:at=/m part:to=/part peers odd-mount:char=newline",
    "mount:fs=mqueue,to=/q queue autofs:master=outside fuse:at=/fuse,file pts-bind:at=/console,master=outside",
    "sysv-shm netlink:bind,proto=0 netlink:data unix-listen:name=path",
    "iface:kind=ifb,name=ifb7",
    "unix-waiting:client=outside udp udp:cork tcp-outside tcp-pair packet packet:ring=closed",
    "fanotify:path=/files,mark=inode file:relinked file:unlinked,size=2097152 [ name:how=covered ]",
    "[ newns:mnt mount:fs=ramfs,to=/x ] [ newns:user ] [ newns:pid ] [ lock:type=posix chr:maj=10,min=229 ]",
];

const RICH_NET: &[&str] = &[
    "newns:net,ipc tun:tap,filter",
    "tun-outside",
    "iface:kind=ifb,name=ifb7 unix-waiting:client=outside udp:cork tcp-outside tcp-pair mptcp",
    "[ newns:net iface:kind=ifb,name=ifb8 netlink ]",
    "cgroup:in=a newns:cgroup cgroup:in=.",
    "[ cgroup:in=x ]",
];

impl Subject {
    pub fn host(&self) -> Host {
        let mut host = Host { stage: Stage::Dump, ..Host::dry_run(self.release) };
        host.options.network_lock = Some(LockMethod::Nftables);
        if self.generous {
            let yes = Some(true);
            host.options = Options {
                file_locks: yes,
                tcp_established: yes,
                link_remap: yes,
                force_irmap: yes,
                ext_unix_sk: yes,
                shell_job: yes,
                evasive_devices: yes,
                skip_in_flight: yes,
                ..host.options
            };
        }
        host
    }

    /// Makes it in a directory of its own; and the groups that were left out, with the reason.
    pub fn make(&self, dir: &Path) -> Result<(Tree, Vec<String>), String> {
        let mut spec = String::new();
        let mut left_out = Vec::new();
        for (nth, group) in self.words.iter().enumerate() {
            let more = format!("{spec} {group}");
            match self.one(&more, &dir.join(format!("{}-{nth}", self.name))) {
                Ok(mut tree) => {
                    tree.end();
                    spec = more;
                }
                Err(NoTree::Skip(why) | NoTree::Broken(why)) => left_out.push(format!("{group}: {why}")),
            }
        }
        match self.one(&spec, &dir.join(self.name)) {
            Ok(tree) => Ok((tree, left_out)),
            Err(NoTree::Skip(why) | NoTree::Broken(why)) => Err(why),
        }
    }

    fn one(&self, spec: &str, dir: &Path) -> Result<Tree, NoTree> {
        let spec = spec.replace("{root}", &dir.join("root").to_string_lossy());
        Tree::make(&spec, dir)
    }
}
