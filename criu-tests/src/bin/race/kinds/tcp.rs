//! TCP on loopback: connections that come and go, queues that fill and empty.

use super::{kind, Claim, Kind};
use crate::world::World;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

// Not the default lock, which wants iptables on the host and is no matter of the tree.
const ESTABLISHED: &[&str] = &["--tcp-established", "--network-lock", "skip"];
const SKIPPING: &[&str] = &["--tcp-established", "--skip-in-flight", "--network-lock", "skip"];
const INFLIGHT: &[Claim] = &[Claim { rule: "tcp-inflight", text: "In-flight connection (l) for", who: "tcp-server" }];

pub const KINDS: &[Kind] = &[
    kind("tcp-connect", "connections are made, used and closed; the queue is skipped", connect).inet().opts(SKIPPING),
    kind("tcp-not-allowed", "connections now and then, without an option for them", now_and_then).inet().claims(&[
        Claim { rule: "tcp-connected", text: "Connected TCP socket", who: "tcp" },
        Claim { rule: "tcp-inflight", text: "In-flight connection (l) for", who: "tcp-server" },
    ]),
    kind("tcp-queue", "a listening queue fills and empties", queue).inet().opts(ESTABLISHED).claims(INFLIGHT),
    kind("tcp-listeners", "listening sockets are made and closed", listeners).inet(),
];

fn connect(w: &mut World) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let at = listener.local_addr()?;
    w.worker("tcp-server", move |w| {
        let mut served = Vec::new();
        loop {
            let (mut client, _) = listener.accept()?;
            // A client that has gone is no failure.
            let _ = client.read(&mut [0; 16]);
            let _ = client.write(b"answer");
            served.push(client);
            if served.len() > w.between(1, 4) {
                served.remove(0);
            }
        }
    })?;
    for _ in 0..w.between(1, 3) {
        w.worker("tcp-client", move |w| loop {
            let mut server = TcpStream::connect(at)?;
            let _ = server.write(b"question");
            w.nap(200);
            let _ = server.read(&mut [0; 16]);
            w.nap(1000);
        })?;
    }
    Ok(())
}

fn queue(w: &mut World) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let at = listener.local_addr()?;
    w.worker("tcp-server", move |w| {
        let mut served = Vec::new();
        loop {
            // One client, which is served before it comes again: the queue is empty most of the time.
            let (mut client, _) = listener.accept()?;
            let _ = client.write(b"+");
            served.push(client);
            if served.len() > 3 {
                served.remove(0);
            }
            w.nap(300);
        }
    })?;
    w.worker("tcp-client", move |w| loop {
        let mut server = TcpStream::connect(at)?;
        let _ = server.read(&mut [0]);
        w.nap(3000);
    })?;
    Ok(())
}

fn now_and_then(w: &mut World) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let at = listener.local_addr()?;
    w.worker("tcp-server", move |_| loop {
        let (mut client, _) = listener.accept()?;
        let _ = client.write(b"+");
        let _ = client.read(&mut [0]);
    })?;
    w.worker("tcp-client", move |w| loop {
        let mut server = TcpStream::connect(at)?;
        let _ = server.read(&mut [0]);
        w.nap(500);
        drop(server);
        w.nap(5000);
    })?;
    Ok(())
}

fn listeners(w: &mut World) -> io::Result<()> {
    for _ in 0..w.between(1, 3) {
        w.worker("tcp-listen", |w| {
            let mut open = Vec::new();
            loop {
                open.push(TcpListener::bind("127.0.0.1:0")?);
                w.nap(100);
                if open.len() > w.between(1, 5) {
                    open.swap_remove(w.rng.below(open.len()));
                }
                w.nap(100);
            }
        })?;
    }
    Ok(())
}
