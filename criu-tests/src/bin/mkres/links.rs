//! Interfaces and routes that ip(8) makes, as it is what CRIU restores them with.

use crate::base::only_in_own;
use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{sys, Kind};
use std::process::{Command, Stdio};

pub const KINDS: &[Kind] = &[
    Kind {
        name: "link",
        help: "what=veth|macvlan: both sides here, the lower interface here; parent: the other side of the veth is in the parent's \
               namespace; outside: it, or the lower interface, is in one of an outside process; index=N: that of the one here, else the first that is free (after newns:net)",
        make: link,
    },
    Kind {
        name: "route",
        help: "what=linkdown|up|no-address|down|...: of an interface without carrier, and what is like it; nexthop...: by a nexthop \
               object (after newns:net)",
        make: route,
    },
];

fn ip(args: &str) -> Res {
    run("ip", args)
}

fn run(program: &str, args: &str) -> Res {
    let out = Command::new(program).args(args.split(' ')).stdin(Stdio::null()).output();
    let out = out.map_err(|e| Fail::Skip(format!("{program}: {e}")))?;
    match out.status.success() {
        true => Ok(()),
        false => Err(Fail::Skip(format!("{program} {args}: {}", String::from_utf8_lossy(&out.stderr).trim()))),
    }
}

fn link(cx: &mut Ctx, a: &Args) -> Res {
    only_in_own(libc::CLONE_NEWNET)?;
    let what = a.need("what")?.to_string();
    let index = a.get("index").map(|n| format!(" index {n}")).unwrap_or_default();
    if a.has("parent") {
        return ip(&format!("link add link7 type veth peer name link8 netns {}", unsafe { libc::getppid() }));
    }
    if !a.has("outside") {
        return match what.as_str() {
            "veth" => ip("link add link7 type veth peer name link8"),
            _ => {
                ip("link add link8 type bridge")?;
                ip(&format!("link add link7{index} link link8 type macvlan"))
            }
        };
    }
    let here = std::process::id();
    cx.outsider("other", &[], || {
        sys::ok("unshare", unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
        match what.as_str() {
            // Of the peer's index ip(8) takes no notice.
            "veth" => {
                let add = format!("ip link add link7{index} type veth peer name link8 netns {}", std::process::id());
                run("nsenter", &format!("-t {here} -n {add}"))
            }
            _ => {
                ip("link add link8 type bridge")?;
                ip(&format!("link add link7{index} link link8 netns {here} type macvlan"))
            }
        }
    })?;
    Ok(())
}

/// Two interfaces with carrier.
const PAIRS: &str = "link add link7 type veth peer name link8; link set link7 up; link set link8 up; addr add 10.9.9.1/24 dev link7; \
                     link add link5 type veth peer name link6; link set link5 up; link set link6 up; addr add 10.9.8.1/24 noprefixroute dev link5; \
                     addr add fd09::1/64 nodad dev link7";

/// What is made, by its name: arguments of ip(8).
const ROUTES: &[(&str, &[&str])] = &[
    ("linkdown", &[NO_CARRIER, "addr add 10.9.9.1/24 dev link7"]),
    ("linkdown-v6", &[NO_CARRIER, "addr add fd09::1/64 nodad dev link7; -6 route add fd0a::/64 via fd09::2"]),
    (
        "linkdown-table",
        &[NO_CARRIER, "addr add 10.9.9.1/24 noprefixroute dev link7; route add 10.9.9.0/24 dev link7 table 100"],
    ),
    ("linkdown-one", &[PAIRS, SEVERAL, "link set link6 down"]),
    ("dead-one", &[PAIRS, SEVERAL, "link set link5 down"]),
    ("several", &[PAIRS, SEVERAL]),
    ("up", &["link add link7 type veth peer name link8; link set link8 up; link set link7 up; addr add 10.9.9.1/24 dev link7"]),
    ("no-address", &[NO_CARRIER]),
    ("down", &["link add link7 type veth peer name link8; addr add 10.9.9.1/24 dev link7"]),
    ("nexthop", &["nexthop add id 5 dev lo; route add 10.8.0.0/16 nhid 5"]),
    ("nexthop-v6", &[PAIRS, "nexthop add id 5 via fd09::2 dev link7; -6 route add fd0a::/64 nhid 5"]),
    ("nexthop-table", &["nexthop add id 5 dev lo; route add 10.8.0.0/16 nhid 5 table 100"]),
    ("nexthop-unused", &["nexthop add id 5 dev lo"]),
];

const NO_CARRIER: &str = "link add link7 type veth peer name link8; link set link7 up";
const SEVERAL: &str = "route add 10.8.0.0/16 nexthop via 10.9.9.2 dev link7 nexthop via 10.6.0.2 dev link5 onlink";

fn route(_: &mut Ctx, a: &Args) -> Res {
    only_in_own(libc::CLONE_NEWNET)?;
    let what = a.need("what")?;
    let of = ROUTES.iter().find(|(name, _)| *name == what).ok_or_else(|| Fail::Broken(format!("what={what}")))?;
    of.1.iter().flat_map(|list| list.split("; ")).try_for_each(|args| ip(args.trim()))
}
