//! A text as its vectors, in memory and in a file.

use std::fmt::Write;
use std::path::Path;

use lb_model::{Error as ModelError, InputVectors, Worker};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::read::{Exception, exceptions, written};
use crate::{Error, Result};

const KEY: &str = "latent_briefing_crammed";
const FORMAT: &str = "latent-briefing-crammed-1";

/// A text in vectors of one worker, and the places where the worker would write another token: with these it always comes back as it
/// was.
#[derive(Clone, Debug)]
pub struct CrammedText {
    vectors: InputVectors,
    tokens: usize,
    exceptions: Vec<Exception>,
    digest: String,
}

/// What the metadata of a file says beside the vectors.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: String,
    /// Digests of the model that it was made for.
    weights: String,
    tokenizer: String,
    tokens: usize,
    exceptions: Vec<Exception>,
    /// Of the tokens.
    digest: String,
}

impl CrammedText {
    /// What `vectors` hold of `tokens`: reads them behind the vectors, token by token as they are read back.
    pub(super) fn of(worker: &Worker, vectors: InputVectors, tokens: &[u32]) -> Result<Self> {
        let exceptions = exceptions(worker, &vectors, tokens)?;
        Ok(Self { vectors, tokens: tokens.len(), exceptions, digest: digest(tokens) })
    }

    /// The vectors.
    pub fn vectors(&self) -> &InputVectors {
        &self.vectors
    }

    /// Tokens of the text.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// Tokens that are not in the vectors but stand beside them.
    pub fn exceptions(&self) -> usize {
        self.exceptions.len()
    }

    /// Whether the vectors alone give the text back, token for token.
    pub fn is_exact(&self) -> bool {
        self.exceptions.is_empty()
    }

    /// Bytes of the vectors in f32 and of the exceptions.
    pub fn bytes(&self) -> usize {
        self.vectors.rows().elem_count() * 4 + self.exceptions.len() * 8
    }

    /// The tokens of the text, written by the worker behind the vectors.
    ///
    /// # Errors
    /// [`Error::ReadOtherwise`] where they are not those that were crammed; [`Error::Model`].
    pub fn read_back(&self, worker: &Worker) -> Result<Vec<u32>> {
        let mut rest = self.exceptions.iter().copied().peekable();
        let tokens = written(worker, &self.vectors, self.tokens, &mut |place, likeliest| {
            rest.next_if(|(at, _)| *at as usize == place).map_or(likeliest, |(_, token)| token)
        })?;
        if digest(&tokens) == self.digest { Ok(tokens) } else { Err(Error::ReadOtherwise) }
    }

    /// The text; see [`read_back`](Self::read_back).
    ///
    /// # Errors
    /// Those of [`read_back`](Self::read_back).
    pub fn text(&self, worker: &Worker) -> Result<String> {
        Ok(worker.tokenizer().decode(&self.read_back(worker)?)?)
    }

    /// Writes a safetensors file, whole or not at all: the vectors as [`InputVectors::save`] does, the rest in its metadata.
    ///
    /// # Errors
    /// [`Error::Model`] where it cannot be written, or the worker's own files cannot be read.
    pub fn save(&self, worker: &Worker, path: impl AsRef<Path>) -> Result<()> {
        let model = worker.fingerprint()?.clone();
        let stored = Stored {
            format: FORMAT.to_owned(),
            weights: model.weights,
            tokenizer: model.tokenizer,
            tokens: self.tokens,
            exceptions: self.exceptions.clone(),
            digest: self.digest.clone(),
        };
        let path = path.as_ref();
        let json = |source| ModelError::Json { path: path.to_path_buf(), source };
        let note = serde_json::to_string(&stored).map_err(json)?;
        Ok(self.vectors.save_with(path, worker.model(), Some((KEY, &note)))?)
    }

    /// A text as [`save`](Self::save) wrote it, for the same model.
    ///
    /// # Errors
    /// [`Error::Model`] for a file that is damaged or of a model of another shape; [`Error::Stored`] for one that holds no text, is
    /// another model's, or contradicts itself.
    pub fn load(worker: &Worker, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bad = |reason: String| Error::Stored { path: path.to_path_buf(), reason };
        let (vectors, note) = InputVectors::load_with(path, worker.model(), KEY)?;
        let note = note.ok_or_else(|| bad("vectors without a text".to_owned()))?;
        let stored: Stored = serde_json::from_str(&note).map_err(|error| bad(error.to_string()))?;
        stored.check(worker, vectors.count()).map_err(bad)?;
        let Stored { tokens, exceptions, digest, .. } = stored;
        Ok(Self { vectors, tokens, exceptions, digest })
    }
}

impl Stored {
    fn check(&self, worker: &Worker, vectors: usize) -> std::result::Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("the format {} is not {FORMAT}", lb_io::shown::quoted(&self.format)));
        }
        let own = worker.fingerprint().map_err(|error| error.to_string())?;
        let pairs =
            [("weights", &self.weights, &own.weights), ("tokenizer", &self.tokenizer, &own.tokenizer)];
        if let Some((what, ..)) = pairs.iter().find(|(_, stored, own)| stored != own) {
            return Err(format!("it was made with another model: its {what} differ"));
        }
        let (limit, vocab) = (worker.config().position_limit(), worker.config().vocab_size);
        if self.tokens == 0 || vectors + self.tokens > limit {
            return Err(format!("{} tokens behind {vectors} vectors; the model reads {limit}", self.tokens));
        }
        let ascending = self.exceptions.is_sorted_by(|a, b| a.0 < b.0);
        let known =
            self.exceptions.iter().all(|(at, id)| (*at as usize) < self.tokens && (*id as usize) < vocab);
        if ascending && known { Ok(()) } else { Err("its exceptions are no places of the text".to_owned()) }
    }
}

/// SHA-256 of tokens, in hexadecimal digits.
fn digest(tokens: &[u32]) -> String {
    let mut state = Sha256::new();
    for id in tokens {
        state.update(id.to_le_bytes());
    }
    state.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
