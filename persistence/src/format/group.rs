//! Groups and their parts: how the records of one flush are cut, chained and checked.

use frokost_engine::{Lsn, Record, Timestamp};

use super::{FIRST_VERSION, FormatError, GroupHash, PART_LIMIT, VERSION, decode_record, packed};

/// What the header of every part begins with.
const HEADER: usize = 32;
/// And what follows it since the second version: the first record's LSN and time.
const BASE: usize = 16;

/// The parts of a group, each with its first LSN, and the group's hash.
#[derive(Debug)]
pub struct EncodedGroup {
    /// First LSN and bytes of every part, in order; the last one closes the group.
    pub parts: Vec<(Lsn, Vec<u8>)>,
    /// The next group's link.
    pub hash: GroupHash,
}

/// Makes the bytes of a group. `records` must not be empty.
#[must_use]
pub fn encode_group(records: &[Record], previous: &GroupHash) -> EncodedGroup {
    let group_first = records.first().map_or(Lsn::ZERO, |record| record.lsn);
    let mut parts: Vec<Begun> = Vec::new();
    for record in records {
        if !parts.last_mut().is_some_and(|part| part.takes(record)) {
            parts.push(Begun::with(record));
        }
    }
    let mut hasher = blake3::Hasher::new();
    let closing = parts.len().saturating_sub(1);
    let parts = parts
        .into_iter()
        .enumerate()
        .map(|(n, Begun { first, count, mut bytes, .. })| {
            let header = PartHeader { closes: n == closing, count, group_first, previous: *previous };
            if let Some(place) = bytes.first_chunk_mut::<HEADER>() {
                *place = header.bytes();
            }
            hasher.update(&bytes);
            (first, bytes)
        })
        .collect();
    EncodedGroup { parts, hash: shorten(hasher.finalize()) }
}

/// A part that may have room for more.
struct Begun {
    first: Lsn,
    base: Timestamp,
    count: u16,
    bytes: Vec<u8>,
}

impl Begun {
    fn with(record: &Record) -> Begun {
        // One record more than there is room for, so that it can be seen that there is none.
        let mut bytes = Vec::with_capacity(PART_LIMIT + 256);
        bytes.extend_from_slice(&[0; HEADER]);
        bytes.extend_from_slice(&record.lsn.0.to_le_bytes());
        bytes.extend_from_slice(&record.at.0.to_le_bytes());
        packed::encode(record, record.at, &mut bytes);
        Begun { first: record.lsn, base: record.at, count: 1, bytes }
    }

    /// Adds a record, if there is room for it.
    fn takes(&mut self, record: &Record) -> bool {
        let before = self.bytes.len();
        packed::encode(record, self.base, &mut self.bytes);
        let fits = self.bytes.len() <= PART_LIMIT;
        if fits {
            self.count += 1;
        } else {
            self.bytes.truncate(before);
        }
        fits
    }
}

/// The hash of a group from its parts' bytes in order.
pub fn group_hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> GroupHash {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    shorten(hasher.finalize())
}

fn shorten(hash: blake3::Hash) -> GroupHash {
    let mut short = GroupHash::default();
    short.copy_from_slice(hash.as_bytes().split_at(16).0);
    short
}

/// What the header of a part says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartHeader {
    /// Is it the group's last?
    pub closes: bool,
    /// How many records it holds.
    pub count: u16,
    /// The first LSN of the group.
    pub group_first: Lsn,
    /// The hash of the group before.
    pub previous: GroupHash,
}

impl PartHeader {
    /// Reads the header of a part that begins at the front of `bytes`.
    ///
    /// # Errors
    /// [`FormatError`].
    pub fn read(bytes: &[u8]) -> Result<PartHeader, FormatError> {
        Unread::of(bytes).map(|(header, _)| header)
    }

    fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[4] = VERSION;
        bytes[5] = self.closes.into();
        bytes[6..8].copy_from_slice(&self.count.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.group_first.0.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.previous);
        let crc = crc32c::crc32c(&bytes[4..]);
        bytes[0..4].copy_from_slice(&crc.to_le_bytes());
        bytes
    }
}

/// The records of a part that have not been read yet.
struct Unread<'a> {
    /// The next record's LSN and the time that theirs are told by, where they do not say it themselves.
    packed: Option<(Lsn, Timestamp)>,
    bytes: &'a [u8],
}

impl Unread<'_> {
    /// The header of a part, and its records.
    fn of(bytes: &[u8]) -> Result<(PartHeader, Unread<'_>), FormatError> {
        let (header, rest) = bytes.split_first_chunk::<HEADER>().ok_or(FormatError::Short)?;
        let crc = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        if crc32c::crc32c(&header[4..]) != crc {
            return Err(FormatError::Checksum);
        }
        let records = match header[4] {
            FIRST_VERSION => Unread { packed: None, bytes: rest },
            VERSION => {
                let (base, rest) = rest.split_first_chunk::<BASE>().ok_or(FormatError::Short)?;
                Unread { packed: Some((Lsn(number(base, 0)), Timestamp(number(base, 8)))), bytes: rest }
            }
            other => return Err(FormatError::Version(other)),
        };
        let mut previous = GroupHash::default();
        previous.copy_from_slice(&header[16..32]);
        let header = PartHeader {
            closes: header[5] == 1,
            count: u16::from_le_bytes([header[6], header[7]]),
            group_first: Lsn(number(header, 8)),
            previous,
        };
        Ok((header, records))
    }

    fn take(&mut self) -> Result<Record, FormatError> {
        let (record, after) = match &mut self.packed {
            None => decode_record(self.bytes)?,
            Some((next, base)) => {
                let (record, after) = packed::decode(self.bytes, *next, *base)?;
                // Behind the last LSN there is there is none to read.
                *next = Lsn(next.0.saturating_add(1));
                (record, after)
            }
        };
        self.bytes = after;
        Ok(record)
    }
}

/// The number that begins there.
fn number<const N: usize>(bytes: &[u8; N], at: usize) -> u64 {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// The readable records of a part that may begin at the front of `bytes`, whatever comes after them; none if no part does.
#[must_use]
pub fn salvage(bytes: &[u8]) -> Vec<Record> {
    let Ok((header, mut unread)) = Unread::of(bytes) else { return Vec::new() };
    (0..header.count).map_while(|_| unread.take().ok()).collect()
}

/// Reads a part: its header and its records.
///
/// # Errors
/// [`FormatError`], with the number of records that could be read before it.
pub fn decode_part(bytes: &[u8]) -> Result<(PartHeader, Vec<Record>), (usize, FormatError)> {
    let (header, mut unread) = Unread::of(bytes).map_err(|error| (0, error))?;
    let mut records = Vec::with_capacity(usize::from(header.count));
    for _ in 0..header.count {
        records.push(unread.take().map_err(|error| (records.len(), error))?);
    }
    if unread.bytes.is_empty() {
        Ok((header, records))
    } else {
        Err((records.len(), FormatError::Meaning("more bytes than records".to_owned())))
    }
}
