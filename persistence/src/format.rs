//! How a record and a group of records look in bytes. Stated here once, for the journal, the statements and every copy of
//! them; the numbers never change, a new layout gets a new version. No I/O here.
//!
//! A group is the records of one flush. It is stored in parts of at most 4 KB; the last part closes it. Parts are written in version 2;
//! those of version 1, of which no more are written, are read.
//!
//! ```text
//! part (all little-endian)                      record in a part of version 2
//!    0  u32      CRC32C of bytes 4..32             0  u32     CRC32C of its LSN (u64), the part's time (u64), and
//!    4  u8       version, 2                                   everything after it
//!    5  u8       1 closes the group, 0 does not    4  u8      length of what follows in bytes
//!    6  u16      number of records                 5  u8      tag: what kind of entry
//!    8  u64      first LSN of the group            6  ..      time after the part's (signed), caller, sequence (numbers),
//!   16  16 B     hash of the previous group                   fingerprint (u64), account (number), balance (signed);
//!   32  u64      first LSN of the part                        of a purchase the amount (signed), of others the entry's
//!   40  u64      time of its first record, ms                 own fields
//!   48  ..       records, one after the other
//!
//! part of version 1                             record in a part of version 1, and on statements
//!    0  ..       the same to byte 32               0  u32  CRC32C of everything after it, body included
//!   32  ..       records, one after the other      4  u16  length of the body in bytes
//!                                                  6  u8   version, 1
//!                                                  7  u8   tag: what kind of entry
//!                                                  8  u64  LSN
//!                                                 16  ..   body: `Common` (44 B), then the entry's own fields
//! ```
//!
//! A *number* is written in groups of seven bits, the lowest first, each in a byte whose highest bit says that more follow (LEB128);
//! a *signed* one as twice the number, or as twice its amount less one where it is below zero (zigzag).
//! The hash of a group is the first 16 bytes of BLAKE3 over its parts in order, headers included; each header carries
//! the hash before, so that the groups form a chain. The chain starts from zeros.
//! Bodies and the entries' own fields are rkyv structs of plain numbers and byte arrays, little-endian and without padding: the fields in order. Behind the
//! entry's own fields, if the caller said who asked or what for: the person (u64), then the text in UTF-8.

mod entry;
mod group;
pub mod item;
mod packed;

use frokost_engine::{AccountId, Amount, CallerId, Lsn, PersonId, Record, RequestKey, Sequence, Text, Timestamp};
use rkyv::rancor::Error as RkyvError;
use rkyv::{Archive, Serialize};

pub use group::{EncodedGroup, PartHeader, decode_part, encode_group, group_hash, salvage};

/// Bytes before the body of a record.
pub const RECORD_HEADER: usize = 16;
/// The most a part may be, header included.
pub const PART_LIMIT: usize = 4096;
/// How parts are written.
pub const VERSION: u8 = 2;
/// How they were before, and records on statements are.
const FIRST_VERSION: u8 = 1;

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
    #[error("it is of version {0}, which only a newer program knows: use the one that has written it")]
    Version(u8),
    /// The checksum is right and the meaning is not.
    #[error("it means nothing: {0}")]
    Meaning(String),
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

const _: () = assert!(size_of::<ArchivedCommon>() == 44, "the layout of a record is for ever");

/// Writes a body's fields behind what is in `out` already.
macro_rules! put {
    ($out:expr, $body:expr) => {
        rkyv::api::high::to_bytes_in::<_, RkyvError>(&$body, &mut *$out)
            .map(drop)
            .expect("plain numbers always fit into memory")
    };
}
use put;

/// Appends the bytes of a record as it stands on statements, and as it stood in parts of version 1, to `out`.
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
    let tag = entry::encode(&record.entry, out);
    encode_said(record, out);
    let Some(written) = out.get_mut(start..) else { return };
    let length = u16::try_from(written.len() - RECORD_HEADER).expect("a body has less than a hundred bytes");
    if let Some((header, _)) = written.split_first_chunk_mut::<RECORD_HEADER>() {
        header[4..6].copy_from_slice(&length.to_le_bytes());
        header[6] = FIRST_VERSION;
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
    if header[6] != FIRST_VERSION {
        return Err(FormatError::Version(header[6]));
    }
    let mut lsn = [0; 8];
    lsn.copy_from_slice(&header[8..16]);
    let body = whole.get(RECORD_HEADER..).unwrap_or_default();
    let (common, own) = body.split_at_checked(size_of::<ArchivedCommon>()).ok_or(FormatError::Short)?;
    let common = access::<ArchivedCommon>(common)?;
    let (entry, said) = entry::decode(header[7], own)?;
    let (by, text) = decode_said(said)?;
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
        by,
        text,
        entry,
    };
    Ok((record, rest))
}

