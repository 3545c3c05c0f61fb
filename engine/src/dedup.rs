//! One key, one answer. A caller's window remembers every key of the last day with what was asked and what was
//! answered; it is pure bookkeeping, filled by live traffic and by replay alike. It knows no clock and sends nothing,
//! and forgets nothing unless it is told to (`forgetting.rs`).

use crate::fast_map::FastMap;
use crate::forgetting::Old;
use crate::id::Sequence;
use crate::key_list::KeyList;
use crate::outcome::{Outcome, Receipt};
use crate::rejection::Rejection;
use crate::time::Timestamp;

/// The keys of one caller. `W` is whoever waits for an answer that is on its way.
#[derive(Debug)]
pub struct Window<W> {
    /// By number. Callers number their requests in an order that rises with time, so the oldest are in front and what is new belongs
    /// at the end; an answer is written into the place its key has had since it was asked.
    keys: KeyList,
    /// Who else waits for a key that is in flight. Mostly nobody.
    waiting: FastMap<Sequence, Vec<W>>,
    /// The highest key that was forgotten.
    forgotten: Option<Sequence>,
    /// Where forgetting goes on, if it was told to stop before it was through.
    goes_on: Option<Sequence>,
}

/// A key that is known: 48 bytes, of which there is one for every request of the last day.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) sequence: Sequence,
    pub(crate) fingerprint: u64,
    /// When it was answered.
    pub(crate) at: Timestamp,
    /// Nothing while it is in flight.
    pub(crate) answer: Option<Answer>,
}

impl Key {
    fn answered(&self) -> Option<Answered> {
        let Key { sequence, fingerprint, at, answer } = *self;
        Some(Answered { sequence, fingerprint, at, answer: answer? })
    }
}

impl From<Answered> for Key {
    fn from(answered: Answered) -> Key {
        let Answered { sequence, fingerprint, at, answer } = answered;
        Key { sequence, fingerprint, at, answer: Some(answer) }
    }
}

/// A key that was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// The caller's number.
    pub sequence: Sequence,
    /// What was asked.
    pub fingerprint: u64,
    /// When it was answered.
    pub at: Timestamp,
    /// With what.
    pub answer: Answer,
}

/// The answers that are remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It was done.
    Approved(Receipt),
    /// It was refused.
    Rejected(Rejection),
}

impl Answer {
    /// Nothing for an outcome that is no answer to a command.
    #[must_use]
    pub fn of(outcome: Outcome) -> Option<Answer> {
        match outcome {
            Outcome::Approved(receipt) => Some(Answer::Approved(receipt)),
            Outcome::Rejected(why) => Some(Answer::Rejected(why)),
            Outcome::View(_) | Outcome::Busy | Outcome::OutOfSpace | Outcome::Unavailable => None,
        }
    }
}

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Outcome {
        match answer {
            Answer::Approved(receipt) => Outcome::Approved(receipt),
            Answer::Rejected(why) => Outcome::Rejected(why),
        }
    }
}

/// What a window says to a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen<W> {
    /// Never seen: it is in flight from now on, and somebody must settle or abandon it.
    New(W),
    /// It is in flight already; the asker will be told with the first.
    Waiting,
    /// It was answered before, with this.
    Before(W, Outcome),
    /// The key belongs to another request, or to a time that is forgotten.
    Refused(W, Rejection),
    /// The key belongs to another request whose fate is not durable yet: no refusal may rest on it.
    Undecided(W),
}

impl<W> Default for Window<W> {
    fn default() -> Window<W> {
        Window { keys: KeyList::default(), waiting: FastMap::default(), forgotten: None, goes_on: None }
    }
}

impl<W> Window<W> {
    /// Looks a key up and, if it is new, marks it as in flight. Callers hand out their numbers in an order that rises
    /// with time, so a number below one that was forgotten a day later is refused rather than carried out, perhaps for
    /// the second time.
    pub fn begin(&mut self, sequence: Sequence, fingerprint: u64, waiter: W) -> Seen<W> {
        let place = match self.keys.find(sequence) {
            Err(place) => place,
            Ok(at) => {
                let Some(known) = self.keys.get(at) else { return Seen::Undecided(waiter) };
                return match known.answer {
                    None if known.fingerprint != fingerprint => Seen::Undecided(waiter),
                    None => {
                        self.waiting.entry(sequence).or_default().push(waiter);
                        Seen::Waiting
                    }
                    Some(_) if known.fingerprint != fingerprint => Seen::Refused(waiter, Rejection::KeyReused),
                    Some(answer) => Seen::Before(waiter, answer.into()),
                };
            }
        };
        if self.forgotten.is_some_and(|old| sequence <= old) {
            return Seen::Refused(waiter, Rejection::KeyExpired);
        }
        self.keys.insert(place, Key { sequence, fingerprint, at: Timestamp(0), answer: None });
        Seen::New(waiter)
    }

