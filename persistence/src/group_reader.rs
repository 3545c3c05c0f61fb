//! Reads groups from their parts, wherever those come from: checks that nothing is missing and that the chain holds, and gives
//! the records out one by one. A group that is not closed is not there.

use std::collections::VecDeque;

use frokost_engine::journal::JournalError;
use frokost_engine::{Lsn, Record};

use crate::format::{FormatError, GroupHash, decode_part, group_hash};

/// A part, and its first LSN where that is known beforehand.
pub(crate) type Part = Result<(Option<Lsn>, Vec<u8>), JournalError>;

/// What it means that a part which begins with `first` cannot be read, after so many of its records.
pub(crate) fn unreadable_part(first: Lsn, (read, error): (usize, FormatError)) -> JournalError {
    let lsn = Lsn(first.0.saturating_add(read as u64));
    match error {
        // Nothing is wrong with it that a copy could mend.
        FormatError::Version(_) => JournalError::Storage(format!("LSN {lsn}: {error}")),
        FormatError::Short | FormatError::Checksum | FormatError::Meaning(_) => {
            JournalError::Damaged { lsn, what: error.to_string() }
        }
    }
}

/// Reads whole groups.
pub(crate) struct GroupReader<I> {
    parts: I,
    from: Lsn,
    expected: Lsn,
    /// Groups that begin behind this are not looked at: they may be half written.
    until: Lsn,
    /// The hash of the group before; unknown before the first group when reading from the middle.
    chain: Option<GroupHash>,
    ready: VecDeque<Record>,
    ended: bool,
}

impl<I: Iterator<Item = Part>> GroupReader<I> {
    /// Gives out the records from `from` on. `parts` begin with a group that begins with `start`, which may be before
    /// `from`; `chain` is the hash of the group before that, where it is known.
    pub(crate) fn new(parts: I, start: Lsn, from: Lsn, chain: Option<GroupHash>) -> GroupReader<I> {
        let until = Lsn(u64::MAX);
        GroupReader { parts, from, expected: start, until, chain, ready: VecDeque::new(), ended: false }
    }

    /// Looks at nothing that begins behind `until`.
    pub(crate) fn until(self, until: Lsn) -> GroupReader<I> {
        GroupReader { until, ..self }
    }

    /// The next whole group, if there is one.
    fn read_group(&mut self) -> Result<bool, JournalError> {
        let mut group: Vec<Vec<u8>> = Vec::new();
        let mut group_first = self.expected;
        if group_first > self.until {
            return Ok(false);
        }
        for part in self.parts.by_ref() {
            let (first, bytes) = part?;
            let first = first.unwrap_or(self.expected);
            let damaged = |lsn: Lsn, what: &str| JournalError::Damaged { lsn, what: what.to_owned() };
            if first != self.expected {
                return Err(damaged(self.expected, &format!("it is missing; the next part begins with LSN {first}")));
            }
            let (header, records) = decode_part(&bytes).map_err(|error| unreadable_part(first, error))?;
            if group.is_empty() {
                group_first = first;
            }
            if header.group_first != group_first {
                return Err(damaged(first, "it begins a group while the one before is not closed"));
            }
            if self.chain.is_some_and(|chain| chain != header.previous) {
                return Err(damaged(first, "the group before it is not the one it was written after"));
            }
            for record in records {
                if record.lsn != self.expected {
                    return Err(damaged(self.expected, &format!("LSN {} stands in its place", record.lsn)));
                }
                self.expected = self.expected.next();
                if record.lsn >= self.from {
                    self.ready.push_back(record);
                }
            }
            group.push(bytes);
            if header.closes {
                self.chain = Some(group_hash(group.iter().map(Vec::as_slice)));
                return Ok(true);
            }
        }
        // Not closed: a group that is being written, or was when the machine stopped.
        if !group.is_empty() {
            self.ready.retain(|record| record.lsn < group_first);
        }
        Ok(false)
    }
}

impl<I: Iterator<Item = Part>> Iterator for GroupReader<I> {
    type Item = Result<Record, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.ready.pop_front() {
                return Some(Ok(record));
            }
            if self.ended {
                return None;
            }
            match self.read_group() {
                Ok(true) => {}
                Ok(false) => self.ended = true,
                Err(error) => {
                    self.ended = true;
                    self.ready.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}