/// Appends who asked and what for, if the caller said.
fn encode_said(record: &Record, out: &mut Vec<u8>) {
    if record.by != PersonId(0) || !record.text.is_empty() {
        out.extend_from_slice(&record.by.0.to_le_bytes());
        out.extend_from_slice(record.text.as_str().as_bytes());
    }
}

/// Reads [`encode_said`].
fn decode_said(said: &[u8]) -> Result<(PersonId, Text), FormatError> {
    if said.is_empty() {
        return Ok((PersonId(0), Text::EMPTY));
    }
    let (by, text) = said.split_first_chunk::<8>().ok_or(FormatError::Short)?;
    let text = Text::from_bytes(text).map_err(|error| FormatError::Meaning(error.to_string()))?;
    Ok((PersonId(u64::from_le_bytes(*by)), text))
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

/// Checked access to a body at the front of bytes, and what follows it.
fn split<T>(bytes: &[u8]) -> Result<(&T, &[u8]), FormatError>
where
    T: rkyv::Portable + for<'a> rkyv::bytecheck::CheckBytes<rkyv::api::high::HighValidator<'a, RkyvError>>,
{
    let (body, rest) = bytes.split_at_checked(size_of::<T>()).ok_or(FormatError::Short)?;
    Ok((access::<T>(body)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use frokost_engine::command::{ChargeFailure, Reason, Source};
    use frokost_engine::{AgreementNumber, Attempt, Entry, OrderNumber, PayoutNumber, Rejection, SchoolId};
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
            (any::<u64>(), amount.clone(), 1..=4u8).prop_map(|(order, amount, source)| Entry::ToppedUp {
                order: OrderNumber(order),
                amount,
                source: Source::from_code(source).unwrap(),
            }),
            Just(Entry::Blocked),
            Just(Entry::Activated),
            prop::option::of(amount.clone()).prop_map(|limit| Entry::DailyLimitSet { limit }),
            amount.clone().prop_map(|limit| Entry::CreditLimitSet { limit }),
            (any::<u64>(), amount.clone(), 0..5u8).prop_map(|(number, amount, kind)| match kind {
                0 => Entry::TransferredOut { to: AccountId(number), amount },
                1 => Entry::TransferredIn { from: AccountId(number), amount },
                2 => Entry::PayoutReserved { payout: PayoutNumber(number), amount },
                3 => Entry::PayoutDone { payout: PayoutNumber(number), amount },
                _ => Entry::PayoutReturned { payout: PayoutNumber(number), amount },
            }),
            any::<u64>().prop_map(|number| Entry::PayoutSent { payout: PayoutNumber(number) }),
            (amount.clone(), 0..5usize).prop_map(|(amount, n)| Entry::Corrected { amount, reason: Reason::ALL[n] }),
            (any::<u64>(), amount.clone())
                .prop_map(|(number, amount)| Entry::AutoTopUpAgreed { agreement: AgreementNumber(number), amount }),
            Just(Entry::AutoTopUpCancelled),
            (any::<u32>(), any::<u64>(), amount.clone()).prop_map(|(attempt, number, amount)| Entry::ChargeWished {
                attempt: Attempt(attempt),
                agreement: AgreementNumber(number),
                amount,
            }),
            (any::<u32>(), 0..5usize).prop_map(|(attempt, n)| Entry::ChargeFailed {
                attempt: Attempt(attempt),
                failure: ChargeFailure::ALL[n],
            }),
            Just(Entry::Closed),
            (1..=27u16, amount.clone())
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
            by: PersonId(n[4] % 3),
            text: if n[4] % 2 == 0 { Text::EMPTY } else { "2 sandwich, 1 mælk".parse().unwrap() },
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
            by: PersonId(0),
            text: Text::EMPTY,
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

    /// The bytes of two lunches in one group, for ever. If this fails, disks out there cannot be read any more.
    #[test]
    fn golden_bytes_of_a_group() {
        let next = Record { lsn: Lsn(0x0103), at: Timestamp(1_790_000_000_003), fingerprint: 1, ..lunch() };
        let group = encode_group(&[lunch(), next], &[7; 16]);
        let hex: String = group.parts[0].1.iter().map(|b| format!("{b:02x}")).collect();
        let golden = concat!(
            "430548a0",
            "02",
            "01",
            "0200",
            "0201000000000000",
            "07070707070707070707070707070707",
            "0201000000000000",
            "006c50c4a0010000",
            "d3778608",
            "11",
            "03",
            "00",
            "03",
            "11",
            "8877665544332211",
            "2a",
            "9875",
            "8827",
            "e7d05d51",
            "11",
            "03",
            "06",
            "03",
            "11",
            "0100000000000000",
            "2a",
            "9875",
            "8827",
        );
        assert_eq!((group.parts.len(), hex.as_str()), (1, golden));
    }

    #[test]
    fn a_record_that_stands_where_another_stood_is_none() {
        let records: Vec<Record> = (1..=3).map(|n| Record { lsn: Lsn(n), ..lunch() }).collect();
        let part = encode_group(&records, &[7; 16]).parts.remove(0).1;
        let length = (part.len() - 48) / 3;
        let mut swapped = part.clone();
        swapped[48..48 + length].copy_from_slice(&part[48 + length..48 + 2 * length]);
        swapped[48 + length..48 + 2 * length].copy_from_slice(&part[48..48 + length]);
        assert_eq!(decode_part(&swapped).unwrap_err(), (0, FormatError::Checksum));
        assert_eq!(salvage(&swapped), []);
        // What was never in order is not read as if it had been.
        let group = encode_group(&[records[0], records[2]], &[7; 16]);
        assert_eq!(decode_part(&group.parts[0].1).unwrap_err(), (1, FormatError::Checksum));
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
        fn a_group_comes_back_as_it_went(
            records in prop::collection::vec(record(), 1..200),
            first in 1..u64::MAX / 2,
            tail in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let in_order = |(record, lsn)| Record { lsn: Lsn(lsn), ..record };
            let records: Vec<Record> = records.into_iter().zip(first..).map(in_order).collect();
            let mut back = Vec::new();
            for (first, part) in encode_group(&records, &[3; 16]).parts {
                prop_assert!(part.len() <= PART_LIMIT);
                let (header, some) = decode_part(&part).unwrap();
                prop_assert_eq!((header.group_first, some[0].lsn), (records[0].lsn, first));
                prop_assert_eq!(&salvage(&[part, tail.clone()].concat()), &some);
                back.extend(some);
            }
            prop_assert_eq!(back, records);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_record(&bytes);
            let _ = decode_part(&bytes);
        }

        /// Also those that somebody has given the right checksums.
        #[test]
        fn any_part_is_read_without_a_panic(
            (version, count, first) in (1..=2u8, any::<u16>(), prop_oneof![any::<u64>(), Just(u64::MAX)]),
            tag in 0..30u8,
            body in prop::collection::vec(any::<u8>(), 0..100),
            at in any::<u64>(),
        ) {
            let mut part = [[0; 4].as_slice(), &[version, 1], &count.to_le_bytes(), &first.to_le_bytes(), &[0; 16]].concat();
            let crc = crc32c::crc32c(&part[4..]);
            part[..4].copy_from_slice(&crc.to_le_bytes());
            let (base, record) = if version == 1 {
                let length = u16::try_from(body.len()).unwrap();
                let record = [&length.to_le_bytes(), [1, tag].as_slice(), &first.to_le_bytes(), &body].concat();
                (Vec::new(), [crc32c::crc32c(&record).to_le_bytes().as_slice(), &record].concat())
            } else {
                let length = u8::try_from(body.len() + 1).unwrap();
                let record = [[length, tag].as_slice(), &body].concat();
                let place = [first.to_le_bytes(), at.to_le_bytes()].concat();
                let crc = crc32c::crc32c(&[place.as_slice(), &record].concat());
                (place, [crc.to_le_bytes().as_slice(), &record].concat())
            };
            for piece in [base, record.clone(), record] {
                part.extend_from_slice(&piece);
            }
            let read = decode_part(&part);
            prop_assert!(!matches!(read, Err((0, FormatError::Checksum))), "{:?}", read);
            prop_assert!(salvage(&part).len() <= 2);
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
