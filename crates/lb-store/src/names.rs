//! Names: checked before anything of them reaches a path.

use std::fmt;
use std::str::FromStr;

use object_store::path::Path;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Characters of a name.
const LONGEST: usize = 64;
/// The digits of a record's number in its path, which then sorts by number.
const DIGITS: usize = 10;
/// The last record a journal can have.
pub const LAST_RECORD: u64 = 9_999_999_999;

/// Whose it is: 1 to 64 of `A-Z`, `a-z`, `0-9`, `_` and `-`. Nothing of one tenant is found, served or counted for another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tenant(String);

/// A journal of a tenant; its own name is like a tenant's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JournalId {
    tenant: Tenant,
    name: String,
}

/// The SHA-256 of an object's body, 64 digits in lower case.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectId(String);

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectKind {
    /// A cache cut for a task.
    Briefing,
    /// The cache of a trajectory.
    Session,
}

impl Tenant {
    /// Takes a name.
    ///
    /// # Errors
    /// [`Error::Field`] for one with other characters, an empty or a long one.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        checked("tenant", name.into()).map(Self)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl JournalId {
    /// Takes a name.
    ///
    /// # Errors
    /// [`Error::Field`] for one with other characters, an empty or a long one.
    pub fn new(tenant: Tenant, name: impl Into<String>) -> Result<Self> {
        Ok(Self { tenant, name: checked("journal", name.into())? })
    }

    /// Whose it is.
    pub fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// The name among the tenant's.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn folder(&self) -> Path {
        Path::from_iter([JOURNALS, self.tenant.as_str(), self.name()])
    }

    pub(crate) fn tombstone(&self) -> Path {
        Path::from_iter([TOMBSTONES, self.tenant.as_str(), self.name()])
    }

    pub(crate) fn record(&self, number: u64) -> Path {
        self.folder().join(format!("{number:0DIGITS$}"))
    }
}

impl ObjectId {
    pub(crate) fn of(digest: &[u8]) -> Self {
        Self(hex(digest))
    }

    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ObjectKind {
    /// As it is written in paths and manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Briefing => "briefing",
            Self::Session => "session",
        }
    }
}

/// A body and its manifest, written once under names of their own: nothing of an object is ever written over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Copy {
    pub(crate) kind: ObjectKind,
    pub(crate) tenant: Tenant,
    pub(crate) id: ObjectId,
    /// [`u64::MAX`] for never, in a path zeros.
    pub(crate) expires: u64,
    pub(crate) nonce: String,
}

pub(crate) const OBJECTS: &str = "objects";
pub(crate) const MANIFESTS: &str = "manifests";
pub(crate) const JOURNALS: &str = "journals";
pub(crate) const TOMBSTONES: &str = "tombstones";
pub(crate) const PROBES: &str = "probes";

impl Copy {
    /// Where all manifests of an object are.
    pub(crate) fn folder(kind: ObjectKind, tenant: &Tenant, id: &ObjectId) -> Path {
        Path::from_iter([MANIFESTS, kind.as_str(), tenant.as_str(), id.as_str()])
    }

    pub(crate) fn manifest(&self) -> Path {
        let expires = if self.expires == u64::MAX { 0 } else { self.expires };
        Self::folder(self.kind, &self.tenant, &self.id).join(format!("{expires:016}.{}.json", self.nonce))
    }

    pub(crate) fn body(&self) -> Path {
        let nonce = self.nonce.as_str();
        Path::from_iter([OBJECTS, self.kind.as_str(), self.tenant.as_str(), self.id.as_str(), nonce])
    }

    /// Reads a path of a manifest; `None` for what is none.
    pub(crate) fn of_manifest(path: &Path) -> Option<Self> {
        let (kind, tenant, id, name) = object_parts(path, MANIFESTS)?;
        let (expires, nonce) = name.strip_suffix(".json")?.split_once('.')?;
        let expires = expires.parse().ok().map(|at| if at == 0 { u64::MAX } else { at })?;
        let copy = Self { kind, tenant, id, expires, nonce: nonce.to_owned() };
        (copy.manifest() == *path).then_some(copy)
    }

