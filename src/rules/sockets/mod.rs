//! Sockets of every family, and what is in their queues.

pub(crate) mod common;
pub(crate) mod ip;
pub(crate) mod netlink;
pub(crate) mod options;
pub(crate) mod packet;
pub(crate) mod tcp;
pub(crate) mod tcp_reset;
pub(crate) mod udp;
pub(crate) mod unix;
pub(crate) mod unix_accept;
pub(crate) mod unix_dir;
pub(crate) mod unix_name;
pub(crate) mod unix_queue;
pub(crate) mod unix_restore;
