//! A record as it stands in a part of version 2: numbers in as few bytes as they need, and nothing that the part says already.
//! `docs/adr/0033-records-packed.md` says what that is worth.

use frokost_engine::{AccountId, Amount, CallerId, Entry, Lsn, Record, RequestKey, Sequence, Timestamp};

use super::entry::{self, tag};
use super::{FormatError, decode_said, encode_said};

/// Before a record's own fields: CRC32C, length and tag.
const HEADER: usize = 6;
/// Bytes of the CRC and the length, which the length does not count.
const UNCOUNTED: usize = 5;

/// Appends a record that stands in a part whose first record was decided at `base`.
pub(super) fn encode(record: &Record, base: Timestamp, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER]);
    signed(record.at.0.wrapping_sub(base.0).cast_signed(), out);
    unsigned(record.key.caller.0.into(), out);
    unsigned(record.key.sequence.0, out);
    out.extend_from_slice(&record.fingerprint.to_le_bytes());
    unsigned(record.account.0, out);
    signed(record.balance.ore(), out);
    let tag = if let Entry::Purchased { amount } = record.entry {
        signed(amount.ore(), out);
        tag::PURCHASED
    } else {
        entry::encode(&record.entry, out)
    };
    encode_said(record, out);
    let Some(written) = out.get_mut(start..) else { return };
    let length = u8::try_from(written.len() - UNCOUNTED).expect("a record has less than two hundred bytes");
    if let Some((header, _)) = written.split_first_chunk_mut::<HEADER>() {
        header[4] = length;
        header[5] = tag;
    }
    if let Some((crc, rest)) = written.split_first_chunk_mut::<4>() {
        *crc = checksum(record.lsn, base, rest).to_le_bytes();
    }
}

/// Reads the record with this LSN from the front of `bytes` and returns it with what follows.
pub(super) fn decode(bytes: &[u8], lsn: Lsn, base: Timestamp) -> Result<(Record, &[u8]), FormatError> {
    let header = bytes.first_chunk::<HEADER>().ok_or(FormatError::Short)?;
    let crc = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    let (whole, rest) = bytes.split_at_checked(UNCOUNTED + usize::from(header[4])).ok_or(FormatError::Short)?;
    if checksum(lsn, base, whole.get(4..).unwrap_or_default()) != crc {
        return Err(FormatError::Checksum);
    }
    let mut body = whole.get(HEADER..).ok_or(FormatError::Short)?;
    let at = Timestamp(base.0.wrapping_add(take_signed(&mut body)?.cast_unsigned()));
    let caller = u32::try_from(take_unsigned(&mut body)?).map_err(|_| meaning("a caller's number is too large"))?;
    let sequence = Sequence(take_unsigned(&mut body)?);
    let (fingerprint, mut body) = body.split_first_chunk::<8>().ok_or(FormatError::Short)?;
    let account = AccountId(take_unsigned(&mut body)?);
    let balance = Amount::from_ore(take_signed(&mut body)?);
    let (entry, said) = if header[5] == tag::PURCHASED {
        let amount = Amount::from_ore(take_signed(&mut body)?);
        (Entry::Purchased { amount }, body)
    } else {
        entry::decode(header[5], body)?
    };
    let (by, text) = decode_said(said)?;
    let key = RequestKey { caller: CallerId(caller), sequence };
    let fingerprint = u64::from_le_bytes(*fingerprint);
    Ok((Record { lsn, at, key, fingerprint, account, balance, by, text, entry }, rest))
}

/// Of what stands there and of what it is read with: in another place, or behind another time, it is another record.
fn checksum(lsn: Lsn, base: Timestamp, bytes: &[u8]) -> u32 {
    let place = (u128::from(base.0) << 64 | u128::from(lsn.0)).to_le_bytes();
    crc32c::crc32c_append(crc32c::crc32c(&place), bytes)
}

fn meaning(what: &str) -> FormatError {
    FormatError::Meaning(what.to_owned())
}

/// Seven bits a byte, the lowest first; the highest bit of a byte says that more follow (LEB128).
fn unsigned(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push((number & 0x7f) as u8);
}

/// Small numbers are short whatever their sign: 0, -1, 1, -2 are 0, 1, 2, 3 (zigzag).
fn signed(number: i64, out: &mut Vec<u8>) {
    unsigned(((number << 1) ^ (number >> 63)).cast_unsigned(), out);
}

fn take_unsigned(bytes: &mut &[u8]) -> Result<u64, FormatError> {
    let mut number = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(FormatError::Short)?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            break;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(meaning("a number of more than 64 bits"))
}

fn take_signed(bytes: &mut &[u8]) -> Result<i64, FormatError> {
    let number = take_unsigned(bytes)?;
    Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests stop where they are wrong")]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back_as_they_went(number in any::<u64>(), bits in 0..64_u32, tail in any::<[u8; 2]>()) {
            // As many small ones as large ones.
            let number = number >> bits;
            let mut bytes = Vec::new();
            unsigned(number, &mut bytes);
            let length = bytes.len();
            prop_assert_eq!(length, usize::try_from((64 - number.leading_zeros()).max(1).div_ceil(7)).unwrap());
            signed(number.cast_signed(), &mut bytes);
            signed(number.cast_signed().wrapping_neg(), &mut bytes);
            bytes.extend_from_slice(&tail);
            let mut rest = bytes.as_slice();
            prop_assert_eq!(take_unsigned(&mut rest).unwrap(), number);
            prop_assert_eq!(take_signed(&mut rest).unwrap(), number.cast_signed());
            prop_assert_eq!(take_signed(&mut rest).unwrap(), number.cast_signed().wrapping_neg());
            prop_assert_eq!(rest, tail);
        }
    }

    #[test]
    fn a_number_that_does_not_fit_or_does_not_end_is_none() {
        for bytes in [[0xff; 10].as_slice(), &[0x80; 12], &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2]] {
            assert!(matches!(take_unsigned(&mut &*bytes), Err(FormatError::Meaning(_))), "{bytes:?}");
        }
        for bytes in [[].as_slice(), &[0x80], &[0xff, 0xff]] {
            assert_eq!(take_unsigned(&mut &*bytes), Err(FormatError::Short), "{bytes:?}");
        }
        let largest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1];
        assert_eq!(take_unsigned(&mut largest.as_slice()), Ok(u64::MAX));
    }
}
