//! A till's outbox: every sale is written here and made durable before it is sent, and ticked off when it is answered. Power
//! may fail at the till, too; when it comes back, what was not answered is sent again under the same number, and counts once.
//!
//! ```text
//! one line each, appended; a torn last line is cut off
//!   caller <number>                         whose it is
//!   next <sequence>                         numbers below were given out
//!   sale <sequence> <card> <ore>            about to be sent
//!   done <sequence>                         answered, whatever the answer
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use frokost_engine::{Amount, Asked, CallerId, CardNumber, Command, Details, Sequence, Text};

use crate::enrol::sync_parent;

/// Lines after which the file is written anew when it is opened.
const COMPACT_AFTER: usize = 1000;

/// A till's outbox, in one file.
#[derive(Debug)]
pub struct Outbox {
    path: PathBuf,
    file: File,
    /// Nobody, in one of before callers were noted.
    caller: Option<CallerId>,
    next: u64,
    open: BTreeMap<u64, Asked>,
}

/// Why an outbox cannot be used. Without one, a till must not sell.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The file cannot be read or written.
    #[error("the till's outbox {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not an outbox.
    #[error("the till's outbox {path}, line {line}: '{text}' is not an entry; do not delete it, ask for help")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Where.
        line: usize,
        /// What stands there.
        text: String,
    },
    /// It holds sales without an answer of another till than the one that opens it. Sent under this one's number they would be other sales.
    #[error("the till's outbox {path} has {} sales without an answer of till {caller}", sales.len())]
    OfAnother {
        /// Which.
        path: PathBuf,
        /// Whose they are.
        caller: CallerId,
        /// What was to be sold.
        sales: Vec<Asked>,
    },
    /// Another program sells with it.
    #[error("the till's outbox {0} is in use; another till program is running with the same bundle")]
    InUse(PathBuf),
}

