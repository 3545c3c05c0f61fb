//! How a record and a group of records look in bytes. Stated here once, for the journal, the statements and every copy of
//! them; the numbers never change, a new layout gets a new version. No I/O here.
//!
//! A group is the records of one flush. It is stored in parts of at most 4 KB; the last part closes it.
//!
//! ```text
//! part (all little-endian)                      record
//!    0  u32      CRC32C of bytes 4..32             0  u32  CRC32C of everything after it, body included
//!    4  u8       version, 1                        4  u16  length of the body in bytes
//!    5  u8       1 closes the group, 0 does not    6  u8   version, 1
//!    6  u16      number of records                 7  u8   tag: what kind of entry
//!    8  u64      first LSN of the group            8  u64  LSN
//!   16  16 B     hash of the previous group       16  ..   body: `Common` (44 B), then the entry's own fields
//!   32  ..       records, one after the other
//! ```
//!
//! The hash of a group is the first 16 bytes of BLAKE3 over its parts in order, headers included; each header carries
//! the hash before, so that the groups form a chain. The chain starts from zeros.
//! Bodies are rkyv structs of plain numbers and byte arrays, little-endian and without padding: the fields in order.

use frokost_engine::command::Source;
use frokost_engine::{
    AccountId, Amount, CallerId, CardNumber, Entry, Lsn, OrderNumber, Record, Rejection, RequestKey, SchoolId,
    Sequence, Timestamp,
};
use rkyv::rancor::Error as RkyvError;
use rkyv::{Archive, Serialize};

/// Bytes before the body of a record.
pub const RECORD_HEADER: usize = 16;
/// Bytes before the records of a part.
pub const PART_HEADER: usize = 32;
/// The most a part may be, header included.
pub const PART_LIMIT: usize = 4096;
/// The layout described here.
pub const VERSION: u8 = 1;

/// What ties a group to the one before.
pub type GroupHash = [u8; 16];

/// Why bytes are no record or part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Fewer bytes than there should be.
    #[error("it is cut short")]
    Short,
    /// The checksum differs.
    #[error("its checksum is wrong")]
    Checksum,
    /// Written by a newer program.
    #[error("its version is {0}, this program reads {VERSION}")]
    Version(u8),
    /// The checksum is right and the meaning is not.
    #[error("it means nothing: {0}")]
    Meaning(String),
}

mod tag {
    pub(super) const OPENED: u8 = 1;
    pub(super) const CARD_BOUND: u8 = 2;
    pub(super) const PURCHASED: u8 = 3;
    pub(super) const REFUNDED: u8 = 4;
    pub(super) const TOPPED_UP: u8 = 5;
    pub(super) const BLOCKED: u8 = 6;
    pub(super) const ACTIVATED: u8 = 7;
    pub(super) const DAILY_LIMIT_SET: u8 = 8;
    pub(super) const REFUSED: u8 = 9;
}

/// What every record says.
#[derive(Archive, Serialize, Debug)]
struct Common {
    at_ms: u64,
    caller: u32,
    sequence: u64,
    fingerprint: u64,
    account: u64,
    balance_ore: i64,
}

#[derive(Archive, Serialize, Debug)]
struct Opened {
    school: u32,
}

#[derive(Archive, Serialize, Debug)]
struct CardBound {
    card: [u8; CardNumber::BYTES],
}

#[derive(Archive, Serialize, Debug)]
struct Purchased {
    amount_ore: i64,
}

#[derive(Archive, Serialize, Debug)]
struct Refunded {
    sale_caller: u32,
    sale_sequence: u64,
    amount_ore: i64,
}

#[derive(Archive, Serialize, Debug)]
struct ToppedUp {
    order: u64,
    amount_ore: i64,
    source: u8,
}

#[derive(Archive, Serialize, Debug)]
struct DailyLimitSet {
    /// 0 for no limit, 1 for the one that follows.
    some: u8,
    limit_ore: i64,
}

#[derive(Archive, Serialize, Debug)]
struct Refused {
    code: u16,
    amount_ore: i64,
}

const _: () = assert!(size_of::<ArchivedCommon>() == 44, "the layout of a record is for ever");
const _: () = assert!(size_of::<ArchivedRefunded>() == 20, "no padding");

