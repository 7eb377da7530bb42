//! The file of one answer.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::RememberedAnswer;
use super::key::{MemoKey, hex};

/// Version of the file.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    key: String,
    /// Seconds since 1970.
    created: u64,
    /// SHA-256 of the key, the time and the answer's JSON.
    digest: String,
    answer: RememberedAnswer,
}

fn digest(key: &str, created: u64, answer: &RememberedAnswer) -> Option<String> {
    let answer = serde_json::to_vec(answer).ok()?;
    let digest = Sha256::new().chain_update(key).chain_update(created.to_le_bytes()).chain_update(answer);
    Some(hex(digest.finalize()))
}

/// `None` for numbers that JSON does not have.
pub(super) fn write(key: &MemoKey, created: u64, answer: &RememberedAnswer) -> Option<Vec<u8>> {
    let digest = digest(key.as_str(), created, answer)?;
    let key = key.as_str().to_owned();
    serde_json::to_vec(&File { version: VERSION, key, created, digest, answer: answer.clone() }).ok()
}

/// The answer and when it was written; `None` for anything but what was written under this key.
pub(super) fn read(key: &MemoKey, bytes: &[u8]) -> Option<(u64, RememberedAnswer)> {
    let file: File = serde_json::from_slice(bytes).ok()?;
    let same = file.version == VERSION && file.key == key.as_str();
    let whole = same && digest(&file.key, file.created, &file.answer)? == file.digest;
    whole.then_some((file.created, file.answer))
}
