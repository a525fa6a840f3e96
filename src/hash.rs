//! Hash tables with numbers for keys (inodes, devices, descriptors), of which a look asks several for each descriptor.
//!
//! Quicker than the standard library's, and still with a secret: a file server of the tree chooses its inode numbers, and
//! must not make them meet in one place.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};

pub type Map<K, V> = HashMap<K, V, Secret>;
pub type Set<K> = HashSet<K, Secret>;

/// What the hashes of one table depend on.
#[derive(Clone, Copy, Debug)]
pub struct Secret {
    start: u64,
    factor: u64,
}

impl Default for Secret {
    fn default() -> Self {
        let random = RandomState::new();
        Secret { start: random.hash_one(0), factor: random.hash_one(1) | 1 }
    }
}

impl BuildHasher for Secret {
    type Hasher = Numbers;

    fn build_hasher(&self) -> Numbers {
        Numbers { state: self.start, factor: self.factor }
    }
}

/// Each number is mixed in by one multiplication whose two halves are folded together.
pub struct Numbers {
    state: u64,
    factor: u64,
}

impl Hasher for Numbers {
    fn finish(&self) -> u64 {
        self.state
    }

    fn write(&mut self, bytes: &[u8]) {
        for word in bytes.chunks(8) {
            let mut padded = [0; 8];
            padded.iter_mut().zip(word).for_each(|(to, from)| *to = *from);
            self.write_u64(u64::from_ne_bytes(padded));
        }
    }

    fn write_u64(&mut self, n: u64) {
        let product = u128::from(self.state ^ n).wrapping_mul(u128::from(self.factor));
        self.state = (product as u64) ^ (product >> 64) as u64;
    }

    fn write_u8(&mut self, n: u8) {
        self.write_u64(n.into());
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(n.into());
    }

    fn write_i32(&mut self, n: i32) {
        self.write_u64(n as u64);
    }

    fn write_i64(&mut self, n: i64) {
        self.write_u64(n as u64);
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of these keys fall into the fullest of as many places, by the bits that a table uses.
    fn fullest(keys: impl Iterator<Item = u64>) -> usize {
        let secret = Secret::default();
        let mut places = vec![0; 4096];
        keys.take(4096).for_each(|key| places[secret.hash_one(key) as usize % 4096] += 1);
        places.into_iter().max().unwrap_or_default()
    }

    #[test]
    fn numbers_in_a_row_and_in_steps_are_spread() {
        for shift in [0, 1, 12, 20, 32, 48, 52] {
            let most = fullest((0u64..).map(|n| n << shift));
            assert!(most < 24, "steps of 2^{shift}: {most} in one place");
        }
    }

    #[test]
    fn every_part_of_a_key_counts() {
        let secret = Secret::default();
        let keys = [(1, 2u32, 3u64), (1, 3, 2), (2, 1, 3), (1, 2, 4), (0, 2, 3), (1, 0, 3), (1, 2, 0)];
        let hashes: HashSet<u64> = keys.iter().map(|key| secret.hash_one(key)).collect();
        assert_eq!(hashes.len(), keys.len());
        assert_eq!(secret.hash_one(7u64), secret.hash_one(7u64));
        assert_ne!(Secret::default().hash_one(7u64), secret.hash_one(7u64), "each table has its own");
    }
}
