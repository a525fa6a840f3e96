//! Descriptors other than sockets, and files by their path.

pub mod anon_inode;
pub mod buildid;
pub mod device;
pub mod epoll;
pub mod fsnotify;
pub mod ghost;
pub mod lock;
pub mod memfd;
pub mod o_path;
pub mod path;
pub mod pipe;
pub mod timerfd;
pub mod tty;
pub mod tun;
pub mod unknown_type;
pub mod unstattable;

#[cfg(test)]
mod path_tests;