/// Writes a body's fields behind what is in `out` already.
macro_rules! put {
    ($out:expr, $body:expr) => {
        rkyv::api::high::to_bytes_in::<_, RkyvError>(&$body, &mut *$out)
            .map(drop)
            .expect("plain numbers always fit into memory")
    };
}

/// Appends the bytes of a record to `out`.
pub fn encode_record(record: &Record, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; RECORD_HEADER]);
    let common = Common {
        at_ms: record.at.0,
        caller: record.key.caller.0,
        sequence: record.key.sequence.0,
        fingerprint: record.fingerprint,
        account: record.account.0,
        balance_ore: record.balance.ore(),
    };
    put!(out, common);
    let tag = match record.entry {
        Entry::Opened { school } => {
            put!(out, Opened { school: school.0 });
            tag::OPENED
        }
        Entry::CardBound { card } => {
            put!(out, CardBound { card: card.bytes() });
            tag::CARD_BOUND
        }
        Entry::Purchased { amount } => {
            put!(out, Purchased { amount_ore: amount.ore() });
            tag::PURCHASED
        }
        Entry::Refunded { sale, amount } => {
            let (sale_caller, sale_sequence) = (sale.caller.0, sale.sequence.0);
            put!(out, Refunded { sale_caller, sale_sequence, amount_ore: amount.ore() });
            tag::REFUNDED
        }
        Entry::ToppedUp { order, amount, source } => {
            put!(out, ToppedUp { order: order.0, amount_ore: amount.ore(), source: source.code() });
            tag::TOPPED_UP
        }
        Entry::Blocked => tag::BLOCKED,
        Entry::Activated => tag::ACTIVATED,
        Entry::DailyLimitSet { limit } => {
            let limit_ore = limit.unwrap_or_default().ore();
            put!(out, DailyLimitSet { some: limit.is_some().into(), limit_ore });
            tag::DAILY_LIMIT_SET
        }
        Entry::Refused { rejection } => {
            put!(out, Refused { code: rejection.code(), amount_ore: rejection.amount().ore() });
            tag::REFUSED
        }
    };
    let Some(written) = out.get_mut(start..) else { return };
    let length = u16::try_from(written.len() - RECORD_HEADER).expect("a body has less than a hundred bytes");
    if let Some((header, _)) = written.split_first_chunk_mut::<RECORD_HEADER>() {
        header[4..6].copy_from_slice(&length.to_le_bytes());
        header[6] = VERSION;
        header[7] = tag;
        header[8..16].copy_from_slice(&record.lsn.0.to_le_bytes());
    }
    if let Some((crc, rest)) = written.split_first_chunk_mut::<4>() {
        *crc = crc32c::crc32c(rest).to_le_bytes();
    }
}

/// Reads one record from the front of `bytes` and returns it with what follows.
///
/// # Errors
/// [`FormatError`]; nothing of the bytes can be trusted then.
pub fn decode_record(bytes: &[u8]) -> Result<(Record, &[u8]), FormatError> {
    let header = bytes.first_chunk::<RECORD_HEADER>().ok_or(FormatError::Short)?;
    let crc = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
    let (whole, rest) = bytes.split_at_checked(RECORD_HEADER + length).ok_or(FormatError::Short)?;
    if crc32c::crc32c(whole.get(4..).unwrap_or_default()) != crc {
        return Err(FormatError::Checksum);
    }
    if header[6] != VERSION {
        return Err(FormatError::Version(header[6]));
    }
    let mut lsn = [0; 8];
    lsn.copy_from_slice(&header[8..16]);
    let body = whole.get(RECORD_HEADER..).unwrap_or_default();
    let (common, own) = body.split_at_checked(size_of::<ArchivedCommon>()).ok_or(FormatError::Short)?;
    let common = access::<ArchivedCommon>(common)?;
    let record = Record {
        lsn: Lsn(u64::from_le_bytes(lsn)),
        at: Timestamp(common.at_ms.to_native()),
        key: RequestKey {
            caller: CallerId(common.caller.to_native()),
            sequence: Sequence(common.sequence.to_native()),
        },
        fingerprint: common.fingerprint.to_native(),
        account: AccountId(common.account.to_native()),
        balance: Amount::from_ore(common.balance_ore.to_native()),
        entry: decode_entry(header[7], own)?,
    };
    Ok((record, rest))
}

