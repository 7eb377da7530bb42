//! Vectors that were trained to ask what answers ask (LookaheadKV, arXiv 2603.10899, without its adapters).
//!
//! A draft has to be decoded, token after token; a few vectors are read in one short pass. Whoever trains them for a model
//! (`tools/lookahead-vectors`) holds what they see of a trajectory to what the model's answers saw. They lie in a file of kilobytes.

use std::path::PathBuf;
use std::sync::Arc;

use lb_model::{InputVectors, KvCache};
use serde::{Deserialize, Serialize};

use super::passes::{Ahead, Work};
use crate::context::Context;
use crate::{Error, Result};

/// Vectors in the place of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Learned {
    /// Where they lie. Read once for a session and its snapshots.
    pub file: PathBuf,
    /// What each counts in the scores beside a token of the task, above 0. Where the cache is compacted in pieces each counts as
    /// one token. Default: 1.
    #[serde(default = "one")]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

impl Learned {
    /// Those of a file, by their usual weight.
    pub fn of(file: impl Into<PathBuf>) -> Self {
        Self { file: file.into(), weight: one() }
    }

    pub(super) fn validate(&self) -> Result<()> {
        if self.file.as_os_str().is_empty() {
            return Err(Error::config("learned.file", "\"\"", "want a file of vectors"));
        }
        if !(self.weight > 0.0 && self.weight.is_finite()) {
            return Err(Error::config("learned.weight", self.weight, "want a number above 0"));
        }
        Ok(())
    }

    /// The vectors, from the file where they are not at hand.
    fn read(&self, context: &Context) -> Result<Arc<InputVectors>> {
        let known = &context.settings.vectors;
        if let Some(vectors) = known.get(&self.file) {
            return Ok(vectors);
        }
        let vectors = Arc::new(InputVectors::load(&self.file, context.model())?);
        known.keep(self.file.clone(), vectors.clone());
        Ok(vectors)
    }
}

impl Work<'_> {
    /// Reads the vectors behind each task; their queries join those that are there.
    pub(super) fn join_learned(self, ahead: &mut [Ahead], learned: &Learned) -> Result<()> {
        let (context, guard) = (self.reader.context, self.reader.guard);
        guard.check()?;
        let vectors = learned.read(context)?;
        let mut forks: Vec<KvCache> = ahead.iter().map(|ahead| ahead.behind.fork()).collect();
        let read = context.model().capture_vectors(vectors.rows(), &mut forks);
        let read = read.map_err(|error| Error::of_sequence(error, |index| index))?;
        for (ahead, queries) in ahead.iter_mut().zip(read) {
            self.take_weighted(&mut ahead.pass, queries, learned.weight)?;
            ahead.pass.prefilled += vectors.count();
        }
        Ok(())
    }
}