    /// Records the answer to a key that was in flight, and returns who else waits for it.
    pub fn settle(&mut self, answered: Answered) -> Vec<W> {
        self.restore(answered);
        self.take_waiters(answered.sequence)
    }

    /// Forgets what is old, in the order of the numbers and up to the first that is not, and gives back the room of a busier day. Looks at `most`
    /// keys, and goes on there the next time. What is in flight or dated in the future keeps nothing behind it from being forgotten.
    pub fn forget(&mut self, old: Old, most: usize) {
        if old == Old::default() {
            return;
        }
        let mut front = match self.goes_on.take() {
            Some(sequence) => self.keys.find(sequence).unwrap_or_else(|place| place),
            None => self.keys.first(),
        };
        let mut looked_at = 0;
        while let Some(key) = self.keys.get(front) {
            if looked_at == most {
                self.goes_on = Some(key.sequence);
                break;
            }
            looked_at += 1;
            if key.answer.is_none() || key.at > old.now {
                front = self.keys.after(front);
            } else if key.at < old.before {
                self.forgotten = self.forgotten.max(Some(key.sequence));
                front = self.keys.remove(front);
            } else {
                break;
            }
        }
        self.keys.shrink();
    }

    /// Puts an answer back that a journal or a snapshot kept.
    pub fn restore(&mut self, answered: Answered) {
        match self.keys.find(answered.sequence) {
            Ok(at) => {
                if let Some(known) = self.keys.get_mut(at) {
                    *known = answered.into();
                }
            }
            Err(at) => self.keys.insert(at, answered.into()),
        }
    }

    /// Gives a key back that was in flight and came to nothing; returns who else waits for it.
    pub fn abandon(&mut self, sequence: Sequence) -> Vec<W> {
        if let Ok(at) = self.keys.find(sequence)
            && self.keys.get(at).is_some_and(|key| key.answer.is_none())
        {
            self.keys.remove(at);
        }
        self.take_waiters(sequence)
    }

    /// Takes out whoever else waits for a key. Without an answer it stays in flight.
    pub fn take_waiters(&mut self, sequence: Sequence) -> Vec<W> {
        if self.waiting.is_empty() { Vec::new() } else { self.waiting.remove(&sequence).unwrap_or_default() }
    }

    /// The answer to a key, if it is remembered.
    #[must_use]
    pub fn answer(&self, sequence: Sequence) -> Option<Answered> {
        self.keys.get(self.keys.find(sequence).ok()?)?.answered()
    }

    /// The highest number that is remembered.
    #[must_use]
    pub fn highest(&self) -> Option<Sequence> {
        self.keys.last().map(|key| key.sequence)
    }

    /// Every answer that is remembered, by number.
    pub fn answered(&self) -> impl Iterator<Item = Answered> {
        self.keys.iter().filter_map(Key::answered)
    }

    /// The same, and nothing is left of the window. Of a caller with millions of keys none is copied.
    pub fn into_answered(self) -> impl Iterator<Item = Answered> + use<W> {
        self.keys.into_iter().filter_map(|key| key.answered())
    }

    /// The highest number that was forgotten: that and everything below is refused.
    #[must_use]
    pub fn forgotten(&self) -> Option<Sequence> {
        self.forgotten
    }

    /// Everything up to `sequence` was forgotten before this window was made again from a snapshot.
    pub fn forget_up_to(&mut self, sequence: Sequence) {
        self.forgotten = self.forgotten.max(Some(sequence));
    }

    /// How many keys are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Is none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amount::Amount;
    use crate::id::Lsn;

    const DAY_MS: u64 = 86_400_000;

    fn approved(lsn: u64) -> Outcome {
        Outcome::Approved(Receipt { lsn: Lsn(lsn), balance: Amount::ZERO })
    }

    /// What is old when it is `now`.
    fn old_at(now: u64) -> Old {
        Old { before: Timestamp(now - DAY_MS), now: Timestamp(now) }
    }

    fn answered(sequence: u64, at: u64, lsn: u64) -> Answered {
        let answer = Answer::of(approved(lsn)).unwrap();
        Answered { sequence: Sequence(sequence), fingerprint: 7, at: Timestamp(at), answer }
    }