fn decode_entry(tag: u8, own: &[u8]) -> Result<Entry, FormatError> {
    let meaning = |what: &str| FormatError::Meaning(what.to_owned());
    Ok(match tag {
        tag::OPENED => Entry::Opened { school: SchoolId(access::<ArchivedOpened>(own)?.school.to_native()) },
        tag::CARD_BOUND => {
            let card = access::<ArchivedCardBound>(own)?.card;
            Entry::CardBound { card: CardNumber::from_bytes(card).map_err(|e| FormatError::Meaning(e.to_string()))? }
        }
        tag::PURCHASED => {
            let body = access::<ArchivedPurchased>(own)?;
            Entry::Purchased { amount: Amount::from_ore(body.amount_ore.to_native()) }
        }
        tag::REFUNDED => {
            let body = access::<ArchivedRefunded>(own)?;
            let sale = RequestKey {
                caller: CallerId(body.sale_caller.to_native()),
                sequence: Sequence(body.sale_sequence.to_native()),
            };
            Entry::Refunded { sale, amount: Amount::from_ore(body.amount_ore.to_native()) }
        }
        tag::TOPPED_UP => {
            let body = access::<ArchivedToppedUp>(own)?;
            Entry::ToppedUp {
                order: OrderNumber(body.order.to_native()),
                amount: Amount::from_ore(body.amount_ore.to_native()),
                source: Source::from_code(body.source).ok_or_else(|| meaning("unknown source of money"))?,
            }
        }
        tag::BLOCKED if own.is_empty() => Entry::Blocked,
        tag::ACTIVATED if own.is_empty() => Entry::Activated,
        tag::DAILY_LIMIT_SET => {
            let body = access::<ArchivedDailyLimitSet>(own)?;
            let limit = Amount::from_ore(body.limit_ore.to_native());
            match body.some {
                0 => Entry::DailyLimitSet { limit: None },
                1 => Entry::DailyLimitSet { limit: Some(limit) },
                _ => return Err(meaning("a daily limit that is neither there nor not")),
            }
        }
        tag::REFUSED => {
            let body = access::<ArchivedRefused>(own)?;
            let amount = Amount::from_ore(body.amount_ore.to_native());
            let rejection = Rejection::from_code(body.code.to_native(), amount);
            Entry::Refused { rejection: rejection.ok_or_else(|| meaning("unknown rejection"))? }
        }
        _ => return Err(FormatError::Meaning(format!("unknown kind of entry {tag}"))),
    })
}

