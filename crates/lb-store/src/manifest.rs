//! Manifests: what an object is, for whom and for what. Without one there is no object.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::names::{Copy, ObjectId, ObjectKind, Tenant, hex};

/// What every manifest begins with.
const FORMAT: &str = "latent-briefing-object-1";
/// Bytes of a manifest.
pub(crate) const LARGEST_MANIFEST: u64 = 256 << 10;

/// What a cache fits: it is served for exactly this, field by field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// The weights, by digest.
    pub weights: String,
    /// The tokenizer, by digest.
    pub tokenizer: String,
    /// The chat template, by digest.
    pub template: String,
    /// The numbers' type in memory.
    pub dtype: String,
    /// The base of the rotation.
    pub rope_base: f64,
    /// Layers of the model.
    pub layers: u32,
    /// Key/value heads of a layer.
    pub kv_heads: u32,
    /// Width of a head.
    pub head_dim: u32,
    /// Bits of a stored number.
    pub bits: u32,
}

/// How many positions the heads keep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// By the head that keeps fewest.
    pub least: u64,
    /// By the head that keeps most.
    pub most: u64,
    /// Over all heads.
    pub mean: f64,
}

/// What a caller says about an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// Whose it is.
    pub tenant: Tenant,
    /// What it fits.
    pub fingerprint: Fingerprint,
    /// The next token's position.
    pub logical_len: u64,
    /// How it was made.
    pub method: String,
    /// In which version of that.
    pub method_version: String,
    /// How many positions were kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Kept>,
    /// What it was made for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Until when it is served, in milliseconds after 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
}

/// What is kept beside an object's body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: String,
    /// What it is.
    pub kind: ObjectKind,
    /// Bytes of the body.
    pub bytes: u64,
    /// The body's digest, which is the object's name.
    pub sha256: ObjectId,
    /// When it was put, in milliseconds after 1970 by the writer's clock.
    pub created: u64,
    /// Which copy of the object this is.
    pub copy: String,
    /// What the caller said.
    pub about: About,
}

/// As it is stored: with a digest, as a flipped bit in a number is a number too.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    manifest: Manifest,
    check: String,
}

impl Fingerprint {
    /// The first field that differs: its name, its value here, its value there.
    pub fn differs(&self, wanted: &Self) -> Option<(&'static str, String, String)> {
        // A field that is added and not compared does not compile.
        let Self { weights, tokenizer, template, dtype, rope_base, layers, kv_heads, head_dim, bits } = self;
        let pairs = [
            ("weights", weights.clone(), wanted.weights.clone()),
            ("tokenizer", tokenizer.clone(), wanted.tokenizer.clone()),
            ("template", template.clone(), wanted.template.clone()),
            ("dtype", dtype.clone(), wanted.dtype.clone()),
            ("rope_base", format!("{rope_base:?}"), format!("{:?}", wanted.rope_base)),
            ("layers", layers.to_string(), wanted.layers.to_string()),
            ("kv_heads", kv_heads.to_string(), wanted.kv_heads.to_string()),
            ("head_dim", head_dim.to_string(), wanted.head_dim.to_string()),
            ("bits", bits.to_string(), wanted.bits.to_string()),
        ];
        pairs.into_iter().find(|(_, stored, wanted)| stored != wanted)
    }
}

impl About {
    /// Whether both say the same but for how long.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let timeless = |about: &Self| Self { expires: None, ..about.clone() };
        timeless(self) == timeless(other)
    }

    pub(crate) fn check(&self, now: u64) -> Result<()> {
        let finite = |field, value: f64| {
            let reason = "a finite number";
            if value.is_finite() { Ok(()) } else { Err(Error::field(field, value.to_string(), reason)) }
        };
        finite("rope_base", self.fingerprint.rope_base)?;
        if let Some(kept) = &self.kept {
            finite("kept.mean", kept.mean)?;
        }
        match self.expires {
            Some(expires) if expires <= now || expires > LATEST => {
                let reason = format!("after now, {now}, and at most {LATEST}");
                Err(Error::field("expires", expires.to_string(), reason))
            }
            _ => Ok(()),
        }
    }
}

/// The latest time that fits in a path: the year 318857.
const LATEST: u64 = 9_999_999_999_999_999;

impl Manifest {
    pub(crate) fn new(copy: &Copy, bytes: u64, created: u64, about: &About) -> Self {
        Self {
            format: FORMAT.to_owned(),
            kind: copy.kind,
            bytes,
            sha256: copy.id.clone(),
            created,
            copy: copy.nonce.clone(),
            about: about.clone(),
        }
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let sealed = Sealed { manifest: self.clone(), check: self.digest() };
        let bytes = serde_json::to_vec(&sealed).unwrap_or_default();
        if bytes.len() as u64 > LARGEST_MANIFEST {
            let reason = format!("the manifest may have {LARGEST_MANIFEST} bytes");
            return Err(Error::field("about", format!("{} bytes", bytes.len()), reason));
        }
        Ok(bytes)
    }

    /// Reads what stands at the place of `copy`'s manifest.
    pub(crate) fn decode(copy: &Copy, bytes: &[u8]) -> Result<Self> {
        let damaged = |reason: String| Error::damaged(format!("the manifest of {copy}"), reason);
        let sealed: Sealed = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        let manifest = sealed.manifest;
        if manifest.format != FORMAT {
            return Err(damaged(format!("its format is {}", manifest.format)));
        }
        if manifest.digest() != sealed.check {
            return Err(damaged("its digest is another".to_owned()));
        }
        if manifest.place() != *copy {
            return Err(damaged("it belongs to another object".to_owned()));
        }
        Ok(manifest)
    }

    fn place(&self) -> Copy {
        Copy {
            kind: self.kind,
            tenant: self.about.tenant.clone(),
            id: self.sha256.clone(),
            expires: self.about.expires.unwrap_or(u64::MAX),
            nonce: self.copy.clone(),
        }
    }

    /// Of what it says, however it is laid out.
    fn digest(&self) -> String {
        hex(&Sha256::digest(serde_json::to_vec(self).unwrap_or_default()))
    }
}
