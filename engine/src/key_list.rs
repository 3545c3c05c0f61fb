//! The keys of one caller in the order of their numbers, in chunks. A list in one piece is copied as a whole each time it has grown to twice its
//! size: of a caller with three million keys that is 144 MB at once, and of thousands of tills that sell in turn it is all in the same moment.

use std::collections::VecDeque;
use std::collections::vec_deque;

use crate::dedup::Key;
use crate::id::Sequence;

/// Keys in a chunk, at most: three kilobytes.
const CHUNK: usize = 64;

/// Keys by number. No chunk is empty, and none has more than [`CHUNK`].
#[derive(Debug, Default)]
pub(crate) struct KeyList {
    chunks: VecDeque<VecDeque<Key>>,
    len: usize,
}

/// Where a key stands, or would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    chunk: usize,
    at: usize,
}

impl KeyList {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn get(&self, place: Place) -> Option<&Key> {
        self.chunks.get(place.chunk)?.get(place.at)
    }

    pub(crate) fn get_mut(&mut self, place: Place) -> Option<&mut Key> {
        self.chunks.get_mut(place.chunk)?.get_mut(place.at)
    }

    /// Where the key with this number stands, or else where it belongs.
    pub(crate) fn find(&self, sequence: Sequence) -> Result<Place, Place> {
        let behind = |chunk: &VecDeque<Key>| chunk.front().is_some_and(|first| first.sequence <= sequence);
        // What is new belongs into the last one, and what is answered mostly stands there.
        let chunk = match self.chunks.back() {
            Some(last) if behind(last) => self.chunks.len() - 1,
            Some(_) => self.chunks.partition_point(behind).saturating_sub(1),
            None => 0,
        };
        let place = |at| Place { chunk, at };
        let Some(keys) = self.chunks.get(chunk) else { return Err(place(0)) };
        let Some(last) = keys.back() else { return Err(place(0)) };
        let Some(from_the_end) = last.sequence.0.checked_sub(sequence.0) else { return Err(place(keys.len())) };
        // Where all numbers were used, that far from the end it stands.
        let guess =
            usize::try_from(from_the_end).ok().and_then(|from_the_end| (keys.len() - 1).checked_sub(from_the_end));
        match guess {
            Some(at) if keys.get(at).is_some_and(|key| key.sequence == sequence) => Ok(place(at)),
            Some(_) | None => keys.binary_search_by_key(&sequence, |key| key.sequence).map(place).map_err(place),
        }
    }

    /// Puts a key where [`KeyList::find`] said that it belongs.
    pub(crate) fn insert(&mut self, place: Place, key: Key) {
        self.len += 1;
        let last = self.chunks.len().saturating_sub(1);
        match self.chunks.get_mut(place.chunk) {
            Some(keys) if keys.len() < CHUNK => keys.insert(place.at, key),
            // In order, and that one is full.
            Some(keys) if place.chunk == last && place.at == keys.len() => {
                let mut keys = VecDeque::with_capacity(CHUNK);
                keys.push_back(key);
                self.chunks.push_back(keys);
            }
            Some(keys) => {
                let mut upper = keys.split_off(CHUNK / 2);
                match place.at.checked_sub(CHUNK / 2) {
                    Some(at) => upper.insert(at, key),
                    None => keys.insert(place.at, key),
                }
                self.chunks.insert(place.chunk + 1, upper);
            }
            None => self.chunks.push_back(VecDeque::from([key])),
        }
    }

    /// Takes a key out; what stood behind it is found at the place that is returned.
    pub(crate) fn remove(&mut self, place: Place) -> Place {
        let Some(keys) = self.chunks.get_mut(place.chunk) else { return place };
        if keys.remove(place.at).is_some() {
            self.len -= 1;
        }
        if keys.is_empty() {
            self.chunks.remove(place.chunk);
        }
        self.on_a_key(place)
    }

    pub(crate) fn last(&self) -> Option<&Key> {
        self.chunks.back()?.back()
    }

    pub(crate) fn first(&self) -> Place {
        Place { chunk: 0, at: 0 }
    }

    pub(crate) fn after(&self, place: Place) -> Place {
        self.on_a_key(Place { at: place.at + 1, ..place })
    }

    /// Behind the end of a chunk the next one begins.
    fn on_a_key(&self, place: Place) -> Place {
        match self.chunks.get(place.chunk) {
            Some(keys) if place.at >= keys.len() => Place { chunk: place.chunk + 1, at: 0 },
            Some(_) | None => place,
        }
    }