/// Checked access to a body that has to fill its bytes exactly.
fn access<T>(bytes: &[u8]) -> Result<&T, FormatError>
where
    T: rkyv::Portable + for<'a> rkyv::bytecheck::CheckBytes<rkyv::api::high::HighValidator<'a, RkyvError>>,
{
    if bytes.len() != size_of::<T>() {
        return Err(FormatError::Meaning(format!("a body of {} bytes, not {}", bytes.len(), size_of::<T>())));
    }
    rkyv::access::<T, RkyvError>(bytes).map_err(|error| FormatError::Meaning(error.to_string()))
}

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
    let Some((header, mut rest)) = bytes.split_first_chunk::<PART_HEADER>() else { return Vec::new() };
    let crc = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    if header[4] != VERSION || header[5] > 1 || crc32c::crc32c(&header[4..]) != crc {
        return Vec::new();
    }
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
    let (header, mut rest) = bytes.split_first_chunk::<PART_HEADER>().ok_or((0, FormatError::Short))?;
    let crc = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    if crc32c::crc32c(&header[4..]) != crc {
        return Err((0, FormatError::Checksum));
    }
    if header[4] != VERSION {
        return Err((0, FormatError::Version(header[4])));
    }
    let mut group_first = [0; 8];
    group_first.copy_from_slice(&header[8..16]);
    let mut previous = GroupHash::default();
    previous.copy_from_slice(&header[16..32]);
    let header = PartHeader {
        closes: header[5] == 1,
        count: u16::from_le_bytes([header[6], header[7]]),
        group_first: Lsn(u64::from_le_bytes(group_first)),
        previous,
    };
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry() -> impl Strategy<Value = Entry> {
        let amount = any::<i64>().prop_map(Amount::from_ore);
        let key = (any::<u32>(), any::<u64>())
            .prop_map(|(caller, sequence)| RequestKey { caller: CallerId(caller), sequence: Sequence(sequence) });
        prop_oneof![
            any::<u32>().prop_map(|school| Entry::Opened { school: SchoolId(school) }),
            "[0-9A-Z]{4,16}".prop_map(|card| Entry::CardBound { card: card.parse().unwrap() }),
            amount.clone().prop_map(|amount| Entry::Purchased { amount }),
            (key, amount.clone()).prop_map(|(sale, amount)| Entry::Refunded { sale, amount }),
            (any::<u64>(), amount.clone(), 1..=3u8).prop_map(|(order, amount, source)| Entry::ToppedUp {
                order: OrderNumber(order),
                amount,
                source: Source::from_code(source).unwrap(),
            }),
            Just(Entry::Blocked),
            Just(Entry::Activated),
            prop::option::of(amount.clone()).prop_map(|limit| Entry::DailyLimitSet { limit }),
            (1..=16u16, amount)
                .prop_map(|(code, amount)| Entry::Refused { rejection: Rejection::from_code(code, amount).unwrap() }),
        ]
    }

    fn record() -> impl Strategy<Value = Record> {
        (any::<[u64; 5]>(), any::<u32>(), any::<i64>(), entry()).prop_map(|(n, caller, balance, entry)| Record {
            lsn: Lsn(n[0]),
            at: Timestamp(n[1]),
            key: RequestKey { caller: CallerId(caller), sequence: Sequence(n[2]) },
            fingerprint: n[3],
            account: AccountId(n[4]),
            balance: Amount::from_ore(balance),
            entry,
        })
    }

    fn lunch() -> Record {
        Record {
            lsn: Lsn(0x0102),
            at: Timestamp(1_790_000_000_000),
            key: RequestKey { caller: CallerId(3), sequence: Sequence(17) },
            fingerprint: 0x1122_3344_5566_7788,
            account: AccountId(42),
            balance: Amount::from_ore(7_500),
            entry: Entry::Purchased { amount: Amount::from_ore(2_500) },
        }
    }

    /// The bytes of one lunch, for ever. If this fails, disks out there cannot be read any more.
    #[test]
    fn golden_bytes_of_a_purchase() {
        let mut bytes = Vec::new();
        encode_record(&lunch(), &mut bytes);
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let golden = concat!(
            "8a6fd163",
            "3400",
            "01",
            "03",
            "0201000000000000",
            "006c50c4a0010000",
            "03000000",
            "1100000000000000",
            "8877665544332211",
            "2a00000000000000",
            "4c1d000000000000",
            "c409000000000000",
        );
        assert_eq!(hex, golden);
    }

    proptest! {
        #[test]
        fn a_record_comes_back_as_it_went(record in record(), tail in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut bytes = Vec::new();
            encode_record(&record, &mut bytes);
            bytes.extend_from_slice(&tail);
            let (back, rest) = decode_record(&bytes).unwrap();
            // Rejections that carry no amount do not keep one.
            prop_assert_eq!(back, record);
            prop_assert_eq!(rest, &tail[..]);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_record(&bytes);
            let _ = decode_part(&bytes);
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let records: Vec<Record> = (1..=3).map(|n| Record { lsn: Lsn(n), ..lunch() }).collect();
        let group = encode_group(&records, &[7; 16]);
        let part = &group.parts[0].1;
        for at in 0..part.len() * 8 {
            let mut flipped = part.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(decode_part(&flipped).is_err(), "bit {at}");
        }
        for length in 0..part.len() {
            assert!(decode_part(&part[..length]).is_err(), "cut to {length}");
        }
        assert_eq!(decode_part(part).unwrap().1, records);
    }

    #[test]
    fn a_large_group_is_stored_in_small_parts_and_closed_once() {
        let records: Vec<Record> = (1..=512).map(|n| Record { lsn: Lsn(n), ..lunch() }).collect();
        let group = encode_group(&records, &GroupHash::default());
        let mut back = Vec::new();
        for (n, (first, bytes)) in group.parts.iter().enumerate() {
            assert!(bytes.len() <= PART_LIMIT);
            let (header, records) = decode_part(bytes).unwrap();
            assert_eq!((header.closes, header.group_first), (n + 1 == group.parts.len(), Lsn(1)));
            assert_eq!(*first, records[0].lsn);
            back.extend(records);
        }
        assert_eq!(back, records);
        assert_eq!(group_hash(group.parts.iter().map(|part| part.1.as_slice())), group.hash);
    }
}
