//! Interfaces and routes that ip(8) makes, as it is what CRIU restores them with.

use crate::base::only_in_own;
use crate::ctx::{Args, Ctx, Fail, Res};
use crate::{sys, Kind};
use std::process::{Command, Stdio};

pub const KINDS: &[Kind] = &[
    Kind {
        name: "link",
        help: "what=veth|macvlan: both sides here, the lower interface here; outside: the other is in a namespace of an outside \
               process (after newns:net)",
        make: link,
    },
    Kind {
        name: "route",
        help: "what=linkdown|up|no-address|down|nexthop|nexthop-unused: of an interface without carrier, and what is like it; by a \
               nexthop object (after newns:net)",
        make: route,
    },
];

fn ip(args: &str) -> Res {
    let out = Command::new("ip").args(args.split(' ')).stdin(Stdio::null()).output();
    let out = out.map_err(|e| Fail::Skip(format!("ip: {e}")))?;
    match out.status.success() {
        true => Ok(()),
        false => Err(Fail::Skip(format!("ip {args}: {}", String::from_utf8_lossy(&out.stderr).trim()))),
    }
}

fn link(cx: &mut Ctx, a: &Args) -> Res {
    only_in_own(libc::CLONE_NEWNET)?;
    let what = a.need("what")?.to_string();
    if !a.has("outside") {
        return match what.as_str() {
            "veth" => ip("link add link7 type veth peer name link8"),
            _ => ip("link add link8 type bridge").and_then(|()| ip("link add link7 link link8 type macvlan")),
        };
    }
    let here = std::process::id();
    cx.outsider("other", &[], || {
        sys::ok("unshare", unsafe { libc::unshare(libc::CLONE_NEWNET) })?;
        match what.as_str() {
            "veth" => ip(&format!("link add link8 type veth peer name link7 netns {here}")),
            _ => {
                ip("link add link8 type bridge")?;
                ip(&format!("link add link7 link link8 netns {here} type macvlan"))
            }
        }
    })?;
    Ok(())
}

fn route(_: &mut Ctx, a: &Args) -> Res {
    only_in_own(libc::CLONE_NEWNET)?;
    let what = a.need("what")?;
    if what.starts_with("nexthop") {
        ip("nexthop add id 5 dev lo")?;
        return if what == "nexthop" { ip("route add 10.8.0.0/16 nhid 5") } else { Ok(()) };
    }
    ip("link add link7 type veth peer name link8")?;
    if what == "up" {
        ip("link set link8 up")?;
    }
    if what != "down" {
        ip("link set link7 up")?;
    }
    if what != "no-address" {
        ip("addr add 10.9.9.1/24 dev link7")?;
    }
    Ok(())
}
