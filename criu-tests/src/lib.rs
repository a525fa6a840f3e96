//! criu-preflight against real CRIU.
//!
//! **The question.** For every fixture, a process tree and CRIU options: does CRIU alone refuse to dump it, and does CRIU
//! with the plugin come to the same verdict, earlier, naming the right rule, process and descriptor? Real CRIU is the
//! judge: a fixture's expectation is first checked against CRIU *without* the plugin.
//!
//! ```text
//! cargo run -p criu-tests --bin differential -- [--criu PATH]... [--plugin PATH] [--dry-run COMMAND] [--record] [--jobs N] [FILTER]...
//! ```
//!
//! FILTER is a part of `VERSION::FIXTURE`. `--record` asks CRIU alone and prints what it does with every fixture. Needs root.
//! `--examples FILE` keeps what CRIU and the plugin print, for the documents (with `--dry-run`, for what the log does not have).
//! `--dry-run` asks the `criu-preflight` command about each tree first, and holds its answer against the plugin's.
//!
//! **To add a resource**: a function and a line in the `KINDS` table of its family in `src/bin/mkres/`.
//!
//! **To add a fixture**: one entry in its family's file in `src/fixtures/`:
//!
//! ```ignore
//! refused("pipe-packet", "pipe-packet", "The packetized mode for pipes is not supported")   // what CRIU's log must say
//!     .blames(&[at("pipe-packet", "pipe-packet.w")]),   // what the plugin must name
//! accepted("pipe-plain", "pipe:data"),                                  // the twin, restored and compared as well
//! ```
//!
//! The tree is written in the words of `mkres` (see its `main.rs`, or `mkres --list`), `{dir}` being the run's own directory,
//! `{btrfs}` a mounted Btrfs (subvolumes `sub`, `root`, `root2`), `{btrfsdev}` its block device (MAJOR-MINOR), `{bound}` a directory that is
//! a mount of its own in the runner's namespace; `--root {root}` gives the tree a root directory of its own.
//! Every rule needs a refused fixture and an accepted twin as near to it as can be made. `opts` gives CRIU's options;
//! in it `{ino:NAME}` `{ino16:NAME}` `{mnt16:NAME}` `{rdev16:NAME}` `{dev16:NAME}` stand for properties of the descriptor that
//! mkres reports as NAME (`{fact:NAME}` for a fact it reports). `upto` and `from` give other expectations for some CRIU versions.
//! See [`fixtures::Fixture`] for the rest.

pub mod cgroups;
pub mod compare;
pub mod criu;
pub mod dry;
pub mod examples;
pub mod fixtures;
pub mod given;
pub mod mounts;
pub mod snapshots;
pub mod soak;
pub mod swrk;
pub mod tree;
pub mod trial;