    #[test]
    fn answers_that_come_out_of_order_are_all_found() {
        let mut window: Window<char> = Window::default();
        for sequence in [5, 1, 3, 2, 4, 3] {
            window.settle(answered(sequence, 0, sequence));
        }
        assert_eq!(window.answered().map(|known| known.sequence.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        for sequence in 1..=5 {
            assert_eq!(window.begin(Sequence(sequence), 7, 'a'), Seen::Before('a', approved(sequence)));
        }
    }

    #[test]
    fn an_answer_stands_where_its_key_was_asked() {
        let mut window = Window::default();
        // Numbers with gaps, not asked in their order; one of them comes to nothing.
        for sequence in [10, 20, 15, 21, 40] {
            assert_eq!(window.begin(Sequence(sequence), 7, 'a'), Seen::New('a'));
        }
        assert!(window.abandon(Sequence(15)).is_empty());
        assert_eq!((window.len(), window.answered().count()), (4, 0));
        for sequence in [40, 10, 21] {
            window.settle(answered(sequence, 0, sequence));
        }
        assert_eq!(window.answered().map(|known| known.sequence.0).collect::<Vec<_>>(), [10, 21, 40]);
        for sequence in [10, 21, 40] {
            assert_eq!(window.begin(Sequence(sequence), 7, 'b'), Seen::Before('b', approved(sequence)));
        }
        assert_eq!(window.begin(Sequence(20), 7, 'b'), Seen::Waiting);
        assert_eq!(window.begin(Sequence(15), 7, 'b'), Seen::New('b'));
        assert_eq!(window.len(), 5);
    }

    #[test]
    fn what_is_in_flight_is_not_forgotten_and_keeps_nothing_from_being() {
        let mut window = Window::default();
        assert_eq!(window.begin(Sequence(1), 7, 'a'), Seen::New('a'));
        window.settle(answered(2, 0, 2));
        window.settle(answered(3, DAY_MS + 1, 3));
        window.forget(old_at(DAY_MS + 1), 10);
        assert_eq!(window.answered().map(|known| known.sequence.0).collect::<Vec<_>>(), [3]);
        assert_eq!(window.forgotten(), Some(Sequence(2)));
        assert_eq!(window.begin(Sequence(1), 7, 'b'), Seen::Waiting);
        assert_eq!(window.settle(answered(1, DAY_MS + 2, 4)), vec!['b']);
        assert_eq!(window.begin(Sequence(1), 7, 'c'), Seen::Before('c', approved(4)));
    }

    #[test]
    fn a_key_takes_48_bytes() {
        assert_eq!(size_of::<Key>(), 48);
    }

    #[test]
    fn a_key_has_one_answer_for_a_day() {
        let mut window = Window::default();
        let key = Sequence(1);
        assert_eq!(window.begin(key, 7, 'a'), Seen::New('a'));
        assert_eq!(window.begin(key, 7, 'b'), Seen::Waiting);
        assert_eq!(window.begin(key, 8, 'c'), Seen::Undecided('c'));
        assert_eq!(window.settle(answered(1, 0, 5)), vec!['b']);
        assert_eq!(window.begin(key, 7, 'd'), Seen::Before('d', approved(5)));
        assert_eq!(window.begin(key, 8, 'e'), Seen::Refused('e', Rejection::KeyReused));
        // A day later it is forgotten, and refused: never carried out twice.
        window.settle(answered(9, DAY_MS + 1, 6));
        assert_eq!(window.len(), 2, "nothing is forgotten by itself");
        window.forget(old_at(DAY_MS), 10);
        assert_eq!(window.len(), 2);
        window.forget(old_at(DAY_MS + 1), 10);
        assert_eq!(window.len(), 1);
        assert_eq!(window.begin(key, 7, 'f'), Seen::Refused('f', Rejection::KeyExpired));
    }

    #[test]
    fn a_caller_that_asks_no_more_is_forgotten_too_and_gives_back_its_room() {
        let mut window: Window<char> = Window::default();
        for sequence in 1..=10_000 {
            window.settle(answered(sequence, sequence, sequence));
        }
        let room = window.keys.room();
        window.forget(old_at(DAY_MS), usize::MAX);
        assert_eq!((window.len(), window.keys.room()), (10_000, room), "nothing is old enough");
        window.forget(old_at(DAY_MS + 9_990), 1_000);
        assert_eq!(window.len(), 9_000, "not more at once than it was told to");
        window.forget(old_at(DAY_MS + 9_990), usize::MAX);
        assert_eq!(window.len(), 11);
        assert!(window.keys.room() < 100, "{}", window.keys.room());
        assert_eq!(window.begin(Sequence(9_989), 7, 'a'), Seen::Refused('a', Rejection::KeyExpired));
        assert_eq!(window.begin(Sequence(9_990), 7, 'a'), Seen::Before('a', approved(9_990)));
    }

    #[test]
    fn what_is_dated_in_the_future_keeps_nothing_behind_it() {
        // The clock was thirty days ahead when 1 and 2 were answered, and right again from 3 on.
        let mut window: Window<char> = Window::default();
        for (sequence, at) in [(1, 30 * DAY_MS), (2, 30 * DAY_MS), (3, 10), (4, 20)] {
            window.settle(answered(sequence, at, sequence));
        }
        window.forget(old_at(DAY_MS + 15), 10);
        assert_eq!(window.answered().map(|known| known.sequence.0).collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!(window.begin(Sequence(1), 7, 'a'), Seen::Before('a', approved(1)));
        assert_eq!(window.begin(Sequence(3), 7, 'a'), Seen::Refused('a', Rejection::KeyExpired));
        window.forget(old_at(31 * DAY_MS + 1), 10);
        assert_eq!(window.len(), 0);
        // More of them than are looked at in one go.
        for (sequence, at) in (10..60).map(|sequence| (sequence, 99 * DAY_MS)).chain([(60, 40 * DAY_MS)]) {
            window.settle(answered(sequence, at, sequence));
        }
        for _ in 0..6 {
            window.forget(old_at(42 * DAY_MS), 10);
        }
        assert_eq!((window.len(), window.forgotten()), (50, Some(Sequence(60))));
    }

    #[test]
    fn what_is_abandoned_can_be_asked_again() {
        let mut window = Window::default();
        let key = Sequence(1);
        window.begin(key, 7, 'a');
        window.begin(key, 7, 'b');
        assert_eq!(window.abandon(key), vec!['b']);
        assert_eq!(window.begin(key, 7, 'c'), Seen::New('c'));
        window.settle(answered(1, 0, 1));
        assert!(window.abandon(key).is_empty());
        assert_eq!(window.begin(key, 7, 'd'), Seen::Before('d', approved(1)), "an answer is not taken back");
    }
}

#[cfg(all(test, frokost_loom))]
mod loom_tests {
    use std::sync::Arc;

    use loom::sync::Mutex;

    use super::*;
    use crate::amount::Amount;
    use crate::id::Lsn;

    /// The same key asked by two sessions while the committer settles the first, in every interleaving: it is carried out once, and each
    /// asker is told once, and the same.
    #[test]
    fn whoever_asks_while_it_is_settled_is_told_once() {
        loom::model(|| {
            let window: Arc<Mutex<Window<char>>> = Arc::default();
            let outcome = Outcome::Approved(Receipt { lsn: Lsn(1), balance: Amount::ZERO });
            let key = Sequence(1);
            assert_eq!(window.lock().unwrap().begin(key, 7, 'a'), Seen::New('a'));
            let askers: Vec<_> = ['b', 'c']
                .map(|name| {
                    let window = Arc::clone(&window);
                    loom::thread::spawn(move || match window.lock().unwrap().begin(key, 7, name) {
                        Seen::Waiting => None,
                        Seen::Before(name, told) => Some((name, told)),
                        other => panic!("{other:?}"),
                    })
                })
                .into();
            let answer = Answer::of(outcome).unwrap();
            let settled = Answered { sequence: key, fingerprint: 7, at: Timestamp(0), answer };
            let mut told: Vec<_> =
                window.lock().unwrap().settle(settled).into_iter().map(|name| (name, outcome)).collect();
            told.extend(askers.into_iter().filter_map(|asker| asker.join().unwrap()));
            told.sort_unstable_by_key(|(name, _)| *name);
            assert_eq!(told, [('b', outcome), ('c', outcome)]);
        });
    }

    /// The same where it comes to nothing: whoever comes after may ask it anew, once.
    #[test]
    fn what_is_given_back_is_carried_out_by_one() {
        loom::model(|| {
            let window: Arc<Mutex<Window<char>>> = Arc::default();
            let key = Sequence(1);
            assert_eq!(window.lock().unwrap().begin(key, 7, 'a'), Seen::New('a'));
            let askers: Vec<_> = ['b', 'c']
                .map(|name| {
                    let window = Arc::clone(&window);
                    loom::thread::spawn(move || matches!(window.lock().unwrap().begin(key, 7, name), Seen::New(_)))
                })
                .into();
            let told = window.lock().unwrap().abandon(key).len();
            let anew = askers.into_iter().map(|asker| u32::from(asker.join().unwrap())).sum::<u32>();
            assert!(anew <= 1, "one key is carried out twice");
            assert!(told < 2 || anew == 0, "told to ask again, and carried out");
        });
    }
}
