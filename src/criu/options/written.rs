//! Values of options as they are written on a command line and in a configuration file (`parse_options`, criu/config.c, 3.17
//! to 4.2). `Err`: what is wrong with it.

use super::{LockMethod, CLONE_NEWNET};
use crate::bytes::{escape, Bytes};
use crate::criu::{externals, Host};

type Taken = Result<(), String>;

/// `parse_size`: a unit may stand anywhere.
pub(crate) fn size(slot: &mut Option<u64>, value: &[u8]) -> Taken {
    let unit: u64 = match value.iter().find(|b| b"KMG".contains(b)) {
        Some(b'K') => 1 << 10,
        Some(b'M') => 1 << 20,
        Some(_) => 1 << 30,
        None => 1,
    };
    let number = leading_number(value).and_then(|n| n.checked_mul(unit));
    *slot = Some(number.ok_or_else(|| format!("'{}' is not a size (1048576, 1024K, 1M)", escape(value)))?);
    Ok(())
}

/// One of several.
pub(crate) fn item(slot: &mut Option<Vec<Bytes>>, value: &[u8]) -> Taken {
    slot.get_or_insert_default().push(value.into());
    Ok(())
}

/// One of several, of which having none is another thing than an empty list.
pub(crate) fn first_or_next(slot: &mut Option<Option<Vec<Bytes>>>, value: &[u8]) -> Taken {
    slot.get_or_insert_default().get_or_insert_default().push(value.into());
    Ok(())
}

pub(crate) fn text(slot: &mut Option<Option<Bytes>>, value: &[u8]) -> Taken {
    *slot = Some(Some(value.into()));
    Ok(())
}

pub(crate) fn lock_method(slot: &mut Option<LockMethod>, value: &[u8]) -> Taken {
    *slot = Some(match value {
        b"iptables" => LockMethod::Iptables,
        b"nftables" => LockMethod::Nftables,
        b"skip" | b"none" => LockMethod::Skip,
        _ => return Err(format!("'{}' is not iptables, nftables or skip", escape(value))),
    });
    Ok(())
}

pub(crate) fn empty_ns(slot: &mut Option<u32>, value: &[u8]) -> Taken {
    match value {
        b"net" => *slot = Some(slot.unwrap_or(0) | CLONE_NEWNET),
        _ => return Err(format!("'{}' is not net", escape(value))),
    }
    Ok(())
}

/// Whether it is by size.
pub(crate) fn file_validation(slot: &mut Option<bool>, value: &[u8]) -> Taken {
    *slot = Some(match value {
        b"filesize" => true,
        b"buildid" => false,
        _ => return Err(format!("'{}' is not filesize or buildid", escape(value))),
    });
    Ok(())
}

/// `unix_sk_ids_parse` (criu/sk-unix.c): sockets that are external besides.
pub(crate) fn ext_unix_sk(host: &mut Host, value: Option<&[u8]>) -> Taken {
    let list = value.unwrap_or_default();
    for inode in list.split(|b| *b == b',').filter(|i| !i.is_empty()) {
        match leading_number(inode).filter(|n| *n != 0 && n.to_string().len() == inode.len()) {
            Some(inode) => externals::add(host, externals::unix(inode).into_bytes()),
            None => return Err(format!("'{}' is not the inode of a socket", escape(inode))),
        }
    }
    host.options.ext_unix_sk = Some(true);
    Ok(())
}

/// `fd[NUMBER]:KEY` (`inherit_fd_parse`, criu/files.c).
pub(crate) fn inherit_fd(host: &mut Host, value: &[u8]) -> Taken {
    let key = value.strip_prefix(b"fd[").and_then(|rest| {
        let end = rest.iter().position(|b| *b == b']')?;
        rest.get(end.checked_add(1)?..)?.strip_prefix(b":")
    });
    match key {
        Some(key) => item(&mut host.inherit_ids, key),
        None => Err(format!("'{}' is not fd[NUMBER]:KEY", escape(value))),
    }
}

/// The number at the start of a text, as `atol` reads it; `None` where that would read nothing.
fn leading_number(value: &[u8]) -> Option<u64> {
    let digits = value.iter().take_while(|b| b.is_ascii_digit()).count();
    std::str::from_utf8(value.get(..digits)?).ok()?.parse().ok()
}
