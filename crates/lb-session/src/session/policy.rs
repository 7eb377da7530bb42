//! Which segments enter the worker's cache, and how much of each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, Source};

/// Which segments of a trajectory enter the worker's cache. What stays outside is kept in the trajectory only, and what
/// is appended says how much that was ([`SegmentEntered`](crate::SegmentEntered)).
///
/// ```
/// use lb_session::{BoundaryPolicy, Source};
///
/// let policy = BoundaryPolicy::confirmed().admitting([Source::Reply]).with_cap(Source::Reply, 100);
/// assert!(policy.admits(Source::Finding) && !policy.admits(Source::Reasoning));
/// assert_eq!(policy.with_max_segment_tokens(60).cap(Source::Reply), Some(60));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BoundaryPolicy {
    /// Sources that enter. Default: all.
    pub admit: Vec<Source>,
    /// Longest text of one segment, in tokens; the rest of it is left out. At least 1. Default: no limit.
    pub max_segment_tokens: Option<usize>,
    /// The same for the segments of one source; the lower limit holds. At least 1. Default: none.
    pub max_tokens_of: BTreeMap<Source, usize>,
}

impl Default for BoundaryPolicy {
    fn default() -> Self {
        Self { admit: Source::ALL.to_vec(), max_segment_tokens: None, max_tokens_of: BTreeMap::new() }
    }
}

impl BoundaryPolicy {
    /// Only confirmed findings and artifacts: no thoughts, code or raw replies, no tool output.
    pub fn confirmed() -> Self {
        Self { admit: vec![Source::Finding, Source::Artifact], ..Self::default() }
    }

    /// Nothing enters but what [`admitting`](Self::admitting) adds.
    pub fn nothing() -> Self {
        Self { admit: Vec::new(), ..Self::default() }
    }

    /// Lets these sources in as well.
    #[must_use]
    pub fn admitting(mut self, sources: impl IntoIterator<Item = Source>) -> Self {
        for source in sources {
            if !self.admits(source) {
                self.admit.push(source);
            }
        }
        self
    }

    /// Limits the text of one segment of this source, in tokens.
    #[must_use]
    pub fn with_cap(mut self, source: Source, tokens: usize) -> Self {
        self.max_tokens_of.insert(source, tokens);
        self
    }

    /// Sets [`max_segment_tokens`](Self::max_segment_tokens).
    #[must_use]
    pub fn with_max_segment_tokens(self, tokens: usize) -> Self {
        Self { max_segment_tokens: Some(tokens), ..self }
    }

    /// True where segments of this source enter the cache.
    pub fn admits(&self, source: Source) -> bool {
        self.admit.contains(&source)
    }

    /// Longest text of a segment of this source, in tokens.
    pub fn cap(&self, source: Source) -> Option<usize> {
        let own = self.max_tokens_of.get(&source).copied();
        own.into_iter().chain(self.max_segment_tokens).min()
    }

    /// Checks every limit.
    ///
    /// # Errors
    /// [`Error::Config`] for a limit of 0.
    pub fn validate(&self) -> Result<()> {
        if self.max_segment_tokens == Some(0) {
            return Err(Error::config("max_segment_tokens", 0, "want at least 1"));
        }
        match self.max_tokens_of.iter().find(|(_, tokens)| **tokens == 0) {
            Some((source, _)) => {
                Err(Error::config("max_tokens_of", format!("{}: 0", source.tag()), "want at least 1"))
            }
            None => Ok(()),
        }
    }
}