    /// Gives back the room of a busier day.
    pub(crate) fn shrink(&mut self) {
        if self.chunks.len() < self.chunks.capacity() / 4 {
            self.chunks.shrink_to(self.chunks.len() * 2);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Key> {
        self.chunks.iter().flatten()
    }

    /// For how many keys there is room in chunks that are there.
    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        self.chunks.iter().map(VecDeque::capacity).sum()
    }
}

impl IntoIterator for KeyList {
    type Item = Key;
    type IntoIter = std::iter::Flatten<vec_deque::IntoIter<VecDeque<Key>>>;

    fn into_iter(self) -> Self::IntoIter {
        self.chunks.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::time::Timestamp;

    fn key(sequence: u64, fingerprint: u64) -> Key {
        Key { sequence: Sequence(sequence), fingerprint, at: Timestamp(0), answer: None }
    }

    /// What must hold of every list, and what is in it.
    fn checked(list: &KeyList) -> Vec<(u64, u64)> {
        assert!(list.chunks.iter().all(|keys| (1..=CHUNK).contains(&keys.len())), "an empty or an overfull chunk");
        let all: Vec<_> = list.iter().map(|key| (key.sequence.0, key.fingerprint)).collect();
        assert_eq!(all.len(), list.len());
        all
    }

    proptest! {
        /// Beside a map of the standard library: numbers that rise, as a till's do, with some in between, and some taken out.
        #[test]
        fn it_is_what_a_map_would_be(steps in prop::collection::vec((0u8..10, 0u64..1_000), 1..1_500)) {
            let (mut list, mut map, mut next) = (KeyList::default(), BTreeMap::new(), 1_000);
            for (n, (what, number)) in steps.into_iter().enumerate() {
                let sequence = if what < 5 { next += 1 + number / 900; next } else { next.saturating_sub(number) };
                let found = list.find(Sequence(sequence));
                prop_assert_eq!(found.is_ok(), map.contains_key(&sequence));
                match found {
                    Ok(place) if what >= 8 => {
                        let behind = list.remove(place);
                        map.remove(&sequence);
                        let expected = map.range(sequence..).next().map(|(sequence, _)| *sequence);
                        prop_assert_eq!(list.get(behind).map(|key| key.sequence.0), expected);
                    }
                    Ok(place) => {
                        list.get_mut(place).unwrap().fingerprint = n as u64;
                        map.insert(sequence, n as u64);
                        let expected = map.range(sequence + 1..).next().map(|(sequence, _)| *sequence);
                        prop_assert_eq!(list.get(list.after(place)).map(|key| key.sequence.0), expected);
                    }
                    Err(place) => {
                        list.insert(place, key(sequence, n as u64));
                        map.insert(sequence, n as u64);
                    }
                }
            }
            prop_assert_eq!(checked(&list), map.clone().into_iter().collect::<Vec<_>>());
            let all: Vec<_> = list.into_iter().map(|key| (key.sequence.0, key.fingerprint)).collect();
            prop_assert_eq!(all, map.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn numbers_that_rise_fill_their_chunks_and_move_nothing() {
        let mut list = KeyList::default();
        for sequence in 0..100_000 {
            let place = list.find(Sequence(sequence)).unwrap_err();
            list.insert(place, key(sequence, 0));
            assert!(list.room() <= list.len() + CHUNK, "{} for {}", list.room(), list.len());
        }
        assert_eq!(list.chunks.len(), 100_000usize.div_ceil(CHUNK));
        let front = std::ptr::from_ref(list.get(list.first()).unwrap());
        list.insert(list.find(Sequence(100_000)).unwrap_err(), key(100_000, 0));
        assert!(std::ptr::eq(front, list.get(list.first()).unwrap()));
        assert_eq!(checked(&list).len(), 100_001);
    }

    #[test]
    fn what_a_busier_day_needed_is_given_back() {
        let mut list = KeyList::default();
        for sequence in 0..100_000 {
            list.insert(list.find(Sequence(sequence)).unwrap_err(), key(sequence, 0));
        }
        while list.len() > 100 {
            list.remove(list.first());
        }
        list.shrink();
        assert!(list.chunks.capacity() < 16, "{}", list.chunks.capacity());
        assert_eq!(checked(&list).first(), Some(&(99_900, 0)));
    }
}
