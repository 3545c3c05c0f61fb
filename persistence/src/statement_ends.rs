//! Where each account's last posting stands in the statements' log: in memory, and now and then whole in the file `ends`, so that a start
//! need not read the log from its beginning. Nothing is kept here that the log does not know.
//!
//! The file is a [block file](crate::block_file) with the LSN up to which it was made. The first item is where the log ended then; the others
//! are accounts with a posting, in order; all little-endian:
//!
//! ```text
//!  0  u64  account            16  u64  the posting before it
//!  8  u64  last posting       24  u64  the last posting in an earlier month
//!                             32  u32  its month, yyyymm
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use frokost_engine::time::Month;
use frokost_engine::{AccountId, Lsn};

use crate::block_file::{BlockReader, BlockWriter, Damaged};
use crate::durable_db::sync_folder;
use crate::statement_log::{Links, Place};

const MAGIC: &[u8; 8] = b"frokostE";
/// How many accounts with numbers next to each other are kept together.
const PAGE: usize = 128;

/// An account's last posting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) place: Place,
    pub(crate) month: Month,
    pub(crate) links: Links,
}

const NONE: End = End {
    place: Place::NOWHERE,
    month: Month { year: 1, month: 1 },
    links: Links { before: Place::NOWHERE, other_month: Place::NOWHERE },
};

type Page = Box<[End; PAGE]>;

/// Every account's last posting. Account numbers are given one after the other, so that hardly a place in a page is empty.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    pages: BTreeMap<u64, Page>,
    count: u64,
}

fn spot(account: AccountId) -> (u64, usize) {
    let page = PAGE as u64;
    (account.0 / page, usize::try_from(account.0 % page).unwrap_or_default())
}

impl Ends {
    pub(crate) fn get(&self, account: AccountId) -> Option<End> {
        let (page, at) = spot(account);
        self.pages.get(&page)?.get(at).copied().filter(|end| end.place != Place::NOWHERE)
    }

    pub(crate) fn set(&mut self, account: AccountId, end: End) {
        let (page, at) = spot(account);
        let page = self.pages.entry(page).or_insert_with(|| Box::new([NONE; PAGE]));
        if let Some(slot) = page.get_mut(at) {
            self.count += u64::from(slot.place == Place::NOWHERE);
            *slot = end;
        }
    }

    /// How many accounts have a posting.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The accounts of the first page from `page` on, and its number.
    pub(crate) fn page_from(&self, page: u64) -> Option<(u64, Vec<(AccountId, End)>)> {
        let (number, page) = self.pages.range(page..).next()?;
        let first = number * PAGE as u64;
        let accounts = page.iter().copied().zip(0..).map(|(end, n)| (AccountId(first + n), end));
        Some((*number, accounts.filter(|(_, end)| end.place != Place::NOWHERE).collect()))
    }
}

/// The file.
#[derive(Debug, Clone)]
pub(crate) struct EndsFile {
    path: PathBuf,
}

/// What it held: the ends of the records up to `watermark`, behind which the log ended at `end`.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) ends: Ends,
    pub(crate) watermark: Lsn,
    pub(crate) end: Place,
}

impl EndsFile {
    /// Clears away what was never finished.
    pub(crate) fn in_folder(folder: &Path) -> io::Result<EndsFile> {
        let file = EndsFile { path: folder.join("ends") };
        match fs::remove_file(file.unfinished()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(file),
        }
    }

    fn unfinished(&self) -> PathBuf {
        self.path.with_extension("unfinished")
    }

    /// Nothing where there is no such file.
    pub(crate) fn read(&self) -> Result<Option<Known>, Damaged> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Damaged(error.to_string())),
        };
        let mut file = BlockReader::new(file, MAGIC)?;
        let end = file.next(|bytes| Ok((Place(number(bytes)?), bytes.get(8..).unwrap_or_default())))?;
        let end = end.ok_or_else(|| Damaged("it does not say where the log ended".to_owned()))?;
        let mut known = Known { ends: Ends::default(), watermark: file.lsn(), end };
        while let Some((account, end)) = file.next(decode)? {
            known.ends.set(account, end);
        }
        Ok(Some(known))
    }

    /// Writes it anew. `page_from` is asked for one page after the other.
    pub(crate) fn write(
        &self,
        watermark: Lsn,
        end: Place,
        page_from: impl Fn(u64) -> Option<(u64, Vec<(AccountId, End)>)>,
    ) -> io::Result<()> {
        let mut file = BlockWriter::begin(&self.unfinished(), MAGIC, watermark)?;
        file.put(|block| block.extend_from_slice(&end.0.to_le_bytes()))?;
        let mut next = 0;
        while let Some((page, accounts)) = page_from(next) {
            for (account, end) in accounts {
                file.put(|block| encode(account, &end, block))?;
            }
            next = page + 1;
        }
        file.finish(&self.path)
    }

    /// So that it is not believed once the log is another.
    pub(crate) fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => self.path.parent().map_or(Ok(()), sync_folder),
        }
    }
}

fn encode(account: AccountId, end: &End, out: &mut Vec<u8>) {
    for number in [account.0, end.place.0, end.links.before.0, end.links.other_month.0] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&end.month.number().to_le_bytes());
}

fn number(bytes: &[u8]) -> Result<u64, Damaged> {
    let number = bytes.first_chunk().ok_or_else(|| Damaged("an item is cut off".to_owned()))?;
    Ok(u64::from_le_bytes(*number))
}

fn decode(bytes: &[u8]) -> Result<((AccountId, End), &[u8]), Damaged> {
    let (item, rest) = bytes.split_at_checked(36).ok_or_else(|| Damaged("an item is cut off".to_owned()))?;
    let (numbers, month) = item.as_chunks::<8>();
    let mut numbers = numbers.iter().map(|number| u64::from_le_bytes(*number));
    let mut next = || numbers.next().unwrap_or_default();
    let (account, place) = (AccountId(next()), Place(next()));
    let links = Links { before: Place(next()), other_month: Place(next()) };
    let month = month.try_into().ok().and_then(|month| Month::from_number(u32::from_le_bytes(month)));
    let month = month.ok_or_else(|| Damaged("there is no such month".to_owned()))?;
    Ok(((account, End { place, month, links }), rest))
}
