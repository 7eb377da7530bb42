//! Which model it is: digests of what decides a cache's numbers.

use std::fmt::Write;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::checkpoint::Files;
use crate::{Error, Result, Worker};

/// SHA-256 digests, in hexadecimal digits, of what decides what a cache of a model means. Two workers with equal ones read each other's
/// caches, as far as both keep numbers alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// Of the files with the weights and of the configuration. All of a file counts, also what the model does not read.
    pub weights: String,
    /// Of `tokenizer.json`; of a GGUF file that has its own, of that file.
    pub tokenizer: String,
    /// Of the chat template's text; empty where there is none.
    pub template: String,
}

impl Worker {
    /// Digests of the checkpoint. The files are read once, a gigabyte in about a second, and what is found is kept.
    ///
    /// # Errors
    /// [`Error::Io`] where a file is not there any more or cannot be read.
    pub fn fingerprint(&self) -> Result<&Fingerprint> {
        if let Some(known) = self.known_fingerprint().get() {
            return Ok(known);
        }
        let weights = weights(self.files())?;
        let tokenizer = match self.files() {
            Files::Gguf(_) => weights.clone(),
            Files::Dir(folder) => {
                let mut digest = Sha256::new();
                add(&mut digest, &folder.join("tokenizer.json"))?;
                hex(digest.finalize())
            }
            #[cfg(feature = "embedded")]
            Files::Embedded(files) => {
                let own = files.iter().filter(|(name, _)| *name == "tokenizer.json");
                hex(own.fold(Sha256::new(), |digest, (_, bytes)| digest.chain_update(bytes)).finalize())
            }
        };
        let template =
            self.template().map(|template| hex(Sha256::digest(template.source()))).unwrap_or_default();
        Ok(self.known_fingerprint().get_or_init(|| Fingerprint { weights, tokenizer, template }))
    }
}

fn weights(files: &Files) -> Result<String> {
    let mut digest = Sha256::new();
    match files {
        Files::Gguf(files) => {
            for path in files {
                add(&mut digest, path)?;
            }
        }
        Files::Dir(folder) => {
            let io = |source| Error::Io { path: folder.clone(), source };
            let mut files: Vec<PathBuf> = Vec::new();
            for entry in std::fs::read_dir(folder).map_err(io)? {
                let path = entry.map_err(io)?.path();
                if path.extension().is_some_and(|end| end == "safetensors") {
                    files.push(path);
                }
            }
            files.sort();
            files.insert(0, folder.join("config.json"));
            for path in files {
                add(&mut digest, &path)?;
            }
        }
        #[cfg(feature = "embedded")]
        Files::Embedded(files) => {
            for (name, bytes) in *files {
                if *name == "config.json" || name.ends_with(".safetensors") {
                    digest.update(bytes);
                }
            }
        }
    }
    Ok(hex(digest.finalize()))
}

fn add(digest: &mut Sha256, path: &Path) -> Result<()> {
    let read = File::open(path).and_then(|mut file| io::copy(&mut file, digest));
    read.map(drop).map_err(|source| Error::Io { path: path.to_path_buf(), source })
}

fn hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
