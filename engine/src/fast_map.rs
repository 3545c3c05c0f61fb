//! The maps that every sale looks into, and that a start fills with a million accounts: hashed quickly, with a seed of each process's own.

pub(crate) use foldhash::fast::RandomState as Hasher;

/// A map with that hash.
pub type FastMap<K, V> = std::collections::HashMap<K, V, Hasher>;
