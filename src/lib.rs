//! criu-preflight: a CRIU plugin that names everything in a process tree that this CRIU cannot checkpoint, before
//! anything is frozen or written.
//!
//! The way of the data, one direction:
//!
//! ```text
//! plugin ──> criu ──> scan ──> snapshot ──> rules ──> engine ──> report ──> return value
//! hooks   CRIU     all      one          pure,     words:
//!         facts    I/O      picture      data      log, JSON
//! ```
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        clippy::todo,
        clippy::unimplemented,
        clippy::unreachable
    )
)]
#![warn(unreachable_pub)]
#![deny(clippy::undocumented_unsafe_blocks, unsafe_op_in_unsafe_fn)]
// The documentation is for those who work on it, who read it with --document-private-items.
#![allow(rustdoc::private_intra_doc_links)]

pub mod bytes;
#[allow(non_camel_case_types)] // C's names, as they stand in the header.
pub mod capi;
pub mod check;
pub mod config;
pub mod criu;
mod criu_model;
pub mod engine;
pub mod enrich;
mod finding;
mod hash;
pub mod parse;
pub mod plugin;
pub mod report;
pub mod rules;
pub mod saved;
pub mod scan;
pub mod scanner;
mod session;
pub mod snapshot;
