//! Hash tables with numbers for keys (inodes, devices, descriptors), of which a look asks several for each descriptor.

use foldhash::fast::RandomState;

pub(crate) type Map<K, V> = std::collections::HashMap<K, V, RandomState>;
pub(crate) type Set<K> = std::collections::HashSet<K, RandomState>;
