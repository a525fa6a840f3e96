//! Descriptors other than sockets, and files by their path.

pub(crate) mod anon_inode;
pub(crate) mod buildid;
pub(crate) mod device;
pub(crate) mod epoll;
pub(crate) mod fifo;
pub(crate) mod fsnotify;
pub(crate) mod ghost;
pub(crate) mod lock;
pub(crate) mod memfd;
pub(crate) mod o_path;
pub(crate) mod path;
pub(crate) mod pipe;
pub(crate) mod pressure;
pub(crate) mod proc_outer;
pub(crate) mod proc_thread;
pub(crate) mod queue_only;
pub(crate) mod timerfd;
pub(crate) mod tty;
pub(crate) mod tty_restore;
pub(crate) mod tun;
pub(crate) mod unknown_type;
pub(crate) mod unstattable;

#[cfg(test)]
mod ghost_tests;
#[cfg(test)]
mod path_tests;
#[cfg(test)]
mod watch_tests;
