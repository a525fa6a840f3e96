//! In which order CRIU writes UNIX sockets to the images, and whose peer its restore does not find then.
//!
//! The dump writes a socket when it has met its peer, a connection that waits for accept at once (`dump_one_unix_fd`,
//! `fix_external_unix_sockets`, criu/sk-unix.c). The restore looks for a peer among the sockets that it has read before, and gives a
//! socket that is read later to those which it is connected to itself (`try_resolve_unix_peer`): one whose peer comes after it,
//! and is not connected to it, is left without.

use std::collections::{HashMap, HashSet};

/// A socket of the tree.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Met {
    pub ino: u32,
    pub peer: Link,
}

/// What CRIU writes as its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    None,
    /// It is connected to this one.
    Connected(u32),
    /// It waits for accept at this one.
    Waiting(u32),
}

impl Link {
    pub(crate) fn ino(self) -> Option<u32> {
        match self {
            Link::None => None,
            Link::Connected(ino) | Link::Waiting(ino) => Some(ino),
        }
    }
}

/// Of these sockets, in the order in which CRIU meets them, those whose peer is not found.
pub(crate) fn unresolved(met: &[Met]) -> Vec<u32> {
    let links: HashMap<u32, Link> = met.iter().map(|m| (m.ino, m.peer)).collect();
    let mut places: HashMap<u32, usize> = HashMap::new();
    for ino in written(met) {
        let next = places.len();
        places.entry(ino).or_insert(next);
    }
    let lost = |m: &&Met| {
        let Some(peer) = m.peer.ino().filter(|peer| *peer != m.ino) else { return false };
        let is_before = match (places.get(&peer), places.get(&m.ino)) {
            (Some(peer), Some(own)) => peer < own,
            // It is outside of the tree: written before those that are connected to it, and for the sake of them alone.
            _ => matches!(m.peer, Link::Connected(_)),
        };
        !is_before && links.get(&peer).and_then(|l| l.ino()) != Some(m.ino)
    };
    met.iter().filter(lost).map(|m| m.ino).collect()
}

/// The order of the images.
fn written(met: &[Met]) -> Vec<u32> {
    let mut order = Vec::new();
    let mut dumped = HashSet::new();
    // Last come, first written.
    let mut waiting: HashMap<u32, Vec<u32>> = HashMap::new();
    for m in met {
        match m.peer {
            Link::Connected(peer) if !dumped.contains(&peer) => waiting.entry(peer).or_default().push(m.ino),
            _ => order.push(m.ino),
        }
        dumped.insert(m.ino);
        order.extend(waiting.remove(&m.ino).into_iter().flatten().rev());
    }
    // Those of peers outside come last, each behind its peer.
    let mut rest: Vec<u32> = waiting.into_values().flatten().collect();
    rest.sort_unstable();
    order.extend(rest);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(all: &[(u32, Link)]) -> Vec<u32> {
        unresolved(&all.iter().map(|(ino, peer)| Met { ino: *ino, peer: *peer }).collect::<Vec<_>>())
    }

    #[test]
    fn whose_peer_is_not_found() {
        use Link::{Connected, None, Waiting};
        // Pairs, and connections to a socket that is not connected back, in both orders.
        assert_eq!(of(&[(1, Connected(2)), (2, Connected(1))]), [0; 0]);
        assert_eq!(of(&[(1, Connected(2)), (2, None)]), [0; 0]);
        assert_eq!(of(&[(2, None), (1, Connected(2))]), [0; 0]);
        assert_eq!(of(&[(1, Connected(1))]), [0; 0]);
        // The other end is connected elsewhere, to one that comes later, or came before.
        assert_eq!(of(&[(1, Connected(2)), (2, Connected(3)), (3, None)]), [1]);
        assert_eq!(of(&[(3, None), (1, Connected(2)), (2, Connected(3))]), [0; 0]);
        assert_eq!(of(&[(2, Connected(3)), (1, Connected(2)), (3, None)]), [1]);
        assert_eq!(of(&[(2, Connected(3)), (3, None), (1, Connected(2))]), [0; 0]);
        // Two that wait for each other's peer.
        assert_eq!(of(&[(1, Connected(2)), (2, Connected(3)), (3, Connected(2))]), [1]);
        // A peer outside of the tree.
        assert_eq!(of(&[(1, Connected(9)), (2, Connected(9))]), [0; 0]);
        assert_eq!(of(&[(1, Connected(2)), (2, Connected(9))]), [1]);
        // A connection that waits for accept is written at once.
        assert_eq!(of(&[(1, Waiting(2)), (2, None)]), [1]);
        assert_eq!(of(&[(2, None), (1, Waiting(2))]), [0; 0]);
        assert_eq!(of(&[(1, Waiting(9))]), [1]);
    }
}