impl Outbox {
    /// Opens the outbox of `caller` at `path`, or begins one whose first number is `first`. That must be above every number this till can
    /// have used before, also if its old outbox is lost, as [`numbers::first`](crate::numbers::first) is while clocks are right.
    ///
    /// # Errors
    /// [`OutboxError`]. One that is another caller's and has everything answered is begun anew; with sales that are not, it is left as it
    /// is, and [`set_aside`](Outbox::set_aside) makes room.
    pub fn open(path: &Path, caller: CallerId, first: Sequence) -> Result<Outbox, OutboxError> {
        let failed = |source| OutboxError::File { path: path.to_owned(), source };
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(failed)?;
        file.try_lock().map_err(|_| OutboxError::InUse(path.to_owned()))?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed)?;
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        if whole < text.len() {
            // Torn while it was written, so it was never sent.
            file.set_len(whole as u64).map_err(failed)?;
            file.seek(SeekFrom::End(0)).map_err(failed)?;
        }
        let mut outbox = Outbox { path: path.to_owned(), file, caller: None, next: 1, open: BTreeMap::new() };
        let lines = text.get(..whole).unwrap_or_default().lines();
        let mut count = 0;
        for (number, line) in lines.enumerate() {
            outbox.take(line).ok_or_else(|| OutboxError::Damaged {
                path: path.to_owned(),
                line: number + 1,
                text: line.to_owned(),
            })?;
            count = number;
        }
        match outbox.caller {
            Some(other) if other != caller && !outbox.open.is_empty() => {
                let sales = outbox.open.into_values().collect();
                return Err(OutboxError::OfAnother { path: path.to_owned(), caller: other, sales });
            }
            Some(other) if other != caller => {
                outbox.caller = Some(caller);
                outbox.next = first.0;
                outbox.compact()?;
            }
            Some(_) => {}
            None if whole == 0 => {
                outbox.append(&format!("caller {caller}\nnext {first}\n"))?;
                outbox.next = first.0;
                sync_parent(path).map_err(failed)?;
            }
            None => outbox.append(&format!("caller {caller}\n"))?,
        }
        outbox.caller = Some(caller);
        if count > COMPACT_AFTER {
            outbox.compact()?;
        }
        Ok(outbox)
    }

    /// Renames the outbox at `path`, of another caller, to a name that says whose it is, and says which.
    ///
    /// # Errors
    /// [`OutboxError::File`].
    pub fn set_aside(path: &Path, caller: CallerId) -> Result<PathBuf, OutboxError> {
        let named = |n: u32| {
            let mut name = path.as_os_str().to_owned();
            name.push(if n == 1 { format!(".of-{caller}") } else { format!(".of-{caller}-{n}") });
            PathBuf::from(name)
        };
        let aside = (1..).map(named).find(|name| !name.exists()).unwrap_or_else(|| named(1));
        let failed = |source| OutboxError::File { path: path.to_owned(), source };
        fs::rename(path, &aside).map_err(failed)?;
        sync_parent(path).map_err(failed)?;
        Ok(aside)
    }

    /// The sales that were sent, or about to be, and never answered.
    #[must_use]
    pub fn unanswered(&self) -> Vec<(Sequence, Asked)> {
        self.open.iter().map(|(sequence, sale)| (Sequence(*sequence), *sale)).collect()
    }

    /// Writes a sale down under a new number. When this returns it may be sent.
    ///
    /// # Errors
    /// [`OutboxError`]; it must not be sent then.
    pub fn put(&mut self, card: CardNumber, amount: Amount, text: Text) -> Result<(Sequence, Asked), OutboxError> {
        let sequence = self.next;
        let sale = sale_of(card, amount, text);
        self.append(&line_of(sequence, &sale))?;
        self.next += 1;
        self.open.insert(sequence, sale);
        Ok((Sequence(sequence), sale))
    }

    /// Lets the next number be this one, if it is above those that were given out.
    ///
    /// # Errors
    /// [`OutboxError`].
    pub fn go_on_from(&mut self, first: Sequence) -> Result<(), OutboxError> {
        if first.0 > self.next {
            self.append(&format!("next {first}\n"))?;
            self.next = first.0;
        }
        Ok(())
    }

    /// Ticks a sale off.
    ///
    /// # Errors
    /// [`OutboxError`]; it will be sent again then, which does no harm.
    pub fn done(&mut self, sequence: Sequence) -> Result<(), OutboxError> {
        self.append(&format!("done {sequence}\n"))?;
        self.open.remove(&sequence.0);
        Ok(())
    }

    fn append(&mut self, line: &str) -> Result<(), OutboxError> {
        self.file
            .write_all(line.as_bytes())
            .and_then(|()| self.file.sync_data())
            .map_err(|source| OutboxError::File { path: self.path.clone(), source })
    }

    fn take(&mut self, line: &str) -> Option<()> {
        let mut words = line.splitn(5, ' ');
        let (word, sequence) = (words.next()?, words.next()?.parse::<u64>().ok()?);
        match word {
            "caller" => self.caller = Some(CallerId(u32::try_from(sequence).ok()?)),
            "next" => self.next = sequence,
            "sale" => {
                let card = words.next()?.parse().ok()?;
                let amount = Amount::from_ore(words.next()?.parse().ok()?);
                let text = words.next().map_or(Some(Text::EMPTY), |text| text.parse().ok())?;
                self.open.insert(sequence, sale_of(card, amount, text));
                self.next = self.next.max(sequence.checked_add(1)?);
            }
            "done" => drop(self.open.remove(&sequence)),
            _ => return None,
        }
        words.next().is_none().then_some(())
    }

    /// Writes the file anew with only what still counts, and puts it in the old one's place.
    fn compact(&mut self) -> Result<(), OutboxError> {
        let failed = |source| OutboxError::File { path: self.path.clone(), source };
        let caller = self.caller.map_or_else(String::new, |caller| format!("caller {caller}\n"));
        let mut text = format!("{caller}next {}\n", self.next);
        for (sequence, sale) in &self.open {
            text.push_str(&line_of(*sequence, sale));
        }
        let beside = self.path.with_extension("new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        file.try_lock().map_err(|_| OutboxError::InUse(self.path.clone()))?;
        fs::rename(&beside, &self.path).map_err(failed)?;
        sync_parent(&self.path).map_err(failed)?;
        self.file = file;
        Ok(())
    }
}

fn sale_of(card: CardNumber, amount: Amount, text: Text) -> Asked {
    Asked { command: Command::Purchase { card, amount }, details: Details { text, ..Details::default() } }
}

