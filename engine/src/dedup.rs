//! One key, one answer. A caller's window remembers every key of the last day with what was asked and what was
//! answered; it is pure bookkeeping, filled by live traffic and by replay alike. It knows no clock and sends nothing.

use std::collections::VecDeque;

use crate::fast_map::FastMap;
use crate::id::Sequence;
use crate::outcome::{Outcome, Receipt};
use crate::rejection::Rejection;
use crate::time::Timestamp;

/// The keys of one caller. `W` is whoever waits for an answer that is on its way.
#[derive(Debug)]
pub struct Window<W> {
    in_flight: FastMap<Sequence, InFlight<W>>,
    /// By number. Callers number their requests in an order that rises with time, so the oldest are in front.
    answered: VecDeque<Answered>,
    /// The highest key that was forgotten.
    forgotten: Option<Sequence>,
}

#[derive(Debug)]
struct InFlight<W> {
    fingerprint: u64,
    waiting: Vec<W>,
}

/// A key that was answered: 56 bytes, of which there is one for every request of the last day.
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
        Window { in_flight: FastMap::default(), answered: VecDeque::new(), forgotten: None }
    }
}

impl<W> Window<W> {
    /// Looks a key up and, if it is new, marks it as in flight. Callers hand out their numbers in an order that rises
    /// with time, so a number below one that was forgotten a day later is refused rather than carried out, perhaps for
    /// the second time.
    pub fn begin(&mut self, sequence: Sequence, fingerprint: u64, waiter: W) -> Seen<W> {
        if let Some(slot) = self.in_flight.get_mut(&sequence) {
            if slot.fingerprint != fingerprint {
                return Seen::Undecided(waiter);
            }
            slot.waiting.push(waiter);
            return Seen::Waiting;
        }
        if let Some(known) = self.find(sequence).ok().and_then(|at| self.answered.get(at)) {
            if known.fingerprint != fingerprint {
                return Seen::Refused(waiter, Rejection::KeyReused);
            }
            return Seen::Before(waiter, known.answer.into());
        }
        if self.forgotten.is_some_and(|old| sequence <= old) {
            return Seen::Refused(waiter, Rejection::KeyExpired);
        }
        self.in_flight.insert(sequence, InFlight { fingerprint, waiting: Vec::new() });
        Seen::New(waiter)
    }

    /// Records the answer to a key, in flight or replayed, and returns who else waits for it. Forgets what is
    /// older than `memory_ms` by the way.
    pub fn settle(&mut self, answered: Answered, memory_ms: u64) -> Vec<W> {
        self.forget(answered.at, memory_ms);
        self.restore(answered);
        self.in_flight.remove(&answered.sequence).map(|slot| slot.waiting).unwrap_or_default()
    }

    /// Forgets what is older than `memory_ms`.
    fn forget(&mut self, now: Timestamp, memory_ms: u64) {
        while let Some(old) = self.answered.front() {
            if now.millis_since(old.at) <= memory_ms {
                break;
            }
            self.forgotten = self.forgotten.max(Some(old.sequence));
            self.answered.pop_front();
        }
    }

    /// Forgets what is older than `memory_ms` although nothing new has come, and gives back the room of a busier day.
    pub fn tidy(&mut self, now: Timestamp, memory_ms: u64) {
        self.forget(now, memory_ms);
        if self.answered.len() < self.answered.capacity() / 4 {
            self.answered.shrink_to(self.answered.len() * 2);
        }
    }

    /// Puts an answer back that a snapshot kept. Nothing is forgotten by the way: what the snapshot has was not forgotten, whatever
    /// the clock said meanwhile.
    pub fn restore(&mut self, answered: Answered) {
        match self.find(answered.sequence) {
            Ok(at) => {
                if let Some(known) = self.answered.get_mut(at) {
                    *known = answered;
                }
            }
            Err(at) => self.answered.insert(at, answered),
        }
    }

    /// Gives a key back that was in flight and came to nothing; returns who else waits for it.
    pub fn abandon(&mut self, sequence: Sequence) -> Vec<W> {
        self.in_flight.remove(&sequence).map(|slot| slot.waiting).unwrap_or_default()
    }

    /// Takes out whoever else waits for a key that is in flight and will never be answered. It stays in flight.
    pub fn take_waiters(&mut self, sequence: Sequence) -> Vec<W> {
        self.in_flight.get_mut(&sequence).map(|slot| std::mem::take(&mut slot.waiting)).unwrap_or_default()
    }

