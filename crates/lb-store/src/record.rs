//! A record of a journal as it is stored: a header that says what it is and whether it is whole, then its bytes.

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::names::JournalId;

const MAGIC: [u8; 8] = *b"LBJOURN1";
/// Magic, number, token, length, digest of the record, digest of the header.
pub(crate) const HEADER: usize = 8 + 8 + 8 + 8 + 32 + 8;
/// Bytes of a record, header not counted.
pub const LARGEST_RECORD: u64 = 64 << 20;

/// What the header says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) token: u64,
    length: u64,
    digest: [u8; 32],
}

/// Header and bytes. The digests cover journal and number: a record in another's place is damaged.
pub(crate) fn encode(journal: &JournalId, number: u64, token: u64, record: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(HEADER + record.len());
    out.extend_from_slice(&MAGIC);
    for field in [number, token, record.len() as u64] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&Sha256::digest(record));
    let seal = seal(journal, &out);
    out.extend_from_slice(&seal);
    out.extend_from_slice(record);
    out.into()
}

/// The header at the beginning of `bytes`.
pub(crate) fn header(journal: &JournalId, number: u64, bytes: &[u8]) -> Result<Header> {
    let damaged = |reason: &str| Err(Error::damaged(format!("record {number} of {journal}"), reason));
    let Some(header) = bytes.get(..HEADER) else { return damaged("it is shorter than its header") };
    let (sealed, mark) = header.split_at(HEADER - 8);
    if header[..8] != MAGIC {
        return damaged("it is no record");
    }
    if seal(journal, sealed) != *mark {
        return damaged("its header was changed, or is another journal's");
    }
    let field = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| header[at + i]));
    if field(8) != number {
        return damaged("it has another number");
    }
    Ok(Header { token: field(16), length: field(24), digest: std::array::from_fn(|i| header[32 + i]) })
}

/// The record's own bytes.
pub(crate) fn decode(journal: &JournalId, number: u64, bytes: &Bytes) -> Result<Bytes> {
    let header = header(journal, number, bytes)?;
    let record = bytes.slice(HEADER..);
    let damaged = |reason| Err(Error::damaged(format!("record {number} of {journal}"), reason));
    if record.len() as u64 != header.length {
        return damaged(format!("{} bytes of {}", record.len(), header.length));
    }
    if Sha256::digest(&record)[..] != header.digest {
        return damaged("its bytes were changed".to_owned());
    }
    Ok(record)
}

fn seal(journal: &JournalId, header: &[u8]) -> [u8; 8] {
    let mut hasher = Sha256::new();
    hasher.update(journal.tenant().as_str());
    hasher.update("/");
    hasher.update(journal.name());
    hasher.update("/");
    hasher.update(header);
    let digest = hasher.finalize();
    std::array::from_fn(|i| digest[i])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::names::Tenant;

    fn journal(name: &str) -> JournalId {
        JournalId::new(Tenant::new("t").unwrap(), name).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_not_as_it_was_written_is_damaged(
            record in prop::collection::vec(any::<u8>(), 0..200), number in 0_u64..100, token: u64,
            flip in any::<prop::sample::Index>(), bit in 0_u32..8, cut in any::<prop::sample::Index>(),
        ) {
            let written = encode(&journal("j"), number, token, &record);
            prop_assert_eq!(&decode(&journal("j"), number, &written).unwrap()[..], &record[..]);
            prop_assert_eq!(header(&journal("j"), number, &written).unwrap().token, token);

            let mut flipped = written.to_vec();
            let at = flip.index(flipped.len());
            flipped[at] ^= 1_u8 << bit;
            let short = written.slice(..cut.index(written.len()));
            let mut long = written.to_vec();
            long.push(0);
            for spoilt in [flipped.into(), short, long.into()] {
                let read = decode(&journal("j"), number, &spoilt);
                prop_assert!(matches!(read, Err(Error::Damaged { .. })), "{:?}", read);
            }
            for (name, number) in [("k", number), ("j", number + 1)] {
                let read = decode(&journal(name), number, &written);
                prop_assert!(matches!(read, Err(Error::Damaged { .. })), "{:?}", read);
            }
        }
    }
}
