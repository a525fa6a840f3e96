//! Sockets of every family, and what is in their queues.

pub mod common;
pub mod ip;
pub mod netlink;
pub mod packet;
pub mod tcp;
pub mod udp;
pub mod unix;
pub mod unix_accept;
pub mod unix_name;
pub mod unix_queue;
