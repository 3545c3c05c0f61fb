//! Groups and their parts: how the records of one flush are cut, chained and checked.

use frokost_engine::{Lsn, Record};

use super::{FormatError, GroupHash, PART_HEADER, PART_LIMIT, VERSION, decode_record, encode_record};

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
    let mut parts: Vec<(Lsn, u16, Vec<u8>)> = Vec::new();
    let mut scratch = Vec::with_capacity(128);
    for record in records {
        scratch.clear();
        encode_record(record, &mut scratch);
        match parts.last_mut() {
            Some((_, count, part)) if part.len() + scratch.len() <= PART_LIMIT => {
                part.extend_from_slice(&scratch);
                *count += 1;
            }
            _ => {
                let mut part = Vec::with_capacity(PART_LIMIT);
                part.extend_from_slice(&[0; PART_HEADER]);
                part.extend_from_slice(&scratch);
                parts.push((record.lsn, 1, part));
            }
        }
    }
    let mut hasher = blake3::Hasher::new();
    let closing = parts.len().saturating_sub(1);
    let parts = parts
        .into_iter()
        .enumerate()
        .map(|(n, (first, count, mut part))| {
            let header = PartHeader { closes: n == closing, count, group_first, previous: *previous };
            if let Some(place) = part.first_chunk_mut::<PART_HEADER>() {
                *place = header.bytes();
            }
            hasher.update(&part);
            (first, part)
        })
        .collect();
    EncodedGroup { parts, hash: shorten(hasher.finalize()) }
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
        let header = bytes.first_chunk::<PART_HEADER>().ok_or(FormatError::Short)?;
        let crc = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
        if crc32c::crc32c(&header[4..]) != crc {
            return Err(FormatError::Checksum);
        }
        if header[4] != VERSION {
            return Err(FormatError::Version(header[4]));
        }
        let mut group_first = [0; 8];
        group_first.copy_from_slice(&header[8..16]);
        let mut previous = GroupHash::default();
        previous.copy_from_slice(&header[16..32]);
        Ok(PartHeader {
            closes: header[5] == 1,
            count: u16::from_le_bytes([header[6], header[7]]),
            group_first: Lsn(u64::from_le_bytes(group_first)),
            previous,
        })
    }

    fn bytes(&self) -> [u8; PART_HEADER] {
        let mut bytes = [0; PART_HEADER];
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

/// The readable records of a part that may begin at the front of `bytes`, whatever comes after them; none if no part does.
#[must_use]
pub fn salvage(bytes: &[u8]) -> Vec<Record> {
    if PartHeader::read(bytes).is_err() {
        return Vec::new();
    }
    let mut rest = bytes.get(PART_HEADER..).unwrap_or_default();
    let mut records = Vec::new();
    while let Ok((record, after)) = decode_record(rest) {
        records.push(record);
        rest = after;
    }
    records
}

/// Reads a part: its header and its records.
///
/// # Errors
/// [`FormatError`], with the number of records that could be read before it.
pub fn decode_part(bytes: &[u8]) -> Result<(PartHeader, Vec<Record>), (usize, FormatError)> {
    let header = PartHeader::read(bytes).map_err(|error| (0, error))?;
    let mut rest = bytes.get(PART_HEADER..).unwrap_or_default();
    let mut records = Vec::with_capacity(usize::from(header.count));
    for _ in 0..header.count {
        let (record, after) = decode_record(rest).map_err(|error| (records.len(), error))?;
        records.push(record);
        rest = after;
    }
    if rest.is_empty() {
        Ok((header, records))
    } else {
        Err((records.len(), FormatError::Meaning("more bytes than records".to_owned())))
    }
}
