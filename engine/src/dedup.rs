//! One key, one answer. A caller's window remembers every key of the last day with what was asked and what was
//! answered; it is pure bookkeeping, filled by live traffic and by replay alike. It knows no clock and sends nothing.

use std::collections::{HashMap, VecDeque};

use crate::id::Sequence;
use crate::outcome::Outcome;
use crate::rejection::Rejection;
use crate::time::Timestamp;

/// The keys of one caller. `W` is whoever waits for an answer that is on its way.
#[derive(Debug)]
pub struct Window<W> {
    slots: HashMap<Sequence, Slot<W>>,
    /// The answered keys in the order of their answers, for forgetting.
    answered: VecDeque<(Timestamp, Sequence)>,
    /// The highest key that was forgotten.
    forgotten: Option<Sequence>,
}

#[derive(Debug)]
struct Slot<W> {
    fingerprint: u64,
    state: State<W>,
}

#[derive(Debug)]
enum State<W> {
    InFlight(Vec<W>),
    Answered(Outcome),
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
        Window { slots: HashMap::new(), answered: VecDeque::new(), forgotten: None }
    }
}

impl<W> Window<W> {
    /// Looks a key up and, if it is new, marks it as in flight. Callers hand out their numbers in an order that rises
    /// with time, so a number below one that was forgotten a day later is refused rather than carried out, perhaps for
    /// the second time.
    pub fn begin(&mut self, sequence: Sequence, fingerprint: u64, waiter: W) -> Seen<W> {
        match self.slots.get_mut(&sequence) {
            Some(slot) if slot.fingerprint != fingerprint => match slot.state {
                State::InFlight(_) => Seen::Undecided(waiter),
                State::Answered(_) => Seen::Refused(waiter, Rejection::KeyReused),
            },
            Some(Slot { state: State::InFlight(waiting), .. }) => {
                waiting.push(waiter);
                Seen::Waiting
            }
            Some(Slot { state: State::Answered(outcome), .. }) => Seen::Before(waiter, *outcome),
            None if self.forgotten.is_some_and(|old| sequence <= old) => Seen::Refused(waiter, Rejection::KeyExpired),
            None => {
                self.slots.insert(sequence, Slot { fingerprint, state: State::InFlight(Vec::new()) });
                Seen::New(waiter)
            }
        }
    }

    /// Records the answer to a key, in flight or replayed, and returns who else waits for it. Forgets what is
    /// older than `memory_ms` by the way.
    pub fn settle(
        &mut self,
        sequence: Sequence,
        fingerprint: u64,
        at: Timestamp,
        outcome: Outcome,
        memory_ms: u64,
    ) -> Vec<W> {
        while let Some((when, old)) = self.answered.front().copied() {
            if at.millis_since(when) <= memory_ms {
                break;
            }
            self.answered.pop_front();
            self.slots.remove(&old);
            self.forgotten = self.forgotten.max(Some(old));
        }
        self.answered.push_back((at, sequence));
        let slot = Slot { fingerprint, state: State::Answered(outcome) };
        match self.slots.insert(sequence, slot) {
            Some(Slot { state: State::InFlight(waiting), .. }) => waiting,
            Some(Slot { state: State::Answered(_), .. }) | None => Vec::new(),
        }
    }

    /// Gives a key back that was in flight and came to nothing; returns who else waits for it.
    pub fn abandon(&mut self, sequence: Sequence) -> Vec<W> {
        match self.slots.get(&sequence) {
            Some(Slot { state: State::InFlight(_), .. }) => {}
            Some(Slot { state: State::Answered(_), .. }) | None => return Vec::new(),
        }
        match self.slots.remove(&sequence) {
            Some(Slot { state: State::InFlight(waiting), .. }) => waiting,
            Some(Slot { state: State::Answered(_), .. }) | None => Vec::new(),
        }
    }

    /// Takes out whoever else waits for a key that is in flight and will never be answered. It stays in flight.
    pub fn take_waiters(&mut self, sequence: Sequence) -> Vec<W> {
        match self.slots.get_mut(&sequence) {
            Some(Slot { state: State::InFlight(waiting), .. }) => std::mem::take(waiting),
            Some(Slot { state: State::Answered(_), .. }) | None => Vec::new(),
        }
    }

    /// How many keys are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Is none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amount::Amount;
    use crate::id::Lsn;
    use crate::outcome::Receipt;

    const DAY_MS: u64 = 86_400_000;

    fn approved(lsn: u64) -> Outcome {
        Outcome::Approved(Receipt { lsn: Lsn(lsn), balance: Amount::ZERO })
    }

    #[test]
    fn a_key_has_one_answer_for_a_day() {
        let mut window = Window::default();
        let key = Sequence(1);
        assert_eq!(window.begin(key, 7, 'a'), Seen::New('a'));
        assert_eq!(window.begin(key, 7, 'b'), Seen::Waiting);
        assert_eq!(window.begin(key, 8, 'c'), Seen::Undecided('c'));
        assert_eq!(window.settle(key, 7, Timestamp(0), approved(5), DAY_MS), vec!['b']);
        assert_eq!(window.begin(key, 7, 'd'), Seen::Before('d', approved(5)));
        assert_eq!(window.begin(key, 8, 'e'), Seen::Refused('e', Rejection::KeyReused));
        // A day later it is forgotten, and refused: never carried out twice.
        window.settle(Sequence(9), 7, Timestamp(DAY_MS + 1), approved(6), DAY_MS);
        assert_eq!(window.len(), 1);
        assert_eq!(window.begin(key, 7, 'f'), Seen::Refused('f', Rejection::KeyExpired));
    }

    #[test]
    fn what_is_abandoned_can_be_asked_again() {
        let mut window = Window::default();
        let key = Sequence(1);
        window.begin(key, 7, 'a');
        window.begin(key, 7, 'b');
        assert_eq!(window.abandon(key), vec!['b']);
        assert_eq!(window.begin(key, 7, 'c'), Seen::New('c'));
        window.settle(key, 7, Timestamp(0), approved(1), DAY_MS);
        assert!(window.abandon(key).is_empty());
        assert_eq!(window.begin(key, 7, 'd'), Seen::Before('d', approved(1)), "an answer is not taken back");
    }
}