/// As it stands in the file; nothing but sales does.
fn line_of(sequence: u64, sale: &Asked) -> String {
    let Command::Purchase { card, amount } = sale.command else { return String::new() };
    let line = format!("sale {sequence} {card} {} {}", amount.ore(), sale.details.text);
    format!("{}\n", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TILL: CallerId = CallerId(8);

    fn card() -> CardNumber {
        "12345678901234".parse().unwrap()
    }

    #[test]
    fn what_was_not_answered_is_there_after_a_power_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("till.outbox");
        let mut outbox = Outbox::open(&path, TILL, Sequence(1)).unwrap();
        let (first, _) = outbox.put(card(), Amount::from_kroner(25), Text::EMPTY).unwrap();
        let lines: Text = "2 sandwich, 1 mælk".parse().unwrap();
        let (second, sale) = outbox.put(card(), Amount::from_kroner(30), lines).unwrap();
        assert_eq!(sale.details.text, lines);
        outbox.done(first).unwrap();
        assert!(matches!(Outbox::open(&path, TILL, Sequence(1)), Err(OutboxError::InUse(_))));
        drop(outbox);
        // The power fails in the middle of a line.
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"sale 3 1234567").unwrap();
        let mut outbox = Outbox::open(&path, TILL, Sequence(1)).unwrap();
        assert_eq!(outbox.unanswered(), vec![(second, sale)]);
        let (third, _) = outbox.put(card(), Amount::from_kroner(1), Text::EMPTY).unwrap();
        assert_eq!(third, Sequence(3), "a number is never given out twice");
    }

    #[test]
    fn a_long_outbox_is_written_anew_and_keeps_its_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("till.outbox");
        let lines: String = (1..=1500).map(|n| format!("sale {n} 12345678901234 100\ndone {n}\n")).collect();
        fs::write(&path, lines + "sale 1501 12345678901234 100 1 mælk\n").unwrap();
        drop(Outbox::open(&path, TILL, Sequence(1)).unwrap());
        assert!(fs::metadata(&path).unwrap().len() < 100);
        let mut outbox = Outbox::open(&path, TILL, Sequence(1)).unwrap();
        assert_eq!(outbox.unanswered().len(), 1);
        assert_eq!(outbox.unanswered()[0].1.details.text.as_str(), "1 mælk", "sent again it would be another request");
        assert_eq!(outbox.put(card(), Amount::from_kroner(1), Text::EMPTY).unwrap().0, Sequence(1502));
    }

    #[test]
    fn an_outbox_that_was_lost_does_not_begin_at_one_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("till.outbox");
        let mut outbox = Outbox::open(&path, TILL, Sequence(1000)).unwrap();
        assert_eq!(outbox.put(card(), Amount::from_kroner(1), Text::EMPTY).unwrap().0, Sequence(1000));
        drop(outbox);
        // An outbox that is there goes on where it was, whatever the clock says now.
        let mut outbox = Outbox::open(&path, TILL, Sequence(2000)).unwrap();
        assert_eq!(outbox.put(card(), Amount::from_kroner(1), Text::EMPTY).unwrap().0, Sequence(1001));
        drop(outbox);
        fs::remove_file(&path).unwrap();
        let mut outbox = Outbox::open(&path, TILL, Sequence(3000)).unwrap();
        assert_eq!(outbox.put(card(), Amount::from_kroner(1), Text::EMPTY).unwrap().0, Sequence(3000));
    }

    #[test]
    fn something_else_is_refused_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("till.outbox");
        fs::write(&path, "sale 1 12345678901234 100\nhello\n").unwrap();
        assert!(matches!(Outbox::open(&path, TILL, Sequence(1)), Err(OutboxError::Damaged { line: 2, .. })));
    }

    #[test]
    fn what_another_till_had_no_answer_to_is_not_sent_as_this_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("till.outbox");
        let other = CallerId(9);
        // Of before callers were noted: it is whoever's opens it first.
        fs::write(&path, "next 5\nsale 5 12345678901234 2500\n").unwrap();
        let mut outbox = Outbox::open(&path, TILL, Sequence(1)).unwrap();
        assert_eq!(outbox.unanswered().len(), 1);
        drop(outbox);
        for n in 1..3 {
            let refused = Outbox::open(&path, other, Sequence(100)).unwrap_err();
            assert!(matches!(&refused, OutboxError::OfAnother { caller: TILL, sales, .. } if sales.len() == 1));
            let aside = Outbox::set_aside(&path, TILL).unwrap();
            outbox = Outbox::open(&path, other, Sequence(100)).unwrap();
            assert_eq!(
                (outbox.unanswered().len(), outbox.put(card(), Amount::from_kroner(1), Text::EMPTY).unwrap().0.0),
                (0, 100)
            );
            drop(outbox);
            assert_eq!(Outbox::open(&aside, TILL, Sequence(1)).unwrap().unanswered().len(), 1, "kept as it was");
            assert!(path.exists() && aside.exists());
            fs::copy(&aside, &path).unwrap();
            assert_eq!(folder.path().read_dir().unwrap().count(), n + 1, "nothing is written over");
        }
        // With everything answered there is nothing to keep.
        outbox = Outbox::open(&path, TILL, Sequence(1)).unwrap();
        outbox.done(Sequence(5)).unwrap();
        drop(outbox);
        outbox = Outbox::open(&path, other, Sequence(100)).unwrap();
        assert_eq!(outbox.put(card(), Amount::from_kroner(1), Text::EMPTY).unwrap().0, Sequence(100));
        drop(outbox);
        assert_eq!(Outbox::open(&path, other, Sequence(1)).unwrap().unanswered().len(), 1, "it is the other's now");
    }
}