    /// Reads a path of a body, which does not say when it expires.
    pub(crate) fn of_body(path: &Path) -> Option<Self> {
        let (kind, tenant, id, nonce) = object_parts(path, OBJECTS)?;
        Some(Self { kind, tenant, id, expires: u64::MAX, nonce })
    }

    /// Whether it is the better one of two that are alike: it lasts longer, or was drawn lower.
    pub(crate) fn outlives(&self, other: &Self) -> bool {
        (other.expires, &self.nonce) < (self.expires, &other.nonce)
    }
}

impl fmt::Display for Copy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.id)
    }
}

fn object_parts(path: &Path, root: &str) -> Option<(ObjectKind, Tenant, ObjectId, String)> {
    let parts: Vec<_> = path.parts().map(|part| part.as_ref().to_owned()).collect();
    let [first, kind, tenant, id, name] = <[String; 5]>::try_from(parts).ok()?;
    let kind =
        [ObjectKind::Briefing, ObjectKind::Session].into_iter().find(|known| known.as_str() == kind)?;
    let known = (first == root).then_some((kind, Tenant::new(tenant).ok()?, id.parse().ok()?, name))?;
    Some(known)
}

/// The number of a record, from its path's last part.
pub(crate) fn record_number(path: &Path) -> Option<u64> {
    let name = path.filename()?;
    let digits = name.len() == DIGITS && name.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| name.parse().ok())?
}

/// The journal of a tombstone.
pub(crate) fn buried(path: &Path) -> Option<JournalId> {
    let parts: Vec<_> = path.parts().map(|part| part.as_ref().to_owned()).collect();
    let [_, tenant, name] = <[String; 3]>::try_from(parts).ok()?;
    JournalId::new(Tenant::new(tenant).ok()?, name).ok()
}

/// A name that no other writer draws.
pub(crate) fn nonce() -> Result<String> {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).map_err(|error| Error::backend("draw", "a name", &error))?;
    Ok(hex(&bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn checked(field: &'static str, name: String) -> Result<String> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if (1..=LONGEST).contains(&name.len()) && name.bytes().all(known) {
        return Ok(name);
    }
    Err(Error::field(field, name, format!("1 to {LONGEST} of A-Z, a-z, 0-9, _ and -")))
}

impl FromStr for ObjectId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == 64 && text.bytes().all(digit) {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::field("id", text, "64 hexadecimal digits in lower case"))
    }
}

impl TryFrom<String> for Tenant {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        Self::new(name)
    }
}

impl TryFrom<String> for ObjectId {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Tenant> for String {
    fn from(tenant: Tenant) -> Self {
        tenant.0
    }
}

impl From<ObjectId> for String {
    fn from(id: ObjectId) -> Self {
        id.0
    }
}

impl fmt::Display for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for JournalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "journal {}/{}", self.tenant, self.name)
    }
}

impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_a_manifest_says_what_it_is() {
        let id = ObjectId::of(&[7; 32]);
        for expires in [1, 1_799_999_999_999, u64::MAX] {
            let copy = Copy {
                kind: ObjectKind::Session,
                tenant: Tenant::new("a-b_C").unwrap(),
                id: id.clone(),
                expires,
                nonce: nonce().unwrap(),
            };
            assert_eq!(Copy::of_manifest(&copy.manifest()), Some(copy.clone()));
            assert_eq!(Copy::of_body(&copy.body()).unwrap().nonce, copy.nonce);
            assert_eq!(Copy::of_manifest(&copy.body()), None);
        }
    }

    #[test]
    fn of_two_alike_one_is_better() {
        let copy = |expires, nonce: &str| Copy {
            kind: ObjectKind::Briefing,
            tenant: Tenant::new("t").unwrap(),
            id: ObjectId::of(&[7; 32]),
            expires,
            nonce: nonce.to_owned(),
        };
        for (better, worse) in
            [(copy(5, "b"), copy(4, "a")), (copy(5, "a"), copy(5, "b")), (copy(u64::MAX, "b"), copy(5, "a"))]
        {
            assert!(better.outlives(&worse) && !worse.outlives(&better) && !better.outlives(&better));
        }
    }
}
