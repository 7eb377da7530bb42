//! A selection as a setting: any selector, known by its text.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use serde::de::Deserializer;
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::registry;
use crate::selectors::{Omp, PerHead, PerLayer, Selector, Shared};

/// Which positions stay: a [`Selector`] that is shared, compared, printed and written by its text.
///
/// As JSON it is that text, `"per-head"` or `"snapkv:window=16"`; [`registry`] has the grammar. What earlier versions wrote
/// is read as well (`"per_layer"`, `{"omp": {..}}`).
///
/// ```
/// use lb_am::Selection;
/// use lb_am::selectors::SnapKv;
///
/// let selection: Selection = "snapkv:pool=5".parse()?;
/// assert_eq!(selection, Selection::new(SnapKv { pool: 5, ..SnapKv::default() }));
/// assert_eq!(Selection::default(), Selection::per_head());
/// # Ok::<(), lb_am::Error>(())
/// ```
#[derive(Clone)]
pub struct Selection(Arc<dyn Selector>);

impl Selection {
    /// Selects by `selector`. Its text is read back only where a factory of its name is in the [`registry`].
    pub fn new(selector: impl Selector + 'static) -> Self {
        Self(Arc::new(selector))
    }

    /// One mask for all layers and heads (Latent Briefing); all layers must have the same length.
    pub fn shared() -> Self {
        Self::new(Shared)
    }

    /// One mask per layer, shared by its heads; layers may differ in length. Costs what a shared mask costs and loses less
    /// where little is kept, see `docs/fidelity.md`.
    pub fn per_layer() -> Self {
        Self::new(PerLayer)
    }

    /// The best positions of each KV head on its own (AM, arXiv 2602.16284, "highest attention keys"), where nothing else is
    /// said as many in each as its scores deserve among those of all layers and heads. The default, decided on real logs
    /// (`docs/real.md`).
    pub fn per_head() -> Self {
        Self::new(PerHead)
    }

    /// Orthogonal matching pursuit of the attention mass in each KV head (AM, "OMP").
    pub fn omp(omp: Omp) -> Self {
        Self::new(omp)
    }

    /// What selects.
    pub fn selector(&self) -> &dyn Selector {
        &*self.0
    }

    /// The selector's name.
    pub fn name(&self) -> String {
        self.0.spec().name().to_owned()
    }
}

impl Default for Selection {
    fn default() -> Self {
        Self::per_head()
    }
}

impl PartialEq for Selection {
    fn eq(&self, other: &Self) -> bool {
        self.0.spec() == other.0.spec()
    }
}

impl Eq for Selection {}

impl Hash for Selection {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.spec().hash(state);
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.spec().fmt(f)
    }
}

impl fmt::Debug for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Selection({self})")
    }
}

impl FromStr for Selection {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        registry::parse(text)
    }
}

impl Serialize for Selection {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// As it is written, and as it was.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Omp(WrittenOmp),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenOmp {
    omp: Omp,
}

impl<'de> Deserialize<'de> for Selection {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        match Written::deserialize(deserializer)? {
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
            Written::Omp(WrittenOmp { omp }) => Ok(Self::omp(omp)),
        }
    }
}
