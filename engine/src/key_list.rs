//! The keys of one caller in the order of their numbers, in chunks. A list in one piece is copied as a whole each time it has grown to twice its
//! size: of a caller with three million keys that is 144 MB at once, and of thousands of tills that sell in turn it is all in the same moment.

use std::collections::VecDeque;
use std::collections::vec_deque;
use std::iter::{Chain, Flatten};

use crate::dedup::Key;
use crate::id::Sequence;

/// Keys in a chunk, at most: three kilobytes.
const CHUNK: usize = 64;

/// Keys by number. No chunk is empty, but for the last where there are no keys at all, and none has more than [`CHUNK`].
#[derive(Debug, Default)]
pub(crate) struct KeyList {
    older: VecDeque<VecDeque<Key>>,
    /// Where nearly all that is asked for stands, so not behind another pointer.
    last: VecDeque<Key>,
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
        self.chunk(place.chunk)?.get(place.at)
    }

    pub(crate) fn get_mut(&mut self, place: Place) -> Option<&mut Key> {
        self.chunk_mut(place.chunk)?.get_mut(place.at)
    }

    fn chunk(&self, chunk: usize) -> Option<&VecDeque<Key>> {
        if chunk == self.older.len() { Some(&self.last) } else { self.older.get(chunk) }
    }

    fn chunk_mut(&mut self, chunk: usize) -> Option<&mut VecDeque<Key>> {
        if chunk == self.older.len() { Some(&mut self.last) } else { self.older.get_mut(chunk) }
    }

    /// Where the key with this number stands, or else where it belongs.
    pub(crate) fn find(&self, sequence: Sequence) -> Result<Place, Place> {
        let keys = &self.last;
        let place = |at| Place { chunk: self.older.len(), at };
        // What is new belongs behind the last one, and what is answered mostly stands near it: the front of its chunk is not looked at for that.
        let Some(last) = keys.back() else { return Err(place(0)) };
        let Some(from_the_end) = last.sequence.0.checked_sub(sequence.0) else { return Err(place(keys.len())) };
        // Where all numbers were used, that far from the end it stands.
        let guess =
            usize::try_from(from_the_end).ok().and_then(|from_the_end| (keys.len() - 1).checked_sub(from_the_end));
        match guess {
            Some(at) if keys.get(at).is_some_and(|key| key.sequence == sequence) => Ok(place(at)),
            Some(_) | None => self.search(sequence),
        }
    }

    fn search(&self, sequence: Sequence) -> Result<Place, Place> {
        let behind = |chunk: &VecDeque<Key>| chunk.front().is_some_and(|first| first.sequence <= sequence);
        let chunk =
            if behind(&self.last) { self.older.len() } else { self.older.partition_point(behind).saturating_sub(1) };
        let place = |at| Place { chunk, at };
        let Some(keys) = self.chunk(chunk) else { return Err(place(0)) };
        keys.binary_search_by_key(&sequence, |key| key.sequence).map(place).map_err(place)
    }

    /// Puts a key where [`KeyList::find`] said that it belongs.
    pub(crate) fn insert(&mut self, place: Place, key: Key) {
        let is_last = place.chunk == self.older.len();
        let Some(keys) = self.chunk_mut(place.chunk) else { return };
        let behind = if keys.len() < CHUNK {
            keys.insert(place.at, key);
            None
        } else if is_last && place.at == keys.len() {
            // In order, and that one is full.
            let mut keys = VecDeque::with_capacity(CHUNK);
            keys.push_back(key);
            Some(keys)
        } else {
            let mut upper = keys.split_off(CHUNK / 2);
            match place.at.checked_sub(CHUNK / 2) {
                Some(at) => upper.insert(at, key),
                None => keys.insert(place.at, key),
            }
            Some(upper)
        };
        self.len += 1;
        match behind {
            Some(keys) if is_last => self.older.push_back(std::mem::replace(&mut self.last, keys)),
            Some(keys) => self.older.insert(place.chunk + 1, keys),
            None => {}
        }
    }

    /// Takes a key out; what stood behind it is found at the place that is returned.
    pub(crate) fn remove(&mut self, place: Place) -> Place {
        let Some(keys) = self.chunk_mut(place.chunk) else { return place };
        let (removed, is_empty) = (keys.remove(place.at).is_some(), keys.is_empty());
        if removed {
            self.len -= 1;
        }
        if is_empty && place.chunk == self.older.len() {
            self.last = self.older.pop_back().unwrap_or_default();
        } else if is_empty {
            self.older.remove(place.chunk);
        }
        self.on_a_key(place)
    }

    pub(crate) fn last(&self) -> Option<&Key> {
        self.last.back()
    }

    pub(crate) fn first(&self) -> Place {
        Place { chunk: 0, at: 0 }
    }

    pub(crate) fn after(&self, place: Place) -> Place {
        self.on_a_key(Place { at: place.at + 1, ..place })
    }

    /// Behind the end of a chunk the next one begins.
    fn on_a_key(&self, place: Place) -> Place {
        match self.chunk(place.chunk) {
            Some(keys) if place.at >= keys.len() => Place { chunk: place.chunk + 1, at: 0 },
            Some(_) | None => place,
        }
    }

    /// Gives back the room of a busier day.
    pub(crate) fn shrink(&mut self) {
        if self.older.len() < self.older.capacity() / 4 {
            self.older.shrink_to(self.older.len() * 2);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Key> {
        self.older.iter().flatten().chain(&self.last)
    }

    /// For how many keys there is room in chunks that are there.
    #[cfg(test)]
    pub(crate) fn room(&self) -> usize {
        self.older.iter().chain([&self.last]).map(VecDeque::capacity).sum()
    }
}

impl IntoIterator for KeyList {
    type Item = Key;
    type IntoIter = Chain<Flatten<vec_deque::IntoIter<VecDeque<Key>>>, vec_deque::IntoIter<Key>>;

    fn into_iter(self) -> Self::IntoIter {
        self.older.into_iter().flatten().chain(self.last)
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
        let sound = |keys: &VecDeque<Key>| (1..=CHUNK).contains(&keys.len());
        assert!(list.older.iter().all(sound), "an empty or an overfull chunk");
        assert!(sound(&list.last) || list.len() == 0, "the last chunk has {}", list.last.len());
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
        assert_eq!(list.older.len() + 1, 100_000usize.div_ceil(CHUNK));
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
        assert!(list.older.capacity() < 16, "{}", list.older.capacity());
        assert_eq!(checked(&list).first(), Some(&(99_900, 0)));
    }
}