    /// Every answer that is remembered, by number.
    pub fn answered(&self) -> impl Iterator<Item = &Answered> {
        self.answered.iter()
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
        self.in_flight.len() + self.answered.len()
    }

    /// Is none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn find(&self, sequence: Sequence) -> Result<usize, usize> {
        // Nearly always it belongs at the end.
        if self.answered.back().is_none_or(|last| last.sequence < sequence) {
            return Err(self.answered.len());
        }
        self.answered.binary_search_by_key(&sequence, |known| known.sequence)
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

    fn answered(sequence: u64, at: u64, lsn: u64) -> Answered {
        let answer = Answer::of(approved(lsn)).unwrap();
        Answered { sequence: Sequence(sequence), fingerprint: 7, at: Timestamp(at), answer }
    }

    #[test]
    fn answers_that_come_out_of_order_are_all_found() {
        let mut window: Window<char> = Window::default();
        for sequence in [5, 1, 3, 2, 4, 3] {
            window.settle(answered(sequence, 0, sequence), DAY_MS);
        }
        assert_eq!(window.answered().map(|known| known.sequence.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        for sequence in 1..=5 {
            assert_eq!(window.begin(Sequence(sequence), 7, 'a'), Seen::Before('a', approved(sequence)));
        }
    }

    #[test]
    fn a_key_has_one_answer_for_a_day() {
        let mut window = Window::default();
        let key = Sequence(1);
        assert_eq!(window.begin(key, 7, 'a'), Seen::New('a'));
        assert_eq!(window.begin(key, 7, 'b'), Seen::Waiting);
        assert_eq!(window.begin(key, 8, 'c'), Seen::Undecided('c'));
        assert_eq!(window.settle(answered(1, 0, 5), DAY_MS), vec!['b']);
        assert_eq!(window.begin(key, 7, 'd'), Seen::Before('d', approved(5)));
        assert_eq!(window.begin(key, 8, 'e'), Seen::Refused('e', Rejection::KeyReused));
        // A day later it is forgotten, and refused: never carried out twice.
        window.settle(answered(9, DAY_MS + 1, 6), DAY_MS);
        assert_eq!(window.len(), 1);
        assert_eq!(window.begin(key, 7, 'f'), Seen::Refused('f', Rejection::KeyExpired));
    }

    #[test]
    fn a_caller_that_asks_no_more_is_forgotten_too_and_gives_back_its_room() {
        let mut window: Window<char> = Window::default();
        for sequence in 1..=10_000 {
            window.settle(answered(sequence, sequence, sequence), DAY_MS);
        }
        let room = window.answered.capacity();
        window.tidy(Timestamp(DAY_MS), DAY_MS);
        assert_eq!((window.len(), window.answered.capacity()), (10_000, room), "nothing is old enough");
        window.tidy(Timestamp(DAY_MS + 9_990), DAY_MS);
        assert_eq!(window.len(), 11);
        assert!(window.answered.capacity() < 100, "{}", window.answered.capacity());
        assert_eq!(window.begin(Sequence(9_989), 7, 'a'), Seen::Refused('a', Rejection::KeyExpired));
        assert_eq!(window.begin(Sequence(9_990), 7, 'a'), Seen::Before('a', approved(9_990)));
    }

    #[test]
    fn what_a_snapshot_kept_is_put_back_whatever_the_clock_said() {
        // The clock was a day and a half ahead when 5 was answered, and right again for 3.
        let mut window: Window<char> = Window::default();
        window.settle(answered(5, DAY_MS * 3 / 2, 1), DAY_MS);
        window.settle(answered(3, 0, 2), DAY_MS);
        let mut again: Window<char> = Window::default();
        window.answered().for_each(|known| again.restore(*known));
        assert!(again.answered().eq(window.answered()));
        assert_eq!(again.begin(Sequence(3), 7, 'a'), Seen::Before('a', approved(2)));
    }

    #[test]
    fn what_is_abandoned_can_be_asked_again() {
        let mut window = Window::default();
        let key = Sequence(1);
        window.begin(key, 7, 'a');
        window.begin(key, 7, 'b');
        assert_eq!(window.abandon(key), vec!['b']);
        assert_eq!(window.begin(key, 7, 'c'), Seen::New('c'));
        window.settle(answered(1, 0, 1), DAY_MS);
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
                window.lock().unwrap().settle(settled, 1_000).into_iter().map(|name| (name, outcome)).collect();
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
